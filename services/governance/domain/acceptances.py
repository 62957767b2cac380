"""Acceptances: decisions to live with a risk, or with a deviation from a policy or control, until a given time.

requested -> approved -> expired | revoked
          -> rejected
          -> expired                           (nobody decided before it would have ended)

Whoever asks never decides. How long and by whom follows from the risk appetite, both when it is requested and, because
the risk moves meanwhile, when it is decided.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.governance.domain.appetite import Appetite, LevelRule, Rule
from services.governance.domain.documents import DoesNotFit
from shared.contracts.governance import AcceptanceSnapshot
from shared.contracts.risk import RiskLevel
from shared.errors import Conflict, Forbidden, NotFound


class AcceptanceNotFound(NotFound):
    """There is no such acceptance, or none that you may know of."""


class NotOpen(Conflict):
    """The acceptance is not in a status in which this can be done."""


class OwnRequest(Forbidden):
    """Whoever requests an acceptance cannot decide it."""


class NotEntitled(Forbidden):
    """The risk appetite gives this decision to others."""


class AboveAppetite(Conflict):
    """The risk is higher than the appetite lets anybody accept."""


class BoardDecisionMissing(Conflict):
    """The risk appetite asks for a decision of the oversight board first."""


class AcceptanceKind(StrEnum):
    RISK = "risk"
    EXCEPTION = "exception"


class AcceptanceStatus(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Standing:
    """An asset's risk as last assessed; None, None when it never was."""

    residual_risk_score: float | None
    risk_level: RiskLevel | None


