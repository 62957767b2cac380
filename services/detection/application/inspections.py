"""One interaction looked at: what is held of it, what is to be done, and what is worth a person.

The only way in: a request, an item of a batch and a span of a stream all come through `inspect`. Nothing is stored
here: whoever asks records the sightings in a transaction of its own (`Live.record`, or together with a cursor).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import prometheus_client
import uuid_utils.compat as uuid_utils

from services.detection.application import reach
from services.detection.application.alerts import Sighting, worth_a_person
from services.detection.application.live import Live
from services.detection.application.sessions import load_or_go_on
from services.detection.domain.assets import Asset, FailMode, Mode
from services.detection.domain.detector import Inspected
from services.detection.domain.evidence import Sensitive, digest
from services.detection.domain.interaction import Interaction, check_size
from services.detection.domain.rules import Metric
from services.detection.domain.sessions import Measured, Subject
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.suppressions import LOOKS, suppressed
from services.detection.domain.trackers import Session
from services.detection.domain.verdict import THRESHOLDS, Block, Finding, decide, weigh
from shared import telemetry
from shared.auth import Caller
from shared.contracts.detection import Decision, Direction, Verdict
from shared.contracts.inventory import Lifecycle

Answer = TypeVar("Answer")

LONG_TEXT = 16_384
"""Characters from which reading them takes so long, tens of milliseconds, that nobody else should wait for it."""
INSPECTIONS = prometheus_client.Counter(
    "colonnade_detection_inspections_total",
    "Interactions inspected, by what was held of them and done.",
    ["direction", "verdict", "decision"],
)
DEGRADED = prometheus_client.Counter(
    "colonnade_detection_degraded_total",
    "Interactions that could not be looked at in full, by what was missing and how their asset fails.",
    ["reason", "fail_mode"],
)
INSPECTION_SECONDS = prometheus_client.Histogram(
    "colonnade_detection_inspection_seconds",
    "Time from the parsed request to the verdict, in seconds; raising alerts comes on top.",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)


class Degradation(StrEnum):
    """Why an interaction was not looked at in full.

    `state_unavailable`: what its session, actor and asset did elsewhere is not known, so that rates count too little.
    `deadline_exceeded`: the detectors took too long, or none was free; they held nothing of it, or it is not known
    which of their findings a suppression's pattern excuses, so that none is.
    """

    STATE_UNAVAILABLE = "state_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one interaction.

    Attributes:
        verdict, score: what the detectors hold.
        decision: what is to be done, by the asset's mode and by containments.
        redactions: spans that must not pass, by segment field.
        block: why nothing of this passes, whatever it says.
        degraded: what the detectors could not do; with `fail_mode` closed it is blocked for that.
        sightings: what is worth a person, not yet recorded.
        counts: of what came by the stream, what is to be counted once it is stored that it was handled: whoever takes
            over in between handles it again, and budgets must not see it twice.
    """

    inspection_id: UUID
    verdict: Verdict
    decision: Decision
    score: float
    findings: tuple[Finding, ...]
    redactions: Mapping[str, tuple[Sensitive, ...]]
    block: Block | None
    sightings: list[Sighting]
    elapsed_seconds: float
    degraded: tuple[Degradation, ...] = ()
    fail_mode: FailMode = FailMode.OPEN
    counts: tuple[Callable[[], None], ...] = ()


async def prepare(
    interactions: Sequence[Interaction], caller: Caller, memory: Live, *, age_seconds: float = 0.0
) -> None:
    """Fetch what these need and this replica does not have, in one go: recent assets, and sums of sessions.

    Args:
        age_seconds: how long ago they came in; assets that are new are waited for that much less.
    """
    wanted = {one.asset_id for one in interactions if one.asset_id is not None}
    await memory.expect(caller, wanted, age_seconds=age_seconds)
    await memory.know([subject for one in interactions for subject in _counted(one)])
    await load_or_go_on(memory.states, interactions)


