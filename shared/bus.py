"""NATS, with the defaults that nats-py needs changed: it would give up reconnecting after two minutes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import nats
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared import telemetry
from shared.errors import Unavailable

JETSTREAM_TIMEOUT_SECONDS = 5.0


class StreamError(Exception):
    """JetStream answered with an error; `code` is its err_code (see the server's errors.json)."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class Bus:
    """One service's connection to NATS. It reconnects for ever; what needs it while it is down gets Unavailable."""

    def __init__(self, url: str, name: str, seed_file: Path | None = None) -> None:
        self._url = url
        self.name = name
        self._seed_file = seed_file
        self._client: Client | None = None
        self.denied: str | None = None
        """The last permission the server refused us, for readiness: a wrong configuration, not a passing fault."""

    async def open(self) -> None:
        """Connect, waiting for the server as long as it takes."""
        options: dict[str, Any] = {}
        if self._seed_file is not None:
            options["nkeys_seed"] = str(self._seed_file)
        delay = 0.1
        while True:
            try:
                self._client = await nats.connect(
                    self._url,
                    name=self.name,
                    inbox_prefix=f"_INBOX_{self.name}".encode(),
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    # Nothing is buffered while disconnected: what was not acknowledged is read again from the outbox.
                    pending_size=0,
                    error_cb=self._on_error,
                    **options,
                )
                return
            except (OSError, asyncio.TimeoutError, nats.errors.Error) as error:
                telemetry.logger().warning("nats_unavailable", error=repr(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)

    async def _on_error(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self.denied = str(error)
            telemetry.logger().error("nats_permission_denied", error=str(error))
        else:
            telemetry.logger().warning("nats_error", error=repr(error))

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """The connection.

        Raises:
            Unavailable: there is none at the moment.
        """
        if self._client is None or not self._client.is_connected:
            raise Unavailable("the event bus cannot be reached")
        return self._client

    async def jetstream(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One JetStream API request, e.g. `STREAM.INFO.RISK`.

        Raises:
            StreamError: the server refused.
            Unavailable: no answer.
        """
        payload = orjson.dumps(body) if body is not None else b""
        try:
            answer: Msg = await self.client.request(f"$JS.API.{subject}", payload, timeout=JETSTREAM_TIMEOUT_SECONDS)
        except (nats.errors.Error, OSError, asyncio.TimeoutError) as error:
            raise Unavailable(f"the event bus does not answer: {error!r}") from error
        document: dict[str, Any] = orjson.loads(answer.data)
        if "error" in document:
            raise StreamError(document["error"].get("err_code", 0), document["error"].get("description", ""))
        return document

    async def close(self) -> None:
        if self._client is not None and not self._client.is_closed:
            await self._client.close()
