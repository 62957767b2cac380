"""The ledger: every count of the program as a sum of dated changes.

Why not a table of current counts: half of the figures move while nothing happens. A review goes stale ninety-one days
after it was made, an acceptance runs out, an incident leaves the last thirty days, a review falls due. Counting those
when somebody asks means scanning the estate; counting them by a timer puts the wall clock into tables that must come
out identical on replay. So whatever contributes to a figure says, when it changes, from which minute on it counts and
at which minute it will stop, and the later change is written down now. A count at any moment, past or present, is then
one sum over the changes up to that moment; nothing runs at midnight.

Each thing belongs to one team, so the counts of several teams are sums of theirs, and the organisation's is the sum
of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import NamedTuple

MINUTES_AN_HOUR = 60
MINUTES_A_DAY = 24 * 60
SPANS = (1, MINUTES_AN_HOUR, MINUTES_A_DAY)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = EPOCH.date().toordinal()

# A step at this minute counts from the moment its thing is known.
ALWAYS = 0
# Whatever lies further ahead is as good as never; keeps minutes inside a 32-bit column.
LAST_MINUTE = (date(5000, 1, 1).toordinal() - _EPOCH_DAY) * MINUTES_A_DAY

ORGANISATION = "organisation"


class Counter(IntEnum):
    """What is counted. The lower-case name is the column of the ledger tables; the value is the position in totals."""

    ASSETS = 0
    REVIEWED = 1
    STALE = 2
    MISSING_SBOM = 3
    UNCLASSIFIED_DATA = 4
    NO_OWNER = 5
    PUBLIC_EXPOSURE_HIGH_SENSITIVITY = 6
    GAP_FREE = 7
    ASSESSED = 8
    CRITICAL = 9
    HIGH = 10
    RESIDUAL_CENTS = 11
    DEPLOYED = 12
    OPERATIONAL = 13
    CONTROLLED = 14
    RISK_ACCEPTANCES = 15
    POLICY_EXCEPTIONS = 16
    INCIDENTS_MONTH = 17
    INCIDENTS_PROMPT_INJECTION_EXPLOITATION = 18
    INCIDENTS_DATA_EXFILTRATION_VIA_MODEL = 19
    INCIDENTS_MODEL_SUPPLY_CHAIN_COMPROMISE = 20
    INCIDENTS_AGENT_UNAUTHORIZED_ACTIONS = 21
    INCIDENTS_TRAINING_DATA_POISONING = 22
    INCIDENTS_MODEL_DENIAL_OF_SERVICE = 23
    INCIDENTS_PII_LEAKAGE_IN_OUTPUT = 24
    INCIDENTS_JAILBREAK_BYPASS = 25
    DETECT_COUNT = 26
    DETECT_MILLISECONDS = 27
    CONTAIN_COUNT = 28
    CONTAIN_MILLISECONDS = 29
    RESOLVE_COUNT = 30
    RESOLVE_MILLISECONDS = 31
    ENGAGEMENTS_YEAR = 32
    FINDINGS = 33
    FINDINGS_REMEDIATED = 34
    ACTIONS_TRACKED = 35
    OVERDUE_STEPS = 36
    OVERDUE_REVIEWS = 37
    OVERDUE_FINDINGS = 38
    POLICIES = 39
    APPETITE = 40
    DECISIONS = 41
    ALERTS_MONTH = 42
    ALERTS_JUDGED = 43
    ALERTS_TRUE = 44

    @property
    def column(self) -> str:
        return self.name.lower()


COUNTERS: tuple[Counter, ...] = tuple(Counter)

# (minute from which it counts, counter, amount), plain integers: a bulk import makes some thirty of these an asset.
Step = tuple[int, int, int]
Steps = tuple[Step, ...]


class Share(NamedTuple):
    """What one thing, in its present state, adds to its team's counts: now, and at minutes already known."""

    team: str
    steps: Steps


