"""The six lists on an estate made for them, and the SQL against the rules."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.inventory.domain.gaps import Gap, gaps_of
from services.inventory.store import bulk, gaps
from services.inventory.tests.factories import an_asset
from services.inventory.tests.test_api_assets import created
from shared.auth import Caller
from shared.contracts.inventory import DataClassification, NetworkExposure, RegulatoryScope
from shared.testing import Harness

TODAY = datetime.now(UTC).date()
CLEAN: dict[str, Any] = {"last_security_review": TODAY.isoformat(), "data_classification": "confidential"}
ESTATE: dict[str, dict[str, Any]] = {
    "no_security_review": CLEAN | {"last_security_review": None},
    "stale_review": CLEAN | {"last_security_review": (TODAY - timedelta(days=91)).isoformat()},
    "missing_sbom": CLEAN | {"is_self_hosted": True},
    "unclassified_data": CLEAN | {"data_classification": "internal", "regulatory_scope": ["hipaa"]},
    "no_owner": CLEAN | {"owner_team": ""},
    "public_exposure_high_sensitivity": CLEAN | {"network_exposure": "public"},
}


async def test_each_list_holds_the_asset_made_for_it(inventory: Harness) -> None:
    client = inventory.client()
    await created(client, **CLEAN)
    await created(client, **(CLEAN | {"last_security_review": (TODAY - timedelta(days=90)).isoformat()}))
    await created(client, **(CLEAN | {"data_classification": "internal", "regulatory_scope": ["none"]}))
    ids = {gap: (await created(client, **fields))["asset_id"] for gap, fields in ESTATE.items()}
    retired = await created(client, owner_team="")
    await client.post(f"/v1/assets/{retired['asset_id']}/retire", json={"reason": "r"})

    report = (await inventory.client("viewer").get("/v1/compliance-gaps")).json()
    assert {gap: report[gap] for gap in ESTATE} == {gap: [asset_id] for gap, asset_id in ids.items()}
    assert report["counts"] == dict.fromkeys(ESTATE, 1)
    assert (report["truncated"], report["as_of"]) == (False, TODAY.isoformat())

    later = (await client.get("/v1/compliance-gaps", params={"as_of": (TODAY + timedelta(days=91)).isoformat()})).json()
    assert later["counts"]["stale_review"] == 8
    first_day = await client.get("/v1/compliance-gaps", params={"as_of": "0001-01-01"})
    assert first_day.json()["stale_review"] == []
    assert (await client.get("/v1/compliance-gaps", params={"as_of": "0"})).status_code == 422


async def test_long_lists_are_cut_and_paged(inventory: Harness) -> None:
    client = inventory.client()
    ids = [(await created(client))["asset_id"] for _ in range(5)]
    report = (await client.get("/v1/compliance-gaps", params={"limit": 2})).json()
    assert (report["no_security_review"], report["counts"]["no_security_review"]) == (ids[:2], 5)
    assert report["truncated"] is True
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/compliance-gaps/no_security_review", params=params)).json()
        seen += [item["asset_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids
    assert (await client.get("/v1/compliance-gaps/no_such_gap")).status_code == 422


async def test_the_sql_is_the_rule(inventory: Harness) -> None:
    """Every combination of what the rules look at, both ways."""
    as_of = date(2026, 11, 22)
    estate = [
        an_asset(
            last_security_review=review,
            is_self_hosted=hosted,
            sbom_available=sbom,
            data_classification=classification,
            regulatory_scope=scope,
            network_exposure=exposure,
            owner_team=owner,
        )
        for review, (hosted, sbom), classification, scope, exposure, owner in itertools.product(
            (None, as_of - timedelta(days=90), as_of - timedelta(days=91)),
            ((False, False), (True, False), (True, True)),
            DataClassification,
            ((), (RegulatoryScope.NONE,), (RegulatoryScope.NONE, RegulatoryScope.GDPR)),
            NetworkExposure,
            ("", "search"),
        )
    ]
    estate += [asset.retired(asset.registered_date)[0] for asset in estate[::7]]
    estate = list({asset.asset_id: asset for asset in estate}.values())
    caller = Caller("tests", "service")
    async with inventory.runtime.db.begin() as tx:
        await bulk.add(tx, caller, estate, estate[0].registered_date)
        for gap in Gap:
            expected = {asset.asset_id for asset in estate if gap in gaps_of(asset, as_of)}
            assert set(await gaps.ids(tx, caller, gap, as_of, after=None, limit=10_000)) == expected, gap
            assert (await gaps.count(tx, caller, as_of))[gap] == len(expected)
