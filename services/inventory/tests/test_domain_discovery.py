"""Platform entries as assets, field by field, and what a later finding may change."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

import pytest

from services.inventory.domain.asset import (
    AttributeSource,
    SourceKind,
    register,
)
from services.inventory.domain.discovery import (
    Findings,
    Found,
    Problem,
    RunStatus,
    huggingface_folder,
    is_model_config,
    refreshed,
)
from services.inventory.tests.factories import NOW, an_asset
from shared.contracts.inventory import AssetType, DeploymentEnvironment


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


def _discovered(name: str, version: str) -> Found:
    values = {
        "name": "Azure OpenAI: chat",
        "asset_type": AssetType.API_ENDPOINT,
        "model_name": name,
        "model_version": version,
        "cloud_region": "swedencentral",
    }
    sources = tuple(AttributeSource(attribute, SourceKind.INFERRED, "/deployments/chat") for attribute in values)
    return Found("/deployments/chat", {**values, "sources": sources})


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
