"""What happens without an event: a new model reaches every asset, activity fades, reviews grow old."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from services.risk import application, jobs
from services.risk.store import models
from services.risk.store.tables import alert_copy, assessment, asset_copy
from services.risk.tests.factories import alert, incident, registered, retired, then
from shared.consumer import journal_table
from shared.contracts.incidents import IncidentClosed
from shared.contracts.risk import AssessmentCompleted, ModelUpdated
from shared.testing import Harness

PUBLIC_DATA_WEIGHS_ALL = {
    "data_sensitivity": 1.0,
    "deployment_exposure": 0.0,
    "model_provenance": 0.0,
    "regulatory_impact": 0.0,
    "capability_risk": 0.0,
    "supply_chain": 0.0,
}


async def put_weights(risk: Harness, weights: dict[str, float] = PUBLIC_DATA_WEIGHS_ALL) -> dict[str, Any]:
    response = await risk.client("engineer").put(
        "/v1/risk/model", json={"weights": weights, "note": "only data counts"}, headers={"If-Match": "*"}
    )
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def progress(risk: Harness) -> Any:
    return (await risk.client("viewer").get("/v1/risk/model")).json()["rescore"]


async def newest(risk: Harness, asset_id: UUID) -> Any:
    return (await risk.client("viewer").get(f"/v1/risk/assets/{asset_id}")).json()


async def count(risk: Harness, table: sa.Table) -> int:
    async with risk.runtime.db.read() as tx:
        return int(await tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


async def identical_after_replay(risk: Harness) -> bool:
    return all(table.identical for table in (await risk.rebuild()).values())


async def test_a_new_model_reaches_the_whole_portfolio(risk: Harness) -> None:
    assets = [uuid4() for _ in range(7)]
    await risk.deliver(*(registered(asset) for asset in assets), retired(assets[0]))
    changed = await put_weights(risk)
    assert changed["version"] == 2
    assert changed["rescore"] == {"status": "running", "total": 6, "done": 0, "finished_at": None}
    await jobs.rescore_portfolio(risk.runtime)
    done = await progress(risk)
    assert (done["status"], done["total"], done["done"]) == ("completed", 6, 6)
    for asset in assets[1:]:
        found = await newest(risk, asset)
        assert (found["residual_risk_score"], found["model_version"], found["trigger"]) == (85.0, 2, "model.updated")
        assert (found["previous_risk_score"], found["risk_level"]) == (71.25, "CRITICAL")
    assert (await newest(risk, assets[0]))["model_version"] == 1
    [announced] = await risk.published(ModelUpdated.TYPE)
    assert (announced.data["version"], announced.data["weights"]["data_sensitivity"]) == (2, 1.0)
    assert len(await risk.published(AssessmentCompleted.TYPE)) == 8 + 6
    assert await identical_after_replay(risk)


async def test_a_rescore_that_was_killed_goes_on_where_it_stopped(
    risk: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress lies in the transaction of each page, so a new process needs to be told nothing."""
    monkeypatch.setattr(application, "ASSETS_A_PAGE", 3)
    await risk.deliver(*(registered() for _ in range(8)))
    await put_weights(risk)
    consumers = risk.service.consumers
    assert consumers is not None
    for _page in range(2):
        async with risk.runtime.db.begin() as tx:
            await consumers.execute(tx, application.RESCORE_PAGE, {"id": str(uuid4()), "limit": 3})
    # A page that is cut off leaves nothing behind.
    with suppress(ConnectionError):
        async with risk.runtime.db.begin() as tx:
            await consumers.execute(tx, application.RESCORE_PAGE, {"id": str(uuid4()), "limit": 3})
            raise ConnectionError
    assert (await progress(risk))["done"] == 6
    assert await count(risk, assessment) == 8 + 6
    await jobs.rescore_portfolio(risk.runtime)
    assert (await progress(risk))["status"] == "completed"
    assert await count(risk, assessment) == 8 + 8
    assert await identical_after_replay(risk)


async def test_what_an_event_scored_meanwhile_is_not_scored_twice(risk: Harness) -> None:
    asset, other = uuid4(), uuid4()
    await risk.deliver(registered(asset))
    await put_weights(risk)
    await risk.deliver(alert(asset), registered(other))
    await jobs.rescore_portfolio(risk.runtime)
    assert [(await newest(risk, one))["trigger"] for one in (asset, other)] == ["alert.raised", "asset.registered"]
    assert (await newest(risk, asset))["base_residual_risk_score"] == 85.0
    assert (await progress(risk))["done"] == 1


async def test_a_newer_model_takes_over_from_one_still_being_applied(risk: Harness) -> None:
    await risk.deliver(registered(), registered())
    await put_weights(risk)
    await put_weights(risk, PUBLIC_DATA_WEIGHS_ALL | {"data_sensitivity": 0.5, "capability_risk": 0.5})
    await jobs.rescore_portfolio(risk.runtime)
    versions = (await risk.client("viewer").get("/v1/risk/model/versions")).json()["items"]
    assert [(v["version"], v["rescore"] and v["rescore"]["status"]) for v in versions] == [
        (3, "completed"),
        (2, "superseded"),
        (1, None),
    ]
    assert await count(risk, assessment) == 4
    assert await identical_after_replay(risk)


async def test_without_a_new_model_there_is_nothing_to_score_again(risk: Harness) -> None:
    await risk.deliver(registered())
    await jobs.rescore_portfolio(risk.runtime)
    assert await count(risk, assessment) == 1


