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
from collections import deque
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.exchange import STATUS_LINES, App, Exchange
from gateway.framing import EdgeLimits, body_length, head_too_large, too_slow
from gateway.problems import Problem, bad_request
from gateway.trace import traceparent

_SWEEP_SECONDS = 0.5
_MAX_PIPELINED = 16
_LINGER_SECONDS = 2.0


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
        self.transport.write(STATUS_LINES[problem.status] + block + b"connection: close\r\n\r\n" + body)
        self._linger()

    def _linger(self) -> None:
        self.stopped = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.discard_until = self.loop.time() + _LINGER_SECONDS
            self.resume_reading()
        else:
            self.transport.close()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
