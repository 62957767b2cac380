"""Bills of materials over HTTP."""

from __future__ import annotations

from typing import Any

import orjson

from services.inventory.domain import bom
from services.inventory.tests.test_api_assets import created
from services.inventory.tests.test_domain_bom import library_finds
from shared.testing import Harness

SUPPLIED = b'{ "specVersion": "1.6",\n "bomFormat": "CycloneDX", "components": [{"type": "library", "name": "torch"}] }'
JSON = {"Content-Type": "application/vnd.cyclonedx+json"}


async def test_one_is_made_of_what_the_inventory_knows(inventory: Harness) -> None:
    client = inventory.client()
    data = await created(client, asset_type="training_dataset")
    base = await created(client, name="base", upstream_assets=[data["asset_id"]])
    tuned = await created(client, name="tuned", asset_type="fine_tuned_model", upstream_assets=[base["asset_id"]])
    response = await inventory.client("viewer").get(f"/v1/assets/{tuned['asset_id']}/bom")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/vnd.cyclonedx+json")
    document = response.json()
    bom.check(document)
    assert document["metadata"]["component"]["bom-ref"] == tuned["asset_id"]
    assert {item["bom-ref"] for item in document["components"]} == {base["asset_id"], data["asset_id"]}
    depends = {item["ref"]: item["dependsOn"] for item in document["dependencies"]}
    assert depends[tuned["asset_id"]] == [base["asset_id"]]
    assert depends[base["asset_id"]] == [data["asset_id"]]


async def test_a_supplied_one_is_kept_byte_for_byte_and_marks_the_asset(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client, is_self_hosted=True)
    url = f"/v1/assets/{asset['asset_id']}"
    first = await client.put(f"{url}/bom", content=SUPPLIED, headers=JSON)
    assert (first.status_code, first.json()["components"], first.json()["spec_version"]) == (201, 1, "1.6")
    assert (await client.get(f"{url}/bom")).content == SUPPLIED
    after = (await client.get(url)).json()
    assert (after["sbom_available"], after["version"]) == (True, 2)
    assert (await inventory.published())[-1].data["changed"] == ["sbom_available"]
    again = await client.put(f"{url}/bom", content=SUPPLIED, headers=JSON)
    assert (again.status_code, (await client.get(url)).json()["version"]) == (200, 2)
    assert (await client.get("/v1/compliance-gaps")).json()["missing_sbom"] == []


async def test_what_is_no_bill_of_materials_is_refused(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client)
    url = f"/v1/assets/{asset['asset_id']}/bom"
    bodies: list[Any] = [{}, {"bomFormat": "SPDX"}, [], {"bomFormat": "CycloneDX", "specVersion": "9"}]
    for body in bodies:
        assert (await client.put(url, json=body)).status_code == 422
    assert (await client.get(f"/v1/assets/{asset['asset_id']}")).json()["sbom_available"] is False
    too_large = b'{"bomFormat":"CycloneDX","specVersion":"1.6","x":"' + b"a" * 8_400_000 + b'"}'
    assert (await client.put(url, content=too_large, headers=JSON)).status_code == 413
    await client.post(f"/v1/assets/{asset['asset_id']}/retire", json={"reason": "r"})
    assert (await client.put(url, content=SUPPLIED, headers=JSON)).status_code == 409


async def test_the_organisations_holds_all_living_assets(inventory: Harness) -> None:
    client = inventory.client()
    assert orjson.loads((await client.get("/v1/boms/organization")).content)["components"] == []
    base = await created(client)
    tuned = await created(client, upstream_assets=[base["asset_id"]])
    gone = await created(client)
    await client.post(f"/v1/assets/{gone['asset_id']}/retire", json={"reason": "r"})
    document = (await client.get("/v1/boms/organization")).json()
    bom.check(document)
    assert [item["bom-ref"] for item in document["components"]] == [base["asset_id"], tuned["asset_id"]]
    assert document["dependencies"] == [{"ref": tuned["asset_id"], "dependsOn": [base["asset_id"]]}]


async def test_the_organisations_refers_to_nothing_that_it_does_not_hold(inventory: Harness) -> None:
    client = inventory.client()
    gone = await created(client)
    theirs = await created(client, owner_team="other")
    own = await created(client, asset_type="fine_tuned_model", upstream_assets=[gone["asset_id"], theirs["asset_id"]])
    await client.post(f"/v1/assets/{gone['asset_id']}/retire", json={"reason": "r"})
    whole = (await client.get("/v1/boms/organization", params={"spec_version": "1.6"})).json()
    assert (whole["specVersion"], len(whole["components"])) == ("1.6", 2)
    assert whole["dependencies"] == [{"ref": own["asset_id"], "dependsOn": [theirs["asset_id"]]}]
    assert library_finds(whole) is None
    teams = (await inventory.client(teams=["search"]).get("/v1/boms/organization")).json()
    assert [one["bom-ref"] for one in teams["components"]] == [own["asset_id"]]
    assert teams["dependencies"] == []
    assert "pedigree" not in teams["components"][0]
    bom.check(teams)
