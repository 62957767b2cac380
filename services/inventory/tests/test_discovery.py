"""Discovery runs from the request to the assets, on real folders; and what a run may and may not read."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.inventory import jobs
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from services.inventory.tests.factories import NOW
from services.inventory.tests.test_api_assets import created
from shared.tasks import Task
from shared.testing import Harness, TestServer, harness

COMMIT = "c0ffee" + "0" * 34


@pytest.fixture
def estate(tmp_path: Path) -> Path:
    """A folder with a plain model, a hub cache, and what is no model."""
    root = tmp_path / "models"
    _write(root / "my-bert" / "config.json", {"model_type": "bert"})
    snapshot = root / "hub" / "models--acme--tiny" / "snapshots" / COMMIT
    blobs = snapshot.parents[1] / "blobs"
    _write(blobs / "1234", {"architectures": ["LlamaForCausalLM"], "_name_or_path": "/tmp/train/out"})
    (blobs / ("ab" * 32)).write_bytes(b"weights")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    (snapshot / "model.safetensors").symlink_to("../../blobs/" + "ab" * 32)
    _write(root / "webapp" / "config.json", {"port": 80})
    return root


def _write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


@pytest.fixture
async def inventory(postgres: TestServer, estate: Path) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres, discovery_roots=(estate,)) as made:
        yield made


async def discovered(inventory: Harness, *paths: Path, **body: Any) -> dict[str, Any]:
    client = inventory.client("engineer", subject="dora")
    asked = {"source": "filesystem", "options": {"paths": [str(path) for path in paths]}, **body}
    response = await client.post("/v1/discovery/runs", json=asked)
    assert response.status_code == 202, response.text
    assert response.json()["status"] == "queued"
    assert await inventory.do_tasks() == 1
    run: dict[str, Any] = (await client.get(response.headers["Location"])).json()
    assert run["finished_at"] is not None
    return run


def _counts(run: dict[str, Any], **expected: int) -> bool:
    return bool(run["counts"] == {"seen": 0, "new": 0, "changed": 0, "gone": 0, "merged": 0} | expected)


async def test_models_on_disk_become_assets(inventory: Harness, estate: Path) -> None:
    run = await discovered(inventory, estate, owner_team="search")
    assert (run["status"], run["problems"]) == ("succeeded", [])
    assert _counts(run, seen=2, new=2)
    items = (await inventory.client().get("/v1/assets")).json()["items"]
    by_name = {item["name"]: item for item in items}
    cached = by_name["Local HF: acme/tiny"]
    assert (cached["model_provider"], cached["is_self_hosted"]) == ("huggingface", True)
    assert (cached["model_name"], cached["model_version"]) == ("acme/tiny", COMMIT)
    assert cached["source_url"] == "https://huggingface.co/acme/tiny"
    assert (cached["deployment_env"], cached["owner_team"]) == ("production", "search")
    assert cached["integrity"] == [{"path": "model.safetensors", "algorithm": "sha256", "digest": "ab" * 32}]
    sources = {source["attribute"]: source["kind"] for source in cached["sources"]}
    assert (sources["model_name"], sources["data_classification"]) == ("inferred", "unresolved")
    assert by_name["Local HF: my-bert"]["asset_type"] == "foundation_model"
    events = await inventory.published()
    assert [event.type for event in events] == ["ev.inventory.asset.registered.v1"] * 2
    history = (await inventory.client().get(f"/v1/assets/{cached['asset_id']}/history")).json()["items"]
    assert history[-1]["actor"] == "dora"


async def test_the_next_run_knows_them_and_says_what_is_gone(inventory: Harness, estate: Path) -> None:
    await discovered(inventory, estate)
    assert _counts(await discovered(inventory, estate), seen=2)
    config = estate / "my-bert" / "config.json"
    config.rename(estate / "config.bak")
    assert _counts(await discovered(inventory, estate), seen=1, gone=1)
    assert _counts(await discovered(inventory, estate), seen=1)
    (estate / "config.bak").rename(config)
    assert _counts(await discovered(inventory, estate), seen=2)
    assert len((await inventory.client().get("/v1/assets")).json()["items"]) == 2


async def test_what_a_person_registered_is_merged_and_keeps_what_was_declared(inventory: Harness, estate: Path) -> None:
    declared = {
        "name": "Our tiny model",
        "model_provider": "huggingface",
        "model_name": "acme/tiny",
        "deployment_env": "production",
        "owner_team": "claims",
    }
    asset = await created(inventory.client(), **declared)
    run = await discovered(inventory, estate)
    assert _counts(run, seen=2, new=1, merged=1, changed=1)
    after = (await inventory.client().get(f"/v1/assets/{asset['asset_id']}")).json()
    assert {name: after[name] for name in declared} == declared
    assert (after["model_version"], after["version"]) == (COMMIT, 2)
    # Now it is known by its place, and nothing about it is new.
    assert _counts(await discovered(inventory, estate), seen=2)


async def test_a_retired_asset_that_is_still_there_is_registered_anew(inventory: Harness, estate: Path) -> None:
    await discovered(inventory, estate / "my-bert")
    (asset,) = (await inventory.client().get("/v1/assets")).json()["items"]
    await inventory.client().post(f"/v1/assets/{asset['asset_id']}/retire", json={"reason": "thought so"})
    assert _counts(await discovered(inventory, estate / "my-bert"), seen=1, new=1)


async def test_a_run_that_is_done_again_counts_nothing_twice(inventory: Harness, estate: Path) -> None:
    first = await discovered(inventory, estate)
    task = Task(uuid4(), "discovery.run", first["run_id"], {}, 2, False, NOW)
    assert await jobs.run_discovery(task, inventory.runtime) is None
    again = (await inventory.client().get(f"/v1/discovery/runs/{first['run_id']}")).json()
    assert again == first


async def test_links_do_not_lead_out_of_the_roots(inventory: Harness, estate: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    _write(outside / "secret-model" / "config.json", {"model_type": "bert"})
    (estate / "linked").symlink_to(outside)
    (estate / "trap").mkdir()
    (estate / "trap" / "config.json").symlink_to(outside / "secret-model" / "config.json")
    (estate / "trap" / "model.safetensors").write_bytes(b"")
    run = await discovered(inventory, estate)
    assert run["counts"]["seen"] == 2
    assert (run["status"], len(run["problems"])) == ("partial", 1)
    assert "leads out" in run["problems"][0]["message"]
    response = await inventory.client("engineer").post(
        "/v1/discovery/runs", json={"source": "filesystem", "options": {"paths": [str(estate / "linked")]}}
    )
    assert response.status_code == 422


async def test_one_bad_file_does_not_hide_the_others(inventory: Harness, estate: Path) -> None:
    _write(estate / "broken" / "config.json", '{"model_type": ')
    (estate / "broken" / "pytorch_model.bin").write_bytes(b"")
    _write(estate / "deep" / "config.json", "[" * 100_000)
    (estate / "deep" / "model.safetensors").write_bytes(b"")
    _write(estate / "large" / "config.json", '{"model_type": "' + "x" * 2_000_000 + '"}')
    (estate / "large" / "model.safetensors").write_bytes(b"")
    os.mkfifo(estate / "my-bert" / "pipe")
    (estate / "pipe").mkdir()
    os.mkfifo(estate / "pipe" / "config.json")
    (estate / "pipe" / "model.bin").write_bytes(b"")
    _write(estate / "surrogate" / "config.json", '{"model_type": "a", "_name_or_path": "\\ud800"}')
    (Path(os.fsdecode(os.fsencode(estate) + b"/\xff\xfe"))).mkdir()
    (Path(os.fsdecode(os.fsencode(estate) + b"/\xff\xfe/config.json"))).write_text('{"model_type": "bert"}')
    run = await discovered(inventory, estate)
    assert run["status"] == "partial"
    assert run["counts"]["seen"] >= 2
    assert len(run["problems"]) == 5, run["problems"]


async def test_a_path_that_is_not_there_is_a_problem_not_an_empty_estate(inventory: Harness, estate: Path) -> None:
    await discovered(inventory, estate)
    run = await discovered(inventory, estate / "nowhere")
    assert (run["status"], run["counts"]["gone"]) == ("failed", 0)
    assert "not a folder" in run["problems"][0]["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"source": "filesystem", "options": {"paths": ["/etc"]}}, "/options/paths/0"),
        ({"source": "filesystem", "options": {"paths": ["models"]}}, "/options/paths/0"),
        ({"source": "filesystem", "options": {"paths": []}}, "/options/paths"),
        ({"source": "filesystem", "options": {}}, "/options/paths"),
        ({"source": "filesystem", "options": {"paths": ["/etc"], "deep": True}}, "/options/deep"),
        ({"source": "aws_bedrock", "options": {"region": "nowhere"}}, "/options/region"),
        (
            {"source": "aws_bedrock", "options": {"region": "eu-west-1", "endpoint_url": "http://10.0.0.1"}},
            "/options/endpoint_url",
        ),
        ({"source": "azure_openai", "options": {"subscription_id": "x"}}, "/options/subscription_id"),
        ({"source": "attic", "options": {}}, "/source"),
        *(
            ({"source": source, "options": {}}, "/source")
            for source in (
                "aws_sagemaker",
                "gcp_vertex",
                "kubernetes",
                "repository",
                "mlflow",
                "vector_store",
                "openai_compatible",
                "traffic",
            )
        ),
    ],
)
async def test_a_bad_run_is_refused_by_field(inventory: Harness, body: dict[str, Any], field: str) -> None:
    response = await inventory.client("engineer").post("/v1/discovery/runs", json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert (await inventory.client().get("/v1/discovery/runs")).json()["items"] == []


async def test_runs_are_the_whole_organisations(inventory: Harness, estate: Path) -> None:
    run = await discovered(inventory, estate)
    member = inventory.client("engineer", teams=["search"])
    body = {"source": "filesystem", "options": {"paths": [str(estate)]}, "owner_team": "search"}
    assert (await member.post("/v1/discovery/runs", json=body)).status_code == 403
    assert (await member.get("/v1/discovery/runs")).json()["items"] == []
    assert (await member.get(f"/v1/discovery/runs/{run['run_id']}")).status_code == 404
    assert (await inventory.client("viewer").post("/v1/discovery/runs", json=body)).status_code == 403
    newer = await discovered(inventory, estate)
    listed = (await inventory.client("viewer").get("/v1/discovery/runs", params={"limit": 1})).json()
    assert [item["run_id"] for item in listed["items"]] == [newer["run_id"]]
    rest = await inventory.client("viewer").get(
        "/v1/discovery/runs", params={"limit": 1, "cursor": listed["next_cursor"]}
    )
    assert [item["run_id"] for item in rest.json()["items"]] == [run["run_id"]]
