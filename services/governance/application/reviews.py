"""Reviews that are owed: how they come to be, and how they end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date, datetime, timedelta
from uuid import UUID

from services.governance.application import charter
from services.governance.application.actors import new_id
from services.governance.application.fields import named
from services.governance.domain.controls import DeploymentStatus, Evidence
from services.governance.domain.documents import DoesNotFit, demand_near
from services.governance.domain.reviews import (
    CompletedElsewhere,
    Review,
    ReviewKind,
    ReviewOpen,
    ReviewStatus,
    asset_review_due,
)
from services.governance.store import assets, policies
from services.governance.store import controls as control_store
from services.governance.store import reviews as store
from services.governance.store.controls import KnownDeployment
from services.governance.store.reviews import KnownReview
from shared import audit, outbox
from shared.auth import demand_organization
from shared.contracts.inventory import Lifecycle
from shared.database import Tx
from shared.errors import Invalid
from shared.http import check_version
from shared.tokens import Caller


def _new(
    kind: ReviewKind, target: str, due_on: date, at: datetime, *, asset_id: UUID | None = None, note: str = ""
) -> Review:
    return Review(
        review_id=new_id(),
        version=1,
        kind=kind,
        target=target,
        asset_id=asset_id,
        status=ReviewStatus.DUE,
        due_on=due_on,
        note=note,
        created_at=at,
        updated_at=at,
    )


async def _add(tx: Tx, reviews: Iterable[tuple[Review, str]]) -> int:
    """Store and announce new reviews, each with its owner team; what is owed already is left as it is."""
    wanted = list(reviews)
    stored = await store.add(tx, [review for review, _team in wanted])
    await outbox.add(tx, *(review.event(team) for review, team in wanted if review.review_id in stored))
    return len(stored)


async def _save(tx: Tx, review: Review, owner_team: str) -> None:
    await store.save(tx, review)
    await outbox.add(tx, review.event(owner_team))


# -- over the API ------------------------------------------------------------------------------------------------------


async def schedule(
    tx: Tx, caller: Caller, kind: ReviewKind, target: str, due_on: date, note: str, at: datetime
) -> KnownReview:
    """Owe a review that would not be owed by itself, or not yet.

    Raises:
        NotFound: the target does not exist, or is not the caller's to see.
        Invalid: the target's id is malformed.
        DoesNotFit: the day has passed, or is years away.
        ReviewOpen: one is owed already.
    """
    demand_near(due_on, at.date(), "/due_on")
    if due_on < at.date():
        raise DoesNotFit("the day has passed", field="/due_on")
    asset_id, owner_team = None, ""
    if kind is ReviewKind.POLICY:
        demand_organization(caller, "the review of a policy")
        with named("/target"):
            await policies.get(tx, target)
    elif kind is ReviewKind.ASSET_SECURITY:
        with named("/target"):
            asset = await assets.get(tx, caller, _uuid(target), hold=True)
        asset.demand_active()
        asset_id, owner_team, target = asset.asset_id, asset.owner_team, str(asset.asset_id)
    else:
        with named("/target"):
            known = await control_store.get_deployment(tx, caller, _uuid(target), lock=True)
        asset_id, owner_team, target = known.deployment.asset_id, known.owner_team, str(known.deployment_id)
    review = _new(kind, target, due_on, at, asset_id=asset_id, note=note)
    if await _add(tx, [(review, owner_team)]) == 0:
        (twin,) = await store.due_for(tx, kind, [target])
        raise ReviewOpen(f"a review of {target} is due on {twin.due_on}", review_id=str(twin.review_id))
    await audit.record(
        tx,
        caller,
        action="review.scheduled",
        target=str(review.review_id),
        detail={"kind": kind, "target": target, "due_on": str(due_on)},
        owner_team=owner_team,
    )
    return KnownReview(review, owner_team)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not the id of an asset or deployment", field="/target") from error


async def reschedule(
    tx: Tx,
    caller: Caller,
    review_id: UUID,
    expected: int | None,
    due_on: date | None,
    note: str | None,
    at: datetime,
) -> KnownReview:
    """Give a review that is due another day or note.

    Raises:
        ReviewNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        ReviewClosed: it is not due any more.
    """
    known = await store.get(tx, caller, review_id, lock=True)
    check_version(known.review.version, expected)
    if due_on is None and note is None:
        return known
    if due_on is not None:
        demand_near(due_on, at.date(), "/due_on")
    changed = known.review.rescheduled(due_on, note, at)
    await _save(tx, changed, known.owner_team)
    await audit.record(
        tx,
        caller,
        action="review.rescheduled",
        target=str(review_id),
        detail={"from": str(known.due_on), "to": str(changed.due_on)},
        owner_team=known.owner_team,
    )
    return KnownReview(changed, known.owner_team)


async def complete(
    tx: Tx, caller: Caller, review_id: UUID, expected: int | None, outcome: str, at: datetime
) -> KnownReview:
    """Complete the review of a policy: it stays in force, and the next review is owed a cycle later.

    Raises:
        ReviewNotFound: there is none, or none that the caller may see.
        PreconditionFailed: it was changed in the meantime.
        CompletedElsewhere: it is a review of an asset or of evidence.
        ReviewClosed: it is not due any more.
    """
    known = await store.get(tx, caller, review_id, lock=True)
    check_version(known.review.version, expected)
    review = known.review
    if review.kind is ReviewKind.ASSET_SECURITY:
        raise CompletedElsewhere(f"record the review with POST /v1/assets/{review.target}/reviews")
    if review.kind is ReviewKind.EVIDENCE:
        raise CompletedElsewhere(f"add evidence with PATCH /v1/governance/control-deployments/{review.target}")
    done = review.completed(by=caller.subject, at=at, outcome=outcome)
    await _save(tx, done, known.owner_team)
    policy = await policies.get(tx, review.target)
    cycle = timedelta(days=policy.latest.text.review_cycle_days)
    await _add(tx, [(_new(ReviewKind.POLICY, review.target, at.date() + cycle, at), "")])
    await audit.record(tx, caller, action="review.completed", target=str(review_id), detail={"outcome": outcome})
    return KnownReview(done, known.owner_team)


# -- as a consequence --------------------------------------------------------------------------------------------------


async def follow_evidence(tx: Tx, known: KnownDeployment, evidence: Evidence | None, at: datetime) -> None:
    """Keep the review of a deployment's evidence in step with it.

    Args:
        evidence: what was just filed; completes the review that was owed.
    """
    deployment = known.deployment
    target = str(deployment.deployment_id)
    due = next(iter(await store.due_for(tx, ReviewKind.EVIDENCE, [target])), None)
    if deployment.status is DeploymentStatus.RETIRED or deployment.evidence_due_on is None:
        if due is not None:
            await _save(tx, due.review.cancelled(at), known.owner_team)
        return
    if due is not None and evidence is not None:
        done = due.review.completed(by=evidence.recorded_by, at=at, outcome=evidence.summary)
        await _save(tx, done, known.owner_team)
        due = None
    if due is None:
        review = _new(ReviewKind.EVIDENCE, target, deployment.evidence_due_on, at, asset_id=deployment.asset_id)
        await _add(tx, [(review, known.owner_team)])


async def follow_policy(tx: Tx, policy_id: str, number: int, next_review: date, by: str, at: datetime) -> None:
    """A version came into force: what was owed is done, and the next review is owed on `next_review`."""
    for due in await store.due_for(tx, ReviewKind.POLICY, [policy_id]):
        done = due.review.completed(by=by, at=at, outcome=f"version {number} approved")
        await _save(tx, done, due.owner_team)
    await _add(tx, [(_new(ReviewKind.POLICY, policy_id, next_review, at), "")])


async def asset_reviewed(tx: Tx, asset_id: UUID, reviewer: str, outcome: str, at: datetime) -> None:
    """Inventory announced a security review: the one that was owed is done."""
    for due in await store.due_for(tx, ReviewKind.ASSET_SECURITY, [str(asset_id)]):
        await _save(tx, due.review.completed(by=reviewer, at=at, outcome=outcome), due.owner_team)


async def cancel_on(tx: Tx, asset_ids: Collection[UUID], at: datetime) -> None:
    """Nothing is owed any more for assets that are retired."""
    for due in await store.due_on_assets(tx, asset_ids):
        await _save(tx, due.review.cancelled(at), due.owner_team)


async def owe_asset_reviews(tx: Tx, after: UUID | None, *, limit: int, notice_days: int, at: datetime) -> UUID | None:
    """Owe security reviews of those of the next `limit` assets whose day comes within `notice_days`.

    Walking the assets a stretch at a time keeps an import of a hundred thousand of them from costing anything at the
    moment it happens.

    Returns:
        Where to go on; None at the end, where the next round begins.
    """
    stretch = await assets.walk(tx, after, limit)
    days = (await charter.appetite(tx)).document.review_days
    horizon = at.date() + timedelta(days=notice_days)
    near = []
    for asset in stretch:
        due_on = asset_review_due(asset.last_security_review, asset.registered_at.date(), days)
        if asset.lifecycle is not Lifecycle.RETIRED and due_on <= horizon:
            near.append((asset, due_on))
    owed = await store.owed(tx, ReviewKind.ASSET_SECURITY, [str(asset.asset_id) for asset, _day in near])
    await _add(
        tx,
        [
            (_new(ReviewKind.ASSET_SECURITY, str(asset.asset_id), day, at, asset_id=asset.asset_id), asset.owner_team)
            for asset, day in near
            if str(asset.asset_id) not in owed
        ],
    )
    return stretch[-1].asset_id if len(stretch) == limit else None
