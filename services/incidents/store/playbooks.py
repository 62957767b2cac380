"""Playbooks: those that come with the service, and the organisation's own versions of them in the database.

What comes with the service is version 1 of its category, read from playbooks/*.yaml; a file that is not valid keeps
the service from starting. A PUT writes version 2 and so on. So nothing has to be copied into a database before the
first incident, and a release improves what nobody has made their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
import yaml
from sqlalchemy.dialects.postgresql import distinct_on

from services.incidents.domain.playbooks import Playbook, PlaybookRefused, UnknownPlaybook, parse
from services.incidents.store.tables import playbook_table
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx, driver

DIRECTORY = Path(__file__).parents[1] / "playbooks"
BUILT_IN = "built-in"
BUILT_IN_AT = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredPlaybook:
    """A version of a playbook, and who wrote it when."""

    playbook: Playbook
    version: int
    author: str
    created_at: datetime


@cache
def built_in() -> dict[IncidentCategory, StoredPlaybook]:
    """The playbooks that come with the service, one a category.

    Raises:
        PlaybookRefused: a file is not a valid playbook, or not the one of its name; the message names it.
    """
    found = {}
    for path in sorted(DIRECTORY.glob("*.yaml")):
        try:
            playbook = parse(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (PlaybookRefused, yaml.YAMLError) as error:
            raise PlaybookRefused(f"{path.name}: {error}") from error
        if playbook.category != path.stem:
            raise PlaybookRefused(f"{path.name} holds the playbook of {playbook.category}")
        found[playbook.category] = StoredPlaybook(playbook, 1, BUILT_IN, BUILT_IN_AT)
    return found


# A version never changes once written, so what was parsed once is good for ever.
_parsed: dict[tuple[str, int, datetime], Playbook] = {}


def _stored(row: Any) -> StoredPlaybook:
    key = (row["category"], row["version"], row["created_at"])
    playbook = _parsed.get(key)
    if playbook is None:
        document = row["document"]
        playbook = _parsed[key] = parse(orjson.loads(document) if isinstance(document, str) else document)
    return StoredPlaybook(playbook, row["version"], row["author"], row["created_at"])


_NEWEST = (
    sa.select(playbook_table)
    .ext(distinct_on(playbook_table.c.category))
    .order_by(playbook_table.c.category, playbook_table.c.version.desc())
)


_CURRENT = """
    SELECT category, version, document, author, created_at FROM playbook
    WHERE category = $1 ORDER BY version DESC LIMIT 1
"""


async def current(tx: Tx, category: IncidentCategory | str) -> StoredPlaybook:
    """The version in force.

    Raises:
        UnknownPlaybook: that is no category.
    """
    connection = await driver(tx)
    row = await connection.fetchrow(_CURRENT, str(category))
    if row is not None:
        return _stored(row)
    try:
        return built_in()[IncidentCategory(category)]
    except (KeyError, ValueError) as error:
        raise UnknownPlaybook(f"there is no playbook for {category}") from error


async def all_current(tx: Tx) -> list[StoredPlaybook]:
    """The version in force of each category, by category."""
    own = {row.category: _stored(row._mapping) for row in await tx.execute(_NEWEST)}
    return [own.get(category, stored) for category, stored in sorted(built_in().items())]


async def add(tx: Tx, stored: StoredPlaybook) -> None:
    await tx.execute(
        playbook_table.insert().values(
            category=stored.playbook.category,
            version=stored.version,
            document=stored.playbook.document(),
            author=stored.author,
            created_at=stored.created_at,
        )
    )


async def lock(tx: Tx) -> None:
    """Let one at a time write playbooks."""
    await tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("playbooks"))))
