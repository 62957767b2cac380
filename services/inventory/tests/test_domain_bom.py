"""Bills of materials: what is taken for one, and what we write."""

from __future__ import annotations

from typing import Any

import pytest

from services.inventory.domain import bom
from services.inventory.domain.asset import Digest
from services.inventory.tests.factories import NOW, an_asset
from shared.contracts.inventory import AssetType

GOOD = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [{"type": "library", "name": "torch"}],
}


def test_a_cyclonedx_document_is_taken() -> None:
    bom.check(GOOD)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({}, "/bomFormat"),
        (GOOD | {"bomFormat": "SPDX"}, "/bomFormat"),
        (GOOD | {"specVersion": "2.0"}, "/specVersion"),
        (GOOD | {"specVersion": 1.6}, "/specVersion"),
        (GOOD | {"components": {}}, "/components"),
        (GOOD | {"components": [{"name": "torch"}]}, "/components/0/type"),
        (GOOD | {"metadata": []}, "/metadata"),
    ],
)
def test_what_is_none_is_refused_by_pointer(document: Any, pointer: str) -> None:
    with pytest.raises(bom.NotABom) as refused:
        bom.check(document)
    assert [error["field"] for error in refused.value.extra["errors"]] == ([pointer] if pointer else [])


def test_a_model_is_a_machine_learning_model_with_its_card() -> None:
    model = an_asset(
        model_provider="huggingface",
        model_name="acme/bert",
        model_version="AB" * 20,
        license_type="apache-2.0",
        purpose="answers support mail",
        integrity=(Digest("model.safetensors", "sha256", "00" * 32),),
    )
    component = bom.component(model)
    assert component["type"] == "machine-learning-model"
    assert component["purl"] == "pkg:huggingface/acme/bert@" + "ab" * 20
    assert component["hashes"] == [{"alg": "SHA-256", "content": "00" * 32}]
    assert component["modelCard"]["considerations"] == {"useCases": ["answers support mail"]}
    assert component["licenses"] == [{"license": {"name": "apache-2.0"}}]


def test_the_document_is_accepted_by_our_own_check_and_holds_no_dangling_reference() -> None:
    data = an_asset(asset_type=AssetType.TRAINING_DATASET)
    unknown = an_asset()
    model = an_asset(upstream_assets=(data.asset_id, unknown.asset_id))
    document = bom.generate(model, [data], {model.asset_id: model.upstream_assets}, at=NOW)
    bom.check(document)
    assert document["specVersion"] == "1.7"
    assert document["metadata"]["component"]["bom-ref"] == str(model.asset_id)
    assert [item["type"] for item in document["components"]] == ["data"]
    depends = {item["ref"]: item["dependsOn"] for item in document["dependencies"]}
    assert depends == {
        str(model.asset_id): [str(data.asset_id)],
        str(data.asset_id): [],
    }


def test_the_same_version_is_the_same_document() -> None:
    asset = an_asset()
    numbers = {bom.generate(asset, [], {}, at=NOW)["serialNumber"] for _ in range(2)}
    assert len(numbers) == 1
