"""A service as a process: what it is made of, its FastAPI application, its background work and its health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
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
from shared.consumer import Consumers
from shared.database import STATEMENT_SECONDS
from shared.http import SecuredRoute, UndeclaredScope
from shared.leader import Duty, keep_doing
from shared.openapi import describe
from shared.relay import ROWS_A_ROUND, StreamLost
from shared.runtime import Runtime
from shared.settings import ServiceSettings
from shared.tasks import Tasks, forget_done
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
        leads: whether its processes compete for the duties that one at a time does.
        uses_bus: whether it needs the bus although it neither publishes nor consumes domain events.
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
    leads: bool = True
    uses_bus: bool = False
    channels: Sequence[str] = ()
    resources: Callable[[Runtime], AbstractAsyncContextManager[None]] | None = None
    background: dict[str, Callable[[Runtime], Awaitable[None]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Duties:
    """What the leading replica of a service does."""

    service: Service
    runtime: Runtime

    def all(self) -> dict[str, Duty]:
        duties: dict[str, Duty] = {"seal audit": self._seal, "housekeeping": self._housekeep}
        if self.runtime.relay is not None:
            duties["relay"] = self._relay
        if self.service.consumers is not None:
            duties["consume"] = partial(self.service.consumers.run, self.runtime.db, self.runtime.bus)
        for periodic in self.service.periodic:
            duties[periodic.name] = self._every(periodic)
        return duties

    async def _relay(self) -> None:
        assert self.runtime.relay is not None
        while True:
            try:
                published = await self.runtime.relay.relay_once()
            except StreamLost as error:
                telemetry.logger().error("relay_halted", error=str(error))
                await asyncio.sleep(5)
                continue
            if published < ROWS_A_ROUND:
                # What was added since we looked has signalled.
                await self.runtime.signals.wait("outbox", IDLE_POLL_SECONDS)

    async def _seal(self) -> None:
        while True:
            # Entry by entry would cost a tenth of a busy service; a full round means that more are waiting.
            if await audit.seal(self.runtime.db, self.runtime.audit_key, SEALED_A_ROUND) < SEALED_A_ROUND:
                await asyncio.sleep(SEAL_SECONDS)

    async def _housekeep(self) -> None:
        while True:
            for forget in (forget_old_keys, forget_done):
                while True:
                    async with self.runtime.db.begin() as tx:
                        gone = await forget(tx)
                    if gone < 5_000:
                        break
            if self.runtime.relay is not None:
                await self.runtime.relay.prune()
            await asyncio.sleep(600)

    def _every(self, periodic: Periodic) -> Duty:
        async def duty() -> None:
            while True:
                await periodic.work(self.runtime)
                await asyncio.sleep(periodic.every_seconds)

        return duty


def runtime_of(
    service: Service, settings: ServiceSettings, *, statement_seconds: float | None = STATEMENT_SECONDS
) -> Runtime:
    """The means of the service, nothing opened yet."""
    return Runtime(
        service.name,
        settings,
        publishes=service.publishes,
        consumers=service.consumers,
        channels=service.channels,
        uses_bus=service.uses_bus,
        statement_seconds=statement_seconds,
    )


@asynccontextmanager
async def running(
    service: Service, runtime: Runtime, *, background: bool = True, resources: bool = True
) -> AsyncIterator[None]:
    """The runtime with everything open, and its background work going on.

    Args:
        background: False does no background work.
        resources: False leaves the service's own resources closed: operators' commands do without them.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.db.close)
        stack.push_async_callback(runtime.bus.close)
        stack.push_async_callback(runtime.peers.close)
        if resources and service.resources is not None:
            await stack.enter_async_context(service.resources(runtime))
        jobs = [asyncio.create_task(_start(service, runtime), name="start")] if background else []
        try:
            yield
        finally:
            runtime.stopping.set()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)


async def _start(service: Service, runtime: Runtime) -> None:
    """All background work, each part kept going whatever ends it."""
    parts: dict[str, Duty] = {"signals": runtime.signals.run}
    if service.leads:
        parts["leader"] = partial(runtime.leader.run, _Duties(service, runtime).all())
    for name, work in service.background.items():
        parts[name] = partial(work, runtime)
    if service.tasks is not None:
        parts["tasks"] = partial(service.tasks.run_workers, runtime)
    async with asyncio.TaskGroup() as group:
        if runtime.needs_bus:
            # Beside the rest: what needs no bus does not wait for it.
            group.create_task(runtime.bus.open())
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

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime = runtime_of(service, settings)
        app.state.runtime = runtime
        async with running(service, runtime, background=background):
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
