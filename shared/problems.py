"""Errors as RFC 9457 problems; the only place that knows status codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson
import sqlalchemy.exc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Route

from shared import errors, telemetry
from shared.database import cause_of, is_outage

STATUS: dict[type[errors.DomainError], int] = {
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.Invalid: 422,
    errors.PreconditionRequired: 428,
    errors.TooManyRequests: 429,
    errors.Unavailable: 503,
    errors.DomainError: 400,
}

_TITLES = {
    400: "The request could not be read.",
    404: "No such thing, or none that you may know of.",
    405: "This method is not offered here.",
    406: "No such representation.",
    413: "The request is larger than allowed.",
    415: "This media type is not understood here.",
    422: "The request is not valid.",
    500: "Something went wrong on our side.",
}


BODY = "body"
"""What an error of the whole body names, where others have a field's pointer."""


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="JSON Pointer into the body, `body` for all of it, or the name of a parameter.")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="Stable URI of this kind of problem.")
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    errors: list[FieldError] | None = None
    trace_id: str | None = None


def _slug(error: type[BaseException]) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", error.__name__).lower()


def status_of(error: errors.DomainError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def document(
    status: int,
    *,
    type: str = "about:blank",
    title: str | None = None,
    detail: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A problem as the JSON object that is sent, with the trace it happened in.

    Args:
        extra: members of this kind of problem; none replaces one of RFC 9457's own.
    """
    body: dict[str, Any] = {
        "type": type,
        "title": title or _TITLES.get(status, "The request failed."),
        "status": status,
    }
    if detail:
        body["detail"] = detail
    for name, value in (extra or {}).items():
        if value not in (None, []):
            body.setdefault(name, value)
    trace_id = telemetry.trace_id()
    if trace_id:
        body["trace_id"] = trace_id
    return body


def document_of(error: errors.DomainError) -> dict[str, Any]:
    """The problem of a refusal; its title is the first line of the class's docstring."""
    title = (type(error).__doc__ or "").strip().split("\n", 1)[0]
    return document(
        status_of(error),
        type=f"urn:colonnade:problem:{_slug(type(error))}",
        title=title,
        detail=error.detail,
        extra=error.extra,
    )


def respond(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    # A detail may quote what the caller sent; what UTF-8 cannot carry must not turn the answer into a 500.
    try:
        content = orjson.dumps(body, default=str)
    except (TypeError, orjson.JSONEncodeError):
        content = orjson.dumps({name: repr(value) for name, value in body.items()} | {"status": body["status"]})
    return Response(content, body["status"], headers, media_type="application/problem+json")


def response_of(error: errors.DomainError) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unavailable | errors.TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return respond(document_of(error), headers)


def field_errors(details: Any, body: Any = None) -> list[dict[str, str]]:
    """pydantic's errors as fields: JSON Pointers into a body (`body` for all of it), plain names for parameters.

    Args:
        body: what was validated; with it, pointers have no parts that are pydantic's own, such as a union's members.
    """
    found = []
    for detail in details:
        location = list(detail["loc"])
        if location and location[0] in {"query", "path", "header"}:
            field = ".".join(map(str, location[1:]))
        else:
            parts = location[1:] if location and location[0] == "body" else location
            if body is not None:
                parts = _within(body, parts, missing=detail["type"] == "missing")
            field = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts) or BODY
        found.append({"field": field, "message": detail["msg"]})
    return found


def _within(body: Any, location: list[int | str], *, missing: bool) -> list[int | str]:
    """The parts of a location that lead through `body`, and the last one of a `missing` field, which is not there."""
    parts = []
    for at, part in enumerate(location):
        here = part in body if isinstance(body, dict) else isinstance(body, list) and part in range(len(body))
        if here:
            body = body[part]
        if here or (missing and at == len(location) - 1):
            parts.append(part)
    return parts


def data_error(error: BaseException) -> errors.DomainError | None:
    """A value that PostgreSQL refused as data: the caller's fault, not ours. None for anything else."""
    cause = cause_of(error)
    if isinstance(cause, asyncpg.CharacterNotInRepertoireError | asyncpg.UntranslatableCharacterError):
        return errors.Invalid("a text holds a character that cannot be stored")
    if isinstance(cause, asyncpg.NumericValueOutOfRangeError):
        return errors.Invalid("a number is out of range")
    return None


def _offered_methods(request: Request) -> list[str]:
    """All methods of a path; Starlette names only those of the first route that has the path."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    # Not of every route that matches: /rules/test is no rule of the name "test".
    first = next((route.path for route in routes if route.matches(request.scope)[0] != Match.NONE), None)
    offered = {method for route in routes if route.path == first for method in route.methods or ()}
    return sorted(offered | {"HEAD"} if "GET" in offered else offered)


def install(app: FastAPI) -> None:
    """Answer every exception of `app` with a problem."""

    async def on_refusal(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.DomainError)
        return response_of(error)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = field_errors(error.errors(), error.body)
        first = fields[0] if fields else {"field": BODY, "message": "not valid"}
        return response_of(errors.Invalid(f"{first['field']}: {first['message']}", errors=fields))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_offered_methods(request))
        return respond(document(error.status_code, detail=str(error.detail)), headers)

    async def on_client_gone(_request: Request, _error: Exception) -> Response:
        # Nobody hears it; nginx's number for it keeps it apart from faults in metrics.
        return Response(status_code=499)

    async def on_fault(request: Request, error: Exception) -> Response:
        if is_outage(error):
            telemetry.logger().warning("database_unavailable", path=request.url.path, error=repr(cause_of(error)))
            return response_of(errors.Unavailable("the database cannot be reached or is too busy"))
        refusal = data_error(error)
        if refusal is not None:
            return response_of(refusal)
        telemetry.logger().error("unhandled", path=request.url.path, exc_info=error)
        return respond(document(500, detail="The fault is logged under this trace id."))

    app.add_exception_handler(errors.DomainError, on_refusal)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_client_gone)
    # These get handlers of their own, since Starlette re-raises what only the handler of `Exception` catches.
    for kind in (sqlalchemy.exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, Exception):
        app.add_exception_handler(kind, on_fault)
