"""What a service runs on: settings, database, bus, signals, neighbours, keys, all of one process."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from shared import audit
from shared.bus import Bus
from shared.consumer import Consumers
from shared.database import STATEMENT_SECONDS, Database, is_outage
from shared.leader import Leader, Signals
from shared.peers import Peers
from shared.relay import Relay
from shared.settings import ServiceSettings
from shared.tokens import Signer, Verifier, load_trust


class Runtime:
    """A running service's means: settings, database, bus, peers and signals."""

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        publishes: bool,
        consumers: Consumers | None,
        channels: Sequence[str] = (),
        uses_bus: bool = False,
        statement_seconds: float | None = STATEMENT_SECONDS,
    ) -> None:
        self.settings: Any = settings
        self.consumers = consumers
        self._uses_bus = uses_bus
        self.db = Database(
            settings.database_url.get_secret_value(),
            name=name,
            pool_size=settings.database_pool_size,
            statement_seconds=statement_seconds,
        )
        self.bus = Bus(settings.nats_url, name, settings.nats_seed_file)
        self.signals = Signals(self.db, ["outbox", "task", *channels])
        self.leader = Leader(self.db, name)
        self.relay = Relay(self.db, self.bus, name.upper()) if publishes else None
        signer = Signer.from_file(name, settings.signing_key_file) if settings.signing_key_file else None
        self.peers = Peers(name, settings.service_urls, signer)
        self.verifier = Verifier(name, load_trust(settings.trust_file))
        secret = settings.cursor_secret.get_secret_value()
        self.cursor_key = hmac.digest(secret.encode(), b"page cursors", "sha256")
        self.audit_key = audit.chain_key(secret)
        self.resources: dict[str, Any] = {}
        """What the service itself opened."""
        self.stopping = asyncio.Event()
        """Set when shutdown begins, so that endless responses end."""

    @property
    def needs_bus(self) -> bool:
        return self._uses_bus or self.relay is not None or self.consumers is not None

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
        if self.consumers is not None and self.consumers.halted:
            found["consumer"] = self.consumers.halted
        return found


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
