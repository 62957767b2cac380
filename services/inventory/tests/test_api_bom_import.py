"""Others' bills of materials taken in, what changed between bills, cards, completeness and signatures, over HTTP."""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.inventory import jobs
from services.inventory.application.cards import renew_card
from services.inventory.domain import bom
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from services.inventory.tests.test_api_assets import created
from services.inventory.tests.test_domain_bom import OTHERS, library_finds
from services.inventory.tests.test_domain_spdx import read
from shared.contracts.inventory import ArtifactDenied, BomChanged
from shared.testing import Harness, TestServer, harness

JSON = {"Content-Type": "application/vnd.cyclonedx+json"}


@pytest.fixture
async def another(postgres: TestServer) -> AsyncIterator[Harness]:
    """An inventory that has never heard of the first one's assets."""
    async with harness(SERVICE, InventorySettings, postgres) as made:
        yield made


# -- export, import, export --------------------------------------------------------------------------------------------

_WORDS = ("Ticket triage", "Größe", "поддержка", "a/b c", 'quoted "x"', "tokenizer & more", "<b>")
_TYPES = ("foundation_model", "fine_tuned_model", "embedding_model", "training_dataset", "ai_agent", "vector_database")


def a_body_of(chance: random.Random, number: int, earlier: list[str]) -> dict[str, Any]:
    """Something that a client may register: any field may be there or not."""
    optional: dict[str, Any] = {
        "description": chance.choice(_WORDS),
        "owner_email": chance.choice(["data@example.org", "odd@localhost"]),
        "data_classification": chance.choice(["public", "confidential", "regulated"]),
        "deployment_env": chance.choice(["production", "research"]),
        "regulatory_scope": ["gdpr", "hipaa"],
        "model_provider": chance.choice(["huggingface", "openai", "Acme GmbH"]),
        "model_name": f"org/{chance.choice(_WORDS)}-{number}",
        "model_version": chance.choice(["1.0", "ab" * 20, "2026-11-28"]),
        "is_self_hosted": True,
        "parameter_count": "7B",
        "source_url": chance.choice(["https://example.org/a b", "s3://bucket/Größe", "hf://org/x"]),
        "license_type": chance.choice(["apache-2.0", "MIT OR Apache-2.0", "our own licence"]),
        "last_security_review": "2026-05-01",
        "api_endpoint": f"https://models.example.org/{number}",
        "cloud_provider": "aws",
        "cloud_region": "eu-central-1",
        "network_exposure": "public",
        "purpose": chance.choice(_WORDS),
        "authorized_tools": ["search", "send_mail"],
        "integrity": [
            {"path": f"file-{one}", "algorithm": "sha256", "digest": f"{chance.getrandbits(256):064x}"}
            for one in range(chance.choice([1, 3]))
        ],
        "sources": [
            {"attribute": "model_name", "kind": "inferred", "locator": "config.json:3"},
            {"attribute": "owner_team", "kind": "unresolved", "locator": ""},
        ],
    }
    fields = {name: value for name, value in optional.items() if chance.random() < 0.6}
    upstream = chance.sample(earlier, k=min(len(earlier), chance.choice([0, 1, 3])))
    name = f"{chance.choice(_WORDS)} {number}"
    return {
        "name": name,
        "asset_type": chance.choice(_TYPES),
        "owner_team": "search",
        **fields,
        "upstream_assets": upstream,
    }


_FACTS: dict[str, Any] = {
    "task": "text-generation",
    "architecture_family": "transformer",
    "approach": "self-supervised",
    "languages": ["de", "en"],
    "datasets": [{"name": "the pile", "url": "https://example.org/pile"}],
    "metrics": [{"type": "accuracy", "value": "0.9", "slice": "en"}],
    "users": ["support agents"],
    "technical_limitations": ["no arithmetic"],
    "ethical_considerations": [{"name": "bias", "mitigation": "a filter"}],
    "hyperparameters": {"learning rate": "1e-4"},
}


