"""One asset over HTTP: registering, reading, changing, reviewing, its life and its history."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from services.inventory.store.schema import asset_table
from services.inventory.tests.factories import a_body
from shared.audit import audit_entry
from shared.contracts.envelope import Envelope
from shared.contracts.inventory import ASSET_EVENTS, AssetRegistered, AssetSnapshot
from shared.testing import Harness

EVERYTHING: dict[str, Any] = {
    "name": "Claims assistant",
    "asset_type": "ai_agent",
    "description": "Answers questions about claims",
    "owner_team": "claims",
    "owner_email": "claims@example.com",
    "data_classification": "restricted",
    "deployment_env": "production",
    "regulatory_scope": ["gdpr", "eu_ai_act_high_risk"],
    "model_provider": "openai",
    "model_name": "gpt-4o",
    "model_version": "2024-11-20",
    "is_self_hosted": False,
    "parameter_count": "unknown",
    "source_url": "https://example.com/claims",
    "license_type": "proprietary",
    "last_security_review": "2026-01-31",
    "sbom_available": True,
    "api_endpoint": "https://claims.example.com/chat",
    "cloud_provider": "azure",
    "cloud_region": "westeurope",
    "network_exposure": "public",
    "upstream_assets": ["6f1f5a3e-3f0e-4f43-9a52-0c8c1b1f8f10"],
    "downstream_assets": ["6f1f5a3e-3f0e-4f43-9a52-0c8c1b1f8f11"],
    "purpose": "claims handling",
    "authorized_tools": ["search_claims", "send_mail"],
    "integrity": [{"path": "weights", "algorithm": "sha256", "digest": "ab" * 32}],
    "sources": [{"attribute": "model_name", "kind": "declared", "locator": "claims team"}],
}
SHOWN = EVERYTHING | {"sources": [source | {"source": ""} for source in EVERYTHING["sources"]]}


async def created(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post("/v1/assets", json=a_body(**fields))
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.json()
    return document


def snapshot_of(event: Envelope) -> AssetSnapshot:
    return AssetSnapshot.model_validate(event.data["asset"])


async def test_every_field_comes_back_as_it_was_declared(inventory: Harness) -> None:
    client = inventory.client("engineer")
    response = await client.post("/v1/assets", json=EVERYTHING)
    assert response.status_code == 201
    asset = response.json()
    assert {name: asset[name] for name in EVERYTHING} == SHOWN
    assert (asset["version"], asset["lifecycle"], asset["compliance_status"]) == (1, "active", "unreviewed")
    assert (asset["risk_score"], asset["risk_level"]) == (None, None)
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Location"] == f"/v1/assets/{asset['asset_id']}"
    read = await client.get(response.headers["Location"])
    assert (read.json(), read.headers["ETag"]) == (asset, '"1"')


async def test_registering_announces_the_whole_asset_once(inventory: Harness) -> None:
    asset = (await inventory.client("engineer").post("/v1/assets", json=EVERYTHING)).json()
    (event,) = await inventory.published()
    assert (event.type, event.subject) == (AssetRegistered.TYPE, asset["asset_id"])
    snapshot = snapshot_of(event)
    assert snapshot.model_dump(mode="json") == {name: asset[name] for name in AssetSnapshot.model_fields}


async def test_the_same_asset_again_is_the_one_that_exists(inventory: Harness) -> None:
    client = inventory.client("engineer")
    first = (await client.post("/v1/assets", json=EVERYTHING)).json()
    again = await client.post("/v1/assets", json=EVERYTHING | {"name": "Another name", "description": "x"})
    assert again.status_code == 200
    second = again.json()
    assert second["last_updated"] > first["last_updated"]
    assert second | {"last_updated": ""} == first | {"last_updated": ""}
    assert len(await inventory.published()) == 1


async def test_fifty_at_once_are_one_asset(inventory: Harness) -> None:
    client = inventory.client("engineer")
    body = a_body(model_name="gpt-4o", model_provider="openai")
    responses = await asyncio.gather(*(client.post("/v1/assets", json=body) for _ in range(50)))
    assert sorted(response.status_code for response in responses) == [200] * 49 + [201]
    assert len({response.json()["asset_id"] for response in responses}) == 1
    async with inventory.runtime.db.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(asset_table)) == 1
    assert len(await inventory.published()) == 1


async def test_two_prompts_of_one_team_are_two_assets(inventory: Harness) -> None:
    client = inventory.client("engineer")
    one = await created(client, asset_type="prompt_template", name="greeting")
    other = await created(client, asset_type="prompt_template", name="farewell")
    assert one["asset_id"] != other["asset_id"]


async def test_a_retired_asset_frees_its_key(inventory: Harness) -> None:
    client = inventory.client("engineer")
    first = await created(client, model_name="m")
    assert (await client.post(f"/v1/assets/{first['asset_id']}/retire", json={"reason": "old"})).status_code == 200
    second = await created(client, model_name="m")
    assert second["asset_id"] != first["asset_id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "", "asset_type": "ai_agent"}, "/name"),
        ({"name": "   ", "asset_type": "ai_agent"}, "/name"),
        ({"asset_type": "ai_agent"}, "/name"),
        ({"name": "a"}, "/asset_type"),
        ({"name": "a", "asset_type": "robot"}, "/asset_type"),
        (a_body(colour="red"), "/colour"),
        (a_body(asset_id=str(uuid4())), "/asset_id"),
        (a_body(risk_score=1), "/risk_score"),
        (a_body(compliance_status="compliant"), "/compliance_status"),
        (a_body(data_classification="secret"), "/data_classification"),
        (a_body(regulatory_scope=["gdpr", "gdrp"]), "/regulatory_scope/1"),
        (a_body(network_exposure="dmz"), "/network_exposure"),
        (a_body(owner_email="nobody"), "/owner_email"),
        (a_body(upstream_assets=["not-an-id"]), "/upstream_assets/0"),
        (a_body(is_self_hosted="yes"), "/is_self_hosted"),
        (a_body(last_security_review="2126-01-01"), "/last_security_review"),
        (a_body(last_security_review=0), "/last_security_review"),
        (a_body(integrity=[{"path": "a", "algorithm": "crc32", "digest": "00"}]), "/integrity/0/algorithm"),
        (a_body(name="x" * 301), "/name"),
        (a_body(name="\u200b\u00a0\u2060"), "/name"),
        (a_body(name="\u3164"), "/name"),
        (a_body(owner_team="\u200b"), "/owner_team"),
        (a_body(authorized_tools=["search", "\u200d"]), "/authorized_tools/1"),
        (a_body(source_url="javascript:alert(1)"), "/source_url"),
        (a_body(api_endpoint="data:text/html,x"), "/api_endpoint"),
        (a_body(asset_type="api_credential", source_url="sk-proj-" + "a1" * 20), "/source_url"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_written(
    inventory: Harness, body: dict[str, Any], field: str
) -> None:
    response = await inventory.client("engineer").post("/v1/assets", json=body)
    assert response.status_code == 422
    assert field in [error["field"] for error in response.json()["errors"]]
    async with inventory.runtime.db.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(asset_table)) == 0


@pytest.mark.parametrize(
    "text",
    [
        b'{"name":"a","name":"b","asset_type":"ai_agent"}',
        b'{"name":"\\ud800","asset_type":"ai_agent"}',
        b'{"name":"a\\u0000b","asset_type":"ai_agent"}',
        b'{"name":"a","asset_type":"ai_agent","risk_score":NaN}',
        b'{"name":"a","asset_type":"ai_agent","integrity":' + b"[" * 40 + b"]" * 40 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
async def test_what_is_no_plain_json_is_refused(inventory: Harness, text: bytes) -> None:
    client = inventory.client("engineer")
    response = await client.post("/v1/assets", content=text, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text


async def test_a_body_of_sixty_megabytes_is_refused(inventory: Harness) -> None:
    body = b'{"name":"' + b"a" * 60_000_000 + b'"}'
    response = await inventory.client("engineer").post(
        "/v1/assets", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413


async def test_text_of_any_script_is_kept(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = await created(client, name="Модель 模型 🤖 \u202e", owner_team="équipe")
    assert (await client.get(f"/v1/assets/{asset['asset_id']}")).json()["name"] == "Модель 模型 🤖 \u202e"


async def test_patch_changes_what_was_sent_and_null_clears(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = (await client.post("/v1/assets", json=EVERYTHING)).json()
    url = f"/v1/assets/{asset['asset_id']}"
    change = {"description": "new", "license_type": None, "regulatory_scope": ["hipaa"], "owner_email": None}
    response = await client.patch(url, json=change, headers={"If-Match": '"1"'})
    assert response.status_code == 200
    after = response.json()
    assert (after["version"], response.headers["ETag"]) == (2, '"2"')
    assert (after["description"], after["license_type"], after["owner_email"]) == ("new", None, "")
    untouched = set(EVERYTHING) - set(change)
    assert {name: after[name] for name in untouched} == {name: SHOWN[name] for name in untouched}
    event = (await inventory.published("ev.inventory.asset.updated.v1"))[-1]
    assert set(event.data["changed"]) == set(change)
    assert snapshot_of(event).version == 2


async def test_patch_needs_the_version_that_is_there(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = await created(client)
    url = f"/v1/assets/{asset['asset_id']}"
    assert (await client.patch(url, json={"description": "x"})).status_code == 428
    for tag in ('"2"', '"0"', '"abc"'):
        assert (await client.patch(url, json={"description": "x"}, headers={"If-Match": tag})).status_code == 412
    assert (await client.patch(url, json={"description": "x"}, headers={"If-Match": "*"})).status_code == 200
    assert (await client.patch(url, json={"name": None}, headers={"If-Match": "*"})).status_code == 422


async def test_a_patch_that_changes_nothing_makes_no_version(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = await created(client, description="same")
    response = await client.patch(
        f"/v1/assets/{asset['asset_id']}", json={"description": "same"}, headers={"If-Match": '"1"'}
    )
    assert (response.status_code, response.json()["version"]) == (200, 1)
    assert len(await inventory.published()) == 1


async def test_a_patch_onto_another_assets_key_is_refused(inventory: Harness) -> None:
    client = inventory.client("engineer")
    await created(client, model_name="one")
    other = await created(client, model_name="other")
    response = await client.patch(
        f"/v1/assets/{other['asset_id']}", json={"model_name": "one"}, headers={"If-Match": '"1"'}
    )
    assert response.status_code == 409
    assert (await client.get(f"/v1/assets/{other['asset_id']}")).json()["model_name"] == "other"


async def test_an_asset_cannot_be_patched_to_depend_on_itself(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = await created(client)
    response = await client.patch(
        f"/v1/assets/{asset['asset_id']}", json={"upstream_assets": [asset["asset_id"]]}, headers={"If-Match": '"1"'}
    )
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "/upstream_assets"


async def test_concurrent_patches_of_one_version_let_one_through(inventory: Harness) -> None:
    client = inventory.client("engineer")
    asset = await created(client)
    responses = await asyncio.gather(
        *(
            client.patch(f"/v1/assets/{asset['asset_id']}", json={"description": f"{n}"}, headers={"If-Match": '"1"'})
            for n in range(10)
        )
    )
    assert sorted(response.status_code for response in responses) == [200] + [412] * 9


@pytest.mark.parametrize(
    ("outcome", "status"), [("approved", "compliant"), ("conditional", "conditional"), ("rejected", "non_compliant")]
)
async def test_a_review_sets_date_and_status(inventory: Harness, outcome: str, status: str) -> None:
    client = inventory.client("engineer", subject="bob")
    asset = await created(client)
    response = await client.post(
        f"/v1/assets/{asset['asset_id']}/reviews", json={"outcome": outcome, "reviewed_on": "2026-03-01"}
    )
    assert response.status_code == 200
    assert (response.json()["last_security_review"], response.json()["compliance_status"]) == ("2026-03-01", status)
    event = (await inventory.published())[-1]
    assert event.type == "ev.inventory.asset.reviewed.v1"
    assert (event.data["outcome"], event.data["reviewer"]) == (outcome, "bob")


async def test_a_review_in_the_future_or_without_outcome_is_refused(inventory: Harness) -> None:
    client = inventory.client("engineer")
    url = f"/v1/assets/{(await created(client))['asset_id']}/reviews"
    for body, field in [({"outcome": "approved", "reviewed_on": "2126-01-01"}, "/reviewed_on"), ({}, "/outcome")]:
        response = await client.post(url, json=body)
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == field


async def test_the_life_of_an_asset(inventory: Harness) -> None:
    client = inventory.client("admin", subject="carol")
    url = f"/v1/assets/{(await created(client))['asset_id']}"
    for step, status, lifecycle in [
        ("release", 409, "active"),
        ("quarantine", 200, "quarantined"),
        ("quarantine", 409, "quarantined"),
        ("release", 200, "active"),
        ("quarantine", 200, "quarantined"),
        ("retire", 200, "retired"),
        ("retire", 409, "retired"),
        ("quarantine", 409, "retired"),
        ("release", 409, "retired"),
    ]:
        response = await client.post(f"{url}/{step}", json={"reason": f"because {step}"})
        assert response.status_code == status, (step, response.text)
        assert (await client.get(url)).json()["lifecycle"] == lifecycle
    assert (await client.post(f"{url}/retire", json={"reason": " "})).status_code == 422
    assert (await client.patch(url, json={"purpose": "x"}, headers={"If-Match": "*"})).status_code == 409
    assert (await client.post(f"{url}/reviews", json={"outcome": "approved"})).status_code == 409
    events = (await inventory.published())[1:]
    assert [event.type.split(".")[3] for event in events] == [
        "quarantined",
        "released",
        "quarantined",
        "retired",
    ]
    assert {event.data["actor"] for event in events} == {"carol"}
    assert [event.data["version"] for event in events] == [2, 3, 4, 5]
    for event in events:
        contract = next(contract for contract in ASSET_EVENTS if event.type == contract.TYPE)
        assert contract.model_validate(event.data).asset.version == event.data["version"]


async def test_history_says_who_changed_what_from_which_value(inventory: Harness) -> None:
    alice, bob = inventory.client("engineer", subject="alice"), inventory.client("admin", subject="bob")
    asset = await created(alice, description="old")
    url = f"/v1/assets/{asset['asset_id']}"
    await bob.patch(url, json={"description": "new", "upstream_assets": [str(uuid4())]}, headers={"If-Match": '"1"'})
    await bob.post(f"{url}/reviews", json={"outcome": "approved", "reviewer": "dora", "notes": "fine"})
    await bob.post(f"{url}/quarantine", json={"reason": "odd traffic"})
    history = (await alice.get(f"{url}/history")).json()
    assert history["next_cursor"] is None
    shown = [(entry["version"], entry["action"], entry["actor"]) for entry in history["items"]]
    assert shown == [
        (4, "quarantined", "bob"),
        (3, "reviewed", "bob"),
        (2, "updated", "bob"),
        (1, "registered", "alice"),
    ]
    assert history["items"][0]["changes"] == [{"field": "lifecycle", "old": "active", "new": "quarantined"}]
    assert history["items"][0]["detail"] == {"reason": "odd traffic"}
    assert history["items"][2]["changes"][0] == {"field": "description", "old": "old", "new": "new"}

    paged, cursor = [], None
    for _ in range(4):
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await alice.get(f"{url}/history", params=params)).json()
        paged += page["items"]
        cursor = page["next_cursor"]
    assert (paged, cursor) == (history["items"], None)


async def test_every_write_is_audited_with_its_team(inventory: Harness) -> None:
    client = inventory.client("admin", subject="eve")
    asset = await created(client, owner_team="claims")
    await client.post(f"/v1/assets/{asset['asset_id']}/quarantine", json={"reason": "r"})
    async with inventory.runtime.db.read() as tx:
        entries = (await tx.execute(sa.select(audit_entry).order_by(audit_entry.c.seq))).all()
    assert [(entry.action, entry.actor, entry.target, entry.owner_team) for entry in entries] == [
        ("asset.registered", "eve", asset["asset_id"], "claims"),
        ("asset.quarantined", "eve", asset["asset_id"], "claims"),
    ]


async def test_an_idempotency_key_makes_a_retry_the_same_answer(inventory: Harness) -> None:
    client = inventory.client("engineer")
    headers = {"Idempotency-Key": '"abc"'}
    body = a_body()
    first = await client.post("/v1/assets", json=body, headers=headers)
    again = await client.post("/v1/assets", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(await inventory.published()) == 1
