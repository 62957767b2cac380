"""Which databases need their migrations run, found without starting the services.

Importing a service to learn that nothing is to be done would cost a second of CPU each, at every start. What alembic
would compare is cheap to read: the newest revisions in the folder, and the table in which it notes what was applied.
What is left to do one process does for all: `python -m deploy.local.migrations inventory=services.inventory ...`, with
the services' own environment.
"""

from __future__ import annotations

import ast
import asyncio
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from deploy.local.process import StartError


def heads(module: str) -> frozenset[str]:
    """The revisions of a service that no other follows; empty when it has no migrations."""
    folder = directory(module)
    if folder is None:
        return frozenset()
    revisions: set[str] = set()
    followed: set[str] = set()
    for path in sorted((folder / "versions").glob("*.py")):
        for name, value in _assignments(path).items():
            if name == "revision" and isinstance(value, str):
                revisions.add(value)
            if name == "down_revision" and value:
                followed.update([value] if isinstance(value, str) else value)
    return frozenset(revisions - followed)


async def applied(migration_url: str) -> frozenset[str]:
    """The revisions that alembic noted in that database; empty when it never ran there."""
    connection = await asyncpg.connect(migration_url, timeout=10)
    try:
        rows = await connection.fetch("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return frozenset()
    finally:
        await connection.close()
    return frozenset(row["version_num"] for row in rows)


def directory(module: str) -> Path | None:
    """A service's migrations folder, if it has one."""
    spec = find_spec(module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "migrations"
        if (folder / "versions").is_dir():
            return folder
    return None


def _assignments(path: Path) -> dict[str, str | tuple[str, ...] | None]:
    """The literal module-level assignments of a revision file."""
    found: dict[str, str | tuple[str, ...] | None] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
                found[target.id] = ast.literal_eval(value)
    return found


def write_revision(module: str, title: str) -> Path:
    """Compare a service's tables in code with its migrations, run on a throwaway server; returns the new revision.

    Raises:
        StartError: the service has no migrations, or the server did not start.
    """
    from deploy.local.postgres import Postgres
    from shared.migrate import new_revision, upgrade_now

    folder = directory(module)
    if folder is None:
        raise StartError(f"{module} has no migrations")
    before = set((folder / "versions").glob("*.py"))
    with tempfile.TemporaryDirectory(prefix="colonnade-") as home, Postgres(Path(home), durable=False) as server:
        upgrade_now(folder, server.url)
        asyncio.run(new_revision(folder, server.url, title))
    (written,) = set((folder / "versions").glob("*.py")) - before
    return written


def main(arguments: list[str]) -> None:
    """Migrate the named components, one after the other: alembic keeps its context in globals."""
    from shared.migrate import upgrade_now  # SQLAlchemy and alembic, which the supervisor does without

    for argument in arguments:
        name, _, module = argument.partition("=")
        folder = directory(module)
        if folder is None:
            raise StartError(f"{module} has no migrations")
        print(f"{name} is at {upgrade_now(folder, os.environ[f'{name.upper()}_MIGRATION_DATABASE_URL'])}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
