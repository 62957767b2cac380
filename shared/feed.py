"""Messages of several streams, in each stream's order, pulled through ephemeral consumers without acknowledgement.

Written on JetStream's pull protocol itself because nats-py's `fetch` waits for a full batch or its time limit, while
we want the first message at once and no more outstanding than we have room for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus import Bus, StreamError
from shared.contracts.envelope import Malformed
from shared.errors import Unavailable

_WINDOW = 256
_BATCH_BYTES = 512 * 1024
_EXPIRES_SECONDS = 20.0
_HEARTBEAT_SECONDS = 5.0
_INACTIVE_SECONDS = 60.0
_TAPE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message.

    Attributes:
        published_at: when the stream stored it, seconds since the epoch.
    """

    stream: str
    sequence: int
    subject: str
    payload: bytes
    published_at: float


class Interrupted(Unavailable):
    """The flow of messages broke off; start again from the cursor."""


class Feed:
    """Opens one consumer a stream, after the given sequence and for the given subjects.

    Args:
        wanted: stream -> (sequence after which to start, subjects).
        window: messages of a stream that are taken ahead; fewer where they are large.
    """

    def __init__(self, bus: Bus, wanted: Mapping[str, tuple[int, Sequence[str]]], *, window: int = _WINDOW) -> None:
        self._bus = bus
        self._pulls = [
            _Pull(bus, stream, after, subjects, self, window) for stream, (after, subjects) in wanted.items()
        ]
        self._queue: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            for pull in self._pulls:
                await pull.open()
        except (nats.errors.Error, OSError, StreamError) as error:
            await self._close()
            raise Interrupted(f"cannot read events: {error!r}") from error
        self._watch = asyncio.create_task(self._watch_silence())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await self._close()

    async def _close(self) -> None:
        for pull in self._pulls:
            with suppress(nats.errors.Error, OSError, StreamError, Unavailable, asyncio.TimeoutError):
                await pull.close()

    def put(self, item: Message | Exception) -> None:
        self._queue.put_nowait(item)

    async def next(
        self, limit: int, linger_seconds: float = 0.0, urgent: frozenset[str] | None = None
    ) -> list[Message]:
        """At least one message, and what else is there up to about `limit` messages.

        Args:
            linger_seconds: how long to wait for more while none of them is urgent.
            urgent: subjects that are not to wait; None lets all of them wait.

        Raises:
            Interrupted: the connection or a consumer is gone.
        """
        messages = [self._taken(await self._queue.get())]
        deadline = time.monotonic() + linger_seconds
        size = 0
        while True:
            # Bytes bound the batch too: one message may hold two hundred events.
            size += len(messages[-1].payload)
            if len(messages) >= limit or size >= _BATCH_BYTES:
                break
            if self._queue.empty():
                patience = deadline - time.monotonic()
                if patience <= 0 or (urgent is not None and any(one.subject in urgent for one in messages)):
                    break
                try:
                    messages.append(self._taken(await asyncio.wait_for(self._queue.get(), patience)))
                except asyncio.TimeoutError:
                    break
            else:
                messages.append(self._taken(self._queue.get_nowait()))
        for pull in self._pulls:
            await pull.refill(sum(1 for message in messages if message.stream == pull.stream))
        return messages

    @staticmethod
    def _taken(item: Message | Exception) -> Message:
        if isinstance(item, Exception):
            raise item
        return item

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for pull in self._pulls:
                if time.monotonic() - pull.heard_at > 3 * _HEARTBEAT_SECONDS:
                    self.put(Interrupted(f"{pull.stream} is silent"))


