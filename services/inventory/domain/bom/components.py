"""Assets as CycloneDX components, and back.

Plain dictionaries rather than a library's objects: cyclonedx-python-lib has no class for model cards or component data,
and drops them on reading.

What an asset says and CycloneDX has a field for stands in that field; the rest are properties named `colonnade:...`, so
that nothing is lost on the way out and in again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, unquote
from uuid import UUID

from services.inventory.domain.artifacts import MODEL_TYPES, from_cyclonedx
from services.inventory.domain.asset import Asset, SourceKind
from services.inventory.domain.bom.facts import facts_of, iri, model_card
from services.inventory.domain.bom.licences import licence_of, licences
from shared.contracts.inventory import AssetType, Relation

DATASETS = (AssetType.TRAINING_DATASET, AssetType.EVALUATION_DATASET)
_DATA = frozenset({*DATASETS, AssetType.PROMPT_TEMPLATE, AssetType.GUARDRAIL_CONFIG, AssetType.API_CREDENTIAL})
_HASHES = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512", "sha1": "SHA-1", "md5": "MD5"}
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128}")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_PREFIX = "colonnade:"
_FEATURES = "feature-extraction"

K = TypeVar("K")
Edge = tuple[UUID, Relation, UUID]
"""Subject, relation, object: the first uses, was tuned from, was trained on ... the other."""

_FROM_OBJECT = frozenset({Relation.EMBEDS_INTO, Relation.SERVED_BY, Relation.EXPOSES_CREDENTIAL})
"""Relations whose object depends on the subject: vectors on the model that made them, an endpoint on what it serves, a
credential's worth on the place where it lies."""


def needs(edge: tuple[K, Relation, K]) -> tuple[K, K]:
    """Who depends on whom by that edge: the dependent, and what it depends on."""
    subject, relation, target = edge
    return (target, subject) if relation in _FROM_OBJECT else (subject, target)


@dataclass(frozen=True, slots=True)
class Peer:
    """What a component says of another that it has to do with."""

    asset_id: UUID
    asset_type: AssetType
    name: str
    model_name: str | None
    model_version: str | None
    model_provider: str | None

    @classmethod
    def of(cls, asset: Asset) -> Peer:
        return cls(
            asset.asset_id,
            asset.asset_type,
            asset.name,
            asset.model_name,
            asset.model_version,
            asset.model_provider,
        )


def meant(subject: AssetType, relation: Relation, target: AssetType) -> Relation:
    """What a plain dependency is between things of these kinds: a tuned model's on a model is its descent, a model's on
    a training dataset its training."""
    if relation is not Relation.DEPENDS_ON:
        return relation
    if subject is AssetType.FINE_TUNED_MODEL and target in MODEL_TYPES:
        return Relation.FINE_TUNED_FROM
    if subject in MODEL_TYPES and target is AssetType.TRAINING_DATASET:
        return Relation.TRAINED_ON
    return relation


