"""Connections to one service: a pool of keep-alive connections and the smallest client that is still strict.

Why not aiohttp's client, which the rest of the platform uses: the same proxy over it reached 8,900 requests/s before
any check was made, and nginx 27,000 (one core, November 2026); with this one it reaches more with every check made.
What makes it small is what a gateway does not want: no redirects, cookies, decompression, content negotiation, and no
retry once an answer has begun.

Framing of answers is llhttp's. A connection goes back to the pool only when its answer ended where it should, its
request was sent in full and nothing more was received; a byte on an idle connection closes it. So one client's answer
cannot become another's.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

import httptools

_HIGH_WATER_BYTES = 256 * 1024
_MAX_HEAD_BYTES = 65536
_SWEEP_SECONDS = 0.25
_NO_BODY = frozenset({204, 304})


class UpstreamError(Exception):
    """The service could not be asked, or did not answer as HTTP wants it.

    Attributes:
        kind: `unreachable` (no connection), `busy` (our own bound), `closed` (the connection broke),
            `silent` (a deadline passed), `malformed` (not HTTP).
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Upstream:
    """One service.

    Args:
        url: `http://host:port` or `https://host:port`; a path is not allowed.
        connect_seconds: to establish a connection, name look-up and TLS included.
        idle_seconds: an unused connection is closed after this; keep it below the service's own keep-alive time
            (uvicorn's is 5 s), or requests will meet connections that are just being closed.
        max_connections: above it requests are refused at once (`busy`) instead of queueing behind a slow service.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        connect_seconds: float = 2.0,
        idle_seconds: float = 4.0,
        max_connections: int = 1024,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"the address of {name} must look like http://host:port")
        self.name = name
        self.origin = f"{parts.scheme}://{parts.netloc}".encode()
        self.host = parts.netloc.encode()
        self._hostname = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._max_connections = max_connections
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening = 0
        self._sweep: asyncio.TimerHandle | None = None

    async def request(
        self,
        method: str,
        head: bytes,
        body: bytes,
        *,
        more: AsyncIterator[bytes] | None = None,
        chunked: bool = False,
        repeatable: bool,
        first_byte_seconds: float,
        idle_seconds: float,
        total_seconds: float | None,
    ) -> Connection:
        """Send a request and wait for the head of its answer.

        Args:
            head: request line and headers with framing, up to and including the empty line.
            body: the body, or what of it is already here.
            more: the rest of a streamed body, sent while the answer may already be coming; `chunked` frames it.
            repeatable: the request may be sent a second time when a kept connection turns out to be closed before any
                byte of an answer: it is idempotent by method or by key.
            first_byte_seconds: from the request being sent in full to the head of the answer.
            idle_seconds: between two parts of the answer.
            total_seconds: for the whole exchange; None when it may last.

        Returns:
            the connection, holding the answer; the caller reads it to the end or calls `abort`. After the end it is
            somebody else's: whoever cannot know which it was compares `turn`.

        Raises:
            UpstreamError: nothing of the answer was received.
        """
        while True:
            connection = self._kept()
            reused = connection is not None
            if connection is None:
                connection = await self._connect()
            connection.begin(method, first_byte_seconds, idle_seconds, total_seconds)
            try:
                if more is None:
                    connection.write(head + body if body else head)
                    connection.sent()
                else:
                    connection.stream(head, body, more, chunked=chunked)
                await connection.head()
                return connection
            except UpstreamError as error:
                connection.abort()
                if reused and error.kind == "closed" and connection.untouched and repeatable and more is None:
                    continue  # the service closed it between two requests
                raise
            except BaseException:
                connection.abort()
                raise

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> Connection:
        if len(self._open) + self._opening >= self._max_connections:
            raise UpstreamError("busy", f"{self._max_connections} requests are under way")
        loop = asyncio.get_running_loop()
        self._opening += 1
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, loop), self._hostname, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UpstreamError("unreachable", str(error) or "no connection in time") from error
        finally:
            self._opening -= 1
        self._open.add(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_SECONDS, self._check_deadlines, loop)
        return connection

    def _check_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._open):
            if connection.busy:
                connection.check_deadlines(now)
            elif now - connection.idle_since > self._idle_seconds:
                connection.abort()
        self._sweep = loop.call_later(_SWEEP_SECONDS, self._check_deadlines, loop) if self._open else None

    def released(self, connection: Connection) -> None:
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not connection.busy:
            try:
                self._idle.remove(connection)
            except ValueError:
                return  # taken out of the pool, but not yet used

    async def close(self) -> None:
        """Close every connection; requests under way fail with `closed`."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)


