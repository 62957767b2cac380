"""The use cases that write: fold events into dossiers, put a model in force, look again at what time has changed.

Everything here runs in the order of the consumer's journal, so times and ids come from events and commands, never from
the clock or from chance, and a rebuild ends with the same rows. A batch is worth what its events are worth one by one:
every event makes its own assessments, in order, and only reading and writing are done for all of them at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from services.risk.domain.assessment import Assessment, Trigger
from services.risk.domain.dossier import Dossier, moved
from services.risk.domain.formula import CENT
from services.risk.domain.model import ScoringModel
from services.risk.store import dossiers, due, models
from shared import audit, outbox
from shared.auth import Caller
from shared.consumer import Received
from shared.contracts.detection import ALERT_EVENTS, AlertEvent
from shared.contracts.envelope import Event
from shared.contracts.governance import (
    ACCEPTANCE_EVENTS,
    CONTROL_EVENTS,
    AcceptanceEvent,
    AcceptanceGranted,
    ControlEvent,
    ControlRemoved,
)
from shared.contracts.incidents import INCIDENT_EVENTS, IncidentEvent
from shared.contracts.inventory import ASSET_EVENTS, AssetEvent
from shared.contracts.risk import ModelUpdated
from shared.database import Tx
from shared.errors import PreconditionFailed
from shared.http import check_version

Journal = Callable[[Tx, str, dict[str, Any]], Awaitable[None]]
"""Does a command now and writes it down for a rebuild: `Consumers.execute`."""

ADOPT_MODEL: Final = "adopt_model"
RESCORE_PAGE: Final = "rescore_page"
LOOK_AGAIN: Final = "look_again"

DECAYED: Final = "activity.decayed"
GROWN_STALE: Final = "review.stale"
RESCORED: Final = "model.updated"

RISK_ACCEPTANCE: Final = "risk"
"""Kind of an acceptance that concerns an asset's risk; the other kind is a deviation from policy."""
DECAY_STEP: Final = Decimal("0.25")
"""Points by which time alone must move a score before that is an assessment: history is for what matters."""
ASSETS_A_PAGE: Final = 250
"""Assets looked at in one transaction: events wait that long, some 100 ms."""


class _Desk:
    """Dossiers taken out for one transaction, worked on in memory and put back with the assessments made."""

    def __init__(self, tx: Tx, model: ScoringModel, affected: dict[UUID, set[UUID]] | None = None) -> None:
        self._tx = tx
        self._model = model
        self.affected = affected or {}
        """Incident -> assets that any version of it affected."""
        self._dossiers: dict[UUID, Dossier] = {}
        self._before: dict[UUID, Dossier] = {}
        self._unwritten: list[Assessment] = []
        self._assessments: list[Assessment] = []
        self._dependents: dict[UUID, int] = {}
        self._graph_changed = False
        self._watched: set[UUID] = set()

    async def take_out(self, asset_ids: Collection[UUID], *, watched: Collection[UUID] = ()) -> None:
        """Load the dossiers of these assets, which are all that this desk will be asked for.

        Args:
            watched: those whose dependents will matter although nothing happens to them yet; counted with the first.
        """
        self._dossiers = await dossiers.load(self._tx, asset_ids)
        self._watched = {key for key, dossier in self._dossiers.items() if not dossier.is_quiet}.union(watched)

    def open(self, asset_id: UUID) -> Dossier:
        """A dossier, to be changed."""
        dossier = self._dossiers[asset_id]
        if asset_id not in self._before:
            self._before[asset_id] = dossiers.kept(dossier)
        return dossier

    def graph_changed(self) -> None:
        """What was counted along dependencies no longer holds."""
        self._dependents.clear()
        self._graph_changed = True

    async def assess(self, dossier: Dossier, trigger: Trigger, *, unless_within: Decimal | None = None) -> None:
        """Make the asset's next assessment.

        Args:
            unless_within: make none when the level stays and the score moves by less than this.
        """
        dependents = 0
        if not dossier.is_quiet:
            dossier.keep_strongest(self._model, trigger.at)
            dependents = await self._count_dependents(dossier.asset_id)
        score = dossier.score(self._model, trigger.at, dependents=dependents)
        if unless_within is None or moved(dossier.standing, score, by=unless_within):
            self._unwritten.append(dossier.assess(self._model, score, trigger))

    async def _count_dependents(self, asset_id: UUID) -> int:
        if asset_id not in self._dependents:
            if self._graph_changed:
                # The database counts: what this batch did to the graph up to here must be there, and nothing after.
                await self._write()
                self._graph_changed = False
            self._dependents |= await dossiers.dependents(self._tx, self._watched | {asset_id})
        return self._dependents[asset_id]

    async def _write(self, *, last: bool = False) -> None:
        self._assessments += self._unwritten
        await dossiers.save(
            self._tx,
            [(before, self._dossiers[key]) for key, before in self._before.items()],
            self._unwritten,
            [assessment.completed() for assessment in self._assessments] if last else (),
        )
        # Not emptied: one that is being assessed right now will differ again from what was just written.
        self._before = {key: dossiers.kept(self._dossiers[key]) for key in self._before}
        self._unwritten = []

    async def put_back(self) -> None:
        """Write what changed and announce the assessments."""
        await self._write(last=True)


