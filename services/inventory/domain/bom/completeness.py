"""How complete a bill of materials is, and what would make it more so.

The fields and the weight of their groups follow the OWASP AIBOM generator (required 20, metadata 20, component 20,
model card 30, references 10); within a group they are shared out by us. Fields that the minimum elements of NTIA (2021)
or CISA (2025) ask of every bill are marked, and weigh double within their group. A component that is no model has no
model card: data is judged by its description instead, anything else by the other groups alone, scaled to 100.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
Has = Callable[[Document, Mapping[str, Any]], object]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a bill should have.

    Attributes:
        minimum: CISA's or NTIA's minimum elements ask for it.
        how: what to do to have it.
    """

    name: str
    group: str
    has: Has
    how: str
    minimum: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """A field that is missing, and the points that it would bring."""

    name: str
    group: str
    gain: float
    minimum: bool
    how: str


@dataclass(frozen=True, slots=True)
class Completeness:
    """Score from 0 to 100, the same by group, and what is missing, the most rewarding first."""

    score: int
    groups: Mapping[str, int]
    missing: tuple[Missing, ...]


WEIGHTS: Mapping[str, int] = {
    "required": 20,
    "metadata": 20,
    "component": 20,
    "model_card": 30,
    "data": 30,
    "references": 10,
}


def _metadata(document: Document) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document.get("metadata", {})
    return found


def _card(entry: Mapping[str, Any], *path: str) -> Any:
    found: Any = entry.get("modelCard", {})
    for name in path:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found


def _data(entry: Mapping[str, Any], name: str) -> bool:
    return any(one.get(name) for one in entry.get("data", ()))


def _named(entry: Mapping[str, Any], name: str) -> bool:
    return any(one.get("name", "").endswith(name) and one.get("value") for one in entry.get("properties", ()))


def _hashed(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("hashes")) or any(one.get("hashes") for one in entry.get("components", ()))


def _depends(document: Document, entry: Mapping[str, Any]) -> bool:
    ref = entry.get("bom-ref")
    return any(one.get("ref") == ref for one in document.get("dependencies", ()))


