"""One OpenAPI document out of the services' own."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

Document = dict[str, Any]

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_PREFIX = "#/components/"

_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}
_LIMITS = {
    "RateLimit-Policy": {"description": 'Your limit, e.g. `"key";q=60000;w=60`.', "schema": {"type": "string"}},
    "RateLimit": {"description": 'What is left of it, e.g. `"key";r=59990;t=42`.', "schema": {"type": "string"}},
}

#: What the gateway itself may answer for any operation.
RESPONSES: Mapping[str, Document] = {
    "400": {"description": "The request is not well formed.", "content": _PROBLEM},
    "401": {"description": "Who you are could not be established.", "content": _PROBLEM},
    "403": {"description": "Your scopes or teams do not allow this, or you were revoked.", "content": _PROBLEM},
    "404": {"description": "No such thing, or none that you may know of.", "content": _PROBLEM},
    "408": {"description": "The request took too long to arrive.", "content": _PROBLEM},
    "413": {"description": "The request is larger than allowed.", "content": _PROBLEM},
    "414": {"description": "The request target is too long.", "content": _PROBLEM},
    "429": {"description": "Too many requests.", "content": _PROBLEM, "headers": {**_RETRY_AFTER, **_LIMITS}},
    "431": {"description": "The request headers are too large.", "content": _PROBLEM},
    "502": {"description": "The service's answer could not be read.", "content": _PROBLEM},
    "503": {
        "description": "Something this needs is down; try again after Retry-After.",
        "content": _PROBLEM,
        "headers": _RETRY_AFTER,
    },
    "504": {"description": "The service did not answer in time.", "content": _PROBLEM, "headers": _RETRY_AFTER},
}


def merge(documents: Mapping[str, Document], *, title: str, version: str, description: str) -> Document:
    """Join the documents of services into one of the whole.

    Components of equal name are shared when they and everything they refer to are equal, otherwise the later one is
    renamed `<Service>_<Name>`. Only paths below /v1 are taken; the first service that claims a path keeps it.
    """
    merged: Document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [],
        "paths": {},
        "components": {},
    }
    origins: dict[tuple[str, str], tuple[Document, str]] = {}
    operation_ids: set[str] = set()
    tags: dict[str, None] = {}
    for service, document in documents.items():
        document = copy.deepcopy(document)
        renamed: dict[str, str] = {}
        for kind, components in document.get("components", {}).items():
            for name in components:
                renamed[f"{kind}/{name}"] = f"{kind}/{_place(origins, document, service, kind, name)}"
        _rewrite(document, renamed)
        for kind, components in document.get("components", {}).items():
            for name, component in components.items():
                final = renamed[f"{kind}/{name}"].partition("/")[2]
                merged["components"].setdefault(kind, {}).setdefault(final, component)
        for path, item in document.get("paths", {}).items():
            if path.startswith("/v1/") and path not in merged["paths"]:
                merged["paths"][path] = item
                _complete(item, service, operation_ids, tags)
    merged["tags"] = [{"name": tag} for tag in tags]
    merged["components"].setdefault("securitySchemes", {})["bearer"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "A Colonnade API key (`cln_...`) or an access token of a configured issuer.",
    }
    return merged


def _complete(item: Document, service: str, operation_ids: set[str], tags: dict[str, None]) -> None:
    for method, operation in item.items():
        if method not in _METHODS:
            continue
        name = operation.get("operationId")
        if name is not None:
            if name in operation_ids:
                operation["operationId"] = name = f"{service}_{name}"
            operation_ids.add(name)
        tags.update(dict.fromkeys(operation.setdefault("tags", [service])))
        operation["x-service"] = service
        operation["security"] = [{"bearer": []}]  # whatever the service says, the gateway lets nobody else through
        responses = operation.setdefault("responses", {})
        for status, response in RESPONSES.items():
            present = responses.setdefault(status, copy.deepcopy(response))
            for part in ("content", "headers"):
                if part in response and part not in present:
                    present[part] = copy.deepcopy(response[part])


def _place(
    origins: dict[tuple[str, str], tuple[Document, str]], document: Document, service: str, kind: str, name: str
) -> str:
    """The merged name of a component, claimed for it."""
    for candidate in (name, f"{service.capitalize()}_{name}"):
        taken = origins.setdefault((kind, candidate), (document, name))
        if taken[0] is document and taken[1] == name:
            return candidate
        if _closure(taken[0], kind, taken[1]) == _closure(document, kind, name):
            return candidate
    raise ValueError(f"{service} has two components that would both be named {service.capitalize()}_{name}")


def _closure(document: Document, kind: str, name: str) -> dict[str, str]:
    """A component and everything it refers to, as text by name."""
    found: dict[str, str] = {}
    waiting = [f"{kind}/{name}"]
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        component_kind, _, component_name = place.partition("/")
        component = document["components"].get(component_kind, {}).get(component_name)
        found[place] = json.dumps(component, sort_keys=True)
        waiting += [ref["$ref"].removeprefix(_PREFIX) for ref in _references(component)]
    return found


def _references(node: Any) -> Iterator[Document]:
    """Every object with a reference to a component below `node`."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str) and node["$ref"].startswith(_PREFIX):
            yield node
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _rewrite(document: Document, renamed: Mapping[str, str]) -> None:
    for reference in list(_references(document)):
        place = reference["$ref"].removeprefix(_PREFIX)
        reference["$ref"] = _PREFIX + renamed.get(place, place)
    for mapping in _discriminators(document):
        for key, value in mapping.items():
            place = value.removeprefix(_PREFIX)
            mapping[key] = _PREFIX + renamed.get(place, place)


def _discriminators(node: Any) -> Iterator[dict[str, str]]:
    """Discriminator mappings hold references as plain strings."""
    if isinstance(node, dict):
        discriminator = node.get("discriminator")
        if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
            yield discriminator["mapping"]
        for value in node.values():
            yield from _discriminators(value)
    elif isinstance(node, list):
        for value in node:
            yield from _discriminators(value)
