"""Clouds from the request over the API to assets and edges, and a second run that finds nothing different."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.inventory.connectors.aws import access
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from services.inventory.tests import fakes_azure, fakes_vertex
from services.inventory.tests.estates_aws import HUGGINGFACE_TOKEN, INSTRUCTION, bedrock_estate, sagemaker_estate
from services.inventory.tests.fakes import always, serving
from services.inventory.tests.fakes_aws import OWN, REGION, FakeAws, denied, refused
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def inventory(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres, discovery_endpoint_urls=True) as made:
        yield made


@pytest.fixture
async def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """Of each source the options that lead to its fake."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret-4711")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("azure.identity.aio.DefaultAzureCredential", fakes_azure.Identity)
    access.REMEMBERED.forget()
    aws = FakeAws(estate={(OWN, REGION): {**sagemaker_estate(), **bedrock_estate()}})
    azure, vertex = fakes_azure.an_estate(), fakes_vertex.an_estate()
    async with serving(aws.app()) as at_aws, serving(azure.app()) as at_azure, serving(vertex.app()) as at_google:
        file, _ = fakes_vertex.service_account(tmp_path, f"{at_google}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        yield {
            "aws_bedrock": {"regions": [REGION], "endpoint_url": at_aws},
            "aws_sagemaker": {"regions": [REGION], "endpoint_url": at_aws},
            "azure_openai": {"endpoint_url": at_azure},
            "gcp_vertex": {"locations": [fakes_vertex.LOCATION], "endpoint_url": at_google},
        }


async def ran(inventory: Harness, source: str, options: dict[str, Any]) -> dict[str, Any]:
    client = inventory.client("engineer", subject="dora")
    asked = await client.post("/v1/discovery/runs", json={"source": source, "options": options})
    assert asked.status_code == 202, asked.text
    assert await inventory.do_tasks() == 1
    return dict((await client.get(asked.headers["Location"])).json())


async def test_clouds_become_assets_and_edges_and_a_second_run_changes_nothing(
    inventory: Harness, clouds: dict[str, dict[str, Any]]
) -> None:
    for source, options in clouds.items():
        run = await ran(inventory, source, options)
        assert (run["status"], run["problems"]) == ("succeeded", []), source
        assert run["counts"]["new"] > 0
    assets = (await inventory.client().get("/v1/assets?limit=200")).json()["items"]
    by_name = {asset["name"]: asset for asset in assets}
    twice = {(asset["name"], asset["cloud_provider"]) for asset in assets}
    assert len(twice) == len(assets), "a tuning job and the model that it made are one asset"
    agent = by_name["support"]
    assert (agent["owner_team"], agent["data_classification"]) == ("support-team", "confidential")
    names = {asset["asset_id"]: asset["name"] for asset in assets}
    opened = [one.data["edge"] for one in await inventory.published("ev.inventory.edge.opened.v1")]
    edges = {(names[str(one["from_id"])], one["relation"], names[str(one["to_id"])]) for one in opened}
    assert edges >= {
        ("support", "guarded_by", "no-advice"),
        ("support", "retrieves_from", "handbook"),
        ("support", "calls_tool", "orders of AGENT1"),
        ("support", "uses_model", "Profile: EU Claude"),
        ("Profile: EU Claude", "uses_model", "Claude 3.5 Sonnet"),
        ("SageMaker: chat", "uses_model", "tgi"),
        ("Azure OpenAI: chat", "uses_model", "gpt-4o"),
        ("support-tuned", "fine_tuned_from", "gemini-2.5-flash"),
        ("Titan Text Embeddings V2", "embeds_into", "handbook: OPENSEARCH_SERVERLESS"),
    }

    events = len(await inventory.published())
    for source, options in clouds.items():
        again = await ran(inventory, source, options)
        counts = again["counts"]
        assert (counts["new"], counts["changed"], counts["missing"], counts["gone"], counts["merged"]) == (0,) * 5, (
            source
        )
    assert len(await inventory.published()) == events
    shown = str(assets) + str(await inventory.published())
    for planted in (
        HUGGINGFACE_TOKEN,
        INSTRUCTION,
        "not-a-real-secret-4711",
        fakes_vertex.PLANTED,
        "planted-search-key",
    ):
        assert planted not in shown


async def test_a_listing_that_is_refused_later_lets_nothing_go(
    inventory: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret-4711")
    access.REMEMBERED.forget()
    aws = FakeAws(estate={(OWN, REGION): bedrock_estate()})
    async with serving(aws.app()) as url:
        options = {"regions": [REGION], "endpoint_url": url}
        await ran(inventory, "aws_bedrock", options)
        before = {one["asset_id"] for one in (await inventory.client().get("/v1/assets?limit=200")).json()["items"]}
        aws.faults.planned["ListAgents"] = always(denied)
        aws.estate[OWN, REGION]["ListGuardrails"] = []
        run = await ran(inventory, "aws_bedrock", options)
    assert run["status"] == "partial"
    # Of the guardrail it is known that it is no longer there; of agents nothing is.
    assert (run["counts"]["missing"], run["counts"]["gone"], run["counts"]["changed"]) == (1, 0, 0)
    after = {one["asset_id"] for one in (await inventory.client().get("/v1/assets?limit=200")).json()["items"]}
    assert after == before


async def test_texts_that_no_database_stores_and_addresses_that_run_end_no_run(
    inventory: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret-4711")
    access.REMEMBERED.forget()
    estate: dict[str, Any] = bedrock_estate()
    estate["GetAgent"]["agent"]["description"] = "half a pair \ud800 and a \0 in one text"
    estate["GetDataSource"]["dataSource"]["dataSourceConfiguration"] = {
        "type": "WEB",
        "webConfiguration": {
            "sourceConfiguration": {"urlConfiguration": {"seedUrls": [{"url": "javascript:alert(1)"}]}}
        },
    }
    estate["ListGuardrails"][0]["name"] = ""
    estate["ListCustomModels"][0]["modelName"] = "x" * 5_000
    aws = FakeAws(estate={(OWN, REGION): estate})
    aws.faults.planned["ListImportedModels"] = always(refused("AccessDeniedException", "no \0 and no \ud800", 403))
    async with serving(aws.app()) as url:
        run = await ran(inventory, "aws_bedrock", {"regions": [REGION], "endpoint_url": url})
    assert run["status"] == "partial"
    assets = {one["name"]: one for one in (await inventory.client().get("/v1/assets?limit=200")).json()["items"]}
    assert assets["support"]["description"] == "half a pair \ufffd and a \ufffd in one text"
    assert assets["pages of KB1"]["source_url"] is None
    assert any("has no name" in problem["message"] for problem in run["problems"])
