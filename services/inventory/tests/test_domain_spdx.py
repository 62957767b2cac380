"""SPDX 3.0.1: what SPDX's own model makes of our documents."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
from spdx_python_model import v3_0_1 as spdx3

from services.inventory.domain.asset import Asset, Digest
from services.inventory.domain.bom import spdx
from services.inventory.tests.factories import NOW, an_asset
from services.inventory.tests.test_domain_bom import edge
from shared.contracts.inventory import AssetType, DataClassification, Relation


def read(document: dict[str, Any]) -> Any:
    """The document through SPDX's own generated model, which refuses what it does not know and links what is named."""
    found = spdx3.SHACLObjectSet()
    spdx3.JSONLDDeserializer().read(io.BytesIO(orjson.dumps(document)), found)
    # Writing checks what has to be there at least.
    spdx3.JSONLDSerializer().write(found, io.BytesIO())
    return found


def a_document() -> tuple[dict[str, Any], Asset, Asset, Asset, Asset]:
    data = an_asset(
        asset_type=AssetType.TRAINING_DATASET,
        data_classification=DataClassification.RESTRICTED,
        source_url="s3://b/a b",
    )
    base = an_asset(model_name="acme/base", model_provider="huggingface", license_type="our own licence")
    model = an_asset(
        asset_type=AssetType.FINE_TUNED_MODEL,
        license_type="apache-2.0",
        model_version="1",
        integrity=(Digest("model.safetensors", "sha256", "ab" * 32),),
    )
    agent = an_asset(asset_type=AssetType.AI_AGENT)
    facts = {
        model.asset_id: {
            "task": "text-generation",
            "architecture_family": "transformer",
            "technical_limitations": ["no arithmetic"],
            "hyperparameters": {"lr": "1e-4"},
            "metrics": [{"type": "f1", "value": "0.8"}],
        }
    }
    edges = [edge(model, data), edge(model, base), edge(agent, model, Relation.USES_MODEL)]
    return spdx.generate(agent, [data, base, model], edges, facts, at=NOW), agent, model, base, data


def test_spdxs_own_model_reads_it_and_finds_every_reference() -> None:
    document, agent, model, base, data = a_document()
    found = read(document)
    assert found.missing_ids == set()
    (root,) = found.foreach_type("SpdxDocument")
    assert [one.spdxId for one in root.rootElement] == [f"urn:uuid:{agent.asset_id}"]
    assert {one["spdxId"] for one in document["@graph"][2:]} == {one.spdxId for one in root.element}
    packages = {one.spdxId: one for one in found.foreach_type("ai_AIPackage")}
    tuned = packages[f"urn:uuid:{model.asset_id}"]
    assert list(tuned.ai_typeOfModel) == ["transformer"]
    assert tuned.ai_limitation == "no arithmetic"
    assert [(one.key, one.value) for one in tuned.ai_metric] == [("f1", "0.8")]
    assert tuned.verifiedUsing[0].hashValue == "ab" * 32
    related = {
        (one.from_.spdxId, one.relationshipType.rsplit("/", 1)[1], one.to[0].spdxId)
        for one in found.foreach_type("Relationship")
    }
    ids = {name: f"urn:uuid:{one.asset_id}" for name, one in (("agent", agent), ("model", model), ("base", base))}
    assert (ids["agent"], "dependsOn", ids["model"]) in related
    assert (ids["model"], "descendantOf", ids["base"]) in related
    assert (ids["model"], "trainedOn", f"urn:uuid:{data.asset_id}") in related
    (dataset,) = found.foreach_type("dataset_DatasetPackage")
    assert dataset.dataset_confidentialityLevel.endswith("/red")
    licences = {
        one.simplelicensing_licenseExpression for one in found.foreach_type("simplelicensing_LicenseExpression")
    }
    assert licences == {"Apache-2.0", "LicenseRef-our-own-licence"}


def test_the_oracle_refuses_what_is_wrong() -> None:
    document = a_document()[0]
    package = next(one for one in document["@graph"] if one["type"] == "ai_AIPackage")
    package["ai_colour"] = "red"
    with pytest.raises(Exception, match="ai_colour"):
        read(document)
