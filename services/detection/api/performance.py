"""`/v1/rules/performance`: what each rule did, and how right it was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.detection.application.rules import NoSuchRule
from services.detection.domain.figures import wilson
from services.detection.domain.rules import Status
from services.detection.store import performance, rules
from services.detection.store.performance import Record
from services.detection.store.rules import StoredRule
from shared.auth import requires
from shared.database import Tx
from shared.http import reply
from shared.models import Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/rules", "rules")

Days = Annotated[int, Query(ge=1, le=90, description="How far back, in days.")]
Sort = Literal[
    "rule_id", "precision", "-precision", "fired", "-fired", "alerts", "-alerts", "false", "-false", "inspected",
    "-inspected",
]  # fmt: skip


class PerformanceView(Out):
    """One version of a rule. Precision is of alerts judged true or false; `benign` and `duplicate` say nothing of it.

    Traffic is everybody's: it is null for callers who are bound to teams, unless the rule is for assets of theirs.
    """

    rule_id: str
    version: int
    status: Status
    written_at: datetime
    inspected: int | None = Field(description="Interactions with something for it to look at.")
    inspected_benign: int | None = Field(description="Those of which no rule that decides held anything.")
    fired: int | None = Field(description="Interactions in which it found something, in shadow too.")
    fired_benign: int | None = Field(description="The same among the benign ones.")
    alerts: int
    true: int
    false: int
    benign: int
    duplicate: int
    precision: float | None = Field(description="true / (true + false); null without any.")
    precision_low: float = Field(description="Wilson's 95 % interval.")
    precision_high: float

    @classmethod
    def of(cls, one: Record, *, traffic: bool) -> PerformanceView:
        judged = one.true + one.false
        low, high = wilson(one.true, judged)
        return cls(
            rule_id=one.rule_id,
            version=one.version,
            status=Status(one.status),
            written_at=one.written_at,
            inspected=one.inspected if traffic else None,
            inspected_benign=one.inspected_benign if traffic else None,
            fired=one.fired if traffic else None,
            fired_benign=one.fired_benign if traffic else None,
            alerts=one.alerts,
            true=one.true,
            false=one.false,
            benign=one.benign,
            duplicate=one.duplicate,
            precision=one.true / judged if judged else None,
            precision_low=low,
            precision_high=high,
        )


class PerformanceOfRule(Out):
    """A rule's versions, newest first, in a window of time."""

    rule_id: str
    since: datetime
    versions: list[PerformanceView]


@router.get("/performance", response_model=PageOf[PerformanceView])
@requires("detection:read")
async def list_performance(page: Page, work: Work, days: Days = 30, sort: Sort = "rule_id") -> Response:
    """What the present version of each running rule did; `sort=-false` is the noisiest first, unknown values last."""
    since = datetime.now(UTC) - timedelta(days=days)

    async def read(tx: Tx) -> list[tuple[StoredRule, Record]]:
        listed = {one.rule.id: one for one in await rules.running(tx, work.caller)}
        known = await performance.records(tx, work.caller, list(listed), since)
        return [(listed[one.rule_id], one) for one in known if one.version == listed[one.rule_id].version]

    wide = work.caller.organization_wide
    found = [
        PerformanceView.of(one, traffic=wide or bool(stored.rule.scope.asset_ids))
        for stored, one in await work.read(read)
    ]
    key = _key(sort)
    found.sort(key=key)
    if page.after is not None:
        last = tuple(page.after)
        found = [one for one in found if key(one) > last]
    shown = found[: page.limit]
    cursor = page.cursor(*key(shown[-1])) if len(found) > page.limit else None
    return reply(PageOf[PerformanceView](items=shown, next_cursor=cursor))


def _key(sort: str) -> Callable[[PerformanceView], tuple[int, float, str]]:
    name = sort.removeprefix("-")
    sign = -1.0 if sort.startswith("-") else 1.0

    def key(one: PerformanceView) -> tuple[int, float, str]:
        value = None if name == "rule_id" else getattr(one, name)
        return (1, 0.0, one.rule_id) if value is None else (0, sign * value, one.rule_id)

    return key


@router.get("/{rule_id}/performance", response_model=PerformanceOfRule)
@requires("detection:read")
async def get_performance(rule_id: str, work: Work, days: Days = 30) -> Response:
    """What a rule did in each version."""
    since = datetime.now(UTC) - timedelta(days=days)
    stored = await work.read(lambda tx: rules.get(tx, work.caller, rule_id))
    if stored is None:
        raise NoSuchRule(f"there is no rule {rule_id}")
    known = await work.read(lambda tx: performance.records(tx, work.caller, [rule_id], since))
    traffic = work.caller.organization_wide or bool(stored.rule.scope.asset_ids)
    views = [PerformanceView.of(one, traffic=traffic) for one in reversed(known)]
    return reply(PerformanceOfRule(rule_id=rule_id, since=since, versions=views))
