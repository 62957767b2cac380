"""What one interaction cannot show: rates in a window of time, and how a session's outputs usually look.

Everything kept is a sum: amounts per slice of time, and count, sum and sum of squares of a session's outputs. Sums of
several replicas add up, so each replica counts what it sees, now and then adds its part to the shared table and
takes over the total (see store.activity.share). Between two exchanges a replica is behind by what the others saw in
that second. Memory is bounded by `capacity` subjects, the least recently used leave first; they are in the table then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.detection.domain.rules import Metric
from services.detection.domain.validators import entropy

SLICES = 60
"""Slices a window: a rate a minute is kept by the second, one an hour by the minute."""
MIN_OUTPUT_LENGTH = 64
"""Characters below which an output's entropy says nothing."""

RATES = tuple(metric for metric in Metric if metric.window_seconds is not None)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a figure is about: a session, an actor or an asset."""

    by: str
    key: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an interaction cost."""

    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(slots=True)
class Baseline:
    """Count, sum and sum of squares of the entropy, and sum of the lengths, of a session's outputs so far."""

    samples: float = 0.0
    entropy_sum: float = 0.0
    entropy_squares: float = 0.0
    length_sum: float = 0.0

    def add(self, other: Baseline) -> None:
        self.samples += other.samples
        self.entropy_sum += other.entropy_sum
        self.entropy_squares += other.entropy_squares
        self.length_sum += other.length_sum


@dataclass(slots=True)
class Activity:
    """One subject's sums. `amounts` is keyed by metric and by the number of its slice since the epoch."""

    amounts: dict[tuple[Metric, int], float] = field(default_factory=dict)
    baseline: Baseline = field(default_factory=Baseline)

    def rate(self, metric: Metric, now: float) -> float:
        """The amount within the metric's window that ends now."""
        window = metric.window_seconds or 0
        newest = int(now * SLICES / window)
        return sum(
            amount for (one, at), amount in self.amounts.items() if one is metric and newest - SLICES < at <= newest
        )

    def forget_before(self, now: float) -> None:
        for metric, at in list(self.amounts):
            if at <= int(now * SLICES / (metric.window_seconds or 1)) - SLICES:
                del self.amounts[metric, at]

    def add(self, other: Activity) -> None:
        for place, amount in other.amounts.items():
            self.amounts[place] = self.amounts.get(place, 0.0) + amount
        self.baseline.add(other.baseline)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: figures of the interaction itself, and rates of each subject it belongs to.

    Attributes:
        samples: outputs of the session before this one, for comparisons with its history.
    """

    figures: Mapping[Metric, float]
    rates: Mapping[tuple[Metric, str], float]
    samples: int = 0


class Sessions:
    """Activity of recent subjects, as this replica knows it."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._known: OrderedDict[Subject, Activity] = OrderedDict()
        self._unshared: dict[Subject, Activity] = {}
        self._held: dict[Subject, Activity] = {}

    def __len__(self) -> int:
        return len(self._known)

    def missing(self, subjects: Iterator[Subject] | list[Subject]) -> list[Subject]:
        """Those that this replica has not seen lately, and that the shared table may know."""
        return [subject for subject in subjects if subject not in self._known]

    def learn(self, subject: Subject, total: Activity) -> None:
        """Take over the shared total; what this replica has not shared yet comes on top."""
        for mine in (self._unshared.get(subject), self._held.get(subject)):
            if mine is not None:
                total.add(mine)
        self._known[subject] = total
        self._known.move_to_end(subject)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def take_unshared(self) -> dict[Subject, Activity]:
        """What was counted since the last call, to be added to the shared table."""
        taken, self._unshared = self._unshared, {}
        return taken

    def give_back(self, taken: dict[Subject, Activity]) -> None:
        """Sharing failed: keep the sums for the next time."""
        for subject, activity in taken.items():
            mine = self._unshared.setdefault(subject, Activity())
            mine.add(activity)

    def release(self) -> None:
        """What was counted and held is certain now: it is shared with the rest."""
        held, self._held = self._held, {}
        self.give_back(held)

    def drop_held(self) -> None:
        """What was counted and held is counted by somebody else; its subjects are read anew."""
        for subject in self._held:
            self._known.pop(subject, None)
        self._held = {}

    def count(
        self, subjects: list[Subject], amounts: Mapping[Metric, float], now: float, *, hold: bool = False
    ) -> dict[tuple[Metric, str], float]:
        """Add the amounts of one interaction to each of its subjects; the rates that result.

        Args:
            hold: share them only after `release`.
        """
        unshared_of = self._held if hold else self._unshared
        rates: dict[tuple[Metric, str], float] = {}
        for subject in subjects:
            known = self._known.get(subject)
            if known is None:
                self.learn(subject, Activity())
                known = self._known[subject]
            else:
                self._known.move_to_end(subject)
            unshared = unshared_of.setdefault(subject, Activity())
            for metric, amount in amounts.items():
                place = metric, int(now * SLICES / (metric.window_seconds or 1))
                known.amounts[place] = known.amounts.get(place, 0.0) + amount
                unshared.amounts[place] = unshared.amounts.get(place, 0.0) + amount
                rates[metric, subject.by] = known.rate(metric, now)
            if len(known.amounts) > 2 * SLICES:
                known.forget_before(now)
        return rates

    def compare_output(self, session: Subject, text: str, *, hold: bool = False) -> tuple[dict[Metric, float], int]:
        """How far an output is from the session's earlier ones, which it then joins; and how many those were.

        Args:
            hold: as for `count`.
        """
        if len(text) < MIN_OUTPUT_LENGTH:
            return {}, 0
        if session not in self._known:
            self.learn(session, Activity())
        known = self._known[session]
        before = known.baseline
        measured = entropy(text)
        figures: dict[Metric, float] = {}
        if before.samples:
            figures[Metric.OUTPUT_ENTROPY_DELTA] = abs(measured - before.entropy_sum / before.samples)
            figures[Metric.OUTPUT_LENGTH_RATIO] = len(text) / max(1.0, before.length_sum / before.samples)
        samples = int(before.samples)
        added = Baseline(1.0, measured, measured * measured, float(len(text)))
        known.baseline.add(added)
        (self._held if hold else self._unshared).setdefault(session, Activity()).baseline.add(added)
        return figures, samples
