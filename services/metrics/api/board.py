"""The board's report as one page to read and print: no script, nothing loaded from anywhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape

from services.metrics.api.views import BoardReportView, CoverageView
from services.metrics.domain.figures import BESIDE, FIGURES, PROGRAM, Unit, Value
from services.metrics.domain.maturity import as_percent

_STYLE = """
body { font: 11pt/1.4 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: #57606a; padding-bottom: .3rem; }
th, td { border-bottom: 1px solid #d0d7de; padding: .3rem .5rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
ul { margin: 0; padding-left: 1.1rem; } .unknown, .note { color: #57606a; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_UNKNOWN = '<span class="unknown">no data</span>'


def page(report: BoardReportView) -> str:
    """The report as a complete HTML document; everything that came from outside is escaped."""
    at = f"{report.as_of:%Y-%m-%d %H:%M} UTC"
    heading = (
        f'<h1>AI security program</h1><p class="note">Report to the board, as of {at}. '
        "&ldquo;No data&rdquo; means not measured; it is never a zero and never a success.</p>"
    )
    body = [
        heading,
        _maturity(report),
        _figures(report),
        _coverage("Coverage by asset type", "Asset type", report.coverage.by_asset_type),
        _coverage("Coverage by team", "Team", report.coverage.by_team, note=_teams_note(report)),
        _controls(report),
        _trends(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>AI security program, {at}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _maturity(report: BoardReportView) -> str:
    rows = [
        (
            escape(found.dimension),
            f"{found.level} {escape(found.level_name)}" if found.has_data else f"{found.level} {_UNKNOWN}",
            _UNKNOWN if found.score is None else f"{found.score:g}",
            _bullets(found.evidence),
            _bullets(found.gaps_to_next_level),
        )
        for found in report.maturity
    ]
    return _table("Maturity", ("Dimension", "Level", "Score", "Evidence", "To the next level"), rows, numbers={2})


def _figures(report: BoardReportView) -> str:
    values = report.program.model_dump()
    rows = [
        (escape(_title(figure.name)), _value(values[figure.name], figure.unit), escape(figure.definition))
        for figure in (*PROGRAM, *BESIDE)
    ]
    by_category = values["incidents_by_category"] or {}
    rows += [
        (escape(_title(f"incidents: {category}")), str(count), "Detected in the last 365 days.")
        for category, count in sorted(by_category.items())
    ]
    return _table("Figures", ("Figure", "Value", "Definition"), rows, numbers={1})


def _coverage(title: str, head: str, groups: Sequence[CoverageView], note: str = "") -> str:
    rows = [
        (
            escape(_title(group.key)) if group.key else '<span class="unknown">no owner</span>',
            str(group.assets),
            _share(group.reviewed_rate),
            _share(group.assessed_rate),
            _share(group.controlled_rate),
        )
        for group in groups
    ]
    return _table(title, (head, "Assets", "Reviewed", "Assessed", "Controlled"), rows, numbers={1, 2, 3, 4}, note=note)


def _controls(report: BoardReportView) -> str:
    rows = [
        (escape(_title(found.control_type)), str(found.controlled), _share(found.controlled_rate))
        for found in report.coverage.by_control_type
    ]
    return _table("Coverage by control", ("Control", "Assets", "Share of assets"), rows, numbers={1, 2})


def _trends(report: BoardReportView) -> str:
    if not report.trends:
        return ""
    head = ("Figure", *(f"{point.at:%d %b}" for point in report.trends[0].points))
    rows = [
        (escape(_title(trend.name)), *(_value(point.value, FIGURES[trend.name].unit) for point in trend.points))
        for trend in report.trends
    ]
    return _table("The last quarter, week by week", head, rows, numbers=set(range(1, len(head))))


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: set[int], note: str = "") -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        mark = dict.fromkeys(numbers, ' class="number"')
        return "".join(f"<{tag}{mark.get(position, '')}>{cell}</{tag}>" for position, cell in enumerate(row))

    caption = f"<caption>{escape(note)}</caption>" if note else ""
    top = cells("th", [escape(name) for name in head])
    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table>{caption}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _teams_note(report: BoardReportView) -> str:
    shown = len(report.coverage.by_team)
    return f"The {shown} largest of {report.coverage.teams} teams." if shown < report.coverage.teams else ""


def _title(name: str) -> str:
    return name.replace("_", " ")


def _bullets(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else as_percent(value)


def _value(value: Value, unit: Unit) -> str:
    if value is None:
        return _UNKNOWN
    if unit is Unit.SHARE:
        return as_percent(float(value))
    if unit is Unit.HOURS:
        return f"{value:.2f} h"
    return f"{value:g}" if unit is Unit.POINTS else f"{int(value):,}"
