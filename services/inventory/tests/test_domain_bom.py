"""Bills of materials: what is taken for one, and what we write."""

from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import orjson
import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from services.inventory.domain import bom
from services.inventory.domain.asset import Asset, AttributeSource, Digest, SourceKind
from services.inventory.domain.bom.completeness import completeness
from services.inventory.domain.bom.facts import facts_of, read_facts
from services.inventory.tests.factories import NOW, an_asset
from shared.contracts.inventory import AssetType, Relation

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
        (GOOD | {"components": [{"name": "torch"}]}, "/components/0"),
        (GOOD | {"metadata": []}, "/metadata"),
        (GOOD | {"specVersion": "1.1"}, "/specVersion"),
        (GOOD | {"components": [{"type": "library", "name": "x", "colour": "red"}]}, "/components/0"),
        (
            GOOD | {"components": [{"type": "library", "name": "x", "licenses": [{"license": {"id": "No-Such"}}]}]},
            "/components/0/licenses/0/license/id",
        ),
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
    assert component["licenses"] == [{"license": {"id": "Apache-2.0"}}]


def edge(subject: Asset, target: Asset, relation: Relation = Relation.DEPENDS_ON) -> bom.Edge:
    return subject.asset_id, relation, target.asset_id


def library_finds(document: dict[str, Any]) -> Any:
    """What cyclonedx-python-lib's own strict validator has against the document."""
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.from_version(document["specVersion"]))
    return validator.validate_str(orjson.dumps(document).decode())


@pytest.mark.parametrize(
    ("written", "licences"),
    [
        ("apache-2.0", [{"license": {"id": "Apache-2.0"}}]),
        ("MIT OR Apache-2.0", [{"expression": "MIT OR Apache-2.0"}]),
        ("llama3.1 community", [{"license": {"name": "llama3.1 community"}}]),
    ],
)
def test_a_licence_is_spdxs_where_it_is_one(written: str, licences: Any) -> None:
    assert bom.component(an_asset(license_type=written))["licenses"] == licences


@pytest.mark.parametrize("spec_version", bom.SPEC_VERSIONS)
def test_the_document_is_valid_and_holds_no_dangling_reference(spec_version: str) -> None:
    data = an_asset(asset_type=AssetType.TRAINING_DATASET, owner_email="data@example.org", source_url="s3://b/d e")
    base = an_asset(model_name="acme/base", model_provider="huggingface")
    unknown = an_asset()
    model = an_asset(asset_type=AssetType.FINE_TUNED_MODEL)
    facts = {
        model.asset_id: {
            "task": "text-generation",
            "architecture_family": "transformer",
            "approach": "supervised",
            "inputs": ["text"],
            "datasets": [{"name": "outside", "url": "https://example.org/a b"}],
            "metrics": [{"type": "accuracy", "value": "0.9"}],
            "ethical_considerations": [{"name": "bias", "mitigation": "a filter"}],
            "languages": ["en", "de"],
        }
    }
    edges = [edge(model, data), edge(model, base), edge(model, unknown), edge(base, data)]
    document = bom.generate(model, [data, base], edges, facts, at=NOW, spec_version=spec_version)
    bom.check(document)
    assert library_finds(document) is None
    root = document["metadata"]["component"]
    assert root["bom-ref"] == str(model.asset_id)
    assert root["modelCard"]["modelParameters"]["datasets"][0] == {"ref": str(data.asset_id)}
    assert [one["name"] for one in root["pedigree"]["ancestors"]] == ["acme/base"]
    assert root["modelCard"]["modelParameters"]["task"] == "text-generation"
    described = document["components"][0]
    assert described["type"] == "data"
    assert described["data"][0]["classification"] == "internal"
    assert described["data"][0]["governance"]["owners"][0]["organization"]["name"] == "search"
    depends = {item["ref"]: item["dependsOn"] for item in document["dependencies"]}
    assert depends == {
        str(model.asset_id): sorted([str(data.asset_id), str(base.asset_id)]),
        str(base.asset_id): [str(data.asset_id)],
        str(data.asset_id): [],
    }


def test_typed_edges_make_dependencies_the_way_round_that_they_mean() -> None:
    model, vectors = an_asset(), an_asset(asset_type=AssetType.VECTOR_DATABASE)
    endpoint, agent = an_asset(asset_type=AssetType.API_ENDPOINT), an_asset(asset_type=AssetType.AI_AGENT)
    edges = [
        edge(model, vectors, Relation.EMBEDS_INTO),
        edge(model, endpoint, Relation.SERVED_BY),
        edge(agent, vectors, Relation.RETRIEVES_FROM),
        edge(agent, endpoint, Relation.USES_MODEL),
    ]
    document = bom.generate(agent, [model, vectors, endpoint], edges, {}, at=NOW)
    bom.check(document)
    depends = {item["ref"]: item["dependsOn"] for item in document["dependencies"]}
    assert depends[str(vectors.asset_id)] == depends[str(endpoint.asset_id)] == [str(model.asset_id)]
    assert depends[str(agent.asset_id)] == sorted([str(vectors.asset_id), str(endpoint.asset_id)])
    reading = bom.read(document)
    names = {item.asset_id: item for item in (model, vectors, endpoint, agent)}
    typed = {(names[UUID(a)].asset_type, r, names[UUID(b)].asset_type) for a, r, b in reading.edges}
    assert (AssetType.AI_AGENT, Relation.RETRIEVES_FROM, AssetType.VECTOR_DATABASE) in typed


