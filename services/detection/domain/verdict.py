"""From findings to a verdict, and from a verdict to what is applied.

Scores are between 0 and 1. A rule's level gives the score (SCORES), its confidence scales it, hiding adds to it.
Independent signs of an attack add up as probabilities do, 1 - (1-a)(1-b); several matches on the same words count
once, and secrets or personal data do not add up, since ten addresses are no more certain than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from services.detection.domain.assets import Mode, Profile
from services.detection.domain.rules import DATA_KINDS, Level, Response, Rule
from shared.contracts.detection import Decision, FindingKind, Severity, Verdict
from shared.contracts.incidents import IncidentCategory

SCORES = {Level.INFORMATIONAL: 0.1, Level.LOW: 0.3, Level.MEDIUM: 0.55, Level.HIGH: 0.8, Level.CRITICAL: 0.95}
FLAG_AT = 0.5
BLOCK_AT = 0.75


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on something is flagged, and blocked."""

    flag_at: float
    block_at: float


THRESHOLDS = {
    Profile.STRICT: Thresholds(0.35, 0.6),
    Profile.BALANCED: Thresholds(FLAG_AT, BLOCK_AT),
    Profile.PERMISSIVE: Thresholds(0.75, 0.9),
}
"""Strict flags two weak signs and blocks two middling ones; permissive flags what is high on its own and blocks what is
critical. Personal data where it belongs (0.3) and quoted attacks (0.28) stay below the strict one."""
UNDECLARED = 0.4
"""What personal data short of restricted scores that somebody tells an asset of which nobody has said what it may be
told: an address in a letter is listed and masked, and only the profile `strict` makes a verdict of it."""
CROWD = 10
"""Different values of one kind from which on they are a list of people, and not what a message says of somebody."""
HIDDEN_BONUS = 0.12
"""Added when words were found only after undoing what hid them."""
MENTION_FACTOR = 0.35
"""Applied when the words are quoted in a text about attacks."""
_CERTAIN = 0.99


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where and what. Positions are characters of the original value at `field` (a JSON Pointer into the request)."""

    field: str
    start: int
    end: int
    excerpt: str
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule matched. `temporary`: one that expires by itself, such as an emergency rule.

    One that is in `shadow`, or is suppressed, is shown and counts for nothing. An `opinion` is the classifier's: of the
    text as a whole, so that it adds to what a rule says of some words of it.
    """

    rule_id: str
    rule_version: int
    title: str
    kind: FindingKind
    category: IncidentCategory
    severity: Severity
    score: float
    response: Response
    evidence: Evidence
    owasp: tuple[str, ...] = ()
    atlas: tuple[str, ...] = ()
    shadow: bool = False
    temporary: bool = False
    suppressed_by: UUID | None = None
    opinion: bool = False

    @property
    def counts(self) -> bool:
        return not self.shadow and self.suppressed_by is None


@dataclass(frozen=True, slots=True)
class Block:
    """A containment in force, or a lifecycle, that forbids the interaction whatever it says."""

    reason: str
    containment_id: UUID | None = None
    target_kind: str = ""
    target: str = ""


def score_of(rule: Rule, *, hidden: bool = False, mention: bool = False, judged: float | None = None) -> float:
    """The score of a finding; `judged` is the classifier's, where it made the finding."""
    score = SCORES[rule.level] * rule.confidence if judged is None else judged
    if hidden:
        score = min(_CERTAIN, score + HIDDEN_BONUS)
    return score * MENTION_FACTOR if mention else score


def severity_of(rule: Rule, score: float) -> Severity:
    """The rule's own severity, or less where the score was reduced below what the level stands for."""
    if score >= SCORES[rule.level] * rule.confidence * 0.99:
        return rule.level.severity
    fitting = [level for level, least in SCORES.items() if least <= score + 0.01]
    return (fitting[-1] if fitting else Level.INFORMATIONAL).severity


def _combined(findings: Iterable[Finding]) -> float:
    """Probability that at least one is right, overlapping ones counted once."""
    doubt = 1.0
    taken: list[tuple[str, int, int]] = []
    for finding in sorted(findings, key=lambda one: -one.score):
        field, start, end = finding.evidence.field, finding.evidence.start, finding.evidence.end
        if not finding.opinion and any(
            field == there and start < there_end and there_start < end for there, there_start, there_end in taken
        ):
            continue
        if not finding.opinion:
            taken.append((field, start, end))
        doubt *= 1 - finding.score
    return 1 - doubt


def gathered(findings: Iterable[Finding], flag_at: float) -> Finding | None:
    """The strongest of weak signs of an attack that flag together and not alone, with their common score."""
    attack = [one for one in findings if one.counts and one.kind not in DATA_KINDS]
    strongest = max(attack, key=lambda one: one.score, default=None)
    if strongest is None or strongest.score >= flag_at or (total := _combined(attack)) < flag_at:
        return None
    level = max((level for level, least in SCORES.items() if least <= total + 0.06), key=tuple(Level).index)
    return replace(strongest, score=round(total, 2), severity=level.severity)


def weigh(findings: Sequence[Finding], profile: Profile = Profile.BALANCED) -> tuple[Verdict, float]:
    """What the detectors hold, with the score behind it."""
    counted = [finding for finding in findings if finding.counts]
    attack = _combined(one for one in counted if one.kind not in DATA_KINDS)
    data = max((one.score for one in counted if one.kind in DATA_KINDS), default=0.0)
    score = round(min(_CERTAIN, max(attack, data)), 2)
    thresholds = THRESHOLDS[profile]
    if score >= thresholds.block_at:
        return Verdict.BLOCK, score
    return (Verdict.FLAG if score >= thresholds.flag_at else Verdict.ALLOW), score


def decide(findings: Sequence[Finding], mode: Mode, profile: Profile = Profile.BALANCED) -> Decision:
    """What is applied: observed assets let everything pass, enforced ones block attacks and redact data.

    A finding asks for no more than its rule's response. Signs of an attack add up to a block as they do to a verdict;
    secrets and personal data, which do not add up, ask for something only from the profile's `flag_at` on.
    """
    if mode is Mode.OBSERVE:
        return Decision.ALLOW
    thresholds = THRESHOLDS[profile]
    counted = [
        finding
        for finding in findings
        if finding.counts and (finding.kind not in DATA_KINDS or finding.score >= thresholds.flag_at)
    ]
    blocking = [finding for finding in counted if finding.response is Response.BLOCK]
    if _combined(blocking) >= thresholds.block_at:
        return Decision.BLOCK
    if any(finding.response is Response.REDACT and finding.score >= thresholds.flag_at for finding in counted):
        return Decision.REDACT
    return Decision.ALLOW
