"""Writes docs/asyncapi.yaml (AsyncAPI 3.1) from the contracts and the services that consume them.

`python -m docs.asyncapi` writes it; with `--check` it fails when the file is stale.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import Any

import yaml

from shared import contracts
from shared.consumer import Consumers
from shared.contracts.envelope import Event, source_of, stream_of

TARGET = Path(__file__).parent / "asyncapi.yaml"
SERVICES = ("inventory", "risk", "detection", "incidents", "governance", "metrics")


def event_types() -> list[type[Event]]:
    """Every event of every contract module, by type."""
    found: dict[str, type[Event]] = {}
    for module in pkgutil.iter_modules(contracts.__path__):
        members = vars(importlib.import_module(f"shared.contracts.{module.name}")).values()
        for member in members:
            if inspect.isclass(member) and issubclass(member, Event) and "TYPE" in vars(member):
                found[member.TYPE] = member
    return [found[name] for name in sorted(found)]


def consumers_of() -> dict[str, list[str]]:
    """Type -> services that consume it."""
    heard: dict[str, list[str]] = {}
    for service in SERVICES:
        consumers: Consumers = importlib.import_module(f"services.{service}.events").consumers
        for types in consumers.subjects.values():
            for event_type in types:
                heard.setdefault(event_type, []).append(service)
    return heard


def _schema_ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def document() -> dict[str, Any]:
    """The whole document."""
    heard = consumers_of()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for event in event_types():
        name = event.__name__
        schema = event.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas.update(schema.pop("$defs", {}))
        schemas[name] = schema
        messages[name] = {
            "name": name,
            "title": inspect.cleandoc(event.__doc__ or "").split("\n", 1)[0],
            "contentType": "application/cloudevents+json",
            "payload": {
                "allOf": [
                    _schema_ref("CloudEvent"),
                    {
                        "type": "object",
                        "properties": {"type": {"const": event.TYPE}, "data": _schema_ref(name)},
                        "required": ["data"],
                    },
                ]
            },
        }
        channels[name] = {
            "address": event.TYPE,
            "description": f"Stream {stream_of(event.TYPE)}, consumed by: {', '.join(heard.get(event.TYPE, ['-']))}.",
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{source_of(event.TYPE)}.publishes.{name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
        }
        for service in heard.get(event.TYPE, []):
            operations[f"{service}.consumes.{name}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{name}"},
            }
    schemas["CloudEvent"] = {
        "type": "object",
        "description": "CloudEvents 1.0, structured JSON. Several of one type may travel as a JSON array.",
        "required": ["specversion", "id", "source", "type", "subject", "time", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid"},
            "source": {"type": "string"},
            "type": {"type": "string"},
            "subject": {"type": "string", "description": "Id of the aggregate."},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "traceparent": {"type": "string", "description": "W3C Trace Context of what caused the event."},
        },
    }
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Colonnade events",
            "version": "1.0.0",
            "description": "What the services announce, on NATS JetStream.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def render() -> str:
    text = yaml.safe_dump(document(), sort_keys=True, allow_unicode=True, width=120)
    return "# Written by `make docs` from shared/contracts; do not edit.\n" + text


def main() -> None:
    text = render()
    if "--check" not in sys.argv:
        TARGET.write_text(text)
    elif not TARGET.exists() or TARGET.read_text() != text:
        sys.exit("docs/asyncapi.yaml is stale: run `make docs`")


if __name__ == "__main__":
    main()