def minute_of(instant: datetime) -> int:
    """The minute that `instant` lies in, counted from 1970-01-01T00:00Z."""
    return clamp((instant - EPOCH) // timedelta(minutes=1))


def minute_after(instant: datetime) -> int:
    """The first full minute not before `instant`: what ends at `instant` has ended by then."""
    return clamp(-((EPOCH - instant) // timedelta(minutes=1)))


def minute_of_day(day: date) -> int:
    """The minute at which `day` begins, in UTC."""
    return clamp((day.toordinal() - _EPOCH_DAY) * MINUTES_A_DAY)


def at_minute(minute: int) -> datetime:
    return EPOCH + timedelta(minutes=minute)


def clamp(minute: int) -> int:
    return max(ALWAYS, min(minute, LAST_MINUTE))


def later(instant: datetime, days: int) -> datetime:
    """`instant` and so many days; far ahead of any program's life, `instant` itself."""
    return instant + timedelta(days=days) if minute_of(instant) < LAST_MINUTE else instant


def until(start: int, end: int, counter: Counter, amount: int = 1) -> Steps:
    """Counts from minute `start` until minute `end`; not at all where `end` is not after `start`."""
    return ((start, counter, amount), (end, counter, -amount)) if end > start else ()


class Totals:
    """The sums of the ledger at one moment, by counter."""

    __slots__ = ("_sums",)

    def __init__(self, sums: Sequence[int]) -> None:
        if len(sums) != len(COUNTERS):
            raise ValueError(f"{len(COUNTERS)} sums expected, {len(sums)} given")
        self._sums = tuple(sums)

    @classmethod
    def zero(cls) -> Totals:
        return cls([0] * len(COUNTERS))

    def __getitem__(self, counter: Counter) -> int:
        return self._sums[counter]

    def plus(self, change: Sequence[int]) -> Totals:
        return Totals([total + amount for total, amount in zip(self._sums, change, strict=True)])


class Posting:
    """The changes that a run of events makes to the ledger, added up by team and minute.

    A (team, minute) that an event touched is in the result even when its changes cancel out, so that the ledger's rows
    do not depend on how the events were cut into batches.
    """

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        # By team, minute, and whether that minute is a midnight still to come.
        self._changes: dict[tuple[str, int, bool], list[int]] = {}

    def replace(self, old: Share | None, new: Share | None, *, minute: int) -> None:
        """From `minute` on, `new` counts in the place of `old`; before it, whatever counted stays as it was."""
        if old == new:
            return
        for share, sign in ((old, -1), (new, 1)):
            if share is None:
                continue
            for start, counter, amount in share.steps:
                key = (share.team, max(start, minute), start > minute and start % MINUTES_A_DAY == 0)
                change = self._changes.get(key)
                if change is None:
                    change = self._changes[key] = [0] * len(COUNTERS)
                change[counter] += sign * amount

    def rows(self) -> Iterator[tuple[str, int, int, list[int]]]:
        """(scope, span, start, change by counter) for the organisation and each team, in a fixed order.

        `start` is the minute at which the span of so many minutes begins. A change is in one row of each span, so that
        a sum up to any minute reads whole days, then hours, then minutes. What is to change at a midnight changes with
        the end of the day before, and needs that day's row only: most of a bulk import's changes are reviews that will
        go stale on hundreds of different days.
        """
        scoped: dict[tuple[str, int, int], list[int]] = {}
        for (team, minute, midnight), change in self._changes.items():
            places = [(span, minute - minute % span) for span in SPANS]
            if midnight:
                places = [(MINUTES_A_DAY, minute - MINUTES_A_DAY)]
            for scope in (ORGANISATION, team_scope(team)):
                for span, start in places:
                    key = (scope, span, start)
                    present = scoped.get(key)
                    if present is None:
                        scoped[key] = list(change)
                    else:
                        scoped[key] = [a + b for a, b in zip(present, change, strict=True)]
        for (scope, span, start), change in sorted(scoped.items()):
            yield scope, span, start, change


def team_scope(team: str) -> str:
    """Key of a team's rows. The prefix keeps a team that is called like the organisation's key apart from it."""
    return f"team:{team}"


def scopes_of(teams: Iterable[str] | None) -> list[str]:
    """Keys whose rows add up to the counts of these teams; None is the whole organisation."""
    return [ORGANISATION] if teams is None else sorted(team_scope(team) for team in teams)
