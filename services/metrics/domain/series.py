"""The moments at which a time series is sampled."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from services.metrics.domain.ledger import LAST_MINUTE, at_minute, minute_of
from shared.errors import Invalid

MAX_POINTS = 1_000
DEFAULT_DAYS = 30
DEFAULT_STEP_MINUTES = 24 * 60

_UNIT_MINUTES = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}
_STEP = re.compile(r"([1-9][0-9]{0,6})([mhdw])", re.ASCII)


class BadSeries(Invalid):
    """The series cannot be sampled like that."""


def step_minutes(step: str) -> int:
    """Minutes of a step such as 15m, 1h, 1d or 1w.

    Raises:
        BadSeries: it is none of these.
    """
    matched = _STEP.fullmatch(step)
    if matched is None:
        raise BadSeries(f"{step!r} is no step: a whole number and m, h, d or w, such as 15m, 1h, 1d", field="step")
    return int(matched[1]) * _UNIT_MINUTES[matched[2]]


def sample_minutes(start: datetime, end: datetime, step: int) -> range:
    """The minutes sampled from `start` to `end`, both within, `step` minutes apart.

    Raises:
        BadSeries: the end lies before the start, or there would be more than MAX_POINTS points.
    """
    if end < start:
        raise BadSeries("'from' must not be after 'to'", field="from")
    minutes = range(minute_of(start), minute_of(end) + 1, min(step, LAST_MINUTE))
    if len(minutes) > MAX_POINTS:
        raise BadSeries(f"that makes {len(minutes)} points, {MAX_POINTS} are allowed: take a longer step", field="step")
    return minutes


def default_start(end: datetime) -> datetime:
    """Where a series begins that names only its end."""
    return at_minute(max(0, minute_of(end) - int(timedelta(days=DEFAULT_DAYS).total_seconds() // 60)))
