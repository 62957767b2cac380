"""How far reviews, assessments and controls reach, by team and type of asset.

Counts of the present only. What has no assets has no share of them: null, not zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.metrics.domain.assets import CONTROL_TYPES, NO_CONTROLS, Asset

# The columns of a cell: how many assets there are, how many of them are so far, and how many have each control.
PROGRESS = ("assets", "reviewed", "assessed", "controlled")
CELL_COLUMNS: tuple[str, ...] = (*PROGRESS, *(f"with_{control_type.value}" for control_type in CONTROL_TYPES))

Cell = tuple[str, str]


class Grouping(StrEnum):
    """What coverage is broken down by."""

    ASSET_TYPE = "asset_type"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Coverage:
    """A group of assets and how many of them are reviewed, assessed, controlled and under each type of control."""

    key: str
    counts: tuple[int, ...]

    @property
    def assets(self) -> int:
        return self.counts[0]

    @property
    def reviewed(self) -> int:
        return self.counts[1]

    @property
    def assessed(self) -> int:
        return self.counts[2]

    @property
    def controlled(self) -> int:
        return self.counts[3]

    @property
    def by_control_type(self) -> dict[str, int]:
        return dict(zip((kind.value for kind in CONTROL_TYPES), self.counts[len(PROGRESS) :], strict=True))

    def share(self, counted: int) -> float | None:
        """`counted` of the group's assets; null where it has none."""
        return counted / self.assets if self.assets else None


class CoverageChanges:
    """What a run of events does to the cells."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: dict[Cell, list[int]] = {}

    def replace(self, old: Asset, new: Asset) -> None:
        before, after = _marks(old), _marks(new)
        if before == after:
            return
        for found, sign in ((before, -1), (after, 1)):
            if found is None:
                continue
            cell, columns = found
            change = self._changes.get(cell)
            if change is None:
                change = self._changes[cell] = [0] * len(CELL_COLUMNS)
            for column in columns:
                change[column] += sign

    def rows(self) -> Iterator[tuple[str, str, list[int]]]:
        """(team, asset type, change by column), in a fixed order."""
        for (team, asset_type), change in sorted(self._changes.items()):
            yield team, asset_type, change


def group(cells: Iterable[tuple[str, Sequence[int]]]) -> dict[str, Coverage]:
    """Cells added up by their key."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * len(CELL_COLUMNS))
    for key, counts in cells:
        sums[key] = [a + b for a, b in zip(sums[key], counts, strict=True)]
    return {key: Coverage(key, tuple(counts)) for key, counts in sums.items()}


def _marks(asset: Asset) -> tuple[Cell, tuple[int, ...]] | None:
    """The cell that the asset is counted in, and the columns that it counts for."""
    if not asset.live:
        return None
    marks = [0]
    if asset.reviewed_on is not None:
        marks.append(1)
    if asset.residual_cents is not None:
        marks.append(2)
    if asset.operational_by_type is not NO_CONTROLS and asset.controlled:
        marks.append(3)
        first = len(PROGRESS)
        marks.extend(first + position for position, count in enumerate(asset.operational_by_type) if count)
    return (asset.team, asset.asset_type), tuple(marks)
