"""Composition: what a gateway process is made of, how it serves, and its command line."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, cast

import aiohttp
import prometheus_client
import typer
import uvicorn
from fastapi import FastAPI

from gateway import api, application, store
from gateway.access import Access
from gateway.edge import EdgeFactory
from gateway.exchange import App
from gateway.front import Front, Means
from gateway.jwks import KeySet, fetch_from
from gateway.limits import Grant, Limiter, Want
from gateway.oidc import TokenVerifier
from gateway.pages import Pages
from gateway.principals import Principal, TokenExchange
from gateway.proxy import Deadlines, Proxy
from gateway.settings import GatewaySettings
from gateway.target import SERVICES
from gateway.upstream import Upstream
from shared import telemetry
from shared.auth import scopes_of_roles
from shared.commands import OPERATOR, command_line
from shared.database import Database, is_outage
from shared.errors import DomainError, Unavailable
from shared.runtime import Runtime
from shared.service import Periodic, Service, create_app
from shared.tokens import Caller

_FOLLOW_SECONDS = 1.0
_LAST_USE_SECONDS = 10.0
_GRACE_SECONDS = 10
_MEANS = "front"


def _lease(db: Database) -> Any:
    async def lease(wants: list[Want]) -> list[Grant]:
        async with asyncio.timeout(3), db.begin() as tx:
            return await store.lease(tx, wants)

    return lease


@asynccontextmanager
async def _resources(runtime: Runtime) -> AsyncIterator[None]:
    settings: GatewaySettings = runtime.settings
    policies = settings.policies()
    async with AsyncExitStack() as stack:
        await _serve_metrics(stack, settings)
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        upstreams = {
            name: Upstream(
                name,
                settings.service_urls[name],
                connect_seconds=settings.connect_seconds,
                idle_seconds=settings.upstream_idle_seconds,
                max_connections=settings.upstream_connections,
            )
            for name in SERVICES
            if name in settings.service_urls
        }
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.close)
        key_sets = {
            issuer.issuer: KeySet(None, issuer.jwks)
            if issuer.jwks is not None
            else KeySet(fetch_from(session, issuer.issuer, issuer.jwks_uri))
            for issuer in settings.issuers
        }
        access = Access(runtime.db, settings.peppers, policies, stale_seconds=settings.access_stale_seconds)
        try:
            await access.refresh()
        except Exception as error:
            if not is_outage(error):
                raise
            telemetry.logger().warning("started_without_database", error=repr(error))

        def of_service(caller: Caller) -> Principal:
            return Principal(caller, caller.subject, policies["service"], float("inf"))

        assert runtime.peers._signer is not None, "GATEWAY_SIGNING_KEY_FILE is required"
        runtime.resources[_MEANS] = Means(
            access=access,
            limiter=Limiter(_lease(runtime.db), outage_share=settings.limit_outage_share),
            tokens=TokenVerifier(settings.issuers, key_sets, policies["user"]),
            exchange=TokenExchange(runtime.peers._signer),
            services=runtime.verifier,
            service_principal=of_service,
            proxy=Proxy(
                upstreams,
                Deadlines(
                    first_byte=settings.first_byte_seconds,
                    idle=settings.answer_idle_seconds,
                    stream_idle=settings.stream_idle_seconds,
                    total=settings.total_seconds,
                ),
            ),
            pages=Pages(upstreams, runtime.readiness, lambda: runtime.resources["document"]()),
            tracing=bool(settings.otlp_endpoint),
        )
        try:
            yield
        finally:
            await _last_words(access)


async def _serve_metrics(stack: AsyncExitStack, settings: GatewaySettings) -> None:
    """On an address of their own: who counts what the gateway does needs no key, and those outside are not shown it.

    In a thread, so that they can also be read while the database or this loop hangs.
    """
    if settings.metrics_port is None:
        return
    server, thread = prometheus_client.start_http_server(settings.metrics_port, settings.metrics_host)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    stack.push_async_callback(asyncio.to_thread, stop)


async def _last_words(access: Access) -> None:
    try:
        await access.write_last_use()
    except Exception as error:  # whatever it is, it must not keep the rest from being closed
        telemetry.logger().warning("last_use_not_stored", error=repr(error))


def _access(runtime: Runtime) -> Access:
    means: Means = runtime.resources[_MEANS]
    return means.access


async def _follow_changes(runtime: Runtime) -> None:
    """Keep keys and revocations current: at every notification, and each second."""
    access = _access(runtime)
    told = False
    while True:
        try:
            async with asyncio.timeout(3):
                await access.refresh()
            told = False
        except Exception as error:
            if not is_outage(error):
                raise
            if not told:
                telemetry.logger().warning("access_not_followed", error=repr(error))
            told = True
        access.forget_expired()
        with suppress(Unavailable):  # looked at again in a second
            await runtime.resources[_MEANS].end_lasting()
        await runtime.signals.wait(store.CHANGED, _FOLLOW_SECONDS)


async def _store_last_use(runtime: Runtime) -> None:
    while True:
        await asyncio.sleep(_LAST_USE_SECONDS)
        await _access(runtime).write_last_use()


async def _forget_old_windows(runtime: Runtime) -> None:
    async with runtime.db.begin() as tx:
        await store.forget_old_windows(tx)


SERVICE = Service(
    name="gateway",
    title="Gateway",
    description="API keys, revocations and the audit of access.",
    directory=Path(__file__).parent,
    metadata=store.metadata,
    routers=[api.router],
    periodic=[Periodic("forget old rate windows", 3600, _forget_old_windows)],
    publishes=False,
    channels=[store.CHANGED],
    resources=_resources,
    background={"follow access changes": _follow_changes, "store last use": _store_last_use},
)


def build(settings: GatewaySettings, *, background: bool = True) -> tuple[Front, FastAPI]:
    """The front and the application of its own routes behind it."""
    own = create_app(SERVICE, settings, background=background)

    def means() -> Means:
        runtime: Runtime = own.state.runtime
        found: Means = runtime.resources[_MEANS]
        runtime.resources.setdefault("document", own.openapi)
        return found

    return Front(cast(App, own), means), own


class GatewayServer(uvicorn.Server):
    """uvicorn's server with our protocol on its connections."""

    def __init__(self, settings: GatewaySettings, *, background: bool = True) -> None:
        front, self.own = build(settings, background=background)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        super().__init__(
            uvicorn.Config(
                cast(Any, front),
                host=settings.bind_host,
                port=settings.bind_port,
                loop="uvloop",
                http=cast(Any, EdgeFactory(settings.edge_limits())),
                ws="none",
                interface="asgi3",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ssl_certfile=settings.tls_certificate_file,
                ssl_keyfile=settings.tls_key_file,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What the frameworks built at start lives for ever; walking it again in every full collection stopped all
        # requests for 80 ms at a time (p99 80 ms, 10 ms with this).
        gc.collect()
        gc.freeze()


app = command_line(SERVICE, lambda: GatewaySettings())
# The gateway serves through its own protocol, consumes nothing and has no side effects to replay.
app.registered_commands = [command for command in app.registered_commands if command.name not in ("serve", "replay")]
app.registered_groups = [group for group in app.registered_groups if group.name != "dlq"]


def _in_database(work: Any) -> Any:
    """Run a command with the gateway's settings and one transaction."""

    async def run() -> Any:
        settings = GatewaySettings()
        db = Database(settings.database_url.get_secret_value(), name="gateway-command", pool_size=1)
        try:
            async with db.begin() as tx:
                return await work(tx, settings)
        finally:
            await db.close()

    try:
        return asyncio.run(run())
    except DomainError as error:
        typer.echo(f"refused: {error.detail}", err=True)
        raise typer.Exit(1) from error


# Commands act as the operator of the machine, who holds the database's password anyway.
_OPERATOR = Caller(OPERATOR.subject, OPERATOR.kind, scopes=scopes_of_roles(["admin"]))


@app.command("serve")
def serve_command() -> None:
    """Serve the gateway."""
    GatewayServer(GatewaySettings()).run()


@app.command("create-key")
def create_key_command(
    name: Annotated[str, typer.Option(help="What it is for.")],
    role: Annotated[list[str], typer.Option(help="May be given more than once.")],
    team: Annotated[list[str] | None, typer.Option(help="Sees only this team's things; may be repeated.")] = None,
    expires_days: Annotated[int | None, typer.Option(help="Stops working after so many days.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Its own rate limit.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the key there (0600) instead of printing it.")] = None,
) -> None:
    """Make an API key; this is the only time it is shown."""

    async def work(tx: Any, settings: GatewaySettings) -> str:
        now = datetime.now(UTC)
        wanted = application.KeyRequest(
            name=name,
            roles=role,
            teams=team or None,
            expires_at=None if expires_days is None else now + timedelta(days=expires_days),
            quota=requests_per_minute,
            window_seconds=None if requests_per_minute is None else 60,
        )
        _, plaintext = await application.create_key(tx, _OPERATOR, wanted, settings.peppers[0], now)
        if out is not None:
            _write_private(out, plaintext)
        return plaintext

    plaintext = _in_database(work)
    typer.echo(f"written to {out}" if out is not None else plaintext)


@app.command("list-keys")
def list_keys_command(
    everything: Annotated[bool, typer.Option("--all", help="Also those that were revoked.")] = False,
) -> None:
    """List API keys, newest first, one JSON line each."""

    async def work(tx: Any, _settings: GatewaySettings) -> list[str]:
        lines: list[str] = []
        after: tuple[Any, ...] | None = None
        while True:
            rows = await store.page_of_keys(tx, 200, after, None, everything)
            lines += [api.KeyView.of(row).model_dump_json() for row in rows]
            if len(rows) < 200:
                return lines
            after = (rows[-1].created_at, rows[-1].id)

    for line in _in_database(work):
        typer.echo(line)


@app.command("revoke-key")
def revoke_key_command(
    key_id: Annotated[str, typer.Argument(help="The part after cln_, up to the next underscore.")],
) -> None:
    """Revoke an API key; every replica refuses it within a second."""

    async def work(tx: Any, _settings: GatewaySettings) -> None:
        await application.revoke_key(tx, _OPERATOR, key_id, datetime.now(UTC))

    _in_database(work)
    typer.echo(f"revoked {key_id}")


@app.command("lift-revocation")
def lift_command(revocation_id: Annotated[str, typer.Argument(help="rev_...")]) -> None:
    """End a revocation, for an administrator who has locked everybody out."""

    async def work(tx: Any, _settings: GatewaySettings) -> str:
        lifted = await application.lift(tx, _OPERATOR, revocation_id, datetime.now(UTC))
        return f"{lifted.kind.value} {lifted.value}"

    typer.echo(f"restored {_in_database(work)}")


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text + "\n")
