"""Versions of the scoring model, and how far the portfolio is scored with each.

Version 1 is in the code and has no row: it needs no scoring again, and replay starts from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
import sqlalchemy as sa
from pydantic import TypeAdapter

from services.risk.domain.model import DEFAULT_MODEL, ScoringModel
from services.risk.store.tables import model_version, portfolio_cell
from shared.database import Tx

RUNNING: Final = "running"
COMPLETED: Final = "completed"
SUPERSEDED: Final = "superseded"

_MODEL: Final = TypeAdapter(ScoringModel)


def as_document(model: ScoringModel) -> dict[str, Any]:
    """The model as JSON; decimals become strings, so that none loses a digit."""
    document: dict[str, Any] = _MODEL.dump_python(model, mode="json")
    return document


def as_numbers(model: ScoringModel) -> dict[str, Any]:
    """The model as JSON with plain numbers, for people and their tools; six decimal places pass through a float."""
    numbers: dict[str, Any] = _floats(_MODEL.dump_python(model))
    return numbers


def _floats(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _floats(entry) for key, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


def from_document(document: dict[str, Any]) -> ScoringModel:
    """The model that `as_document` wrote, or one with plain numbers."""
    return _read(orjson.dumps(document))


@lru_cache(maxsize=16)
def _read(document: bytes) -> ScoringModel:
    return _MODEL.validate_json(document)


@dataclass(frozen=True, slots=True)
class Rescore:
    """Scoring the portfolio again with one version.

    Attributes:
        status: running, completed, or superseded by a newer version before it was done.
        after: the last asset done, in order of ids.
    """

    status: str
    total: int
    done: int
    after: UUID | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version with its story; `changed_at` and `rescore` are None for version 1, which was always there."""

    model: ScoringModel
    note: str
    changed_by: str
    changed_at: datetime | None
    rescore: Rescore | None


FIRST: Final = ModelVersion(DEFAULT_MODEL, "The specification's model", "colonnade", None, None)


def _version(row: Any) -> ModelVersion:
    return ModelVersion(
        model=from_document(row.model),
        note=row.note,
        changed_by=row.changed_by,
        changed_at=row.changed_at,
        rescore=Rescore(
            row.rescore_status, row.rescore_total, row.rescore_done, row.rescore_after, row.rescore_finished_at
        ),
    )


async def current(tx: Tx) -> ModelVersion:
    """The version in force."""
    row = (await tx.execute(sa.select(model_version).order_by(model_version.c.version.desc()).limit(1))).first()
    return _version(row) if row is not None else FIRST


async def page(tx: Tx, *, before: int | None, limit: int) -> list[ModelVersion]:
    """Versions below `before`, newest first."""
    newest_first = sa.select(model_version).order_by(model_version.c.version.desc()).limit(limit)
    if before is not None:
        newest_first = newest_first.where(model_version.c.version < before)
    found = [_version(row) for row in await tx.execute(newest_first)]
    if len(found) < limit and (before is None or before > FIRST.model.version):
        found.append(FIRST)
    return found


async def add(tx: Tx, model: ScoringModel, *, note: str, changed_by: str, changed_at: datetime) -> None:
    """Put a version in force, with the whole portfolio still to be scored with it."""
    await tx.execute(
        model_version.update()
        .where(model_version.c.rescore_status == RUNNING)
        .values(rescore_status=SUPERSEDED, rescore_finished_at=changed_at)
    )
    total = await tx.scalar(sa.select(sa.func.coalesce(sa.func.sum(portfolio_cell.c.assets), 0)))
    await tx.execute(
        model_version.insert().values(
            version=model.version,
            model=as_document(model),
            note=note,
            changed_by=changed_by,
            changed_at=changed_at,
            rescore_status=RUNNING,
            rescore_total=int(total or 0),
            rescore_done=0,
        )
    )


async def advance(tx: Tx, version: int, *, after: UUID | None, passed: int, finished_at: datetime | None) -> None:
    """Record progress: `passed` more assets up to `after`; done when `finished_at` is given.

    Assets registered meanwhile are passed too and were never counted, hence the bound.
    """
    table = model_version.c
    changes: dict[str, Any] = {"rescore_done": sa.func.least(table.rescore_total, table.rescore_done + passed)}
    if finished_at is not None:
        changes = {
            "rescore_done": table.rescore_total,
            "rescore_status": COMPLETED,
            "rescore_finished_at": finished_at,
        }
    if after is not None:
        changes["rescore_after"] = after
    await tx.execute(model_version.update().where(table.version == version).values(**changes))