def test_evidence_says_where_each_attribute_stands() -> None:
    asset = an_asset(
        model_name="m",
        sources=(
            AttributeSource("model_name", SourceKind.INFERRED, "arn:aws:bedrock:::model/m"),
            AttributeSource("owner_team", SourceKind.UNRESOLVED, ""),
        ),
    )
    evidence = bom.component(asset)["evidence"]
    assert evidence["occurrences"] == [
        {"location": "arn:aws:bedrock:::model/m", "symbol": "model_name", "additionalContext": "inferred"}
    ]
    assert evidence["identity"][0]["field"] == "name"
    assert evidence["identity"][0]["confidence"] == 0.5


def test_the_same_version_is_the_same_document() -> None:
    asset = an_asset()
    numbers = {bom.generate(asset, [], [], {}, at=NOW)["serialNumber"] for _ in range(2)}
    assert len(numbers) == 1


# -- reading -----------------------------------------------------------------------------------------------------------

OTHERS: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "metadata": {"component": {"type": "application", "bom-ref": "app", "name": "support desk"}},
    "components": [
        {"type": "library", "bom-ref": "lib", "name": "torch", "hashes": [{"alg": "SHA-256", "content": "AB" * 32}]},
        {
            "type": "machine-learning-model",
            "bom-ref": "model",
            "name": "triage",
            "group": "acme",
            "hashes": [{"alg": "SHA-512", "content": "cd" * 64}],
            "licenses": [{"license": {"id": "MIT"}}],
            "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": "Llama-3", "version": "8b"}]},
            "modelCard": {
                "modelParameters": {"task": "text-classification", "datasets": [{"ref": "data"}]},
                "considerations": {"technicalLimitations": ["English only"]},
            },
        },
        {
            "type": "data",
            "bom-ref": "data",
            "name": "tickets",
            "data": [{"type": "dataset", "classification": "public"}],
        },
        {"type": "library", "name": "stray", "hashes": [{"alg": "SHA-256", "content": "ef" * 32}]},
    ],
    "dependencies": [{"ref": "app", "dependsOn": ["lib"]}, {"ref": "lib", "dependsOn": ["model"]}],
}


def test_others_models_and_data_are_assets_with_what_they_depend_on() -> None:
    bom.check(OTHERS)
    reading = bom.read(OTHERS)
    assert reading.root is None
    ancestor = "/components/1/pedigree/ancestors/0"
    assert {key: part.asset_type.value for key, part in reading.parts.items()} == {
        "model": "fine_tuned_model",
        "data": "training_dataset",
        ancestor: "foundation_model",
    }
    assert set(reading.edges) == {
        ("model", Relation.TRAINED_ON, "data"),
        ("model", Relation.FINE_TUNED_FROM, ancestor),
    }
    assert reading.parts["model"].declared["model_name"] == "acme/triage"
    assert reading.parts["model"].declared["integrity"][0]["digest"] == "cd" * 64
    assert reading.parts["model"].facts == {
        "task": "text-classification",
        "technical_limitations": ["English only"],
    }
    assert reading.parts["data"].declared["data_classification"] == "public"
    # The library needs the model, not the other way: with no asset above it, nobody's alert would come of its hash.
    assert reading.unattributed == 2


def test_what_lies_between_assets_belongs_to_the_one_above() -> None:
    document = copy.deepcopy(OTHERS)
    document["metadata"]["component"]["properties"] = [{"name": "colonnade:asset_type", "value": "ai_agent"}]
    reading = bom.read(document)
    assert reading.root == "app"
    assert ("app", Relation.DEPENDS_ON, "model") in reading.edges
    assert {place for _, _, place in reading.digests["app"]} == {"torch", "stray"}


def test_circles_and_references_to_nothing_end() -> None:
    document = copy.deepcopy(OTHERS)
    document["dependencies"] += [{"ref": "model", "dependsOn": ["lib", "nothing"]}, {"ref": "nowhere"}]
    assert bom.read(document).unattributed == 1


def test_what_would_take_for_ever_to_follow_is_refused() -> None:
    models = [{"type": "machine-learning-model", "bom-ref": f"m{one}", "name": f"m{one}"} for one in range(2_000)]
    libraries = [{"type": "library", "bom-ref": f"l{one}", "name": f"l{one}"} for one in range(2_000)]
    chain = [{"ref": f"l{one}", "dependsOn": [f"l{one + 1}"]} for one in range(1_999)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": models + libraries,
        "dependencies": chain + [{"ref": f"m{one}", "dependsOn": ["l0"]} for one in range(2_000)],
    }
    bom.check(document)
    with pytest.raises(bom.NotABom, match="entangled"):
        bom.read(document)
    unnamed = [{"type": "library", "name": "l"}]
    with pytest.raises(bom.NotABom, match="22000 components"):
        bom.read({**document, "components": unnamed * 22_000, "dependencies": []})
    with pytest.raises(bom.NotABom, match="two components have the bom-ref 'm0'"):
        bom.read({**document, "components": [models[0], models[0]]})


