"""A service as a process: what it is made of, its FastAPI application, its background work and its health."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import prometheus_client
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from opentelemetry.trace import SpanKind
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import audit, problems, telemetry
from shared.auth import PUBLIC, requires
from shared.bus import Bus
from shared.consumer import Consumers
from shared.database import STATEMENT_SECONDS, Database, is_outage
from shared.http import SecuredRoute, UndeclaredScope
from shared.leader import Duty, Leader, Signals, keep_doing
from shared.openapi import describe
from shared.peers import Peers
from shared.relay import ROWS_A_ROUND, Relay, StreamLost
from shared.settings import ServiceSettings
from shared.tasks import Tasks, forget_done
from shared.tokens import Signer, Verifier, load_trust
from shared.work import forget_old_keys

IDLE_POLL_SECONDS = 0.5
SEAL_SECONDS = 0.5
SEALED_A_ROUND = 1_000


@dataclass(frozen=True, slots=True)
class Periodic:
    """Work that the leading replica does every `every_seconds`; it takes its transaction from the runtime."""

    name: str
    every_seconds: float
    work: Callable[[Runtime], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Service:
    """What a service is made of; main.py composes it.

    Attributes:
        name: its name in URLs' table, topics, tables and logs.
        directory: its folder, which holds `migrations`.
        metadata: its own tables.
        routers: their routes; made with `router()`.
        publishes: whether it has a stream of its own.
        channels: PostgreSQL channels that its code waits on, beside the backbone's.
        resources: opens what else it needs for as long as it runs, kept in `runtime.resources`.
        background: work that every replica does, not only the leading one.
    """

    name: str
    title: str
    description: str
    directory: Path
    metadata: sa.MetaData
    routers: Sequence[APIRouter] = ()
    consumers: Consumers | None = None
    tasks: Tasks | None = None
    periodic: Sequence[Periodic] = ()
    publishes: bool = True
    channels: Sequence[str] = ()
    resources: Callable[[Runtime], AbstractAsyncContextManager[None]] | None = None
    background: dict[str, Callable[[Runtime], Awaitable[None]]] = field(default_factory=dict)


class Runtime:
    """A running service's means: settings, database, bus, peers and signals."""

    def __init__(
        self, service: Service, settings: ServiceSettings, *, statement_seconds: float | None = STATEMENT_SECONDS
    ) -> None:
        self.service = service
        self.settings: Any = settings
        self.db = Database(
            settings.database_url.get_secret_value(),
            name=service.name,
            pool_size=settings.database_pool_size,
            statement_seconds=statement_seconds,
        )
        self.bus = Bus(settings.nats_url, service.name, settings.nats_seed_file)
        self.signals = Signals(self.db, ["outbox", "task", *service.channels])
        self.leader = Leader(self.db, service.name)
        self.relay = Relay(self.db, self.bus, service.name.upper()) if service.publishes else None
        signer = Signer.from_file(service.name, settings.signing_key_file) if settings.signing_key_file else None
        self.peers = Peers(service.name, settings.service_urls, signer)
        self.verifier = Verifier(service.name, load_trust(settings.trust_file))
        secret = settings.cursor_secret.get_secret_value()
        self.cursor_key = hmac.digest(secret.encode(), b"page cursors", "sha256")
        self.audit_key = audit.chain_key(secret)
        self.resources: dict[str, Any] = {}
        """What the service itself opened."""
        self.stopping = asyncio.Event()
        """Set when shutdown begins, so that endless responses end."""

    @property
    def needs_bus(self) -> bool:
        return self.service.publishes or self.service.consumers is not None

    def duties(self) -> dict[str, Duty]:
        """What the leading replica does."""
        duties: dict[str, Duty] = {"seal audit": self._seal, "housekeeping": self._housekeep}
        if self.relay is not None:
            duties["relay"] = self._relay
        if self.service.consumers is not None:
            consumers = self.service.consumers

            async def consume() -> None:
                await consumers.run(self.db, self.bus)

            duties["consume"] = consume
        for periodic in self.service.periodic:
            duties[periodic.name] = self._every(periodic)
        return duties

    async def _relay(self) -> None:
        assert self.relay is not None
        while True:
            try:
                published = await self.relay.relay_once()
            except StreamLost as error:
                telemetry.logger().error("relay_halted", error=str(error))
                await asyncio.sleep(5)
                continue
            if published < ROWS_A_ROUND:
                # What was added since we looked has signalled.
                await self.signals.wait("outbox", IDLE_POLL_SECONDS)

    async def _seal(self) -> None:
        while True:
            # Entry by entry would cost a tenth of a busy service; a full round means that more are waiting.
            if await audit.seal(self.db, self.audit_key, SEALED_A_ROUND) < SEALED_A_ROUND:
                await asyncio.sleep(SEAL_SECONDS)

    async def _housekeep(self) -> None:
        while True:
            for forget in (forget_old_keys, forget_done):
                while True:
                    async with self.db.begin() as tx:
                        gone = await forget(tx)
                    if gone < 5_000:
                        break
            if self.relay is not None:
                await self.relay.prune()
            await asyncio.sleep(600)

    def _every(self, periodic: Periodic) -> Duty:
        async def duty() -> None:
            while True:
                await periodic.work(self)
                await asyncio.sleep(periodic.every_seconds)

        return duty

    async def readiness(self) -> dict[str, str]:
        """Dependency -> "ok" or what is wrong with it."""
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(2), self.db.read() as connection:
                await connection.execute(sa.text("SELECT 1"))
            found["database"] = "ok"
        except Exception as error:
            if not is_outage(error):
                raise
            found["database"] = "cannot be reached"
        if self.needs_bus:
            if self.bus.denied:
                found["bus"] = f"permission denied: {self.bus.denied}"
            else:
                found["bus"] = "ok" if self.bus.connected else "cannot be reached"
        if self.relay is not None and self.relay.halted:
            found["relay"] = self.relay.halted
        if self.relay is not None and self.relay.forged:
            found["stream"] = self.relay.forged
        if self.service.consumers is not None and self.service.consumers.halted:
            found["consumer"] = self.service.consumers.halted
        return found

    @asynccontextmanager
    async def running(self, *, background: bool = True, resources: bool = True) -> AsyncIterator[None]:
        """The runtime with everything open, and its background work going on.

        Args:
            background: False does no background work.
            resources: False leaves the service's own resources closed: operators' commands do without them.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.db.close)
            stack.push_async_callback(self.bus.close)
            stack.push_async_callback(self.peers.close)
            if resources and self.service.resources is not None:
                await stack.enter_async_context(self.service.resources(self))
            jobs = [asyncio.create_task(self._start(), name="start")] if background else []
            try:
                yield
            finally:
                self.stopping.set()
                for job in jobs:
                    job.cancel()
                await asyncio.gather(*jobs, return_exceptions=True)

    async def _start(self) -> None:
        """All background work, each part kept going whatever ends it."""
        parts: dict[str, Duty] = {"signals": self.signals.run, "leader": lambda: self.leader.run(self.duties())}
        for name, work in self.service.background.items():
            parts[name] = partial(work, self)
        if self.service.tasks is not None:
            parts["tasks"] = partial(self.service.tasks.run_workers, self)
        async with asyncio.TaskGroup() as group:
            if self.needs_bus:
                # Beside the rest: what needs no bus does not wait for it.
                group.create_task(self.bus.open())
            for name, part in parts.items():
                group.create_task(keep_doing(name, part))


def router(prefix: str, tag: str) -> APIRouter:
    """A router whose routes must declare a scope."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=SecuredRoute)


