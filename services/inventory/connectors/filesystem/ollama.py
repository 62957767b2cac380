"""Ollama's store: manifests by registry, namespace, model and tag; layers as blobs named by their SHA-256."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.inventory.connectors.filesystem.cards import license_of
from services.inventory.connectors.filesystem.disk import Disk, Unreadable
from services.inventory.connectors.filesystem.mapping import Folder, observations
from services.inventory.domain import identity
from services.inventory.domain.asset import Digest, SourceKind
from services.inventory.domain.claims import Found, found
from services.inventory.modelfiles import Report, scan
from shared.contracts.inventory import AssetType

MANIFESTS_LIMIT = 10_000
_MODEL = "application/vnd.ollama.image.model"
_ADAPTER = "application/vnd.ollama.image.adapter"
_LICENSE = "application/vnd.ollama.image.license"
_BLOB = re.compile(r"sha256[:-]([0-9a-f]{64})")


def is_store(disk: Disk, folder: Path) -> bool:
    """Whether a folder with `manifests` and `blobs` is Ollama's: below manifests stand registries by their host."""
    try:
        return any("." in name for name in disk.listing(folder / "manifests").folders)
    except Unreadable:
        return False


def models(disk: Disk, store: Path, failed: Callable[[Unreadable], None]) -> Iterator[Found]:
    """Every model of the store. What cannot be read is told to `failed`."""
    pending, count = [store / "manifests"], 0
    while pending:
        folder = pending.pop()
        try:
            listing = disk.listing(folder)
        except Unreadable as why:
            failed(why)
            continue
        pending += [folder / name for name in reversed(listing.folders)]
        for name in listing.files:
            count += 1
            if count > MANIFESTS_LIMIT:
                failed(Unreadable(store, f"holds more than {MANIFESTS_LIMIT} manifests", lasting=True))
                return
            try:
                yield from _model(disk, store, folder / name)
            except Unreadable as why:
                failed(why)


def _model(disk: Disk, store: Path, manifest: Path) -> Iterator[Found]:
    values, _ = disk.json(manifest)
    layers = values.get("layers") if isinstance(values, dict) else None
    parts = manifest.relative_to(store / "manifests").parts
    if not isinstance(layers, list) or len(parts) < 3:
        raise Unreadable(manifest, "is no manifest of a model", lasting=True)
    name = ":".join(("/".join(parts[2:-1] if parts[1] == "library" else parts[1:-1]), parts[-1]))
    weights: list[Digest] = []
    kind, licence = AssetType.FOUNDATION_MODEL, None
    for layer in layers[:100]:
        match = _BLOB.fullmatch(str(layer.get("digest"))) if isinstance(layer, dict) else None
        if match is None:
            continue
        blob = store / "blobs" / f"sha256-{match[1]}"
        if layer.get("mediaType") in (_MODEL, _ADAPTER):
            weights.append(Digest(f"blobs/{blob.name}", "sha256", match[1]))
            kind = AssetType.FINE_TUNED_MODEL if layer["mediaType"] == _ADAPTER else kind
        elif layer.get("mediaType") == _LICENSE and licence is None:
            licence = license_of(disk.text(blob, 16_384, whole=False))
    if not weights:
        return
    first = store / weights[0].path
    report = _scanned(disk, first)
    made = found(
        str(manifest), name=f"Ollama: {name}", asset_type=kind, model_provider="ollama", model_name=name,
        is_self_hosted=True, integrity=tuple(weights),
    ).with_claims(SourceKind.INFERRED, str(manifest), license_type=licence)  # fmt: skip
    facts: dict[str, Any] = {}
    if report is not None:
        facts = {key: value for key, value in report.facts.items() if isinstance(value, str)}
        made = made.with_claims(
            SourceKind.INFERRED, str(first), parameter_count=str(report.facts.get("parameters") or "")
        )
        made = replace(made, observations=observations(Folder(str(manifest), name, reports=((str(first), report),))))
    identities = identity.hosted_model("ollama", name), *(identity.content(one.digest) for one in weights[:1])
    yield replace(made, identities=identities, card=facts or None)


def _scanned(disk: Disk, path: Path) -> Report | None:
    try:
        with disk.opened(path) as (file, status):
            return scan(file, f"{path.name}.gguf", status.st_size)
    except (Unreadable, OSError):
        return None
