"""Hugging Face models in folders and hub caches of this machine.

Reads only below the configured roots, by resolved paths, so that no link leads out of them. Models are recognised by
their config.json and never loaded.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jiter
from pydantic import Field, StringConstraints

from services.inventory.domain.asset import Digest
from services.inventory.domain.discovery import Findings, huggingface_folder, is_model_config
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import In

CONFIG_LIMIT_BYTES = 1_048_576
DIGESTS_LIMIT = 200
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".keras", ".pkl", ".joblib")
_BLOB = re.compile(r"[0-9a-f]{64}")
_SKIPPED = frozenset({".git", "node_modules", "__pycache__", "proc", "sys"})


class Options(In):
    paths: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=4_096)]], Field(min_length=1, max_length=50)
    ]


def check(options: Options, settings: InventorySettings) -> None:
    """Raises Invalid for a path that is not absolute or not below a configured root."""
    for position, path in enumerate(options.paths):
        if not Path(path).is_absolute() or _allowed(path, settings) is None:
            raise Invalid(
                "only absolute paths below the configured discovery roots are read",
                field=f"/options/paths/{position}",
            )


def _allowed(path: str, settings: InventorySettings) -> tuple[Path, Path] | None:
    """The path and the root it lies below, both free of links; None when it lies below none."""
    try:
        resolved = Path(path).resolve()
        roots = [root.resolve() for root in settings.discovery_roots]
    except (OSError, RuntimeError, ValueError):
        return None
    return next(((resolved, root) for root in roots if resolved.is_relative_to(root)), None)


async def discover(options: Options, settings: InventorySettings) -> Findings:
    """Every folder with a model's config.json below the given paths."""
    findings = Findings()
    stop = threading.Event()
    try:
        await asyncio.to_thread(_walk, options, settings, findings, stop)
    finally:
        # A thread cannot be cancelled: when we are, it learns so and ends at its next folder.
        stop.set()
    return findings


def _walk(options: Options, settings: InventorySettings, findings: Findings, stop: threading.Event) -> None:
    for path in options.paths:
        allowed = _allowed(path, settings)
        if allowed is None:
            findings.fail(path, "lies outside the configured roots")
            continue
        start, root = allowed
        if not start.is_dir():
            findings.fail(path, "is not a folder")
            continue
        problems_before = len(findings.problems)
        if not _walk_one(start, root, settings.discovery_entries_limit, findings, stop):
            return
        if len(findings.problems) == problems_before:
            findings.complete.append(str(start))


def _walk_one(start: Path, root: Path, limit: int, findings: Findings, stop: threading.Event) -> bool:
    """Look through one path; False when the whole run shall end."""

    def unreadable(error: OSError) -> None:
        findings.fail(str(error.filename), error.strerror or "cannot be read")

    for folder, folders, files in os.walk(start, onerror=unreadable):
        if stop.is_set():
            return False
        if len(findings.found) >= limit:
            findings.fail(str(start), f"stopped at {limit} entries")
            return False
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        if "config.json" in files:
            _look_at(Path(folder), root, files, str(start), findings)
    return True


def _look_at(folder: Path, root: Path, files: Sequence[str], scope: str, findings: Findings) -> None:
    weights = sorted(name for name in files if name.lower().endswith(_WEIGHTS))
    try:
        str(folder).encode()
        config = _read_config(folder / "config.json", root)
    except UnicodeEncodeError:
        findings.fail(repr(str(folder)), "the folder's name is not UTF-8")
    except OSError as error:
        findings.fail(str(folder / "config.json"), error.strerror or "cannot be read")
    except ValueError as error:
        # Many tools keep a config.json that is none of ours; beside weights it should have been a model's.
        if weights:
            findings.fail(str(folder / "config.json"), error)
    else:
        if is_model_config(config):
            findings.add(scope, huggingface_folder(folder, config, _digests(folder, root, weights)))


def _read_config(path: Path, root: Path) -> Any:
    """The parsed file.

    Raises:
        OSError: it cannot be read.
        ValueError: it leads out of the root, is too large, or is no JSON.
    """
    resolved = path.resolve(strict=True)
    if not resolved.is_relative_to(root):
        raise ValueError("a link leads out of the configured root")
    if not resolved.is_file():
        raise ValueError("is no regular file")
    # The resolved path has no links; should one be put there in this moment, opening it fails.
    with os.fdopen(os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        text = file.read(CONFIG_LIMIT_BYTES + 1)
    if len(text) > CONFIG_LIMIT_BYTES:
        raise ValueError(f"is larger than {CONFIG_LIMIT_BYTES} bytes")
    return jiter.from_json(text)


def _digests(folder: Path, root: Path, weights: Sequence[str]) -> list[Digest]:
    """SHA-256 of weights in a hub cache, where links point to blobs named by it; elsewhere nothing is hashed."""
    digests = []
    for name in weights[:DIGESTS_LIMIT]:
        path = folder / name
        if path.is_symlink():
            target = path.resolve()
            if target.is_relative_to(root) and target.parent.name == "blobs" and _BLOB.fullmatch(target.name):
                digests.append(Digest(name, "sha256", target.name))
    return digests