def comparable(document: dict[str, Any]) -> Any:
    """The document without what is new in each: references are names, lists have an order."""
    entries = [document["metadata"]["component"], *document["components"]]
    names = {entry["bom-ref"]: named(entry) for entry in entries}
    text = orjson.dumps(document).decode()
    for ref, name in names.items():
        text = text.replace(ref, orjson.dumps(name).decode()[1:-1])
    renamed = orjson.loads(text)
    del renamed["serialNumber"], renamed["metadata"]["timestamp"]
    return ordered(renamed)


def named(entry: dict[str, Any]) -> str:
    own = [one["value"] for one in entry["properties"] if one["name"] == "colonnade:name"]
    return str(own[0] if own else entry["name"])


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: ordered(one) for key, one in sorted(value.items())}
    if isinstance(value, list):
        return sorted((ordered(one) for one in value), key=lambda one: orjson.dumps(one, option=orjson.OPT_SORT_KEYS))
    return value


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_exported_imported_and_exported_is_the_same(
    inventory: Harness, another: Harness, seed: int
) -> None:
    chance = random.Random(seed)
    client = inventory.client()
    ids: list[str] = []
    for number in range(9):
        response = await client.post("/v1/assets", json=a_body_of(chance, number, ids))
        if response.status_code == 200:
            continue  # a provider, and no name of a model: it is one that is there already
        assert response.status_code == 201, response.text
        ids.append(response.json()["asset_id"])
        if chance.random() < 0.5:
            facts = {name: value for name, value in _FACTS.items() if chance.random() < 0.7}
            url = f"/v1/assets/{ids[-1]}/model-card"
            assert (await client.put(url, json=facts, headers={"If-Match": "*"})).status_code == 200
    root = await created(client, asset_type="ai_agent", name="the root", upstream_assets=ids)
    for version in bom.SPEC_VERSIONS:
        exported = await client.get(f"/v1/assets/{root['asset_id']}/bom", params={"spec_version": version})
        document = exported.json()
        bom.check(document)
        assert library_finds(document) is None
        refs = {one["bom-ref"] for one in (document["metadata"]["component"], *document["components"])}
        assert {ref for one in document["dependencies"] for ref in (one["ref"], *one["dependsOn"])} <= refs
    there = another.client()
    imported = await there.post("/v1/boms", content=exported.content, headers=JSON)
    assert imported.status_code == 201, imported.text
    receipt = imported.json()
    assert {one["outcome"] for one in receipt["assets"]} == {"created"}
    assert len(receipt["assets"]) == len(ids) + 1
    url = f"/v1/assets/{receipt['asset_id']}/bom"
    assert (await there.get(url)).content == exported.content
    again = (await there.get(url, params={"origin": "made", "spec_version": "1.6"})).json()
    bom.check(again)
    assert comparable(again) == comparable(document)
    # A second time everything is there already, and nothing changes.
    before = len(await another.published())
    second = (await there.post("/v1/boms", content=exported.content, headers=JSON)).json()
    assert {one["outcome"] for one in second["assets"]} == {"unchanged"}
    assert [one for one in second["assets"] if one["conflicts"]] == []
    assert len(await another.published()) == before
    # And where it came from, it changes nothing but that the asset has a bill.
    home = (await client.post("/v1/boms", content=exported.content, headers=JSON)).json()
    assert {one["outcome"] for one in home["assets"]} == {"unchanged"}
    assert home["asset_id"] == root["asset_id"]


# -- import ------------------------------------------------------------------------------------------------------------