class _Pull:
    """One stream's consumer: asks for as many messages as there is room for, keeps asking, checks for gaps."""

    def __init__(self, bus: Bus, stream: str, after: int, subjects: Sequence[str], feed: Feed, window: int) -> None:
        self.stream = stream
        self.heard_at = time.monotonic()
        self._bus = bus
        self._after = after
        self._subjects = list(subjects)
        self._feed = feed
        self._name = ""
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._outstanding = 0
        self._window = window
        self._room = window
        self._delivered = 0
        self._broken = False

    async def open(self) -> None:
        client = self._bus.client
        self._inbox = client.new_inbox()
        self._subscription = await client.subscribe(self._inbox, cb=self._on_message)
        created = await self._bus.jetstream(
            f"CONSUMER.CREATE.{self.stream}",
            {
                "stream_name": self.stream,
                "config": {
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": self._after + 1,
                    "ack_policy": "none",
                    "filter_subjects": self._subjects,
                    "replay_policy": "instant",
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": int(_INACTIVE_SECONDS * 1e9),
                },
            },
        )
        self._name = created["name"]
        await self._ask()

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        if self._name and self._bus.connected:
            await self._bus.jetstream(f"CONSUMER.DELETE.{self.stream}.{self._name}")

    async def refill(self, taken: int) -> None:
        self._room += taken
        if self._outstanding <= self._window // 4 and self._room >= self._window // 4:
            await self._ask()

    async def _ask(self) -> None:
        wanted = self._room
        if wanted <= 0 or self._broken:
            return
        self._room -= wanted
        self._outstanding += wanted
        request: dict[str, Any] = {
            "batch": wanted,
            "expires": int(_EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_SECONDS * 1e9),
        }
        try:
            await self._bus.client.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._name}", orjson.dumps(request), reply=self._inbox
            )
        except (nats.errors.Error, OSError, Unavailable) as error:
            self._break(f"cannot ask for messages: {error!r}")

    def _break(self, reason: str) -> None:
        if not self._broken:
            self._broken = True
            self._feed.put(Interrupted(f"{self.stream}: {reason}"))

    async def _on_message(self, message: Msg) -> None:
        self.heard_at = time.monotonic()
        status = (message.headers or {}).get("Status")
        if status is not None and not message.reply.startswith("$JS.ACK"):
            await self._on_status(status, message)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp ns>.<pending>, from the end
        # since a domain and an account hash may come first.
        tokens = message.reply.split(".")
        if len(tokens) < 9 or not message.reply.startswith("$JS.ACK"):
            self._break(f"unexpected message {Malformed(message.reply)!r}")
            return
        sequence, delivered = int(tokens[-4]), int(tokens[-3])
        if delivered != self._delivered + 1:
            self._break(f"message {self._delivered + 1} did not arrive")
            return
        self._delivered = delivered
        self._outstanding -= 1
        self._feed.put(Message(self.stream, sequence, message.subject, message.data, int(tokens[-2]) / 1e9))

    async def _on_status(self, status: str, message: Msg) -> None:
        if status == "100":
            return
        if status in ("408", "409"):
            # The request ended before it was used up; the server says how much was left.
            left = int((message.headers or {}).get("Nats-Pending-Messages", "0"))
            description = (message.headers or {}).get("Description", "")
            if status == "409" and "deleted" in description.lower():
                self._break(description)
                return
            self._outstanding = max(0, self._outstanding - left)
            self._room += left
            await self._ask()
            return
        self._break(f"status {status}")


class StreamTape:
    """The streams' stored messages read once more from their beginnings, for a rebuild.

    Args:
        wanted: stream -> subjects, as the consumer reads them.
    """

    def __init__(self, bus: Bus, wanted: Mapping[str, Sequence[str]]) -> None:
        self._feeds = {stream: Feed(bus, {stream: (0, subjects)}) for stream, subjects in wanted.items()}
        self._waiting: dict[str, list[Message]] = {stream: [] for stream in wanted}

    async def __aenter__(self) -> Self:
        for feed in self._feeds.values():
            await feed.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for feed in self._feeds.values():
            await feed.__aexit__()

    async def read(self, stream: str, first: int, last: int) -> list[Message]:
        """The messages from `first` to `last`.

        Raises:
            Interrupted: the stream does not give them: it lost them, or the server is gone.
        """
        waiting = self._waiting[stream]
        while not waiting or waiting[-1].sequence < last:
            try:
                async with asyncio.timeout(_TAPE_SECONDS):
                    waiting += await self._feeds[stream].next(1_000)
            except TimeoutError:
                raise Interrupted(f"{stream} does not give messages {first} to {last}; were they removed?") from None
        found = [message for message in waiting if first <= message.sequence <= last]
        self._waiting[stream] = [message for message in waiting if message.sequence > last]
        return found
