"""Events in: figures on an estate counted by hand, redelivery, rebuilds, batches cut anywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from services.metrics.domain import figures
from services.metrics.domain.figures import Value
from services.metrics.domain.ledger import minute_of, scopes_of
from services.metrics.main import SERVICE
from services.metrics.store import REBUILT, metadata
from services.metrics.store import totals as totals_store
from services.metrics.tests.factories import (
    NOON,
    a_registration,
    an_assessment,
    an_estate,
)
from shared import backbone, migrate
from shared.consumer import Fenced
from shared.contracts.envelope import Event
from shared.testing import Harness, TestServer

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


# Counted by hand at three hours past noon.
BY_HAND: dict[str, Value] = {
    "total_ai_assets": 4,
    "assets_with_security_review": 3,
    "assets_with_stale_review": 1,
    "asset_coverage_rate": 0.75,
    "critical_risk_assets": 1,
    "high_risk_assets": 1,
    "mean_residual_risk": 55.5,
    "risk_acceptance_count": 1,
    "incidents_last_30_days": 2,
    "mean_time_to_detect_hours": 2.0,
    "mean_time_to_contain_hours": 1.5,
    "mean_time_to_resolve_hours": 3.0,
    "controls_deployed": 2,
    "controls_operational": 1,
    "control_coverage_rate": 0.25,
    "red_team_engagements_ytd": 1,
    "findings_from_red_team": 2,
    "findings_remediated": 1,
    "remediation_rate": 0.5,
    "compliance_gap_count": 4,
    "overdue_actions": 3,
    "assets_assessed": 3,
    "assets_controlled": 1,
    "assets_gap_free": 0,
    "current_review_rate": 0.5,
    "assessed_rate": 0.75,
    "gap_free_rate": 0.0,
    "control_operational_rate": 0.5,
    "policy_exceptions_in_force": 1,
    "actions_tracked": 6,
    "alerts_last_30_days": 1,
    "alert_precision": 1.0,
    "policies_in_force": 2,
    "risk_appetite_set": 1,
    "board_decisions": 1,
    "incidents_by_category.pii_leakage_in_output": 1,
    "incidents_by_category.jailbreak_bypass": 1,
}


async def figures_of(metrics: Harness, teams: Sequence[str] | None = None) -> dict[str, Value]:
    async with metrics.runtime.db.read() as tx:
        return figures.values(await totals_store.totals_at(tx, scopes_of(teams), minute_of(NOON + 3 * HOUR)))


async def rows_of(metrics: Harness) -> dict[str, list[Any]]:
    async with metrics.runtime.db.read() as tx:
        return {
            table.name: sorted(tuple(map(str, row)) for row in await tx.execute(sa.select(table))) for table in REBUILT
        }


async def test_tables_in_code_are_those_of_the_migrations(postgres: TestServer) -> None:
    url = await postgres.database("metrics", SERVICE.directory / "migrations")
    try:
        await migrate.check(SERVICE.directory / "migrations", url)
    finally:
        await postgres.drop(url)
    assert set(metadata.tables).isdisjoint(backbone.metadata.tables)


async def test_figures_of_an_estate_counted_by_hand(metrics: Harness) -> None:
    await metrics.deliver(*an_estate())
    assert not await metrics.dead_letters()
    counted = await figures_of(metrics)
    categories = {name for name in counted if name.startswith("incidents_by_category.")}
    expected = dict.fromkeys(categories, 0) | BY_HAND
    assert counted == expected


async def test_teams_add_up_to_the_organisation(metrics: Harness) -> None:
    await metrics.deliver(*an_estate())
    whole = await figures_of(metrics)
    assert await figures_of(metrics, ["search", "data", ""]) == whole
    data = await figures_of(metrics, ["data"])
    assert (data["total_ai_assets"], data["mean_residual_risk"], data["mean_time_to_detect_hours"]) == (1, 20.25, 3.0)
    assert (await figures_of(metrics, []))["total_ai_assets"] == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_tables_do_not_depend_on_how_events_are_cut_into_batches(
    metrics: Harness, postgres: TestServer, seed: int
) -> None:
    events = an_estate()
    await metrics.deliver(*events)
    one_by_one = await rows_of(metrics)
    async with metrics.runtime.db.begin() as tx:
        for table in reversed(REBUILT):
            await tx.execute(table.delete())
    cut = random.Random(seed)
    while events:
        size = cut.randint(1, 12)
        await metrics.deliver(*events[:size], together=True)
        events = events[size:]
    assert await rows_of(metrics) == one_by_one


async def test_events_heard_again_change_nothing(metrics: Harness) -> None:
    await metrics.deliver(*an_estate())
    before = await rows_of(metrics)
    for stream in ("INVENTORY", "RISK", "INCIDENTS", "GOVERNANCE", "DETECTION"):
        with pytest.raises(Fenced):
            await metrics.redeliver(stream, 1)
    # The same facts under new message ids, as a producer restored from a backup would send them.
    await metrics.deliver(*an_estate(), together=True)
    assert await rows_of(metrics) == before


async def test_a_rebuild_gives_the_same_tables(metrics: Harness) -> None:
    events = an_estate()
    await metrics.deliver(*events[:20])
    await metrics.deliver(*events[20:], together=True)
    assert not await metrics.dead_letters()
    figures_before = await figures_of(metrics)
    rebuilt = await metrics.rebuild()
    assert {name for name, _ in rebuilt.items()} == {table.name for table in REBUILT}
    assert all(table.identical for table in rebuilt.values())
    assert await figures_of(metrics) == figures_before


async def test_an_event_that_cannot_be_read_is_set_aside_and_the_others_count(metrics: Harness) -> None:
    naive = a_registration("naive", at=NOON.replace(tzinfo=None))
    await metrics.deliver(a_registration("one"), naive, a_registration("two"), together=True)
    assert (await figures_of(metrics))["total_ai_assets"] == 2
    assert len(await metrics.dead_letters()) == 1
    assert all(table.identical for table in (await metrics.rebuild()).values())


async def test_totals_at_many_moments_are_those_at_each(metrics: Harness) -> None:
    events: list[Event] = []
    for number in range(60):
        at = NOON + timedelta(minutes=number * 397)
        events.append(a_registration(f"asset {number}", at=at, last_security_review=at.date()))
        events.append(an_assessment(f"asset {number}", float(number), at=at + timedelta(minutes=7)))
    await metrics.deliver(*events, together=True)
    minutes = [minute_of(NOON) + offset for offset in range(-500, 200_000, 3_571)]
    async with metrics.runtime.db.read() as tx:
        together = await totals_store.totals_of(
            tx, scopes_of(None), minutes, figures.FIGURES["mean_residual_risk"].counters
        )
        for minute, totals in zip(minutes, together, strict=True):
            alone = await totals_store.totals_at(tx, scopes_of(None), minute)
            booked = [n for n in range(60) if minute_of(NOON) + n * 397 + 7 <= minute]
            for counter in figures.FIGURES["mean_residual_risk"].counters:
                assert totals[counter] == alone[counter]
            expected = round(sum(booked) / len(booked), 2) if booked else None
            assert figures.figure("mean_residual_risk").of(alone) == expected
