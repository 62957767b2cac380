"""The deployment check: each rule by itself, and the whole over HTTP with facts that came as events."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.inventory.domain.combinations import Combination, ToxicCombination
from services.inventory.domain.gate import (
    Check,
    ControlFact,
    Decision,
    DeniedDigest,
    Facts,
    IncidentFact,
    Wish,
    judge,
    passed,
)
from services.inventory.tests.factories import NOW, TODAY, an_asset
from services.inventory.tests.test_api_assets import created
from services.inventory.tests.test_events import an_assessment
from shared.contracts.governance import (
    AcceptanceGranted,
    AcceptanceRevoked,
    AcceptanceSnapshot,
    AppetiteChanged,
    ControlDeployed,
    ControlDeploymentSnapshot,
    ControlRemoved,
    ControlUpdated,
    RiskCeiling,
)
from shared.contracts.incidents import (
    IncidentCategory,
    IncidentOpened,
    IncidentResolved,
    IncidentSeverity,
    IncidentSnapshot,
    IncidentStatus,
    IncidentUpdated,
    Phase,
)
from shared.contracts.inventory import DataClassification, DeploymentEnvironment, Lifecycle
from shared.testing import Harness

CEILINGS = {"internal": {"development": 60.0, "production": 40.0}}
OTHER = uuid4()


def good_facts(**changed: Any) -> Facts:
    """Facts of an asset that nothing speaks against; `changed` are those that a test is about."""
    asset = replace(an_asset(), last_security_review=TODAY, compliance_status="compliant")
    asset = replace(asset, **{name: changed.pop(name) for name in list(changed) if name in asset.__slots__})
    return Facts(**{"asset": asset, "risk_score": 30.0, "ceilings": CEILINGS, "denied_digests": (), **changed})


def a_control_fact(**changed: Any) -> ControlFact:
    fact = ControlFact(uuid4(), 3, "ctl-1", "monitoring", "deployed", True, None)
    return replace(fact, **changed)


def test_nothing_speaks_against_it() -> None:
    decision, reasons = judge(good_facts(), Wish(), TODAY)
    assert (decision, reasons, passed(good_facts(), reasons)) == (Decision.ALLOW, [], list(Check))


def test_a_check_that_nobody_made_has_not_passed() -> None:
    facts = good_facts(denied_digests=None)
    assert Check.DIGESTS not in passed(facts, judge(facts, Wish(), TODAY)[1])


DENY, REVIEW = Decision.DENY, Decision.NEEDS_REVIEW


@pytest.mark.parametrize(
    ("changed", "wish", "code", "effect"),
    [
        ({"lifecycle": Lifecycle.QUARANTINED}, {}, "asset_quarantined", DENY),
        ({"lifecycle": Lifecycle.RETIRED}, {}, "asset_retired", DENY),
        ({"upstreams": {OTHER: Lifecycle.QUARANTINED}}, {}, "upstream_quarantined", DENY),
        ({"upstreams": {OTHER: Lifecycle.RETIRED}}, {}, "upstream_retired", REVIEW),
        ({"missing_upstreams": [OTHER]}, {}, "upstream_unknown", REVIEW),
        ({"upstreams_unread": True}, {}, "upstreams_unread", REVIEW),
        ({"last_security_review": None, "compliance_status": "unreviewed"}, {}, "never_reviewed", REVIEW),
        ({"last_security_review": TODAY - timedelta(days=91)}, {}, "review_stale", REVIEW),
        ({"compliance_status": "non_compliant"}, {}, "review_rejected", DENY),
        ({"compliance_status": "conditional"}, {}, "review_conditional", REVIEW),
        ({"compliance_status": "unreviewed"}, {}, "review_outcome_unknown", REVIEW),
        ({"risk_score": None}, {}, "risk_unknown", REVIEW),
        ({}, {"target_env": DeploymentEnvironment.PRODUCTION}, "risk_of_other_environment", REVIEW),
        ({}, {"max_risk": 29.9}, "risk_above_maximum", DENY),
        ({"ceilings": None}, {}, "appetite_unknown", REVIEW),
        ({"ceilings": {"public": {}}}, {}, "appetite_unknown", REVIEW),
        ({"risk_score": 60.1}, {}, "risk_above_appetite", DENY),
        ({}, {"required_controls": ("guardrails",)}, "control_absent", DENY),
        (
            {"controls": [a_control_fact(operational=False)]},
            {"required_controls": ("monitoring",)},
            "control_not_operational",
            DENY,
        ),
        (
            {"controls": [a_control_fact(evidence_valid_until=TODAY - timedelta(days=1))]},
            {"required_controls": ("ctl-1",)},
            "control_evidence_expired",
            REVIEW,
        ),
        ({"denied_digests": [DeniedDigest(OTHER, "sha256", "ab", "backdoor")]}, {}, "digest_denied", DENY),
        ({"is_self_hosted": True}, {}, "bom_missing", REVIEW),
    ],
)
def test_each_rule_gives_its_reason_alone(
    changed: dict[str, Any], wish: dict[str, Any], code: str, effect: Decision
) -> None:
    decision, reasons = judge(good_facts(**changed), Wish(**wish), TODAY)
    assert [(reason.code, reason.effect) for reason in reasons] == [(code, effect)]
    assert decision is effect
    assert reasons[0].detail
    assert reasons[0].mend
    assert reasons[0].source.split(",")[0] in ("inventory", "risk", "governance", "incidents")


@pytest.mark.parametrize(
    ("changed", "wish"),
    [
        ({"last_security_review": TODAY - timedelta(days=90)}, {}),
        ({"risk_score": 60.0}, {}),
        ({"risk_score": 90.0, "accepted": True}, {}),
        ({"ceilings": None}, {"max_risk": 30.0}),
        ({"upstreams": {OTHER: Lifecycle.ACTIVE}}, {}),
        ({"controls": [a_control_fact(evidence_valid_until=TODAY)]}, {"required_controls": ("monitoring", "ctl-1")}),
        ({"is_self_hosted": True, "sbom_available": True}, {}),
    ],
)
def test_what_is_just_good_enough_is_allowed(changed: dict[str, Any], wish: dict[str, Any]) -> None:
    assert judge(good_facts(**changed), Wish(**wish), TODAY) == (Decision.ALLOW, [])


@pytest.mark.parametrize(("status", "effect"), [("open", DENY), ("investigating", DENY), ("contained", REVIEW)])
def test_an_incident_counts_at_the_asset_and_above_it(status: str, effect: Decision) -> None:
    facts = good_facts()
    own = facts.asset.asset_id
    incident = IncidentFact(uuid4(), "jailbreak_bypass", "sev2", status, (OTHER, own))
    decision, reasons = judge(replace(facts, incidents=[incident]), Wish(), TODAY)
    assert decision is effect
    assert [(reason.code, reason.asset_id) for reason in reasons] == [
        ("incident_open", own),
        ("upstream_incident_open", OTHER),
    ]


@pytest.mark.parametrize(
    ("kind", "effect"), [(Combination.PUBLIC_AGENT_DATA_TOOL, DENY), (Combination.UNGUARDED_ENDPOINT, REVIEW)]
)
def test_a_toxic_combination_weighs_by_its_severity(kind: Combination, effect: Decision) -> None:
    facts = good_facts()
    finding = ToxicCombination(kind, facts.asset.asset_id, ())
    decision, reasons = judge(replace(facts, combinations=[finding]), Wish(), TODAY)
    assert (decision, [reason.code for reason in reasons]) == (effect, [kind.value])


def test_the_gravest_reason_comes_first_and_decides() -> None:
    decision, reasons = judge(good_facts(is_self_hosted=True, risk_score=99.0), Wish(), TODAY)
    assert (decision, [reason.effect for reason in reasons]) == (DENY, [DENY, REVIEW])


def a_control(asset_id: UUID, **fields: Any) -> ControlDeploymentSnapshot:
    return ControlDeploymentSnapshot(
        **{
            "deployment_id": uuid4(),
            "version": 1,
            "asset_id": asset_id,
            "control_id": "CTL-MON",
            "control_type": "monitoring",
            "status": "operational",
            "operational": True,
            **fields,
        }
    )


def an_incident(*asset_ids: UUID, **fields: Any) -> IncidentSnapshot:
    return IncidentSnapshot(
        **{
            "incident_id": uuid4(),
            "version": 1,
            "category": IncidentCategory.JAILBREAK_BYPASS,
            "severity": IncidentSeverity.SEV2,
            "title": "somebody got through",
            "status": IncidentStatus.OPEN,
            "current_phase": Phase.DETECTION,
            "affected_assets": asset_ids,
            "detected_by": "detection",
            "occurred_at": NOW,
            "detected_at": NOW,
            "opened_at": NOW,
            **fields,
        }
    )


def an_appetite(version: int, score: float) -> AppetiteChanged:
    ceilings = tuple(
        RiskCeiling(data_classification=classification, deployment_env=environment, max_residual_score=score)
        for classification in DataClassification
        for environment in DeploymentEnvironment
    )
    return AppetiteChanged(version=version, occurred_at=NOW, changed_by="ada", ceilings=ceilings)


async def _deployable(inventory: Harness, **fields: Any) -> UUID:
    """An asset that may be deployed: reviewed, assessed, within an appetite."""
    client = inventory.client()
    asset = UUID((await created(client, **fields))["asset_id"])
    await client.post(f"/v1/assets/{asset}/reviews", json={"outcome": "approved"})
    await inventory.deliver(an_assessment(asset, score=30.0), an_appetite(1, 50.0))
    return asset


async def _check(inventory: Harness, asset: UUID, as_team: str | None = None, **body: Any) -> dict[str, Any]:
    client = inventory.client("viewer", teams=None if as_team is None else [as_team])
    response = await client.post(f"/v1/assets/{asset}/deployment-check", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def _codes(inventory: Harness, asset: UUID, **body: Any) -> list[str]:
    return [reason["code"] for reason in (await _check(inventory, asset, **body))["reasons"]]


async def test_an_asset_that_is_known_to_be_good_is_allowed(inventory: Harness) -> None:
    answer = await _check(inventory, await _deployable(inventory))
    assert (answer["decision"], answer["reasons"]) == ("allow", [])
    assert set(answer["passed"]) == {check.value for check in Check}


async def test_what_is_not_known_needs_a_person(inventory: Harness) -> None:
    asset = UUID((await created(inventory.client()))["asset_id"])
    answer = await _check(inventory, asset)
    assert answer["decision"] == "needs_review"
    assert {reason["code"] for reason in answer["reasons"]} == {"never_reviewed", "risk_unknown", "appetite_unknown"}


async def test_the_appetite_is_the_newest_that_was_told(inventory: Harness) -> None:
    asset = await _deployable(inventory)
    await inventory.deliver(an_appetite(3, 20.0), an_appetite(2, 90.0))
    assert await _codes(inventory, asset) == ["risk_above_appetite"]
    await inventory.deliver(AppetiteChanged(version=4, occurred_at=NOW, changed_by="ada"))
    assert await _codes(inventory, asset) == ["appetite_unknown"]


async def test_an_accepted_risk_is_no_reason_until_that_ends(inventory: Harness) -> None:
    asset = await _deployable(inventory)
    await inventory.deliver(an_appetite(2, 10.0))
    granted = AcceptanceSnapshot(
        acceptance_id=uuid4(),
        version=2,
        kind="risk",
        asset_id=asset,
        status="granted",
        requested_by="bo",
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    await inventory.deliver(AcceptanceGranted(version=2, occurred_at=NOW, acceptance=granted))
    assert await _codes(inventory, asset) == []
    ended = granted.model_copy(update={"version": 3, "status": "revoked"})
    await inventory.deliver(AcceptanceRevoked(version=3, occurred_at=NOW, acceptance=ended))
    assert await _codes(inventory, asset) == ["risk_above_appetite"]
    over = granted.model_copy(update={"acceptance_id": uuid4(), "expires_at": NOW - timedelta(days=900)})
    await inventory.deliver(AcceptanceGranted(version=2, occurred_at=NOW, acceptance=over))
    assert await _codes(inventory, asset) == ["risk_above_appetite"]


async def test_a_demanded_control_follows_governance(inventory: Harness) -> None:
    asset = await _deployable(inventory)
    demanded = {"required_controls": ["monitoring"]}
    assert await _codes(inventory, asset, **demanded) == ["control_absent"]
    control = a_control(asset)
    await inventory.deliver(ControlDeployed(version=1, occurred_at=NOW, deployment=control))
    assert await _codes(inventory, asset, **demanded) == []
    down = control.model_copy(update={"version": 2, "operational": False, "status": "degraded"})
    await inventory.deliver(ControlUpdated(version=2, occurred_at=NOW, deployment=down))
    assert await _codes(inventory, asset, **demanded) == ["control_not_operational"]
    gone = control.model_copy(update={"version": 3})
    await inventory.deliver(ControlRemoved(version=3, occurred_at=NOW, deployment=gone))
    assert await _codes(inventory, asset, **demanded) == ["control_absent"]


async def test_incidents_and_quarantine_above_the_asset_deny_it_and_name_nobody_behind_a_wall(
    inventory: Harness,
) -> None:
    client = inventory.client()
    base = UUID((await created(client, owner_team="platform", name="crown jewel"))["asset_id"])
    model = UUID((await created(client, owner_team="platform", upstream_assets=[str(base)]))["asset_id"])
    asset = await _deployable(inventory, upstream_assets=[str(model)], owner_team="claims")
    incident = an_incident(base)
    await inventory.deliver(IncidentOpened(version=1, occurred_at=NOW, incident=incident))
    await client.post(f"/v1/assets/{model}/quarantine", json={"reason": "see incident"})
    answer = await _check(inventory, asset)
    assert answer["decision"] == "deny"
    named = {(reason["code"], reason["asset_id"]) for reason in answer["reasons"]}
    assert ("upstream_incident_open", str(base)) in named
    assert ("upstream_quarantined", str(model)) in named
    mine = await _check(inventory, asset, as_team="claims")
    assert mine["decision"] == "deny"
    hidden = [reason for reason in mine["reasons"] if reason["code"].startswith("upstream_")]
    assert [reason["asset_id"] for reason in hidden] == [None, None]
    assert not any(secret in str(mine) for secret in (str(base), str(incident.incident_id), "crown jewel"))
    over = incident.model_copy(update={"version": 2, "status": IncidentStatus.RESOLVED})
    await inventory.deliver(IncidentResolved(version=2, occurred_at=NOW, incident=over))
    assert "upstream_incident_open" not in await _codes(inventory, asset)


async def test_an_incident_that_no_longer_affects_it_is_no_reason(inventory: Harness) -> None:
    asset = await _deployable(inventory)
    incident = an_incident(asset)
    await inventory.deliver(IncidentOpened(version=1, occurred_at=NOW, incident=incident))
    assert await _codes(inventory, asset) == ["incident_open"]
    elsewhere = incident.model_copy(update={"version": 2, "affected_assets": (uuid4(),)})
    older = incident.model_copy(update={"version": 1})
    await inventory.deliver(IncidentUpdated(version=2, occurred_at=NOW, incident=elsewhere))
    await inventory.deliver(IncidentUpdated(version=1, occurred_at=NOW, incident=older))
    assert await _codes(inventory, asset) == []


async def test_the_facts_are_the_same_after_a_rebuild(inventory: Harness) -> None:
    asset = await _deployable(inventory)
    control, incident = a_control(asset, evidence_valid_until=date(2027, 1, 1)), an_incident(asset)
    await inventory.deliver(
        ControlDeployed(version=1, occurred_at=NOW, deployment=control),
        IncidentOpened(version=1, occurred_at=NOW, incident=incident),
    )
    await inventory.deliver(an_appetite(5, 70.0), an_appetite(6, 71.0), together=True)
    assert all(table.identical for table in (await inventory.rebuild()).values())
    assert await inventory.dead_letters() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"target_env": "moon"}, "target_env"),
        ({"max_risk": 101}, "max_risk"),
        ({"max_risk": -1}, "max_risk"),
        ({"required_controls": [""]}, "required_controls"),
        ({"required_controls": ["x"] * 51}, "required_controls"),
        ({"force": True}, "force"),
    ],
)
async def test_a_check_that_makes_no_sense_is_refused_by_its_field(
    inventory: Harness, body: dict[str, Any], field: str
) -> None:
    asset = UUID((await created(inventory.client()))["asset_id"])
    response = await inventory.client().post(f"/v1/assets/{asset}/deployment-check", json=body)
    assert (response.status_code, field in response.text) == (422, True)


async def test_a_denied_digest_here_or_upstream_stops_a_deployment(inventory: Harness) -> None:
    bad = "ab" * 32
    weights = [{"path": "model.safetensors", "algorithm": "sha256", "digest": bad}]
    model = (await created(inventory.client(), name="weights", integrity=weights))["asset_id"]
    asset = await _deployable(inventory, upstream_assets=[model])
    assert "digest_denied" not in await _codes(inventory, asset)
    entry = {"algorithm": "sha256", "digest": bad, "verdict": "denied", "reason": "carries a backdoor"}
    assert (await inventory.client().post("/v1/artifact-digests", json=entry)).status_code == 201
    answer = await _check(inventory, asset)
    denied = next(reason for reason in answer["reasons"] if reason["code"] == "digest_denied")
    assert answer["decision"] == "deny"
    assert (denied["asset_id"], "carries a backdoor" in denied["detail"]) == (model, True)


async def test_what_one_may_not_see_is_not_checked(inventory: Harness) -> None:
    asset = await _deployable(inventory, owner_team="claims")
    other = inventory.client("viewer", teams=["other"])
    assert (await other.post(f"/v1/assets/{asset}/deployment-check", json={})).status_code == 404
