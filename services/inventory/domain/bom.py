"""Bills of materials: what an asset is made of, as CycloneDX 1.7 JSON.

A document that somebody supplied is kept as it is and only checked for being one. Where none was supplied we write one
from what the inventory knows: the asset, what it depends on, and the edges between them. Plain dictionaries rather than
a library, because cyclonedx-python-lib has no class for model cards or component data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from services.inventory.domain.asset import Asset
from shared.contracts.inventory import AssetType
from shared.errors import Invalid

SPEC_VERSION = "1.7"
_KNOWN_VERSIONS = re.compile(r"1\.[0-7]")

_MODELS = frozenset({AssetType.FOUNDATION_MODEL, AssetType.FINE_TUNED_MODEL, AssetType.EMBEDDING_MODEL})
_DATA = frozenset(
    {
        AssetType.TRAINING_DATASET,
        AssetType.EVALUATION_DATASET,
        AssetType.PROMPT_TEMPLATE,
        AssetType.GUARDRAIL_CONFIG,
        AssetType.API_CREDENTIAL,
    }
)
_HASHES = {
    "sha256": "SHA-256",
    "sha384": "SHA-384",
    "sha512": "SHA-512",
    "sha1": "SHA-1",
    "md5": "MD5",
}


_PART = {
    "type": "object",
    "required": ["type", "name"],
    "properties": {"type": {"type": "string"}, "name": {"type": "string"}},
}
OUTER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "properties": {
        "bomFormat": {"const": "CycloneDX"},
        "specVersion": {"enum": [f"1.{minor}" for minor in range(8)]},
        "metadata": {"type": "object"},
        "components": {"type": "array", "items": _PART},
        "services": {"type": "array", "items": {"type": "object"}},
        "dependencies": {"type": "array", "items": {"type": "object"}},
        "vulnerabilities": {"type": "array", "items": {"type": "object"}},
    },
}
"""What `check` asks for, as JSON Schema for the API's description."""


class NotABom(Invalid):
    """This is not a CycloneDX document."""


