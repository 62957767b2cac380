"""What risk says shows on the assets, whatever order and repetition it arrives in."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from services.inventory.tests.test_api_assets import created
from shared.contracts.risk import AssessmentCompleted, RiskLevel
from shared.testing import Harness


def an_assessment(asset_id: UUID, *, version: int = 1, score: float = 53.44) -> AssessmentCompleted:
    now = datetime.now(UTC)
    level = next(level for bound, level in _LEVELS if score >= bound)
    return AssessmentCompleted(
        version=version,
        occurred_at=now,
        assessment_id=uuid4(),
        asset_id=asset_id,
        asset_version=1,
        inherent_risk_score=score,
        control_effectiveness=0,
        base_residual_risk_score=score,
        residual_risk_score=score,
        risk_level=level,
        model_version=1,
        trigger="asset.registered",
        assessed_at=now,
    )


_LEVELS = [(75, RiskLevel.CRITICAL), (50, RiskLevel.HIGH), (25, RiskLevel.MEDIUM), (0, RiskLevel.LOW)]


async def test_a_score_shows_on_the_asset_without_changing_it(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = await created(client)
    await inventory.deliver(an_assessment(UUID(asset["asset_id"])))
    shown = (await client.get(f"/v1/assets/{asset['asset_id']}")).json()
    assert (shown["risk_score"], shown["risk_level"]) == (53.44, "HIGH")
    assert shown | {"risk_score": None, "risk_level": None} == asset
    assert len(await inventory.published()) == 1
    patched = await client.patch(
        f"/v1/assets/{asset['asset_id']}", json={"description": "x"}, headers={"If-Match": '"1"'}
    )
    assert (patched.status_code, patched.json()["risk_score"]) == (200, 53.44)


async def test_an_older_assessment_changes_nothing(inventory: Harness) -> None:
    client = inventory.client("viewer")
    asset_id = UUID((await created(inventory.client()))["asset_id"])
    await inventory.deliver(an_assessment(asset_id, version=2, score=80.0))
    await inventory.deliver(an_assessment(asset_id, version=1, score=10.0))
    assert (await client.get(f"/v1/assets/{asset_id}")).json()["risk_score"] == 80.0


async def test_a_batch_keeps_the_newest_of_each_asset(inventory: Harness) -> None:
    admin = inventory.client()
    ids = [UUID((await created(admin))["asset_id"]) for _ in range(3)]
    batch = [
        an_assessment(asset_id, version=version, score=version * 10.0) for version in (2, 3, 1) for asset_id in ids
    ]
    await inventory.deliver(*batch, together=True)
    for asset_id in ids:
        assert (await admin.get(f"/v1/assets/{asset_id}")).json()["risk_score"] == 30.0


async def test_the_scores_are_the_same_after_a_rebuild(inventory: Harness) -> None:
    ids = [UUID((await created(inventory.client()))["asset_id"]) for _ in range(5)]
    await inventory.deliver(*(an_assessment(asset_id) for asset_id in ids))
    await inventory.deliver(*(an_assessment(asset_id, version=2, score=1.0) for asset_id in ids), together=True)
    await inventory.client().patch(f"/v1/assets/{ids[0]}", json={"owner_team": "new"}, headers={"If-Match": "*"})
    assert all(table.identical for table in (await inventory.rebuild()).values())


async def test_a_score_of_an_asset_that_is_none_of_ours_is_passed_over(inventory: Harness) -> None:
    asset_id = UUID((await created(inventory.client()))["asset_id"])
    await inventory.deliver(an_assessment(uuid4()), an_assessment(asset_id), together=True)
    items = (await inventory.client().get("/v1/assets", params={"sort": "-risk_score"})).json()["items"]
    assert [item["asset_id"] for item in items] == [str(asset_id)]
    assert await inventory.dead_letters() == []
