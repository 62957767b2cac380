"""Dossiers: folding events one by one ends where the newest states alone would."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.risk.domain.assessment import Trigger
from services.risk.domain.dossier import MOST_SIGNALS, Dossier
from services.risk.domain.model import DEFAULT_MODEL
from services.risk.tests.factories import NOW, acceptance, alert, an_asset, control, incident, then
from shared.contracts.detection import AlertDisposed, AlertSnapshot
from shared.contracts.governance import ControlDeploymentSnapshot, ControlType
from shared.contracts.incidents import IncidentSnapshot

ASSET = UUID("018f5f6e-0000-7000-8000-00000000a55e")
OTHER = UUID("018f5f6e-0000-7000-8000-000000000bbb")


def a_dossier() -> Dossier:
    dossier = Dossier(ASSET)
    assert dossier.record_asset(an_asset(ASSET))
    return dossier


def record(dossier: Dossier, snapshot: Any) -> bool:
    if isinstance(snapshot, AlertSnapshot):
        return dossier.record_alert(snapshot)
    if isinstance(snapshot, IncidentSnapshot):
        return dossier.record_incident(snapshot)
    assert isinstance(snapshot, ControlDeploymentSnapshot)
    return dossier.record_control(snapshot, removed=snapshot.status == "removed")


def identity(snapshot: Any) -> UUID:
    keys = (getattr(snapshot, name, None) for name in ("alert_id", "incident_id", "deployment_id"))
    found = next(key for key in keys if key is not None)
    assert isinstance(found, UUID)
    return found


few = st.integers(0, 3).map(lambda number: uuid5(ASSET, str(number)))
changes = st.one_of(
    st.builds(
        lambda key, severity, count, disposition: (
            alert(ASSET, severity, alert_id=key, count=count, disposition=disposition).alert
        ),
        few,
        st.sampled_from(["low", "high", "critical"]),
        st.integers(1, 50),
        st.sampled_from([None, "true_positive", "false_positive", "benign", "duplicate"]),
    ),
    st.builds(
        lambda key, severity, status, affected: (
            incident(*affected, severity=severity, incident_id=key, status=status, resolved_at=NOW).incident
        ),
        few,
        st.sampled_from(["sev1", "sev3"]),
        st.sampled_from(["open", "investigating", "contained", "resolved", "closed"]),
        st.sampled_from([[ASSET], [OTHER], [ASSET, OTHER]]),
    ),
    st.builds(
        lambda key, kind, operational, status: (
            control(ASSET, kind, deployment_id=key, operational=operational, status=status).deployment
        ),
        few,
        st.sampled_from([None, *map(str, ControlType)]),
        st.booleans(),
        st.sampled_from(["deployed", "removed"]),
    ),
)


@given(st.lists(changes, max_size=25))
def test_incremental_equals_recomputed_from_the_newest_states(story: list[Any]) -> None:
    versioned = [snapshot.model_copy(update={"version": number}) for number, snapshot in enumerate(story, 1)]
    incremental = a_dossier()
    for snapshot in versioned:
        record(incremental, snapshot)
        incremental.score(DEFAULT_MODEL, NOW)
    newest = {(type(snapshot), identity(snapshot)): snapshot for snapshot in versioned}
    recomputed = a_dossier()
    for snapshot in newest.values():
        record(recomputed, snapshot)
    assert incremental.score(DEFAULT_MODEL, NOW, dependents=3) == recomputed.score(DEFAULT_MODEL, NOW, dependents=3)


@given(st.lists(changes, max_size=10))
def test_what_is_told_twice_counts_once(story: list[Any]) -> None:
    versioned = [snapshot.model_copy(update={"version": number}) for number, snapshot in enumerate(story, 1)]
    once, twice = a_dossier(), a_dossier()
    for snapshot in versioned:
        record(once, snapshot)
    for snapshot in versioned:
        record(twice, snapshot)
        assert not record(twice, snapshot)
    assert once.score(DEFAULT_MODEL, NOW) == twice.score(DEFAULT_MODEL, NOW)


@pytest.mark.parametrize("disposition", ["false_positive", "benign", "duplicate"])
def test_an_alert_found_to_be_nothing_is_forgotten_and_may_come_back(disposition: str) -> None:
    dossier, raised = a_dossier(), alert(ASSET)
    nothing = then(raised, AlertDisposed, disposition=disposition)
    after_all = then(nothing, AlertDisposed, disposition="true_positive")
    assert dossier.record_alert(raised.alert)
    assert dossier.record_alert(nothing.alert)
    assert dossier.is_quiet
    assert dossier.record_alert(after_all.alert)
    assert not dossier.is_quiet


def test_only_the_strongest_signals_are_kept() -> None:
    dossier = a_dossier()
    for number in range(MOST_SIGNALS + 5):
        dossier.record_alert(alert(ASSET, "high" if number % 2 else "low").alert)
    dossier.keep_strongest(DEFAULT_MODEL, NOW)
    assert len(dossier.alerts) == MOST_SIGNALS
    assert sum(kept.severity == "high" for kept in dossier.alerts.values()) == (MOST_SIGNALS + 5) // 2


def test_of_several_acceptances_the_longest_is_shown() -> None:
    dossier = a_dossier()
    for granted in (acceptance(ASSET), acceptance(ASSET, expires_at=NOW), acceptance(ASSET)):
        dossier.record_acceptance(granted.acceptance, in_force=True)
    trigger = Trigger("acceptance.granted", ASSET, NOW)
    assessment = dossier.assess(DEFAULT_MODEL, dossier.score(DEFAULT_MODEL, NOW), trigger)
    assert assessment.accepted_until == max(entry.expires_at for entry in dossier.acceptances.values())
    assert dossier.place is not None
    assert dossier.place.accepted
