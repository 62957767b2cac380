"""What follows from what inventory and risk announce, through the consumer's own transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from services.governance import jobs
from services.governance.application import reviews
from services.governance.store.schema import asset_risk_table, asset_table
from services.governance.tests.factories import a_snapshot, an_asset, announced, assessed, day, in_days, made
from shared.consumer import Fenced
from shared.contracts.inventory import AssetRegistered, AssetRetired, AssetReviewed, AssetUpdated, Lifecycle
from shared.testing import Harness


async def owed(governance: Harness) -> list[dict[str, Any]]:
    """Look for reviews that fall due as the leader does, and give all reviews."""
    await jobs.ReviewSearch()(governance.runtime)
    found = await made(await governance.client().get("/v1/governance/reviews"), 200)
    items: list[dict[str, Any]] = found["items"]
    return items


async def test_copies_follow_the_newest_version_whatever_the_order(governance: Harness) -> None:
    old = a_snapshot(name="old")
    new = old.model_copy(update={"version": 3, "name": "new"})
    late = old.model_copy(update={"version": 2, "name": "late"})
    await governance.deliver(
        announced(AssetRegistered, old), announced(AssetUpdated, new), announced(AssetUpdated, late), together=True
    )
    await governance.deliver(announced(AssetUpdated, late))
    await governance.deliver(assessed(old.asset_id, 60.0, version=2), assessed(old.asset_id, 10.0, version=1))
    async with governance.runtime.db.read() as tx:
        (copy,) = (await tx.execute(sa.select(asset_table))).all()
        (risk,) = (await tx.execute(sa.select(asset_risk_table))).all()
    assert (copy.version, copy.name) == (3, "new")
    assert (risk.version, risk.residual_risk_score, risk.risk_level) == (2, 60.0, "HIGH")


async def test_an_assessment_may_arrive_before_its_asset(governance: Harness) -> None:
    asset_id = uuid4()
    await governance.deliver(assessed(asset_id, 60.0))
    await an_asset(governance, asset_id=asset_id)
    found = await made(await governance.client().get(f"/v1/governance/appetite/assets/{asset_id}"), 200)
    assert found["residual_risk_score"] == 60.0


async def test_a_message_is_applied_once(governance: Harness) -> None:
    await an_asset(governance)
    with pytest.raises(Fenced):
        await governance.redeliver("INVENTORY", 1)


async def test_a_new_asset_owes_its_first_review_and_a_review_settles_it(governance: Harness) -> None:
    snapshot = a_snapshot()
    await governance.deliver(announced(AssetRegistered, snapshot))
    (review,) = await owed(governance)
    assert (review["kind"], review["target"], review["due_on"]) == ("asset_security", str(snapshot.asset_id), day(30))
    assert len(await owed(governance)) == 1
    today = datetime.now(UTC).date()
    reviewed = snapshot.model_copy(update={"version": 2, "last_security_review": today})
    await governance.deliver(announced(AssetReviewed, reviewed, reviewer="carol", outcome="passed"))
    (done,) = await owed(governance)
    assert (done["status"], done["completed_by"], done["outcome"]) == ("completed", "carol", "passed")
    statuses = [
        event.data["review"]["status"] for event in await governance.published("ev.governance.review.changed.v1")
    ]
    assert statuses == ["due", "completed"]


async def test_an_asset_with_an_old_review_owes_the_next_and_shows_as_overdue(governance: Harness) -> None:
    last = datetime.now(UTC).date() - timedelta(days=100)
    await an_asset(governance, last_security_review=last)
    (review,) = await owed(governance)
    assert (review["due_on"], review["timing"]) == (day(-10), "overdue")


async def test_a_review_declared_with_the_asset_settles_what_was_owed(governance: Harness) -> None:
    snapshot = a_snapshot()
    await governance.deliver(announced(AssetRegistered, snapshot))
    await owed(governance)
    declared = snapshot.model_copy(update={"version": 2, "last_security_review": datetime.now(UTC).date()})
    await governance.deliver(announced(AssetUpdated, declared, changed=("last_security_review",)))
    assert [review["status"] for review in await owed(governance)] == ["completed"]


async def test_the_search_walks_over_all_assets_in_stretches(governance: Harness) -> None:
    for _ in range(5):
        await an_asset(governance)
    reached, rounds = None, 0
    while True:
        async with governance.runtime.db.begin() as tx:
            reached = await reviews.owe_asset_reviews(tx, reached, limit=2, notice_days=30, at=datetime.now(UTC))
        rounds += 1
        if reached is None:
            break
    assert rounds == 3
    found = await made(await governance.client().get("/v1/governance/reviews"), 200)
    assert len(found["items"]) == 5


async def test_a_retired_asset_closes_its_deployments_reviews_and_acceptances(governance: Harness) -> None:
    snapshot = a_snapshot()
    await governance.deliver(announced(AssetRegistered, snapshot), assessed(snapshot.asset_id, 30.0))
    alice, bob = governance.client("engineer"), governance.client("approver", subject="bob")
    body = {"control_id": "CLN-INP-01", "asset_id": str(snapshot.asset_id), "operational": True}
    deployment = await made(await alice.post("/v1/governance/control-deployments", json=body))
    risk = {"kind": "risk", "asset_id": str(snapshot.asset_id), "justification": "x", "expires_at": in_days(30)}
    acceptance = await made(await alice.post("/v1/governance/acceptances", json=risk))
    await made(await bob.post(f"/v1/governance/acceptances/{acceptance['acceptance_id']}/approve", json={}), 200)
    await owed(governance)

    gone = snapshot.model_copy(update={"version": 2, "lifecycle": Lifecycle.RETIRED})
    await governance.deliver(announced(AssetRetired, gone, reason="replaced", actor="carol"))
    url = f"/v1/governance/control-deployments/{deployment['deployment_id']}"
    assert (await made(await alice.get(url), 200))["status"] == "retired"
    assert {review["status"] for review in await owed(governance)} == {"cancelled"}
    ended = await made(await bob.get(f"/v1/governance/acceptances/{acceptance['acceptance_id']}"), 200)
    assert (ended["status"], ended["end_reason"]) == ("revoked", "the asset was retired")
    (removed,) = await governance.published("ev.governance.control.removed.v1")
    assert removed.data["deployment"]["operational"] is False
    assert (await alice.post("/v1/governance/control-deployments", json=body)).status_code == 409
    assert (await alice.post("/v1/governance/acceptances", json=risk)).status_code == 409
    assert await governance.dead_letters() == []


async def test_an_asset_that_changes_teams_takes_its_controls_along(governance: Harness) -> None:
    snapshot = a_snapshot()
    await governance.deliver(announced(AssetRegistered, snapshot))
    body = {"control_id": "CLN-INP-01", "asset_id": str(snapshot.asset_id)}
    made_one = await made(await governance.client().post("/v1/governance/control-deployments", json=body))
    url = f"/v1/governance/control-deployments/{made_one['deployment_id']}"
    moved = snapshot.model_copy(update={"version": 2, "owner_team": "billing"})
    await governance.deliver(announced(AssetUpdated, moved, changed=("owner_team",)))
    assert (await governance.client("viewer", teams=["support"]).get(url)).status_code == 404
    assert (await governance.client("viewer", teams=["billing"]).get(url)).status_code == 200


async def test_the_copies_are_rebuilt_alike_and_nothing_else_is_touched(governance: Harness) -> None:
    snapshot = a_snapshot()
    await governance.deliver(announced(AssetRegistered, snapshot), assessed(snapshot.asset_id, 30.0))
    body = {"control_id": "CLN-INP-01", "asset_id": str(snapshot.asset_id)}
    await made(await governance.client().post("/v1/governance/control-deployments", json=body))
    gone = snapshot.model_copy(update={"version": 2, "lifecycle": Lifecycle.RETIRED})
    await governance.deliver(announced(AssetRetired, gone, reason="replaced", actor="carol"))
    told = len(await governance.published())
    found = await governance.rebuild()
    assert set(found) == {"asset_copy", "asset_risk_copy"}
    for table in found.values():
        assert table.before == table.after
    assert len(await governance.published()) == told
