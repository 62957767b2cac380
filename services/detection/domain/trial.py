"""Trying a rule on examples: what CI does with every shipped rule, and `POST /v1/rules/test` with any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector
from services.detection.domain.following import follow
from services.detection.domain.interaction import Interaction, Segment, check_size, leaves_of
from services.detection.domain.rules import (
    BudgetDetection,
    Example,
    Rule,
    SimilarityDetection,
    Turn,
    UsageDetection,
)
from services.detection.domain.sessions import Measured, Sessions, Subject
from services.detection.domain.similarity import PromptIndex, fragments_of
from services.detection.domain.trackers import Session, usage
from services.detection.domain.trackers.canaries import CanaryIndex, marks_of
from services.detection.domain.trackers.probing import Probing
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.verdict import Evidence, Finding, score_of
from shared.contracts.detection import Direction
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

_KEY = b"trial"
_ASSET_ID = UUID(int=1)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_TURNS = 4_000
"""Turns of one example, repetitions included: a rule sent to be tested must not keep a replica busy."""
_MOST_CHARACTERS = 2_000_000


@dataclass(frozen=True, slots=True)
class Trial:
    """What one rule made of an example. `fired` is False also when a quotation was recognised as a mention."""

    fired: bool
    finding: Finding | None


def _asset(fields: Mapping[str, Any]) -> Asset:
    return Asset(
        asset_id=_ASSET_ID,
        version=1,
        name="example",
        owner_team="",
        asset_type=AssetType(fields.get("asset_type", AssetType.AI_AGENT)),
        data_classification=DataClassification(fields.get("data_classification", DataClassification.INTERNAL)),
        lifecycle=Lifecycle(fields.get("lifecycle", Lifecycle.ACTIVE)),
        authorized_tools=frozenset(fields.get("authorized_tools", ())),
    )


def _asset_id(rule: Rule, example: Example) -> UUID | None:
    # A rule for certain assets is tried as on one of them.
    return rule.scope.asset_ids[0] if rule.scope.asset_ids else _ASSET_ID if example.asset is not None else None


def _interaction(rule: Rule, example: Example) -> Interaction:
    direction = example.direction or rule.scope.directions[0]
    text = example.content * example.copies
    segments = [Segment("/content", direction, text)] if text else []
    arguments = leaves_of(example.arguments, "/tool/arguments")
    usage = example.usage or {}
    return Interaction(
        direction=direction,
        segments=(*segments, *((arguments,) if arguments else ())),
        asset_id=_asset_id(rule, example),
        session_id="example",
        tool=example.tool,
        tokens=int(usage.get("input_tokens", 0) + usage.get("output_tokens", 0)),
        cost_usd=float(usage.get("cost_usd", 0.0)),
    )


def _prompts(rule: Rule, example: Example) -> PromptIndex | None:
    if not isinstance(rule.detection, SimilarityDetection) and not example.references:
        return None
    return PromptIndex([one for text in example.references for one in fragments_of(text, _KEY)], _KEY)


def try_example(detector: Detector, rule: Rule, example: Example) -> Trial:
    """Put an example to a detector in which `rule` is in force; nothing outlives the call.

    Raises:
        ContentTooLarge: the example is longer than interactions may be.
        ValueError: the example's asset has a value that no asset can have, or a canary is too short.
    """
    if isinstance(rule.detection, UsageDetection | BudgetDetection):
        return _try_usage(detector, rule, rule.detection, example)
    if example.turns:
        return _try_turns(detector, rule, example)
    interaction = _interaction(rule, example)
    check_size(interaction)
    asset = _asset(example.asset) if example.asset is not None else None
    prompts = _prompts(rule, example)
    canaries = _canaries(example)
    sessions = Sessions()
    session = Session()
    subject = Subject("session", "example")
    for earlier in example.before:
        sessions.compare_output(subject, earlier)
    finding: Finding | None = None
    for _ in range(example.repeat):
        rates = sessions.count([subject], interaction.amounts(), _NOW.timestamp())
        figures, samples = (
            sessions.compare_output(subject, example.content) if interaction.direction is Direction.OUTPUT else ({}, 0)
        )
        measured = Measured(figures, rates, samples)
        found = detector.inspect(interaction, now=_NOW, asset=asset, prompts=prompts, measured=measured)
        found = follow(detector, interaction, found, session, now=_NOW, asset=asset, prompts=prompts, canaries=canaries)
        finding = next((one for one in found.findings if one.rule_id == rule.id), None)
    return _trial(rule, finding)


def _trial(rule: Rule, finding: Finding | None) -> Trial:
    return Trial(finding is not None and finding.severity is rule.level.severity, finding)


def _canaries(example: Example) -> CanaryIndex | None:
    marks = [mark for canary in example.canaries for mark in marks_of(canary, _KEY)]
    return CanaryIndex(marks, _KEY) if marks else None


def _try_turns(detector: Detector, rule: Rule, example: Example) -> Trial:
    """A session turn by turn, with the asset's profile and the actor's sketch as they come to be; fires at any turn."""
    asset = _asset(example.asset) if example.asset is not None else None
    prompts, canaries = _prompts(rule, example), _canaries(example)
    profile, probing = Profile(), Probing()
    sessions: dict[str, Session] = {}
    now = _NOW
    finding: Finding | None = None
    left, characters = _MOST_TURNS, _MOST_CHARACTERS
    for turn in example.turns:
        for count in range(turn.repeat):
            left, characters = left - 1, characters - len(turn.content)
            if left < 0 or characters < 0:
                break
            now += timedelta(seconds=turn.seconds)
            interaction = _said(turn, count, _asset_id(rule, example))
            check_size(interaction)
            for segment in interaction.segments:
                if segment.direction is Direction.INPUT:
                    probing.ask(segment.text, now.timestamp(), interaction.model)
                elif segment.direction is Direction.OUTPUT:
                    probing.answer(len(segment.text), now.timestamp())
            session = sessions.setdefault(turn.session.replace("{n}", str(count)), Session())
            found = follow(
                detector,
                interaction,
                detector.inspect(interaction, now=now, asset=asset, prompts=prompts),
                session,
                now=now,
                asset=asset,
                prompts=prompts,
                canaries=canaries,
                profile=profile,
                learning=profile,
                probing=probing,
            )
            finding = finding or next((one for one in found.findings if one.rule_id == rule.id), None)
    return _trial(rule, finding)


def _said(turn: Turn, count: int, asset_id: UUID | None) -> Interaction:
    content = turn.content.replace("{n}", str(count))
    segments = [Segment("/content", turn.direction, content)] if content else []
    filled = {
        name: value.replace("{n}", str(count)) if isinstance(value, str) else value
        for name, value in turn.arguments.items()
    }
    arguments = leaves_of(filled, "/tool/arguments")
    return Interaction(
        direction=turn.direction,
        segments=(*segments, *((arguments,) if arguments else ())),
        asset_id=asset_id,
        session_id="example",
        actor="example",
        tool=turn.tool,
        failed=turn.failed,
    )


def _try_usage(detector: Detector, rule: Rule, detection: UsageDetection | BudgetDetection, example: Example) -> Trial:
    """Usage that was the same hour by hour, and then what the example says."""
    given = example.usage_hours
    if given is None:
        return Trial(False, None)
    start = usage.hour_of(_NOW.timestamp())
    current = {start + at: amount for at, amount in enumerate(given.current)}
    shown: str | None = None
    if isinstance(detection, BudgetDetection):
        percent = 100 * sum(given.current) / given.budget if given.budget else 0.0
        shown = f"{percent:.0f} % of the budget" if percent >= detection.percent else None
    else:
        of_asset = given.usual if given.asset_usual is None else given.asset_usual
        before = range(start - given.days * usage.DAY_HOURS, start)
        baseline = usage.learn(dict.fromkeys(before, of_asset), start)
        days = {hour // usage.DAY_HOURS: given.usual * usage.DAY_HOURS for hour in before}
        for hour in current:
            shown = shown or usage.exceeds(
                detection, usage.Hours({at: one for at, one in current.items() if at <= hour}, days), baseline, hour
            )
    if shown is None:
        return Trial(False, None)
    return _trial(rule, detector.finding(rule, Evidence("", 0, 0, shown), round(score_of(rule), 2)))
