"""The organisation's own versions of playbooks."""

from __future__ import annotations

from datetime import datetime

from services.incidents.domain.playbooks import Playbook
from services.incidents.store import playbooks as store
from services.incidents.store.playbooks import StoredPlaybook
from shared import audit
from shared.auth import Caller, demand_organization
from shared.database import Tx
from shared.http import check_version


async def replace(
    tx: Tx, caller: Caller, playbook: Playbook, expected_version: int | None, at: datetime
) -> StoredPlaybook:
    """Put a new version in force, for incidents that open from now on; those that are open keep their steps.

    Raises:
        Forbidden: the caller is bound to teams, and a playbook is everybody's.
        PreconditionFailed: somebody else wrote a version in the meantime.
    """
    demand_organization(caller, "a playbook")
    await store.lock(tx)
    current = await store.current(tx, playbook.category)
    check_version(current.version, expected_version)
    if playbook == current.playbook:
        return current
    stored = StoredPlaybook(playbook, current.version + 1, caller.subject, at)
    await store.add(tx, stored)
    await audit.record(
        tx,
        caller,
        action="playbook.replaced",
        target=playbook.category,
        detail={"version": stored.version, "steps": len(playbook.steps)},
    )
    return stored
