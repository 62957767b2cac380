"""Platform entries as assets, field by field, and what a later finding may change."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

import pytest

from services.inventory.domain.asset import (
    AttributeSource,
    SourceKind,
    key_of,
    register,
)
from services.inventory.domain.discovery import (
    Findings,
    Found,
    Problem,
    RunStatus,
    azure_openai_deployment,
    bedrock_custom_model,
    bedrock_provisioned_throughput,
    huggingface_folder,
    is_model_config,
    refreshed,
    resource_group_of,
)
from services.inventory.tests.factories import NOW, an_asset
from shared.contracts.inventory import AssetType, DeploymentEnvironment


def test_a_bedrock_custom_model_is_a_fine_tuned_model() -> None:
    arn = "arn:aws:bedrock:eu-west-1:1:custom-model/x"
    found = bedrock_custom_model(
        {"modelArn": arn, "modelName": "support-tuned", "baseModelName": "Titan"},
        "eu-west-1",
    )
    assert found.locator == arn
    assert {**found.declared, "description": "", "sources": ()} == {
        "name": "support-tuned",
        "asset_type": AssetType.FINE_TUNED_MODEL,
        "description": "",
        "model_provider": "aws_bedrock",
        "model_name": "support-tuned",
        "is_self_hosted": False,
        "cloud_provider": "aws",
        "cloud_region": "eu-west-1",
        "deployment_env": DeploymentEnvironment.PRODUCTION,
        "sources": (),
    }
    assert "support-tuned" in found.declared["description"]
    assert AttributeSource("owner_team", SourceKind.UNRESOLVED, arn) in found.declared["sources"]


def _throughput(name: str) -> Found:
    summary = {
        "provisionedModelName": name,
        "provisionedModelArn": f"arn:aws:bedrock:eu-west-1:1:provisioned-model/{name}",
        "foundationModelArn": "arn:aws:bedrock:eu-west-1::foundation-model/titan",
    }
    return bedrock_provisioned_throughput(summary, "eu-west-1")


def test_a_provisioned_throughput_is_an_api_endpoint() -> None:
    found = _throughput("chat")
    assert found.declared["name"] == "Provisioned: chat"
    assert found.declared["asset_type"] is AssetType.API_ENDPOINT
    assert found.declared["model_name"] == "arn:aws:bedrock:eu-west-1::foundation-model/titan"
    assert (found.declared["cloud_provider"], found.declared["model_provider"]) == (
        "aws",
        "aws_bedrock",
    )


def test_two_throughputs_of_one_model_are_two_assets() -> None:
    one, other = (register(uuid4(), _throughput(name).declared, by="t", at=NOW) for name in ("chat", "batch"))
    assert key_of(one) != key_of(other)


ACCOUNT: dict[str, Any] = {
    "id": "/subscriptions/s/resourceGroups/ai-prod/providers/Microsoft.CognitiveServices/accounts/acme",
    "name": "acme",
    "kind": "OpenAI",
    "location": "swedencentral",
    "properties": {"endpoint": "https://acme.openai.azure.com/"},
}


def test_an_azure_deployment_is_an_api_endpoint() -> None:
    deployment = {
        "name": "chat",
        "properties": {"model": {"name": "gpt-4o", "version": "2024-11-20"}},
    }
    found = azure_openai_deployment(ACCOUNT, deployment)
    assert found.locator == ACCOUNT["id"] + "/deployments/chat"
    declared = dict(found.declared)
    del declared["sources"]
    assert declared == {
        "name": "Azure OpenAI: chat",
        "asset_type": AssetType.API_ENDPOINT,
        "model_provider": "azure_openai",
        "model_name": "gpt-4o",
        "model_version": "2024-11-20",
        "api_endpoint": "https://acme.openai.azure.com/openai/deployments/chat",
        "cloud_provider": "azure",
        "cloud_region": "swedencentral",
        "deployment_env": DeploymentEnvironment.PRODUCTION,
    }


def test_the_resource_group_is_found_whatever_its_case() -> None:
    assert resource_group_of(str(ACCOUNT["id"])) == "ai-prod"
    assert resource_group_of("/subscriptions/s/RESOURCEGROUPS/x/providers/y") == "x"
    with pytest.raises(ValueError, match="no resource group"):
        resource_group_of("/subscriptions/s")


@pytest.mark.parametrize(
    ("folder", "config", "name", "version", "url"),
    [
        (
            "/models/my-bert",
            {"model_type": "bert"},
            "my-bert",
            None,
            "https://huggingface.co/my-bert",
        ),
        (
            "/models/x",
            {"model_type": "bert", "_name_or_path": "acme/bert-large"},
            "acme/bert-large",
            None,
            "https://huggingface.co/acme/bert-large",
        ),
        (
            "/models/x",
            {"_name_or_path": "/home/me/out/checkpoint"},
            "x",
            None,
            "https://huggingface.co/x",
        ),
        ("/models/my model", {"architectures": ["A"]}, "my model", None, None),
        (
            "/hub/models--acme--bert-large/snapshots/" + "ab" * 20,
            {"model_type": "bert"},
            "acme/bert-large",
            "ab" * 20,
            "https://huggingface.co/acme/bert-large",
        ),
    ],
)
def test_a_model_folder_is_a_self_hosted_foundation_model(
    folder: str, config: dict[str, Any], name: str, version: str | None, url: str | None
) -> None:
    declared = huggingface_folder(PurePosixPath(folder), config).declared
    assert declared["name"] == f"Local HF: {name}"
    assert (
        declared["model_name"],
        declared["model_version"],
        declared["source_url"],
    ) == (name, version, url)
    assert (declared["model_provider"], declared["is_self_hosted"]) == (
        "huggingface",
        True,
    )
    assert declared["asset_type"] is AssetType.FOUNDATION_MODEL
    assert declared["deployment_env"] is DeploymentEnvironment.PRODUCTION


@pytest.mark.parametrize(
    ("config", "yes"),
    [
        ({"model_type": "llama"}, True),
        ({"architectures": []}, True),
        ({"name": "app"}, False),
        (["model_type"], False),
    ],
)
def test_only_model_configs_count(config: Any, yes: bool) -> None:
    assert is_model_config(config) is yes


def _discovered(**fields: Any) -> Found:
    return azure_openai_deployment(ACCOUNT, {"name": "chat", "properties": {"model": fields}})


def test_a_finding_renews_what_was_inferred_and_leaves_what_was_declared() -> None:
    first = _discovered(name="gpt-4o", version="1")
    asset = register(uuid4(), first.declared, by="discovery", at=NOW)
    renewed = refreshed(asset, _discovered(name="gpt-4o", version="2"))
    assert renewed["model_version"] == "2"
    assert set(renewed) == {"model_version", "sources"}
    assert refreshed(asset, first) == {}

    declared = an_asset(model_name="gpt-4o", model_version="mine", name="ours")
    changes = refreshed(declared, _discovered(name="gpt-4o", version="2"))
    assert "model_version" not in changes
    assert "name" not in changes
    assert changes["cloud_region"] == "swedencentral"


def test_a_run_is_partial_when_something_came_home_and_failed_when_nothing_did() -> None:
    problem = Problem("list_custom_models", "AccessDenied")
    assert Findings().status is RunStatus.SUCCEEDED
    assert Findings(problems=[problem]).status is RunStatus.FAILED
    assert Findings(problems=[problem], complete=["custom_models"]).status is RunStatus.PARTIAL