async def inspect(
    interaction: Interaction,
    caller: Caller,
    memory: Live,
    *,
    inspection_id: UUID | None = None,
    now: datetime | None = None,
    traceparent: str | None = None,
    inline: bool = True,
) -> Judged:
    """Look at one interaction; call `prepare` first. Its tokens and calls are counted.

    Args:
        caller: whose reach decides which assets there are; alerts are reported by its subject.
        inspection_id: given where the same interaction may come twice and must be known by one id.
        traceparent: of the application's own span; None is the current request's.
        inline: it came with a request that waits for the answer; the owner of its session is told, if that is not us.

    Raises:
        NoSuchAsset: the asset is not the caller's to know of.
        ContentTooLarge
    """
    started = time.perf_counter()
    now = now or datetime.now(UTC)
    asset_id = interaction.asset_id
    watched, prompts = (await memory.asset(asset_id)) if asset_id is not None else (None, None)
    if asset_id is not None:
        watched = reach.known(watched, caller, asset_id)
    asset = watched.asset if watched is not None else None
    handling = watched.handling(memory.handling) if watched is not None else memory.handling
    check_size(interaction)
    measured = _measure(interaction, memory, now, hold=not inline)
    look = partial(memory.detector.inspect, interaction, now=now, asset=asset, prompts=prompts, measured=measured)
    team = asset.owner_team if asset is not None else reach.team_of(caller)
    degraded = []
    if measured is not None and not memory.state_available:
        degraded.append(Degradation.STATE_UNAVAILABLE)
    generation = memory.rules_at
    try:
        # Nobody waits for what came as a stream: it has no deadline, and is inspected however long that takes.
        until = started + memory.deadline_seconds if inline else None
        seen = await _looked(look, interaction.size, memory, until)
    except asyncio.TimeoutError:
        degraded.append(Degradation.DEADLINE_EXCEEDED)
        seen = Inspected((), {})
    findings = seen.findings
    states = memory.states
    told: dict[str, Any] = {"detector": memory.detector, "asset": asset, "now": now, "hold": not inline}
    if interaction.session_id is None:
        findings += tuple(memory.tracking.observe(Session(), interaction, seen, **told))
    elif states.of(interaction) is not None:
        findings += tuple(states.observe(interaction, seen, **told))
    elif inline:
        memory.observations.tell(caller, interaction, traceparent or telemetry.traceparent())
    unseen = Degradation.DEADLINE_EXCEEDED in degraded
    try:
        findings = await _marked(findings, interaction, team, asset, prompts, memory, now, until)
    except asyncio.TimeoutError:
        if not unseen:
            degraded.append(Degradation.DEADLINE_EXCEEDED)
    verdict, score = weigh(findings, handling.profile)
    counts: list[Callable[[], None]] = [
        partial(memory.tracking.count, interaction, now, flagged=verdict is not Verdict.ALLOW)
    ]
    if not unseen:
        counts.append(
            partial(
                memory.tally.count, interaction, findings, verdict, generation=generation,
                asset_type=asset.asset_type if asset else None, asset_id=memory.named_in_rules(asset_id),
                at=now.timestamp(),
            )
        )  # fmt: skip
    if inline:
        for count in counts:
            count()
    block = memory.block_of(
        asset_id=asset_id, session_id=interaction.session_id, actor=interaction.actor, team=team, now=now
    )
    enforced = handling.mode is Mode.ENFORCE
    if block is None and enforced and asset is not None and asset.lifecycle is not Lifecycle.ACTIVE:
        block = Block(f"the asset is {asset.lifecycle.value}", None, "asset", str(asset.asset_id))
    if block is None and enforced and degraded and handling.fail_mode is FailMode.CLOSED:
        target = ("asset", str(asset_id)) if asset_id is not None else ("", "")
        block = Block(f"it could not be looked at in full ({', '.join(degraded)}) and fails closed", None, *target)
    decision = decide(findings, handling.mode, handling.profile) if block is None else Decision.BLOCK
    inspection_id = inspection_id or uuid_utils.uuid7()
    traceparent = traceparent or telemetry.traceparent()
    sightings = _sightings(
        findings, THRESHOLDS[handling.profile].flag_at, interaction, verdict, decision, inspection_id, team, caller,
        memory, now, traceparent,
    )  # fmt: skip
    for reason in degraded:
        DEGRADED.labels(reason.value, handling.fail_mode.value).inc()
    INSPECTIONS.labels(interaction.direction.value, verdict.value, decision.value).inc()
    elapsed = time.perf_counter() - started
    INSPECTION_SECONDS.observe(elapsed)
    return Judged(
        inspection_id, verdict, decision, score, findings, _redactions(seen, findings), block, sightings, elapsed,
        tuple(degraded), handling.fail_mode, () if inline else tuple(counts),
    )  # fmt: skip


