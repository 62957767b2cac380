"""Activity on top of the formula: sums, bounds, decay, and nothing where nothing happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.risk.domain.adjustments import AlertSignal, IncidentSignal, Situation, adjust
from services.risk.domain.assessment import Score, risk_reduction_percentage, score_asset
from services.risk.domain.formula import Control, Subject
from services.risk.domain.model import DEFAULT_MODEL
from services.risk.tests.test_formula import GOLDEN, control_lists, subjects
from shared.contracts.detection import Severity
from shared.contracts.incidents import IncidentSeverity, IncidentStatus

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ASSET = UUID("018f0000-0000-7000-8000-000000000001")


def an_alert(severity: str = "critical", **changes: Any) -> AlertSignal:
    values: dict[str, Any] = {"alert_id": uuid4(), "asset_id": ASSET, "version": 1, "count": 1, "last_seen": NOW}
    return AlertSignal(**(values | {"severity": severity} | changes))


def an_incident(severity: str = "sev1", **changes: Any) -> IncidentSignal:
    values: dict[str, Any] = {"incident_id": uuid4(), "asset_id": ASSET, "version": 1, "status": "open"}
    return IncidentSignal(**(values | {"severity": severity} | changes))


def points(*, at: datetime = NOW, base: str = "0.00", **situation: Any) -> dict[str, float]:
    found = adjust(DEFAULT_MODEL, ASSET, Situation(**situation), base=Decimal(base), at=at)
    return {adjustment.kind: float(adjustment.points) for adjustment in found}


def score(situation: Situation, *, subject: Subject = GOLDEN, at: datetime = NOW, controls: Any = ()) -> Score:
    return score_asset(DEFAULT_MODEL, ASSET, subject, controls, situation, at=at)


@pytest.mark.parametrize(
    ("severity", "expected"), [("info", {}), ("low", 1), ("medium", 3), ("high", 6), ("critical", 12)]
)
def test_an_alert_weighs_by_its_severity(severity: str, expected: Any) -> None:
    assert points(alerts=[an_alert(severity)]) == (expected and {"threat_activity": expected})


@pytest.mark.parametrize(("count", "expected"), [(1, 3), (10, 6), (100, 9), (1000, 12)])
def test_repetition_weighs_logarithmically(count: int, expected: int) -> None:
    assert points(alerts=[an_alert("medium", count=count)]) == {"threat_activity": expected}


@pytest.mark.parametrize(("days", "expected"), [(0, 12), (7, 6), (14, 3), (21, 1.5), (-1, 12)])
def test_an_alert_halves_every_seven_days(days: int, expected: float) -> None:
    assert points(alerts=[an_alert(last_seen=NOW - timedelta(days=days))]) == {"threat_activity": expected}


def test_alerts_add_up_to_a_cap_and_say_so() -> None:
    adjustment, *_ = adjust(
        DEFAULT_MODEL, ASSET, Situation(alerts=[an_alert() for _ in range(30)]), base=Decimal(0), at=NOW
    )
    assert adjustment.points == 20
    assert adjustment.reason == "30 alerts, weighed by severity, count and age; 360 points, capped at 20."
    assert len(adjustment.source_ids) == 20


@pytest.mark.parametrize(("severity", "expected"), [("sev1", 30), ("sev2", 18), ("sev3", 8), ("sev4", 2)])
def test_an_incident_weighs_by_its_severity(severity: str, expected: int) -> None:
    assert points(incidents=[an_incident(severity)]) == {"incident_activity": expected}


@pytest.mark.parametrize(
    ("status", "days", "expected"),
    [
        ("open", 0, 18),
        ("open", 100, 18),
        ("investigating", 30, 18),
        ("contained", 30, 9),
        ("resolved", 0, 9),
        ("resolved", 7, 4.5),
        ("closed", 14, 2.25),
    ],
)
def test_containment_halves_an_incident_and_resolution_lets_it_fade(status: str, days: int, expected: float) -> None:
    incident = an_incident("sev2", status=status, over_since=NOW - timedelta(days=days))
    assert points(incidents=[incident]) == {"incident_activity": expected}


def test_dependents_weigh_only_where_something_happens() -> None:
    assert points(dependents=1000) == {}
    assert points(dependents=3, quarantined=True) == {"blast_radius": 4}
    assert points(dependents=3, alerts=[an_alert()]) == {"threat_activity": 12, "blast_radius": 2.4}
    assert points(dependents=3, incidents=[an_incident()]) == {"incident_activity": 30, "blast_radius": 4}
    assert points(dependents=1_000_000, incidents=[an_incident()])["blast_radius"] == 10


def test_quarantine_without_dependents_changes_nothing() -> None:
    assert points(quarantined=True) == {}


def test_the_end_of_the_scale_is_taken_off_what_would_leave_it() -> None:
    found = adjust(
        DEFAULT_MODEL,
        ASSET,
        Situation(alerts=[an_alert()], incidents=[an_incident()], dependents=5),
        base=Decimal("71.25"),
        at=NOW,
    )
    assert [(a.kind, str(a.points)) for a in found] == [
        ("threat_activity", "12.00"),
        ("incident_activity", "16.75"),
        ("blast_radius", "0.00"),
    ]
    assert found[1].reason.endswith("30 points, cut at the end of the scale.")


def test_without_activity_the_score_is_the_specifications() -> None:
    quiet = score(Situation(dependents=500))
    assert quiet.adjustments == ()
    assert quiet.residual == quiet.base_residual == Decimal("71.25")
    assert quiet.level == "HIGH"


def test_activity_moves_score_and_level() -> None:
    attacked = score(Situation(alerts=[an_alert()]))
    assert (attacked.base_residual, attacked.residual, attacked.level) == (
        Decimal("71.25"),
        Decimal("83.25"),
        "CRITICAL",
    )


@pytest.mark.parametrize(
    ("inherent", "residual", "percent"), [("71.25", "53.44", "25.00"), ("0", "0", "0"), ("50", "60", "-20.00")]
)
def test_risk_reduction(inherent: str, residual: str, percent: str) -> None:
    assert risk_reduction_percentage(Decimal(inherent), Decimal(residual)) == Decimal(percent)


hours_ago = st.integers(-48, 24 * 400).map(lambda hours: NOW - timedelta(hours=hours))
alerts = st.builds(
    an_alert,
    st.sampled_from([*map(str, Severity)]),
    alert_id=st.uuids(),
    count=st.integers(1, 10**6),
    last_seen=hours_ago,
)
incidents = st.builds(
    an_incident,
    st.sampled_from([*map(str, IncidentSeverity)]),
    incident_id=st.uuids(),
    status=st.sampled_from([*map(str, IncidentStatus)]),
    over_since=hours_ago,
)
situations = st.builds(
    Situation,
    alerts=st.lists(alerts, max_size=6),
    incidents=st.lists(incidents, max_size=4),
    quarantined=st.booleans(),
    dependents=st.integers(0, 10**5),
)


@given(subjects, control_lists, situations)
def test_adjustments_sum_exactly_to_the_change_and_stay_on_the_scale(
    subject: Subject, controls: list[Control], situation: Situation
) -> None:
    result = score(situation, subject=subject, controls=controls)
    assert result.residual == result.base_residual + sum((a.points for a in result.adjustments), Decimal(0))
    assert 0 <= result.residual <= 100
    assert all(a.points == a.points.quantize(Decimal("0.01")) for a in result.adjustments)
    # And as clients see it: floats of two decimals, summed and rounded to two decimals.
    shown = float(result.base_residual) + sum(float(a.points) for a in result.adjustments)
    assert round(shown, 2) == float(result.residual)


@given(subjects, control_lists, st.integers(0, 10**6))
def test_no_activity_no_adjustment(subject: Subject, controls: list[Control], dependents: int) -> None:
    assert score(Situation(dependents=dependents), subject=subject, controls=controls).adjustments == ()


@given(situations, st.integers(0, 2000), st.integers(0, 2000))
def test_time_alone_never_raises_a_score(situation: Situation, first: int, second: int) -> None:
    sooner, later = sorted((first, second))
    at = [score(situation, at=NOW + timedelta(hours=hours)).residual for hours in (sooner, later)]
    assert at[0] >= at[1]


@given(situations, alerts)
def test_one_more_alert_never_lowers_a_score(situation: Situation, added: AlertSignal) -> None:
    louder = replace(situation, alerts=[*situation.alerts, added])
    assert score(louder).residual >= score(situation).residual


@given(situations, incidents)
def test_one_more_incident_never_lowers_a_score(situation: Situation, added: IncidentSignal) -> None:
    louder = replace(situation, incidents=[*situation.incidents, added])
    assert score(louder).residual >= score(situation).residual


@given(situations, st.randoms(use_true_random=False))
def test_the_order_of_signals_does_not_matter(situation: Situation, random: Any) -> None:
    shuffled = replace(
        situation,
        alerts=random.sample(situation.alerts, len(situation.alerts)),
        incidents=random.sample(situation.incidents, len(situation.incidents)),
    )
    assert score(shuffled) == score(situation)