class _Observed:
    """Outermost layer: a span and a duration for each request, and a trace id that problems and logs can name."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        with telemetry.span(scope["method"], SpanKind.SERVER, parent=parent) as span:
            try:
                await self._app(scope, receive, observe)
            finally:
                route = scope.get("route")
                path = getattr(route, "path", "unmatched")
                if span.is_recording():
                    span.update_name(f"{scope['method']} {path}")
                    span.set_attributes(
                        {
                            "http.request.method": scope["method"],
                            "http.route": path,
                            "http.response.status_code": status,
                        }
                    )
                seconds = time.perf_counter() - started
                telemetry.HTTP_SECONDS.labels(self._service, scope["method"], path, str(status)).observe(seconds)


def _health() -> APIRouter:
    health = router("", "health")

    @health.get("/livez", include_in_schema=False)
    @requires(PUBLIC)
    async def livez() -> Response:
        return JSONResponse({"status": "ok"})

    @health.get("/readyz", include_in_schema=False)
    @requires(PUBLIC)
    async def readyz(request: Request) -> Response:
        runtime: Runtime = request.app.state.runtime
        found = await runtime.readiness()
        ready = all(state == "ok" for state in found.values())
        headers = {} if ready else {"Retry-After": "2"}
        return JSONResponse({"status": "ok" if ready else "not ready", "checks": found}, 200 if ready else 503, headers)

    @health.get("/metrics", include_in_schema=False)
    @requires(PUBLIC)
    async def metrics() -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return health


def create_app(service: Service, settings: ServiceSettings, *, background: bool = True) -> FastAPI:
    """The service's application.

    Args:
        background: False leaves out relay, consumers and tasks, for tests that call them by hand.

    Raises:
        UndeclaredScope: a route does not say who may call it.
    """
    telemetry.configure(service.name, otlp_endpoint=settings.otlp_endpoint, log_level=settings.log_level)
    runtime_box: list[Runtime] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime = Runtime(service, settings)
        runtime_box.append(runtime)
        app.state.runtime = runtime
        async with runtime.running(background=background):
            yield
        telemetry.shutdown()

    app = FastAPI(
        title=f"Colonnade {service.title}",
        description=service.description,
        version="1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    for included in (*service.routers, _openapi_route(app), _health()):
        # Not include_router: it hides the routes behind lazy contexts, and there is nothing to add to them.
        app.router.routes.extend(included.routes)
    demand_scopes(app.routes)
    describe(app)
    app.add_middleware(_Observed, service=service.name)
    return app


def _openapi_route(app: FastAPI) -> APIRouter:
    description = router("", "description")

    @description.get("/openapi.json", include_in_schema=False)
    @requires(PUBLIC)
    async def openapi() -> Response:
        return JSONResponse(app.openapi())

    return description


def demand_scopes(routes: Iterable[Any]) -> None:
    """Refuse an application with a route that is not secured.

    Raises:
        UndeclaredScope: a plain route slipped in past `router()`.
    """
    for route in routes:
        if isinstance(route, APIRoute) and not isinstance(route, SecuredRoute):
            raise UndeclaredScope(f"{route.path} was not made by shared.service.router")


async def stop_when(stopping: asyncio.Event, wait: Awaitable[Any]) -> bool:
    """Wait for `wait`, or until the service stops; True when it stops. For endless responses."""
    waiting = [asyncio.ensure_future(wait), asyncio.ensure_future(stopping.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return stopping.is_set()
    finally:
        for future in waiting:
            future.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting, return_exceptions=True)
