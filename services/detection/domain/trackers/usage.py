"""What an asset usually uses in an hour, learned so that ordinary bursts stay ordinary; and budgets.

Amounts are sums of hours (of days for actors), so that replicas share them by addition; everything here is a pure
function of those sums. Usage has days, weeks and growth in it, and heavy tails: on a logarithmic scale an hour is
compared with the mean of the week before it (growth), its place in the week being a median over the weeks on record,
drawn towards that of the same hour on all working days or week-ends, and of all days, the fewer weeks there are.
Spread is 1.4826 times the median absolute deviation, with a floor. Hours with an alert, or in which more than a fifth
of the requests were flagged, are not learned from, unless they make up more than a tenth: then that is how things are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from statistics import median

from services.detection.domain.rules import Amount, Rule, UsageDetection
from services.detection.domain.verdict import score_of

HOUR = 3_600
DAY_HOURS = 24
WEEK_HOURS = 168
KEPT_HOURS = 42 * DAY_HOURS
KEPT_DAYS = 32
SPREAD_FLOOR = 0.25
_MATTERS = (Amount.REQUESTS, Amount.TOKENS, Amount.COST_USD)
_ADAPTS_FROM = 0.1
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; days of the week count from Monday


Place = tuple[str, str, str, int]
"""Whose usage and when: subject's kind and key, `hour` or `day`, and its number since the epoch."""


@dataclass(slots=True)
class Used:
    """Sums of usage; `flagged` are the requests that detectors flagged."""

    tokens: float = 0.0
    cost_usd: float = 0.0
    requests: float = 0.0
    flagged: float = 0.0

    def add(self, other: Used) -> None:
        self.tokens += other.tokens
        self.cost_usd += other.cost_usd
        self.requests += other.requests
        self.flagged += other.flagged

    def of(self, amount: Amount) -> float:
        return self.tokens if amount is Amount.TOKENS else self.cost_usd if amount is Amount.COST_USD else self.requests

    @property
    def is_tainted(self) -> bool:
        """Too much of it was flagged to learn from."""
        return self.flagged > 0.2 * self.requests