FIELDS: tuple[Field, ...] = (
    Field("bomFormat", "required", lambda doc, _: doc.get("bomFormat"), "write CycloneDX"),
    Field("specVersion", "required", lambda doc, _: doc.get("specVersion"), "name the version of CycloneDX"),
    Field(
        "serialNumber", "required", lambda doc, _: doc.get("serialNumber"), "give the document a urn:uuid of its own"
    ),
    Field("version", "required", lambda doc, _: doc.get("version"), "count the document's versions"),
    Field("timestamp", "metadata", lambda doc, _: _metadata(doc).get("timestamp"), "say when it was written", True),
    Field(
        "authors",
        "metadata",
        lambda doc, _: any(_metadata(doc).get(name) for name in ("authors", "manufacturer", "manufacture", "supplier")),
        "say who wrote it: of ours that is the asset's owner_team",
        True,
    ),
    Field("tools", "metadata", lambda doc, _: _metadata(doc).get("tools"), "name the tool that wrote it", True),
    Field(
        "lifecycles",
        "metadata",
        lambda doc, _: _metadata(doc).get("lifecycles"),
        "say at which stage of its life the thing was looked at",
        True,
    ),
    Field("name", "component", lambda _, one: one.get("name"), "name the component", True),
    Field("version", "component", lambda _, one: one.get("version"), "set model_version", True),
    Field(
        "supplier",
        "component",
        lambda _, one: one.get("supplier") or one.get("manufacturer") or one.get("publisher"),
        "set model_provider",
        True,
    ),
    Field(
        "identifier",
        "component",
        lambda _, one: one.get("purl") or one.get("cpe") or one.get("swid") or one.get("omniborId"),
        "give it a package URL: a Hugging Face model has one when its provider is huggingface",
        True,
    ),
    Field("hashes", "component", lambda _, one: _hashed(one), "record the digests of its files in integrity", True),
    Field("licenses", "component", lambda _, one: one.get("licenses"), "set license_type", True),
    Field("dependencies", "component", _depends, "say what it depends on, or that it is nothing", True),
    Field("description", "component", lambda _, one: one.get("description"), "describe it"),
    Field("evidence", "component", lambda _, one: one.get("evidence"), "let discovery find it, or name sources"),
    Field(
        "task", "model_card", lambda _, one: _card(one, "modelParameters", "task"), "name its task in the card", True
    ),
    Field(
        "architectureFamily",
        "model_card",
        lambda _, one: _card(one, "modelParameters", "architectureFamily"),
        "name the family of its architecture in the card",
    ),
    Field(
        "modelArchitecture",
        "model_card",
        lambda _, one: _card(one, "modelParameters", "modelArchitecture"),
        "name its architecture in the card",
    ),
    Field(
        "datasets",
        "model_card",
        lambda _, one: _card(one, "modelParameters", "datasets"),
        "register its training data as an asset that it depends on, or name it in the card",
        True,
    ),
    Field("inputs", "model_card", lambda _, one: _card(one, "modelParameters", "inputs"), "say what it takes"),
    Field("outputs", "model_card", lambda _, one: _card(one, "modelParameters", "outputs"), "say what it gives"),
    Field("useCases", "model_card", lambda _, one: _card(one, "considerations", "useCases"), "say what it is for"),
    Field("users", "model_card", lambda _, one: _card(one, "considerations", "users"), "say who uses it"),
    Field(
        "technicalLimitations",
        "model_card",
        lambda _, one: _card(one, "considerations", "technicalLimitations"),
        "say what it cannot do",
        True,
    ),
    Field(
        "ethicalConsiderations",
        "model_card",
        lambda _, one: _card(one, "considerations", "ethicalConsiderations"),
        "say whom it could harm and what is done against that",
    ),
    Field(
        "performanceMetrics",
        "model_card",
        lambda _, one: _card(one, "quantitativeAnalysis", "performanceMetrics"),
        "write down how well it does",
    ),
    Field("parameterCount", "model_card", lambda _, one: _named(one, "parameter_count"), "set parameter_count"),
    Field("dataType", "data", lambda _, one: _data(one, "type"), "say what kind of data it is"),
    Field("classification", "data", lambda _, one: _data(one, "classification"), "classify it", True),
    Field("governance", "data", lambda _, one: _data(one, "governance"), "set owner_team", True),
    Field("contents", "data", lambda _, one: _data(one, "contents"), "set source_url to where it lies"),
    Field(
        "externalReferences",
        "references",
        lambda _, one: one.get("externalReferences"),
        "set source_url to where it comes from",
    ),
    Field(
        "distribution",
        "references",
        lambda _, one: any(ref.get("type") == "distribution" for ref in one.get("externalReferences", ())),
        "set source_url to where it is got from",
    ),
)


def completeness(document: Document) -> Completeness:
    """Judge a valid document by the component that it is of; of a document of none, by its first."""
    entry: Mapping[str, Any] = _metadata(document).get("component") or next(iter(document.get("components", ())), {})
    kind = {"machine-learning-model": "model_card", "data": "data"}.get(entry.get("type", ""))
    fields = [one for one in FIELDS if one.group not in ("model_card", "data") or one.group == kind]
    groups = {one.group for one in fields}
    scale = 100 / sum(WEIGHTS[group] for group in groups)
    shares = {group: sum(1 + one.minimum for one in fields if one.group == group) for group in groups}
    earned = dict.fromkeys(groups, 0.0)
    missing: list[Missing] = []
    for one in fields:
        points = scale * WEIGHTS[one.group] * (1 + one.minimum) / shares[one.group]
        if one.has(document, entry):
            earned[one.group] += points
        else:
            missing.append(Missing(one.name, one.group, round(points, 1), one.minimum, one.how))
    return Completeness(
        # Rounded down: 100 is a bill that lacks nothing.
        score=int(sum(earned.values()) + 1e-6),
        groups={group: int(100 * earned[group] / (scale * WEIGHTS[group]) + 1e-6) for group in sorted(groups)},
        missing=tuple(sorted(missing, key=lambda one: (-one.gain, one.group, one.name))),
    )
