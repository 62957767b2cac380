"""The order in which a request is judged: target, headers, who, whether revoked, how much, and then where it goes.

An ASGI application in front of two kinds of service: those behind addresses, reached through proxy.py, and the
gateway's own /v1/access, an application like any service's, which is handed the same 60 s token and checks it the
same way.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import jwt
from opentelemetry.trace import SpanKind

from gateway import keys
from gateway import target as targets
from gateway.access import Access
from gateway.durations import DURATIONS
from gateway.exchange import EXTENSION, App, ClientGone, Exchange, Message, Receive, Scope, Send
from gateway.headers import sift
from gateway.limits import Limiter, LimitsUnavailable
from gateway.oidc import TokenRefused, TokenVerifier
from gateway.pages import Pages
from gateway.principals import Principal, TokenExchange
from gateway.problems import Headers, Problem, bad_request
from gateway.proxy import Proxy
from gateway.trace import traceparent
from gateway.upstream import UpstreamError
from shared import telemetry
from shared.errors import Unauthenticated, Unavailable
from shared.tokens import Verifier

SESSION_HEADER = b"colonnade-session"
_MAX_SESSION_BYTES = 200


class Means:
    """What the front works with; opened when the gateway starts (main.py)."""

    def __init__(
        self,
        *,
        access: Access,
        limiter: Limiter,
        tokens: TokenVerifier,
        exchange: TokenExchange,
        services: Verifier,
        service_principal: Callable[[Any], Principal],
        proxy: Proxy,
        pages: Pages,
        tracing: bool,
    ) -> None:
        self.access = access
        self.limiter = limiter
        self.tokens = tokens
        self.exchange = exchange
        self.services = services
        self.service_principal = service_principal
        self.proxy = proxy
        self.pages = pages
        self.tracing = tracing
        self.lasting: dict[Exchange, tuple[Principal, str | None]] = {}
        """Imports and event streams under way, and whose they are."""

    async def end_lasting(self) -> None:
        """Cut the imports and event streams of callers that would no longer be let in.

        Raises:
            Unavailable: a caller's key cannot be looked up; its stream goes on until it can.
        """
        for exchange, (principal, session) in list(self.lasting.items()):
            if not await self.access.admits(principal, session):
                exchange.cancel()


class Front:
    """The gateway's application.

    Args:
        own: the gateway's own routes (/v1/access and health), with its lifespan.
        means: returns what `own` opened at start.
    """

    def __init__(self, own: App, means: Callable[[], Means]) -> None:
        self._own = own
        self._means = means

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._own(scope, receive, send)
            return
        started = time.perf_counter()
        exchange: Exchange = scope["extensions"][EXTENSION]
        trace, trace_id = b"", ""
        area = "none"
        try:
            forwarded, single = sift(scope["headers"])
            trace, trace_id = traceparent(single.get(b"traceparent"))
            path: bytes = scope["raw_path"]
            query: bytes = scope["query_string"]
            target = path + b"?" + query if query else path
            ambiguity = targets.ambiguity(target)
            if ambiguity is not None:
                raise bad_request(ambiguity)
            route = targets.route(path)
            if route is None:
                area = "page"
                status = await self._page(exchange, path, query, forwarded, trace)
            else:
                area = route.service
                status = await self._serve(exchange, route, target, forwarded, single, trace)
        except Problem as problem:
            status = problem.status
            await self._refuse(exchange, problem, trace_id)
        except Unavailable as error:
            status = 503
            refusal = Problem(
                503,
                "unavailable",
                "Something this needs is down; try again shortly.",
                error.detail,
                retry_after_seconds=error.retry_after_seconds,
            )
            await self._refuse(exchange, refusal, trace_id)
        except UpstreamError as error:
            telemetry.logger().warning("answer_cut", service=area, error=str(error), trace_id=trace_id)
            return  # the connection is aborted, so that the cut answer cannot pass for a whole one
        if exchange.untimed or exchange.endless:
            area = "lasting"
        DURATIONS.observe(exchange.method, area, status, time.perf_counter() - started)

    async def _serve(
        self,
        exchange: Exchange,
        route: targets.Route,
        target: bytes,
        forwarded: list[bytes],
        single: dict[bytes, bytes],
        trace: bytes,
    ) -> int:
        means = self._means()
        if not means.access.current:
            raise Unavailable("the gateway cannot tell at the moment who was revoked")
        credential = _credential(single.get(b"authorization"))
        principal = means.access.known(credential) or await self._authenticate(means, credential, route)
        session = _session(single.get(SESSION_HEADER))
        if means.access.revoked(principal, session):
            raise Problem(
                403,
                "revoked",
                "This session, subject or key was revoked.",
                "responders stopped this session, subject or key; ask your security team",
            )
        decided = means.limiter.take(principal.limit_subject, principal.policy)
        if decided is None:
            try:
                decided = await means.limiter.acquire(principal.limit_subject, principal.policy)
            except LimitsUnavailable as error:
                raise Unavailable("rate limits cannot be counted at the moment") from error
        admitted, bucket = decided
        extra = bucket.headers(time.monotonic())
        if not admitted:
            raise Problem(
                429,
                "too-many-requests",
                "Too many requests.",
                f"{principal.policy.quota} requests in {principal.policy.window_seconds} s are allowed",
                retry_after_seconds=bucket.reset_seconds(time.monotonic()),
                headers=extra,
            )
        authorization = means.exchange.authorization(principal, route.service, session)
        if route.service == "gateway":
            return await self._call_own(exchange, route, forwarded, authorization, trace, extra)
        if route.untimed:
            means.lasting[exchange] = (principal, session)
        try:
            identity = (authorization, trace)
            return await self._forward(means, exchange, route, target, forwarded, single, identity, extra)
        finally:
            if route.untimed:
                del means.lasting[exchange]

    async def _forward(
        self,
        means: Means,
        exchange: Exchange,
        route: targets.Route,
        target: bytes,
        forwarded: list[bytes],
        single: dict[bytes, bytes],
        identity: tuple[bytes, bytes],
        extra: Headers,
    ) -> int:
        if not means.tracing:
            return await means.proxy.forward(exchange, route, target, forwarded, single, identity, extra)
        authorization, trace = identity
        with telemetry.span(f"{exchange.method} {route.service}", SpanKind.SERVER, parent=trace.decode()) as span:
            identity = (authorization, (telemetry.traceparent() or trace.decode()).encode())
            status = await means.proxy.forward(exchange, route, target, forwarded, single, identity, extra)
            span.set_attribute("http.response.status_code", status)
            return status

    async def _authenticate(self, means: Means, credential: str, route: targets.Route) -> Principal:
        if credential.startswith(keys.PREFIX):
            principal = await means.access.principal_of(credential)
            if principal is None:
                raise _unauthenticated("the API key is unknown, expired or revoked")
            return principal
        if route.service == "gateway" and _is_of_service(credential):
            try:
                caller = means.services.verify(credential)
            except Unauthenticated as error:
                raise _unauthenticated(error.detail) from error
            return means.service_principal(caller)
        try:
            return await means.tokens.principal_of(credential)
        except TokenRefused as error:
            raise _unauthenticated(str(error)) from error

    async def _call_own(
        self,
        exchange: Exchange,
        route: targets.Route,
        forwarded: list[bytes],
        authorization: bytes,
        trace: bytes,
        extra: Headers,
    ) -> int:
        body = await _whole_body(exchange, route.max_body_bytes)
        return await _dispatch(
            self._own, exchange, forwarded, [(b"authorization", authorization), (b"traceparent", trace)], body, extra
        )

    async def _page(self, exchange: Exchange, path: bytes, query: bytes, forwarded: list[bytes], trace: bytes) -> int:
        if path == b"/livez":
            return await _dispatch(self._own, exchange, forwarded, [(b"traceparent", trace)], b"", [])
        answer = await self._means().pages.answer(exchange.method, path, query, exchange.scope["headers"])
        headers = [
            *answer.headers,
            (b"content-length", b"%d" % len(answer.body)),
            (b"x-content-type-options", b"nosniff"),
        ]
        await exchange.send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": answer.body})
        return answer.status

    async def _refuse(self, exchange: Exchange, problem: Problem, trace_id: str) -> None:
        if exchange.responding:
            raise ClientGone from problem  # too late to say so: the answer is cut
        if problem.status in (401, 403) or problem.status >= 500:
            telemetry.logger().info(
                "refused",
                status=problem.status,
                kind=problem.kind,
                detail=problem.detail,
                client=(exchange.scope["client"] or ("",))[0],
                trace_id=trace_id,
            )
        await exchange.refuse(problem, trace_id or None)


def _credential(header: bytes | None) -> str:
    scheme, _, credential = (header or b"").partition(b" ")
    text = credential.strip().decode("ascii")  # sift let visible ASCII through only
    if scheme.lower() != b"bearer" or not text:
        raise _unauthenticated("send `Authorization: Bearer <API key or token>`", error=None)
    return text


def _unauthenticated(detail: str, error: str | None = "invalid_token") -> Problem:
    challenge = 'Bearer realm="colonnade"' + (f', error="{error}"' if error else "")
    return Problem(
        401,
        "unauthenticated",
        "Who you are could not be established.",
        detail,
        headers=[(b"www-authenticate", challenge.encode())],
    )


def _session(header: bytes | None) -> str | None:
    if header is None:
        return None
    if not 0 < len(header) <= _MAX_SESSION_BYTES:
        raise bad_request(f"Colonnade-Session may hold 1 to {_MAX_SESSION_BYTES} characters")
    return header.decode("ascii")


def _is_of_service(token: str) -> bool:
    """Whether a token claims to be one of our services' own; its claim is checked after this. Never the gateway's:
    those are made here, for others, and nobody has a reason to bring one back."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False
    return issuer in targets.SERVICES


