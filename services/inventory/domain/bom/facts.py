"""What a model card needs beyond an asset's attributes: the facts, and their place in CycloneDX's `modelCard`.

Facts come from people, who write them down, and from sources, which discovery and imports read: what a person said of a
field stands, whatever sources say of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from services.inventory.domain.address import address
from shared.models import In

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
Words = Annotated[list[Word], Field(max_length=200)]
Sentences = Annotated[list[Sentence], Field(max_length=100)]


class Approach(StrEnum):
    """How a model learned, in the words of CycloneDX."""

    SUPERVISED = "supervised"
    UNSUPERVISED = "unsupervised"
    REINFORCEMENT_LEARNING = "reinforcement-learning"
    SEMI_SUPERVISED = "semi-supervised"
    SELF_SUPERVISED = "self-supervised"


class DatasetFact(In):
    """Data that a model was trained or tested on and that is no asset of its own here."""

    name: Word
    url: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_048)] | None = None
    classification: Word | None = None


class MetricFact(In):
    """A figure that was measured of a model, e.g. accuracy on a slice of a test set."""

    type: Word
    value: Word
    slice: Word | None = None


class EthicalFact(In):
    """A risk to people, and what is done against it."""

    name: Sentence
    mitigation: Sentence | None = None


class ModelFacts(In):
    """What is known of a model for its card; every field may be left out."""

    task: Word | None = Field(default=None, description="E.g. text-generation, feature-extraction.")
    architecture_family: Word | None = Field(default=None, description="E.g. transformer.")
    model_architecture: Word | None = Field(default=None, description="E.g. LlamaForCausalLM.")
    approach: Approach | None = None
    inputs: Words | None = Field(default=None, description="Formats taken, e.g. text, image.")
    outputs: Words | None = Field(default=None, description="Formats given.")
    languages: Words | None = Field(default=None, description="BCP 47 where known.")
    datasets: Annotated[list[DatasetFact], Field(max_length=200)] | None = None
    metrics: Annotated[list[MetricFact], Field(max_length=200)] | None = None
    users: Sentences | None = None
    use_cases: Sentences | None = None
    technical_limitations: Sentences | None = None
    performance_tradeoffs: Sentences | None = None
    ethical_considerations: Annotated[list[EthicalFact], Field(max_length=100)] | None = None
    hyperparameters: Annotated[dict[Word, Word], Field(max_length=200)] | None = None
    base_models: Words | None = Field(default=None, description="Ancestors that are no assets here, by name.")
    energy: Sentence | None = Field(default=None, description="What training took, e.g. 12 MWh.")


FIELDS: tuple[str, ...] = tuple(ModelFacts.model_fields)

_ALSO_CALLED = {
    "architecture": "model_architecture",
    "model_type": "architecture_family",
    "limitations": "technical_limitations",
    "out_of_scope": "technical_limitations",
    "language": "languages",
    "training_data": "datasets",
    "intended_use": "use_cases",
    "base_model": "base_models",
}
_LISTS = frozenset(
    {
        *("inputs", "outputs", "languages", "datasets", "metrics", "users", "use_cases", "technical_limitations"),
        *("performance_tradeoffs", "ethical_considerations", "base_models"),
    }
)
_NAMED = {"datasets": "name", "ethical_considerations": "name"}
_SENTENCE_LIMIT = 4_000


def read_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """What of a source's words is a fact that a card has a place for; what is unknown or unusable is left out.

    Takes other names that sources use, and one thing where a list belongs.
    """
    gathered: dict[str, Any] = {}
    for name, value in told.items():
        field = _ALSO_CALLED.get(name, name)
        if field not in FIELDS or value in (None, "", [], {}, ()):
            continue
        if field in _LISTS:
            gathered.setdefault(field, []).extend(_listed(field, value))
        else:
            gathered.setdefault(field, value)
    facts: dict[str, Any] = {}
    for field, value in gathered.items():
        try:
            read = ModelFacts.model_validate({field: value})
        except ValidationError:
            continue
        facts[field] = read.model_dump(mode="json", exclude_none=True)[field]
    return facts


def _listed(field: str, value: Any) -> list[Any]:
    if field == "metrics" and isinstance(value, Mapping):
        value = [{"type": kind, "value": figure} for kind, figure in value.items()]
    items = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    if field == "metrics":
        return [_metric(item) for item in items if isinstance(item, Mapping) and item.get("value") is not None]
    items = [item[:_SENTENCE_LIMIT] if isinstance(item, str) else item for item in items]
    return [{_NAMED[field]: item} if field in _NAMED and isinstance(item, str) else item for item in items]


def _metric(told: Mapping[str, Any]) -> dict[str, Any]:
    """A metric as sources write it: the data it was measured on is its slice."""
    part = told.get("slice") or told.get("dataset") or told.get("task")
    return _some(type=str(told.get("type", ""))[:200], value=str(told["value"])[:200], slice=part and str(part)[:200])


def merged(declared: Mapping[str, Any], inferred: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that hold: a person's word where there is one."""
    return {name: value for name in FIELDS if (value := declared.get(name, inferred.get(name))) is not None}


