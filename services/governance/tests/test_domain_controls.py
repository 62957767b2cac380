"""Deployments of controls: statuses, evidence, and what counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governance.domain.controls import (
    Deployment,
    DeploymentStatus,
    EvidenceStale,
    IllegalMove,
    evidence_end,
    intended_status,
)
from services.governance.domain.documents import DoesNotFit
from services.governance.tests.factories import NOON, TODAY, a_deployment, an_evidence
from shared.errors import DomainError, Invalid

STATUSES = st.sampled_from(list(DeploymentStatus))


@given(st.lists(st.tuples(STATUSES, st.integers(0, 200), st.booleans()), max_size=20))
def test_however_it_is_moved_it_is_operational_only_on_evidence_that_is_believed(
    moves: list[tuple[DeploymentStatus, int, bool]],
) -> None:
    deployment, today = a_deployment(), TODAY
    for status, days, with_evidence in moves:
        today += timedelta(days=days)
        before = deployment
        if with_evidence and deployment.status is not DeploymentStatus.RETIRED:
            deployment = deployment.proved(an_evidence(today + timedelta(days=30)))
        try:
            deployment = deployment.moved(status, today)
        except DomainError:
            assert deployment.status is before.status
        else:
            assert deployment.status is status
            if status is not before.status:
                assert before.status is not DeploymentStatus.RETIRED
                assert not (deployment.operational and deployment.evidence_stale(today))
        if before.status is DeploymentStatus.RETIRED:
            assert deployment.status is DeploymentStatus.RETIRED
        if deployment.status is not DeploymentStatus.PLANNED and deployment.operational:
            assert deployment.evidence_due_on is not None


def test_without_evidence_it_is_believed_as_long_as_evidence_would_be() -> None:
    deployment = a_deployment().moved(DeploymentStatus.OPERATIONAL, TODAY)
    assert deployment.evidence_due_on == TODAY + timedelta(days=90)
    assert deployment.evidence_valid_until is None
    assert not deployment.evidence_stale(TODAY + timedelta(days=90))
    assert deployment.evidence_stale(TODAY + timedelta(days=91))


def test_degraded_for_stale_evidence_it_works_again_only_with_new_evidence() -> None:
    late = TODAY + timedelta(days=91)
    degraded = a_deployment().moved(DeploymentStatus.OPERATIONAL, TODAY).lapsed(NOON)
    assert not degraded.operational
    with pytest.raises(EvidenceStale):
        degraded.moved(DeploymentStatus.OPERATIONAL, late)
    proved = degraded.proved(an_evidence(late + timedelta(days=10)))
    assert proved.moved(DeploymentStatus.OPERATIONAL, late).operational


def test_older_evidence_does_not_shorten_newer() -> None:
    newest = TODAY + timedelta(days=60)
    deployment = a_deployment().proved(an_evidence(newest)).proved(an_evidence(TODAY + timedelta(days=5)))
    assert deployment.evidence_valid_until == deployment.evidence_due_on == newest


def test_what_is_retired_stays_so() -> None:
    retired = a_deployment().moved(DeploymentStatus.RETIRED, TODAY)
    for status in set(DeploymentStatus) - {DeploymentStatus.RETIRED}:
        with pytest.raises(IllegalMove):
            retired.moved(status, TODAY)


@given(STATUSES, st.integers(1, 9))
def test_the_snapshot_says_what_counts(status: DeploymentStatus, version: int) -> None:
    deployment: Deployment = replace(a_deployment(), status=status, version=version)
    snapshot = deployment.snapshot("support")
    assert snapshot.operational == (status is DeploymentStatus.OPERATIONAL)
    assert (snapshot.version, snapshot.status) == (version, status)


S = DeploymentStatus


@pytest.mark.parametrize(
    ("current", "status", "operational", "meant"),
    [
        (None, None, None, None),
        (None, None, True, S.OPERATIONAL),
        (None, None, False, S.IMPLEMENTED),
        (None, S.PLANNED, None, S.PLANNED),
        (S.OPERATIONAL, None, False, S.DEGRADED),
        (S.PLANNED, None, False, None),
        (S.PLANNED, S.OPERATIONAL, True, S.OPERATIONAL),
        (S.OPERATIONAL, S.DEGRADED, False, S.DEGRADED),
    ],
)
def test_status_and_operational_mean_one_thing(
    current: S | None, status: S | None, operational: bool | None, meant: S | None
) -> None:
    assert intended_status(current, status, operational) is meant


@pytest.mark.parametrize(("status", "operational"), [(S.PLANNED, True), (S.OPERATIONAL, False)])
def test_status_and_operational_may_not_contradict(status: S, operational: bool) -> None:
    with pytest.raises(Invalid) as refused:
        intended_status(None, status, operational)
    assert refused.value.extra["errors"][0]["field"] == "/operational"


@pytest.mark.parametrize(
    ("collected", "until", "error"),
    [
        (TODAY + timedelta(days=1), None, DoesNotFit),
        (TODAY, TODAY - timedelta(days=1), Invalid),
        (TODAY, TODAY + timedelta(days=731), Invalid),
        (date(1999, 12, 31), None, DoesNotFit),
    ],
)
def test_impossible_evidence_is_refused(collected: date, until: date | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        evidence_end(collected, until, 90, TODAY)


def test_evidence_without_an_end_is_believed_as_long_as_the_control_says() -> None:
    assert evidence_end(TODAY, None, 90, TODAY) == TODAY + timedelta(days=90)
