"""/v1/reports: the program on paper."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from services.metrics.api import reading
from services.metrics.api.page import SECURITY_HEADERS, page
from services.metrics.api.paper import Typesetter
from services.metrics.api.routes import AsOf
from services.metrics.api.views import BoardReportView, BoardTrendView
from services.metrics.domain.figures import FIGURES
from services.metrics.domain.ledger import MINUTES_A_DAY, at_minute, clamp
from shared.auth import demand_organization, requires
from shared.database import Tx
from shared.errors import Invalid
from shared.http import reply
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/reports", "reports")

FORMATS = ("json", "html", "pdf")

# The last quarter, week by week.
TREND_WEEKS = 13
TREND_FIGURES = (
    "total_ai_assets",
    "asset_coverage_rate",
    "mean_residual_risk",
    "critical_risk_assets",
    "incidents_last_30_days",
    "control_coverage_rate",
    "compliance_gap_count",
    "overdue_actions",
)


class FormatNotAvailable(Invalid):
    """The report is not available in this format."""


@router.get(
    "/board",
    response_model=BoardReportView,
    responses={
        200: {
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
@requires("metrics:read")
async def board(
    work: Work,
    format: Annotated[
        str,
        Query(
            description="As data, as a page to read or print, or as a document.", json_schema_extra={"enum": FORMATS}
        ),
    ] = "json",
    as_of: AsOf = None,
) -> Response:
    """The board's report: figures, maturity, coverage and the last quarter's trend at one moment."""
    demand_organization(work.caller, "the board's report")
    if format not in FORMATS:
        raise FormatNotAvailable(f"{format!r} is none of {', '.join(FORMATS)}", field="format", allowed=FORMATS)
    minute = reading.moment(as_of)
    report = await work.read(lambda tx: _report(tx, minute))
    if format == "html":
        return Response(page(report), media_type="text/html", headers=SECURITY_HEADERS)
    if format == "pdf":
        typesetter: Typesetter = work.runtime.resources["typesetter"]
        name = f"board-report-{report.as_of:%Y-%m-%d}.pdf"
        headers = {"Content-Disposition": f'inline; filename="{name}"', "Cache-Control": "no-store"}
        return Response(await typesetter.pdf(report), media_type="application/pdf", headers=headers)
    return reply(report)


async def _report(tx: Tx, minute: int) -> BoardReportView:
    weeks = [clamp(minute - back * 7 * MINUTES_A_DAY) for back in range(TREND_WEEKS - 1, -1, -1)]
    trends = await reading.series(tx, [FIGURES[name] for name in TREND_FIGURES], weeks, None)
    return BoardReportView(
        as_of=at_minute(minute),
        program=await reading.program(tx, minute, None),
        maturity=(await reading.maturity_at(tx, minute)).items,
        coverage=await reading.coverage(tx, None),
        trends=[BoardTrendView(name=name, points=points) for name, points in zip(TREND_FIGURES, trends, strict=True)],
    )