# -- CycloneDX ---------------------------------------------------------------------------------------------------------

_HYPERPARAMETER = "colonnade:hyperparameter:"
_LANGUAGE = "colonnade:language"
_ENERGY = "colonnade:energy"
_BASE = "colonnade:base_model"
# What an IRI reference may not hold unescaped (RFC 3987); the schema checks the format.
_NO_IRI = re.compile(r"[\s<>\"{}|\\^`]|%(?![0-9A-Fa-f]{2})")


def iri(text: str) -> str:
    """The text with what an IRI reference cannot hold percent-encoded."""
    return _NO_IRI.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def model_card(facts: Mapping[str, Any], trained_on: list[str]) -> dict[str, Any]:
    """The facts as a modelCard.

    Args:
        trained_on: bom-refs of the components of the same document that the model was trained on.
    """
    parameters = {
        "approach": facts.get("approach") and {"type": facts["approach"]},
        "task": facts.get("task"),
        "architectureFamily": facts.get("architecture_family"),
        "modelArchitecture": facts.get("model_architecture"),
        "datasets": [{"ref": ref} for ref in trained_on] + [_dataset(one) for one in facts.get("datasets", ())],
        "inputs": [{"format": one} for one in facts.get("inputs", ())],
        "outputs": [{"format": one} for one in facts.get("outputs", ())],
    }
    considerations = {
        "users": facts.get("users"),
        "useCases": facts.get("use_cases"),
        "technicalLimitations": facts.get("technical_limitations"),
        "performanceTradeoffs": facts.get("performance_tradeoffs"),
        "ethicalConsiderations": [
            _some(name=one["name"], mitigationStrategy=one.get("mitigation"))
            for one in facts.get("ethical_considerations", ())
        ],
    }
    properties = [{"name": _LANGUAGE, "value": one} for one in facts.get("languages", ())]
    properties += [
        {"name": _HYPERPARAMETER + name, "value": value} for name, value in facts.get("hyperparameters", {}).items()
    ]
    properties += [{"name": _BASE, "value": one} for one in facts.get("base_models", ())]
    if "energy" in facts:
        properties.append({"name": _ENERGY, "value": facts["energy"]})
    return _some(
        modelParameters=_some(**parameters),
        quantitativeAnalysis=_some(performanceMetrics=[_some(**one) for one in facts.get("metrics", ())]),
        considerations=_some(**considerations),
        properties=properties,
    )


def _dataset(fact: Mapping[str, Any]) -> dict[str, Any]:
    return _some(
        type="dataset",
        name=fact["name"],
        contents=_some(url=fact.get("url") and iri(fact["url"])),
        classification=fact.get("classification"),
    )


def _some(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def facts_of(card: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in a modelCard that is valid by the schema; what we have no place for is left out."""
    parameters = card.get("modelParameters", {})
    considerations = card.get("considerations", {})
    properties = [(one.get("name", ""), one.get("value", "")) for one in card.get("properties", ())]
    told: dict[str, Any] = {
        "task": parameters.get("task"),
        "architecture_family": parameters.get("architectureFamily"),
        "model_architecture": parameters.get("modelArchitecture"),
        "approach": parameters.get("approach", {}).get("type"),
        "inputs": [one["format"] for one in parameters.get("inputs", ()) if one.get("format")],
        "outputs": [one["format"] for one in parameters.get("outputs", ()) if one.get("format")],
        "languages": [value for name, value in properties if name == _LANGUAGE],
        "datasets": [_dataset_fact(one) for one in parameters.get("datasets", ()) if one.get("name")],
        "metrics": [
            _some(type=one["type"], value=str(one["value"]), slice=one.get("slice"))
            for one in card.get("quantitativeAnalysis", {}).get("performanceMetrics", ())
            if one.get("type") and one.get("value")
        ],
        "users": considerations.get("users"),
        "use_cases": considerations.get("useCases"),
        "technical_limitations": considerations.get("technicalLimitations"),
        "performance_tradeoffs": considerations.get("performanceTradeoffs"),
        "ethical_considerations": [
            _some(name=one["name"], mitigation=one.get("mitigationStrategy"))
            for one in considerations.get("ethicalConsiderations", ())
            if one.get("name")
        ],
        "hyperparameters": {
            name.removeprefix(_HYPERPARAMETER): value for name, value in properties if name.startswith(_HYPERPARAMETER)
        },
        "base_models": [value for name, value in properties if name == _BASE],
        "energy": next((value for name, value in properties if name == _ENERGY), None),
    }
    return read_facts(told)


def _dataset_fact(entry: Mapping[str, Any]) -> dict[str, Any]:
    url = entry.get("contents", {}).get("url")
    try:
        url = url and address(url)
    except ValueError:
        url = None
    return _some(name=entry["name"], url=url, classification=entry.get("classification"))
