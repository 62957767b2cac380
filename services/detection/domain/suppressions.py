"""Suppressions: findings that somebody answers for are no matter, for a time.

A suppressed finding stays in the inspection, is counted, decides nothing and raises no alert. One of critical severity
is suppressed only for a named asset: a blanket over the whole traffic would hide the worst there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.rules import InvalidRule, compile_pattern
from services.detection.domain.verdict import Finding
from shared.contracts.detection import FindingKind, Severity
from shared.contracts.incidents import IncidentCategory
from shared.errors import Invalid

MAX_PROGRAM_SIZE = 2_000
LOOKS = 8
"""How often an interaction is looked at again for patterns; findings beyond that stay."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """What findings are suppressed: all that every field which is given says.

    Attributes:
        team: whose traffic it holds for; None everybody's, "" what belongs to no team.
        digest: of the whole text, as alerts carry it: this very text and no other.
        pattern: words that are no matter. A finding is suppressed when it is gone once they are blanked out, so that
            adding them to an attack hides nothing.
        owner_team, owner: who answers for it.
    """

    suppression_id: UUID
    version: int
    rule_id: str | None
    kind: FindingKind | None
    category: IncidentCategory | None
    asset_id: UUID | None
    session_id: str | None
    actor: str | None
    digest: str | None
    pattern: str | None
    team: str | None
    owner_team: str
    owner: str
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None
    hits: int = 0
    last_hit_at: datetime | None = None

    def concerns(self, finding: Finding, interaction: Interaction, team: str, now: datetime) -> bool:
        """Whether it is for such findings in such traffic; the text itself is not looked at."""
        return (
            self.ended_at is None
            and now < self.expires_at
            and self.team in (None, team)
            and self.rule_id in (None, finding.rule_id)
            and self.kind in (None, finding.kind)
            and self.category in (None, finding.category)
            and self.asset_id in (None, interaction.asset_id)
            and self.session_id in (None, interaction.session_id)
            and self.actor in (None, interaction.actor)
            and (self.asset_id is not None or finding.severity is not Severity.CRITICAL)
        )


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that cannot run.

    Raises:
        Invalid: names the field.
    """
    try:
        compiled = compile_pattern(pattern, case_sensitive=False, field="/pattern")
    except InvalidRule as error:
        raise Invalid(error.detail, field="/pattern") from error
    if compiled.programsize > MAX_PROGRAM_SIZE:
        raise Invalid(f"the pattern takes {compiled.programsize} of at most {MAX_PROGRAM_SIZE} steps", field="/pattern")


def suppressed(
    findings: Sequence[Finding],
    interaction: Interaction,
    team: str,
    now: datetime,
    standing: Iterable[Suppression],
    digest_of: Callable[[str], str],
    look: Callable[[Interaction], Iterable[Finding]],
) -> tuple[Finding, ...]:
    """The findings, those that a suppression holds for marked with it.

    Args:
        team: whose traffic it is.
        digest_of: keyed digest of a text.
        look: inspects an interaction again.
    """
    in_force = list(standing)
    by_field = {segment.field: segment for segment in interaction.segments}
    seen: dict[tuple[str, str], set[str]] = {}

    def rules_in(segment: Segment, text: str) -> set[str]:
        key = (segment.field, text)
        if key not in seen:
            seen[key] = {
                one.rule_id for one in look(replace(interaction, segments=(replace(segment, text=text, leaves=()),)))
            }
        return seen[key]

    def gone(finding: Finding, segment: Segment, pattern: str) -> bool:
        blanked = _without(segment.text, pattern)
        if blanked == segment.text or len(seen) >= LOOKS:
            return False
        # What this text alone does not show, such as a session's turn, is not gone for being invisible in it.
        return finding.rule_id in rules_in(segment, segment.text) - rules_in(segment, blanked)

    def holds(one: Suppression, finding: Finding) -> bool:
        if not one.concerns(finding, interaction, team, now):
            return False
        if one.digest is None and one.pattern is None:
            return True
        segment = by_field.get(finding.evidence.field)
        if segment is None or (one.digest is not None and digest_of(segment.text) != one.digest):
            return False
        return one.pattern is None or gone(finding, segment, one.pattern)

    marked = []
    for finding in findings:
        # A shadow finding decides nothing in any case, and its own record is what it is on trial for.
        by = None if finding.shadow else next((one for one in in_force if holds(one, finding)), None)
        marked.append(finding if by is None else replace(finding, suppressed_by=by.suppression_id))
    return tuple(marked)


def _without(text: str, pattern: str) -> str:
    """The text with what matches blanked out, everything else where it was."""
    compiled = compile_pattern(pattern, case_sensitive=False, field="/pattern")
    pieces: list[str] = []
    last = 0
    for match in compiled.finditer(text):
        start, end = match.span()
        pieces += (text[last:start], " " * (end - start))
        last = end
    return "".join(pieces) + text[last:]
