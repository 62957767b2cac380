"""What a message of the telemetry stream holds: interactions to be inspected, and for whom.

A private format between processes of one service and one release before or after: unknown members are ignored.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from services.detection.domain.interaction import Interaction, Segment
from shared.auth import Caller
from shared.contracts.detection import Direction

STREAM = "TELEMETRY"
IN_STREAM = "TELEMETRY_IN"
"""What others publish. It has bounds of its own, since it is emptied into the other one."""
PARTITIONS = 16
INTAKE = PARTITIONS
"""The unit of work beside the partitions: sorting what others publish into them."""
UNITS = tuple(range(PARTITIONS + 1))
IN = "telemetry.in."
MESSAGE_BYTES = 512 * 1024
"""Above this a message takes no more items; one item may be larger, up to what the server takes."""


class Malformed(ValueError):
    """Not a message of ours."""


def subject_of(unit: int) -> str:
    return f"{IN}>" if unit == INTAKE else f"telemetry.detection.{unit}"


@dataclass(frozen=True, slots=True)
class Item:
    """One interaction on its way to the reader of its partition.

    Attributes:
        trace_id: what it belongs to when no session is named.
        count_key, content_key: eight bytes; equal for the same event told again. None of what is told once.
        recalled: for each segment, whether it may be history that the session has seen.
        observed: it was inspected when it came in; only the session's trackers have not seen it.
    """

    interaction: Interaction
    inspection_id: UUID
    trace_id: str = ""
    traceparent: str | None = None
    count_key: bytes | None = None
    content_key: bytes | None = None
    recalled: tuple[bool, ...] = ()
    observed: bool = False


@dataclass(frozen=True, slots=True)
class Parcel:
    """The items of a message, who sent them and when they came in, in seconds since the epoch."""

    caller: Caller
    at: float
    items: tuple[Item, ...]


def key_of(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()


def session_key_of(interaction: Interaction) -> str | None:
    """What a session is called among those of all assets and teams: ids are the senders' own."""
    if interaction.session_id is None:
        return None
    return f"{interaction.asset_id or ''}@{interaction.team}|{interaction.session_id}"


def partition_of(interaction: Interaction, trace_id: str = "") -> int:
    """Where an interaction belongs: all of a session in one place, else all of an actor, else all of a trace."""
    if interaction.session_id is not None:
        place = f"session {session_key_of(interaction)}"
    elif interaction.actor is not None:
        place = f"actor {interaction.asset_id or ''}@{interaction.team}|{interaction.actor}"
    else:
        place = f"trace {trace_id}"
    return zlib.crc32(place.encode("utf-8", "replace")) % PARTITIONS


def encode_item(item: Item) -> bytes:
    one = item.interaction
    document: dict[str, Any] = {
        "id": item.inspection_id.hex,
        "d": one.direction.value,
        "s": [[segment.field, segment.direction.value, segment.text] for segment in one.segments],
    }
    optional = {
        "asset": one.asset_id.hex if one.asset_id else None,
        "session": one.session_id,
        "actor": one.actor,
        "tool": one.tool,
        "model": one.model,
        "tokens": one.tokens,
        "cost": one.cost_usd,
        "team": one.team,
        "uncounted": not one.counts,
        "failed": one.failed,
        "tools": {str(at): segment.tool for at, segment in enumerate(one.segments) if segment.tool},
        "trace": item.trace_id,
        "parent": item.traceparent,
        "ck": item.count_key.hex() if item.count_key else None,
        "xk": item.content_key.hex() if item.content_key else None,
        "old": [at for at, old in enumerate(item.recalled) if old],
        "observed": item.observed,
    }
    document |= {name: value for name, value in optional.items() if value}
    return orjson.dumps(document)


def encode(caller: Caller, at: float, items: Sequence[bytes]) -> bytes:
    """A message of items that are encoded already."""
    teams = None if caller.teams is None else sorted(caller.teams)
    head = orjson.dumps({"by": [caller.subject, caller.kind, teams], "at": at})
    return head[:-1] + b',"items":[' + b",".join(items) + b"]}"


def decode(payload: bytes) -> Parcel:
    """
    Raises:
        Malformed
    """
    try:
        document = orjson.loads(payload)
        subject, kind, teams = document["by"]
        caller = Caller(subject, kind, teams=None if teams is None else frozenset(teams))
        return Parcel(caller, float(document["at"]), tuple(_item(one) for one in document["items"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(repr(error)) from error


def _item(one: dict[str, Any]) -> Item:
    tools = one.get("tools", {})
    segments = tuple(
        Segment(field, Direction(direction), text, tool=tools.get(str(at)))
        for at, (field, direction, text) in enumerate(one["s"])
    )
    old = frozenset(one.get("old", ()))
    return Item(
        interaction=Interaction(
            direction=Direction(one["d"]),
            segments=segments,
            asset_id=UUID(one["asset"]) if "asset" in one else None,
            session_id=one.get("session"),
            actor=one.get("actor"),
            tool=one.get("tool"),
            model=one.get("model"),
            tokens=one.get("tokens", 0),
            cost_usd=one.get("cost", 0.0),
            team=one.get("team", ""),
            counts=not one.get("uncounted", False),
            failed=one.get("failed", False),
        ),
        inspection_id=UUID(one["id"]),
        trace_id=one.get("trace", ""),
        traceparent=one.get("parent"),
        count_key=bytes.fromhex(one["ck"]) if "ck" in one else None,
        content_key=bytes.fromhex(one["xk"]) if "xk" in one else None,
        recalled=tuple(at in old for at in range(len(segments))),
        observed=one.get("observed", False),
    )
