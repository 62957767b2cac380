"""Telemetry taken in: records of applications become interactions in the stream, each under the asset it belongs to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from services.detection.application.live import Live
from services.detection.application.reach import team_of
from services.detection.domain.genai import Reading, Record, Told, read
from services.detection.domain.interaction import Interaction
from services.detection.publisher import Publisher
from services.detection.wire import Item, key_of
from shared.auth import Caller

_NAMESPACE = UUID("0b0f2c57-64a0-4a3c-9f0e-6a55b0a0c0de")
_TURN = 100
"""Records after which others get a turn."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a request's records.

    Attributes:
        rejected: records that nobody will look at; `reason` says why, or warns of what is otherwise not as asked.
    """

    told: int
    ignored: int
    rejected: int
    reason: str = ""


async def take_in(records: Iterable[Record], caller: Caller, memory: Live, publisher: Publisher) -> Taken:
    """Store what the records tell of models in the stream; returns when it is stored.

    A record belongs to the asset that its `colonnade.asset_id` names; else to the one asset named as its agent or
    service that the caller may see; else to the caller's team. One that names no session takes that of its trace, as
    far as the same request tells it: spans of tools seldom repeat the conversation.

    Raises:
        Unavailable: the stream takes nothing now.
        Exception: what the iterable raises; nothing was stored then.
    """
    told: list[Told] = []
    total = 0
    for record in records:
        total += 1
        if total % _TURN == 0:
            await asyncio.sleep(0)
        one = read(record)
        if one is not None:
            told.append(one)
    if not told:
        return Taken(0, total, 0)
    sessions, actors = _of_traces(told)
    explicit, hidden = await _explicit(told, caller, memory)
    names = dict.fromkeys(name for one in told if one.asset_id is None for name in one.names)
    named = await memory.named(caller, list(names)) if names else {}
    ambiguous = caller.teams is not None and len(caller.teams) > 1
    items: list[Item] = []
    rejected = 0
    for number, one in enumerate(told):
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        asset_id = explicit.get(one.asset_id or "") or next((named[name] for name in one.names if name in named), None)
        if asset_id is None and ambiguous:
            rejected += 1
            continue
        session_id = one.session_id or sessions.get(one.trace_id)
        actor = one.actor or actors.get(one.trace_id)
        items += [
            _item(one, reading, asset_id, session_id, actor, team_of(caller)) for reading in one.readings
        ]  # fmt: skip
    if items:
        await publisher.publish(Caller(caller.subject, caller.kind, teams=caller.teams), time.time(), items)
    reason = ""
    if rejected:
        reason = "your key is bound to several teams: name the asset in colonnade.asset_id"
    elif hidden:
        reason = f"inspected without asset, for there is no asset {', '.join(sorted(hidden)[:3])}"
    return Taken(len(told) - rejected, total - len(told), rejected, reason)


def _of_traces(told: Sequence[Told]) -> tuple[dict[str, str], dict[str, str]]:
    sessions = {one.trace_id: one.session_id for one in told if one.trace_id and one.session_id}
    actors = {one.trace_id: one.actor for one in told if one.trace_id and one.actor}
    return sessions, actors


async def _explicit(told: Sequence[Told], caller: Caller, memory: Live) -> tuple[dict[str, UUID], set[str]]:
    """Assets by how records name them, and the names that are none the caller may know of."""
    given: dict[str, UUID | None] = {}
    for one in told:
        if one.asset_id is not None and one.asset_id not in given:
            try:
                given[one.asset_id] = UUID(one.asset_id)
            except ValueError:
                given[one.asset_id] = None
    wanted = {asset_id for asset_id in given.values() if asset_id is not None}
    if wanted:
        await memory.expect(caller, wanted)
    hidden = await memory.hidden(caller, wanted)
    known = {name: asset_id for name, asset_id in given.items() if asset_id is not None and asset_id not in hidden}
    return known, given.keys() - known.keys()


def _item(
    told: Told, reading: Reading, asset_id: UUID | None, session_id: str | None, actor: str | None, team: str
) -> Item:
    interaction = Interaction(
        direction=reading.direction,
        segments=reading.segments,
        asset_id=asset_id,
        session_id=session_id,
        actor=actor,
        tool=reading.tool,
        model=told.model,
        tokens=reading.tokens,
        cost_usd=reading.cost_usd,
        team=team,
        counts=reading.counts,
        failed=reading.failed,
    )
    return Item(
        interaction,
        uuid5(_NAMESPACE, reading.content_key),
        trace_id=told.trace_id or reading.content_key,
        traceparent=told.traceparent,
        count_key=key_of(f"count {reading.count_key}") if reading.counts else None,
        content_key=key_of(f"content {reading.content_key}") if reading.segments else None,
        recalled=reading.recalled,
    )
