"""Policies and their versions."""

from __future__ import annotations

from datetime import datetime

from services.governance.application import charter, reviews
from services.governance.application.actors import GOVERNANCE
from services.governance.domain.library import check_policy
from services.governance.domain.policies import PolicyStatus, PolicyText, PolicyVersion
from services.governance.shipped import library
from services.governance.store import policies as store
from services.governance.store.policies import Policy
from shared import audit, outbox
from shared.auth import demand_organization
from shared.database import Tx
from shared.errors import Conflict
from shared.http import check_version
from shared.tokens import Caller

SHIPPED_AUTHOR = "library"
"""Author of the texts that come with Colonnade: nobody, so that anybody entitled may approve them."""


class DraftExists(Conflict):
    """A draft of this policy exists already; change that."""


async def offer_shipped(tx: Tx, at: datetime) -> int:
    """Put those of the shipped policies that are not there yet up as drafts; returns how many.

    Drafts, because a policy is in force when somebody of the organisation has approved it, not when we ship it.
    """
    missing = [policy for policy in library().policies.values() if policy.id not in await store.ids(tx)]
    for policy in missing:
        text = PolicyText.model_validate(policy.model_dump(exclude={"id"}))
        await store.add(tx, _first(policy.id, text, SHIPPED_AUTHOR, "As shipped with Colonnade.", at))
        await audit.record(tx, GOVERNANCE, action="policy.offered", target=policy.id)
    return len(missing)


def _first(policy_id: str, text: PolicyText, author: str, change_note: str, at: datetime) -> PolicyVersion:
    return PolicyVersion(policy_id, 1, 1, PolicyStatus.DRAFT, text, (author,), change_note, at, at)


async def create(tx: Tx, caller: Caller, policy_id: str, text: PolicyText, change_note: str, at: datetime) -> Policy:
    """Write a new policy, as a draft.

    Raises:
        Invalid: it names ids or roles that do not exist.
        PolicyExists: the id is taken.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "a policy")
    check_policy(text, library(), (await charter.raci(tx)).document)
    first = _first(policy_id, text, caller.subject, change_note, at)
    await store.add(tx, first)
    await audit.record(tx, caller, action="policy.drafted", target=policy_id, detail={"number": 1})
    return Policy(policy_id, first, None, at)


async def draft(
    tx: Tx, caller: Caller, policy_id: str, text: PolicyText | None, change_note: str, at: datetime
) -> PolicyVersion:
    """Begin the next version of a policy, from `text` or from a copy of its latest version.

    Raises:
        PolicyNotFound: there is no such policy.
        DraftExists: the latest version is not decided yet.
        Invalid: the text names ids or roles that do not exist.
        Forbidden: the caller is bound to teams.
    """
    demand_organization(caller, "a policy")
    latest, _in_force = await store.lock(tx, policy_id)
    before = await store.get_version(tx, policy_id, latest)
    if before.status in (PolicyStatus.DRAFT, PolicyStatus.IN_REVIEW):
        raise DraftExists(f"version {latest} is {before.status}", number=latest)
    if text is not None:
        check_policy(text, library(), (await charter.raci(tx)).document)
    number = latest + 1
    version = PolicyVersion(
        policy_id, number, 1, PolicyStatus.DRAFT, text or before.text, (caller.subject,), change_note, at, at
    )
    await store.add_version(tx, version)
    await audit.record(tx, caller, action="policy.drafted", target=policy_id, detail={"number": number})
    return version


async def _current(tx: Tx, caller: Caller, policy_id: str, number: int, expected: int | None) -> PolicyVersion:
    demand_organization(caller, "a policy")
    await store.lock(tx, policy_id)
    version = await store.get_version(tx, policy_id, number)
    check_version(version.version, expected)
    return version


async def _save(tx: Tx, caller: Caller, action: str, version: PolicyVersion) -> PolicyVersion:
    await store.save_version(tx, version)
    await audit.record(tx, caller, action=action, target=version.policy_id, detail={"number": version.number})
    return version


async def revise(
    tx: Tx,
    caller: Caller,
    policy_id: str,
    number: int,
    expected: int | None,
    text: PolicyText,
    change_note: str | None,
    at: datetime,
) -> PolicyVersion:
    """Replace the text of a draft.

    Raises:
        PolicyNotFound: there is no such policy or version.
        PreconditionFailed: it was changed in the meantime.
        NotInStatus: it is no draft.
        Invalid: the text names ids or roles that do not exist.
        Forbidden: the caller is bound to teams.
    """
    version = await _current(tx, caller, policy_id, number, expected)
    check_policy(text, library(), (await charter.raci(tx)).document)
    return await _save(tx, caller, "policy.revised", version.revised(text, change_note, by=caller.subject, at=at))


async def submit(
    tx: Tx, caller: Caller, policy_id: str, number: int, expected: int | None, at: datetime
) -> PolicyVersion:
    """Put a draft up for approval.

    Raises:
        PolicyNotFound: there is no such policy or version.
        PreconditionFailed: it was changed in the meantime.
        NotInStatus: it is no draft.
        AnotherInReview: another version is in review.
        Forbidden: the caller is bound to teams.
    """
    version = await _current(tx, caller, policy_id, number, expected)
    return await _save(tx, caller, "policy.submitted", version.submitted(by=caller.subject, at=at))


async def send_back(
    tx: Tx, caller: Caller, policy_id: str, number: int, expected: int | None, note: str, at: datetime
) -> PolicyVersion:
    """Make a version in review a draft again.

    Raises:
        PolicyNotFound: there is no such policy or version.
        PreconditionFailed: it was changed in the meantime.
        NotInStatus: it is not in review.
        Forbidden: the caller is bound to teams.
    """
    version = await _current(tx, caller, policy_id, number, expected)
    return await _save(tx, caller, "policy.sent_back", version.sent_back(by=caller.subject, at=at, note=note))


async def approve(
    tx: Tx, caller: Caller, policy_id: str, number: int, expected: int | None, note: str, at: datetime
) -> PolicyVersion:
    """Put a version in force in place of the one before.

    Raises:
        PolicyNotFound: there is no such policy or version.
        PreconditionFailed: it was changed in the meantime.
        NotInStatus, OwnVersion, Overtaken: see `PolicyVersion.approved`.
        Forbidden: the caller is bound to teams.
    """
    version = await _current(tx, caller, policy_id, number, expected)
    _latest, in_force = await store.lock(tx, policy_id)
    approved = version.approved(by=caller.subject, at=at, note=note, in_force=in_force)
    if in_force is not None:
        await store.save_version(tx, (await store.get_version(tx, policy_id, in_force)).superseded(at))
    await _save(tx, caller, "policy.approved", approved)
    event = approved.approval()
    await outbox.add(tx, event)
    await reviews.follow_policy(tx, policy_id, number, approved.next_review(at.date()), caller.subject, at)
    return approved
