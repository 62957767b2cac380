"""Dependencies and impact over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from services.inventory.tests.test_api_assets import created
from services.inventory.tests.test_events import an_assessment
from shared.testing import Harness


async def _estate(inventory: Harness) -> dict[str, str]:
    """agent -> model -> dataset, agent -> store; the edge agent -> store is declared by the store."""
    client = inventory.client()
    ids: dict[str, str] = {}

    async def add(name: str, **fields: Any) -> None:
        ids[name] = (await created(client, name=name, **fields))["asset_id"]

    await add("dataset", asset_type="training_dataset", owner_team="data")
    await add("model", asset_type="fine_tuned_model", upstream_assets=[ids["dataset"]])
    await add("agent", asset_type="ai_agent", owner_team="claims", upstream_assets=[ids["model"]])
    await add("store", asset_type="vector_database", downstream_assets=[ids["agent"]])
    return ids


async def _tree(inventory: Harness, asset_id: str, **params: Any) -> dict[str, Any]:
    response = await inventory.client("viewer").get(f"/v1/assets/{asset_id}/dependencies", params=params)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


async def test_the_tree_goes_both_ways(inventory: Harness) -> None:
    ids = await _estate(inventory)
    tree = await _tree(inventory, ids["agent"], direction="upstream")
    assert {key: tree[key] for key in ("id", "name", "type")} == {
        "id": ids["agent"],
        "name": "agent",
        "type": "ai_agent",
    }
    assert {node["name"] for node in tree["upstream"]} == {"model", "store"}
    model = next(node for node in tree["upstream"] if node["name"] == "model")
    assert [node["name"] for node in model["upstream"]] == ["dataset"]
    down = await _tree(inventory, ids["dataset"], direction="downstream")
    assert down["downstream"][0]["downstream"][0]["name"] == "agent"
    both = await _tree(inventory, ids["model"])
    assert [node["name"] for node in both["upstream"]] == ["dataset"]
    assert [node["name"] for node in both["downstream"]] == ["agent"]


async def test_circles_and_holes_are_marked(inventory: Harness) -> None:
    ids = await _estate(inventory)
    client = inventory.client()
    hole = str(uuid4())
    url = f"/v1/assets/{ids['dataset']}"
    await client.patch(url, json={"upstream_assets": [ids["agent"], hole]}, headers={"If-Match": "*"})
    tree = await _tree(inventory, ids["dataset"], direction="upstream")
    assert {"id": hole, "missing": True} in tree["upstream"]
    agent = next(node for node in tree["upstream"] if node["id"] == ids["agent"])
    model = next(node for node in agent["upstream"] if node["id"] == ids["model"])
    assert model["upstream"] == [{"id": ids["dataset"], "circular": True}]


async def test_depth_bounds_the_walk(inventory: Harness) -> None:
    ids = await _estate(inventory)
    tree = await _tree(inventory, ids["agent"], direction="upstream", depth=1)
    model = next(node for node in tree["upstream"] if node["name"] == "model")
    assert (model["upstream"], model["truncated"]) == ([], True)
    store = next(node for node in tree["upstream"] if node["name"] == "store")
    assert "truncated" not in store


async def test_an_edge_leaves_with_its_declaration(inventory: Harness) -> None:
    ids = await _estate(inventory)
    await inventory.client().patch(
        f"/v1/assets/{ids['model']}", json={"upstream_assets": None}, headers={"If-Match": "*"}
    )
    assert (await _tree(inventory, ids["model"], direction="upstream"))["upstream"] == []


async def test_impact_names_everything_downstream_with_owner_and_path(inventory: Harness) -> None:
    ids = await _estate(inventory)
    await inventory.deliver(an_assessment(UUID(ids["agent"])))
    response = await inventory.client("viewer").get(f"/v1/assets/{ids['dataset']}/impact")
    assert response.status_code == 200
    impact = response.json()
    shown = [(item["name"], item["distance"], item["owner_team"], item["risk_level"]) for item in impact["impacted"]]
    assert shown == [("model", 1, "search", None), ("agent", 2, "claims", "HIGH")]
    assert impact["impacted"][1]["path"] == [ids["dataset"], ids["model"], ids["agent"]]
    assert (impact["owners"], impact["impacted_count"], impact["truncated"]) == ({"search": 1, "claims": 1}, 2, False)


async def test_impact_stops_at_a_wall(inventory: Harness) -> None:
    ids = await _estate(inventory)
    member = inventory.client("viewer", teams=["data", "search"])
    impact = (await member.get(f"/v1/assets/{ids['dataset']}/impact")).json()
    assert ([item["name"] for item in impact["impacted"]], impact["restricted_count"]) == (["model"], 1)
    shallow = (await member.get(f"/v1/assets/{ids['dataset']}/impact", params={"depth": 1})).json()
    assert (shallow["impacted_count"], shallow["missing"], shallow["truncated"]) == (1, [], True)
