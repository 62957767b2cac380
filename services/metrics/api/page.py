"""The board's report as one page to read and print: no script, nothing loaded from anywhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from services.metrics.api.board import NO_DATA, TITLE, Cell, Table, introduction, moment, tables
from services.metrics.api.views import BoardReportView

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


def page(report: BoardReportView) -> str:
    """The report as a complete HTML document; everything that came from outside is escaped."""
    heading = f'<h1>{TITLE}</h1><p class="note">{escape(introduction(report))}</p>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}, {moment(report)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{heading}{''.join(_table(table) for table in tables(report))}</main></body></html>\n"
    )


def _table(table: Table) -> str:
    mark = dict.fromkeys(table.numbers, ' class="number"')

    def cells(tag: str, row: list[str]) -> str:
        return "".join(f"<{tag}{mark.get(position, '')}>{cell}</{tag}>" for position, cell in enumerate(row))

    caption = f"<caption>{escape(table.note)}</caption>" if table.note else ""
    top = cells("th", [escape(name) for name in table.head])
    lines = "".join(f"<tr>{cells('td', [_cell(cell) for cell in row])}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><table>{caption}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(cell: Cell) -> str:
    if cell is None:
        return f'<span class="unknown">{NO_DATA}</span>'
    if isinstance(cell, str):
        return escape(cell)
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in cell)}</ul>" if cell else ""
