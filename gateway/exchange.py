"""One request and its answer, as the application that serves it sees them; the connection they are on is in edge.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.server import ServerState

from gateway.problems import Problem
from gateway.trace import traceparent

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EXTENSION = "colonnade.exchange"
STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}

_HIGH_WATER_BYTES = 65536
_DISCARD_BYTES = 65536  # an unread rest of this size is read and dropped rather than closing the connection

log = logging.getLogger("gateway.exchange")


class ClientGone(Exception):
    """The client went away before it was answered."""


class Connection(Protocol):
    """What an exchange needs of the connection it is on."""

    app: App
    server_state: ServerState
    app_state: dict[str, Any]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    scheme: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    incoming: Exchange | None
    writable: asyncio.Future[None] | None

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def finished(self, exchange: Exchange) -> None: ...


class Exchange:
    """One request and its answer: the ASGI `receive` and `send` of it, and what ASGI has no word for.

    Attributes:
        declared_bytes: length of the body, None when it comes in chunks.
        untimed: set by the application: the body has no total deadline.
        endless: set by the application: the answer is an event stream that may be cut at shutdown.
    """

    __slots__ = (
        "_delivered",
        "_ended",
        "_expects_continue",
        "_failure",
        "_gone",
        "_head",
        "_parts",
        "_remaining_out",
        "_size",
        "_task",
        "_waiter",
        "body_bytes",
        "cancels",
        "chunked",
        "complete",
        "declared_bytes",
        "edge",
        "endless",
        "keep_alive",
        "method",
        "responding",
        "scope",
        "started_at",
        "untimed",
        "version",
        "wanted_at",
    )

    def __init__(self, edge: Connection, method: str, version: str, body_bytes: int | None, keep_alive: bool) -> None:
        self.edge = edge
        self.method = method
        self.version = version
        self.declared_bytes = self.body_bytes = body_bytes  # the second counts down; None: unknown (chunked)
        self.keep_alive = keep_alive
        self.untimed = False
        self.endless = False
        self.cancels = False
        self.started_at = self.wanted_at = 0.0
        path, _, query = edge.target.partition(b"?")
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": edge.server,
            "client": edge.client,
            "scheme": edge.scheme,
            "method": method,
            "root_path": "",
            "path": path.decode("latin-1"),  # the front refuses or decodes it; never looked at before
            "raw_path": path,
            "query_string": query,
            "headers": edge.headers,
            "state": edge.app_state,
            "extensions": {EXTENSION: self},
        }
        self._expects_continue = any(name == b"expect" for name, _ in edge.headers)
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._delivered = False  # the end of the body was handed to the application
        self._failure: Problem | None = None
        self._gone = False
        self._head = b""
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.responding = False
        self.complete = False
        self.chunked = False
        self._remaining_out: int | None = None

    def start(self) -> None:
        """Serve it. Its time begins here: a pipelined request is not to blame for the answers before its own."""
        self.started_at = self.wanted_at = self.edge.loop.time()
        self._task = task = self.edge.loop.create_task(self._run())
        tasks = self.edge.server_state.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _run(self) -> None:
        try:
            await self.edge.app(self.scope, self.receive, self.send)
        except (asyncio.CancelledError, ClientGone):
            self.edge.transport.abort()
        except Exception:
            log.exception("unhandled error while serving %s %s", self.method, self.scope["raw_path"])
            if self.complete:
                return
            if self.responding or self._gone:
                self.edge.transport.abort()
            else:
                await self.refuse(Problem(500, "internal", "Something went wrong on our side.", "the request failed"))
        else:
            if not self.complete:
                self.edge.transport.abort()  # a cut answer must not look complete

    async def refuse(self, problem: Problem, trace_id: str | None = None) -> None:
        """Answer with a problem."""
        headers, body = problem.render(trace_id or traceparent(None)[1])
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def cancel_when_client_goes(self) -> None:
        """From here on a client that disconnects cancels the task that serves it."""
        self.cancels = True
        if self._gone:
            raise ClientGone

    def arrived(self) -> bytes | None:
        """The whole body without waiting, if it is here; None if not. Nothing is left for `receive`."""
        if not self._ended or self._failure is not None:
            return None
        body = b"".join(self._parts)
        self._parts = []
        self._delivered = True
        return body

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # from the connection

    def feed(self, part: bytes) -> None:
        if self.body_bytes is not None:
            self.body_bytes -= len(part)
        if self.complete:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > _HIGH_WATER_BYTES:
            self.edge.pause_reading()
        self._wake()

    def feed_end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, problem: Problem) -> None:
        """The body can no longer be completed; the next `receive` raises this."""
        self.keep_alive = False
        self._failure = problem
        if self.responding and self._task is not None:
            self._task.cancel()  # the answer is already on its way; cut it
        self._wake()

    def lose_client(self) -> None:
        if self.complete:
            return
        self._gone = True
        if self.cancels and self._task is not None:
            self._task.cancel()
        self._wake()

    def small_rest(self) -> bool:
        return self.body_bytes is not None and self.body_bytes <= _DISCARD_BYTES

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ASGI

    async def receive(self) -> Message:
        """The next part of the body, or `http.disconnect`.

        Raises:
            Problem: 400 or 408; the body is broken or came too slowly.
        """
        if self._expects_continue and not self.responding and not self._ended:
            self._expects_continue = False
            self.edge.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (
            self._parts or (self._ended and not self._delivered) or self._gone or self.complete or self._failure
        ):
            self.wanted_at = self.edge.loop.time()
            self.edge.resume_reading()
            self._waiter = self.edge.loop.create_future()
            await self._waiter
        if self._gone or self.complete:
            return {"type": "http.disconnect"}
        if self._failure is not None:
            raise self._failure
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._size = 0
        self._delivered = self._ended
        return {"type": "http.request", "body": body, "more_body": not self._ended}

    def respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """The whole answer at once, without waiting; False when the client is too slow for that and nothing was
        sent."""
        if self.edge.writable is not None or self._gone:
            return False
        self._start_response(status, headers)
        self._write_body(body, last=True)
        return True

    async def send(self, message: Message) -> None:
        edge = self.edge
        if edge.writable is not None:
            await edge.writable
        if self._gone:
            if self.cancels:
                raise ClientGone
            return
        if message["type"] == "http.response.start":
            self._start_response(message["status"], message["headers"])
            edge.loop.call_soon(self._flush)  # a body that follows at once goes out in the same packet
            return
        self._write_body(message.get("body", b""), last=not message.get("more_body", False))

    def _write_body(self, body: bytes, *, last: bool) -> None:
        edge = self.edge
        if self.method == "HEAD":
            body = b""
        elif self._remaining_out is not None:
            self._remaining_out -= len(body)
            if self._remaining_out < 0 or (last and self._remaining_out):
                raise RuntimeError("the answer does not have the length that it announced")
        head, self._head = self._head, b""
        if self.chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = framed + b"0\r\n\r\n" if last else framed
        if head or body:
            edge.transport.write(head + body if head else body)
        if last:
            self.complete = True
            self._wake()  # an application that waits for the disconnect
            edge.finished(self)

    def _start_response(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if self.responding:
            raise RuntimeError("the answer was already started")
        self.responding = True
        block = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in self.edge.server_state.default_headers:
            block += (name, b": ", value, b"\r\n")
        length: int | None = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" or name == b"transfer-encoding":
                continue
            block += (name, b": ", value, b"\r\n")
        bodiless = status in (204, 304) or status < 200
        if not bodiless:
            self._remaining_out = length
            if length is None and self.method != "HEAD":
                if self.version == "1.1":
                    self.chunked = True
                    block.append(b"transfer-encoding: chunked\r\n")
                else:
                    self.keep_alive = False
        if status >= 400 and self.edge.incoming is self and not self.small_rest():
            self.keep_alive = False
        if not self.keep_alive:
            block.append(b"connection: close\r\n")
        block.append(b"\r\n")
        head = b"".join(block)
        if b"\x00" in head or head.count(b"\n") != head.count(b"\r\n"):
            raise RuntimeError("the answer has a header with a line break in it")
        self._head = head

    def _flush(self) -> None:
        if self._head and not self._gone:
            self.edge.transport.write(self._head)
            self._head = b""