async def test_others_models_become_assets_and_the_document_is_kept_byte_for_byte(inventory: Harness) -> None:
    client = inventory.client()
    sent = orjson.dumps(OTHERS, option=orjson.OPT_INDENT_2)
    params = {"owner_team": "search"}
    dry = await client.post("/v1/boms", content=sent, headers=JSON, params={**params, "dry_run": "true"})
    assert dry.status_code == 200, dry.text
    assert (dry.json()["bom_id"], {one["asset_id"] for one in dry.json()["assets"]}) == (None, {None})
    assert (await client.get("/v1/assets")).json()["items"] == []
    assert await inventory.published() == []
    done = (await client.post("/v1/boms", content=sent, headers=JSON, params=params)).json()
    assert [one["outcome"] for one in done["assets"]] == ["created"] * 3
    assert [one | {"asset_id": None} for one in done["assets"]] == dry.json()["assets"]
    assert (done["dependencies"], done["unattributed"], done["asset_id"]) == (2, 2, None)
    assert (await client.get(f"/v1/boms/{done['bom_id']}")).content == sent
    (listed,) = (await client.get("/v1/boms")).json()["items"]
    assert (listed["bom_id"], listed["digest"]) == (done["bom_id"], done["sha256"])
    ids = {one["ref"]: one["asset_id"] for one in done["assets"]}
    model = (await client.get(f"/v1/assets/{ids['model']}")).json()
    assert set(model["upstream_assets"]) == {ids["data"], ids["/components/1/pedigree/ancestors/0"]}
    assert (model["owner_team"], model["license_type"]) == ("search", "MIT")
    card = (await client.get(f"/v1/assets/{ids['model']}/model-card")).json()
    assert card["inferred"]["task"] == "text-classification"
    assert card["sources"]["task"]["locator"].endswith("#/components/1")


async def test_a_known_asset_gets_what_it_lacked_and_keeps_what_it_had(inventory: Harness) -> None:
    client = inventory.client()
    known = await created(
        client, name="triage", model_name="acme/triage", asset_type="fine_tuned_model", license_type="GPL-3.0-only"
    )
    done = (await client.post("/v1/boms", json=OTHERS, params={"owner_team": "search"})).json()
    (taken,) = [one for one in done["assets"] if one["ref"] == "model"]
    assert (taken["outcome"], taken["asset_id"]) == ("merged", known["asset_id"])
    assert taken["filled"] == ["integrity", "upstream_assets", "model_card"]
    (conflict,) = [one for one in taken["conflicts"] if one["attribute"] == "license_type"]
    assert conflict == {"attribute": "license_type", "standing": "GPL-3.0-only", "document": "MIT"}
    after = (await client.get(f"/v1/assets/{known['asset_id']}")).json()
    assert (after["license_type"], after["integrity"][0]["digest"]) == ("GPL-3.0-only", "cd" * 64)


async def test_another_teams_asset_is_neither_changed_nor_shown(inventory: Harness) -> None:
    theirs = await created(inventory.client(), model_name="acme/triage", owner_team="other")
    client = inventory.client(teams=["search"])
    response = await client.post("/v1/boms", json=OTHERS)
    assert response.status_code == 201, response.text
    (taken,) = [one for one in response.json()["assets"] if one["ref"] == "model"]
    assert (taken["outcome"], taken["asset_id"], taken["conflicts"]) == ("restricted", None, [])
    assert theirs["asset_id"] not in response.text
    assert (await inventory.client(teams=["other"]).get(f"/v1/boms/{response.json()['bom_id']}")).status_code == 404
    assert (await inventory.client(teams=["other"]).get("/v1/boms")).json()["items"] == []
    refused = await client.post("/v1/boms", json=OTHERS, params={"owner_team": "other"})
    assert refused.status_code == 403