class Connection(asyncio.Protocol):
    """One connection to a service and the answer that is on it.

    Attributes:
        turn: counts the exchanges on this connection; another value than after `Upstream.request` tells that the
            connection has gone to another request.
        status, headers: of the answer, names in lower case; valid after `Upstream.request` until the answer's end.
        untouched: no byte of an answer was received.
    """

    def __init__(self, upstream: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self.upstream = upstream
        self.loop = loop
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.closed = False
        self.busy = False
        self.turn = 0
        self.idle_since = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.untouched = True
        self._method = ""
        self._parts: list[bytes] = []
        self._size = 0
        self._head_done = False
        self._done = False
        self._reusable = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._uploading: asyncio.Task[None] | None = None
        self._upload_error: BaseException | None = None
        self._sent = False
        self._read_paused = False
        self._head_bytes = 0
        self._first_byte_seconds = self._idle_seconds = 0.0
        self._deadline = 0.0
        self._end: float | None = None

    # the request

    def begin(self, method: str, first_byte_seconds: float, idle_seconds: float, total_seconds: float | None) -> None:
        self.busy = True
        self.turn += 1
        self.untouched = True
        self.status = 0
        self.headers = []
        self._method = method
        self._parts = []
        self._size = 0
        self._head_done = self._done = self._sent = self._reusable = False
        self._upload_error = None
        self._head_bytes = 0
        self._first_byte_seconds = first_byte_seconds
        self._idle_seconds = idle_seconds
        now = self.loop.time()
        self._deadline = now + first_byte_seconds
        self._end = None if total_seconds is None else now + total_seconds

    def write(self, data: bytes) -> None:
        if self.closed:
            raise self._error or UpstreamError("closed", "the connection was closed")
        self.transport.write(data)

    def sent(self) -> None:
        """The request is complete."""
        self._sent = True

    def stream(self, head: bytes, body: bytes, more: AsyncIterator[bytes], *, chunked: bool) -> None:
        self._uploading = self.loop.create_task(self._upload(head, body, more, chunked))

    async def _upload(self, head: bytes, body: bytes, more: AsyncIterator[bytes], chunked: bool) -> None:
        try:
            self.write(head)
            if body:
                self.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
            self._deadline = math.inf  # waiting for the client now; the edge has deadlines for that
            async for part in more:
                if self._writable is not None:
                    self._deadline = self.loop.time() + self._first_byte_seconds
                    await self._writable
                    self._deadline = math.inf
                if part:
                    self.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if chunked:
                self.write(b"0\r\n\r\n")
            self.sent()
            self._deadline = self.loop.time() + self._first_byte_seconds
        except BaseException as error:
            # Whoever reads the answer is told; this connection is of no further use, for its request stays incomplete.
            self._upload_error = error
            self._wake()
            self.transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise

    # the answer

    async def head(self) -> None:
        while not self._head_done:
            await self._wait()

    @property
    def complete(self) -> bool:
        """The whole body is here; `take` returns it."""
        return self._done

    def take(self) -> bytes:
        """What of the body has arrived and was not taken yet. Ends the exchange when nothing more can come."""
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._size = 0
        if self._done:
            self._finish()
        elif self._read_paused:
            self._read_paused = False
            self._deadline = self.loop.time() + self._idle_seconds
            self.transport.resume_reading()
        return body

    async def read(self) -> tuple[bytes, bool]:
        """The next part of the body and whether more follows.

        Raises:
            UpstreamError: the rest is lost.
        """
        while not (self._parts or self._done):
            await self._wait()
        more = not self._done
        return self.take(), more

    def let_last(self, idle_seconds: float) -> None:
        """The answer turned out to be an event stream: no deadline for the whole, another one between its parts."""
        self._idle_seconds = idle_seconds
        self._deadline = self.loop.time() + idle_seconds
        self._end = None

    def abort(self) -> None:
        """Drop the exchange and its connection. Does nothing after the exchange ended."""
        if self._uploading is not None:
            self._uploading.cancel()
            self._uploading = None
        if not self.closed:
            self.closed = True
            self.transport.abort()
            self.upstream.lost(self)

    async def _wait(self) -> None:
        if self._upload_error is not None:
            raise self._upload_error
        if self._error is not None:
            raise self._error
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._upload_error is not None:
            raise self._upload_error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self) -> None:
        if not self.busy:
            return
        if self._reusable and self._sent and not self.closed:
            self.busy = False
            self._uploading = None
            self.idle_since = self.loop.time()
            self.upstream.released(self)
        else:
            self.abort()

    def _fail(self, kind: str, detail: str) -> None:
        if self._error is None:
            self._error = UpstreamError(kind, detail)
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def check_deadlines(self, now: float) -> None:
        late = self._end is not None and now > self._end
        if (late or now > self._deadline) and not self._done and not self._read_paused:
            self._fail("silent", "a deadline passed")
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.busy and not self._done:
            self._end_of_stream(exc)
        self.upstream.lost(self)

    def _end_of_stream(self, exc: Exception | None) -> None:
        framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        if self._head_done and not framed and exc is None and self._error is None:
            self._done = True  # an answer that ends where its connection ends (HTTP/1.0)
            self._wake()
        else:
            self._fail("closed", str(exc or "the connection was closed"))

    def data_received(self, data: bytes) -> None:
        if not self.busy or self._done:
            # Nobody asked: an answer out of turn would be read as the next one's.
            self.closed = True
            self.transport.abort()
            return
        self.untouched = False
        if not self._head_done:
            self._head_bytes += len(data)
        elif self._sent:
            self._deadline = self.loop.time() + self._idle_seconds
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._reusable = False
            if self._done:
                self._wake()  # the answer ended before what cannot be read
            else:
                self._fail("malformed", str(error))
                self.transport.abort()
            return
        if not self._head_done and self._head_bytes > _MAX_HEAD_BYTES:
            self._fail("malformed", "the head of the answer is too large")
            self.transport.abort()
        elif self._head_done:
            self._wake()
            if self._size > _HIGH_WATER_BYTES and not self._done and not self._read_paused:
                self._read_paused = True
                self.transport.pause_reading()

    def pause_writing(self) -> None:
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._done:
            raise ValueError("a second answer to one request")
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return  # informational; the answer follows
        self.status = status
        self._head_done = True
        if self._sent:
            self._deadline = self.loop.time() + self._idle_seconds
        if self._method == "HEAD" and status not in _NO_BODY:
            # llhttp waits for the body that the headers describe; there is none, and the parser cannot be told.
            self._done = True

    def on_body(self, part: bytes) -> None:
        if not self._done:
            self._parts.append(part)
            self._size += len(part)

    def on_message_complete(self) -> None:
        if self._head_done and not self._done:
            self._done = True
            self._reusable = self.parser.should_keep_alive()
