"""What tests of services share: a real PostgreSQL, a migrated database a test, and a service in this process.

Loaded as a pytest plugin by the conftest.py at the top. Nothing of ours is replaced: events go through the consumer's
own transaction, requests through the whole application with signed tokens.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fastapi import FastAPI
from pydantic import SecretStr

from shared import migrate
from shared.auth import scopes_of_roles
from shared.consumer import Rebuilt, cursor_table, dead_letter_table
from shared.contracts.envelope import Envelope, Event, decode, encode, stream_of
from shared.feed import Message
from shared.outbox import outbox_table
from shared.runtime import Runtime
from shared.service import Service, create_app
from shared.settings import ServiceSettings
from shared.tokens import Caller, Signer

_GATEWAY_KEY = Ed25519PrivateKey.generate()
_counter = itertools.count(1)


def _pem(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class TestServer:
    """A PostgreSQL server for a test session, with a migrated template a service."""

    __test__ = False

    def __init__(self, url: str) -> None:
        self.url = url
        self._templates: dict[Path, str] = {}

    def url_of(self, database: str) -> str:
        return self.url.rsplit("/", 1)[0] + "/" + database

    async def _administer(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def database(self, name: str, migrations: Path) -> str:
        """URL of a fresh database with the service's migrated schema."""
        # By folder: the ledger that the backbone is tested on borrows a service's name.
        template = self._templates.get(migrations)
        if template is None:
            template = f"template_{name}_{os.getpid()}_{len(self._templates)}"
            await self._administer(f'DROP DATABASE IF EXISTS "{template}"', f'CREATE DATABASE "{template}"')
            await migrate.upgrade(migrations, self.url_of(template))
            self._templates[migrations] = template
        database = f"test_{name}_{os.getpid()}_{next(_counter)}"
        await self._administer(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url_of(database)

    async def drop(self, url: str) -> None:
        await self._administer(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestServer]:
    """A PostgreSQL server that forgets everything when the session ends."""
    from deploy.local.postgres import Postgres

    with tempfile.TemporaryDirectory(prefix="colonnade-test-") as home, Postgres(Path(home), durable=False) as server:
        yield TestServer(server.url)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[Any]:
    """A NATS server with the domain streams and the services' permissions."""
    from deploy.local.nats import Nats

    with tempfile.TemporaryDirectory(prefix="colonnade-test-") as home, Nats(Path(home)) as server:
        yield server


@dataclass
class Harness:
    """One service in this process on a database of its own, without background work: tests move it step by step."""

    service: Service
    app: FastAPI
    runtime: Runtime
    _clients: list[httpx.AsyncClient] = field(default_factory=list)
    _tape: dict[str, list[Message]] = field(default_factory=dict)

    def token(
        self,
        role: str = "admin",
        *,
        teams: Sequence[str] | None = None,
        subject: str = "alice",
        scopes: Sequence[str] | None = None,
        kind: str = "api_key",
        audience: str | None = None,
    ) -> str:
        """A gateway's token; `scopes` replaces those of the role."""
        caller = Caller(
            subject=subject,
            kind=kind,
            roles=frozenset({role}),
            scopes=frozenset(scopes) if scopes is not None else scopes_of_roles([role]),
            teams=None if teams is None else frozenset(teams),
        )
        return Signer("gateway", _GATEWAY_KEY).sign(audience or self.service.name, caller)

    def client(self, role: str = "admin", **as_whom: Any) -> httpx.AsyncClient:
        """A client that is logged in; arguments as of `token`."""
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://service",
            headers={"Authorization": f"Bearer {self.token(role, **as_whom)}"},
        )
        self._clients.append(client)
        return client

    def anonymous(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://service"
        )
        self._clients.append(client)
        return client

    async def deliver(self, *events: Event, together: bool = False, event_id: UUID | None = None) -> None:
        """Let the service consume `events`, one transaction each, or one for all of them.

        They get sequences as a stream would give them and pass through decoding, cursor and journal.
        """
        messages = []
        for event in events:
            stream = stream_of(event.TYPE)
            tape = self._tape.setdefault(stream, [])
            payload = encode(event, event_id=event_id or uuid4(), traceparent=None)
            message = Message(stream, len(tape) + 1, event.TYPE, payload, datetime.now(UTC).timestamp())
            tape.append(message)
            messages.append(message)
        for batch in [messages] if together else [[message] for message in messages]:
            await self._consume(batch)

    async def redeliver(self, stream: str, sequence: int) -> None:
        """Offer a message again that was consumed before.

        Raises:
            shared.consumer.Fenced: as it must; the cursor has moved on.
        """
        consumers = self.service.consumers
        assert consumers is not None
        message = self._tape[stream][sequence - 1]
        await consumers.apply(self.runtime.db, [message], {stream: sequence - 1})

    async def _consume(self, messages: list[Message]) -> None:
        consumers = self.service.consumers
        assert consumers is not None
        positions = {}
        async with self.runtime.db.begin() as tx:
            for message in messages:
                key = {"consumer": consumers.name, "stream": message.stream}
                if (await tx.execute(sa.select(cursor_table).filter_by(**key))).first() is None:
                    epoch = datetime(2026, 1, 1, tzinfo=UTC)
                    await tx.execute(cursor_table.insert().values(**key, stream_created=epoch, seq=0))
                seq = await tx.scalar(sa.select(cursor_table.c.seq).filter_by(**key))
                positions[message.stream] = int(seq or 0)
        await consumers.apply(self.runtime.db, messages, positions)

    async def read(self, stream: str, first: int, last: int) -> Sequence[Message]:
        """The delivered messages again: this harness is the tape of a rebuild."""
        return self._tape.get(stream, [])[first - 1 : last]

    async def rebuild(self) -> dict[str, Rebuilt]:
        """Rebuild the service's tables from what was delivered."""
        consumers = self.service.consumers
        assert consumers is not None
        return await consumers.rebuild(self.runtime.db, self, lambda done, total: None)

    async def published(self, event_type: str | None = None) -> list[Envelope]:
        """What lies in the outbox, in order."""
        async with self.runtime.db.read() as tx:
            rows = (await tx.execute(sa.select(outbox_table).order_by(outbox_table.c.seq))).all()
        events = [decode(bytes(row.payload))[0] for row in rows]
        return [event for event in events if event_type is None or event.type == event_type]

    async def dead_letters(self) -> list[Any]:
        async with self.runtime.db.read() as tx:
            return list((await tx.execute(sa.select(dead_letter_table))).all())

    async def do_tasks(self) -> int:
        """Do the tasks that are ready, one after another; returns how many."""
        assert self.service.tasks is not None
        done = 0
        while await self.service.tasks.work_once(self.runtime):
            done += 1
        return done


