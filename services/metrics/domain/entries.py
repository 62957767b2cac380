"""Things whose latest message says everything: acceptances, red teaming, reviews owed, policies, decisions, alerts.

What such a thing counts for is a function of that message alone, and an `Entry` is all that has to be remembered of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import singledispatch

from services.metrics.domain.ledger import (
    ALWAYS,
    Counter,
    Share,
    Step,
    Steps,
    later,
    minute_after,
    minute_of,
    minute_of_day,
    until,
)
from shared.contracts.detection import AlertEvent, Disposition
from shared.contracts.envelope import Event
from shared.contracts.governance import (
    AcceptanceEvent,
    AcceptanceGranted,
    AppetiteChanged,
    DecisionRecorded,
    EngagementChanged,
    FindingChanged,
    PolicyApproved,
    ReviewChanged,
)

# Words of the contracts' `kind` and `status` fields.
RISK_ACCEPTANCE = "risk"
NOT_CONDUCTED = frozenset({"planned", "cancelled"})
REMEDIATED = "remediated"
OWED_FINDINGS = frozenset({"open", "retest"})
OWED_REVIEW = "due"
CANCELLED = "cancelled"

# Alerts count for as long as incidents do: a month in numbers, a year in judgements.
ALERT_MONTH_DAYS = 30
ALERT_YEAR_DAYS = 365


@dataclass(frozen=True, slots=True)
class Entry:
    """What one thing counts for, by its latest message."""

    kind: str
    key: str
    version: int
    minute: int
    share: Share

    def not_before(self, earlier: Entry) -> Entry:
        """The same, booked no earlier than what it replaces was."""
        return self if self.minute >= earlier.minute else replace(self, minute=earlier.minute)


def entry_of(event: Event) -> Entry:
    """Read a message about such a thing.

    Raises:
        NotImplementedError: the message is about something that no figure counts.
    """
    kind, team, steps = _counts(event)
    return Entry(kind, event.aggregate_id, event.version, minute_of(event.occurred_at), Share(team, steps))


@singledispatch
def _counts(event: Event) -> tuple[str, str, Steps]:
    raise NotImplementedError(f"no figure counts {type(event).__name__}")


@_counts.register
def _acceptance(event: AcceptanceEvent) -> tuple[str, str, Steps]:
    """In force from its granting until it expires, is revoked or is refused."""
    acceptance = event.acceptance
    counter = Counter.RISK_ACCEPTANCES if acceptance.kind == RISK_ACCEPTANCE else Counter.POLICY_EXCEPTIONS
    granted = isinstance(event, AcceptanceGranted)
    steps = until(ALWAYS, minute_after(acceptance.expires_at), counter) if granted else ()
    return "acceptance", acceptance.owner_team, steps


@_counts.register
def _engagement(event: EngagementChanged) -> tuple[str, str, Steps]:
    """Counts for the calendar year (UTC) in which it started; of one reported only when done, in which it was done."""
    engagement = event.engagement
    steps: Steps = ()
    if engagement.status not in NOT_CONDUCTED:
        day = engagement.started_on or engagement.completed_on or event.occurred_at.date()
        next_year = date(day.year + 1, 1, 1) if day.year < date.max.year else date.max
        steps = until(minute_of_day(day), minute_of_day(next_year), Counter.ENGAGEMENTS_YEAR)
    return "engagement", engagement.owner_team, steps


@_counts.register
def _finding(event: FindingChanged) -> tuple[str, str, Steps]:
    finding = event.finding
    steps: list[Step] = [(ALWAYS, Counter.FINDINGS, 1)]
    if finding.status == REMEDIATED:
        steps.append((ALWAYS, Counter.FINDINGS_REMEDIATED, 1))
    if finding.due_on is not None:
        steps.append((ALWAYS, Counter.ACTIONS_TRACKED, 1))
        if finding.status in OWED_FINDINGS:
            steps.append((_day_after(finding.due_on), Counter.OVERDUE_FINDINGS, 1))
    return "finding", finding.owner_team, tuple(steps)


@_counts.register
def _review(event: ReviewChanged) -> tuple[str, str, Steps]:
    review = event.review
    steps: list[Step] = []
    if review.status != CANCELLED:
        steps.append((ALWAYS, Counter.ACTIONS_TRACKED, 1))
    if review.status == OWED_REVIEW:
        steps.append((_day_after(review.due_on), Counter.OVERDUE_REVIEWS, 1))
    return "review", review.owner_team, tuple(steps)


@_counts.register
def _policy(event: PolicyApproved) -> tuple[str, str, Steps]:
    return "policy", "", ((ALWAYS, Counter.POLICIES, 1),)


@_counts.register
def _appetite(event: AppetiteChanged) -> tuple[str, str, Steps]:
    return "appetite", "", ((ALWAYS, Counter.APPETITE, 1),)


@_counts.register
def _decision(event: DecisionRecorded) -> tuple[str, str, Steps]:
    return "decision", "", ((ALWAYS, Counter.DECISIONS, 1),)


@_counts.register
def _alert(event: AlertEvent) -> tuple[str, str, Steps]:
    """Raised in the last month; judged right or wrong in the last year. A duplicate says nothing about its rule."""
    alert = event.alert
    month_ends, year_ends = (
        minute_after(later(alert.first_seen, days)) for days in (ALERT_MONTH_DAYS, ALERT_YEAR_DAYS)
    )
    steps = until(ALWAYS, month_ends, Counter.ALERTS_MONTH)
    if alert.disposition not in (None, Disposition.DUPLICATE):
        steps += until(ALWAYS, year_ends, Counter.ALERTS_JUDGED)
    if alert.disposition is Disposition.TRUE_POSITIVE:
        steps += until(ALWAYS, year_ends, Counter.ALERTS_TRUE)
    return "alert", alert.owner_team, steps


def _day_after(due_on: date) -> int:
    """What is due on a day is late from the next one on."""
    return minute_of_day(due_on + timedelta(days=1)) if due_on < date.max else minute_of_day(due_on)
