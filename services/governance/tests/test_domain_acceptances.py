"""Acceptances as a state machine, and what the risk appetite has to say to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.governance.domain.acceptances import (
    AboveAppetite,
    Acceptance,
    AcceptanceKind,
    AcceptanceStatus,
    BoardDecision,
    BoardDecisionMissing,
    NotEntitled,
    NotOpen,
    OwnRequest,
    Standing,
    check_request,
)
from services.governance.domain.documents import DoesNotFit
from services.governance.shipped import library
from services.governance.tests.factories import NOON, an_acceptance
from shared.contracts.risk import RiskLevel
from shared.errors import DomainError, Forbidden

APPETITE = library().appetite
HIGH = Standing(53.44, RiskLevel.HIGH)
S = AcceptanceStatus


def approve(
    acceptance: Acceptance,
    *,
    by: str = "bob",
    roles: frozenset[str] = frozenset({"approver"}),
    at: datetime = NOON,
    standing: Standing = HIGH,
    decision: BoardDecision | None = None,
) -> Acceptance:
    return acceptance.approved(
        by=by, roles=roles, at=at, standing=standing, appetite=APPETITE, decision=decision, note=""
    )


class AcceptanceLife(RuleBasedStateMachine):
    """Any order of requests, by anybody, at any time: what must hold holds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.acceptance = an_acceptance()
        self.trail = [S.REQUESTED]

    def attempt(self, change: object) -> None:
        before = self.acceptance
        try:
            after = change()  # type: ignore[operator]  # rules pass callables
        except DomainError:
            return
        assert after.version == before.version + 1
        self.acceptance = after
        self.trail.append(after.status)

    @rule(days=st.integers(0, 50))
    def time_passes(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule(by=st.sampled_from(["alice", "bob"]), role=st.sampled_from(["approver", "engineer"]))
    def is_approved(self, by: str, role: str) -> None:
        self.attempt(lambda: approve(self.acceptance, by=by, roles=frozenset({role}), at=self.now))

    @rule(by=st.sampled_from(["alice", "bob"]))
    def is_rejected(self, by: str) -> None:
        self.attempt(lambda: self.acceptance.rejected(by=by, at=self.now, note=""))

    @rule(by=st.sampled_from(["alice", "bob"]))
    def is_revoked(self, by: str) -> None:
        self.attempt(lambda: self.acceptance.revoked(by=by, at=self.now, reason="changed"))

    @rule()
    def expires(self) -> None:
        self.attempt(lambda: self.acceptance.expired(self.now))

    @precondition(lambda self: self.acceptance.status in (S.REQUESTED, S.APPROVED))
    @rule()
    def does_not_outlive_its_end(self) -> None:
        if self.now >= self.acceptance.expires_at:
            assert self.acceptance.expired(self.now).status is S.EXPIRED

    @invariant()
    def nobody_accepts_for_themselves(self) -> None:
        assert self.acceptance.decided_by != self.acceptance.requested_by

    @invariant()
    def it_walks_only_along_the_arrows(self) -> None:
        arrows = {
            (S.REQUESTED, S.APPROVED),
            (S.REQUESTED, S.REJECTED),
            (S.REQUESTED, S.EXPIRED),
            (S.APPROVED, S.EXPIRED),
            (S.APPROVED, S.REVOKED),
        }
        assert set(zip(self.trail, self.trail[1:], strict=False)) <= arrows

    @invariant()
    def what_was_approved_says_at_which_risk_and_by_whom(self) -> None:
        if S.APPROVED in self.trail:
            assert self.acceptance.decided_by == "bob"
            assert self.acceptance.accepted_score == 53.44


TestAcceptanceLife = AcceptanceLife.TestCase


def test_the_requester_cannot_decide() -> None:
    with pytest.raises(OwnRequest):
        approve(an_acceptance(), by="alice")
    with pytest.raises(OwnRequest):
        an_acceptance().rejected(by="alice", at=NOON, note="")
    assert issubclass(OwnRequest, Forbidden)


def test_only_roles_that_the_appetite_names_decide() -> None:
    with pytest.raises(NotEntitled):
        approve(an_acceptance(), roles=frozenset({"engineer"}))


def test_after_its_end_it_cannot_be_approved() -> None:
    with pytest.raises(NotOpen):
        approve(an_acceptance(), at=NOON + timedelta(days=60))


def test_a_decision_that_took_its_time_does_not_count_against_the_length() -> None:
    acceptance = an_acceptance(expires_at=NOON + timedelta(days=90))
    assert approve(acceptance, at=NOON + timedelta(days=30)).status is S.APPROVED


def test_a_risk_that_rose_meanwhile_is_not_accepted_on_the_old_terms() -> None:
    critical = Standing(80.0, RiskLevel.CRITICAL)
    with pytest.raises(AboveAppetite, match="30 days"):
        approve(an_acceptance(), standing=critical)
    with pytest.raises(AboveAppetite, match="90"):
        approve(an_acceptance(), standing=Standing(90.5, RiskLevel.CRITICAL))


def test_critical_risk_takes_a_decision_of_the_board_about_this_acceptance() -> None:
    critical = Standing(80.0, RiskLevel.CRITICAL)
    acceptance = an_acceptance(expires_at=NOON + timedelta(days=20))
    wrong = [
        None,
        BoardDecision(uuid4(), "rejected", acceptance.acceptance_id),
        BoardDecision(uuid4(), "approved", None),
        BoardDecision(uuid4(), "approved", uuid4()),
    ]
    for decision in wrong:
        with pytest.raises(BoardDecisionMissing):
            approve(acceptance, standing=critical, decision=decision)
    right = BoardDecision(uuid4(), "approved", acceptance.acceptance_id)
    approved = approve(acceptance, standing=critical, decision=right)
    assert approved.decision_id == right.decision_id


@given(
    level=st.sampled_from(list(RiskLevel)),
    days=st.integers(-5, 800),
    kind=st.sampled_from(list(AcceptanceKind)),
)
def test_a_request_is_within_the_appetite_or_refused(level: RiskLevel, days: int, kind: AcceptanceKind) -> None:
    score = {RiskLevel.LOW: 10.0, RiskLevel.MEDIUM: 30.0, RiskLevel.HIGH: 60.0, RiskLevel.CRITICAL: 80.0}[level]
    most = APPETITE.exceptions.max_days if kind is AcceptanceKind.EXCEPTION else APPETITE.levels[level].max_days
    end = NOON + timedelta(days=days)
    if 0 < days <= most:
        check_request(kind, end, NOON, Standing(score, level), APPETITE)
    else:
        with pytest.raises(DoesNotFit) as refused:
            check_request(kind, end, NOON, Standing(score, level), APPETITE)
        assert refused.value.extra["errors"][0]["field"] == "/expires_at"


def test_an_asset_that_nobody_assessed_is_treated_like_the_worst() -> None:
    unknown = Standing(None, None)
    check_request(AcceptanceKind.RISK, NOON + timedelta(days=30), NOON, unknown, APPETITE)
    with pytest.raises(DoesNotFit, match="unassessed"):
        check_request(AcceptanceKind.RISK, NOON + timedelta(days=31), NOON, unknown, APPETITE)


def test_above_the_highest_score_nothing_can_be_asked_for() -> None:
    with pytest.raises(AboveAppetite):
        check_request(AcceptanceKind.RISK, NOON + timedelta(days=1), NOON, Standing(95.0, RiskLevel.CRITICAL), APPETITE)
