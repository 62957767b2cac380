"""/v1/metrics: the figures, maturity, coverage, series."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BeforeValidator
from starlette.responses import Response

from services.metrics.api import reading
from services.metrics.api.views import (
    FiguresView,
    FigureView,
    MaturityView,
    ProgramCoverageView,
    ProgramView,
    SeriesView,
)
from services.metrics.domain import figures
from services.metrics.domain.figures import FIGURES
from services.metrics.domain.ledger import at_minute
from services.metrics.domain.series import DEFAULT_DAYS, MAX_POINTS, default_start, sample_minutes, step_minutes
from shared.auth import demand_organization, requires
from shared.errors import Forbidden
from shared.http import reply
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/metrics", "metrics")

_DATE_FIRST = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _written_out(value: object) -> object:
    """Refuse what pydantic would take for seconds since 1970: a year that lacks its month is no moment of 1970."""
    if isinstance(value, str) and not _DATE_FIRST.match(value):
        raise ValueError("write a date and a time with its UTC offset, such as 2026-07-01T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out, json_schema_input_type=AwareDatetime)]

AsOf = Annotated[
    Moment | None, Query(description="A past moment, to the minute; now unless told. With its UTC offset.")
]
Team = Annotated[str | None, Query(max_length=300, description="One team only; all that you see unless told.")]


class OrganisationOnly(Forbidden):
    """This figure is not told for a team."""


@router.get("/program", response_model=ProgramView)
@requires("metrics:read")
async def program(work: Work, as_of: AsOf = None, team: Team = None) -> Response:
    """The program's figures, now or as they stood at a moment. A caller bound to teams gets those of its teams."""
    minute, teams = reading.moment(as_of), reading.teams_of(work.caller, team)
    return reply(await work.read(lambda tx: reading.program(tx, minute, teams)))


@router.get("/maturity", response_model=MaturityView)
@requires("metrics:read")
async def maturity(work: Work, as_of: AsOf = None) -> Response:
    """How mature the program is in each dimension, what that rests on, and what the next level asks for."""
    demand_organization(work.caller, "maturity")
    minute = reading.moment(as_of)
    return reply(await work.read(lambda tx: reading.maturity_at(tx, minute)))


@router.get("/coverage", response_model=ProgramCoverageView)
@requires("metrics:read")
async def coverage(work: Work, team: Team = None) -> Response:
    """How many assets are reviewed, assessed and controlled: in all, by type, by team, by type of control."""
    teams = reading.teams_of(work.caller, team)
    return reply(await work.read(lambda tx: reading.coverage(tx, teams)))


@router.get("/figures", response_model=FiguresView)
@requires("metrics:read")
async def definitions(work: Work) -> Response:
    """Every figure that there is, and what it means. `timeseries` takes any of these names."""
    return reply(FiguresView(items=[FigureView.of(figure) for figure in FIGURES.values()]))


@router.get("/timeseries", response_model=SeriesView)
@requires("metrics:read")
async def timeseries(
    work: Work,
    name: Annotated[str, Query(description="A figure.", json_schema_extra={"enum": sorted(FIGURES)})],
    start: Annotated[
        Moment | None,
        Query(alias="from", description=f"First point; {DEFAULT_DAYS} days before `to` unless told."),
    ] = None,
    end: Annotated[Moment | None, Query(alias="to", description="Last moment; now unless told.")] = None,
    step: Annotated[
        str,
        Query(
            description=f"Between points: a whole number and m, h, d or w. At most {MAX_POINTS} points.",
            json_schema_extra={"pattern": "^[1-9][0-9]{0,6}[mhdw]$"},
        ),
    ] = "1d",
    team: Team = None,
) -> Response:
    """A figure over time, as it stood at each point. Unknown is null, and so are points before recording began."""
    figure, teams = figures.figure(name), reading.teams_of(work.caller, team)
    if teams is not None and not figure.by_team:
        raise OrganisationOnly(f"{name} belongs to the whole organisation")
    end = end or datetime.now(UTC)
    minutes = sample_minutes(start or default_start(end), end, step_minutes(step))
    [points] = await work.read(lambda tx: reading.series(tx, [figure], minutes, teams))
    return reply(
        SeriesView(
            name=figure.name,
            unit=figure.unit,
            definition=figure.definition,
            start=at_minute(minutes[0]),
            end=at_minute(minutes[-1]),
            step=step,
            points=points,
        )
    )