def component(
    asset: Asset, facts: Mapping[str, Any] | None = None, relations: Iterable[tuple[Relation, Peer]] = ()
) -> dict[str, Any]:
    """The asset as a CycloneDX component; what is unknown is left out.

    Args:
        facts: for its model card.
        relations: the edges of which it is the subject, to components of the same document.
    """
    typed = [(relation, meant(asset.asset_type, relation, peer.asset_type), peer) for relation, peer in relations]
    ancestors = [peer for _, relation, peer in typed if relation is Relation.FINE_TUNED_FROM]
    trained_on = [str(peer.asset_id) for _, relation, peer in typed if relation is Relation.TRAINED_ON]
    entry: dict[str, Any] = {
        "type": component_type(asset.asset_type),
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
        entry["licenses"] = licences(asset.license_type)
    if purl := purl_of(asset.model_provider, asset.model_name, asset.model_version):
        entry["purl"] = purl
    extra = _files(asset, entry)
    if asset.source_url:
        entry["externalReferences"] = [{"type": "distribution", "url": iri(asset.source_url)}]
    if ancestors:
        entry["pedigree"] = {"ancestors": [_ancestor(peer) for peer in ancestors]}
    if entry["type"] == "machine-learning-model":
        entry["modelCard"] = model_card(_card_facts(asset, facts or {}), trained_on)
    elif entry["type"] == "data":
        entry["data"] = [_data(asset)]
    if evidence := _evidence(asset):
        entry["evidence"] = evidence
    entry["properties"] = [
        *_properties(asset),
        *extra,
        *(
            {"name": f"{_PREFIX}relation", "value": f"{relation} {peer.asset_id}"}
            for relation, _, peer in typed
            if relation is not Relation.DEPENDS_ON
        ),
    ]
    return entry


def component_type(asset_type: AssetType) -> str:
    if asset_type in MODEL_TYPES:
        return "machine-learning-model"
    return "data" if asset_type in _DATA else "application"


def purl_of(provider: str | None, name: str | None, version: str | None) -> str | None:
    """Package URL of a model on the Hugging Face hub: names keep their case, a commit is the version, in lower case."""
    if provider != "huggingface" or not name:
        return None
    commit = f"@{version.lower()}" if version and re.fullmatch(r"[0-9a-fA-F]{7,64}", version) else ""
    return f"pkg:huggingface/{quote(name, safe='/~')}{commit}"


def _ancestor(peer: Peer) -> dict[str, Any]:
    # Without a bom-ref: the component has it already, and a document may not have it twice.
    entry: dict[str, Any] = {"type": component_type(peer.asset_type), "name": peer.model_name or peer.name}
    if peer.model_version:
        entry["version"] = peer.model_version
    if purl := purl_of(peer.model_provider, peer.model_name, peer.model_version):
        entry["purl"] = purl
    return {**entry, "properties": [{"name": f"{_PREFIX}ref", "value": str(peer.asset_id)}]}


def _files(asset: Asset, entry: dict[str, Any]) -> list[dict[str, str]]:
    """Put the asset's digests into the component: of one file as its hashes, of several as a component each. What is
    no hash by the schema is given back as properties."""
    files: dict[str, list[dict[str, str]]] = {}
    odd: list[dict[str, str]] = []
    for digest in asset.integrity:
        if _HASH.fullmatch(digest.digest):
            found = files.setdefault(digest.path, [])
            if (hashed := {"alg": _HASHES[digest.algorithm], "content": digest.digest}) not in found:
                found.append(hashed)
        else:
            value = f"{digest.algorithm} {digest.digest} {digest.path}"
            odd.append({"name": f"{_PREFIX}digest", "value": value})
    if len(files) == 1:
        ((path, entry["hashes"]),) = files.items()
        odd.append({"name": f"{_PREFIX}file", "value": path})
    elif files:
        entry["components"] = [{"type": "file", "name": path, "hashes": hashes} for path, hashes in files.items()]
    return odd


def _card_facts(asset: Asset, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    added: dict[str, Any] = {}
    if asset.asset_type is AssetType.EMBEDDING_MODEL and "task" not in facts:
        added["task"] = _FEATURES
    if asset.purpose and "use_cases" not in facts:
        added["use_cases"] = [asset.purpose]
    return {**facts, **added}


def _data(asset: Asset) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": "dataset" if asset.asset_type in DATASETS else "configuration",
        "name": asset.name,
        "classification": asset.data_classification.value,
    }
    if asset.source_url:
        data["contents"] = {"url": iri(asset.source_url)}
    if asset.owner_team:
        organization: dict[str, Any] = {"name": asset.owner_team}
        if _EMAIL.fullmatch(asset.owner_email):
            organization["contact"] = [{"email": asset.owner_email}]
        data["governance"] = {"owners": [{"organization": organization}]}
    return data


_CONFIDENCE = {SourceKind.DECLARED: 1, SourceKind.INFERRED: 0.5, SourceKind.UNRESOLVED: 0}
"""How sure a value is that somebody stated for this purpose, that was concluded, that nobody could tell."""
_IDENTITY = {"name": "name", "model_name": "name", "model_version": "version"}


def _evidence(asset: Asset) -> dict[str, Any]:
    occurrences = [
        {"location": one.locator, "symbol": one.attribute, "additionalContext": one.kind.value}
        for one in asset.sources
        if one.locator
    ]
    identity: dict[str, dict[str, Any]] = {}
    for one in asset.sources:
        field = _IDENTITY.get(one.attribute)
        value = getattr(asset, one.attribute) if field else None
        if field and value and one.locator and one.kind is not SourceKind.UNRESOLVED:
            method = {"technique": "other", "confidence": _CONFIDENCE[one.kind], "value": one.locator}
            found = identity.setdefault(field, {"field": field, "concludedValue": value, "methods": []})
            found["methods"].append(method)
            found["confidence"] = max(method["confidence"] for method in found["methods"])
    evidence: dict[str, Any] = {}
    if identity:
        evidence["identity"] = list(identity.values())
    if occurrences:
        evidence["occurrences"] = occurrences
    return evidence


def _properties(asset: Asset) -> list[dict[str, str]]:
    values: list[tuple[str, str]] = [
        ("name", asset.name if asset.model_name else ""),
        ("asset_type", asset.asset_type.value),
        ("owner_team", asset.owner_team),
        ("owner_email", asset.owner_email),
        ("data_classification", asset.data_classification.value),
        ("deployment_env", asset.deployment_env.value),
        ("network_exposure", asset.network_exposure.value),
        ("lifecycle", asset.lifecycle.value),
        ("parameter_count", asset.parameter_count or ""),
        ("api_endpoint", asset.api_endpoint or ""),
        ("is_self_hosted", "true" if asset.is_self_hosted else ""),
        ("cloud_provider", asset.cloud_provider or ""),
        ("cloud_region", asset.cloud_region or ""),
        ("last_security_review", asset.last_security_review.isoformat() if asset.last_security_review else ""),
        ("purpose", asset.purpose),
        ("model_name", "" if asset.model_name else "-"),
        *(("regulatory_scope", scope.value) for scope in asset.regulatory_scope),
        *(("authorized_tool", tool) for tool in asset.authorized_tools),
        *(("source", f"{one.kind} {one.attribute}") for one in asset.sources if not one.locator),
    ]
    return [{"name": _PREFIX + name, "value": value} for name, value in values if value]


# -- and back ----------------------------------------------------------------------------------------------------------

_PLAIN = (
    *("owner_team", "owner_email", "data_classification", "deployment_env", "network_exposure", "parameter_count"),
    *("api_endpoint", "cloud_provider", "cloud_region", "last_security_review", "purpose"),
)


def properties_of(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """The component's properties of ours, by name without the prefix."""
    found: dict[str, list[str]] = {}
    for one in entry.get("properties", ()):
        name = one.get("name", "")
        if name.startswith(_PREFIX) and isinstance(one.get("value"), str):
            found.setdefault(name.removeprefix(_PREFIX), []).append(one["value"])
    return found


def asset_type_of(entry: Mapping[str, Any]) -> AssetType | None:
    """What the component is as an asset; None for what the inventory does not keep, such as a library."""
    named = properties_of(entry).get("asset_type", [""])[0]
    if named in AssetType.__members__.values():
        return AssetType(named)
    if entry.get("type") == "machine-learning-model":
        card = entry.get("modelCard", {})
        if card.get("modelParameters", {}).get("task") in (_FEATURES, "sentence-similarity"):
            return AssetType.EMBEDDING_MODEL
        return AssetType.FINE_TUNED_MODEL if entry.get("pedigree", {}).get("ancestors") else AssetType.FOUNDATION_MODEL
    if entry.get("type") == "data":
        kinds = {one.get("type") for one in entry.get("data", ())}
        return AssetType.TRAINING_DATASET if not kinds or "dataset" in kinds or "other" in kinds else None
    return None


def declared_of(entry: Mapping[str, Any], asset_type: AssetType) -> dict[str, Any]:
    """What the component says of the asset, as a client would register it; facts for the card are `card_of`'s."""
    told = properties_of(entry)
    declared: dict[str, Any] = {name: told[name][0] for name in _PLAIN if name in told}
    name = str(entry.get("name", ""))
    if group := entry.get("group"):
        name = f"{group}/{name}"
    purl = re.match(r"pkg:huggingface/([^@?#]+)(?:@([^?#]+))?", entry.get("purl", ""))
    declared["name"] = told.get("name", [name[:300]])[0]
    declared["asset_type"] = asset_type.value
    if "model_name" not in told and component_type(asset_type) == "machine-learning-model":
        declared["model_name"] = unquote(purl[1]) if purl else name
    elif "name" in told:
        declared["model_name"] = name
    supplier = entry.get("supplier") or entry.get("manufacturer") or {}
    declared["model_provider"] = "huggingface" if purl else supplier.get("name") or entry.get("publisher")
    declared["model_version"] = entry.get("version") or (purl[2] if purl else None)
    declared["description"] = entry.get("description", "")
    declared["license_type"] = licence_of(entry.get("licenses", []))
    declared["source_url"] = next(
        (one["url"] for one in entry.get("externalReferences", ()) if one.get("type") == "distribution"), None
    )
    declared["is_self_hosted"] = told.get("is_self_hosted") == ["true"]
    declared["regulatory_scope"] = told.get("regulatory_scope", [])
    declared["authorized_tools"] = told.get("authorized_tool", [])
    declared["integrity"] = _integrity(entry, told)
    declared["sources"] = _sources(entry, told)
    if "data_classification" not in declared:
        classes = [one.get("classification", "").lower() for one in entry.get("data", ())]
        if known := [
            one for one in classes if one in ("public", "internal", "confidential", "restricted", "regulated")
        ]:
            declared["data_classification"] = known[0]
    return {name: value for name, value in declared.items() if value is not None}


def _integrity(entry: Mapping[str, Any], told: Mapping[str, list[str]]) -> list[dict[str, str]]:
    files: list[tuple[str, Sequence[Mapping[str, str]]]] = [
        (told.get("file", [str(entry.get("name", "-"))])[0], entry.get("hashes", ()))
    ]
    files += [(one["name"], one.get("hashes", ())) for one in entry.get("components", ()) if one.get("type") == "file"]
    found = [
        {"path": path[:1_024], "algorithm": from_cyclonedx(hashed["alg"]), "digest": hashed["content"].lower()}
        for path, hashes in files
        for hashed in hashes
        if from_cyclonedx(hashed["alg"]) in _HASHES
    ]
    for value in told.get("digest", ()):
        algorithm, _, rest = value.partition(" ")
        digest, _, path = rest.partition(" ")
        found.append({"path": path, "algorithm": algorithm, "digest": digest})
    return found


def _sources(entry: Mapping[str, Any], told: Mapping[str, list[str]]) -> list[dict[str, str]]:
    kinds = frozenset(SourceKind.__members__.values())
    found = [
        {"attribute": one["symbol"], "kind": one["additionalContext"], "locator": one["location"]}
        for one in entry.get("evidence", {}).get("occurrences", ())
        if one.get("symbol") and one.get("additionalContext") in kinds
    ]
    for value in told.get("source", ()):
        kind, _, attribute = value.partition(" ")
        found.append({"attribute": attribute, "kind": kind, "locator": ""})
    return found


def card_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The facts for the asset's model card."""
    facts = facts_of(entry.get("modelCard", {}))
    if facts.get("task") == _FEATURES:
        # What every embedding model does, so that this says no more than its type.
        del facts["task"]
    purpose = properties_of(entry).get("purpose", [None])[0]
    if purpose is not None and facts.get("use_cases") == [purpose]:
        del facts["use_cases"]
    return facts