async def _whole_body(exchange: Exchange, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    more = True
    declared = exchange.declared_bytes
    while more and (declared is None or declared <= limit_bytes) and size <= limit_bytes:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        more = message["more_body"]
    if more or size > limit_bytes:
        raise Problem(
            413,
            "too-large",
            "The request is larger than allowed.",
            f"the body may hold at most {limit_bytes} bytes here",
        )
    return b"".join(parts)


async def _dispatch(
    app: App, exchange: Exchange, forwarded: list[bytes], identity: Headers, body: bytes, extra: Headers
) -> int:
    """Let an application in this process answer, seeing no more than a service behind an address would."""
    seen = list(zip(forwarded[0::4], forwarded[2::4], strict=True)) + identity
    if body:
        seen.append((b"content-length", b"%d" % len(body)))
    path = exchange.scope["raw_path"].decode("ascii")
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError as error:
        raise bad_request("the path is not UTF-8") from error
    scope = {**exchange.scope, "path": decoded, "headers": seen, "extensions": {}}
    status = 500
    delivered = False

    async def receive() -> Message:
        nonlocal delivered
        if not delivered:
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await exchange.receive()

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(name.lower(), value) for name, value in message["headers"]]
            headers += [*extra, (b"x-content-type-options", b"nosniff")]
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await exchange.send(message)

    run: Awaitable[None] = app(scope, receive, send)
    await run
    return status
