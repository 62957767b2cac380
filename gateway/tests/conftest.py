"""A gateway on a real database and real sockets, in front of a service that tells what reached it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

from gateway import application
from gateway.front import Means
from gateway.main import _OPERATOR, SERVICE, GatewayServer
from gateway.settings import GatewaySettings
from gateway.target import SERVICES
from shared.runtime import Runtime
from shared.testing import TestServer, eventually
from shared.tokens import Verifier, load_trust


def _pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass
class Seen:
    """One request as a service saw it."""

    method: str
    path: str
    query: str
    headers: dict[str, list[str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = self.headers.get(name, [])
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


class Service:
    """A service behind the gateway that records what it is asked; `answers` replace its echo by path."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answers: dict[str, Callable[[Any, Any, Any], Any]] = {}
        self.disconnected = asyncio.Event()
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        seen = Seen(scope["method"], scope["raw_path"].decode(), scope["query_string"].decode(), headers)
        self.seen.append(seen)
        answer = self.answers.get(scope["path"])
        if answer is not None:
            await answer(scope, receive, send)
            return
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            seen.body += message.get("body", b"")
            more = message.get("more_body", False)
        body = json.dumps({"path": seen.path, "size": len(seen.body)}).encode()
        answered = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        answered += [(b"server", b"secret/1.0"), (b"x-internal", b"10.0.0.7"), (b"etag", b'"3"')]
        await send({"type": "http.response.start", "status": 200, "headers": answered})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@asynccontextmanager
async def serving(server: uvicorn.Server) -> AsyncIterator[str]:
    """Run a uvicorn server in this loop; yields its URL."""
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or task.done())
        if task.done():
            task.result()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def service_running(service: Service) -> AsyncIterator[Service]:
    config = uvicorn.Config(
        service, port=0, lifespan="off", log_config=None, http="httptools", timeout_graceful_shutdown=1
    )
    async with serving(uvicorn.Server(config)) as service.url:
        yield service


@dataclass
class Reply:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Stand:
    """Everything a gateway needs: a database, keys, a trust file."""

    database_url: str
    folder: Path
    settings: dict[str, Any]
    verifiers: dict[str, Verifier]
    service_keys: dict[str, Ed25519PrivateKey]
    stack: AsyncExitStack
    gateways: list[Gateway] = field(default_factory=list)

    async def gateway(self, **settings: Any) -> Gateway:
        """Start another replica on the same database."""
        server = GatewayServer(GatewaySettings(**(self.settings | settings)))
        url = await self.stack.enter_async_context(serving(server))
        session = await self.stack.enter_async_context(aiohttp.ClientSession(url))
        made = Gateway(self, server, url, session)
        self.gateways.append(made)
        return made


@dataclass
class Gateway:
    """A running gateway."""

    stand: Stand
    server: GatewayServer
    url: str
    session: aiohttp.ClientSession

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.server.own.state.runtime
        return runtime

    @property
    def means(self) -> Means:
        means: Means = self.runtime.resources["front"]
        return means

    async def key(self, *roles: str, **wanted: Any) -> str:
        """A new API key in clear text."""
        request = application.KeyRequest(name="test", roles=roles or ("admin",), **wanted)
        pepper = self.runtime.settings.peppers[0]
        async with self.runtime.db.begin() as tx:
            _, plaintext = await application.create_key(tx, _OPERATOR, request, pepper, datetime.now(UTC))
        for replica in self.stand.gateways:  # as the notification has it do in a moment, at a time that suits no test
            await replica.means.access.refresh()
        return plaintext

    async def stop(self) -> None:
        """Stop before the test ends."""
        self.server.should_exit = True
        await eventually(lambda: not any(listener.is_serving() for listener in self.server.servers))

    async def get(self, path: str, key: str | None = None, **more: Any) -> Reply:
        return await self.call("GET", path, key, **more)

    async def call(self, method: str, path: str, key: str | None = None, **more: Any) -> Reply:
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        async with self.session.request(method, path, headers=headers, allow_redirects=False, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def raw(self, *parts: bytes, timeout_seconds: float = 5.0, quiet_seconds: float = 0.3) -> bytes:
        """Send bytes as they are on one connection; everything that comes back until it is closed or quiet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            while True:
                got = await asyncio.wait_for(reader.read(65536), timeout_seconds)
                if not got:
                    return received
                received += got
                timeout_seconds = quiet_seconds  # an answer came; only a second one is still of interest
        except (TimeoutError, ConnectionError):
            return received
        finally:
            writer.close()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with service_running(Service()) as running:
        yield running


@pytest.fixture
async def stand(postgres: TestServer, service: Service) -> AsyncIterator[Stand]:
    database_url = await postgres.database("gateway", SERVICE.directory / "migrations")
    with tempfile.TemporaryDirectory(prefix="colonnade-gateway-") as name:
        folder = Path(name)
        own = Ed25519PrivateKey.generate()
        incidents = Ed25519PrivateKey.generate()
        (folder / "trust.json").write_text(
            json.dumps(
                {
                    "gateway": {"public_key": _pem(own), "scopes": ["*"]},
                    "incidents": {"public_key": _pem(incidents), "scopes": ["access:respond"]},
                }
            )
        )
        (folder / "key.pem").write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        settings = {
            "database_url": SecretStr(database_url),
            "trust_file": folder / "trust.json",
            "signing_key_file": folder / "key.pem",
            "cursor_secret": SecretStr("a secret of tests only"),
            "key_pepper": SecretStr("a pepper of tests only"),
            "bind_port": 0,
            "service_urls": dict.fromkeys(SERVICES, service.url),
            "database_pool_size": 4,
            "log_level": "ERROR",
        }
        trust = load_trust(folder / "trust.json")
        verifiers = {service_name: Verifier(service_name, trust) for service_name in SERVICES}
        async with AsyncExitStack() as stack:
            yield Stand(database_url, folder, settings, verifiers, {"incidents": incidents}, stack)
    await postgres.drop(database_url)


@pytest.fixture
async def gateway(stand: Stand) -> Gateway:
    return await stand.gateway()
