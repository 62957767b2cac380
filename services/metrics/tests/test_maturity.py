"""Maturity levels at, just below and just above each threshold."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from services.metrics.domain import figures
from services.metrics.domain.figures import MILLISECONDS_AN_HOUR, Value
from services.metrics.domain.ledger import COUNTERS, Counter, Totals
from services.metrics.domain.maturity import DIMENSIONS, LEVEL_NAMES, MaturityLevel, assess

WHOLE = 10_000


def measured(counts: Mapping[Counter, int]) -> dict[str, Value]:
    return figures.values(Totals([counts.get(counter, 0) for counter in COUNTERS]))


def level_of(dimension: str, counts: Mapping[Counter, int]) -> MaturityLevel:
    return next(level for level in assess(measured(counts)) if level.dimension == dimension)


def hours(value: float) -> int:
    return round(value * MILLISECONDS_AN_HOUR)


SHARES = [(0, 1), (4999, 1), (5000, 2), (7999, 2), (8000, 3), (9499, 3), (9500, 4), (10_000, 4)]


@pytest.mark.parametrize(("reviewed", "level"), SHARES)
def test_asset_management_follows_coverage(reviewed: int, level: int) -> None:
    found = level_of("Asset Management", {Counter.ASSETS: WHOLE, Counter.REVIEWED: reviewed})
    assert (found.level, found.level_name) == (level, LEVEL_NAMES[level])
    assert found.score == reviewed / 100


@pytest.mark.parametrize(
    ("detect", "contain", "level"),
    [
        (0.0, 0.0, 4),
        (0.999, 3.99, 4),
        (0.999, 4.0, 3),
        (0.999, None, 3),
        (1.0, 3.99, 3),
        (3.99, 100.0, 3),
        (4.0, 1.0, 2),
        (23.99, 1.0, 2),
        (24.0, 1.0, 1),
        (None, None, 1),
    ],
)
def test_incident_response_follows_times_to_detect_and_contain(
    detect: float | None, contain: float | None, level: int
) -> None:
    counts: dict[Counter, int] = {}
    if detect is not None:
        counts |= {Counter.DETECT_COUNT: 1, Counter.DETECT_MILLISECONDS: hours(detect)}
    if contain is not None:
        counts |= {Counter.CONTAIN_COUNT: 1, Counter.CONTAIN_MILLISECONDS: hours(contain)}
    found = level_of("Incident Response", counts)
    assert found.level == level
    assert found.score == (None if detect is None else pytest.approx(max(0, 100 - detect * 5), abs=0.01))


@pytest.mark.parametrize(
    ("engagements", "remediated", "level"),
    [
        (0, 9000, 1),
        (1, 9000, 2),
        (2, 9000, 3),
        (3, 9000, 3),
        (4, 8999, 3),
        (4, 9000, 4),
        (9, 10_000, 4),
        (4, None, 3),
    ],
)
def test_red_teaming_follows_engagements_and_remediation(engagements: int, remediated: int | None, level: int) -> None:
    counts = {Counter.ENGAGEMENTS_YEAR: engagements}
    if remediated is not None:
        counts |= {Counter.FINDINGS: WHOLE, Counter.FINDINGS_REMEDIATED: remediated}
    found = level_of("Red Teaming", counts)
    assert (found.level, found.score) == (level, min(100, engagements * 25))


@pytest.mark.parametrize(
    ("assessed", "critical", "mean", "level"),
    [
        (0, 0, 0, 1),
        (4999, 0, 10, 1),
        (5000, 5000, 90, 2),
        (8000, 501, 10, 2),
        (8000, 500, 90, 3),
        (9499, 0, 10, 3),
        (9500, 101, 10, 3),
        (9500, 100, 50, 3),
        (9500, 100, 49.99, 4),
    ],
)
def test_risk_management_follows_assessment_criticality_and_mean(
    assessed: int, critical: int, mean: float, level: int
) -> None:
    counts = {
        Counter.ASSETS: WHOLE,
        Counter.ASSESSED: assessed,
        Counter.CRITICAL: critical,
        Counter.RESIDUAL_CENTS: round(mean * 100) * assessed,
    }
    found = level_of("Risk Management", counts)
    assert found.level == level
    assert found.has_data is (assessed > 0)


@pytest.mark.parametrize(("controlled", "level"), SHARES[1:])
def test_technical_controls_follow_control_coverage(controlled: int, level: int) -> None:
    counts = {
        Counter.ASSETS: WHOLE,
        Counter.CONTROLLED: controlled,
        Counter.DEPLOYED: WHOLE,
        Counter.OPERATIONAL: 9000,
    }
    assert level_of("Technical Controls", counts).level == level


def test_technical_controls_reach_level_4_only_when_nine_in_ten_work() -> None:
    counts = {Counter.ASSETS: 100, Counter.CONTROLLED: 100, Counter.DEPLOYED: WHOLE, Counter.OPERATIONAL: 8999}
    found = level_of("Technical Controls", counts)
    assert found.level == 3
    assert found.gaps_to_next_level == ("Bring 90% of the deployed controls into operation; 89.99% are.",)


@pytest.mark.parametrize(
    ("policies", "appetite", "decisions", "tracked", "overdue", "level"),
    [
        (0, 1, 1, 10, 0, 1),
        (1, 0, 0, 0, 0, 2),
        (5, 0, 3, 10, 0, 2),
        (4, 1, 3, 10, 0, 2),
        (5, 1, 0, 10, 0, 3),
        (5, 1, 1, 0, 0, 3),
        (5, 1, 1, 100, 6, 3),
        (5, 1, 1, 100, 5, 4),
    ],
)
def test_governance_follows_policies_appetite_decisions_and_punctuality(
    policies: int, appetite: int, decisions: int, tracked: int, overdue: int, level: int
) -> None:
    counts = {
        Counter.POLICIES: policies,
        Counter.APPETITE: appetite,
        Counter.DECISIONS: decisions,
        Counter.ACTIONS_TRACKED: tracked,
        Counter.OVERDUE_REVIEWS: overdue,
    }
    assert level_of("Governance", counts).level == level


@pytest.mark.parametrize(("gap_free", "level"), SHARES)
def test_compliance_follows_assets_without_gaps(gap_free: int, level: int) -> None:
    assert level_of("Compliance", {Counter.ASSETS: WHOLE, Counter.GAP_FREE: gap_free}).level == level


def test_nothing_measured_is_no_data_and_never_a_good_level() -> None:
    for found in assess(measured({})):
        assert found.level == 1
        assert found.gaps_to_next_level
        if found.dimension == "Red Teaming":
            assert (found.score, found.has_data) == (0, True)
        else:
            assert (found.score, found.has_data) == (None, False)
            assert any("no data" in line for line in found.evidence)


def test_of_an_unknown_moment_nothing_at_all_is_said() -> None:
    for found in assess(figures.values(None)):
        assert (found.level, found.score, found.has_data) == (1, None, False)
        assert not any(digit in line for line in found.evidence for digit in "0123456789" if "30 days" not in line)


def test_assets_without_any_control_on_record_are_no_measurement() -> None:
    found = level_of("Technical Controls", {Counter.ASSETS: 10})
    assert (found.level, found.score, found.has_data) == (1, None, False)


FULL: dict[Counter, int] = {
    Counter.ASSETS: 100,
    Counter.REVIEWED: 100,
    Counter.GAP_FREE: 100,
    Counter.ASSESSED: 100,
    Counter.RESIDUAL_CENTS: 100 * 2_000,
    Counter.CONTROLLED: 100,
    Counter.DEPLOYED: 100,
    Counter.OPERATIONAL: 100,
    Counter.DETECT_COUNT: 1,
    Counter.CONTAIN_COUNT: 1,
    Counter.ENGAGEMENTS_YEAR: 4,
    Counter.FINDINGS: 10,
    Counter.FINDINGS_REMEDIATED: 10,
    Counter.POLICIES: 5,
    Counter.APPETITE: 1,
    Counter.DECISIONS: 1,
    Counter.ACTIONS_TRACKED: 10,
}


def test_level_5_takes_level_4_now_and_at_the_four_quarters_before() -> None:
    good, bad = measured(FULL), measured({})
    assert [level.level for level in assess(good)] == [4] * len(DIMENSIONS)
    assert [level.level for level in assess(good, [good] * 3)] == [4] * len(DIMENSIONS)
    assert [level.level for level in assess(good, [good, good, bad, good])] == [4] * len(DIMENSIONS)
    for level in assess(good, [good] * 4):
        assert (level.level, level.level_name, level.gaps_to_next_level) == (5, "Optimizing", ())
    assert {level.level for level in assess(bad, [good] * 4)} == {1}


def test_level_4_says_how_much_of_the_year_is_shown() -> None:
    good, bad = measured(FULL), measured({})
    found = assess(good, [good, bad, bad, bad])[0]
    assert found.gaps_to_next_level == (
        "Stay at level 4 for a year: it was reached at 1 of the 4 quarters before this one.",
    )


def test_a_gap_says_how_many_assets_are_missing() -> None:
    found = level_of("Asset Management", {Counter.ASSETS: 3, Counter.REVIEWED: 1})
    assert found.gaps_to_next_level == (
        "Review the security of 1 more asset: 33.33% are security-reviewed, 50% are needed.",
    )


def test_what_is_shown_never_reads_better_than_it_is() -> None:
    found = level_of("Asset Management", {Counter.ASSETS: 1_000_000, Counter.REVIEWED: 949_999})
    assert found.level == 3
    assert "94.99%" in found.evidence[0]
    slow = level_of("Incident Response", {Counter.DETECT_COUNT: 3, Counter.DETECT_MILLISECONDS: 3 * hours(1) - 1})
    assert slow.evidence[0] == "Mean time to detect: 0.999 h"


def test_every_level_below_the_last_names_a_gap() -> None:
    for counts in ({}, FULL, {**FULL, Counter.REVIEWED: 60}):
        for found in assess(measured(counts)):
            assert found.gaps_to_next_level
            assert found.evidence
