"""What several routes ask of the store: figures at a moment, maturity with its history, a series, coverage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from services.metrics.api.views import (
    ControlCoverageView,
    CoverageView,
    MaturityLevelView,
    MaturityView,
    PointView,
    ProgramCoverageView,
    ProgramView,
)
from services.metrics.domain import figures, maturity
from services.metrics.domain.coverage import CELL_COLUMNS, Coverage
from services.metrics.domain.figures import Figure
from services.metrics.domain.ledger import COUNTERS, MINUTES_A_DAY, Totals, at_minute, clamp, minute_of, scopes_of
from services.metrics.store import coverage as coverage_store
from services.metrics.store import totals as totals_store
from shared.auth import Caller
from shared.contracts.inventory import AssetType
from shared.database import Tx
from shared.errors import Invalid, NotFound

TEAMS_SHOWN = 200


class MomentAhead(Invalid):
    """That moment is still to come."""


class TeamNotFound(NotFound):
    """There is no such team that you may know of."""


def moment(as_of: datetime | None) -> int:
    """The minute asked about; now unless told.

    Raises:
        MomentAhead: it lies in the future.
    """
    now = datetime.now(UTC)
    if as_of is not None and as_of > now:
        raise MomentAhead("figures are told of the past and the present only", field="as_of")
    return minute_of(as_of or now)


def teams_of(caller: Caller, team: str | None) -> frozenset[str] | None:
    """The teams that the figures are to cover: the one asked for, or all that the caller sees; None is everybody.

    Raises:
        TeamNotFound: the caller does not see that team.
    """
    if team is None:
        return caller.teams
    if not caller.sees(team):
        raise TeamNotFound(f"no team {team!r}")
    return frozenset({team})


async def program(tx: Tx, minute: int, teams: frozenset[str] | None) -> ProgramView:
    since = await totals_store.recorded_since(tx)
    totals = await totals_store.totals_at(tx, scopes_of(teams), minute) if _known(since, minute) else None
    return ProgramView.of(totals, as_of=at_minute(minute), recorded_since=_recorded(since), whole=teams is None)


async def maturity_at(tx: Tx, minute: int) -> MaturityView:
    """Of the organisation, with the quarters before `minute` that level 5 asks about."""
    since = await totals_store.recorded_since(tx)
    days = [maturity.QUARTER_DAYS * quarter for quarter in range(maturity.EARLIER_QUARTERS, -1, -1)]
    minutes = [clamp(minute - back * MINUTES_A_DAY) for back in days]
    sampled = await totals_store.totals_of(tx, scopes_of(None), minutes, COUNTERS)
    *quarters, now = [
        figures.values(totals if _known(since, moment) else None)
        for moment, totals in zip(minutes, sampled, strict=True)
    ]
    items = [MaturityLevelView.of(found) for found in maturity.assess(now, quarters)]
    return MaturityView(as_of=at_minute(minute), recorded_since=_recorded(since), items=items)


def _known(since: int | None, minute: int) -> bool:
    """Whether figures of that minute are known; while nothing at all was booked, zero is what is known."""
    return since is None or minute >= since


def _recorded(since: int | None) -> datetime | None:
    return None if since is None else at_minute(since)


async def series(
    tx: Tx, wanted: Collection[Figure], minutes: Sequence[int], teams: frozenset[str] | None
) -> list[list[PointView]]:
    """Each of the figures at each of `minutes`; null before recording began and after the present."""
    since = await totals_store.recorded_since(tx)
    now = minute_of(datetime.now(UTC))
    known = [minute for minute in minutes if since is not None and since <= minute <= now]
    counters = sorted({counter for figure in wanted for counter in figure.counters})
    sampled: dict[int, Totals] = {}
    if known:
        found = await totals_store.totals_of(tx, scopes_of(teams), known, counters)
        sampled = dict(zip(known, found, strict=True))
    return [
        [
            PointView.of(at_minute(minute), figure.of(sampled[minute]) if minute in sampled else None)
            for minute in minutes
        ]
        for figure in wanted
    ]


async def coverage(tx: Tx, teams: frozenset[str] | None) -> ProgramCoverageView:
    by_type = await coverage_store.by_asset_type(tx, teams)
    nothing = (0,) * len(CELL_COLUMNS)
    types = [by_type.get(kind.value, Coverage(kind.value, nothing)) for kind in AssetType]
    total = Coverage(
        "all", tuple(sum(column) for column in zip(nothing, *(found.counts for found in types), strict=True))
    )
    return ProgramCoverageView(
        total=CoverageView.of(total),
        by_asset_type=[CoverageView.of(found) for found in types],
        by_control_type=[
            ControlCoverageView(
                control_type=kind, assets=total.assets, controlled=controlled, controlled_rate=total.share(controlled)
            )
            for kind, controlled in total.by_control_type.items()
        ],
        by_team=[CoverageView.of(found) for found in await coverage_store.by_team(tx, teams, TEAMS_SHOWN)],
        teams=await coverage_store.count_teams(tx, teams),
    )
