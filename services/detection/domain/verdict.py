"""From findings to a verdict, and from a verdict to what is applied.

Scores are between 0 and 1. A rule's level gives the score (SCORES), its confidence scales it, hiding adds to it.
Independent signs of an attack add up as probabilities do, 1 - (1-a)(1-b); several matches on the same words count
once, and secrets or personal data do not add up, since ten addresses are no more certain than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.detection.domain.assets import Mode
from services.detection.domain.rules import DATA_KINDS, Level, Response, Rule
from shared.contracts.detection import Decision, FindingKind, Severity, Verdict
from shared.contracts.incidents import IncidentCategory

SCORES = {Level.INFORMATIONAL: 0.1, Level.LOW: 0.3, Level.MEDIUM: 0.55, Level.HIGH: 0.8, Level.CRITICAL: 0.95}
FLAG_AT = 0.5
BLOCK_AT = 0.75
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
    """A rule matched. `temporary`: one that expires by itself, such as an emergency rule."""

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
        if any(field == there and start < there_end and there_start < end for there, there_start, there_end in taken):
            continue
        taken.append((field, start, end))
        doubt *= 1 - finding.score
    return 1 - doubt


def weigh(findings: Sequence[Finding]) -> tuple[Verdict, float]:
    """What the detectors hold, with the score behind it."""
    counted = [finding for finding in findings if not finding.shadow]
    attack = _combined(one for one in counted if one.kind not in DATA_KINDS)
    data = max((one.score for one in counted if one.kind in DATA_KINDS), default=0.0)
    score = round(min(_CERTAIN, max(attack, data)), 2)
    if score >= BLOCK_AT:
        return Verdict.BLOCK, score
    return (Verdict.FLAG if score >= FLAG_AT else Verdict.ALLOW), score


def decide(findings: Sequence[Finding], mode: Mode) -> Decision:
    """What is applied: observed assets let everything pass, enforced ones block attacks and redact data.

    A finding asks for no more than its rule's response, and for anything only from FLAG_AT on.
    """
    if mode is Mode.OBSERVE:
        return Decision.ALLOW
    counted = [finding for finding in findings if not finding.shadow and finding.score >= FLAG_AT]
    blocking = [finding for finding in counted if finding.response is Response.BLOCK]
    if _combined(blocking) >= BLOCK_AT:
        return Decision.BLOCK
    if any(finding.response is Response.REDACT for finding in counted):
        return Decision.REDACT
    return Decision.ALLOW
