"""What each thing of the estate counts for, told event by event and read at chosen moments."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from services.metrics.domain import figures
from services.metrics.domain.assets import cents
from services.metrics.domain.books import Books, Known, wanted
from services.metrics.domain.coverage import group
from services.metrics.domain.entries import entry_of
from services.metrics.domain.figures import Value
from services.metrics.domain.ledger import ORGANISATION, Totals, minute_of
from services.metrics.tests.factories import (
    NOON,
    a_containment,
    a_decision,
    a_deployment,
    a_done_step,
    a_finding,
    a_grant,
    a_late_step,
    a_policy,
    a_registration,
    a_resolution,
    a_retirement,
    a_review,
    a_revocation,
    an_alert,
    an_appetite,
    an_assessment,
    an_engagement,
    an_estate,
    an_id,
    an_opening,
    an_update,
    total_at,
)
from shared.contracts.envelope import Event, stream_of

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Program:
    """Events booked one after the other, and the figures that come of it."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.books = Books(Known())
        for event in events:
            self.post(event)

    def post(self, event: Event) -> None:
        self.books.post(event)

    def totals(self, at: datetime = NOON, scope: str = ORGANISATION) -> Totals:
        return total_at(self.books.ledger, minute_of(at), scope)

    def figure(self, name: str, at: datetime = NOON, scope: str = ORGANISATION) -> Value:
        return figures.figure(name).of(self.totals(at, scope))


def test_an_empty_program_counts_zero_and_rates_nothing() -> None:
    values = figures.values(Totals.zero())
    unknown = {name for name, value in values.items() if value is None}
    assert unknown == {
        "asset_coverage_rate",
        "mean_residual_risk",
        "mean_time_to_detect_hours",
        "mean_time_to_contain_hours",
        "mean_time_to_resolve_hours",
        "control_coverage_rate",
        "remediation_rate",
        "current_review_rate",
        "assessed_rate",
        "gap_free_rate",
        "control_operational_rate",
        "alert_precision",
    }
    assert all(value == 0 for value in values.values() if value is not None)


def test_the_specifications_figures_are_all_here_in_its_order() -> None:
    assert [figure.name for figure in figures.PROGRAM] == [
        "total_ai_assets",
        "assets_with_security_review",
        "assets_with_stale_review",
        "asset_coverage_rate",
        "critical_risk_assets",
        "high_risk_assets",
        "mean_residual_risk",
        "risk_acceptance_count",
        "incidents_last_30_days",
        "mean_time_to_detect_hours",
        "mean_time_to_contain_hours",
        "mean_time_to_resolve_hours",
        "controls_deployed",
        "controls_operational",
        "control_coverage_rate",
        "red_team_engagements_ytd",
        "findings_from_red_team",
        "findings_remediated",
        "remediation_rate",
        "compliance_gap_count",
        "overdue_actions",
    ]


@pytest.mark.parametrize(
    ("days_old", "stale"), [(0, 0), (89, 0), (90, 0), (91, 1), (365, 1), (-5, 0)], ids=lambda value: str(value)
)
def test_a_review_is_stale_after_more_than_90_days(days_old: int, stale: int) -> None:
    program = Program([a_registration(last_security_review=(NOON - days_old * DAY).date())])
    assert program.figure("assets_with_stale_review") == stale
    assert program.figure("assets_with_security_review") == 1
    assert program.figure("asset_coverage_rate") == 1.0
    assert program.figure("current_review_rate") == 1.0 - stale


def test_a_review_goes_stale_with_nobody_doing_anything() -> None:
    program = Program([a_registration(last_security_review=NOON.date())])
    midnight = NOON.replace(hour=0) + 91 * DAY
    assert program.figure("assets_with_stale_review", midnight - timedelta(minutes=1)) == 0
    assert program.figure("assets_with_stale_review", midnight) == 1
    assert program.figure("gap_free_rate", midnight - timedelta(minutes=1)) == 1.0
    assert program.figure("gap_free_rate", midnight) == 0.0


