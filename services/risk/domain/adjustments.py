"""What happens to an asset, in points on top of the specification's residual.

The specification's score is a judgement of what an asset is; alerts and incidents say what is being done to it. They
are kept apart from the formula as signed adjustments that sum exactly to the change, so that a score can always be
read back to the specification's and each point of difference has a source. Without activity there is none.

Age counts in whole hours: it makes a decay the same however often it is recomputed within the hour, and lets the powers
be cached. Powers and logarithms are decimal too: libmpdec gives the same digits on every machine, the C library's
floats do not, and replayed tables must be equal to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from functools import lru_cache
from uuid import UUID

from services.risk.domain.formula import plain, rounded
from services.risk.domain.model import HUNDRED, ONE, ZERO, BlastRadius, IncidentActivity, ScoringModel, ThreatActivity
from shared.contracts.incidents import IncidentStatus

NOTICEABLE = Decimal("0.005")
"""A signal that decayed below this no longer moves a score of two decimals by itself, and is forgotten."""
MOST_SOURCES = 20
"""Ids that an adjustment names; the reason tells how many there were."""
_HOUR = timedelta(hours=1)
_DIGITS = Context(prec=16)
_OVER = frozenset({IncidentStatus.RESOLVED, IncidentStatus.CLOSED})


@dataclass(frozen=True, slots=True)
class AlertSignal:
    """An alert on an asset, open or found to be real; what was found to be nothing is no signal."""

    alert_id: UUID
    asset_id: UUID
    version: int
    severity: str
    count: int
    last_seen: datetime

    def points(self, table: ThreatActivity, at: datetime) -> Decimal:
        """Points at a time."""
        return table.points[self.severity] * _repetition(self.count) * _decay(self.last_seen, at, table.half_life_days)


@dataclass(frozen=True, slots=True)
class IncidentSignal:
    """An incident that affects an asset as risk sees it."""

    incident_id: UUID
    asset_id: UUID
    version: int
    severity: str
    status: str
    over_since: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Resolved or closed."""
        return self.status in _OVER

    def points(self, table: IncidentActivity, at: datetime) -> Decimal:
        """Points at a time: in full while open, a share once contained, fading once resolved or closed."""
        points = table.points[self.severity]
        if self.is_over:
            since = self.over_since or at
            return points * table.contained_share * _decay(since, at, table.half_life_days)
        return points * table.contained_share if self.status == IncidentStatus.CONTAINED else points


@dataclass(frozen=True, slots=True)
class Situation:
    """What is going on around one asset. `dependents`: assets downstream of it, near or far."""

    alerts: Sequence[AlertSignal] = ()
    incidents: Sequence[IncidentSignal] = ()
    quarantined: bool = False
    dependents: int = 0

    @property
    def is_quiet(self) -> bool:
        """Nothing here can adjust a score."""
        return not (self.alerts or self.incidents or self.quarantined)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A signed change in points of the 0-100 scale, two decimals. `source_ids`: alerts, incidents or the asset."""

    kind: str
    points: Decimal
    reason: str
    source_ids: tuple[UUID, ...]


def adjust(
    model: ScoringModel, asset_id: UUID, situation: Situation, *, base: Decimal, at: datetime
) -> tuple[Adjustment, ...]:
    """The adjustments to a base residual (0-100, two decimals), such that base + their sum stays within 0 and 100.

    What would leave the scale is taken off the adjustment that would leave it, in this order, so that the points
    shown sum to the change without a remainder.
    """
    if situation.is_quiet:
        return ()
    activity = model.activity
    alerts = _strongest((signal.alert_id, signal.points(activity.threat_activity, at)) for signal in situation.alerts)
    incidents = _strongest(
        (signal.incident_id, signal.points(activity.incident_activity, at)) for signal in situation.incidents
    )
    found = [
        _sum_up("threat_activity", alerts, activity.threat_activity.cap, "alert", "weighed by severity, count and age"),
        _sum_up(
            "incident_activity", incidents, activity.incident_activity.cap, "incident", "weighed by severity and status"
        ),
    ]
    moving = sum((adjustment.points for adjustment in found if adjustment), ZERO)
    found.append(_blast_radius(activity.blast_radius, asset_id, situation, moving))
    return _within_scale(base, [adjustment for adjustment in found if adjustment is not None])


def _sum_up(kind: str, sources: list[tuple[UUID, Decimal]], cap: Decimal, noun: str, how: str) -> Adjustment | None:
    total = sum((points for _, points in sources), ZERO)
    points = rounded(min(cap, total))
    if points == 0:
        return None
    reason = f"{len(sources)} {noun}{'' if len(sources) == 1 else 's'}, {how}"
    if total > cap:
        reason += f"; {plain(rounded(total))} points, capped at {plain(cap)}"
    return Adjustment(kind, points, f"{reason}.", tuple(source for source, _ in sources[:MOST_SOURCES]))


def _blast_radius(table: BlastRadius, asset_id: UUID, situation: Situation, moving: Decimal) -> Adjustment | None:
    if situation.dependents == 0 or not (situation.quarantined or moving):
        return None
    reach = min(table.cap, table.points_per_doubling * _log2(1 + situation.dependents))
    share = ONE if situation.quarantined else min(ONE, moving / table.full_at_points)
    points = rounded(reach * share)
    if points == 0:
        return None
    why = "it is quarantined" if situation.quarantined else f"{plain(moving)} points of activity"
    return Adjustment(
        "blast_radius",
        points,
        f"{situation.dependents} asset{'' if situation.dependents == 1 else 's'} downstream, and {why}.",
        (asset_id,),
    )


def _within_scale(base: Decimal, adjustments: Iterable[Adjustment]) -> tuple[Adjustment, ...]:
    score = base
    kept = []
    for adjustment in adjustments:
        reached = min(HUNDRED, max(ZERO, score + adjustment.points))
        points = rounded(reached - score)
        if points != adjustment.points:
            reason = f"{adjustment.reason} {plain(adjustment.points)} points, cut at the end of the scale."
            adjustment = Adjustment(adjustment.kind, points, reason, adjustment.source_ids)
        kept.append(adjustment)
        score = reached
    return tuple(kept)


def _strongest(signals: Iterable[tuple[UUID, Decimal]]) -> list[tuple[UUID, Decimal]]:
    """Those that count, largest first; equals by id, so that the order is the same on every run."""
    return sorted(
        ((source, points) for source, points in signals if points >= NOTICEABLE),
        key=lambda entry: (-entry[1], entry[0].int),
    )


def _decay(since: datetime, at: datetime, half_life_days: Decimal) -> Decimal:
    """1 at `since`, half after each half-life; never above 1, as producers' clocks may run ahead."""
    return _halved(max(0, (at - since) // _HOUR), half_life_days)


@lru_cache(maxsize=20_000)
def _halved(hours: int, half_life_days: Decimal) -> Decimal:
    return _DIGITS.power(Decimal(2), _DIGITS.divide(Decimal(-hours), half_life_days * 24))


@lru_cache(maxsize=10_000)
def _repetition(count: int) -> Decimal:
    """1 for one, 2 for ten, 3 for a hundred: a storm says more than one alert, but not a thousand times more."""
    return ONE + _DIGITS.log10(Decimal(max(1, count)))


@lru_cache(maxsize=10_000)
def _log2(count: int) -> Decimal:
    return _DIGITS.divide(_DIGITS.ln(Decimal(count)), _DIGITS.ln(Decimal(2)))
