"""Policies, the RACI matrix and the risk appetite."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.governance.domain.appetite import Appetite
from services.governance.domain.policies import (
    NotInStatus,
    Overtaken,
    OwnVersion,
    PolicyStatus,
    PolicyVersion,
)
from services.governance.domain.raci import Raci
from services.governance.shipped import library
from services.governance.tests.factories import NOON, TODAY, a_policy_version
from shared.contracts.inventory import DataClassification, DeploymentEnvironment
from shared.errors import DomainError, Invalid

P = PolicyStatus
PEOPLE = st.sampled_from(["alice", "bob", "carol"])


class PolicyLife(RuleBasedStateMachine):
    """Versions in any order of hands: who wrote never approves, and only drafts change."""

    def __init__(self) -> None:
        super().__init__()
        self.version = a_policy_version()
        self.approvers: list[str] = []

    def attempt(self, change: Any) -> bool:
        before = self.version
        try:
            after: PolicyVersion = change()
        except DomainError:
            return False
        assert after.version == before.version + 1
        self.version = after
        return True

    @rule(by=PEOPLE)
    def is_revised(self, by: str) -> None:
        was = self.version.status
        if self.attempt(lambda: self.version.revised(self.version.text, None, by=by, at=NOON)):
            assert was is P.DRAFT
            assert by in self.version.authors

    @rule(by=PEOPLE)
    def is_submitted(self, by: str) -> None:
        self.attempt(lambda: self.version.submitted(by=by, at=NOON))

    @rule(by=PEOPLE)
    def is_sent_back(self, by: str) -> None:
        self.attempt(lambda: self.version.sent_back(by=by, at=NOON, note="unclear"))

    @rule(by=PEOPLE)
    def is_approved(self, by: str) -> None:
        if self.attempt(lambda: self.version.approved(by=by, at=NOON, note="", in_force=None)):
            self.approvers.append(by)

    @invariant()
    def no_author_approved(self) -> None:
        assert not set(self.approvers) & set(self.version.authors)
        assert len(self.approvers) <= 1


TestPolicyLife = PolicyLife.TestCase


def in_review(**fields: Any) -> PolicyVersion:
    return a_policy_version(**fields).submitted(by="alice", at=NOON)


def test_everybody_who_wrote_part_of_it_is_an_author() -> None:
    version = a_policy_version().revised(a_policy_version().text, "clearer", by="bob", at=NOON)
    assert version.authors == ("alice", "bob")
    for author in version.authors:
        with pytest.raises(OwnVersion):
            version.submitted(by="alice", at=NOON).approved(by=author, at=NOON, note="", in_force=None)


def test_an_older_version_does_not_replace_a_newer() -> None:
    with pytest.raises(Overtaken):
        in_review(number=2).approved(by="bob", at=NOON, note="", in_force=3)


def test_what_is_in_force_does_not_change_but_is_superseded() -> None:
    approved = in_review().approved(by="bob", at=NOON, note="", in_force=None)
    with pytest.raises(NotInStatus):
        approved.revised(approved.text, None, by="carol", at=NOON)
    assert approved.superseded(NOON).status is P.SUPERSEDED


def test_the_approval_tells_when_the_next_review_is_owed() -> None:
    event = in_review().approved(by="bob", at=NOON, note="", in_force=None).approval()
    assert (event.policy_id, event.policy_version, event.approved_by) == ("acceptable-use", 1, "bob")
    assert event.next_review == TODAY + timedelta(days=365)


# -- RACI --------------------------------------------------------------------------------------------------------------


def raci_with(**assignments: str) -> Raci:
    roles = [{"id": role, "title": role} for role in ("ciso", "lead", "owner")]
    activity = {"id": "triage", "area": "operations", "title": "Triage", "assignments": assignments}
    return Raci.model_validate({"roles": roles, "activities": [activity]})


@pytest.mark.parametrize(
    "assignments",
    [{"ciso": "A", "lead": "R"}, {"ciso": "AR"}, {"ciso": "AR", "lead": "R", "owner": "C"}],
)
def test_one_answers_and_somebody_does_it(assignments: dict[str, str]) -> None:
    raci_with(**assignments).check()


@pytest.mark.parametrize(
    ("assignments", "complaint"),
    [
        ({"lead": "R"}, "0 accountable"),
        ({"ciso": "A", "owner": "AR", "lead": "R"}, "2 accountable"),
        ({"ciso": "A", "lead": "C"}, "no responsible"),
        ({"ciso": "AR", "wizard": "C"}, "wizard is not among the roles"),
    ],
)
def test_a_matrix_that_leaves_open_who_answers_is_refused(assignments: dict[str, str], complaint: str) -> None:
    with pytest.raises(Invalid) as refused:
        raci_with(**assignments).check()
    assert any(complaint in error["message"] for error in refused.value.extra["errors"])
    assert all(error["field"].startswith("/activities/0") for error in refused.value.extra["errors"])


def test_ids_are_used_once() -> None:
    matrix = library().raci
    doubled = matrix.model_copy(update={"roles": (*matrix.roles, matrix.roles[0])})
    with pytest.raises(Invalid, match="used twice"):
        doubled.check()


# -- appetite ----------------------------------------------------------------------------------------------------------


def test_the_more_sensitive_and_the_closer_to_production_the_less_risk_needs_no_decision() -> None:
    appetite = library().appetite
    environments = [
        DeploymentEnvironment.DEVELOPMENT,
        DeploymentEnvironment.STAGING,
        DeploymentEnvironment.PRODUCTION,
    ]
    table = [[appetite.ceiling(row, column) for column in environments] for row in DataClassification]
    assert all(row == sorted(row, reverse=True) for row in table)
    assert all(list(column) == sorted(column, reverse=True) for column in zip(*table, strict=True))


@pytest.mark.parametrize(
    ("breaking", "field"),
    [
        (lambda d: d["ceilings"].pop("public"), "/ceilings/public/development"),
        (lambda d: d["ceilings"]["public"].pop("research"), "/ceilings/public/research"),
        (lambda d: d["levels"].pop("HIGH"), "/levels/HIGH"),
        (lambda d: d["finding_days"].pop("low"), "/finding_days/low"),
        (lambda d: d["levels"]["LOW"].update(max_residual_score=60), "/levels/LOW/max_residual_score"),
        (lambda d: d["levels"]["CRITICAL"].update(max_days=365), "/levels/CRITICAL/max_days"),
    ],
)
def test_an_appetite_that_leaves_a_case_open_is_refused(breaking: Any, field: str) -> None:
    document = library().appetite.model_dump(mode="json")
    breaking(document)
    with pytest.raises(Invalid) as refused:
        Appetite.model_validate(document).check()
    assert field in [error["field"] for error in refused.value.extra["errors"]]