@asynccontextmanager
async def harness(
    service: Service, settings_class: type[ServiceSettings], postgres: TestServer, **settings: Any
) -> AsyncIterator[Harness]:
    """The service on a fresh database; `settings` override what it is configured with."""
    url = await postgres.database(service.name, service.directory / "migrations")
    with tempfile.TemporaryDirectory(prefix="colonnade-trust-") as folder:
        own_key = Ed25519PrivateKey.generate()
        trust = Path(folder, "trust.json")
        trust.write_text(
            json.dumps(
                {
                    "gateway": {"public_key": _pem(_GATEWAY_KEY), "scopes": ["*"]},
                    service.name: {"public_key": _pem(own_key), "scopes": ["*"]},
                }
            )
        )
        key_file = Path(folder, "key.pem")
        key_file.write_bytes(own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        given: dict[str, Any] = {
            "database_url": SecretStr(url),
            "trust_file": trust,
            "signing_key_file": key_file,
            "cursor_secret": SecretStr("a secret of tests only"),
            "log_level": "WARNING",
        }
        app = create_app(service, settings_class(**(given | settings)), background=False)
        try:
            async with app.router.lifespan_context(app):
                made = Harness(service, app, app.state.runtime)
                yield made
                for client in made._clients:
                    await client.aclose()
        finally:
            await postgres.drop(url)


async def eventually(condition: Any, timeout_seconds: float = 5.0) -> None:
    """Wait until `condition()` (plain or async) is true; for effects that arrive on their own."""
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"did not happen within {timeout_seconds} s")
        await asyncio.sleep(0.02)
