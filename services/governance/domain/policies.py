"""Policies and their versions.

draft -> in_review -> approved -> superseded
      <-           (sent back)

Whoever wrote any part of a version cannot approve it. One version of a policy is in force at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from services.governance.domain.documents import Days, Document, Line, Mappings, Prose, RoleId, Slug
from shared.contracts.governance import PolicyApproved
from shared.errors import Conflict, Forbidden, NotFound


class PolicyNotFound(NotFound):
    """There is no such policy or version."""


class PolicyExists(Conflict):
    """A policy of this id is already there."""


class NotInStatus(Conflict):
    """The version is not in a status in which this can be done."""


class OwnVersion(Forbidden):
    """Who wrote a version cannot approve it."""


class Overtaken(Conflict):
    """A later version is already in force."""


class AnotherInReview(Conflict):
    """Another version of this policy is in review."""


class Definition(Document):
    term: Line
    meaning: Prose


class Duty(Document):
    role: RoleId
    duty: Prose


StatementId = Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,6}-[0-9]{1,3}$")]


class Statement(Document):
    """One numbered demand. `must` binds; `should` may be departed from with a reason."""

    id: StatementId
    text: Prose
    level: Literal["must", "should"]


class PolicyText(Document):
    """What a policy says."""

    title: Line
    owner_role: RoleId
    review_cycle_days: Days
    purpose: Prose
    scope: Prose
    definitions: tuple[Definition, ...] = Field(default=(), max_length=100)
    roles: tuple[Duty, ...] = Field(min_length=1, max_length=50)
    statements: tuple[Statement, ...] = Field(min_length=1, max_length=200)
    exceptions: Prose
    enforcement: Prose
    measures: tuple[Prose, ...] = Field(default=(), max_length=50)
    mappings: Mappings = Mappings()


class ShippedPolicy(PolicyText):
    """A policy of the library: a text to adopt, with the id it gets."""

    id: Slug


class PolicyStatus(StrEnum):
    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a policy.

    Attributes:
        number: 1, 2, 3 ... within the policy.
        version: counts changes of this version's row, for If-Match.
        authors: everybody who wrote any part of it.
        decided_by: who approved it or sent it back last.
    """

    policy_id: str
    number: int
    version: int
    status: PolicyStatus
    text: PolicyText
    authors: tuple[str, ...]
    change_note: str
    created_at: datetime
    updated_at: datetime
    submitted_by: str | None = None
    submitted_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision_note: str = ""

    def revised(self, text: PolicyText, change_note: str | None, *, by: str, at: datetime) -> PolicyVersion:
        """With another text.

        Raises:
            NotInStatus: it is no draft.
        """
        self._demand(PolicyStatus.DRAFT)
        authors = self.authors if by in self.authors else (*self.authors, by)
        note = self.change_note if change_note is None else change_note
        return replace(self._next(at), text=text, authors=authors, change_note=note)

    def submitted(self, *, by: str, at: datetime) -> PolicyVersion:
        """Put before those who approve.

        Raises:
            NotInStatus: it is no draft.
        """
        self._demand(PolicyStatus.DRAFT)
        return replace(self._next(at), status=PolicyStatus.IN_REVIEW, submitted_by=by, submitted_at=at)

    def sent_back(self, *, by: str, at: datetime, note: str) -> PolicyVersion:
        """A draft again.

        Raises:
            NotInStatus: it is not in review.
        """
        self._demand(PolicyStatus.IN_REVIEW)
        return replace(self._next(at), status=PolicyStatus.DRAFT, decided_by=by, decided_at=at, decision_note=note)

    def approved(self, *, by: str, at: datetime, note: str, in_force: int | None) -> PolicyVersion:
        """In force.

        Args:
            in_force: number of the version that is in force now.

        Raises:
            NotInStatus: it is not in review.
            OwnVersion: `by` wrote part of it.
            Overtaken: a later version is in force.
        """
        self._demand(PolicyStatus.IN_REVIEW)
        if by in self.authors:
            raise OwnVersion(f"{by} is an author of version {self.number}; somebody else approves it")
        if in_force is not None and in_force > self.number:
            raise Overtaken(f"version {in_force} is in force", in_force=in_force)
        return replace(self._next(at), status=PolicyStatus.APPROVED, decided_by=by, decided_at=at, decision_note=note)

    def superseded(self, at: datetime) -> PolicyVersion:
        """Replaced by a later version.

        Raises:
            NotInStatus: it was not in force.
        """
        self._demand(PolicyStatus.APPROVED)
        return replace(self._next(at), status=PolicyStatus.SUPERSEDED)

    def next_review(self, on: date) -> date:
        return on + timedelta(days=self.text.review_cycle_days)

    def approval(self) -> PolicyApproved:
        """The event that says it came into force."""
        assert self.decided_by is not None
        assert self.decided_at is not None
        return PolicyApproved(
            version=self.number,
            occurred_at=self.decided_at,
            policy_id=self.policy_id,
            policy_version=self.number,
            title=self.text.title,
            approved_by=self.decided_by,
            next_review=self.next_review(self.decided_at.date()),
        )

    def _next(self, at: datetime) -> PolicyVersion:
        return replace(self, version=self.version + 1, updated_at=at)

    def _demand(self, status: PolicyStatus) -> None:
        if self.status is not status:
            raise NotInStatus(f"version {self.number} is {self.status}, not {status}", current_status=self.status)
