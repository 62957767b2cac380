"""Who may see and do what: scopes, and the wall between teams."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.inventory.tests.factories import a_body
from services.inventory.tests.test_api_assets import created
from shared.testing import Harness

_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "", {"description": "x"}),
    ("POST", "/reviews", {"outcome": "approved"}),
    ("POST", "/quarantine", {"reason": "r"}),
    ("POST", "/release", {"reason": "r"}),
    ("POST", "/retire", {"reason": "r"}),
    ("GET", "/dependencies", None),
    ("GET", "/impact", None),
    ("GET", "/history", None),
    ("GET", "/bom", None),
    ("PUT", "/bom", {"bomFormat": "CycloneDX", "specVersion": "1.6"}),
]


@pytest.mark.parametrize(("method", "path", "body"), _CALLS)
async def test_another_teams_asset_is_not_found(inventory: Harness, method: str, path: str, body: Any) -> None:
    asset = await created(inventory.client("admin"), owner_team="claims")
    stranger = inventory.client("admin", teams=["search"])

    async def ask(asset_id: str) -> httpx.Response:
        return await stranger.request(
            method, f"/v1/assets/{asset_id}{path}", json=body, headers={"If-Match": "*"} if method == "PATCH" else {}
        )

    unknown = str(uuid4())
    foreign, missing = await ask(asset["asset_id"]), await ask(unknown)
    assert (foreign.status_code, missing.status_code) == (404, 404)
    told, told_of_missing = foreign.json(), missing.json()
    assert told["detail"].replace(asset["asset_id"], unknown) == told_of_missing["detail"]
    assert told["type"] == told_of_missing["type"]


@pytest.mark.parametrize(("method", "path", "body"), _CALLS)
async def test_without_the_scope_nothing_is_done(inventory: Harness, method: str, path: str, body: Any) -> None:
    asset = await created(inventory.client("admin"))
    url = f"/v1/assets/{asset['asset_id']}{path}"
    without = inventory.client(scopes=["risk:read"])
    assert (await without.request(method, url, json=body)).status_code == 403
    assert (await inventory.anonymous().request(method, url, json=body)).status_code == 401


async def test_an_id_that_is_none_is_not_found(inventory: Harness) -> None:
    client = inventory.client("viewer")
    for path in ("/v1/assets/import", "/v1/assets/1", f"/v1/assets/{uuid4()}", f"/v1/discovery/runs/{uuid4()}"):
        assert (await client.get(path)).status_code in (404, 405)


async def test_lists_hold_the_callers_teams_only(inventory: Harness) -> None:
    admin = inventory.client("admin")
    mine = await created(admin, owner_team="search")
    await created(admin, owner_team="claims")
    await created(admin, owner_team="")
    member = inventory.client("viewer", teams=["search"])
    assert [item["asset_id"] for item in (await member.get("/v1/assets")).json()["items"]] == [mine["asset_id"]]
    gaps = (await member.get("/v1/compliance-gaps")).json()
    assert (gaps["no_security_review"], gaps["no_owner"]) == ([mine["asset_id"]], [])
    bom = (await member.get("/v1/boms/organization")).json()
    assert [component["bom-ref"] for component in bom["components"]] == [mine["asset_id"]]
    assert (await inventory.client("viewer", teams=[]).get("/v1/assets")).json()["items"] == []
    assert len((await admin.get("/v1/assets")).json()["items"]) == 3


async def test_an_asset_is_owned_within_the_callers_teams(inventory: Harness) -> None:
    member = inventory.client("engineer", teams=["search"])
    for team in ("claims", ""):
        response = await member.post("/v1/assets", json=a_body(owner_team=team))
        assert response.status_code == 403
    asset = await created(member, owner_team="search")
    for other in ("claims", None):
        response = await member.patch(
            f"/v1/assets/{asset['asset_id']}", json={"owner_team": other}, headers={"If-Match": "*"}
        )
        assert response.status_code == 403
    assert (await inventory.client("engineer").post("/v1/assets", json=a_body(owner_team=""))).status_code == 201


async def test_a_key_that_another_team_holds_is_refused_without_its_id(inventory: Harness) -> None:
    theirs = await created(inventory.client("admin"), owner_team="claims", model_name="gpt-4o")
    member = inventory.client("engineer", teams=["search"])
    response = await member.post("/v1/assets", json=a_body(owner_team="search", model_name="gpt-4o"))
    assert response.status_code == 409
    assert theirs["asset_id"] not in response.text
    assert "claims" not in response.text


async def test_depending_on_another_team_is_free_and_naming_it_dependent_is_not(inventory: Harness) -> None:
    theirs = await created(inventory.client("admin"), owner_team="claims")
    member = inventory.client("engineer", teams=["search"])
    mine = await created(member, owner_team="search", upstream_assets=[theirs["asset_id"]])
    tree = (await member.get(f"/v1/assets/{mine['asset_id']}/dependencies", params={"direction": "upstream"})).json()
    assert tree["upstream"] == [{"id": theirs["asset_id"], "restricted": True}]
    refused = await member.post("/v1/assets", json=a_body(owner_team="search", downstream_assets=[theirs["asset_id"]]))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "/downstream_assets"
