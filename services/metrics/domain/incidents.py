"""What incidents and their late steps add to the program's counts.

Means of times cover the incidents detected in the last YEAR_DAYS days, so that a program which got faster can show it
within a year. Times are measured from detection except the time to detect, which runs from the first evidence:

    detect = detected_at - occurred_at; contain = contained_at - detected_at; resolve = resolved_at - detected_at

A pair of times in the wrong order measures nothing and is left out; it is no zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.metrics.domain import ledger
from services.metrics.domain.ledger import (
    ALWAYS,
    Counter,
    Share,
    later,
    minute_after,
    until,
)
from shared.contracts.incidents import IncidentCategory, IncidentSnapshot, IncidentStatus, StepEvent, StepOverdue

MONTH_DAYS = 30
YEAR_DAYS = 365

CATEGORY_COUNTERS: dict[IncidentCategory, Counter] = {
    category: Counter[f"INCIDENTS_{category.name}"] for category in IncidentCategory
}

_FINISHED = frozenset({IncidentStatus.RESOLVED, IncidentStatus.CLOSED})


class Step(NamedTuple):
    """A step of the playbook that was reported on: `late` past its timeout, until it is completed or skipped."""

    number: int
    version: int
    late: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as far as the figures need it.

    Attributes:
        minute: the latest minute at which something changed it.
        finished: resolved or closed, so that no step of it is still owed.
        steps: those reported done or late so far, by number.
    """

    incident_id: UUID
    minute: int = ALWAYS
    version: int = 0
    team: str = ""
    category: IncidentCategory | None = None
    occurred_at: datetime | None = None
    detected_at: datetime | None = None
    contained_at: datetime | None = None
    resolved_at: datetime | None = None
    finished: bool = False
    steps: tuple[Step, ...] = ()

    def told(self, snapshot: IncidentSnapshot, *, minute: int) -> Incident:
        """As a message about the incident leaves it."""
        if snapshot.version <= self.version:
            return self
        return replace(
            self,
            minute=max(self.minute, minute),
            version=snapshot.version,
            team=snapshot.owner_team,
            category=snapshot.category,
            occurred_at=snapshot.occurred_at,
            detected_at=snapshot.detected_at,
            contained_at=snapshot.contained_at,
            resolved_at=snapshot.resolved_at,
            finished=snapshot.status in _FINISHED,
        )

    def step_reported(self, event: StepEvent, *, minute: int) -> Incident:
        """As word of a step leaves it. A reopened incident's steps are owed again, so a later word counts anew."""
        known = {step.number: step for step in self.steps}
        before = known.get(event.step_number)
        if before is not None and event.version <= before.version:
            return self
        known[event.step_number] = Step(event.step_number, event.version, isinstance(event, StepOverdue))
        return replace(self, minute=max(self.minute, minute), steps=tuple(sorted(known.values())))

    def share(self) -> Share | None:
        """What it adds; None before its opening was told."""
        if self.category is None or self.detected_at is None:
            return None
        changes: list[ledger.Step] = []
        month_ends = minute_after(later(self.detected_at, MONTH_DAYS))
        year_ends = minute_after(later(self.detected_at, YEAR_DAYS))
        changes.extend(until(ALWAYS, month_ends, Counter.INCIDENTS_MONTH))
        changes.extend(until(ALWAYS, year_ends, CATEGORY_COUNTERS[self.category]))
        for start, end, counted, summed in (
            (self.occurred_at, self.detected_at, Counter.DETECT_COUNT, Counter.DETECT_MILLISECONDS),
            (self.detected_at, self.contained_at, Counter.CONTAIN_COUNT, Counter.CONTAIN_MILLISECONDS),
            (self.detected_at, self.resolved_at, Counter.RESOLVE_COUNT, Counter.RESOLVE_MILLISECONDS),
        ):
            if start is None or end is None or end < start:
                continue
            changes.extend(until(ALWAYS, year_ends, counted))
            changes.extend(until(ALWAYS, year_ends, summed, (end - start) // timedelta(milliseconds=1)))
        if self.steps:
            changes.append((ALWAYS, Counter.ACTIONS_TRACKED, len(self.steps)))
        late = sum(step.late for step in self.steps)
        if late and not self.finished:
            changes.append((ALWAYS, Counter.OVERDUE_STEPS, late))
        return Share(self.team, tuple(changes))
