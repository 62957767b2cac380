"""Models and datasets on disks of this machine: the hub's cache, Ollama's store, folders and single files.

Reads only below the configured roots, by resolved paths, so that no link leads out of them. Files are judged by their
bytes (services.inventory.modelfiles) and never loaded. Each given path is one scope.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.filesystem.disk import Disk
from services.inventory.connectors.filesystem.hashing import Hasher, InMemoryDigests
from services.inventory.connectors.filesystem.look import Walk
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import In


class Options(In):
    """What a run over disks must and may say."""

    paths: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=4_096)]],
        Field(
            min_length=1,
            max_length=50,
            description="Absolute folders below a configured root. Each is one scope: what it no longer holds is gone.",
        ),
    ]
    hash_weights: Annotated[
        bool,
        Field(
            description="Hash weights (SHA-256), which reads them whole, and verify the blobs of the hub's cache "
            "against their names. Without it digests are known where the hub's cache or Ollama name files by them."
        ),
    ] = False
    scan_files: Annotated[
        bool, Field(description="Look for what runs when model files are loaded; nothing is loaded for that.")
    ] = True


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


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """Look through every path."""
    digests = InMemoryDigests()
    for path in dict.fromkeys(options.paths):
        allowed = _allowed(path, settings)
        name = str(allowed[0]) if allowed else path
        if harvest.is_read(name):
            continue
        async with harvest.scope(name) as scope:
            if allowed is None:
                scope.fail(path, "lies outside the configured roots")
            elif hindrance := _hindrance(allowed[0]):
                scope.fail(path, hindrance)
            else:
                await _walk(allowed[0], allowed[1], options, digests, scope)


def _hindrance(path: Path) -> str | None:
    """Why a path cannot be looked through; None when it can."""
    try:
        return None if path.is_dir() else "is not a folder"
    except OSError as error:
        return error.strerror or "cannot be read"


async def _walk(start: Path, root: Path, options: Options, digests: InMemoryDigests, scope: Scope) -> None:
    stop = threading.Event()
    disk = Disk(root)
    hasher = Hasher(disk, digests, stop) if options.hash_weights else None
    try:
        await asyncio.to_thread(Walk(disk, scope, stop, hasher, options.scan_files).run, start)
    finally:
        # A thread cannot be cancelled: when we are, it learns so and ends at its next file.
        stop.set()
        if hasher is not None:
            hasher.close()


CONNECTOR = Connector(
    source=Source.FILESYSTEM,
    title="Local and mounted disks",
    looks_for="Models and datasets in the Hugging Face cache, Ollama's store, folders and single files; their licence, "
    "lineage, digests, and what is dangerous in them.",
    permissions=("read access to the folders (INVENTORY_DISCOVERY_ROOTS)",),
    options=Options,
    check=check,
    discover=discover,
)
