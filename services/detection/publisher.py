"""Puts interactions into the telemetry stream; what the broker has acknowledged is on its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import nats.errors
import orjson

from services.detection.wire import (
    MESSAGE_BYTES,
    STREAM,
    Item,
    encode,
    encode_item,
    partition_of,
    subject_of,
)
from shared.auth import Caller
from shared.bus import Bus
from shared.errors import Unavailable

ACK_SECONDS = 5.0
IN_FLIGHT = 64
"""Messages of this process that the broker has not acknowledged; what comes on top waits."""


class Publisher:
    """One process's way into the stream."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def publish(self, caller: Caller, at: float, items: Iterable[Item]) -> None:
        """Store items, each in its partition, in their order there; returns when the broker holds them all.

        Raises:
            Unavailable: not all of them are stored; sent again, those that are count once.
        """
        parts: dict[int, list[bytes]] = {}
        for item in items:
            parts.setdefault(partition_of(item.interaction, item.trace_id), []).append(encode_item(item))
        sending = [self._send_all(partition, caller, at, encoded) for partition, encoded in parts.items()]
        for outcome in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send_all(self, partition: int, caller: Caller, at: float, encoded: list[bytes]) -> None:
        group: list[bytes] = []
        size = 0
        for one in encoded:
            if group and size + len(one) > MESSAGE_BYTES:
                await self._send(subject_of(partition), encode(caller, at, group))
                group, size = [], 0
            group.append(one)
            size += len(one)
        await self._send(subject_of(partition), encode(caller, at, group))

    async def _send(self, subject: str, payload: bytes) -> None:
        async with self._room:
            try:
                answer = await self._bus.client.request(
                    subject, payload, timeout=ACK_SECONDS, headers={"Nats-Expected-Stream": STREAM}
                )
            except (nats.errors.Error, OSError, asyncio.TimeoutError) as error:
                raise Unavailable(f"the telemetry stream does not answer: {error!r}", retry_after_seconds=5) from error
        acknowledged = orjson.loads(answer.data)
        if "error" in acknowledged or acknowledged.get("stream") != STREAM:
            # Full, most likely: what is not handled yet is not thrown away for what is newer.
            detail = acknowledged.get("error", {}).get("description", "no acknowledgement")
            raise Unavailable(f"the telemetry stream takes nothing: {detail}", retry_after_seconds=5)
