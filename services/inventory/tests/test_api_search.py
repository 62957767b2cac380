"""Finding assets: each filter alone and together, orders, and pages that neither skip nor repeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.inventory.tests.factories import a_body
from services.inventory.tests.test_api_assets import created
from services.inventory.tests.test_events import an_assessment
from shared.testing import Harness

_ESTATE: dict[str, dict[str, Any]] = {
    "chat": {"asset_type": "ai_agent", "regulatory_scope": ["gdpr", "hipaa"], "network_exposure": "public"},
    "bert": {"model_provider": "huggingface", "cloud_provider": "aws", "data_classification": "restricted"},
    "docs": {"asset_type": "vector_database", "owner_team": "docs", "deployment_env": "production"},
    "100% sure_thing": {"asset_type": "prompt_template", "owner_team": ""},
}


async def _names(inventory: Harness, **params: Any) -> list[str]:
    response = await inventory.client("viewer").get("/v1/assets", params=params)
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["items"]]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, ["chat", "bert", "docs", "100% sure_thing"]),
        ({"asset_type": "ai_agent"}, ["chat"]),
        ({"data_classification": "restricted"}, ["bert"]),
        ({"owner_team": "docs"}, ["docs"]),
        ({"owner_team": ""}, ["100% sure_thing"]),
        ({"regulatory_scope": "hipaa"}, ["chat"]),
        ({"regulatory_scope": "sox"}, []),
        ({"unreviewed_only": "true"}, ["chat", "docs", "100% sure_thing"]),
        ({"deployment_env": "production"}, ["docs"]),
        ({"lifecycle": "quarantined"}, ["docs"]),
        ({"lifecycle": "active"}, ["chat", "bert", "100% sure_thing"]),
        ({"network_exposure": "public"}, ["chat"]),
        ({"model_provider": "huggingface"}, ["bert"]),
        ({"cloud_provider": "aws"}, ["bert"]),
        ({"name": "CH"}, ["chat"]),
        ({"name": "100%"}, ["100% sure_thing"]),
        ({"name": "%"}, []),
        ({"q": "E_T"}, ["100% sure_thing"]),
        ({"q": "her"}, []),
        ({"q": "hat"}, ["chat"]),
        ({"risk_level": "HIGH"}, ["chat"]),
        ({"min_risk_score": "20"}, ["chat", "bert"]),
        ({"min_risk_score": "20.01"}, ["chat"]),
        ({"sort": "-registered"}, ["100% sure_thing", "docs", "bert", "chat"]),
        ({"sort": "-risk_score"}, ["chat", "bert"]),
        ({"asset_type": "ai_agent", "owner_team": "docs"}, []),
        ({"asset_type": "ai_agent", "regulatory_scope": "gdpr", "min_risk_score": "50", "q": "cha"}, ["chat"]),
    ],
)
async def test_each_filter_finds_what_it_says(inventory: Harness, params: dict[str, Any], names: list[str]) -> None:
    client = inventory.client("admin")
    ids = {}
    for name, fields in _ESTATE.items():
        ids[name] = (await created(client, name=name, **fields))["asset_id"]
    await client.post(f"/v1/assets/{ids['bert']}/reviews", json={"outcome": "approved"})
    await client.post(f"/v1/assets/{ids['docs']}/quarantine", json={"reason": "r"})
    await inventory.deliver(an_assessment(UUID(ids["chat"]), score=71.25), an_assessment(UUID(ids["bert"]), score=20.0))
    assert await _names(inventory, **params) == names


async def test_updated_since(inventory: Harness) -> None:
    client = inventory.client("admin")
    await created(client, name="old")
    between = datetime.now(UTC)
    await created(client, name="new")
    assert await _names(inventory, updated_since=between.isoformat()) == ["new"]
    later = between + timedelta(hours=1)
    assert await _names(inventory, updated_since=later.isoformat()) == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"asset_type": "robot"}, "asset_type"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"cursor": "abc"}, "cursor"),
        ({"min_risk_score": "nan"}, "min_risk_score"),
        ({"q": "ab"}, "q"),
        ({"updated_since": "2026-01-01T00:00:00"}, "updated_since"),
        ({"updated_since": "0.5"}, "updated_since"),
        ({"updated_since": "0001-01-01T00:00:00+14:00"}, "updated_since"),
        ({"sort": "name"}, "sort"),
        ({"colour": "red"}, "colour"),
        ({"name": "a\0b"}, "name"),
    ],
)
async def test_a_bad_parameter_is_named(inventory: Harness, params: dict[str, str], field: str) -> None:
    response = await inventory.client("viewer").get("/v1/assets", params=params)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("sort", ["registered", "-registered", "-risk_score"])
async def test_pages_neither_skip_nor_repeat_while_assets_come_and_go(inventory: Harness, sort: str) -> None:
    client = inventory.client("admin")
    ids = []
    for number in range(12):
        asset = await created(client, name=f"a{number}")
        ids.append(asset["asset_id"])
        # Scores in pairs, so that the id must break ties.
        await inventory.deliver(an_assessment(UUID(asset["asset_id"]), score=float(number // 2)))
    seen: list[str] = []
    cursor = None
    while True:
        params: dict[str, Any] = {"limit": 5, "sort": sort} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/assets", params=params)).json()
        seen += [item["asset_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await created(client)
    before = [asset_id for asset_id in seen if asset_id in ids]
    assert len(seen) == len(set(seen))
    assert before == (ids if sort == "registered" else list(reversed(ids)))


async def test_a_cursor_is_bound_to_its_filters(inventory: Harness) -> None:
    client = inventory.client("admin")
    for _ in range(3):
        await client.post("/v1/assets", json=a_body())
    cursor = (await client.get("/v1/assets", params={"limit": 1})).json()["next_cursor"]
    other = await client.get("/v1/assets", params={"limit": 1, "cursor": cursor, "asset_type": "ai_agent"})
    assert other.status_code == 422


@pytest.mark.parametrize("sort", ["registered", "-registered", "-risk_score"])
async def test_pages_of_several_teams_are_one_list(inventory: Harness, sort: str) -> None:
    admin = inventory.client()
    scores: dict[str, float] = {}
    for number in range(15):
        asset = await created(admin, owner_team=("a", "b", "c")[number % 3])
        scores[asset["asset_id"]] = float(number * 7 % 10)
        await inventory.deliver(an_assessment(UUID(asset["asset_id"]), score=scores[asset["asset_id"]]))
    mine = [asset_id for number, asset_id in enumerate(scores) if number % 3 < 2]
    # Handed over after it was scored: the score goes with it.
    handed = list(scores)[2]
    await admin.patch(f"/v1/assets/{handed}", json={"owner_team": "b"}, headers={"If-Match": "*"})
    mine.append(handed)
    expected = {
        "registered": sorted(mine),
        "-registered": sorted(mine, reverse=True),
        "-risk_score": sorted(mine, key=lambda asset_id: (scores[asset_id], asset_id), reverse=True),
    }[sort]
    member = inventory.client("viewer", teams=["a", "b", "none"])
    seen: list[str] = []
    cursor = None
    while True:
        params: dict[str, Any] = {"limit": 4, "sort": sort} | ({"cursor": cursor} if cursor else {})
        page = (await member.get("/v1/assets", params=params)).json()
        seen += [item["asset_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == expected
    only_b = await member.get("/v1/assets", params={"owner_team": "b", "sort": sort, "limit": 200})
    assert [item["asset_id"] for item in only_b.json()["items"]] == [
        asset_id for asset_id in expected if asset_id == handed or list(scores).index(asset_id) % 3 == 1
    ]
    assert (await member.get("/v1/assets", params={"owner_team": "c"})).json()["items"] == []