def test_a_difference_names_components_and_fields_whatever_their_references() -> None:
    before = copy.deepcopy(OTHERS)
    after = copy.deepcopy(OTHERS)
    after["components"][0] |= {"version": "2.9", "bom-ref": "another"}
    after["dependencies"] = [{"ref": "app", "dependsOn": ["another"]}, {"ref": "another", "dependsOn": ["model"]}]
    del after["components"][3]
    after["components"].append({"type": "library", "name": "numpy"})
    found = bom.difference(bom.parts_of(before), bom.parts_of(after))
    assert [one.name for one in found.added] == ["numpy"]
    assert [one.name for one in found.removed] == ["stray"]
    assert [(one.name, one.fields) for one in found.changed] == [("torch", ("version",))]
    assert not bom.difference(bom.parts_of(before), bom.parts_of(copy.deepcopy(OTHERS)))


# -- completeness ------------------------------------------------------------------------------------------------------


def test_what_is_missing_adds_up_to_what_is_lacking() -> None:
    document = bom.generate(an_asset(owner_team=""), [], [], {}, at=NOW)
    found = completeness(document)
    assert 99 < found.score + sum(one.gain for one in found.missing) < 102
    assert found.missing[0].gain == max(one.gain for one in found.missing)
    assert {one.name for one in found.missing} >= {"authors", "licenses", "hashes", "task", "datasets"}


def test_each_field_that_is_added_brings_what_was_said() -> None:
    before = completeness(bom.generate(an_asset(), [], [], {}, at=NOW))
    gain = next(one.gain for one in before.missing if one.name == "licenses")
    after = completeness(bom.generate(an_asset(license_type="MIT"), [], [], {}, at=NOW))
    assert abs(after.score - before.score - gain) <= 1
    assert "licenses" not in {one.name for one in after.missing}


def test_a_whole_bill_is_a_hundred_and_other_kinds_are_judged_by_what_they_have() -> None:
    asset = an_asset(
        model_name="acme/m",
        model_provider="huggingface",
        model_version="ab" * 20,
        license_type="MIT",
        description="d",
        purpose="p",
        parameter_count="7B",
        source_url="https://huggingface.co/acme/m",
        integrity=(Digest("m", "sha256", "00" * 32),),
        sources=(AttributeSource("model_name", SourceKind.DECLARED, "config.json"),),
    )
    facts = {
        "task": "t",
        "architecture_family": "f",
        "model_architecture": "a",
        "datasets": [{"name": "d"}],
        "inputs": ["text"],
        "outputs": ["text"],
        "users": ["u"],
        "technical_limitations": ["l"],
        "ethical_considerations": [{"name": "e"}],
        "metrics": [{"type": "accuracy", "value": "1"}],
    }
    found = completeness(bom.generate(asset, [], [], {asset.asset_id: facts}, at=NOW))
    assert (found.score, found.missing) == (100, ())
    agent = completeness(bom.generate(an_asset(asset_type=AssetType.AI_AGENT), [], [], {}, at=NOW))
    assert set(agent.groups) == {"component", "metadata", "references", "required"}


def test_facts_survive_their_way_through_a_model_card() -> None:
    facts = {
        "task": "text-generation",
        "languages": ["en"],
        "hyperparameters": {"lr": "1e-4"},
        "base_models": ["x"],
        "energy": "12 MWh",
        "datasets": [{"name": "d", "url": "https://example.org/d", "classification": "public"}],
        "metrics": [{"type": "f1", "value": "0.8", "slice": "en"}],
        "users": ["analysts"],
    }
    card = bom.component(an_asset(), facts)["modelCard"]
    assert facts_of(card) == facts


def test_sources_words_are_understood_and_nonsense_is_passed_over() -> None:
    told = {
        "architecture": "BertModel",
        "language": "en",
        "limitations": "short texts",
        "out_of_scope": "law",
        "metrics": [{"type": "f1", "value": 0.9, "task": "t", "dataset": "glue"}, {"type": "none"}],
        "datasets": ["a", {"name": "b", "url": "https://example.org"}],
        "approach": "witchcraft",
        "colour": "red",
        "task": "",
        "users": {"a": 1},
    }
    assert read_facts(told) == {
        "model_architecture": "BertModel",
        "languages": ["en"],
        "technical_limitations": ["short texts", "law"],
        "metrics": [{"type": "f1", "value": "0.9", "slice": "glue"}],
        "datasets": [{"name": "a"}, {"name": "b", "url": "https://example.org"}],
    }
