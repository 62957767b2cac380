"""Reading others' documents: which of their components are assets, what depends on what, and whose is which hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.inventory.domain.artifacts import DIGEST_LENGTHS, from_cyclonedx
from services.inventory.domain.bom.components import asset_type_of, card_of, declared_of, properties_of
from services.inventory.domain.bom.schema import NotABom
from shared.contracts.inventory import AssetType, Relation

COMPONENTS_LIMIT = 20_000
ASSETS_LIMIT = 2_000
STEPS_LIMIT = 2_000_000
"""Edges that are looked at, some 0.3 s; a document of every day has a hundredth."""


@dataclass(frozen=True, slots=True)
class Part:
    """A component that is an asset.

    Attributes:
        key: names it within the document: its bom-ref, else its place.
        pointer: JSON Pointer of it.
        declared: as a client would register it, not yet validated.
    """

    key: str
    pointer: str
    asset_type: AssetType
    declared: Mapping[str, Any]
    facts: Mapping[str, Any]


@dataclass(slots=True)
class Reading:
    """What a document says of assets.

    Attributes:
        root: key of the part that the document is of; None when that is no asset.
        edges: (subject, relation, object) by keys; through what is no asset they are drawn together.
        digests: (algorithm, digest, component) of what each part is built from besides assets.
        unattributed: components with hashes on which no asset of the document depends.
    """

    root: str | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    edges: list[tuple[str, Relation, str]] = field(default_factory=list)
    digests: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    unattributed: int = 0
    components: int = 0


def walk(document: Mapping[str, Any]) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
    """Every component with its pointer and its parent's, nested ones too, the document's own first."""
    stack: list[tuple[str, str | None, Mapping[str, Any]]] = []
    root = document.get("metadata", {}).get("component")
    top = [(f"/components/{place}", None, entry) for place, entry in enumerate(document.get("components", ()))]
    stack.extend(reversed(top))
    if isinstance(root, Mapping):
        stack.append(("/metadata/component", None, root))
    while stack:
        pointer, parent, entry = stack.pop()
        yield pointer, parent, entry
        nested = entry.get("components", ())
        stack.extend(
            (f"{pointer}/components/{place}", pointer, nested[place]) for place in reversed(range(len(nested)))
        )


def read(document: Mapping[str, Any]) -> Reading:
    """Take a document apart that is valid by its schema."""
    reading = Reading()
    entries: dict[str, Mapping[str, Any]] = {}
    key_of: dict[str, str] = {}
    below: dict[str, list[str]] = {}
    for pointer, parent, entry in walk(document):
        key = entry.get("bom-ref") or pointer
        if key in entries:
            raise NotABom(f"two components have the bom-ref {key[:200]!r}", field=f"{pointer}/bom-ref")
        key_of[pointer] = key
        entries[key] = entry
        below.setdefault(key, [])
        if parent is not None:
            below[key_of[parent]].append(key)
        reading.components += pointer != "/metadata/component"
        asset_type = asset_type_of(entry)
        if asset_type is not None:
            reading.parts[key] = Part(key, pointer, asset_type, declared_of(entry, asset_type), card_of(entry))
        if pointer == "/metadata/component":
            reading.root = key
    for one in document.get("dependencies", ()):
        if one.get("ref") in entries:
            below[one["ref"]].extend(ref for ref in one.get("dependsOn", ()) if ref in entries)
    if reading.components > COMPONENTS_LIMIT:
        raise NotABom(f"it has {reading.components} components; {COMPONENTS_LIMIT} are read", field="/components")
    _own_edges(reading, entries)
    if len(reading.parts) > ASSETS_LIMIT:
        raise NotABom(
            f"it has {len(reading.parts)} models and data sets; {ASSETS_LIMIT} at a time", field="/components"
        )
    reached = _all_reached(reading, below)
    stated = {(subject, target) for subject, _, target in reading.edges}
    reading.edges += [
        (key, Relation.DEPENDS_ON, target)
        for key, (assets, _) in reached.items()
        for target in assets
        if (key, target) not in stated
    ]
    _digests(reading, entries, reached)
    if reading.root not in reading.parts:
        reading.root = None
    return reading


def _own_edges(reading: Reading, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """The edges that a component states itself: descent, training data, and relations of ours."""
    by_purl = {entries[key]["purl"]: key for key in reading.parts if entries[key].get("purl")}
    by_name = {(entries[key].get("name"), entries[key].get("version")): key for key in reading.parts}
    for key, part in list(reading.parts.items()):
        entry = entries[key]
        for value in properties_of(entry).get("relation", ()):
            relation, _, target = value.partition(" ")
            if relation in Relation.__members__.values() and target in reading.parts:
                reading.edges.append((key, Relation(relation), target))
        for one in entry.get("modelCard", {}).get("modelParameters", {}).get("datasets", ()):
            if one.get("ref") in reading.parts:
                reading.edges.append((key, Relation.TRAINED_ON, one["ref"]))
        for place, ancestor in enumerate(entry.get("pedigree", {}).get("ancestors", ())):
            named = properties_of(ancestor).get("ref", [ancestor.get("bom-ref", "")])[0]
            known = (
                (named if named in reading.parts else None)
                or by_purl.get(ancestor.get("purl"))
                or by_name.get((ancestor.get("name"), ancestor.get("version")))
            )
            if known is None:
                pointer = f"{part.pointer}/pedigree/ancestors/{place}"
                known = ancestor.get("bom-ref") or pointer
                asset_type = asset_type_of(ancestor) or AssetType.FOUNDATION_MODEL
                declared = declared_of(ancestor, asset_type)
                reading.parts[known] = Part(known, pointer, asset_type, declared, card_of(ancestor))
                by_name[ancestor.get("name"), ancestor.get("version")] = known
            if known != key:
                reading.edges.append((key, Relation.FINE_TUNED_FROM, known))


def _all_reached(reading: Reading, below: Mapping[str, list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """Of each asset the assets next below it, and what lies between that is none, such as libraries."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    steps = 0
    for key in reading.parts:
        assets, between, looked_at = _reached(key, below, reading.parts)
        found[key] = (assets, between)
        steps += looked_at
        if steps > STEPS_LIMIT:
            raise NotABom("its dependencies are too entangled to be followed", field="/dependencies")
    return found