def test_a_new_review_ends_staleness_and_starts_the_clock_again() -> None:
    later = NOON + 100 * DAY
    program = Program(
        [
            a_registration(last_security_review=NOON.date()),
            an_update(at=later, last_security_review=later.date()),
        ]
    )
    at = [NOON + days * DAY for days in (90, 95, 100, 190, 191)]
    assert [program.figure("assets_with_stale_review", moment) for moment in at] == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("fields", "gap"),
    [
        ({"last_security_review": None}, "no_security_review"),
        ({"last_security_review": date(2026, 1, 1)}, "stale_review"),
        ({"is_self_hosted": True}, "missing_sbom"),
        ({"regulatory_scope": ("gdpr",)}, "unclassified_data"),
        ({"owner_team": ""}, "no_owner"),
        ({"network_exposure": "public", "data_classification": "restricted"}, "public_exposure_high_sensitivity"),
    ],
)
def test_each_gap_is_counted_once_in_its_list(fields: dict[str, Any], gap: str) -> None:
    program = Program([a_registration(**fields)])
    gaps = figures.gaps_of(program.totals())
    assert {name for name, count in gaps.items() if count} == {gap}
    assert program.figure("compliance_gap_count") == 1
    assert program.figure("gap_free_rate") == 0.0


@pytest.mark.parametrize(
    "fields",
    [
        {"is_self_hosted": True, "sbom_available": True},
        {"regulatory_scope": ("none",)},
        {"regulatory_scope": ("gdpr",), "data_classification": "confidential"},
        {"network_exposure": "public", "data_classification": "internal"},
        {"network_exposure": "vpc", "data_classification": "regulated"},
    ],
)
def test_near_misses_are_no_gap(fields: dict[str, Any]) -> None:
    program = Program([a_registration(**fields)])
    assert program.figure("compliance_gap_count") == 0
    assert program.figure("gap_free_rate") == 1.0


def test_a_retired_asset_counts_for_nothing_from_then_on() -> None:
    program = Program(
        [
            a_registration(),
            an_assessment(score=80.0),
            a_deployment(),
            a_retirement(at=NOON + HOUR),
        ]
    )
    assert program.figure("critical_risk_assets") == 1
    values = figures.values(program.totals(NOON + HOUR))
    assert (values["total_ai_assets"], values["critical_risk_assets"], values["controls_deployed"]) == (0, 0, 0)
    assert values["mean_residual_risk"] is None


def test_risk_and_controls_of_an_asset_not_registered_yet_wait_for_it() -> None:
    program = Program([an_assessment(score=80.0), a_deployment()])
    assert program.figure("critical_risk_assets") == 0
    assert program.figure("controls_operational") == 0
    program.post(a_registration(at=NOON + HOUR))
    assert program.figure("critical_risk_assets", NOON + HOUR) == 1
    assert program.figure("controls_operational", NOON + HOUR) == 1


def test_risk_is_unknown_while_no_asset_is_assessed() -> None:
    program = Program([a_registration("one"), a_registration("two")])
    assert program.figure("critical_risk_assets") is None
    assert program.figure("high_risk_assets") is None
    assert program.figure("mean_residual_risk") is None
    program.post(an_assessment("one", 53.44))
    assert program.figure("critical_risk_assets") == 0
    assert program.figure("high_risk_assets") == 1
    assert program.figure("mean_residual_risk") == 53.44
    assert program.figure("assessed_rate") == 0.5


def test_only_the_latest_assessment_counts_and_an_older_one_changes_nothing() -> None:
    program = Program(
        [
            a_registration(),
            an_assessment(score=80.0, version=2),
            an_assessment(score=10.0, version=1, at=NOON + HOUR),
        ]
    )
    assert program.figure("mean_residual_risk", NOON + HOUR) == 80.0


@pytest.mark.parametrize(
    ("score", "expected"), [(0.0, 0), (53.44, 5344), (100.0, 10_000), (0.29, 29), (1.1, 110), (33.335, 3334)]
)
def test_scores_become_exact_hundredths(score: float, expected: int) -> None:
    assert cents(score) == expected


def test_control_coverage_wants_one_operational_control_of_a_scored_type() -> None:
    program = Program(
        [
            a_registration("covered"),
            a_registration("planned"),
            a_registration("unscored"),
            a_registration("bare"),
            a_deployment("covered", "monitoring"),
            a_deployment("covered", "guardrails"),
            a_deployment("planned", "monitoring", operational=False),
            a_deployment("unscored", "training", scored=False),
        ]
    )
    assert program.figure("controls_deployed") == 4
    assert program.figure("controls_operational") == 3
    assert program.figure("control_coverage_rate") == 0.25
    assert program.figure("control_operational_rate") == 0.75


@pytest.mark.parametrize(("status", "deployed"), [("planned", 0), ("implemented", 1), ("degraded", 1), ("retired", 0)])
def test_only_controls_in_place_are_deployed(status: str, deployed: int) -> None:
    program = Program([a_registration(), a_deployment(operational=False, status=status)])
    assert program.figure("controls_deployed") == deployed