@dataclass(frozen=True, slots=True)
class BoardDecision:
    """As much of a recorded board decision as an approval needs."""

    decision_id: UUID
    outcome: str
    acceptance_id: UUID | None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A decision, asked for or made.

    Attributes:
        policy_id, statement_id, control_id: what an exception deviates from.
        requested_score, requested_level: the asset's standing when it was asked for.
        accepted_score, accepted_level: the standing that was accepted; None until approved.
        decided_by: who approved or rejected.
        ended_by: who revoked it; None when it expired by itself.
    """

    acceptance_id: UUID
    version: int
    kind: AcceptanceKind
    status: AcceptanceStatus
    asset_id: UUID | None
    policy_id: str | None
    statement_id: str | None
    control_id: str | None
    justification: str
    compensating_measures: tuple[str, ...]
    expires_at: datetime
    requested_by: str
    requested_at: datetime
    requested_score: float | None
    requested_level: RiskLevel | None
    accepted_score: float | None = None
    accepted_level: RiskLevel | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision_note: str = ""
    decision_id: UUID | None = None
    ended_by: str | None = None
    ended_at: datetime | None = None
    end_reason: str = ""

    def approved(
        self,
        *,
        by: str,
        roles: Set[str],
        at: datetime,
        standing: Standing,
        appetite: Appetite,
        decision: BoardDecision | None,
        note: str,
    ) -> Acceptance:
        """Accepted by `by`, at the risk as it stands now.

        Raises:
            NotOpen: it is not requested any more, or its end has come.
            OwnRequest: `by` asked for it.
            NotEntitled: none of `roles` may decide at this level.
            AboveAppetite: the risk has become too high, or its end too far for that risk.
            BoardDecisionMissing: no approving board decision about this acceptance is named.
        """
        self._demand(AcceptanceStatus.REQUESTED)
        if at >= self.expires_at:
            raise NotOpen("its end has come before it was decided", current_status=self.status)
        self._demand_another(by)
        rule = rule_of(self.kind, appetite, standing)
        _demand_role(rule, roles)
        _demand_within(rule, standing, self.kind)
        # Measured from the request, so that a decision that took its time does not shorten what was asked for.
        if self.expires_at > self.requested_at + timedelta(days=rule.max_days):
            raise AboveAppetite(
                f"at the present risk it may last {rule.max_days} days at most; let it be requested again",
                max_days=rule.max_days,
            )
        if rule.board_decision and not (
            decision is not None and decision.outcome == "approved" and decision.acceptance_id == self.acceptance_id
        ):
            raise BoardDecisionMissing("name an approving decision of the board about this acceptance in decision_id")
        return replace(
            self,
            version=self.version + 1,
            status=AcceptanceStatus.APPROVED,
            accepted_score=standing.residual_risk_score,
            accepted_level=standing.risk_level,
            decided_by=by,
            decided_at=at,
            decision_note=note,
            decision_id=decision.decision_id if decision else None,
        )

    def rejected(self, *, by: str, at: datetime, note: str) -> Acceptance:
        """Refused by `by`.

        Raises:
            NotOpen: it is not requested any more.
            OwnRequest: `by` asked for it.
        """
        self._demand(AcceptanceStatus.REQUESTED)
        self._demand_another(by)
        return replace(
            self,
            version=self.version + 1,
            status=AcceptanceStatus.REJECTED,
            decided_by=by,
            decided_at=at,
            decision_note=note,
        )

    def revoked(self, *, by: str, at: datetime, reason: str) -> Acceptance:
        """Taken back before its end; anybody entitled may, the requester included, since that only lessens risk.

        Raises:
            NotOpen: it is not in force.
        """
        self._demand(AcceptanceStatus.APPROVED)
        return replace(
            self,
            version=self.version + 1,
            status=AcceptanceStatus.REVOKED,
            ended_by=by,
            ended_at=at,
            end_reason=reason,
        )

    def expired(self, at: datetime) -> Acceptance:
        """Over, because its time is.

        Raises:
            NotOpen: it has been rejected or ended before, or its time has not come.
        """
        if self.status not in (AcceptanceStatus.REQUESTED, AcceptanceStatus.APPROVED) or at < self.expires_at:
            raise NotOpen(f"it is {self.status} until {self.expires_at.isoformat()}", current_status=self.status)
        return replace(self, version=self.version + 1, status=AcceptanceStatus.EXPIRED, ended_at=at)

    def snapshot(self, owner_team: str) -> AcceptanceSnapshot:
        return AcceptanceSnapshot(
            acceptance_id=self.acceptance_id,
            version=self.version,
            kind=self.kind,
            asset_id=self.asset_id,
            owner_team=owner_team,
            status=self.status,
            requested_by=self.requested_by,
            decided_by=self.decided_by,
            justification=self.justification,
            expires_at=self.expires_at,
        )

    def _demand(self, status: AcceptanceStatus) -> None:
        if self.status is not status:
            raise NotOpen(f"the acceptance is {self.status}, not {status}", current_status=self.status)

    def _demand_another(self, by: str) -> None:
        if by == self.requested_by:
            raise OwnRequest(f"{by} requested it; somebody else decides")


def rule_of(kind: AcceptanceKind, appetite: Appetite, standing: Standing) -> Rule:
    """What it takes to decide an acceptance of this kind at this risk."""
    return appetite.exceptions if kind is AcceptanceKind.EXCEPTION else appetite.rule_for(standing.risk_level)


def check_request(
    kind: AcceptanceKind, expires_at: datetime, now: datetime, standing: Standing, appetite: Appetite
) -> None:
    """Refuse a request that nobody could grant.

    Raises:
        DoesNotFit: it ends in the past, or later than the appetite allows.
        AboveAppetite: the risk is too high to be accepted at all.
    """
    rule = rule_of(kind, appetite, standing)
    if expires_at <= now:
        raise DoesNotFit("it would end in the past", field="/expires_at")
    if expires_at > now + timedelta(days=rule.max_days):
        what = "exceptions" if kind is AcceptanceKind.EXCEPTION else f"risk level {standing.risk_level or 'unassessed'}"
        raise DoesNotFit(
            f"the risk appetite allows {rule.max_days} days at most for {what}",
            field="/expires_at",
            max_days=rule.max_days,
        )
    _demand_within(rule, standing, kind)


def _demand_within(rule: Rule, standing: Standing, kind: AcceptanceKind) -> None:
    score = standing.residual_risk_score
    if kind is not AcceptanceKind.RISK or not isinstance(rule, LevelRule) or score is None:
        return
    if score > rule.max_residual_score:
        raise AboveAppetite(
            f"the residual risk is {score}; {rule.max_residual_score} is the most that can be accepted",
            residual_risk_score=score,
            max_residual_score=rule.max_residual_score,
        )


def _demand_role(rule: Rule, roles: Set[str]) -> None:
    if rule.roles and not roles & set(rule.roles):
        raise NotEntitled(f"this is decided by {rule.accepted_by} ({', '.join(rule.roles)})", roles=list(rule.roles))
