"""Edges, times and differences over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.inventory.domain.relations import Edge
from services.inventory.store import walk
from services.inventory.store.graph import link
from services.inventory.tests.test_api_assets import created
from shared.contracts.inventory import EdgeClosed, EdgeOpened, Relation
from shared.testing import Harness


async def _pair(inventory: Harness) -> tuple[str, str]:
    client = inventory.client()
    agent = await created(client, asset_type="ai_agent", owner_team="claims")
    model = await created(client, owner_team="platform")
    return agent["asset_id"], model["asset_id"]


async def _edges(client: httpx.AsyncClient, asset_id: str, **params: Any) -> list[dict[str, Any]]:
    response = await client.get(f"/v1/assets/{asset_id}/edges", params=params)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def test_an_edge_is_stated_once_found_from_both_ends_and_closed(inventory: Harness) -> None:
    agent, model = await _pair(inventory)
    client = inventory.client()
    body = {"relation": "uses_model", "to": model, "locator": "agents/claims.py:12"}
    first = await client.post(f"/v1/assets/{agent}/edges", json=body)
    again = await client.post(f"/v1/assets/{agent}/edges", json=body | {"locator": "elsewhere"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    edge = first.json()
    assert (edge["from"]["id"], edge["to"]["id"]) == (agent, model)
    assert (edge["upstream_id"], edge["downstream_id"], edge["source"], edge["declared"]) == (
        model,
        agent,
        "declared",
        True,
    )
    during = _now()
    for asset_id, direction in ((agent, "upstream"), (model, "downstream")):
        assert [item["edge_id"] for item in await _edges(client, asset_id, direction=direction)] == [edge["edge_id"]]
        assert await _edges(client, asset_id, relation="trained_on") == []
    url = f"/v1/assets/{agent}/edges/{edge['edge_id']}"
    assert [(await client.delete(url)).status_code for _ in range(2)] == [204, 204]
    assert await _edges(client, agent) == []
    (past,) = await _edges(client, agent, as_of=during)
    assert past["valid_to"] is not None
    assert [len(await inventory.published(event.TYPE)) for event in (EdgeOpened, EdgeClosed)] == [1, 1]
    impact = (await client.get(f"/v1/assets/{model}/impact", params={"as_of": during})).json()
    assert [(item["id"], item["relation"]) for item in impact["impacted"]] == [(agent, "uses_model")]
    assert (await client.get(f"/v1/assets/{model}/impact")).json()["impacted"] == []


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"relation": "likes", "to": "{other}"}, 422, "/relation"),
        ({"relation": "uses_model", "to": "{own}"}, 422, "/to"),
        ({"relation": "uses_model", "to": "{none}"}, 422, "/to"),
        ({"relation": "uses_model"}, 422, "/to"),
        ({"relation": "uses_model", "to": "{other}", "locator": "x" * 2_049}, 422, "/locator"),
        ({"relation": "uses_model", "to": "{other}", "since": "now"}, 422, "/since"),
    ],
)
async def test_an_edge_that_makes_no_sense_is_refused_by_its_field(
    inventory: Harness, body: dict[str, str], status: int, field: str
) -> None:
    agent, model = await _pair(inventory)
    named = {name: value.format(other=model, own=agent, none=uuid4()) for name, value in body.items()}
    response = await inventory.client().post(f"/v1/assets/{agent}/edges", json=named)
    assert response.status_code == status, response.text
    assert field in response.text


async def test_a_retired_asset_gets_no_edge_and_an_unknown_one_has_none(inventory: Harness) -> None:
    agent, model = await _pair(inventory)
    client = inventory.client()
    await client.post(f"/v1/assets/{agent}/retire", json={"reason": "gone"})
    body = {"relation": "uses_model", "to": model}
    assert (await client.post(f"/v1/assets/{agent}/edges", json=body)).status_code == 409
    assert (await client.post(f"/v1/assets/{uuid4()}/edges", json=body)).status_code == 404
    assert (await client.delete(f"/v1/assets/{model}/edges/{uuid4()}")).status_code == 404


async def test_a_team_may_depend_on_others_but_lets_no_harm_flow_to_them(inventory: Harness) -> None:
    agent, model = await _pair(inventory)
    claims = inventory.client("engineer", teams=["claims"])
    uses = await claims.post(
        f"/v1/assets/{agent}/edges", json={"relation": "uses_model", "to": model, "locator": "a.py:1"}
    )
    assert uses.status_code == 201
    assert uses.json()["to"] == {
        "id": model,
        "name": None,
        "type": None,
        "owner_team": None,
        "lifecycle": None,
        "restricted": True,
        "missing": False,
    }
    assert uses.json()["locator"] == ""
    serves = await claims.post(f"/v1/assets/{agent}/edges", json={"relation": "served_by", "to": model})
    assert (serves.status_code, "/to" in serves.text) == (422, True)
    platform = inventory.client("engineer", teams=["platform"])
    edge = uses.json()["edge_id"]
    assert (await platform.delete(f"/v1/assets/{model}/edges/{edge}")).status_code == 422
    assert (await platform.get(f"/v1/assets/{agent}/edges")).status_code == 404
    assert (await claims.delete(f"/v1/assets/{agent}/edges/{edge}")).status_code == 204


async def test_an_edge_that_another_record_keeps_is_changed_there(inventory: Harness) -> None:
    client = inventory.client()
    model = (await created(client))["asset_id"]
    agent = (await created(client, upstream_assets=[model]))["asset_id"]
    found = Edge(UUID(agent), UUID(model), Relation.USES_MODEL, "kubernetes", "apps/v1/x")
    async with inventory.runtime.db.begin() as tx:
        assert await link(tx, [found], datetime.now(UTC)) == 1
    edges = await _edges(client, agent)
    assert {edge["from"]["id"] for edge in edges} == {agent}
    assert {(edge["source"], edge["declared"]) for edge in edges} == {("upstream_assets", True), ("kubernetes", False)}
    for edge in edges:
        response = await client.delete(f"/v1/assets/{agent}/edges/{edge['edge_id']}")
        assert (response.status_code, edge["source"] in response.text) == (409, True)
    tree = (await client.get(f"/v1/assets/{agent}/dependencies", params={"direction": "upstream"})).json()
    assert tree["upstream"][0]["relations"] == ["depends_on", "uses_model"]


async def test_edges_and_impact_come_in_pages_whose_counts_are_whole(inventory: Harness) -> None:
    client = inventory.client()
    model = (await created(client))["asset_id"]
    agents = [(await created(client, owner_team=f"t{number % 2}", upstream_assets=[model])) for number in range(5)]
    edges: list[str] = []
    impacted: list[str] = []
    for path, name, into, key in (("edges", "items", edges, "edge_id"), ("impact", "impacted", impacted, "id")):
        cursor = None
        while True:
            params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await client.get(f"/v1/assets/{model}/{path}", params=params)).json()
            into += [item[key] for item in page[name]]
            if path == "impact":
                assert (page["impacted_count"], page["owners"]) == (5, {"t0": 3, "t1": 2})
            cursor = page["next_cursor"]
            if cursor is None:
                break
    assert len(set(edges)) == len(edges) == 5
    assert sorted(impacted) == impacted
    assert set(impacted) == {agent["asset_id"] for agent in agents}


async def test_the_past_before_an_asset_has_nothing_of_it(inventory: Harness) -> None:
    agent, _ = await _pair(inventory)
    client = inventory.client()
    before = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for what in ("impact", "dependencies"):
        assert (await client.get(f"/v1/assets/{agent}/{what}", params={"as_of": before})).status_code == 404
    bad = await client.get(f"/v1/assets/{agent}/impact", params={"as_of": "yesterday"})
    assert (bad.status_code, "as_of" in bad.text) == (422, True)


async def test_a_diff_tells_what_is_new_and_gone_to_those_who_may_know(inventory: Harness) -> None:
    client = inventory.client()
    start = _now()
    agent, model = await _pair(inventory)
    middle = _now()
    edge = (await client.post(f"/v1/assets/{agent}/edges", json={"relation": "uses_model", "to": model})).json()
    short = (await client.post(f"/v1/assets/{agent}/edges", json={"relation": "trained_on", "to": model})).json()
    await client.delete(f"/v1/assets/{agent}/edges/{short['edge_id']}")
    await client.post(f"/v1/assets/{model}/retire", json={"reason": "old"})

    async def differences(by: httpx.AsyncClient, since: str, **params: Any) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        cursor = None
        while True:
            query = {"from": since, "limit": 1, **params} | ({"cursor": cursor} if cursor else {})
            page = (await by.get("/v1/graph/diff", params=query)).json()
            found += [
                (item["kind"], (item["asset"] or {}).get("id") or item["edge"]["edge_id"]) for item in page["items"]
            ]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert await differences(client, middle) == [("edge_opened", edge["edge_id"]), ("asset_retired", model)]
    assert await differences(client, start, to=middle) == [("asset_registered", agent), ("asset_registered", model)]
    assert await differences(client, start) == [("asset_registered", agent), ("edge_opened", edge["edge_id"])]
    claims = inventory.client("viewer", teams=["claims"])
    assert await differences(claims, middle) == [("edge_opened", edge["edge_id"])]
    assert await differences(inventory.client("viewer", teams=["other"]), start) == []
    backwards = await client.get("/v1/graph/diff", params={"from": middle, "to": start})
    assert (backwards.status_code, '"to"' in backwards.text) == (422, True)


async def test_a_walk_ends_at_its_bound_and_says_so(inventory: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    client = inventory.client()
    model = (await created(client))["asset_id"]
    for _ in range(4):
        first = (await created(client, upstream_assets=[model]))["asset_id"]
    for _ in range(3):
        await created(client, upstream_assets=[first])
    for bound, count, truncated in ((7, 7, False), (6, 6, True), (4, 4, True), (3, 3, True)):
        monkeypatch.setattr(walk, "REACH_LIMIT", bound)
        impact = (await client.get(f"/v1/assets/{model}/impact")).json()
        assert (impact["impacted_count"], len(impact["impacted"]), impact["truncated"]) == (count, count, truncated)
