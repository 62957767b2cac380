"""What a replica counts of its inspections until it is written down: traffic, rules that fired, suppressed findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from services.detection.domain.interaction import Interaction
from services.detection.domain.verdict import Finding
from shared.contracts.detection import Verdict
from shared.contracts.inventory import AssetType

SLICE_SECONDS = 3_600


class Traffic(NamedTuple):
    """Interactions that are alike to every rule. `benign`: no rule that decides held anything of them.

    Attributes:
        generation: of the rules that looked.
        asset_id: only where a rule is for certain assets and this is one of them, else "".
    """

    generation: int
    slice: int
    directions: tuple[str, ...]
    asset_type: str
    asset_id: str
    benign: bool


class Fired(NamedTuple):
    """A rule in a version, that found something in an interaction that others held to be benign, or not."""

    rule_id: str
    version: int
    slice: int
    benign: bool


@dataclass(slots=True)
class Tally:
    """Counts; cheap enough for every interaction."""

    traffic: Counter[Traffic] = field(default_factory=Counter)
    fired: Counter[Fired] = field(default_factory=Counter)
    suppressed: Counter[UUID] = field(default_factory=Counter)

    def count(
        self,
        interaction: Interaction,
        findings: Iterable[Finding],
        verdict: Verdict,
        *,
        generation: int,
        asset_type: AssetType | None,
        asset_id: UUID | None,
        at: float,
    ) -> None:
        """Count one interaction.

        Args:
            asset_id: None unless a rule is for this asset alone.
            at: seconds since the epoch.
        """
        benign = verdict is Verdict.ALLOW
        now = int(at // SLICE_SECONDS)
        directions = {interaction.direction}
        for segment in interaction.segments:
            directions.add(segment.direction)
        ways = (interaction.direction.value,) if len(directions) == 1 else tuple(sorted(directions))
        kind = asset_type.value if asset_type is not None else ""
        place = str(asset_id) if asset_id is not None else ""
        self.traffic[Traffic(generation, now, ways, kind, place, benign)] += 1
        seen: set[str] = set()
        for finding in findings:
            if finding.suppressed_by is not None:
                self.suppressed[finding.suppressed_by] += 1
            if finding.rule_id not in seen:
                seen.add(finding.rule_id)
                self.fired[Fired(finding.rule_id, finding.rule_version, now, benign)] += 1

    def __bool__(self) -> bool:
        return bool(self.traffic or self.fired or self.suppressed)

    def add(self, other: Tally) -> None:
        """Count again what could not be written down."""
        self.traffic.update(other.traffic)
        self.fired.update(other.fired)
        self.suppressed.update(other.suppressed)
