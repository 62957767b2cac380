"""Events, and the CloudEvents 1.0 envelope they travel in.

An event class is a fact with a name: `ev.<service>.<noun>.<past verb>.v<N>` is its CloudEvents type and its NATS
subject at once. The same structured-JSON bytes lie in the producer's outbox and in the stream.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """Data of an event. Fields that a newer producer added are dropped on reading; the raw bytes keep them."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_enum_values=False)


class Event(Contract):
    """A fact that a service announces about one of its aggregates.

    `version` is the aggregate's version after the change: a consumer's copy skips what is not newer. Subclasses name
    their CloudEvents type in TYPE and the field that identifies the aggregate in SUBJECT.
    """

    TYPE: ClassVar[str]
    SUBJECT: ClassVar[str]

    version: int
    occurred_at: datetime

    @property
    def aggregate_id(self) -> str:
        value: Any = self
        for part in self.SUBJECT.split("."):
            value = getattr(value, part)
        return str(value)


def source_of(event_type: str) -> str:
    """The service that alone may publish this type: its second segment."""
    return event_type.split(".", 2)[1]


def stream_of(event_type: str) -> str:
    """JetStream stream of this type: one a producing service, its name in capitals."""
    return source_of(event_type).upper()


class Malformed(ValueError):
    """The bytes are no CloudEvent of ours."""


class Envelope:
    """One CloudEvent, its data not yet interpreted."""

    __slots__ = ("data", "id", "source", "subject", "time", "traceparent", "type")

    def __init__(
        self, *, id: UUID, source: str, type: str, subject: str, time: datetime, traceparent: str | None, data: Any
    ) -> None:
        self.id = id
        self.source = source
        self.type = type
        self.subject = subject
        self.time = time
        self.traceparent = traceparent
        self.data = data

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read one parsed CloudEvent.

        Raises:
            Malformed: a required attribute is missing or is not of its type.
        """
        try:
            if document["specversion"] != "1.0":
                raise Malformed(f"specversion {document['specversion']!r} is not 1.0")
            return cls(
                id=UUID(document["id"]),
                source=document["source"],
                type=document["type"],
                subject=document["subject"],
                time=datetime.fromisoformat(document["time"]),
                traceparent=document.get("traceparent"),
                data=document["data"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Malformed(f"not a CloudEvent: {error!r}") from error


def encode(event: Event, *, event_id: UUID, traceparent: str | None) -> bytes:
    """The event as one structured-mode CloudEvent.

    Assembled from parts because pydantic's serialiser already gives JSON: building a dictionary around it and
    serialising again costs twice.
    """
    head: dict[str, str] = {
        "specversion": "1.0",
        "id": str(event_id),
        "source": f"/colonnade/{source_of(event.TYPE)}",
        "type": event.TYPE,
        "subject": event.aggregate_id,
        "time": event.occurred_at.isoformat(),
        "datacontenttype": "application/json",
    }
    if traceparent:
        head["traceparent"] = traceparent
    data = event.__pydantic_serializer__.to_json(event)
    return orjson.dumps(head)[:-1] + b',"data":' + data + b"}"


def decode(payload: bytes) -> list[Envelope]:
    """The events of one stream message: a single CloudEvent or a JSON batch of them.

    Raises:
        Malformed: the payload is not JSON, or an entry is no CloudEvent.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from error
    entries = document if isinstance(document, list) else [document]
    return [Envelope.of(entry) for entry in entries]
