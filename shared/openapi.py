"""The OpenAPI document of an application, with what all routes share said once for each."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from shared.auth import PUBLIC, scope_of
from shared.problems import Problem

_BEARER = {"type": "http", "scheme": "bearer", "description": "A Colonnade API key or an OIDC access token."}
_COMMON = {
    "400": "The request could not be read.",
    "401": "Who you are could not be established.",
    "403": "Your scopes or teams do not allow this.",
    "404": "No such thing, or none that you may know of.",
    "405": "This method is not offered here.",
    "422": "A field or parameter is not valid; `errors` names it.",
    "429": "Too many requests.",
    "503": "Something this needs is down; try again after Retry-After.",
}
_WRITING = {
    "409": "The current state forbids it.",
    "412": "It was changed in the meantime.",
    "413": "The body is larger than allowed.",
    "415": "Send application/json.",
    "428": "Send If-Match.",
}


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` tell of security and problems on every operation."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _complete(document, app)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _complete(document: dict[str, Any], app: FastAPI) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    components["securitySchemes"] = {"bearer": _BEARER}
    scopes = {
        (route.path_format, method.lower()): scope_of(route.endpoint)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    for path, operations in document.get("paths", {}).items():
        for method, operation in operations.items():
            _complete_operation(operation, scopes.get((path, method)), writing=method != "get")


def _complete_operation(operation: dict[str, Any], scope: str | None, *, writing: bool) -> None:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = operation.setdefault("responses", {})
    for status, description in {**_COMMON, **(_WRITING if writing else {})}.items():
        described = responses.get(status)
        if described is None or "HTTPValidationError" in str(described):
            responses[status] = {"description": description, "content": content}
        elif "content" not in described:
            described["content"] = content
    if scope is not None and scope != PUBLIC:
        operation["security"] = [{"bearer": []}]
        operation["x-scope"] = scope