async def test_what_cannot_be_taken_in_is_refused_by_pointer_and_nothing_is_done(inventory: Harness) -> None:
    client = inventory.client()
    invalid = copy.deepcopy(OTHERS)
    invalid["components"][1]["modelCard"]["modelParameters"]["approach"] = {"type": "magic"}
    no_asset = copy.deepcopy(OTHERS)
    no_asset["components"][1]["properties"] = [{"name": "colonnade:api_endpoint", "value": "javascript:alert(1)"}]
    future = copy.deepcopy(OTHERS)
    future["components"][1]["properties"] = [{"name": "colonnade:last_security_review", "value": "2999-01-01"}]
    for document, pointer in (
        (invalid, "/components/1/modelCard/modelParameters/approach/type"),
        (no_asset, "/components/1"),
        (future, "/last_security_review"),
        ({"bomFormat": "SPDX"}, "/bomFormat"),
    ):
        response = await client.post("/v1/boms", json=document, params={"owner_team": "search"})
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, pointer), response.text
    assert (await client.get("/v1/assets")).json()["items"] == []
    many = copy.deepcopy(OTHERS)
    many["components"] = [{"type": "data", "name": f"set {number}"} for number in range(2_001)]
    del many["dependencies"]
    response = await client.post("/v1/boms", json=many)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "/components")


