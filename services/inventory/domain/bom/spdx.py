"""The same bill of materials as SPDX 3.0.1 JSON-LD with the AI and Dataset profiles.

Written by hand, since what it needs is small; the tests read it with SPDX's own generated model, which refuses unknown
properties and wrong values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from services.inventory.domain.artifacts import MODEL_TYPES
from services.inventory.domain.asset import Asset
from services.inventory.domain.bom.components import DATASETS, Edge, Peer, meant, needs, purl_of
from services.inventory.domain.bom.facts import iri
from services.inventory.domain.bom.licences import licence
from shared.contracts.inventory import DataClassification, Relation

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
MEDIA_TYPE = "application/spdx+json"
_CREATION = "_:creation"
_CONFIDENTIALITY: Mapping[DataClassification, str] = {
    DataClassification.PUBLIC: "clear",
    DataClassification.INTERNAL: "green",
    DataClassification.CONFIDENTIAL: "amber",
    DataClassification.RESTRICTED: "red",
    DataClassification.REGULATED: "red",
}
"""SPDX's levels are those of the traffic light protocol."""
_RELATIONS: Mapping[Relation, str] = {Relation.TRAINED_ON: "trainedOn", Relation.FINE_TUNED_FROM: "descendantOf"}


def generate(
    asset: Asset,
    upstream: Sequence[Asset],
    edges: Iterable[Edge],
    facts: Mapping[UUID, Mapping[str, Any]],
    *,
    at: datetime,
) -> dict[str, Any]:
    """A document of `asset` with everything that it depends on; arguments as of document.generate."""
    parts = {item.asset_id: item for item in (asset, *upstream)}
    document = f"urn:uuid:{uuid5(NAMESPACE_URL, f'colonnade:spdx:{asset.asset_id}:{asset.version}')}"
    graph = _Graph(document)
    for item in parts.values():
        graph.add(_package(item, facts.get(item.asset_id, {}), graph))
    for edge in sorted({one for one in edges if one[0] in parts and one[2] in parts}):
        graph.relate(*_related(edge, parts))
    ids = sorted(one["spdxId"] for one in graph.elements)
    used = {one["type"] for one in graph.elements}
    profiles = ["core", "software", "simpleLicensing"]
    profiles += ["ai"] if "ai_AIPackage" in used else []
    profiles += ["dataset"] if "dataset_DatasetPackage" in used else []
    creation = {
        "type": "CreationInfo",
        "@id": _CREATION,
        "specVersion": "3.0.1",
        "created": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "createdBy": [graph.agent("SoftwareAgent", "Colonnade inventory")],
    }
    root = {
        "type": "SpdxDocument",
        "spdxId": document,
        "creationInfo": _CREATION,
        "name": asset.name,
        "rootElement": [_id(asset.asset_id)],
        "element": ids,
        "profileConformance": profiles,
    }
    return {"@context": CONTEXT, "@graph": [creation, root, *graph.elements]}


def _id(asset_id: UUID) -> str:
    return f"urn:uuid:{asset_id}"


class _Graph:
    """The elements of a document, each once."""

    def __init__(self, document: str) -> None:
        self._document = document
        self._elements: dict[str, dict[str, Any]] = {}
        self.agent("SoftwareAgent", "Colonnade inventory")

    @property
    def elements(self) -> list[dict[str, Any]]:
        return list(self._elements.values())

    def add(self, element: dict[str, Any]) -> str:
        key: str = element["spdxId"]
        self._elements[key] = {"creationInfo": _CREATION, **element}
        return key

    def _named(self, kind: str, text: str) -> str:
        return f"{self._document}#{kind}-{uuid5(NAMESPACE_URL, text)}"

    def agent(self, kind: str, name: str) -> str:
        return self.add({"type": kind, "spdxId": self._named(kind, name), "name": name})

    def relate(self, subject: str, relation: str, target: str) -> None:
        key = self._named("Relationship", f"{subject} {relation} {target}")
        self.add({"type": "Relationship", "spdxId": key, "from": subject, "relationshipType": relation, "to": [target]})

    def declare_licence(self, subject: str, text: str) -> None:
        kind, value = licence(text)
        expression = value if kind != "name" else "LicenseRef-" + (re.sub(r"[^A-Za-z0-9.-]+", "-", value) or "unnamed")
        key = self.add(
            {
                "type": "simplelicensing_LicenseExpression",
                "spdxId": self._named("License", expression),
                "simplelicensing_licenseExpression": expression,
            }
        )
        self.relate(subject, "hasDeclaredLicense", key)


def _related(edge: Edge, parts: Mapping[UUID, Asset]) -> tuple[str, str, str]:
    subject, relation, target = edge
    relation = meant(parts[subject].asset_type, relation, parts[target].asset_type)
    if relation in _RELATIONS:
        return _id(subject), _RELATIONS[relation], _id(target)
    dependent, needed = needs(edge)
    return _id(dependent), "dependsOn", _id(needed)


def _package(asset: Asset, facts: Mapping[str, Any], graph: _Graph) -> dict[str, Any]:
    key = _id(asset.asset_id)
    if asset.license_type:
        graph.declare_licence(key, asset.license_type)
    peer = Peer.of(asset)
    package: dict[str, Any] = {
        "type": "software_Package",
        "spdxId": key,
        "name": asset.model_name or asset.name,
        "description": asset.description,
        "suppliedBy": graph.agent("Organization", asset.model_provider) if asset.model_provider else None,
        "software_packageVersion": asset.model_version,
        "software_packageUrl": purl_of(peer.model_provider, peer.model_name, peer.model_version),
        "software_downloadLocation": iri(asset.source_url) if asset.source_url and ":" in asset.source_url else None,
        "software_primaryPurpose": "application",
        "verifiedUsing": [
            {"type": "Hash", "algorithm": one.algorithm, "hashValue": one.digest, "comment": one.path}
            for one in asset.integrity
        ],
    }
    if asset.asset_type in MODEL_TYPES:
        package |= _model(asset, facts)
    elif asset.asset_type in DATASETS:
        package |= {
            "type": "dataset_DatasetPackage",
            "software_primaryPurpose": "data",
            "dataset_datasetType": ["noAssertion"],
            "dataset_confidentialityLevel": _CONFIDENTIALITY[asset.data_classification],
            "dataset_intendedUse": asset.purpose,
        }
    return {name: value for name, value in package.items() if value not in (None, "", [], {})}


def _model(asset: Asset, facts: Mapping[str, Any]) -> dict[str, Any]:
    def entries(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
        return [{"type": "DictionaryEntry", "key": name, "value": value} for name, value in pairs]

    return {
        "type": "ai_AIPackage",
        "software_primaryPurpose": "model",
        "ai_domain": [facts["task"]] if "task" in facts else [],
        "ai_typeOfModel": [facts[name] for name in ("architecture_family", "model_architecture") if name in facts],
        "ai_limitation": "\n".join(facts.get("technical_limitations", ())),
        "ai_informationAboutApplication": "\n".join(facts.get("use_cases", ())) or asset.purpose,
        "ai_informationAboutTraining": ", ".join(one["name"] for one in facts.get("datasets", ())),
        "ai_hyperparameter": entries(facts.get("hyperparameters", {}).items()),
        "ai_metric": entries((one["type"], one["value"]) for one in facts.get("metrics", ())),
    }
