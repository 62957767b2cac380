"""What the board's report says, as tables of text; page.py and paper.py set it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.metrics.api.views import BoardReportView, CoverageView
from services.metrics.domain.figures import BESIDE, FIGURES, PROGRAM, Unit, Value
from services.metrics.domain.maturity import as_percent

TITLE = "AI security program"
NO_DATA = "no data"

Cell = str | Sequence[str] | None
"""A text, a list of them, or None for what nobody measured."""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; `numbers` are the columns that hold numbers."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[int]
    note: str = ""


def moment(report: BoardReportView) -> str:
    """When the report's figures are of."""
    return f"{report.as_of:%Y-%m-%d %H:%M} UTC"


def introduction(report: BoardReportView) -> str:
    return (
        f"Report to the board, as of {moment(report)}. “No data” means not measured; it is never a zero and never a "
        "success."
    )


def tables(report: BoardReportView) -> list[Table]:
    coverage = report.coverage
    found = [
        _maturity(report),
        _figures(report),
        _coverage("Coverage by asset type", "Asset type", coverage.by_asset_type),
        _coverage("Coverage by team", "Team", coverage.by_team, note=_teams_note(report)),
        _controls(report),
    ]
    return [*found, _trends(report)] if report.trends else found


def _maturity(report: BoardReportView) -> Table:
    rows = [
        (
            found.dimension,
            f"{found.level} {found.level_name}" if found.has_data else f"{found.level} ({NO_DATA})",
            None if found.score is None else f"{found.score:g}",
            found.evidence,
            found.gaps_to_next_level,
        )
        for found in report.maturity
    ]
    return Table("Maturity", ("Dimension", "Level", "Score", "Evidence", "To the next level"), rows, frozenset({2}))


def _figures(report: BoardReportView) -> Table:
    values = report.program.model_dump()
    rows = [
        (_title(figure.name), _value(values[figure.name], figure.unit), figure.definition)
        for figure in (*PROGRAM, *BESIDE)
    ]
    by_category = values["incidents_by_category"] or {}
    rows += [
        (_title(f"incidents: {category}"), str(count), "Detected in the last 365 days.")
        for category, count in sorted(by_category.items())
    ]
    return Table("Figures", ("Figure", "Value", "Definition"), rows, frozenset({1}))


def _coverage(title: str, head: str, groups: Sequence[CoverageView], note: str = "") -> Table:
    rows = [
        (
            _title(group.key) or "no owner",
            str(group.assets),
            _share(group.reviewed_rate),
            _share(group.assessed_rate),
            _share(group.controlled_rate),
        )
        for group in groups
    ]
    return Table(title, (head, "Assets", "Reviewed", "Assessed", "Controlled"), rows, frozenset({1, 2, 3, 4}), note)


def _controls(report: BoardReportView) -> Table:
    rows = [
        (_title(found.control_type), str(found.controlled), _share(found.controlled_rate))
        for found in report.coverage.by_control_type
    ]
    return Table("Coverage by control", ("Control", "Assets", "Share of assets"), rows, frozenset({1, 2}))


def _trends(report: BoardReportView) -> Table:
    head = ("Figure", *(f"{point.at:%d %b}" for point in report.trends[0].points))
    rows = [
        (_title(trend.name), *(_value(point.value, FIGURES[trend.name].unit) for point in trend.points))
        for trend in report.trends
    ]
    return Table("The last quarter, week by week", head, rows, frozenset(range(1, len(head))))


def _teams_note(report: BoardReportView) -> str:
    shown = len(report.coverage.by_team)
    return f"The {shown} largest of {report.coverage.teams} teams." if shown < report.coverage.teams else ""


def _title(name: str) -> str:
    return name.replace("_", " ")


def _share(value: float | None) -> str | None:
    return None if value is None else as_percent(value)


def _value(value: Value, unit: Unit) -> str | None:
    if value is None:
        return None
    if unit is Unit.SHARE:
        return as_percent(float(value))
    if unit is Unit.HOURS:
        return f"{value:.2f} h"
    return f"{value:g}" if unit is Unit.POINTS else f"{int(value):,}"
