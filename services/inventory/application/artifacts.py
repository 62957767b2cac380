"""Denying and allowing artifacts by their digests, and telling of whom a denial reaches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

import uuid_utils.compat as uuid_utils

from services.inventory.domain.artifacts import DigestNotListed, Entry, Hit, Mode, Verdict
from services.inventory.store import artifacts as store
from services.inventory.store.artifacts import Policy
from shared import audit, outbox, tasks
from shared.auth import Caller, demand_organization
from shared.database import Tx

FOLLOW = "artifact.follow"
AT_ONCE = 200
"""Assets whose alerts go out in the transaction that denies; the rest is a task's."""
A_TRANSACTION = 1_000


async def list_digest(tx: Tx, caller: Caller, entry: Entry) -> tuple[Entry, bool]:
    """Put a digest on the list, in place of what was said of it before; True when it was not on it.

    Of a denial the first AT_ONCE assets that it reaches are announced in this transaction.
    """
    demand_organization(caller, "what is denied or allowed")
    await store.lock(tx)
    standing = await store.get(tx, entry.algorithm, entry.digest)
    put = await store.put(tx, [entry])
    if put:
        await audit.record(
            tx,
            caller,
            action=f"artifact.{entry.verdict}",
            target=f"{entry.algorithm}:{entry.digest}",
            detail={"reason": entry.reason, "reference": entry.reference, "version": put[0].version},
        )
        if standing is not None and standing.verdict is not entry.verdict:
            await store.forget_hits(tx, [(entry.algorithm, entry.digest)])
    kept = await store.get(tx, entry.algorithm, entry.digest)
    assert kept is not None
    if kept.verdict is Verdict.DENIED and await follow(tx, kept, kept.updated_at, AT_ONCE):
        await _owe(tx, kept.algorithm, kept.digest)
    return kept, standing is None


async def list_digests(tx: Tx, caller: Caller, entries: Sequence[Entry]) -> None:
    """Put many on the list; whom denials reach is told by tasks."""
    demand_organization(caller, "what is denied or allowed")
    await store.lock(tx)
    put = await store.put(tx, entries)
    if not put:
        return
    await store.forget_hits(tx, [(one.algorithm, one.digest) for one in put if one.verdict is Verdict.ALLOWED])
    for algorithm, digest in await store.held(
        tx, [(one.algorithm, one.digest) for one in put if one.verdict is Verdict.DENIED]
    ):
        await _owe(tx, algorithm, digest)
    names = sorted(f"{one.verdict}:{one.algorithm}:{one.digest}" for one in put)
    await audit.record(
        tx,
        caller,
        action="artifacts.imported",
        target=f"{len(put)} digests",
        detail={
            "first": names[0],
            "last": names[-1],
            "sha256_of_entries": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        },
    )


async def unlist_digest(tx: Tx, caller: Caller, algorithm: str, digest: str) -> None:
    """Take a digest off the list. Raises DigestNotListed."""
    demand_organization(caller, "what is denied or allowed")
    await store.lock(tx)
    if not await store.remove(tx, algorithm, digest):
        raise DigestNotListed(f"{algorithm}:{digest} is neither denied nor allowed")
    await store.forget_hits(tx, [(algorithm, digest)])
    await audit.record(tx, caller, action="artifact.unlisted", target=f"{algorithm}:{digest}", detail={})


async def end_expired(tx: Tx, at: datetime) -> None:
    """Take what has expired off the list."""
    if not await store.any_expired(tx, at):
        return
    await store.lock(tx)
    await store.forget_hits(tx, await store.remove_expired(tx, at, 500))


async def follow(tx: Tx, denial: Entry, at: datetime, limit: int) -> bool:
    """Announce the next assets that a denial reaches; True when there may be more. Holds the store's lock."""
    await store.lock(tx)
    reached, more = await store.follow(tx, denial, at, limit)
    await _announce(tx, denial, reached)
    return more


async def _announce(tx: Tx, denial: Entry, reached: Sequence[Hit]) -> None:
    if reached:
        await outbox.add(tx, *(hit.event(denial) for hit in reached))


async def _owe(tx: Tx, algorithm: str, digest: str) -> None:
    payload = {"algorithm": algorithm, "digest": digest}
    await tasks.add(tx, kind=FOLLOW, key=str(uuid_utils.uuid7()), payload=payload)


async def set_policy(tx: Tx, caller: Caller, team: str, mode: Mode, at: datetime) -> Policy:
    """Say whether a team's production models have to be on the allow-list; of team "" everybody's."""
    demand_organization(caller, "the allow-list")
    standing = next((one for one in await store.policies(tx) if one.team == team), None)
    policy = Policy(team, mode, 1 if standing is None else standing.version + 1, at, caller.subject)
    await store.put_policy(tx, policy)
    await audit.record(
        tx,
        caller,
        action="artifact_policy.set",
        target=team or "organisation",
        detail={"mode": mode.value, "before": None if standing is None else standing.mode.value},
        owner_team=team,
    )
    return policy