async def assess_what_changed(tx: Tx, batch: Sequence[Received[Any]]) -> None:
    """Take events into the dossiers they concern and assess those assets again.

    An event about an asset, its controls or acceptances is always an assessment. One about alerts or incidents is one
    only where it moves the score, or a storm of them would bury the history of what did.
    """
    model = (await models.current(tx)).model
    events = [one.event for one in batch]
    incidents = {event.incident.incident_id for event in events if type(event) in INCIDENT_EVENTS}
    affected = await dossiers.assets_of_incidents(tx, incidents)
    concerned: set[UUID] = set().union(*affected.values())
    watched: set[UUID] = set()
    for event in events:
        about, _ = _HEARD[type(event)]
        ids = about(event)
        concerned.update(ids)
        if type(event) in _ACTIVITY:
            watched.update(ids)
    desk = _Desk(tx, model, affected)
    await desk.take_out(concerned, watched=watched)
    for one in batch:
        _, take_in = _HEARD[type(one.event)]
        await take_in(desk, one.event, _trigger(one))
    await desk.put_back()


def _trigger(received: Received[Any]) -> Trigger:
    """`ev.inventory.asset.registered.v1` triggers as `asset.registered`."""
    noun, verb = received.type.split(".")[2:4]
    return Trigger(f"{noun}.{verb}", received.id, received.time.astimezone(UTC))


async def _take_in_asset(desk: _Desk, event: AssetEvent, trigger: Trigger) -> None:
    dossier = desk.open(event.asset.asset_id)
    before = dossier.copy
    if not dossier.record_asset(event.asset) or dossier.copy is None:
        return
    if before is None or before.edges != dossier.copy.edges or before.lifecycle != dossier.copy.lifecycle:
        desk.graph_changed()
    await desk.assess(dossier, trigger)


async def _take_in_control(desk: _Desk, event: ControlEvent, trigger: Trigger) -> None:
    dossier = desk.open(event.deployment.asset_id)
    if dossier.record_control(event.deployment, removed=isinstance(event, ControlRemoved)) and dossier.is_scored:
        await desk.assess(dossier, trigger)


async def _take_in_acceptance(desk: _Desk, event: AcceptanceEvent, trigger: Trigger) -> None:
    if event.acceptance.asset_id is None or event.acceptance.kind != RISK_ACCEPTANCE:
        return
    dossier = desk.open(event.acceptance.asset_id)
    granted = isinstance(event, AcceptanceGranted)
    if dossier.record_acceptance(event.acceptance, in_force=granted) and dossier.is_scored:
        await desk.assess(dossier, trigger)


async def _take_in_alert(desk: _Desk, event: AlertEvent, trigger: Trigger) -> None:
    if event.alert.asset_id is None:
        return
    dossier = desk.open(event.alert.asset_id)
    if dossier.record_alert(event.alert) and dossier.is_scored:
        await desk.assess(dossier, trigger, unless_within=CENT)


async def _take_in_incident(desk: _Desk, event: IncidentEvent, trigger: Trigger) -> None:
    incident = event.incident
    # Also those that an earlier version affected: this one may have cleared them.
    concerned = desk.affected.setdefault(incident.incident_id, set())
    concerned.update(incident.affected_assets)
    for asset_id in sorted(concerned):
        dossier = desk.open(asset_id)
        if dossier.record_incident(incident) and dossier.is_scored:
            await desk.assess(dossier, trigger, unless_within=CENT)


def _one(asset_id: UUID | None) -> tuple[UUID, ...]:
    return () if asset_id is None else (asset_id,)


_ACTIVITY: Final = frozenset[type[Event]]({*ALERT_EVENTS, *INCIDENT_EVENTS})
# By class and not by isinstance: pydantic's classes make that a slow question, asked of every event many times over.
_HEARD: Final[dict[type[Event], tuple[Callable[[Any], tuple[UUID, ...]], Callable[..., Awaitable[None]]]]] = {
    **dict.fromkeys(ASSET_EVENTS, (lambda event: (event.asset.asset_id,), _take_in_asset)),
    **dict.fromkeys(CONTROL_EVENTS, (lambda event: (event.deployment.asset_id,), _take_in_control)),
    **dict.fromkeys(ACCEPTANCE_EVENTS, (lambda event: _one(event.acceptance.asset_id), _take_in_acceptance)),
    **dict.fromkeys(ALERT_EVENTS, (lambda event: _one(event.alert.asset_id), _take_in_alert)),
    **dict.fromkeys(INCIDENT_EVENTS, (lambda event: event.incident.affected_assets, _take_in_incident)),
}


# -- the model -------------------------------------------------------------------------------------------------------


