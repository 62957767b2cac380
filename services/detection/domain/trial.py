"""Trying a rule on examples: what CI does with every shipped rule, and `POST /v1/rules/test` with any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector
from services.detection.domain.interaction import Interaction, Segment, check_size, leaves_of
from services.detection.domain.rules import Example, Rule, SimilarityDetection
from services.detection.domain.sessions import Measured, Sessions, Subject
from services.detection.domain.similarity import PromptIndex, fragments_of
from services.detection.domain.verdict import Finding
from shared.contracts.detection import Direction
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

_KEY = b"trial"
_ASSET_ID = UUID(int=1)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


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


def _interaction(rule: Rule, example: Example) -> Interaction:
    direction = example.direction or rule.scope.directions[0]
    segments = [Segment("/content", direction, example.content)] if example.content else []
    arguments = leaves_of(example.arguments, "/tool/arguments")
    usage = example.usage or {}
    return Interaction(
        direction=direction,
        segments=(*segments, *((arguments,) if arguments else ())),
        # A rule for certain assets is tried as on one of them.
        asset_id=rule.scope.asset_ids[0] if rule.scope.asset_ids else _ASSET_ID if example.asset is not None else None,
        session_id="example",
        tool=example.tool,
        tokens=int(usage.get("input_tokens", 0) + usage.get("output_tokens", 0)),
        cost_usd=float(usage.get("cost_usd", 0.0)),
    )


def try_example(detector: Detector, rule: Rule, example: Example) -> Trial:
    """Put an example to a detector in which `rule` is in force; nothing outlives the call.

    Raises:
        ContentTooLarge: the example is longer than interactions may be.
        ValueError: the example's asset has a value that no asset can have.
    """
    interaction = _interaction(rule, example)
    check_size(interaction)
    asset = _asset(example.asset) if example.asset is not None else None
    prompts = None
    if isinstance(rule.detection, SimilarityDetection):
        prompts = PromptIndex([one for text in example.references for one in fragments_of(text, _KEY)], _KEY)
    sessions = Sessions()
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
        found = detector.inspect(interaction, now=_NOW, asset=asset, prompts=prompts, measured=measured).findings
        finding = next((one for one in found if one.rule_id == rule.id), None)
    fired = finding is not None and finding.severity is rule.level.severity
    return Trial(fired, finding)