def test_a_removed_control_covers_no_longer() -> None:
    program = Program([a_registration(), a_deployment(), a_deployment(version=2, removed=True, at=NOON + HOUR)])
    assert program.figure("control_coverage_rate") == 1.0
    assert program.figure("control_coverage_rate", NOON + HOUR) == 0.0
    assert program.figure("controls_deployed", NOON + HOUR) == 0


def test_an_assets_figures_move_with_it_to_its_new_team() -> None:
    program = Program(
        [
            a_registration(),
            an_assessment(score=80.0),
            a_deployment(),
            an_update(at=NOON + HOUR, owner_team="ads"),
        ]
    )
    for name in ("total_ai_assets", "critical_risk_assets", "controls_operational"):
        moments = (NOON, NOON + HOUR)
        assert [program.figure(name, at, "team:search") for at in moments] == [1, 0]
        assert [program.figure(name, at, "team:ads") for at in moments] == [0, 1]
        assert [program.figure(name, at) for at in moments] == [1, 1]


def test_incident_times_are_measured_from_detection_and_the_time_to_detect_from_the_first_evidence() -> None:
    contained, resolved = NOON + 3 * HOUR, NOON + 10 * HOUR
    program = Program(
        [
            an_opening(occurred_at=NOON - 2 * HOUR),
            an_opening("probe", occurred_at=NOON - HOUR, category="jailbreak_bypass"),
            a_containment(at=contained, occurred_at=NOON - 2 * HOUR),
            a_resolution(contained_at=contained, at=resolved, occurred_at=NOON - 2 * HOUR),
        ]
    )
    assert program.figure("mean_time_to_detect_hours") == 1.5
    assert program.figure("mean_time_to_contain_hours") is None
    assert program.figure("mean_time_to_contain_hours", contained) == 3.0
    assert program.figure("mean_time_to_resolve_hours", contained) is None
    assert program.figure("mean_time_to_resolve_hours", resolved) == 10.0
    assert figures.by_category(program.totals()) == {"pii_leakage_in_output": 1, "jailbreak_bypass": 1}


def test_incidents_leave_their_windows() -> None:
    program = Program([an_opening()])
    minute = timedelta(minutes=1)
    for name, days, gone in (
        ("incidents_last_30_days", 30, 0),
        ("mean_time_to_detect_hours", 365, None),
        ("incidents_by_category.pii_leakage_in_output", 365, 0),
    ):
        assert program.figure(name, NOON + days * DAY - minute) in (1, 2.0)
        assert program.figure(name, NOON + days * DAY) == gone


def test_an_incident_reported_after_its_window_never_enters_it() -> None:
    program = Program([an_opening(at=NOON, detected_at=NOON - 40 * DAY, occurred_at=NOON - 41 * DAY)])
    assert program.figure("incidents_last_30_days") == 0
    assert program.figure("mean_time_to_detect_hours") == 24.0


def test_times_in_the_wrong_order_measure_nothing() -> None:
    program = Program([an_opening(occurred_at=NOON + HOUR)])
    assert program.figure("mean_time_to_detect_hours") is None
    assert program.figure("incidents_last_30_days") == 1


def test_a_reopened_incident_is_not_contained_any_more() -> None:
    program = Program([an_opening(), a_containment(at=NOON + HOUR)])
    program.post(an_opening().model_copy(update={"incident": an_opening().incident.model_copy(update={"version": 3})}))
    assert program.figure("mean_time_to_contain_hours", NOON + HOUR) is None


def test_a_late_step_is_overdue_until_it_is_done() -> None:
    program = Program(
        [
            an_opening(),
            a_late_step(number=1, at=NOON + HOUR),
            a_late_step(number=2, at=NOON + HOUR),
            a_late_step(number=2, at=NOON + HOUR),
            a_done_step(number=1, at=NOON + 2 * HOUR),
        ]
    )
    assert [program.figure("overdue_actions", NOON + hours * HOUR) for hours in (0, 1, 2)] == [0, 2, 1]
    assert program.figure("actions_tracked", NOON + 2 * HOUR) == 2


def test_an_older_word_of_a_step_changes_nothing() -> None:
    program = Program([an_opening(), a_done_step(number=1, at=NOON), a_late_step(number=1, at=NOON)])
    assert program.figure("overdue_actions") == 0


def test_a_step_of_a_reopened_incident_can_be_late_again() -> None:
    program = Program(
        [an_opening(), a_late_step(at=NOON), a_done_step(at=NOON), a_late_step(at=NOON + HOUR, version=9)]
    )
    assert [program.figure("overdue_actions", NOON + hours * HOUR) for hours in (0, 1)] == [0, 1]


