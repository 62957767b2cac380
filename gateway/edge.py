"""The server side of a client's connection: strict framing, bounded sizes, deadlines.

A protocol class for uvicorn's server (which keeps sockets, signals and graceful shutdown) in the place of its own,
because uvicorn's has no deadline for a request to arrive, no bound on the size of a header block, and reports a
vanished client only to an application that happens to be receiving. Parsing is llhttp's, strict, through httptools.
On top of that:

- request line and headers within `head_seconds`, at most `max_head_bytes` and `max_headers`;
- a body within `body_idle_seconds` between bytes and `body_total_seconds` in all, unless the exchange is `untimed`;
- any second way to frame a message is refused: Content-Length with Transfer-Encoding, a transfer coding other than
  `chunked` alone, no or two Host headers, a body on a request that asks for an upgrade, a target that is not a path;
- trailers are dropped, so that nothing joins the headers after they were judged;
- a request answered before its body was read leaves the connection closed in both directions only after the client
  could read the answer (what nginx calls lingering close): a 413 to a 60 MB upload arrives.

One sweep every half second checks all deadlines; a timer a request would cost more than the parsing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.framing import EdgeLimits, body_length, head_too_large, too_slow
from gateway.problems import Problem, bad_request
from gateway.trace import traceparent

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EXTENSION = "colonnade.exchange"

_SWEEP_SECONDS = 0.5
_HIGH_WATER_BYTES = 65536
_MAX_PIPELINED = 16
_LINGER_SECONDS = 2.0
_DISCARD_BYTES = 65536  # an unread rest of this size is read and dropped rather than closing the connection
_STATUS_LINES = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}

log = logging.getLogger("gateway.edge")


class ClientGone(Exception):
    """The client went away before it was answered."""


class EdgeFactory:
    """Makes a protocol for each connection of one server; pass it to uvicorn as `http=`."""

    def __init__(self, limits: EdgeLimits | None = None) -> None:
        self.limits = limits or EdgeLimits()
        self._sweeping = False

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Edge:
        loop = _loop or asyncio.get_running_loop()
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(_SWEEP_SECONDS, self._sweep, loop, server_state)
        return Edge(config.loaded_app, server_state, app_state, loop, self.limits)

    def _sweep(self, loop: asyncio.AbstractEventLoop, server_state: ServerState) -> None:
        now = loop.time()
        for connection in list(server_state.connections):
            if isinstance(connection, Edge):
                connection.check_deadlines(now)
        loop.call_later(_SWEEP_SECONDS, self._sweep, loop, server_state)


class Edge(asyncio.Protocol):
    """One connection. Requests on it are served one after the other, also when they came pipelined."""

    def __init__(
        self,
        app: Any,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        limits: EdgeLimits,
    ) -> None:
        self.app: App = app
        self.server_state = server_state
        self.app_state = app_state
        self.loop = loop
        self.limits = limits
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int] | None = None
        self.scheme = "http"

        self.current: Exchange | None = None  # being answered
        self.incoming: Exchange | None = None  # whose body is arriving
        self.pipelined: deque[Exchange] = deque()

        self.in_head = False
        self.head_bytes = 0
        self.chunk_bytes = 0
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.refusal: Problem | None = None
        self.stopped = False  # nothing more is parsed on this connection

        self.fresh = True  # nothing was answered yet
        self.waiting_since = 0.0  # for the head of a request
        self.last_byte_at = 0.0
        self.write_paused_since: float | None = None
        self.writable: asyncio.Future[None] | None = None
        self.read_paused = False
        self.discard_until: float | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.waiting_since = self.last_byte_at = self.loop.time()
        connections: set[Any] = self.server_state.connections
        connections.add(self)
        if len(connections) > self.limits.max_connections:
            self._refuse(
                Problem(503, "busy", "Too many connections.", "the gateway is at its limit", retry_after_seconds=1)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        connections: set[Any] = self.server_state.connections
        connections.discard(self)
        self.stopped = True
        for exchange in (self.current, *self.pipelined):
            if exchange is not None:
                exchange.lose_client()
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)

    def eof_received(self) -> bool:
        return False  # a client that stops talking is taken to be gone, as by nginx

    def data_received(self, data: bytes) -> None:
        self.last_byte_at = self.loop.time()
        if self.stopped:
            return
        self.chunk_bytes = len(data)
        if self.in_head or self.incoming is None:
            self.head_bytes += len(data)
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # The head asked for another protocol; the request itself was complete (a body is refused below), so
                # it is answered in HTTP/1.1 and what follows is the next request.
                self.parser = httptools.HttpRequestParser(self)
                data = data[upgrade.args[0] :]
                if data and not self.stopped:
                    continue
            except httptools.HttpParserError as error:
                self._unparsable(error)
                return
            break
        if self.refusal is not None:
            self._refuse(self.refusal)
        elif self.in_head and self.head_bytes > self.limits.max_head_bytes:
            self._refuse(head_too_large())

    def pause_writing(self) -> None:
        self.write_paused_since = self.loop.time()
        self.writable = self.loop.create_future()

    def resume_writing(self) -> None:
        self.write_paused_since = None
        if self.writable is not None and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    # uvicorn's server

    def shutdown(self) -> None:
        """No further request on this connection; event streams end now, everything else is finished first."""
        if self.current is None:
            self.transport.close()
            return
        self.current.keep_alive = False
        self.pipelined.clear()
        if self.current.endless:
            self.current.cancel()

    # httptools callbacks; they must not raise

    def on_message_begin(self) -> None:
        self.in_head = True
        self.head_bytes = 0
        self.target = b""
        self.headers = []
        self.waiting_since = self.last_byte_at

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # after it these are trailers
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.stopped or self.refusal is not None:
            return
        parser = self.parser
        method = parser.get_method().decode()
        version = parser.get_http_version()
        # The bytes of this head are at most those of the chunks that it came in; only then they are counted exactly.
        if self.head_bytes + self.chunk_bytes > self.limits.max_head_bytes and (
            sum(len(name) + len(value) for name, value in self.headers) > self.limits.max_head_bytes
        ):
            self.refusal = head_too_large()
            return
        body_bytes, self.refusal = body_length(method, version, self.target, self.headers, self.limits, parser)
        if self.refusal is not None:
            return
        exchange = Exchange(self, method, version, body_bytes, parser.should_keep_alive() and version == "1.1")
        self.incoming = exchange
        if self.current is None:
            self.current = exchange
            exchange.start()
        elif len(self.pipelined) < _MAX_PIPELINED:
            self.pipelined.append(exchange)
            self.pause_reading()
        else:
            self.stopped = True  # the rest is never answered; the client has to ask again on a new connection
            self.pipelined[-1].keep_alive = False

    def on_body(self, part: bytes) -> None:
        if self.incoming is not None and not self.stopped:
            self.incoming.feed(part)

    def on_message_complete(self) -> None:
        self.head_bytes = 0
        if self.incoming is not None:
            self.incoming.feed_end()
            self.incoming = None

    # deadlines

    def check_deadlines(self, now: float) -> None:
        limits = self.limits
        if self.discard_until is not None:
            if now > self.discard_until:
                self.transport.abort()
        elif self.write_paused_since is not None and now - self.write_paused_since > limits.write_stall_seconds:
            self.transport.abort()
        elif self.current is None:
            # Bytes without a message are line breaks before a request line; they buy no time.
            unfinished = self.fresh or self.in_head or self.head_bytes
            allowed = limits.head_seconds if unfinished else limits.keep_alive_seconds
            if now - self.waiting_since > allowed:
                if self.in_head:
                    self._refuse(too_slow("the request line and headers did not arrive in time"))
                else:
                    self.transport.close()
        elif self.incoming is self.current and not self.read_paused:
            exchange = self.current
            idle = now - max(self.last_byte_at, exchange.wanted_at)
            slow = not exchange.untimed and now - exchange.started_at > limits.body_total_seconds
            if idle > limits.body_idle_seconds or slow:
                exchange.fail(too_slow("the request body did not arrive in time"))

    # for Exchange

    def finished(self, exchange: Exchange) -> None:
        """The answer is written; go on with the next request, or close."""
        self.server_state.total_requests += 1
        self.fresh = False
        if self.transport.is_closing():
            return
        if self.incoming is exchange:
            if exchange.keep_alive and exchange.small_rest():
                self.resume_reading()  # dropped as it comes, the connection stays
            else:
                self._linger()
                return
        elif not exchange.keep_alive:
            self.transport.close()
            return
        if self.pipelined:
            self.current = self.pipelined.popleft()
            self.current.start()
        else:
            self.current = None
            self.waiting_since = self.loop.time()
            self.resume_reading()

    def pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.last_byte_at = self.loop.time()
            self.transport.resume_reading()

    def _unparsable(self, error: httptools.HttpParserError) -> None:
        incoming = self.incoming
        if incoming is not None:
            self.stopped = True
            incoming.keep_alive = False
            incoming.fail(bad_request(f"the request body is not framed as HTTP: {error}"))
        elif self.current is not None:
            # What follows the request being answered is not HTTP: answer that one, then close.
            self.stopped = True
            (self.pipelined[-1] if self.pipelined else self.current).keep_alive = False
        else:
            self._refuse(self.refusal or bad_request(f"this is not HTTP/1.1: {error}"))

    def _refuse(self, problem: Problem) -> None:
        """Answer for a request that never became an exchange, then close."""
        self.stopped = True
        if self.current is not None:
            (self.pipelined[-1] if self.pipelined else self.current).keep_alive = False
            return
        headers, body = problem.render(traceparent(None)[1])
        block = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(_STATUS_LINES[problem.status] + block + b"connection: close\r\n\r\n" + body)
        self._linger()

    def _linger(self) -> None:
        self.stopped = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.discard_until = self.loop.time() + _LINGER_SECONDS
            self.resume_reading()
        else:
            self.transport.close()


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

    def __init__(self, edge: Edge, method: str, version: str, body_bytes: int | None, keep_alive: bool) -> None:
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
        block = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
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


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
