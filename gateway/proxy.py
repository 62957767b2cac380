"""Passing a judged request on to its service, and the service's answer back, without holding either in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.exchange import ClientGone, Exchange
from gateway.headers import for_client
from gateway.problems import Headers, Problem, bad_request, too_large
from gateway.target import Route
from gateway.upstream import Connection, Upstream, UpstreamError

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_GATHER_BYTES = 65536
_BODILESS = (204, 304)
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Times in seconds; see GatewaySettings."""

    first_byte: float
    idle: float
    stream_idle: float
    total: float


class Proxy:
    """The ways to the services.

    Args:
        upstreams: by service name; a service that is missing here is answered for with 503.
    """

    def __init__(self, upstreams: dict[str, Upstream], deadlines: Deadlines) -> None:
        self._upstreams = upstreams
        self._deadlines = deadlines

    async def forward(
        self,
        exchange: Exchange,
        route: Route,
        target: bytes,
        forwarded: list[bytes],
        single: dict[bytes, bytes],
        identity: tuple[bytes, bytes],
        extra: Headers,
    ) -> int:
        """Pass the request on and answer it.

        Args:
            target: path and query, byte for byte as they came.
            forwarded, single: the client's headers that may pass, in pieces, and those given at most once; see `sift`.
            identity: `Authorization` for the service, and `traceparent`.
            extra: headers added to the answer.

        Returns:
            the status that was answered.

        Raises:
            Problem: nothing was answered yet.
            UpstreamError: the answer broke off in its middle.
        """
        upstream = self._upstreams.get(route.service)
        if upstream is None:
            raise _unavailable(route.service, "it is not part of this installation")
        if route.untimed:
            exchange.untimed = True
        exchange.cancel_when_client_goes()
        body, rest = exchange.arrived(), None
        if body is None:
            body, rest = await _gather(exchange, route.max_body_bytes)
        elif len(body) > route.max_body_bytes:
            raise too_large(route.max_body_bytes)
        method = exchange.method
        chunked = False
        framing = b"\r\n"
        if rest is None:
            if body or method in ("POST", "PUT", "PATCH"):
                framing = b"content-length: %d\r\n\r\n" % len(body)
        elif exchange.declared_bytes is not None:
            framing = b"content-length: %d\r\n\r\n" % exchange.declared_bytes
        else:
            chunked = True
            framing = b"transfer-encoding: chunked\r\n\r\n"
        authorization, traceparent = identity
        head = b"".join(
            (
                method.encode(),
                b" ",
                target,
                b" HTTP/1.1\r\nhost: ",
                upstream.host,
                b"\r\nauthorization: ",
                authorization,
                b"\r\ntraceparent: ",
                traceparent,
                b"\r\n",
                *forwarded,
                framing,
            )
        )
        deadlines = self._deadlines
        try:
            connection = await upstream.request(
                method,
                head,
                body,
                more=rest,
                chunked=chunked,
                repeatable=method in _IDEMPOTENT or b"idempotency-key" in single,
                first_byte_seconds=deadlines.first_byte,
                idle_seconds=deadlines.idle,
                total_seconds=None if route.untimed else deadlines.total,
            )
        except UpstreamError as error:
            raise _problem_of(route.service, error) from error
        status, turn = connection.status, connection.turn
        try:
            await self._answer(exchange, connection, extra)
        finally:
            # Once the answer was read to its end the connection may serve another request, while our client still takes
            # what it got.
            if connection.busy and connection.turn == turn:
                connection.abort()
        return status

    async def _answer(self, exchange: Exchange, connection: Connection, extra: Headers) -> None:
        status = connection.status
        length: bytes | None = None
        stream = False
        stored = False
        for name, value in connection.headers:
            if name == b"content-length":
                length = value
            elif name == b"content-type":
                stream = value.startswith(b"text/event-stream")
            elif name == b"cache-control":
                stored = True
        headers = for_client(connection.headers, connection.upstream.origin)
        headers += extra
        headers.append(_NO_SNIFF)
        if not stored:
            headers.append(_NO_STORE)
        if connection.complete:
            body = connection.take()
            if status not in _BODILESS:
                # A HEAD is answered with the length of the body that it does not have.
                known = length if exchange.method == "HEAD" else b"%d" % len(body)
                if known is not None:
                    headers.append((b"content-length", known))
            if not exchange.respond(status, headers, body):
                await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
                await exchange.send({"type": "http.response.body", "body": body})
            return
        if stream:
            exchange.endless = True
            connection.let_last(self._deadlines.stream_idle)
        if length is not None:
            headers.append((b"content-length", length))
        await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
        more = True
        while more:
            body, more = await connection.read()
            await exchange.send({"type": "http.response.body", "body": body, "more_body": more})


async def _gather(exchange: Exchange, limit_bytes: int) -> tuple[bytes, AsyncIterator[bytes] | None]:
    """The body, if it is small and complete soon, or its beginning and an iterator over the rest.

    A small body is taken in before a connection to the service is: a client that sends slowly holds nothing but its
    own.
    """
    declared = exchange.declared_bytes
    if declared is not None and declared > limit_bytes:
        raise too_large(limit_bytes)
    parts: list[bytes] = []
    size = 0
    more = True
    while more and size <= _GATHER_BYTES:
        part, more = await _next_part(exchange)
        parts.append(part)
        size += len(part)
    if size > limit_bytes:
        raise too_large(limit_bytes)
    return b"".join(parts), _rest(exchange, size, limit_bytes) if more else None


async def _rest(exchange: Exchange, size: int, limit_bytes: int) -> AsyncIterator[bytes]:
    more = True
    while more:
        part, more = await _next_part(exchange)
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        yield part


async def _next_part(exchange: Exchange) -> tuple[bytes, bool]:
    message = await exchange.receive()
    if message["type"] == "http.disconnect":
        if exchange.complete:
            raise bad_request("the request was answered before its body ended")
        raise ClientGone
    return message["body"], message["more_body"]


def _unavailable(service: str, why: str, seconds: int = 2) -> Problem:
    return Problem(
        503,
        "unavailable",
        "Something this needs is down; try again shortly.",
        f"{service} is not available: {why}",
        retry_after_seconds=seconds,
        service=service,
    )


def _problem_of(service: str, error: UpstreamError) -> Problem:
    """What the client is told; addresses and causes stay in our log."""
    if error.kind == "malformed":
        return Problem(
            502, "bad-gateway", "The service's answer could not be read.", f"{service} answered unintelligibly"
        )
    if error.kind == "silent":
        return Problem(
            504,
            "timeout",
            "The service did not answer in time.",
            f"{service} did not answer in time; whether it did what was asked is not known",
            retry_after_seconds=5,
            service=service,
        )
    if error.kind == "busy":
        return _unavailable(service, "too many requests are under way", 1)
    if error.kind == "closed":
        return _unavailable(service, "the connection broke; whether it did what was asked is not known")
    return _unavailable(service, "it cannot be reached")
