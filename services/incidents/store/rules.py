"""Emergency rules: one for an attack, whichever incident met it first.

An expired one is kept: detection keeps its rules, too, and an id that it knows already it refuses. So the generation in
the id counts on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.incidents.store.tables import emergency_rule_table
from shared.database import Tx, driver


@dataclass(frozen=True, slots=True)
class ClaimedRule:
    """A rule that an incident made, or is about to."""

    generation: int
    incident_id: UUID
    expires_at: datetime
    in_force: bool


_CLAIM = """
    INSERT INTO emergency_rule AS rule (fingerprint, generation, incident_id, claimed_at, expires_at, owner_team)
    VALUES ($1, 1, $2, $3, $4, $6)
    ON CONFLICT (fingerprint) DO UPDATE SET
        generation = rule.generation + 1, incident_id = excluded.incident_id, claimed_at = excluded.claimed_at,
        expires_at = excluded.expires_at, in_force_at = NULL, owner_team = excluded.owner_team
    WHERE rule.expires_at <= $3 OR $5
    RETURNING generation, incident_id, expires_at, in_force_at
"""
_READ = "SELECT generation, incident_id, expires_at, in_force_at FROM emergency_rule WHERE fingerprint = $1"


async def claim(
    tx: Tx, fingerprint: str, *, incident_id: UUID, owner_team: str, at: datetime, expires_at: datetime, anew: bool
) -> ClaimedRule:
    """The rule of this fingerprint as it stands, made by this incident if there is none.

    Args:
        owner_team: whose rule it counts as; empty for nobody's.
        anew: make it again even if it has not expired, for somebody asked for that.
    """
    connection = await driver(tx)
    row = await connection.fetchrow(_CLAIM, fingerprint, incident_id, at, expires_at, anew, owner_team)
    if row is None:
        row = await connection.fetchrow(_READ, fingerprint)
        assert row is not None
    return _claimed(row)


def _claimed(row: Any) -> ClaimedRule:
    incident = UUID(int=row["incident_id"].int)
    return ClaimedRule(row["generation"], incident, row["expires_at"], row["in_force_at"] is not None)


async def claimed_since(tx: Tx, owner_team: str, since: datetime) -> int:
    """How many rules incidents of this team made since then."""
    rules = emergency_rule_table.c
    recent = sa.select(sa.func.count()).where(rules.claimed_at > since, rules.owner_team == owner_team)
    return int(await tx.scalar(recent) or 0)


async def standing(tx: Tx, fingerprint: str, at: datetime) -> ClaimedRule | None:
    """The rule of this fingerprint, if one was made and has not expired."""
    connection = await driver(tx)
    row = await connection.fetchrow(_READ, fingerprint)
    return _claimed(row) if row is not None and row["expires_at"] > at else None


async def confirm(tx: Tx, rule_id: str, at: datetime) -> None:
    """Detection has the rule."""
    fingerprint, _, generation = rule_id.removeprefix("emergency_").rpartition("_")
    await tx.execute(
        emergency_rule_table.update()
        .filter_by(fingerprint=fingerprint, generation=int(generation))
        .values(in_force_at=at)
    )


async def withdraw(tx: Tx, rule_id: str, at: datetime) -> None:
    """Detection let the rule go before its time; the next attack makes it anew."""
    fingerprint, _, generation = rule_id.removeprefix("emergency_").rpartition("_")
    if generation.isdigit() and len(generation) < 9:
        rules = emergency_rule_table.c
        same = emergency_rule_table.update().filter_by(fingerprint=fingerprint, generation=int(generation))
        await tx.execute(same.where(rules.expires_at > at).values(expires_at=at, in_force_at=None))
