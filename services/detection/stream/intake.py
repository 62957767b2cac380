"""`telemetry.in.<team>`: interactions that programs publish over NATS, sorted into the partitions.

The subject says whose traffic it is, and the server says who may publish on it: a program with the right to
`telemetry.in.shop` sees what the team shop owns, and nothing else. A message is a body of POST /v1/inspections, or
`{"items": [...]}` of several. Nobody waits for an answer, so a text that is too long is read in windows, and what is
not valid is counted and dropped. The team's name is percent-encoded where a subject could not hold it.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid5

import prometheus_client
from pydantic import ValidationError

from services.detection.application.live import Live
from services.detection.bodies import MAX_ITEMS, Published, interaction_of
from services.detection.domain.genai import Reading, windows
from services.detection.domain.interaction import Interaction
from services.detection.publisher import Publisher
from services.detection.store import stream as store
from services.detection.stream.ownership import Fenced
from services.detection.wire import IN, IN_STREAM, INTAKE, Item, key_of, subject_of
from shared import problems, telemetry
from shared.auth import Caller
from shared.database import is_outage
from shared.errors import DomainError, Unavailable
from shared.feed import Feed, Message
from shared.runtime import Runtime
from shared.strictjson import NotStrictJson, loads

_NAMESPACE = UUID("5b6f3c0e-9a0d-4d1f-8f35-0c7d5f5d9a11")

MESSAGES_AHEAD = 8
"""Of at most a megabyte each."""
AGAIN_SECONDS = 1.0

REFUSED = prometheus_client.Counter(
    "colonnade_detection_intake_refused_total", "Interactions published over NATS that were not valid.", ["reason"]
)


class Intake:
    """Sorts what is in the stream of others, as long as this process owns that.

    Beside the partitions and apart from them: while nothing can be sorted, what is sorted already is inspected, and
    that is what makes room again.
    """

    def __init__(self, runtime: Runtime, memory: Live, publisher: Publisher) -> None:
        self._runtime = runtime
        self._memory = memory
        self._publisher = publisher

    async def run(self) -> None:
        """Sort, for ever; what fails is tried again.

        Raises:
            Fenced
        """
        while True:
            try:
                await self._read()
            except Fenced:
                raise
            except Exception as error:
                telemetry.logger().warning("intake_interrupted", error=repr(error))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self) -> None:
        bus = self._runtime.bus
        created = (await bus.jetstream(f"STREAM.INFO.{IN_STREAM}"))["created"]
        async with self._runtime.db.begin() as tx:
            cursors = await store.cursors(tx, [INTAKE], datetime.fromisoformat(created))
        position = cursors[INTAKE]
        # Whoever owned it before may have been killed between the two.
        await self._purge(position)
        wanted = {IN_STREAM: (position, [subject_of(INTAKE)])}
        async with Feed(bus, wanted, window=MESSAGES_AHEAD) as feed:
            while True:
                upto, failed = position, None
                for message in await feed.next(MESSAGES_AHEAD):
                    try:
                        await self._sort(message, created)
                    except Exception as error:
                        # What was sorted before it is not put into a full stream again at each try.
                        failed = error
                        break
                    upto = message.sequence
                if upto > position:
                    async with self._runtime.db.begin() as tx:
                        if not await store.move(tx, {INTAKE: (position, upto)}):
                            raise Fenced("what others publish is not where we left it")
                    position = upto
                    await self._purge(position)
                if failed is not None:
                    raise failed

    async def _sort(self, message: Message, created: str) -> None:
        try:
            await sort_in(message, created, self._memory, self._publisher)
        except Exception as error:
            if isinstance(error, Unavailable) or is_outage(error):
                raise
            # A fault that this message provokes must not stop all others; what it says is not logged.
            telemetry.logger().error("intake_failed", sequence=message.sequence, exc_info=error)
            REFUSED.labels("failed").inc()

    async def _purge(self, position: int) -> None:
        """Keep no content that is sorted."""
        if position:
            await self._runtime.bus.jetstream(f"STREAM.PURGE.{IN_STREAM}", {"seq": position + 1})


async def sort_in(message: Message, created: str, memory: Live, publisher: Publisher) -> None:
    """Put a message's interactions into their partitions. Done again, it changes nothing.

    Raises:
        Unavailable: the stream takes nothing; try again.
    """
    team = unquote(message.subject.removeprefix(IN))
    caller = Caller(f"nats:{team}", "telemetry", teams=frozenset({team}))
    try:
        document = loads(message.payload)
        several = isinstance(document, dict) and set(document) == {"items"} and isinstance(document["items"], list)
        bodies: list[Any] = document["items"] if several else [document]
        if len(bodies) > MAX_ITEMS:
            raise NotStrictJson(f"more than {MAX_ITEMS} items")
    except NotStrictJson as error:
        _refuse(team, "malformed", str(error))
        return
    read: list[tuple[Interaction, str]] = []
    for at, body in enumerate(bodies):
        try:
            read.append((interaction_of(Published.model_validate(body), caller), f"{created} {message.sequence} {at}"))
        except ValidationError as error:
            fields = problems.field_errors(error.errors(include_input=False), body)
            _refuse(team, "invalid", f"{fields[0]['field']}: {fields[0]['message']}")
        except DomainError as error:
            _refuse(team, "invalid", error.detail)
    wanted = {one.asset_id for one, _ in read if one.asset_id is not None}
    # Messages queue behind one that waits, so each waits until it is old enough, and none for another's wait.
    await memory.expect(caller, wanted, age_seconds=max(0.0, time.time() - message.published_at))
    hidden = await memory.hidden(caller, wanted)
    items: list[Item] = []
    for one, place in read:
        if one.asset_id in hidden:
            _refuse(team, "no such asset", str(one.asset_id))
        else:
            items += _items(one, place)
    if items:
        await publisher.publish(caller, message.published_at, items)


def _items(one: Interaction, place: str) -> list[Item]:
    whole = Reading(
        one.direction, one.segments, place, place, (), one.tool, one.tokens, one.cost_usd, failed=one.failed
    )
    found = []
    for part in windows(whole):
        interaction = Interaction(
            direction=part.direction,
            segments=part.segments,
            asset_id=one.asset_id,
            session_id=one.session_id,
            actor=one.actor,
            tool=part.tool,
            model=one.model,
            tokens=part.tokens,
            cost_usd=part.cost_usd,
            team=one.team,
            counts=part.counts,
            failed=part.failed,
        )
        found.append(
            Item(
                interaction,
                uuid5(_NAMESPACE, part.content_key),
                trace_id="" if one.session_id or one.actor else place,
                count_key=key_of(part.count_key) if part.counts else None,
                content_key=key_of(part.content_key),
            )
        )
    return found


def _refuse(team: str, reason: str, detail: str) -> None:
    REFUSED.labels(reason).inc()
    telemetry.logger().info("intake_refused", team=team, reason=reason, detail=detail[:300])
