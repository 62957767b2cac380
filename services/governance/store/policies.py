"""Policies with their versions, and the charter: RACI matrix and risk appetite."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import sqlalchemy as sa
import sqlalchemy.exc
from sqlalchemy.dialects.postgresql import insert

from services.governance.domain.policies import (
    AnotherInReview,
    PolicyExists,
    PolicyNotFound,
    PolicyStatus,
    PolicyText,
    PolicyVersion,
)
from services.governance.store.schema import charter_table, fields, policy_table, policy_version_table
from shared.database import Tx, cause_of
from shared.errors import PreconditionFailed
from shared.paging import PageRequest

_policy = policy_table.c
_version = policy_version_table.c


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: its latest version, and which one is in force."""

    policy_id: str
    latest: PolicyVersion
    in_force: int | None
    created_at: datetime


def _version_of(row: Any) -> PolicyVersion:
    values = {name: getattr(row, name) for name in PolicyVersion.__slots__}
    values["status"] = PolicyStatus(row.status)
    values["text"] = PolicyText.model_validate(row.text)
    values["authors"] = tuple(row.authors)
    return PolicyVersion(**values)


def _values(version: PolicyVersion) -> dict[str, Any]:
    return fields(version) | {"text": version.text.model_dump(mode="json")}


_LATEST = (_version.policy_id == _policy.policy_id) & (_version.number == _policy.latest)
_POLICIES = sa.select(
    policy_version_table, _policy.in_force, _policy.created_at.label("policy_created_at")
).select_from(policy_table.join(policy_version_table, _LATEST))


def _policy_of(row: Any) -> Policy:
    return Policy(row.policy_id, _version_of(row), row.in_force, row.policy_created_at)


async def add(tx: Tx, first: PolicyVersion) -> None:
    """Store a new policy with its first version.

    Raises:
        PolicyExists: the id is taken.
    """
    stmt = insert(policy_table).values(policy_id=first.policy_id, latest=1, created_at=first.created_at)
    if (await tx.execute(stmt.on_conflict_do_nothing().returning(_policy.policy_id))).first() is None:
        raise PolicyExists(f"there is a policy {first.policy_id!r} already")
    await tx.execute(policy_version_table.insert().values(_values(first)))


async def ids(tx: Tx) -> set[str]:
    return set(await tx.scalars(sa.select(_policy.policy_id)))


async def lock(tx: Tx, policy_id: str) -> tuple[int, int | None]:
    """Hold the policy until the transaction ends; gives its latest version's number, and the one in force.

    Raises:
        PolicyNotFound: there is none of that id.
    """
    row = (await tx.execute(sa.select(policy_table).filter_by(policy_id=policy_id).with_for_update())).first()
    if row is None:
        raise PolicyNotFound(f"there is no policy {policy_id!r}")
    return row.latest, row.in_force


async def get(tx: Tx, policy_id: str) -> Policy:
    """A policy.

    Raises:
        PolicyNotFound: there is none of that id.
    """
    row = (await tx.execute(_POLICIES.where(_policy.policy_id == policy_id))).first()
    if row is None:
        raise PolicyNotFound(f"there is no policy {policy_id!r}")
    return _policy_of(row)


async def get_version(tx: Tx, policy_id: str, number: int) -> PolicyVersion:
    """One version of a policy.

    Raises:
        PolicyNotFound: there is no such policy or version.
    """
    row = (await tx.execute(sa.select(policy_version_table).filter_by(policy_id=policy_id, number=number))).first()
    if row is None:
        raise PolicyNotFound(f"there is no version {number} of a policy {policy_id!r}")
    return _version_of(row)


async def add_version(tx: Tx, version: PolicyVersion) -> None:
    await tx.execute(policy_version_table.insert().values(_values(version)))
    await tx.execute(policy_table.update().filter_by(policy_id=version.policy_id).values(latest=version.number))


async def save_version(tx: Tx, version: PolicyVersion) -> None:
    """Store a changed version, and with it which one is in force.

    Raises:
        AnotherInReview: it would be the second in review.
    """
    stmt = policy_version_table.update().filter_by(policy_id=version.policy_id, number=version.number)
    try:
        await tx.execute(stmt.values(_values(version)))
    except sqlalchemy.exc.IntegrityError as error:
        cause = cause_of(error)
        if isinstance(cause, asyncpg.UniqueViolationError) and cause.constraint_name == "policy_in_review":
            raise AnotherInReview(f"another version of {version.policy_id!r} is in review") from error
        raise
    if version.status is PolicyStatus.APPROVED:
        stmt = policy_table.update().filter_by(policy_id=version.policy_id)
        await tx.execute(stmt.values(in_force=version.number))


async def page(
    tx: Tx, page: PageRequest, *, status: PolicyStatus | None = None, owner_role: str | None = None
) -> list[Policy]:
    """Policies by id, with their latest version; one more than the page holds."""
    stmt = _POLICIES
    if status is not None:
        stmt = stmt.where(_version.status == status)
    if owner_role is not None:
        stmt = stmt.where(_version.text["owner_role"].astext == owner_role)
    if page.after is not None:
        stmt = stmt.where(_policy.policy_id > page.after[0])
    return [_policy_of(row) for row in await tx.execute(stmt.order_by(_policy.policy_id).limit(page.limit + 1))]


async def page_versions(tx: Tx, policy_id: str, page: PageRequest) -> list[PolicyVersion]:
    """Versions of a policy, newest first; one more than the page holds.

    Raises:
        PolicyNotFound: there is no such policy.
    """
    if policy_id not in await ids(tx):
        raise PolicyNotFound(f"there is no policy {policy_id!r}")
    stmt = sa.select(policy_version_table).filter_by(policy_id=policy_id)
    if page.after is not None:
        stmt = stmt.where(_version.number < page.after[0])
    return [_version_of(row) for row in await tx.execute(stmt.order_by(_version.number.desc()).limit(page.limit + 1))]


# -- charter -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CharterEntry:
    """The newest version of a charter document, as JSON."""

    version: int
    body: Any
    changed_by: str
    changed_at: datetime


async def charter(tx: Tx, name: str) -> CharterEntry | None:
    """The document in force; None while the shipped one is."""
    stmt = sa.select(charter_table).filter_by(name=name).order_by(charter_table.c.version.desc()).limit(1)
    row = (await tx.execute(stmt)).first()
    return None if row is None else CharterEntry(row.version, row.body, row.changed_by, row.changed_at)


async def add_charter(tx: Tx, name: str, entry: CharterEntry) -> None:
    """Put a new version in force.

    Raises:
        PreconditionFailed: somebody else did so in the meantime.
    """
    stmt = insert(charter_table).values(fields(entry) | {"name": name}).on_conflict_do_nothing()
    if (await tx.execute(stmt.returning(charter_table.c.version))).first() is None:
        raise PreconditionFailed("it was changed at the same moment; read it again")
