"""HTTP manners that all services share: who may call a route, how bodies are read, versions and replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from shared import auth
from shared.errors import Forbidden, Invalid, PreconditionFailed, PreconditionRequired, TooLarge, Unauthenticated
from shared.problems import BODY
from shared.strictjson import NotStrictJson, loads
from shared.tokens import Caller


class UndeclaredScope(RuntimeError):
    """A route says nothing about who may call it; the application does not start."""


class MalformedJson(Invalid):
    """The body is not JSON as we read it."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it is longer than `limit_bytes`; reading stopped there.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise TooLarge(f"the body may hold at most {limit_bytes} bytes", limit_bytes=limit_bytes)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise TooLarge(f"the body may hold at most {limit_bytes} bytes", limit_bytes=limit_bytes)
        parts.append(part)
    return b"".join(parts)


def _is_json(content_type: str) -> bool:
    media_type = content_type.split(";", 1)[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def authenticate(request: Request) -> Caller:
    """The caller that the bearer token names.

    Raises:
        Unauthenticated: there is no token, or none that counts here.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send `Authorization: Bearer <token>`")
    caller: Caller = request.app.state.runtime.verifier.verify(token.strip())
    return caller


class SecuredRoute(APIRoute):
    """A route that checks caller, scope, parameters and body, in this order, before anything else sees the request.

    A GET route answers HEAD too. It is not among its `methods`, for the API's description would list each twice.

    Set on the endpoint function: `body_limit_bytes` to differ from the service's setting.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "method": "GET"} if self._is_head(scope) else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_head(scope):
            await super().handle({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await super().handle(scope, receive, send)

    def _is_head(self, scope: Scope) -> bool:
        return scope.get("method") == "HEAD" and "GET" in (self.methods or ())

    def get_route_handler(self) -> Callable[[Request], Any]:
        scope = auth.scope_of(self.endpoint)
        if scope is None:
            raise UndeclaredScope(
                f"{self.path} ({self.endpoint.__module__}.{self.endpoint.__name__}) declares no scope"
            )
        inner: Callable[[Request], Awaitable[Response]] = super().get_route_handler()
        own_limit: int | None = getattr(self.endpoint, "body_limit_bytes", None)
        reads_body = self.body_field is not None
        queries = [field for field in get_flat_params(self.dependant) if isinstance(field.field_info, Query)]
        many = {field.alias for field in queries if "list[" in str(field.field_info.annotation)}
        known = {field.alias for field in queries}

        async def handle(request: Request) -> Response:
            if scope != auth.PUBLIC:
                caller = authenticate(request)
                if scope not in caller.scopes:
                    raise Forbidden(f"this needs the scope {scope}", scope=scope)
                request.state.caller = caller
            if request.scope["query_string"]:
                _check_query(request, known, many)
            if reads_body:
                await _read_json(request, own_limit or request.app.state.runtime.settings.body_limit_bytes)
            return await inner(request)

        return handle


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        # The answer ends here and not with the body, which a stream of events never would.
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return send_head


def _check_query(request: Request, known: set[str], many: set[str]) -> None:
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise Invalid(f"there is no parameter {name!r} here", field=name)
        if name in seen and name not in many:
            raise Invalid(f"the parameter {name!r} is given twice", field=name)
        if "\0" in value:
            raise Invalid("a NUL character is not allowed", field=name)
        seen.add(name)


async def _read_json(request: Request, limit_bytes: int) -> None:
    content_type = request.headers.get("content-type", "")
    body = await read_body(request, limit_bytes)
    if body and not _is_json(content_type):
        raise HTTPException(415, "send application/json")
    # Starlette's own caches: what reads the body after us gets these bytes and this document.
    request._body = body
    if body:
        try:
            request._json = loads(body)
        except NotStrictJson as error:
            raise MalformedJson(f"the body cannot be read: {error}", field=error.pointer or BODY) from error


async def _if_match(
    if_match: Annotated[
        str | None, Header(description='The ETag you are changing, e.g. `"3"`; `*` changes whatever is there.')
    ] = None,
) -> int | None:
    if if_match is None:
        raise PreconditionRequired("send If-Match with the ETag that you read")
    if if_match.strip() == "*":
        return None
    tag = if_match.strip().strip('"')
    if not tag.isascii() or not tag.isdigit() or len(tag) > 18:
        raise PreconditionFailed(f"{if_match!r} is no ETag of this resource")
    return int(tag)


IfMatch = Annotated[int | None, Depends(_if_match)]
"""Version that the caller means to change; None when any will do. Absent is 428."""


def check_version(current: int, expected: int | None) -> None:
    """Refuse a change of a version that is not the current one.

    Raises:
        PreconditionFailed: somebody else changed it.
    """
    if expected is not None and expected != current:
        raise PreconditionFailed(f'the current version is "{current}"', current_version=current)


def reply(
    view: BaseModel | None,
    *,
    status: int = 200,
    etag: int | None = None,
    location: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A view as a JSON response, serialised by pydantic at once (FastAPI would validate it a second time)."""
    sent = dict(headers or {})
    if etag is not None:
        sent["ETag"] = f'"{etag}"'
    if location is not None:
        sent["Location"] = location
    if view is None:
        return Response(status_code=status, headers=sent)
    return Response(view.__pydantic_serializer__.to_json(view), status, sent, media_type="application/json")