async def observe(
    interaction: Interaction,
    caller: Caller,
    memory: Live,
    *,
    inspection_id: UUID,
    now: datetime,
    traceparent: str | None,
) -> list[Sighting]:
    """Show the trackers an interaction that was inspected where it came in; what is worth a person only now."""
    watched, _ = (await memory.asset(interaction.asset_id)) if interaction.asset_id is not None else (None, None)
    asset = watched.asset if watched is not None else None
    look = partial(memory.detector.inspect, interaction, now=now, asset=asset)
    inspected = await _looked(look, interaction.size, memory)
    observed = memory.states.observe(interaction, inspected, detector=memory.detector, asset=asset, now=now, hold=True)
    handling = watched.handling(memory.handling) if watched is not None else memory.handling
    team = asset.owner_team if asset is not None else interaction.team
    found = await _marked(tuple(observed), interaction, team, asset, None, memory, now)
    verdict, _score = weigh(found, handling.profile)
    decision = decide(found, handling.mode, handling.profile)
    return _sightings(
        found, THRESHOLDS[handling.profile].flag_at, interaction, verdict, decision, inspection_id, team, caller,
        memory, now, traceparent,
    )  # fmt: skip


async def _looked(look: Callable[[], Answer], characters: int, memory: Live, until: float | None = None) -> Answer:
    """What `look` gives, beside the loop when it reads so much that others would wait.

    Raises:
        asyncio.TimeoutError: `until`, by `perf_counter`, it was not done, or no thread was free.
    """
    if characters <= LONG_TEXT:
        return look()
    left = None if until is None else max(0.0, until - time.perf_counter())
    return await asyncio.wait_for(memory.aside(look), left)


def _sightings(
    findings: Sequence[Finding],
    flag_at: float,
    interaction: Interaction,
    verdict: Verdict,
    decision: Decision,
    inspection_id: UUID,
    team: str,
    caller: Caller,
    memory: Live,
    now: datetime,
    traceparent: str | None,
) -> list[Sighting]:
    by_field = {segment.field: segment for segment in interaction.segments}
    found = []
    for finding in worth_a_person(findings, flag_at):
        segment = by_field.get(finding.evidence.field)
        found.append(
            Sighting(
                finding=finding,
                verdict=verdict,
                decision=decision,
                inspection_id=inspection_id,
                asset_id=interaction.asset_id,
                owner_team=team,
                reported_by=caller.subject,
                session_id=interaction.session_id,
                actor=interaction.actor,
                model=interaction.model,
                direction=segment.direction if segment is not None else interaction.direction,
                digest=digest(memory.key, segment.text) if segment is not None else "",
                at=now,
                traceparent=traceparent,
            )
        )
    return found


async def _marked(
    findings: tuple[Finding, ...],
    interaction: Interaction,
    team: str,
    asset: Asset | None,
    prompts: PromptIndex | None,
    memory: Live,
    now: datetime,
    until: float | None = None,
) -> tuple[Finding, ...]:
    """The findings, those marked that a suppression holds for.

    Raises:
        asyncio.TimeoutError: as `_looked`.
    """
    standing = memory.suppressions_of(findings, team)
    if not standing:
        return findings
    look = partial(memory.detector.inspect, now=now, asset=asset, prompts=prompts)
    mark = partial(
        suppressed, findings, interaction, team, now, standing, partial(digest, memory.key),
        lambda rest: look(rest).findings,
    )  # fmt: skip
    looks = LOOKS if any(one.pattern is not None for one in standing) else 0
    return await _looked(mark, interaction.size * looks, memory, until)


def _redactions(seen: Inspected, findings: Sequence[Finding]) -> Mapping[str, tuple[Sensitive, ...]]:
    """What must not pass, without what is suppressed there."""
    let_pass = {(one.evidence.field, one.rule_id) for one in findings if one.suppressed_by is not None}
    if not let_pass:
        return seen.redactions
    return {
        field: tuple(span for span in spans if (field, span.rule_id) not in let_pass)
        for field, spans in seen.redactions.items()
    }


def _counted(interaction: Interaction) -> list[Subject]:
    """Whom the interaction counts for, if it counts at all."""
    if interaction.amounts() or any(one.direction is Direction.OUTPUT for one in interaction.segments):
        return interaction.subjects()
    return []


def _measure(interaction: Interaction, memory: Live, now: datetime, *, hold: bool) -> Measured | None:
    subjects = _counted(interaction)
    if not subjects:
        return None
    rates = memory.sessions.count(subjects, interaction.amounts(), now.timestamp(), hold=hold)
    outputs = [one for one in interaction.segments if one.direction is Direction.OUTPUT]
    figures: dict[Metric, float] = {}
    samples = 0
    if outputs and subjects[0].by == "session":
        figures, samples = memory.sessions.compare_output(subjects[0], outputs[-1].text, hold=hold)
    return Measured(figures, rates, samples)