def test_a_resolved_incident_owes_no_steps() -> None:
    program = Program([an_opening(), a_late_step(at=NOON), a_resolution(contained_at=NOON, at=NOON + HOUR)])
    assert [program.figure("overdue_actions", NOON + hours * HOUR) for hours in (0, 1)] == [1, 0]


def test_an_acceptance_runs_out_by_itself() -> None:
    program = Program([a_grant(expires_at=NOON + DAY), a_grant("deviation", expires_at=NOON + DAY, kind="exception")])
    moments = (NOON, NOON + DAY - timedelta(minutes=1), NOON + DAY)
    assert [program.figure("risk_acceptance_count", at) for at in moments] == [1, 1, 0]
    assert [program.figure("policy_exceptions_in_force", at) for at in moments] == [1, 1, 0]


def test_a_revoked_acceptance_ends_at_once_and_only_once() -> None:
    program = Program([a_grant(expires_at=NOON + DAY), a_revocation(at=NOON + HOUR, expires_at=NOON + DAY)])
    assert [program.figure("risk_acceptance_count", NOON + hours * HOUR) for hours in (0, 1, 30)] == [1, 0, 0]


@pytest.mark.parametrize(
    ("status", "days", "counted"),
    [
        ("in_progress", {"started_on": date(2026, 3, 1)}, 1),
        ("completed", {"started_on": date(2026, 1, 1), "completed_on": date(2026, 2, 1)}, 1),
        ("completed", {"completed_on": date(2026, 2, 1)}, 1),
        ("completed", {"started_on": date(2025, 12, 31), "completed_on": date(2026, 2, 1)}, 0),
        ("completed", {}, 1),
        ("planned", {"planned_for": date(2026, 3, 1)}, 0),
        ("cancelled", {"started_on": date(2026, 3, 1)}, 0),
        ("in_progress", {"started_on": date(2026, 9, 1)}, 0),
    ],
)
def test_an_engagement_counts_in_the_year_it_started(status: str, days: dict[str, Any], counted: int) -> None:
    program = Program([an_engagement(status=status, **days)])
    assert program.figure("red_team_engagements_ytd") == counted


def test_engagements_of_last_year_are_gone_on_new_years_day() -> None:
    program = Program([an_engagement(started_on=NOON.date())])
    new_year = NOON.replace(year=2027, month=1, day=1, hour=0)
    assert program.figure("red_team_engagements_ytd", new_year - timedelta(minutes=1)) == 1
    assert program.figure("red_team_engagements_ytd", new_year) == 0


def test_findings_are_remediated_by_work_and_late_past_their_day() -> None:
    due_on = (NOON + DAY).date()
    program = Program(
        [
            a_finding("one", due_on=due_on),
            a_finding("two", due_on=due_on),
            a_finding("three"),
            a_finding("one", status="remediated", version=2, due_on=due_on, at=NOON + HOUR),
            a_finding("two", status="accepted", version=2, due_on=due_on, at=NOON + 9 * DAY),
        ]
    )
    assert program.figure("findings_from_red_team") == 3
    assert program.figure("remediation_rate") == 0.0
    assert program.figure("remediation_rate", NOON + HOUR) == pytest.approx(1 / 3)
    moments = (NOON + DAY, NOON.replace(hour=0) + 2 * DAY, NOON + 9 * DAY)
    assert [program.figure("overdue_actions", at) for at in moments] == [0, 1, 0]


def test_a_review_is_overdue_the_day_after_it_was_due_until_it_is_done() -> None:
    due_on = NOON.date()
    program = Program(
        [a_review(due_on=due_on), a_review(due_on=due_on, status="completed", version=2, at=NOON + 5 * DAY)]
    )
    moments = (NOON, NOON + DAY, NOON + 5 * DAY)
    assert [program.figure("overdue_actions", at) for at in moments] == [0, 1, 0]


def test_policies_appetite_and_decisions_are_on_record() -> None:
    program = Program([a_policy(), a_policy(version=2), a_policy("red_teaming"), an_appetite(), a_decision()])
    assert program.figure("policies_in_force") == 2
    assert program.figure("risk_appetite_set") == 1
    assert program.figure("board_decisions") == 1


def test_what_no_figure_counts_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="AssetRegistered"):
        entry_of(a_registration())