def _reached(key: str, below: Mapping[str, list[str]], parts: Mapping[str, Part]) -> tuple[list[str], list[str], int]:
    assets, between, seen = [], [], {key}
    stack = [key]
    looked_at = 0
    while stack:
        refs = below.get(stack.pop(), ())
        looked_at += len(refs)
        for ref in refs:
            if ref in seen:
                continue
            seen.add(ref)
            if ref in parts:
                assets.append(ref)
            else:
                between.append(ref)
                stack.append(ref)
    return sorted(assets), between, looked_at


def _digests(
    reading: Reading,
    entries: Mapping[str, Mapping[str, Any]],
    reached: Mapping[str, tuple[list[str], list[str]]],
) -> None:
    taken: set[str] = set()
    for key, (_, between) in reached.items():
        taken.update(between)
        reading.digests[key] = [hashed for ref in [key, *between] if ref in entries for hashed in hashes(entries[ref])]
    for ref, entry in entries.items():
        if ref not in taken and ref not in reading.parts and (found := hashes(entry)):
            if reading.root in reading.parts and reading.root is not None:
                # Nothing in the document says what needs it: then it is the whole's.
                reading.digests[reading.root].extend(found)
            else:
                reading.unattributed += 1


def hashes(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(algorithm, digest, component) of a component itself."""
    shown = "@".join(part for part in (entry.get("name", "?"), entry.get("version")) if part)[:300]
    return [
        (algorithm, one["content"].lower(), shown)
        for one in entry.get("hashes", ())
        if (algorithm := from_cyclonedx(one["alg"])) in DIGEST_LENGTHS
    ]


# -- as it is compared -------------------------------------------------------------------------------------------------

_COMPARED = {
    "version": "version",
    "supplier": "supplier",
    "licenses": "licenses",
    "hashes": "hashes",
    "purl": "purl",
    "pedigree": "pedigree",
    "modelCard": "model_card",
    "data": "data",
    "components": "files",
    "externalReferences": "references",
    "properties": "properties",
    "description": "description",
}


def parts_of(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The document's components as far as two bills are compared: key -> {name, type, field: value or its digest}.

    The key is what stays when a component's version changes: its package URL without the version, else its type, group
    and name; bom-refs are made anew by many tools.
    """
    entries: list[tuple[str, str, Mapping[str, Any]]] = []
    names: dict[str, str] = {}
    for pointer, _, entry in walk(document):
        key = "root" if pointer == "/metadata/component" else _key(entry)
        names[entry.get("bom-ref") or pointer] = key
        entries.append((pointer, key, entry))
    needs = {
        one["ref"]: sorted({names[ref] for ref in one.get("dependsOn", ()) if ref in names})
        for one in document.get("dependencies", ())
        if one.get("ref") in names
    }
    found: dict[str, dict[str, str]] = {}
    for pointer, key, entry in entries:
        part = {"name": str(entry.get("name", "")), "type": str(entry.get("type", ""))}
        for written, shown in _COMPARED.items():
            if value := entry.get(written):
                part[shown] = value if isinstance(value, str) else _digest(value)
        if depends := needs.get(entry.get("bom-ref") or pointer):
            part["dependencies"] = _digest(depends)
        place, number = key, 1
        while place in found:
            number += 1
            place = f"{key}#{number}"
        found[place] = part
    return found


def _key(entry: Mapping[str, Any]) -> str:
    if purl := entry.get("purl"):
        bare: str = purl.partition("?")[0].partition("#")[0]
        name, at, _ = bare.rpartition("@")
        return name if at and "/" in name else bare
    return "|".join((entry.get("type", ""), entry.get("group", ""), entry.get("name", "")))


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
