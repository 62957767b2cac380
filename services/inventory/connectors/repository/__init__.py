"""AI in source repositories and configuration folders of this machine: code, dependencies, agents, MCP, prompts,
guardrails and credentials, each with the line that says so.

Files are read as text and parsed, never run or imported, and nothing is asked over a network. docs/discovery/
repositories.md says what is recognised and what is not.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest
from services.inventory.connectors.paths import Paths, allowed, check_paths
from services.inventory.connectors.repository import reading, walk
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.models import In

AT_ONCE = 2
"""Repositories that are read side by side."""


class Options(In):
    paths: Annotated[
        Paths,
        Field(
            description="Absolute paths of repositories, of folders that hold repositories, or of folders with "
            "configurations, all below the configured discovery roots. Each repository is a scope of its own."
        ),
    ]


def check(options: Options, settings: InventorySettings) -> None:
    """Raises Invalid for a path that this service does not read."""
    check_paths(options.paths, settings)


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """Every repository at or below the given paths, each a scope by its folder."""
    stop = threading.Event()
    at_once = asyncio.Semaphore(AT_ONCE)
    known: set[Path] = set()
    try:
        for path in options.paths:
            place = allowed(path, settings)
            if place is None:
                harvest.fail(path, "lies outside the configured roots")
                continue
            start, root = place
            if not start.is_dir():
                async with harvest.scope(str(start)) as scope:
                    scope.fail(path, "is not a folder")
                continue
            folders, failures = await asyncio.to_thread(walk.repositories, start, stop.is_set)
            for where, error in failures:
                harvest.fail(where, error)
            nested = frozenset(folders)
            new = [folder for folder in folders if folder not in known and not harvest.is_read(str(folder))]
            known.update(folders)
            async with asyncio.TaskGroup() as group:
                for folder in new:
                    group.create_task(_one(folder, root, nested, harvest, at_once, stop))
    finally:
        # A thread cannot be cancelled: when we are, it learns so and ends at its next file.
        stop.set()


async def _one(
    folder: Path,
    root: Path,
    nested: frozenset[Path],
    harvest: Harvest,
    at_once: asyncio.Semaphore,
    stop: threading.Event,
) -> None:
    async with at_once, harvest.scope(str(folder)) as scope:
        found, failures, left_out = await asyncio.to_thread(reading.repository, folder, root, nested, stop.is_set)
        for where, error in failures:
            scope.fail(where, error)
        for where, error in left_out:
            # What is left out by its size is left out in every run: the scope is no less complete for it.
            harvest.fail(where, error)
        for entry in found:
            await scope.add(entry)


CONNECTOR = Connector(
    source=Source.REPOSITORY,
    title="Source repositories and configuration folders",
    looks_for="AI libraries and models in code, agent definitions, MCP servers, prompts, guardrails, vector stores and "
    "exposed credentials (by reference), each with its file and line",
    permissions=("read access to the folders below the configured discovery roots",),
    options=Options,
    check=check,
    discover=discover,
)