async def test_activity_fades_until_the_score_is_the_specifications_again(risk: Harness) -> None:
    now = datetime.now(UTC)
    fading, fresh, gone = uuid4(), uuid4(), uuid4()
    await risk.deliver(
        *(registered(asset, at=now - timedelta(days=8)) for asset in (fading, fresh)),
        registered(gone, at=now - timedelta(days=400)),
        alert(fading, at=now - timedelta(days=7)),
        alert(fresh, at=now),
        alert(gone, at=now - timedelta(days=300)),
    )
    assert (await newest(risk, fading))["residual_risk_score"] == 83.25
    await jobs.look_at_active_assets(risk.runtime)
    found = await newest(risk, fading)
    assert (found["residual_risk_score"], found["trigger"], found["risk_level"]) == (
        77.25,
        "activity.decayed",
        "CRITICAL",
    )
    assert found["adjustments"][0]["points"] == 6.0
    assert (await newest(risk, fresh))["trigger"] == "alert.raised", "nothing moved"
    found = await newest(risk, gone)
    assert (found["residual_risk_score"], found["adjustments"]) == (71.25, [])
    assert await count(risk, alert_copy) == 2, "what has faded is forgotten"
    before = await count(risk, assessment), await count(risk, journal_table)
    await jobs.look_at_active_assets(risk.runtime)
    after = await count(risk, assessment), await count(risk, journal_table)
    assert after == before, "a look that finds nothing leaves nothing"
    assert await identical_after_replay(risk)


async def test_an_open_incident_does_not_fade_and_a_closed_one_does(risk: Harness) -> None:
    now = datetime.now(UTC)
    long_ago = now - timedelta(days=60)
    still, over = uuid4(), uuid4()
    ended = incident(over, at=long_ago)
    await risk.deliver(
        registered(still, at=long_ago),
        registered(over, at=long_ago),
        incident(still, severity="sev3", at=long_ago),
        ended,
        then(ended, IncidentClosed, at=long_ago, status="closed", closed_at=long_ago),
    )
    await jobs.look_at_active_assets(risk.runtime)
    assert (await newest(risk, still))["residual_risk_score"] == 79.25
    assert (await newest(risk, over))["residual_risk_score"] == 71.29
    assert await identical_after_replay(risk)


async def test_dependents_that_appear_during_an_attack_are_seen_by_the_next_look(risk: Harness) -> None:
    now = datetime.now(UTC)
    asset = uuid4()
    await risk.deliver(registered(asset, at=now), incident(asset, severity="sev2", at=now))
    await risk.deliver(registered(upstream_assets=[str(asset)], at=now))
    await jobs.look_at_active_assets(risk.runtime)
    assert [a["kind"] for a in (await newest(risk, asset))["adjustments"]] == ["incident_activity", "blast_radius"]


async def test_a_review_that_grew_old_changes_the_score_when_the_day_comes(risk: Harness) -> None:
    now = datetime.now(UTC)
    days = {name: (now - timedelta(days=age)).date().isoformat() for name, age in (("old", 91), ("young", 90))}
    old, young, never = uuid4(), uuid4(), uuid4()
    before = now - timedelta(days=20)
    await risk.deliver(
        registered(old, at=before, last_security_review=days["old"]),
        registered(young, at=before, last_security_review=days["young"]),
        registered(never, at=before),
    )
    await jobs.look_at_stale_reviews(risk.runtime)
    found = await newest(risk, old)
    assert (found["previous_risk_score"], found["residual_risk_score"], found["trigger"]) == (
        68.25,
        69.75,
        "review.stale",
    )
    assert (await newest(risk, young))["number"] == (await newest(risk, never))["number"] == 1
    await jobs.look_at_stale_reviews(risk.runtime)
    assert (await newest(risk, old))["number"] == 2, "once is enough"
    assert await identical_after_replay(risk)


async def test_a_retired_asset_has_no_review_that_grows_old(risk: Harness) -> None:
    now = datetime.now(UTC)
    asset = uuid4()
    day = (now - timedelta(days=91)).date().isoformat()
    await risk.deliver(
        registered(asset, at=now - timedelta(days=20), last_security_review=day),
        retired(asset, last_security_review=day),
    )
    async with risk.runtime.db.begin() as tx:
        assert await tx.scalar(sa.select(asset_copy.c.review_stale_on)) is None
        # As an earlier release left it.
        await tx.execute(asset_copy.update().values(review_stale_on=now.date()))
    before = await count(risk, journal_table)
    await asyncio.wait_for(jobs.look_at_stale_reviews(risk.runtime), 10)
    assert await count(risk, journal_table) == before


async def test_looking_at_stale_reviews_ends_though_nothing_came_of_it(
    risk: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "ASSETS_A_PAGE", 2)
    await risk.deliver(*(registered(uuid4()) for _ in range(5)))
    async with risk.runtime.db.begin() as tx:
        await tx.execute(asset_copy.update().values(review_stale_on=datetime.now(UTC).date()))
    seen: list[str] = []

    async def journal(tx: Any, name: str, payload: dict[str, Any]) -> None:
        seen.extend(payload["asset_ids"])

    monkeypatch.setattr(jobs, "_journal", lambda runtime: journal)
    await asyncio.wait_for(jobs.look_at_stale_reviews(risk.runtime), 10)
    assert len(seen) == len(set(seen)) == 5


async def test_the_first_model_survives_a_rebuild_without_a_row(risk: Harness) -> None:
    await risk.deliver(registered())
    assert await identical_after_replay(risk)
    async with risk.runtime.db.read() as tx:
        assert (await models.current(tx)).model.version == 1
        assert await tx.scalar(sa.select(asset_copy.c.model_version)) == 1
