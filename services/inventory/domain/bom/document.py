"""Whole documents: of an asset with all that it depends on, and the frame of the organisation's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from services.inventory.domain.asset import Asset
from services.inventory.domain.bom.components import Edge, Peer, component, needs
from shared.contracts.inventory import Relation

SPEC_VERSIONS = ("1.7", "1.6")
"""Those that we write, the newest first."""

Facts = Mapping[UUID, Mapping[str, Any]]


def frame(spec_version: str, serial: UUID, metadata: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """The document without its components and dependencies."""
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec_version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec_version,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": at.isoformat(),
            "lifecycles": [{"phase": "operations"}],
            "tools": {"components": [{"type": "application", "name": "Colonnade inventory"}]},
            **metadata,
        },
    }


def generate(
    asset: Asset,
    upstream: Sequence[Asset],
    edges: Iterable[Edge],
    facts: Facts,
    *,
    at: datetime,
    spec_version: str = SPEC_VERSIONS[0],
) -> dict[str, Any]:
    """A bill of materials of `asset` with everything that it depends on.

    Args:
        upstream: the assets that it depends on, directly or not.
        edges: of the graph around them; those with an end that is no component here are left out, since a dangling
            reference makes the document invalid.
        facts: asset -> facts for its model card.
    """
    parts = {item.asset_id: item for item in (asset, *upstream)}
    known = [edge for edge in edges if edge[0] in parts and edge[2] in parts]
    relations = relations_of(known, {key: Peer.of(item) for key, item in parts.items()})
    metadata: dict[str, Any] = {"component": component(asset, facts.get(asset.asset_id), relations[asset.asset_id])}
    if asset.owner_team:
        metadata["authors"] = [{"name": asset.owner_team}]
    # The same asset in the same version is the same document.
    serial = uuid5(NAMESPACE_URL, f"colonnade:bom:{asset.asset_id}:{asset.version}")
    return {
        **frame(spec_version, serial, metadata, at),
        "components": [component(item, facts.get(item.asset_id), relations[item.asset_id]) for item in upstream],
        "dependencies": [
            dependency(key, targets) for key, targets in sorted(dependencies_of(known, sorted(parts)).items())
        ],
    }


def relations_of(
    edges: Iterable[Edge], peers: Mapping[UUID, Peer], of: Iterable[UUID] | None = None
) -> dict[UUID, list[tuple[Relation, Peer]]]:
    """Of each asset the edges of which it is the subject, in a stable order."""
    found: dict[UUID, list[tuple[Relation, Peer]]] = {key: [] for key in (peers if of is None else of)}
    for subject, relation, target in sorted(set(edges)):
        if subject in found:
            found[subject].append((relation, peers[target]))
    return found


def dependencies_of(edges: Iterable[Edge], keys: Iterable[UUID]) -> dict[UUID, set[UUID]]:
    """Of each asset what it depends on directly."""
    found: dict[UUID, set[UUID]] = {key: set() for key in keys}
    for edge in edges:
        dependent, target = needs(edge)
        if dependent in found and dependent != target:
            found[dependent].add(target)
    return found


def dependency(asset_id: UUID, upstream: Iterable[UUID]) -> dict[str, Any]:
    """One entry of the document's `dependencies`."""
    return {"ref": str(asset_id), "dependsOn": sorted(str(item) for item in upstream)}