def check(document: Any) -> None:
    """Accept a CycloneDX JSON document of versions 1.0 to 1.7 by its outer form.

    Raises:
        NotABom: what is missing or of the wrong kind, by JSON Pointer.
    """
    if not isinstance(document, dict):
        raise NotABom("a bill of materials is a JSON object", field="")
    if document.get("bomFormat") != "CycloneDX":
        raise NotABom('bomFormat must be "CycloneDX"', field="/bomFormat")
    version = document.get("specVersion")
    if not isinstance(version, str) or not _KNOWN_VERSIONS.fullmatch(version):
        raise NotABom("specVersion must be one of 1.0 to 1.7", field="/specVersion")
    for field in ("components", "services", "dependencies", "vulnerabilities"):
        entries = document.get(field, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise NotABom(f"{field} must be a list of objects", field=f"/{field}")
    for position, component in enumerate(document.get("components", [])):
        for field in ("type", "name"):
            if not isinstance(component.get(field), str):
                raise NotABom(
                    f"a component needs a {field}",
                    field=f"/components/{position}/{field}",
                )
    if not isinstance(document.get("metadata", {}), dict):
        raise NotABom("metadata must be an object", field="/metadata")


def component(asset: Asset) -> dict[str, Any]:
    """The asset as a CycloneDX component; what is unknown is left out."""
    entry: dict[str, Any] = {
        "type": _component_type(asset.asset_type),
        "bom-ref": str(asset.asset_id),
        "name": asset.model_name or asset.name,
    }
    if asset.model_version:
        entry["version"] = asset.model_version
    if asset.description:
        entry["description"] = asset.description
    if asset.model_provider:
        entry["supplier"] = {"name": asset.model_provider}
    if asset.license_type:
        entry["licenses"] = [{"license": {"name": asset.license_type}}]
    if asset.model_provider == "huggingface" and asset.model_name:
        entry["purl"] = _huggingface_purl(asset.model_name, asset.model_version)
    hashes = [
        {"alg": _HASHES[digest.algorithm], "content": digest.digest}
        for digest in asset.integrity
        if digest.algorithm in _HASHES
    ]
    if len(hashes) == 1:
        # A component's hashes are several digests of one thing; with many files each becomes a component of its own.
        entry["hashes"] = hashes
    elif hashes:
        entry["components"] = [
            {"type": "file", "name": digest.path, "hashes": [hashed]}
            for digest, hashed in zip(
                (digest for digest in asset.integrity if digest.algorithm in _HASHES),
                hashes,
                strict=True,
            )
        ]
    if asset.source_url:
        entry["externalReferences"] = [{"type": "distribution", "url": asset.source_url}]
    if entry["type"] == "machine-learning-model":
        entry["modelCard"] = _model_card(asset)
    elif entry["type"] == "data":
        entry["data"] = [
            {
                "type": "dataset" if asset.asset_type.value.endswith("dataset") else "configuration",
                "name": asset.name,
                "classification": asset.data_classification.value,
            }
        ]
    entry["properties"] = _properties(asset)
    return entry


def generate(
    asset: Asset,
    upstream: Sequence[Asset],
    edges: Mapping[UUID, Sequence[UUID]],
    *,
    at: datetime,
) -> dict[str, Any]:
    """A bill of materials of `asset` with everything that it depends on.

    Args:
        upstream: the assets that it depends on, directly or not.
        edges: what each of them, and `asset`, directly depends on; ids that are no asset here are kept as edges only
            when they are listed as components, since a dangling reference makes the document invalid.
    """
    known = {asset.asset_id} | {item.asset_id for item in upstream}
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        # The same asset in the same version is the same document.
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'colonnade:bom:{asset.asset_id}:{asset.version}')}",
        "version": 1,
        "metadata": {"timestamp": at.isoformat(), "component": component(asset)},
        "components": [component(item) for item in upstream],
        "dependencies": [dependency(item, edges.get(item, ()), known) for item in sorted(known)],
    }


def dependency(asset_id: UUID, upstream: Iterable[UUID], known: set[UUID]) -> dict[str, Any]:
    """One entry of the document's `dependencies`."""
    return {
        "ref": str(asset_id),
        "dependsOn": sorted({str(item) for item in upstream if item in known}),
    }


def _component_type(asset_type: AssetType) -> str:
    if asset_type in _MODELS:
        return "machine-learning-model"
    return "data" if asset_type in _DATA else "application"


def _huggingface_purl(repository: str, revision: str | None) -> str:
    """Package URL of type huggingface: names keep their case, the commit is the version, in lower case."""
    quoted = re.sub(
        r"[^\w./~-]",
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()),
        repository,
    )
    return f"pkg:huggingface/{quoted}" + (
        f"@{revision.lower()}" if revision and re.fullmatch(r"[0-9a-fA-F]{7,64}", revision) else ""
    )


def _model_card(asset: Asset) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if asset.asset_type is AssetType.EMBEDDING_MODEL:
        parameters["task"] = "feature-extraction"
    card: dict[str, Any] = {"modelParameters": parameters}
    if asset.purpose:
        card["considerations"] = {"useCases": [asset.purpose]}
    return card


def _properties(asset: Asset) -> list[dict[str, str]]:
    values = {
        "asset_type": asset.asset_type.value,
        "owner_team": asset.owner_team,
        "data_classification": asset.data_classification.value,
        "deployment_env": asset.deployment_env.value,
        "network_exposure": asset.network_exposure.value,
        "lifecycle": asset.lifecycle.value,
        "parameter_count": asset.parameter_count or "",
        "api_endpoint": asset.api_endpoint or "",
    }
    return [{"name": f"colonnade:{name}", "value": value} for name, value in values.items() if value]
