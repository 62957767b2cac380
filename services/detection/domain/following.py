"""One interaction as the next of its session: the trackers are told of it, and rules judge what they say.

Comes after the detector has read the texts, since its findings, also those far below an alert, are what the trackers
add up. The session's state changes; everything else is as pure as the detector.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from services.detection.domain import verdict
from services.detection.domain.assets import Asset
from services.detection.domain.detector import MAX_FINDINGS, Detector, Inspected, applies
from services.detection.domain.evidence import redact
from services.detection.domain.interaction import Interaction
from services.detection.domain.rules import Rule, Signal
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.trackers import Heard, Observation, Session, Surroundings
from services.detection.domain.trackers.canaries import CanaryIndex
from services.detection.domain.trackers.observation import SIGN_FROM
from services.detection.domain.trackers.probing import Probing
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.verdict import FLAG_AT, Evidence, Finding
from services.detection.domain.views import readings
from shared.contracts.detection import Direction, FindingKind, Verdict

ATTACK_KINDS = frozenset(
    {
        FindingKind.INJECTION,
        FindingKind.INDIRECT_INJECTION,
        FindingKind.JAILBREAK,
        FindingKind.PROMPT_LEAK,
        FindingKind.EXFILTRATION,
        FindingKind.EVASION,
    }
)
_SCANNED = 4_096


def follow(
    detector: Detector,
    interaction: Interaction,
    inspected: Inspected,
    session: Session,
    *,
    now: datetime,
    asset: Asset | None = None,
    prompts: PromptIndex | None = None,
    canaries: CanaryIndex | None = None,
    profile: Profile | None = None,
    learning: Profile | None = None,
    probing: Probing | None = None,
) -> Inspected:
    """What the detector held, and what the interaction is in its session; arguments as for `observed`."""
    new = observed(
        detector,
        interaction,
        inspected,
        session,
        now=now,
        asset=asset,
        prompts=prompts,
        canaries=canaries,
        profile=profile,
        learning=learning,
        probing=probing,
    )
    if not new:
        return inspected
    findings = sorted((*inspected.findings, *new), key=lambda one: (-one.score, one.rule_id))[:MAX_FINDINGS]
    return Inspected(tuple(findings), inspected.redactions)


def observed(
    detector: Detector,
    interaction: Interaction,
    inspected: Inspected,
    session: Session,
    *,
    now: datetime,
    asset: Asset | None = None,
    prompts: PromptIndex | None = None,
    canaries: CanaryIndex | None = None,
    profile: Profile | None = None,
    learning: Profile | None = None,
    probing: Probing | None = None,
) -> tuple[Finding, ...]:
    """What the interaction is in its session, which moves on by it: findings beside the detector's own.

    Args:
        inspected: the detector's findings in this interaction.
        session: of this interaction alone where nothing names one.
        learning: takes up what is usual for the asset, unless the interaction is flagged.
        probing: the actor's requests, this one among them.
    """
    around = Surroundings(_Scan(detector, interaction.asset_id), detector.signs, prompts, canaries, profile, learning)
    observation = _observation(interaction, inspected, session, now, asset)
    seen = session.observe(observation, around)
    directions = {segment.field: segment.direction for segment in interaction.segments}
    found: dict[object, tuple[Rule, Evidence]] = {}
    for sign in (*seen.signs, *(probing.signs() if probing is not None else ())):
        direction = directions.get(sign.field, interaction.direction)
        for rule, tracked in detector.trackers.get(sign.signal, ()):
            enough = sign.value >= tracked.threshold and sign.samples >= tracked.min_samples
            if enough and applies(rule, direction, interaction, asset, now):
                evidence = Evidence(sign.field, 0, 0, f"{sign.value:.2f}: {sign.shown}")
                _keep_gravest(found, sign.signal, rule, evidence)
    for rule, sequence in detector.sequences if seen.calls else ():
        if applies(rule, Direction.TOOL_CALL, interaction, asset, now):
            call, points, shown = seen.sequence(sequence.steps, sequence.within_turns, sequence.within_seconds)
            if points >= sequence.threshold:
                evidence = Evidence(call.field, 0, 0, f"{points:.1f} points: {shown}")
                _keep_gravest(found, sequence.steps, rule, evidence)
    if probing is not None:
        for what in found:
            if isinstance(what, Signal):
                probing.announce(what)
    return tuple(detector.finding(rule, evidence, _score(rule)) for rule, evidence in found.values())


def _keep_gravest(found: dict[object, tuple[Rule, Evidence]], what: object, rule: Rule, evidence: Evidence) -> None:
    """Of several thresholds of one signal that are passed, the gravest speaks; a shadow rule keeps none quiet."""
    known = found.get(what)
    weight = (rule.status is not rule.status.SHADOW, _score(rule))
    if known is None or (known[0].status is not rule.status.SHADOW, _score(known[0])) < weight:
        found[what] = rule, evidence


def _score(rule: Rule) -> float:
    return round(verdict.score_of(rule), 2)


def _observation(
    interaction: Interaction, inspected: Inspected, session: Session, now: datetime, asset: Asset | None
) -> Observation:
    segments = interaction.segments
    heard = []
    said = [one.text if one.tool is None else f"{one.tool}\0{one.text}" for one in segments]
    for segment, is_new in zip(segments, session.new(said), strict=True):
        if is_new:
            attacks = [one for one in inspected.findings if one.evidence.field == segment.field and _is_attack(one)]
            hidden = inspected.redactions.get(segment.field, ())
            tool = segment.tool or interaction.tool
            heard.append(
                Heard(
                    segment.direction,
                    segment.field,
                    segment.text,
                    redact(segment.text, hidden) if hidden else segment.text,
                    max((one.score for one in attacks), default=0.0),
                    frozenset(one.kind for one in attacks if one.score >= SIGN_FROM),
                    tool,
                    authorized=asset is not None and tool is not None and asset.authorizes(tool),
                )
            )
    tool = interaction.tool
    if interaction.direction is Direction.TOOL_CALL and not any(one.direction is Direction.TOOL_CALL for one in heard):
        # A call without arguments is a call.
        authorized = asset is not None and tool is not None and asset.authorizes(tool)
        heard.append(Heard(Direction.TOOL_CALL, "/tool/name", "", "", tool=tool, authorized=authorized))
    return Observation(
        now.timestamp(),
        tuple(heard),
        failed=interaction.failed,
        flagged=bool(inspected.findings) and verdict.weigh(inspected.findings)[0] is not Verdict.ALLOW,
    )


def _is_attack(finding: Finding) -> bool:
    return finding.kind in ATTACK_KINDS and not finding.shadow


class _Scan:
    """Texts of several turns, put to the patterns again."""

    def __init__(self, detector: Detector, asset_id: UUID | None) -> None:
        self._detector = detector
        self._asset_id = asset_id

    def __call__(self, text: str, seams: tuple[int, ...]) -> tuple[float, str]:
        best = 0.0, ""
        for reading in readings(text[:_SCANNED], self._detector.signs):
            for rule, spans in self._detector.matches(reading, self._asset_id):
                score = _score(rule)
                if rule.kind not in ATTACK_KINDS or score < max(FLAG_AT, best[0]):
                    continue
                if Direction.INPUT not in rule.scope.directions or rule.status is rule.status.SHADOW:
                    continue
                for span in spans:
                    start, end = reading.origin(*reading.characters(span.start, span.end))
                    if any(start < seam < end for seam in seams):
                        best = score, rule.id
                        break
        return best
