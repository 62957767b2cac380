"""Models and datasets on disks of this machine: the hub's cache, Ollama's store, folders and single files.

Reads only below the configured roots, by resolved paths, so that no link leads out of them. Files are judged by their
bytes (services.inventory.modelfiles) and never loaded. Each given path is one scope.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.filesystem.disk import Disk
from services.inventory.connectors.filesystem.hashing import Hasher, InMemoryDigests
from services.inventory.connectors.filesystem.look import Walk
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.connectors.paths import Paths, allowed, check_paths
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.models import In


class Options(In):
    """What a run over disks must and may say."""

    paths: Annotated[
        Paths,
        Field(
            description="Absolute folders below a configured root. Each is one scope: what it no longer holds is gone."
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
    """Raises Invalid for a path that this service does not read."""
    check_paths(options.paths, settings)


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """Look through every path."""
    digests = InMemoryDigests()
    for path in dict.fromkeys(options.paths):
        place = allowed(path, settings)
        name = str(place[0]) if place else path
        if harvest.is_read(name):
            continue
        async with harvest.scope(name) as scope:
            if place is None:
                scope.fail(path, "lies outside the configured roots")
            elif hindrance := _hindrance(place[0]):
                scope.fail(path, hindrance)
            else:
                await _walk(*place, options, digests, scope)


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
