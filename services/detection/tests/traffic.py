"""Traffic that never was: a fleet of assets with everything ordinary about it, hour by hour.

Seeded and on its own clock, so that thirty days take seconds and come out alike each time. Amounts are made an
hour at a time for each actor; `talks` makes sessions, a sample of those that such an asset would have.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from uuid import UUID

START_HOUR = 491_160
"""Monday 12 January 2026, 00:00 UTC, in hours since the epoch."""
DAY = 24
PRICE_A_TOKEN = 4e-6

KINDS = ("chat", "assistant", "support_agent", "coding_agent", "pipeline")


@dataclass(frozen=True, slots=True)
class Used:
    """What one actor used in one hour. `a_minute` is the highest number of requests in one of its minutes."""

    requests: float
    tokens: float
    cost_usd: float
    a_minute: float


@dataclass(slots=True)
class Burst:
    """Something ordinary that multiplies an asset's traffic for a while; `actor` if it is one actor's doing."""

    name: str
    first_hour: int
    hours: int
    factor: float
    actor: str = ""


@dataclass(slots=True)
class TrafficOf:
    """One asset's traffic."""

    asset_id: UUID
    kind: str
    requests_an_hour: float
    tokens_a_request: float
    growth_a_month: float
    noise: float
    zone: int
    weekend: float
    actors: list[str]
    bursts: list[Burst] = field(default_factory=list)
    longer_from: int = 10**9
    longer_by: float = 1.0
    outage: tuple[int, int] = (0, 0)
    holidays: frozenset[int] = frozenset()
    name: str = ""

    def hour(self, rng: random.Random, hour: int) -> dict[str, Used]:
        """What each actor uses in an hour since the epoch."""
        at = hour - START_HOUR
        if self.outage[0] <= at < self.outage[1]:
            return {}
        level = self.requests_an_hour * (1 + self.growth_a_month) ** (at / (30 * DAY))
        level *= self._time_of_day(at) * math.exp(rng.gauss(0, self.noise))
        if self.outage[1] and self.outage[1] <= at < self.outage[1] + 2:
            level *= 1.8  # what had to wait
        tokens = self.tokens_a_request * (self.longer_by if at >= self.longer_from else 1.0)
        own: dict[str, float] = {}
        for burst in self.bursts:
            if burst.first_hour <= at < burst.first_hour + burst.hours:
                if burst.actor:
                    own[burst.actor] = own.get(burst.actor, 0.0) + self.requests_an_hour * burst.factor
                else:
                    level *= burst.factor
        requests = _poisson(rng, level)
        shares = [1 / (rank + 1) ** 0.7 for rank in range(len(self.actors))]
        total = sum(shares)
        amounts = {actor: requests * share / total for actor, share in zip(self.actors, shares, strict=True)}
        for actor, count in own.items():
            amounts[actor] = amounts.get(actor, 0.0) + count * math.exp(rng.gauss(0, 0.1))
        return {
            actor: self._used(rng, count, tokens, 1.3 if actor in own else 4.0)
            for actor, count in amounts.items()
            if count >= 0.5
        }

    @staticmethod
    def _used(rng: random.Random, count: float, tokens: float, peak: float) -> Used:
        used = count * tokens * math.exp(rng.gauss(0, 0.15))
        return Used(count, used, used * PRICE_A_TOKEN, count / 60 * peak)

    def _time_of_day(self, at: int) -> float:
        local = at + self.zone
        hour, day = local % DAY, local // DAY
        if self.kind == "pipeline":
            return 0.5 + 0.5 * (hour in (6, 7, 12, 18))
        daily = 0.06 + math.exp(-(((hour - 11) / 3.2) ** 2)) + 0.8 * math.exp(-(((hour - 16) / 3.4) ** 2))
        quiet = day % 7 >= 5 or day in self.holidays
        return daily * (self.weekend if quiet else 1.0)


def _poisson(rng: random.Random, mean: float) -> float:
    if mean > 50:
        return max(0.0, rng.gauss(mean, math.sqrt(mean)))
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return float(count)


def fleet(seed: int, assets: int = 50, days: int = 44) -> list[TrafficOf]:
    """Assets of all kinds and sizes, with what happens to them in so many days."""
    rng = random.Random(seed)
    made = []
    for number in range(assets):
        kind = KINDS[number % len(KINDS)]
        base = math.exp(rng.uniform(math.log(15), math.log(1_500)))
        one = TrafficOf(
            asset_id=UUID(int=0xF1EE7000 + number),
            kind=kind,
            requests_an_hour=base,
            tokens_a_request=math.exp(rng.uniform(math.log(400), math.log(6_000))),
            growth_a_month=rng.uniform(-0.2, 0.9),
            noise=rng.uniform(0.1, 0.35),
            zone=rng.randrange(24),
            weekend=rng.choice((0.08, 0.25, 0.6, 1.1)),
            name=f"asset-{number}/",
            actors=[f"user-{number}-{who}" for who in range(rng.choice((1, 3, 12, 40)))],
            holidays=frozenset(rng.sample(range(days), 1)) if rng.random() < 0.4 else frozenset(),
        )
        _ordinary_events(rng, one, days)
        made.append(one)
    return made


def _ordinary_events(rng: random.Random, one: TrafficOf, days: int) -> None:
    def add(name: str, day: float, hours: int, factor: float, actor: str = "") -> None:
        one.bursts.append(Burst(name, int(day * DAY), hours, factor, actor))

    if one.kind == "pipeline" or rng.random() < 0.3:  # a nightly batch job, now and then late, long, or twice as big
        at, factor = rng.randrange(24), rng.uniform(1.5, 5.0)
        for day in range(days):
            if rng.random() < 0.95:
                late = rng.choice((0, 0, 0, 0, 1, 2))
                add(
                    "batch",
                    day + (at + late) / DAY,
                    rng.choice((1, 2, 3)),
                    factor * rng.choice((1, 1, 1, 2)),
                    "svc-batch",
                )
    if rng.random() < 0.3:  # a report on Mondays
        for day in range(0, days, 7):
            add("weekly report", day + 7 / DAY, 2, rng.uniform(1.5, 4.0), "svc-reports")
    if rng.random() < 0.25:  # month end: 30 and 31 January, 1 February
        factor = rng.uniform(1.8, 3.0)
        for day in (18, 19, 20):
            add("month end", day + 8 / DAY, 12, factor)
    if one.kind in ("chat", "support_agent") and rng.random() < 0.4:  # a campaign, in waves
        start = rng.uniform(5, days - 4)
        for day in range(rng.choice((2, 3))):
            add("campaign", int(start) + day + 9 / DAY, 12, rng.uniform(2.0, 4.0))
    if rng.random() < 0.25:  # a load test in production, announced to everybody but us
        add("load test", rng.uniform(8, days - 1), rng.choice((1, 2)), rng.uniform(4, 12), "svc-loadtest")
    if rng.random() < 0.5:  # a release with longer prompts
        one.longer_from, one.longer_by = int(rng.uniform(4, days) * DAY), rng.uniform(1.3, 3.0)
    if rng.random() < 0.3:  # a bad day: everybody tries again
        add("incident", rng.uniform(5, days - 1), rng.choice((1, 2, 4)), rng.uniform(2.0, 5.0))
    if rng.random() < 0.2:
        start = int(rng.uniform(5, days - 1) * DAY)
        one.outage = start, start + rng.choice((1, 2, 5))
    if rng.random() < 0.15:  # a new large customer
        start = rng.uniform(6, days - 2)
        add("new customer", start, days * DAY, rng.uniform(1.5, 2.5))
