"""Sampling a time series: steps, bounds, defaults."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.metrics.domain.ledger import at_minute
from services.metrics.domain.series import MAX_POINTS, BadSeries, default_start, sample_minutes, step_minutes
from services.metrics.tests.factories import NOON


@pytest.mark.parametrize(("step", "minutes"), [("1m", 1), ("15m", 15), ("1h", 60), ("1d", 1440), ("2w", 20_160)])
def test_steps_are_minutes_hours_days_or_weeks(step: str, minutes: int) -> None:
    assert step_minutes(step) == minutes


@pytest.mark.parametrize("step", ["", "0m", "1", "h", "-1h", "1.5h", "1s", "1y", "1 h", "١h", "99999999h", "1h\n"])
def test_anything_else_is_no_step(step: str) -> None:
    with pytest.raises(BadSeries) as refused:
        step_minutes(step)
    assert refused.value.extra["errors"][0]["field"] == "step"


def test_both_ends_are_sampled() -> None:
    minutes = sample_minutes(NOON, NOON + timedelta(hours=3), 60)
    assert [at_minute(minute) - NOON for minute in minutes] == [timedelta(hours=hours) for hours in range(4)]
    assert len(sample_minutes(NOON, NOON, 60)) == 1


def test_the_number_of_points_is_bounded() -> None:
    longest = timedelta(minutes=MAX_POINTS - 1)
    assert len(sample_minutes(NOON, NOON + longest, 1)) == MAX_POINTS
    with pytest.raises(BadSeries, match="points"):
        sample_minutes(NOON, NOON + longest + timedelta(minutes=1), 1)


def test_a_series_runs_forward() -> None:
    with pytest.raises(BadSeries, match="from"):
        sample_minutes(NOON, NOON - timedelta(minutes=1), 1)


def test_a_series_covers_thirty_days_unless_told() -> None:
    assert NOON - default_start(NOON) == timedelta(days=30)