async def change_model(
    tx: Tx,
    journal: Journal,
    caller: Caller,
    change: Callable[[ScoringModel], ScoringModel],
    *,
    note: str,
    expected: int | None,
) -> models.ModelVersion:
    """Put a changed model in force as the next version; the portfolio is scored with it page by page from now on.

    Args:
        change: gives the new model from the one in force.
        expected: version that the caller means to change; None for whichever is in force.

    Raises:
        ModelInvalid: the new model is not consistent.
        PreconditionFailed: another version is in force.
    """
    in_force = (await models.current(tx)).model
    check_version(in_force.version, expected)
    model = replace(change(in_force), version=in_force.version + 1)
    model.check()
    payload: dict[str, Any] = {
        "id": str(uuid4()),
        "model": models.as_document(model),
        "note": note,
        "changed_by": caller.subject,
    }
    await journal(tx, ADOPT_MODEL, payload)
    await audit.record(
        tx,
        caller,
        action="risk.model.updated",
        target="default",
        detail={"version": model.version, "note": note, "weights": payload["model"]["weights"]},
    )
    return await models.current(tx)


async def adopt_model(tx: Tx, payload: dict[str, Any], at: datetime) -> None:
    """Command ADOPT_MODEL.

    Raises:
        PreconditionFailed: another version came into force in the meantime.
    """
    model = models.from_document(payload["model"])
    in_force = (await models.current(tx)).model.version
    if model.version != in_force + 1:
        raise PreconditionFailed(f'the current version is "{in_force}"', current_version=in_force)
    await models.add(tx, model, note=payload["note"], changed_by=payload["changed_by"], changed_at=at)
    weights = {dimension: float(weight) for dimension, weight in model.weights.items()}
    await outbox.add(tx, ModelUpdated(version=model.version, occurred_at=at, weights=weights))


async def rescore_page(tx: Tx, payload: dict[str, Any], at: datetime) -> None:
    """Command RESCORE_PAGE: score the next assets with the version in force, unless an event did so already."""
    in_force = await models.current(tx)
    progress = in_force.rescore
    if progress is None or progress.status != models.RUNNING:
        return
    limit = payload["limit"]
    page = await due.in_estate(tx, after=progress.after, limit=limit)
    desk = _Desk(tx, in_force.model)
    await desk.take_out(page)
    trigger = Trigger(RESCORED, UUID(payload["id"]), at.astimezone(UTC))
    for asset_id in page:
        dossier = desk.open(asset_id)
        if dossier.standing is not None and dossier.standing.model_version < in_force.model.version:
            await desk.assess(dossier, trigger)
    await desk.put_back()
    await models.advance(
        tx,
        in_force.model.version,
        after=page[-1] if page else None,
        passed=len(page),
        finished_at=at if len(page) < limit else None,
    )


# -- time ------------------------------------------------------------------------------------------------------------


async def has_moved(tx: Tx, asset_ids: Collection[UUID], at: datetime) -> list[UUID]:
    """Those of these assets that a look at this time would change something about; reads only.

    Most looks find nothing, and what finds nothing need not be in the journal for ever.
    """
    model = (await models.current(tx)).model
    found = await dossiers.load(tx, asset_ids)
    dependents = await dossiers.dependents(tx, [key for key, dossier in found.items() if not dossier.is_quiet])
    moving = []
    for asset_id, dossier in found.items():
        signals = len(dossier.alerts) + len(dossier.incidents)
        dossier.forget_faded(model, at)
        faded = len(dossier.alerts) + len(dossier.incidents) < signals
        if faded or (
            dossier.is_scored
            and moved(
                dossier.standing, dossier.score(model, at, dependents=dependents.get(asset_id, 0)), by=_step(dossier)
            )
        ):
            moving.append(asset_id)
    return moving


def _step(dossier: Dossier) -> Decimal:
    """By how much time must have moved a score; where nothing is left to fade, it ends exactly on the formula's."""
    return CENT if dossier.is_quiet else DECAY_STEP


async def look_again(tx: Tx, payload: dict[str, Any], at: datetime) -> None:
    """Command LOOK_AGAIN: assess assets whose score time may have moved.

    For DECAYED, forgets what has faded and assesses where the score moved; dependents are counted anew, too. For
    GROWN_STALE, assesses in any case.
    """
    trigger = Trigger(payload["trigger"], UUID(payload["id"]), at.astimezone(UTC))
    model = (await models.current(tx)).model
    desk = _Desk(tx, model)
    asset_ids = [UUID(asset_id) for asset_id in payload["asset_ids"]]
    await desk.take_out(asset_ids)
    for asset_id in asset_ids:
        dossier = desk.open(asset_id)
        dossier.forget_faded(model, trigger.at)
        if dossier.is_scored:
            await desk.assess(dossier, trigger, unless_within=None if trigger.name == GROWN_STALE else _step(dossier))
    await desk.put_back()


def looking_again(trigger: str, asset_ids: Iterable[UUID]) -> dict[str, Any]:
    """Payload of LOOK_AGAIN."""
    return {"id": str(uuid4()), "trigger": trigger, "asset_ids": [str(asset_id) for asset_id in asset_ids]}
