"""Decisions of the oversight board: recorded once, never changed; a later one may supersede an earlier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from shared.contracts.governance import DecisionRecorded
from shared.errors import NotFound


class DecisionNotFound(NotFound):
    """There is no such decision, or none that you may know of."""


class Outcome(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the board decided, with what it concerns.

    Attributes:
        conditions: what must hold for an approval to stand.
        participants: who decided, by name or role.
        supersedes: the decision that this one replaces.
    """

    decision_id: UUID
    title: str
    outcome: Outcome
    rationale: str
    conditions: tuple[str, ...]
    participants: tuple[str, ...]
    decided_on: date
    asset_id: UUID | None
    acceptance_id: UUID | None
    policy_id: str | None
    supersedes: UUID | None
    recorded_by: str
    recorded_at: datetime

    def event(self) -> DecisionRecorded:
        return DecisionRecorded(
            version=1,
            occurred_at=self.recorded_at,
            decision_id=self.decision_id,
            title=self.title,
            outcome=self.outcome,
        )
