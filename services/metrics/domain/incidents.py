"""What incidents and their late steps add to the program's counts.

Means of times cover the incidents detected in the last YEAR_DAYS days, so that a program which got faster can show it
within a year. Times are measured from detection except the time to detect, which runs from the first evidence:

    detect = detected_at - occurred_at; contain = contained_at - detected_at; resolve = resolved_at - detected_at

A pair of times in the wrong order measures nothing and is left out; it is no zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.metrics.domain.ledger import (
    ALWAYS,
    Counter,
    Share,
    Step,
    later,
    minute_after,
    until,
)
from shared.contracts.incidents import IncidentCategory, IncidentSnapshot, IncidentStatus

MONTH_DAYS = 30
YEAR_DAYS = 365

CATEGORY_COUNTERS: dict[IncidentCategory, Counter] = {
    category: Counter[f"INCIDENTS_{category.name}"] for category in IncidentCategory
}

_FINISHED = frozenset({IncidentStatus.RESOLVED, IncidentStatus.CLOSED})


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as far as the figures need it.

    Attributes:
        minute: the latest minute at which something changed it.
        finished: resolved or closed, so that no step of it is still owed.
        late_steps: numbers of the steps that passed their timeout and are not done, ascending.
        steps_done: numbers of the steps done; keeps a late word of overdue from counting against a step already done.
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
    late_steps: tuple[int, ...] = ()
    steps_done: tuple[int, ...] = ()

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

    def step_late(self, number: int, *, minute: int) -> Incident:
        """With step `number` past its timeout."""
        if number in self.steps_done or number in self.late_steps:
            return self
        late = tuple(sorted({*self.late_steps, number}))
        return replace(self, minute=max(self.minute, minute), late_steps=late)

    def step_done(self, number: int, *, minute: int) -> Incident:
        """With step `number` completed or skipped."""
        if number in self.steps_done:
            return self
        return replace(
            self,
            minute=max(self.minute, minute),
            late_steps=tuple(step for step in self.late_steps if step != number),
            steps_done=tuple(sorted({*self.steps_done, number})),
        )

    def share(self) -> Share | None:
        """What it adds; None before its opening was told."""
        if self.category is None or self.detected_at is None:
            return None
        steps: list[Step] = []
        month_ends = minute_after(later(self.detected_at, MONTH_DAYS))
        year_ends = minute_after(later(self.detected_at, YEAR_DAYS))
        steps.extend(until(ALWAYS, month_ends, Counter.INCIDENTS_MONTH))
        steps.extend(until(ALWAYS, year_ends, CATEGORY_COUNTERS[self.category]))
        for start, end, counted, summed in (
            (self.occurred_at, self.detected_at, Counter.DETECT_COUNT, Counter.DETECT_MILLISECONDS),
            (self.detected_at, self.contained_at, Counter.CONTAIN_COUNT, Counter.CONTAIN_MILLISECONDS),
            (self.detected_at, self.resolved_at, Counter.RESOLVE_COUNT, Counter.RESOLVE_MILLISECONDS),
        ):
            if start is None or end is None or end < start:
                continue
            steps.extend(until(ALWAYS, year_ends, counted))
            steps.extend(until(ALWAYS, year_ends, summed, (end - start) // timedelta(milliseconds=1)))
        tracked = len(self.steps_done) + len(self.late_steps)
        if tracked:
            steps.append((ALWAYS, Counter.ACTIONS_TRACKED, tracked))
        if self.late_steps and not self.finished:
            steps.append((ALWAYS, Counter.OVERDUE_STEPS, len(self.late_steps)))
        return Share(self.team, tuple(steps))