async def test_components_of_stored_bills_are_matched_when_a_digest_is_denied_later(inventory: Harness) -> None:
    client = inventory.client()
    document = copy.deepcopy(OTHERS)
    document["metadata"]["component"]["properties"] = [{"name": "colonnade:asset_type", "value": "ai_agent"}]
    done = (await client.post("/v1/boms", json=document, params={"owner_team": "search"})).json()
    own = await created(client)
    library = {"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [OTHERS["components"][0]]}
    await client.put(f"/v1/assets/{own['asset_id']}/bom", json=library)
    body = {"algorithm": "sha256", "digest": "ab" * 32, "verdict": "denied", "reason": "a backdoor"}
    await client.post("/v1/artifact-digests", json=body)
    events = [ArtifactDenied.model_validate(one.data) for one in await inventory.published(ArtifactDenied.TYPE)]
    assert {(str(one.asset_id), one.place) for one in events} == {
        (done["asset_id"], "torch"),
        (own["asset_id"], "torch"),
    }
    # And the other way round: a bill that comes with a digest that is denied already.
    late = await created(client)
    await client.put(f"/v1/assets/{late['asset_id']}/bom", json=library)
    await inventory.do_tasks()
    events = [ArtifactDenied.model_validate(one.data) for one in await inventory.published(ArtifactDenied.TYPE)]
    assert str(events[-1].asset_id) == late["asset_id"]


# -- what changed ------------------------------------------------------------------------------------------------------


async def test_a_bill_that_is_supplied_again_is_compared_and_told(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client)
    url = f"/v1/assets/{asset['asset_id']}/bom"
    await client.put(url, json=OTHERS)
    await client.put(url, json=OTHERS)
    after = copy.deepcopy(OTHERS)
    after["components"][0]["version"] = "2.9"
    after["components"].append({"type": "library", "name": "numpy"})
    await client.put(url, json=after)
    events = [BomChanged.model_validate(one.data) for one in await inventory.published(BomChanged.TYPE)]
    assert [(one.version, one.added_count, one.changed_count) for one in events] == [(1, 5, 0), (2, 1, 1)]
    assert (events[1].added[0].name, events[1].changed[0].fields) == ("numpy", ("version",))
    diff = (await client.get(f"{url}/diff")).json()
    assert (diff["from_number"], diff["to_number"]) == (1, 2)
    assert [one["name"] for one in diff["added"]] == ["numpy"]
    assert [
        one["name"] for one in (await client.get(f"{url}/diff", params={"from": 2, "to": 1})).json()["removed"]
    ] == ["numpy"]
    versions = (await client.get(f"{url}/versions")).json()["items"]
    assert [one["number"] for one in versions] == [2, 1]
    assert (await client.get(f"/v1/boms/{versions[1]['bom_id']}")).json() == OTHERS
    assert (await client.get(f"{url}/diff", params={"from": 7})).status_code == 404
    assert (await inventory.client(teams=["other"]).get(f"{url}/diff")).status_code == 404


async def test_a_made_bill_changes_with_what_it_is_written_from(inventory: Harness) -> None:
    client = inventory.client()
    base = await created(client, name="base")
    model = await created(client, name="tuned", asset_type="fine_tuned_model")
    url = f"/v1/assets/{model['asset_id']}"
    any_ = {"If-Match": "*"}
    assert (await client.get(f"{url}/bom/diff")).status_code == 404
    await client.patch(url, json={"upstream_assets": [base["asset_id"]]}, headers=any_)
    await client.patch(url, json={"owner_email": "a@example.org"}, headers=any_)
    await client.put(f"{url}/model-card", json={"task": "text-generation"}, headers=any_)
    events = [BomChanged.model_validate(one.data) for one in await inventory.published(BomChanged.TYPE)]
    assert [one.origin for one in events] == ["made", "made"]
    assert [one.name for one in events[0].added] == ["base"]
    assert set(events[0].changed[0].fields) == {"dependencies", "pedigree"}
    assert events[1].changed[0].fields == ("model_card",)
    assert [one["number"] for one in (await client.get(f"{url}/bom/versions")).json()["items"]] == [3, 2, 1]
    for number in range(25):
        await client.patch(url, json={"model_version": str(number)}, headers=any_)
    assert len((await client.get(f"{url}/bom/versions")).json()["items"]) == 20


async def test_what_another_team_owns_is_named_by_its_id_only(inventory: Harness) -> None:
    client = inventory.client()
    theirs = await created(client, name="their secret project", owner_team="other")
    own = await created(client, asset_type="fine_tuned_model")
    url = f"/v1/assets/{own['asset_id']}"
    await client.patch(url, json={"upstream_assets": [theirs["asset_id"]]}, headers={"If-Match": "*"})
    team = inventory.client(teams=["search"])
    shown = await team.get(f"{url}/bom/diff")
    assert [one["name"] for one in shown.json()["added"]] == [theirs["asset_id"]]
    for path in ("bom", "bom/diff", "bom/versions", "bom/completeness"):
        assert "secret" not in (await team.get(f"{url}/{path}")).text
    assert "secret" not in (await team.get("/v1/boms/organization")).text


# -- model cards -------------------------------------------------------------------------------------------------------


async def test_a_persons_word_goes_before_what_sources_say(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client)
    url = f"/v1/assets/{asset['asset_id']}/model-card"
    now = datetime.now(UTC)

    async def renew(facts: dict[str, Any], locator: str = "config.json") -> bool:
        async with inventory.runtime.db.begin() as tx:
            return await renew_card(tx, UUID(asset["asset_id"]), facts, locator, now)

    assert await renew({"task": "fill-mask", "architecture": "BertModel", "nonsense": 1})
    assert not await renew({"task": "fill-mask", "architecture": "BertModel"})
    first = await client.get(url)
    assert first.headers["ETag"] == '"1"'
    assert first.json()["facts"] == {"task": "fill-mask", "model_architecture": "BertModel"}
    assert (await client.patch(url, json={"task": "text-generation"})).status_code == 428
    patched = await client.patch(url, json={"task": "text-generation"}, headers={"If-Match": '"1"'})
    assert patched.status_code == 200
    assert await renew({"task": "summarization", "languages": ["en"]})
    shown = (await client.get(url)).json()
    assert shown["facts"] == {"task": "text-generation", "languages": ["en"]}
    assert shown["inferred"]["task"] == "summarization"
    assert (await client.patch(url, json={"task": "x"}, headers={"If-Match": '"1"'})).status_code == 412
    await client.patch(url, json={"task": None}, headers={"If-Match": "*"})
    assert (await client.get(url)).json()["facts"]["task"] == "summarization"
    card = (await client.get(f"/v1/assets/{asset['asset_id']}/bom")).json()["metadata"]["component"]["modelCard"]
    assert card["modelParameters"]["task"] == "summarization"
    for body, field in (({"task": ""}, "/task"), ({"approach": "magic"}, "/approach"), ({"colour": "red"}, "/colour")):
        refused = await client.put(url, json=body, headers={"If-Match": "*"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    assert (await inventory.client(teams=["other"]).get(url)).status_code == 404


# -- completeness ------------------------------------------------------------------------------------------------------


async def test_the_least_complete_bills_come_first_and_what_to_add_with_its_gain(inventory: Harness) -> None:
    client = inventory.client()
    poor = await created(client, owner_team="poor")
    rich = await created(client, license_type="MIT", description="d", model_version="1", model_provider="acme")
    await jobs.judge_boms(inventory.runtime)
    first = (await client.get("/v1/boms/completeness", params={"limit": 1})).json()
    second = (await client.get("/v1/boms/completeness", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    items = [*first["items"], *second["items"]]
    assert [one["asset_id"] for one in items] == [poor["asset_id"], rich["asset_id"]]
    assert second["next_cursor"] is None
    for item in items:
        shown = (await client.get(f"/v1/assets/{item['asset_id']}/bom/completeness")).json()
        assert (shown["score"], shown["origin"]) == (item["score"], "made")
        assert [one["name"] for one in shown["missing"]] == item["missing"]
    await client.patch(f"/v1/assets/{poor['asset_id']}", json={"license_type": "MIT"}, headers={"If-Match": "*"})
    await client.put(f"/v1/assets/{rich['asset_id']}/bom", json=OTHERS)
    await jobs.judge_boms(inventory.runtime)
    after = {one["asset_id"]: one["score"] for one in (await client.get("/v1/boms/completeness")).json()["items"]}
    assert after[poor["asset_id"]] > items[0]["score"]
    shown = (await client.get(f"/v1/assets/{rich['asset_id']}/bom/completeness")).json()
    assert (shown["origin"], shown["score"]) == ("supplied", after[rich["asset_id"]])
    seen = (await inventory.client(teams=["poor"]).get("/v1/boms/completeness")).json()["items"]
    assert [one["asset_id"] for one in seen] == [poor["asset_id"]]


# -- signatures --------------------------------------------------------------------------------------------------------


async def test_a_signature_is_verified_with_the_published_key_over_the_bytes_as_sent(
    postgres: TestServer, tmp_path: Path
) -> None:
    path = tmp_path / "key.pem"
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    async with harness(SERVICE, InventorySettings, postgres, bom_signing_key_file=path) as inventory:
        client = inventory.client()
        asset = await created(client)
        response = await client.get(f"/v1/assets/{asset['asset_id']}/bom", params={"signed": "true"})
        signature = response.headers["X-JWS-Signature"]
        assert signature.split(".")[1] == ""
        (published,) = (await client.get("/v1/boms/keys")).json()["keys"]
        assert jwt.get_unverified_header(signature)["kid"] == published["kid"]
        public = jwt.PyJWK(published).key
        jwt.api_jws.decode(signature, public, algorithms=["EdDSA"], detached_payload=response.content)
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.api_jws.decode(signature, public, algorithms=["EdDSA"], detached_payload=response.content + b" ")


async def test_without_a_key_nothing_is_signed(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client)
    assert (await client.get(f"/v1/assets/{asset['asset_id']}/bom", params={"signed": "true"})).status_code == 409
    assert (await client.get("/v1/boms/keys")).json() == {"keys": []}


async def test_the_same_bill_in_spdx(inventory: Harness) -> None:
    client = inventory.client()
    data = await created(client, asset_type="training_dataset")
    model = await created(client, upstream_assets=[data["asset_id"]])
    url = f"/v1/assets/{model['asset_id']}/bom"
    response = await client.get(url, params={"format": "spdx3"})
    assert response.headers["content-type"].startswith("application/spdx+json")
    found = read(response.json())
    assert {one.spdxId for one in found.foreach_type("ai_AIPackage")} == {f"urn:uuid:{model['asset_id']}"}
    assert {one.spdxId for one in found.foreach_type("dataset_DatasetPackage")} == {f"urn:uuid:{data['asset_id']}"}
    refused = await client.get(url, params={"format": "spdx3", "origin": "supplied"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "format")
