"""Contracts stay what they are: each event has a golden CloudEvent, kept beside this file, that must go on being read.

A new event gets its golden with `python -m tests.test_contracts`, which writes the missing ones and touches no other.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from uuid import UUID

import pytest
from pydantic import BaseModel

from docs.asyncapi import event_types
from shared.contracts.envelope import Event, Malformed, decode, encode, source_of

GOLDEN = Path(__file__).parent / "contracts"
_ID = UUID("01936e1c-0000-7000-8000-000000000001")
_TIME = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)


def sample(annotation: Any) -> Any:
    """A plain value of an annotated type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return sample(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return (sample(arguments[0]),)
    if origin is dict:
        return {"data_sensitivity": sample(arguments[1])}
    if isinstance(annotation, type):
        if issubclass(annotation, Enum):
            return next(iter(annotation))
        if issubclass(annotation, BaseModel):
            return annotation(**{name: sample(field.annotation) for name, field in annotation.model_fields.items()})
    return {UUID: _ID, datetime: _TIME, date: _TIME.date(), int: 1, float: 53.44, bool: True, str: "text"}[annotation]


def golden_of(event: type[Event]) -> Path:
    return GOLDEN / f"{event.TYPE}.json"


@pytest.mark.parametrize("event", event_types(), ids=lambda event: event.TYPE)
def test_a_golden_event_is_read_and_written_as_ever(event: type[Event]) -> None:
    text = golden_of(event).read_bytes()
    (envelope,) = decode(text)
    assert envelope.type == event.TYPE
    assert envelope.source == f"/colonnade/{source_of(event.TYPE)}"
    read = event.model_validate(envelope.data)
    assert envelope.subject == read.aggregate_id
    again = encode(read, event_id=envelope.id, traceparent=envelope.traceparent)
    assert json.loads(again) == json.loads(text)


@pytest.mark.parametrize("event", event_types(), ids=lambda event: event.TYPE)
def test_fields_of_a_newer_producer_are_tolerated(event: type[Event]) -> None:
    (envelope,) = decode(golden_of(event).read_bytes())
    assert event.model_validate({**envelope.data, "added_later": {"deep": [1]}}).version == envelope.data["version"]


@pytest.mark.parametrize("event", event_types(), ids=lambda event: event.TYPE)
def test_types_are_named_service_noun_past_verb_version(event: type[Event]) -> None:
    assert event.TYPE.count(".") == 4
    assert event.TYPE.startswith("ev.")
    assert event.TYPE.endswith(".v1")
    assert source_of(event.TYPE) == event.__module__.rsplit(".", 1)[1]


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"specversion":"0.3"}', b"\xff", b'"text"', b"null"])
def test_what_is_no_cloudevent_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        decode(text)


def write_missing() -> None:
    for event in event_types():
        target = golden_of(event)
        if not target.exists():
            made = event(**{name: sample(field.annotation) for name, field in event.model_fields.items()})
            text = encode(made, event_id=_ID, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            target.write_text(json.dumps(json.loads(text), indent=2) + "\n")


if __name__ == "__main__":
    write_missing()
