"""Reviews that are owed: of an asset's security, of a policy, of a control's evidence.

A review is due until it is completed or cancelled. Whether it is upcoming, due or overdue is a matter of the day, not
of a stored status, so nothing has to run at midnight. Reviews of assets are completed where they are done, in
inventory; reviews of evidence by new evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.governance.domain.appetite import ReviewDays
from shared.contracts.governance import ReviewChanged, ReviewSnapshot
from shared.errors import Conflict, NotFound


class ReviewNotFound(NotFound):
    """There is no such review, or none that you may know of."""


class ReviewOpen(Conflict):
    """A review of this is already due; change its date instead."""


class ReviewClosed(Conflict):
    """The review is not due any more."""


class CompletedElsewhere(Conflict):
    """Reviews of this kind are completed where they are done."""


class ReviewKind(StrEnum):
    ASSET_SECURITY = "asset_security"
    POLICY = "policy"
    EVIDENCE = "evidence"


class ReviewStatus(StrEnum):
    DUE = "due"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Timing(StrEnum):
    """How a review that is due stands today; `upcoming` is further away than the notice."""

    UPCOMING = "upcoming"
    DUE = "due"
    OVERDUE = "overdue"


NOTICE_DAYS = 14


@dataclass(frozen=True, slots=True)
class Review:
    """A review that is owed, or was.

    Attributes:
        target: id of the asset, policy or control deployment.
        outcome: what the review found; empty until completed.
    """

    review_id: UUID
    version: int
    kind: ReviewKind
    target: str
    asset_id: UUID | None
    status: ReviewStatus
    due_on: date
    note: str
    created_at: datetime
    updated_at: datetime
    completed_by: str | None = None
    completed_at: datetime | None = None
    outcome: str = ""

    def timing(self, today: date) -> Timing | None:
        """None when it is not due any more."""
        if self.status is not ReviewStatus.DUE:
            return None
        if today > self.due_on:
            return Timing.OVERDUE
        return Timing.DUE if self.due_on - today <= timedelta(days=NOTICE_DAYS) else Timing.UPCOMING

    def rescheduled(self, due_on: date | None, note: str | None, at: datetime) -> Review:
        """With another day or note.

        Raises:
            ReviewClosed: it is not due any more.
        """
        self._demand_due()
        return replace(
            self,
            version=self.version + 1,
            due_on=self.due_on if due_on is None else due_on,
            note=self.note if note is None else note,
            updated_at=at,
        )

    def completed(self, *, by: str, at: datetime, outcome: str) -> Review:
        """Done.

        Raises:
            ReviewClosed: it is not due any more.
        """
        self._demand_due()
        return replace(
            self,
            version=self.version + 1,
            status=ReviewStatus.COMPLETED,
            completed_by=by,
            completed_at=at,
            updated_at=at,
            outcome=outcome,
        )

    def cancelled(self, at: datetime) -> Review:
        """No longer owed.

        Raises:
            ReviewClosed: it is not due any more.
        """
        self._demand_due()
        return replace(self, version=self.version + 1, status=ReviewStatus.CANCELLED, updated_at=at)

    def event(self, owner_team: str) -> ReviewChanged:
        return ReviewChanged(
            version=self.version,
            occurred_at=self.updated_at,
            review=ReviewSnapshot(
                review_id=self.review_id,
                version=self.version,
                kind=self.kind,
                target=self.target,
                asset_id=self.asset_id,
                owner_team=owner_team,
                status=self.status,
                due_on=self.due_on,
                completed_at=self.completed_at,
            ),
        )

    def _demand_due(self) -> None:
        if self.status is not ReviewStatus.DUE:
            raise ReviewClosed(f"the review is {self.status}", current_status=self.status)


def asset_review_due(last_review: date | None, registered_on: date, days: ReviewDays) -> date:
    """Day by which an asset's next security review is owed."""
    if last_review is None:
        return registered_on + timedelta(days=days.first_asset_security)
    return last_review + timedelta(days=days.asset_security)