def test_an_unknown_figure_names_those_there_are() -> None:
    with pytest.raises(figures.UnknownFigure) as refused:
        figures.figure("vibes")
    assert "mean_residual_risk" in refused.value.extra["allowed"]
    assert refused.value.extra["errors"] == [{"field": "name", "message": "no figure is called 'vibes'"}]


def test_every_figure_is_defined_and_rests_on_counters() -> None:
    for name, figure in figures.FIGURES.items():
        assert figure.name == name
        assert figure.definition.endswith(".")
        assert figure.counters


def test_an_asset_of_a_far_future_review_day_does_not_overflow() -> None:
    program = Program(
        [
            a_registration(last_security_review=date.max),
            an_opening(detected_at=datetime.max.replace(tzinfo=NOON.tzinfo)),
        ]
    )
    assert program.figure("total_ai_assets") == 1
    assert an_id("assistant") in program.books.assets


def test_an_older_word_of_governance_changes_nothing() -> None:
    due_on = NOON.date()
    program = Program([a_review(due_on=due_on, status="completed", version=2), a_review(due_on=due_on, at=NOON + DAY)])
    assert program.figure("overdue_actions", NOON + 2 * DAY) == 0


def test_an_older_word_of_a_control_changes_nothing() -> None:
    program = Program([a_registration(), a_deployment(version=2, removed=True), a_deployment()])
    assert program.figure("controls_deployed") == 0


def test_a_change_is_never_booked_before_what_it_changes() -> None:
    program = Program([a_registration(at=NOON), an_assessment(score=80.0, at=NOON - HOUR)])
    assert program.figure("total_ai_assets", NOON - HOUR) == 0
    assert program.figure("critical_risk_assets", NOON - HOUR) == 0
    assert program.figure("critical_risk_assets", NOON) == 1


def test_coverage_counts_reviewed_assessed_and_controlled_assets_by_team_and_type() -> None:
    program = Program(
        [
            a_registration("one"),
            a_registration("two", last_security_review=None),
            a_registration("other", owner_team="ads", asset_type="vector_database"),
            an_assessment("one"),
            a_deployment("one", "monitoring"),
            a_deployment("one", "guardrails", operational=False),
            a_retirement("other", owner_team="ads", asset_type="vector_database"),
        ]
    )
    cells = group((f"{team}/{kind}", change) for team, kind, change in program.books.coverage.rows())
    agents = cells["search/ai_agent"]
    assert (agents.assets, agents.reviewed, agents.assessed, agents.controlled) == (2, 1, 1, 1)
    assert {kind for kind, count in agents.by_control_type.items() if count} == {"monitoring"}
    assert agents.share(agents.controlled) == 0.5
    gone = cells["ads/vector_database"]
    assert (gone.assets, gone.share(gone.reviewed)) == (0, None)


def test_what_events_speak_of_is_named_before_they_are_booked() -> None:
    events = [
        a_registration(),
        an_assessment("other"),
        a_deployment("third"),
        an_opening(),
        a_late_step("leak", at=NOON),
    ]
    needed = wanted([*events, a_policy()])
    assert needed.assets == {an_id("assistant"), an_id("other"), an_id("third")}
    assert needed.deployments == {an_id("third/monitoring")}
    assert needed.incidents == {an_id("leak")}
    assert needed.entries == {("policy", "acceptable_use")}


def test_alerts_are_counted_for_a_month_and_judged_for_a_year() -> None:
    program = Program(
        [
            an_alert("right"),
            an_alert("wrong"),
            an_alert("twin"),
            an_alert("open"),
            an_alert("right", version=2, disposition="true_positive"),
            an_alert("wrong", version=2, disposition="benign"),
            an_alert("twin", version=2, disposition="duplicate"),
        ]
    )
    assert [program.figure("alerts_last_30_days", NOON + days * DAY) for days in (0, 30)] == [4, 0]
    assert [program.figure("alert_precision", NOON + days * DAY) for days in (0, 364, 365)] == [0.5, 0.5, None]


@pytest.mark.parametrize("seed", range(20))
def test_where_things_stand_does_not_depend_on_how_the_streams_interleave(seed: int) -> None:
    chance = random.Random(seed)
    streams: dict[str, list[Event]] = {}
    for event in an_estate():
        streams.setdefault(stream_of(event.TYPE), []).append(event)
    shuffled: list[Event] = []
    while streams:
        stream = chance.choice(sorted(streams))
        shuffled.append(streams[stream].pop(0))
        if not streams[stream]:
            del streams[stream]
    later = NOON + 5 * HOUR
    assert figures.values(Program(shuffled).totals(later)) == figures.values(Program(an_estate()).totals(later))
