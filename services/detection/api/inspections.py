"""`/v1/inspections`: what passes between people, models and tools, looked at before it goes on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request
from pydantic import ValidationError
from starlette.responses import Response

from services.detection.api.judgements import BatchView, InspectionView, view_of
from services.detection.application import inspections
from services.detection.application.alerts import Sighting, raise_alerts
from services.detection.application.live import Live
from services.detection.bodies import NewBatch, NewInspection, interaction_of
from services.detection.domain.interaction import Interaction
from shared import problems
from shared.auth import Caller, requires
from shared.database import Tx
from shared.errors import DomainError, Invalid
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/inspections", "inspections")


async def _live(request: Request) -> Live:
    memory: Live = request.app.state.runtime.resources["live"]
    return memory


Memory = Annotated[Live, Depends(_live)]


@router.post("", response_model=InspectionView, response_model_exclude_none=True)
@requires("detection:inspect")
async def inspect(body: NewInspection, work: Work, memory: Memory, request: Request) -> Response:
    """Inspect one interaction. An alert is raised for what is worth a person; the content itself is not kept.

    An asset_id that nobody registered is 404: an alert on nothing would reach nobody. Without an asset it is the
    traffic of the one team that the caller is bound to; a caller bound to several, who names none, is answered 422.

    With an Idempotency-Key a repeated request is answered alike and raises nothing again; its tokens and calls count
    each time.
    """
    interaction = interaction_of(body, work.caller)
    await inspections.prepare([interaction], work.caller, memory)
    judged = await inspections.inspect(interaction, work.caller, memory)
    return await _record(judged.sightings, _answer(view_of(judged, body, interaction)), work, memory, request)


@router.post("/batch", response_model=BatchView, response_model_exclude_none=True)
@requires("detection:inspect")
async def inspect_batch(body: NewBatch, work: Work, memory: Memory, request: Request) -> Response:
    """Inspect up to 500 interactions; one that is not valid fails alone."""
    parsed = [_parsed(item, work.caller) for item in body.items]
    valid = [one[1] for one in parsed if not isinstance(one, Invalid)]
    await inspections.prepare(valid, work.caller, memory)
    results: list[bytes] = []
    sightings: list[Sighting] = []
    for number, one in enumerate(parsed):
        try:
            if isinstance(one, Invalid):
                raise one
            judged = await inspections.inspect(one[1], work.caller, memory)
        except DomainError as refused:
            results.append(orjson.dumps(problems.document_of(refused), default=str))
        else:
            results.append(bytes(_answer(view_of(judged, *one)).body))
            sightings += judged.sightings
        if number % 16 == 15:
            # Others' single inspections do not wait for a whole batch.
            await asyncio.sleep(0)
    answer = Response(b'{"results":[' + b",".join(results) + b"]}", media_type="application/json")
    return await _record(sightings, answer, work, memory, request)


def _parsed(item: Any, caller: Caller) -> tuple[NewInspection, Interaction] | Invalid:
    try:
        asked = NewInspection.model_validate(item)
        return asked, interaction_of(asked, caller)
    except Invalid as refused:
        return refused
    except ValidationError as error:
        fields = problems.field_errors(error.errors(), item)
        return Invalid(f"{fields[0]['field']}: {fields[0]['message']}", errors=fields)


async def _record(sightings: list[Sighting], answer: Response, work: Work, memory: Live, request: Request) -> Response:
    """Raise the alerts, then answer. With an Idempotency-Key, the answer is kept in the alerts' transaction.

    Raises:
        KeyInProgress, KeyReused
    """
    if "idempotency-key" not in request.headers:
        if sightings:
            await memory.record(sightings)
        return answer
    folding = timedelta(minutes=work.runtime.settings.folding_minutes)

    async def raise_them(tx: Tx) -> None:
        if sightings:
            await raise_alerts(tx, sightings, folding)

    # Also with nothing to raise: else the key of an attack would do for another text, and the other way round.
    return await work.run(raise_them, lambda _: answer)


def _answer(view: InspectionView) -> Response:
    return Response(view.model_dump_json(exclude_none=True), media_type="application/json")
