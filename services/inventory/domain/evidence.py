"""What the inventory makes of claims: whose word counts for each attribute, and how long it waits for what is no longer
seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson

from services.inventory.domain.asset import DECLARABLE, Asset, AttributeSource, Digest, SourceKind, as_json
from services.inventory.domain.claims import (
    EMPTY,
    UNTOLD,
    Claim,
    Found,
    Link,
    Observation,
    ObservationKind,
    Severity,
)
from services.inventory.domain.discovery import Source
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    NetworkExposure,
    RegulatoryScope,
    Relation,
)

TRUST: tuple[Source, ...] = (
    Source.AWS_BEDROCK,
    Source.AWS_SAGEMAKER,
    Source.AZURE_OPENAI,
    Source.GCP_VERTEX,
    Source.KUBERNETES,
    Source.MLFLOW,
    Source.VECTOR_STORE,
    Source.OPENAI_COMPATIBLE,
    Source.FILESYSTEM,
    Source.REPOSITORY,
    Source.TRAFFIC,
)
"""Sources, the most trusted first: the platform that runs a thing knows it better than a file that mentions it."""

_IDENTIFYING = frozenset(
    {"name", "asset_type", "model_provider", "model_name", "model_version", "api_endpoint", "deployment_env"}
)
"""Attributes that make an asset the one that it is: only the entry that they came from may change them, or an asset
that two sources name differently would change its name with each of their runs."""


class SightingState(StrEnum):
    """How an entry stands with its source."""

    NEW = "new"
    SEEN = "seen"
    CHANGED = "changed"
    MISSING = "missing"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Testimony:
    """A claim with the source that makes it, and the sighting in which it does."""

    source: Source
    claim: Claim
    sighting_id: UUID | None = None

    @property
    def rank(self) -> tuple[int, int, str]:
        """Lower counts more: stated before concluded, then by the source's trust, then by the locator, so that it does
        not depend on who was read last."""
        stated = 0 if self.claim.kind is SourceKind.DECLARED else 1
        return stated, TRUST.index(self.source), self.claim.locator


def by_attribute(testimonies: Sequence[Testimony]) -> dict[str, list[Testimony]]:
    """What is said of each attribute, the word that counts most first."""
    said: dict[str, list[Testimony]] = {}
    for testimony in sorted(testimonies, key=lambda one: one.rank):
        said.setdefault(testimony.claim.attribute, []).append(testimony)
    return said


def held_by_person(asset: Asset, attribute: str) -> bool:
    """Whether a person said so: it has a value of its own that no discovery set, or an entry in its sources that says
    declared and names no discovery source."""
    source = next((one for one in asset.sources if one.attribute == attribute), None)
    if source is None:
        return bool(getattr(asset, attribute) != DECLARABLE[attribute])
    return source.kind is SourceKind.DECLARED and not source.source


def settled(asset: Asset, testimonies: Sequence[Testimony]) -> Mapping[str, Any]:
    """What the testimonies change about the asset, `sources` included; empty when it stands as they say.

    A person's word wins. Else the testimony that counts most; of identifying attributes only the one they came from. An
    attribute of UNTOLD of which nobody says anything is unresolved. What is no longer said stays as it was last known.
    """
    changes: dict[str, Any] = {}
    sources = {one.attribute: one for one in asset.sources}
    said = by_attribute(testimonies)
    for attribute, candidates in said.items():
        if held_by_person(asset, attribute):
            continue
        current = getattr(asset, attribute)
        known = sources.get(attribute)
        if attribute in _IDENTIFYING and current not in EMPTY:
            its_own = (known.source, known.locator) if known is not None else None
            candidates = [one for one in candidates if (one.source.value, one.claim.locator) == its_own]
            if not candidates:
                continue
        best = candidates[0]
        sources[attribute] = AttributeSource(attribute, best.claim.kind, best.claim.locator, best.source.value)
        if current != best.claim.value:
            changes[attribute] = best.claim.value
    for attribute in UNTOLD:
        if attribute not in said and attribute not in sources and not held_by_person(asset, attribute) and testimonies:
            first = min(testimonies, key=lambda one: one.rank)
            sources[attribute] = AttributeSource(
                attribute, SourceKind.UNRESOLVED, first.claim.locator, first.source.value
            )
    ordered = tuple(sources[attribute] for attribute in sorted(sources))
    if ordered != tuple(sorted(asset.sources, key=lambda one: one.attribute)):
        changes["sources"] = ordered
    return changes


@dataclass(frozen=True, slots=True)
class Word:
    """One answer to what an attribute is; `source` is None where a person gave it."""

    value: Any
    kind: SourceKind
    source: Source | None
    locator: str
    sighting_id: UUID | None


def words_on(asset: Asset, testimonies: Sequence[Testimony]) -> dict[str, list[Word]]:
    """All that is said of each attribute, by attribute, the word that counts most first."""
    said = by_attribute(testimonies)
    sources = {one.attribute: one for one in asset.sources}
    words: dict[str, list[Word]] = {}
    for attribute in sorted({*said, *sources} & DECLARABLE.keys()):
        own = sources.get(attribute)
        told = [
            Word(one.claim.value, one.claim.kind, one.source, one.claim.locator, one.sighting_id)
            for one in said.get(attribute, ())
        ]
        if held_by_person(asset, attribute):
            told.insert(0, Word(getattr(asset, attribute), SourceKind.DECLARED, None, own.locator if own else "", None))
        elif not told and own is not None:
            source = Source(own.source) if own.source else None
            told.append(Word(getattr(asset, attribute), own.kind, source, own.locator, None))
        words[attribute] = told
    return words


def declared_of(source: Source, found: Found) -> dict[str, Any]:
    """A new entry as what `register` takes."""
    values = {claim.attribute: claim.value for claim in found.claims}
    told = [AttributeSource(one.attribute, one.kind, one.locator, source.value) for one in found.claims]
    untold = [
        AttributeSource(attribute, SourceKind.UNRESOLVED, found.locator, source.value)
        for attribute in UNTOLD
        if attribute not in values
    ]
    return {**values, "sources": tuple(sorted(told + untold, key=lambda one: one.attribute))}


def is_gone(missing_since: datetime, at: datetime, grace: timedelta) -> bool:
    """Whether an entry that its scope no longer shows has been missing for as long as it is waited for."""
    return at - missing_since >= grace


# -- as documents: what a sighting keeps of an entry ------------------------------------------------------------------

_TYPES: Mapping[str, Any] = {
    "asset_type": AssetType,
    "data_classification": DataClassification,
    "deployment_env": DeploymentEnvironment,
    "network_exposure": NetworkExposure,
}


def document_of(found: Found) -> dict[str, Any]:
    """An entry as JSON values, in an order that does not depend on how it was built."""
    return {
        "claims": [
            {"attribute": one.attribute, "value": as_json(one.value), "kind": one.kind.value, "locator": one.locator}
            for one in sorted(found.claims, key=lambda one: (one.attribute, one.locator))
        ],
        "links": [
            {"relation": one.relation.value, "target": one.target, "locator": one.locator, "reverse": one.reverse}
            for one in sorted(found.links, key=lambda one: (one.relation, one.target, one.locator, one.reverse))
        ],
        "observations": [
            {"kind": one.kind.value, "severity": one.severity.value, "detail": one.detail, "locator": one.locator}
            for one in sorted(found.observations, key=lambda one: (one.kind, one.locator, one.detail))
        ],
        "identities": sorted(set(found.identities)),
        "card": found.card,
    }


def found_of(locator: str, document: Mapping[str, Any]) -> Found:
    """The entry that `document_of` made a document of."""
    return Found(
        locator=locator,
        claims=tuple(
            Claim(one["attribute"], _value(one["attribute"], one["value"]), SourceKind(one["kind"]), one["locator"])
            for one in document["claims"]
        ),
        identities=tuple(document["identities"]),
        links=tuple(
            Link(Relation(one["relation"]), one["target"], one["locator"], one["reverse"]) for one in document["links"]
        ),
        observations=tuple(
            Observation(ObservationKind(one["kind"]), Severity(one["severity"]), one["detail"], one["locator"])
            for one in document["observations"]
        ),
        card=document["card"],
    )


def fingerprint(document: Mapping[str, Any]) -> bytes:
    """16 bytes that differ when anything in the document does."""
    return blake2b(orjson.dumps(document, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _value(attribute: str, value: Any) -> Any:
    if attribute in _TYPES:
        return _TYPES[attribute](value)
    if attribute == "integrity":
        return tuple(Digest(**item) for item in value)
    if attribute == "regulatory_scope":
        return tuple(RegulatoryScope(item) for item in value)
    if attribute == "last_security_review":
        return date.fromisoformat(value)
    return tuple(value) if isinstance(value, list) else value