def hour_of(at: float) -> int:
    return int(at // HOUR)


def _weekend(hour: int) -> bool:
    return (hour // DAY_HOURS + _EPOCH_WEEKDAY) % 7 >= 5


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is usual for one asset in one amount.

    Attributes:
        days: of history it was learned from.
        level: mean of an hour of the last week.
        place: by hour of the week, how far from the level an hour usually is, as a logarithm.
        spread: robust standard deviation of what is left, as a logarithm.
        peak: the highest hour on record.
        unit: added before taking logarithms, so that an hour without traffic has one.
    """

    days: float = 0.0
    level: float = 0.0
    place: tuple[float, ...] = (0.0,) * WEEK_HOURS
    spread: float = 1.0
    peak: float = 0.0
    unit: float = 1.0

    def expected(self, hour: int) -> float:
        """The usual amount of an hour."""
        return max(0.0, math.exp(self.place[hour % WEEK_HOURS]) * (self.level + self.unit) - self.unit)

    def limit(self, detection: UsageDetection, hour: int) -> float:
        """The amount above which an hour is not usual, by a rule's measures."""
        expected = self.expected(hour)
        spread = math.exp(detection.deviations * self.spread) * (expected + self.unit) - self.unit
        return max(detection.least, detection.ratio * expected, spread, detection.over_peak * self.peak)


def learn(amounts: Mapping[int, float], until: int, not_from: Collection[int] = ()) -> Baseline:
    """What the hours before `until` say is usual.

    Args:
        amounts: by hour since the epoch; hours between the first of them and `until` that are missing had none.
        not_from: hours that are not to be learned from.
    """
    first = max(min(amounts, default=until), until - KEPT_HOURS)
    if until - first < DAY_HOURS:
        return Baseline(days=(until - first) / DAY_HOURS)
    recent = until - WEEK_HOURS
    left_out = set(not_from)
    if sum(1 for hour in left_out if hour >= recent) > _ADAPTS_FROM * min(WEEK_HOURS, until - first):
        left_out = {hour for hour in left_out if hour < recent}
    hours = range(first, until)
    series = [0.0 if hour in left_out else amounts.get(hour, 0.0) for hour in hours]
    counts = [hour not in left_out for hour in hours]
    sums, weights = [0.0], [0]
    for amount, counted in zip(series, counts, strict=True):
        sums.append(sums[-1] + amount)
        weights.append(weights[-1] + counted)

    def mean_before(at: int) -> float:
        """Mean of the week before, of the first week on record for its own hours."""
        high = at if at >= WEEK_HOURS else min(WEEK_HOURS, len(series))
        low = max(0, high - WEEK_HOURS)
        return (sums[high] - sums[low]) / max(1, weights[high] - weights[low])

    positive = [amount for amount in series if amount > 0]
    unit = max(0.02 * median(positive), 1e-9) if positive else 1.0
    relative = {
        hour: math.log((series[at] + unit) / (mean_before(at) + unit)) for at, hour in enumerate(hours) if counts[at]
    }
    place = _places(relative)
    residuals = [value - place[hour % WEEK_HOURS] for hour, value in relative.items()]
    middle = median(residuals)
    spread = 1.4826 * median(abs(one - middle) for one in residuals)
    return Baseline(
        days=len(series) / DAY_HOURS,
        level=mean_before(len(series)),
        place=place,
        spread=max(SPREAD_FLOOR, spread),
        peak=max(series),
        unit=unit,
    )


def _places(relative: Mapping[int, float]) -> tuple[float, ...]:
    by_week: dict[int, list[float]] = {}
    by_kind: dict[tuple[bool, int], list[float]] = {}
    by_day: dict[int, list[float]] = {}
    for hour, value in relative.items():
        by_week.setdefault(hour % WEEK_HOURS, []).append(value)
        by_kind.setdefault((_weekend(hour), hour % DAY_HOURS), []).append(value)
        by_day.setdefault(hour % DAY_HOURS, []).append(value)
    everywhere = median(relative.values()) if relative else 0.0
    days = {at: _drawn(found, everywhere, 2) for at, found in by_day.items()}
    kinds = {at: _drawn(found, days[at[1]], 3) for at, found in by_kind.items()}
    places = []
    for hour in range(WEEK_HOURS):
        general = kinds.get((_weekend(hour), hour % DAY_HOURS), days.get(hour % DAY_HOURS, everywhere))
        places.append(_drawn(by_week.get(hour, []), general, 2))
    return tuple(places)


def _drawn(found: Sequence[float], towards: float, weight: int) -> float:
    """A median that counts for as many samples as it has, drawn to a more general one that counts for `weight`."""
    return (len(found) * median(found) + weight * towards) / (len(found) + weight) if found else towards


@dataclass(frozen=True, slots=True)
class Hours:
    """Usage of one subject in one amount: hours that just were, and for an actor its days before today."""

    amounts: Mapping[int, float]
    days: Mapping[int, float] = field(default_factory=dict)


def exceeds(detection: UsageDetection, of: Hours, baseline: Baseline, hour: int) -> str | None:
    """Why the usage up to this hour is not usual by a rule; None when it is, or too little is known to say.

    Args:
        baseline: the asset's, also for an actor.
    """
    if baseline.days < detection.min_days:
        return None
    amounts = of.amounts
    now = amounts.get(hour, 0.0)
    if detection.by == "actor":
        peak = max(of.days.values(), default=0.0)
        usual = detection.asset_share * baseline.expected(hour)
        limit = max(detection.least, detection.over_peak * max(peak, baseline.peak), usual, detection.ratio * peak)
        if now <= limit:
            return None
        return (
            f"{now:.4g} {detection.amount.value} in this hour; the whole asset usually has "
            f"{baseline.expected(hour):.4g}, at most {baseline.peak:.4g}; the actor's highest day had {peak:.4g}"
        )
    for back in range(detection.hours):
        if amounts.get(hour - back, 0.0) <= baseline.limit(detection, hour - back):
            return None
    in_a_row = f" for {detection.hours} hours" if detection.hours > 1 else ""
    return (
        f"{now:.4g} {detection.amount.value} in this hour{in_a_row}; usually {baseline.expected(hour):.4g}, "
        f"at most {baseline.peak:.4g} in {baseline.days:.0f} days"
    )


@dataclass(frozen=True, slots=True)
class Unusual:
    """An hour that is not usual for an asset, by one rule; `actor` is whose usage it is, empty if everybody's."""

    rule: Rule
    actor: str
    shown: str


def unusual(
    rules: Iterable[Rule],
    hour: int,
    of_asset: Mapping[Amount, Hours],
    of_actors: Mapping[str, Mapping[Amount, Hours]],
    baseline: Callable[[Amount], Baseline],
) -> Unusual | None:
    """What is most unusual about an asset's hour; None when nothing is.

    One burst shows in tokens, money and requests, of the asset and of an actor: that is one thing to look at. The
    gravest rule speaks, of an actor before the asset, of money before tokens before requests.

    Args:
        baseline: the asset's in an amount; asked for only where an hour is above a rule's least.
    """
    found: list[tuple[tuple[float, bool, int], Unusual]] = []
    for rule in rules:
        detection = rule.detection
        if not isinstance(detection, UsageDetection):
            continue
        whose = [("", of_asset)] if detection.by == "asset" else list(of_actors.items())
        for actor, amounts in whose:
            hours = amounts.get(detection.amount)
            if hours is None or hours.amounts.get(hour, 0.0) <= detection.least:
                continue
            shown = exceeds(detection, hours, baseline(detection.amount), hour)
            if shown is not None:
                weight = score_of(rule), bool(actor), _MATTERS.index(detection.amount)
                found.append((weight, Unusual(rule, actor, shown)))
    return max(found, key=lambda one: one[0])[1] if found else None


# -- budgets -------------------------------------------------------------------------------------------------------


class Period(StrEnum):
    """What a budget is for: a day or a month of the calendar, in UTC."""

    DAY = "day"
    MONTH = "month"

    def starts(self, at: float) -> int:
        """The first hour, since the epoch, of the period that a time is in."""
        day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return hour_of((day if self is Period.DAY else day.replace(day=1)).timestamp())


@dataclass(frozen=True, slots=True)
class Budget:
    """What an asset may use in a period. `amount` is tokens or US dollars."""

    period: Period
    amount: Amount
    limit: float

    def percent(self, used: float) -> float:
        return 100 * used / self.limit
