"""`/v1/telemetry/assets/{id}/budgets` and `/canaries`: what an asset may use, and what must never come out of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, field_validator
from starlette.responses import Response

from services.detection.api.inspections import Memory
from services.detection.application import usage as application
from services.detection.domain.rules import Amount
from services.detection.domain.trackers.canaries import MAX_CANARIES, marks_of
from services.detection.domain.trackers.usage import Budget, Period
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import In, Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/telemetry", "telemetry")


class BudgetIn(In):
    period: Period = Field(description="A day or a month of the calendar, in UTC.")
    amount: Literal["tokens", "cost_usd"]
    limit: float = Field(gt=0, le=1e15, description="Tokens or US dollars.")


class BudgetsIn(In):
    budgets: list[BudgetIn] = Field(max_length=4, description="One a period and amount; in place of those before.")

    @field_validator("budgets")
    @classmethod
    def _one_of_a_kind(cls, budgets: list[BudgetIn]) -> list[BudgetIn]:
        if len({(one.period, one.amount) for one in budgets}) < len(budgets):
            raise ValueError("two budgets are for the same period and amount")
        return budgets


class BudgetView(Out):
    period: Period
    amount: Literal["tokens", "cost_usd"]
    limit: float
    used: float = Field(description="In the period that runs, as replicas shared it: at most some seconds old.")
    percent: float
    period_start: datetime


class BudgetsView(Out):
    asset_id: UUID
    version: int
    budgets: list[BudgetView]


class CanariesIn(In):
    canaries: list[Annotated[str, Field(max_length=200)]] = Field(
        max_length=MAX_CANARIES,
        description="Texts planted in hidden context that must never come out, of 10 to 128 letters and digits; only "
        "keyed hashes are kept. In place of those before.",
    )

    @field_validator("canaries")
    @classmethod
    def _long_enough(cls, canaries: list[str]) -> list[str]:
        for one in canaries:
            marks_of(one, b"length")
        return canaries


class CanariesView(Out):
    asset_id: UUID
    version: int
    canaries: int = Field(description="How many are registered.")


def _view(asset_id: UUID, done: tuple[int, list[tuple[Budget, float]]], now: datetime) -> BudgetsView:
    version, budgets = done
    views = [
        BudgetView.model_validate(
            {
                "period": one.period,
                "amount": one.amount.value,
                "limit": one.limit,
                "used": used,
                "percent": round(one.percent(used), 2),
                "period_start": datetime.fromtimestamp(one.period.starts(now.timestamp()) * 3_600, UTC),
            }
        )
        for one, used in budgets
    ]
    return BudgetsView(asset_id=asset_id, version=version, budgets=views)


@router.get("/assets/{asset_id}/budgets", response_model=BudgetsView)
@requires("detection:read")
async def get_budgets(asset_id: UUID, work: Work) -> Response:
    """An asset's budgets and what is used of them."""
    now = datetime.now(UTC)
    done = await work.read(lambda tx: application.budgets_with_use(tx, work.caller, asset_id, now))
    return reply(_view(asset_id, done, now), etag=done[0])


@router.put("/assets/{asset_id}/budgets", response_model=BudgetsView)
@requires("detection:write")
async def put_budgets(asset_id: UUID, body: BudgetsIn, if_match: IfMatch, work: Work) -> Response:
    """Set what an asset may use in a day and a month; alerts come at the shares that the rules of type budget name."""
    now = datetime.now(UTC)
    budgets = [Budget(one.period, Amount(one.amount), one.limit) for one in body.budgets]
    return await work.run(
        lambda tx: application.set_budgets(tx, work.caller, asset_id, if_match, budgets, now),
        lambda done: reply(_view(asset_id, done, now), etag=done[0]),
    )


@router.get("/assets/{asset_id}/canaries", response_model=CanariesView)
@requires("detection:read")
async def get_canaries(asset_id: UUID, work: Work) -> Response:
    """How many canaries an asset has; what they are nobody can read."""
    version, count = await work.read(lambda tx: application.canaries_of(tx, work.caller, asset_id))
    return reply(CanariesView(asset_id=asset_id, version=version, canaries=count), etag=version)


@router.put("/assets/{asset_id}/canaries", response_model=CanariesView)
@requires("detection:write")
async def put_canaries(asset_id: UUID, body: CanariesIn, if_match: IfMatch, work: Work, memory: Memory) -> Response:
    """Register the canaries of an asset."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.set_canaries(tx, work.caller, asset_id, if_match, body.canaries, memory.key, now),
        lambda done: reply(CanariesView(asset_id=asset_id, version=done[0], canaries=done[1]), etag=done[0]),
    )
