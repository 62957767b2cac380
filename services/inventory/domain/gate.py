"""May this asset be deployed? What a pipeline asks, judged from facts alone.

Each rule gives a reason or none. A reason either denies or asks for a person; what is not known asks for a person and
is never taken for good. The answer is the gravest of its reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from uuid import UUID

from services.inventory.domain.asset import UNREVIEWED, Asset
from services.inventory.domain.combinations import MEANINGS, Severity, ToxicCombination
from services.inventory.domain.gaps import STALE_AFTER_DAYS
from shared.contracts.inventory import DataClassification, DeploymentEnvironment, Lifecycle


class Decision(StrEnum):
    """What a pipeline does: go on, stop, or wait for a person."""

    ALLOW = "allow"
    NEEDS_REVIEW = "needs_review"
    DENY = "deny"


class Check(StrEnum):
    """What is looked at. A check that gives no reason has passed."""

    LIFECYCLE = "lifecycle"
    UPSTREAMS = "upstreams"
    REVIEW = "review"
    RISK = "risk"
    CONTROLS = "controls"
    INCIDENTS = "incidents"
    DIGESTS = "digests"
    BILL_OF_MATERIALS = "bill_of_materials"
    TOXIC_COMBINATIONS = "toxic_combinations"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not.

    Attributes:
        code: stable, for pipelines.
        effect: DENY or NEEDS_REVIEW.
        source: where the fact came from.
        mend: what makes the reason go away.
        asset_id: the asset that the fact is about.
    """

    check: Check
    code: str
    effect: Decision
    detail: str
    source: str
    mend: str
    asset_id: UUID


@dataclass(frozen=True, slots=True)
class ControlFact:
    """A control on the asset, as governance last told."""

    deployment_id: UUID
    version: int
    control_id: str
    control_type: str | None
    status: str
    operational: bool
    evidence_valid_until: date | None


@dataclass(frozen=True, slots=True)
class IncidentFact:
    """An incident that is neither resolved nor closed, and which of the assets in question it affects."""

    incident_id: UUID
    category: str
    severity: str
    status: str
    asset_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class DeniedDigest:
    """A digest on the deny-list that the asset, or one upstream of it, holds."""

    asset_id: UUID
    algorithm: str
    digest: str
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known and matters.

    Attributes:
        risk_score: None while the asset was never assessed.
        ceilings: the appetite in force, class -> environment -> score; None while governance has told of none.
        appetite_version: of the appetite.
        accepted: an acceptance of the asset's risk is in force.
        upstreams: lifecycle of every asset upstream, near or far.
        missing_upstreams: ids that are named as upstream and that no asset has.
        upstreams_unread: there are more than were read.
        incidents: that affect the asset or one upstream.
        denied_digests: of the asset and of those upstream; None when nobody looked.
    """

    asset: Asset
    risk_score: float | None = None
    ceilings: Mapping[str, Mapping[str, float]] | None = None
    appetite_version: int = 0
    accepted: bool = False
    controls: Sequence[ControlFact] = ()
    upstreams: Mapping[UUID, Lifecycle] = field(default_factory=dict)
    missing_upstreams: Sequence[UUID] = ()
    upstreams_unread: bool = False
    incidents: Sequence[IncidentFact] = ()
    denied_digests: Sequence[DeniedDigest] | None = None
    combinations: Sequence[ToxicCombination] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the pipeline asks: where to, which controls it demands, how much risk it takes."""

    target_env: DeploymentEnvironment | None = None
    required_controls: tuple[str, ...] = ()
    max_risk: float | None = None


def judge(facts: Facts, wish: Wish, today: date) -> tuple[Decision, list[Reason]]:
    """The decision and every reason for it, the gravest first; no reasons when it is to allow."""
    reasons = [
        *_lifecycle(facts),
        *_upstreams(facts),
        *_review(facts, today),
        *_risk(facts, wish),
        *_controls(facts, wish, today),
        *_incidents(facts),
        *_digests(facts),
        *_bill(facts),
        *_combinations(facts),
    ]
    reasons.sort(key=lambda reason: reason.effect is not Decision.DENY)
    return (reasons[0].effect if reasons else Decision.ALLOW), reasons


def passed(facts: Facts, reasons: Sequence[Reason]) -> list[Check]:
    """The checks that were made and gave no reason."""
    others = {reason.check for reason in reasons}
    if facts.denied_digests is None:
        others.add(Check.DIGESTS)
    return [check for check in Check if check not in others]


def _lifecycle(facts: Facts) -> Iterator[Reason]:
    asset = facts.asset
    if asset.lifecycle is Lifecycle.ACTIVE:
        return
    mend = (
        "Release it when what it was quarantined for is dealt with."
        if asset.lifecycle is Lifecycle.QUARANTINED
        else "Register what is to be deployed anew."
    )
    yield Reason(
        Check.LIFECYCLE,
        f"asset_{asset.lifecycle.value}",
        Decision.DENY,
        f"The asset is {asset.lifecycle.value}.",
        f"inventory, asset version {asset.version}",
        mend,
        asset.asset_id,
    )


def _upstreams(facts: Facts) -> Iterator[Reason]:
    own, source = facts.asset.asset_id, "inventory, the graph upstream of the asset"
    for asset_id, lifecycle in sorted(facts.upstreams.items()):
        if lifecycle is Lifecycle.QUARANTINED:
            yield Reason(
                Check.UPSTREAMS,
                "upstream_quarantined",
                Decision.DENY,
                "It depends on an asset that was taken out of use.",
                source,
                "Take that asset out, or have it released.",
                asset_id,
            )
        elif lifecycle is Lifecycle.RETIRED:
            yield Reason(
                Check.UPSTREAMS,
                "upstream_retired",
                Decision.NEEDS_REVIEW,
                "It depends on an asset that left the estate; nobody looks after it any more.",
                source,
                "Replace that asset, or remove the edge to it.",
                asset_id,
            )
    for asset_id in facts.missing_upstreams:
        yield Reason(
            Check.UPSTREAMS,
            "upstream_unknown",
            Decision.NEEDS_REVIEW,
            "It depends on something that is not in the inventory: nothing is known of it.",
            source,
            "Register that asset, or remove the edge to it.",
            asset_id,
        )
    if facts.upstreams_unread:
        yield Reason(
            Check.UPSTREAMS,
            "upstreams_unread",
            Decision.NEEDS_REVIEW,
            "It depends on more assets than are looked at; of the others nothing is known.",
            source,
            "Have a person look at its dependencies.",
            own,
        )


def _review(facts: Facts, today: date) -> Iterator[Reason]:
    asset = facts.asset
    source = f"inventory, asset version {asset.version}"

    def reason(code: str, effect: Decision, detail: str, mend: str) -> Reason:
        return Reason(Check.REVIEW, code, effect, detail, source, mend, asset.asset_id)

    again = "Review its security again and record the outcome."
    if asset.last_security_review is None:
        yield reason(
            "never_reviewed",
            Decision.NEEDS_REVIEW,
            "No security review is recorded.",
            "Review its security and record the outcome.",
        )
    elif asset.last_security_review < today - timedelta(days=STALE_AFTER_DAYS):
        yield reason(
            "review_stale",
            Decision.NEEDS_REVIEW,
            f"The last security review, of {asset.last_security_review}, is older than {STALE_AFTER_DAYS} days.",
            again,
        )
    if asset.compliance_status == "non_compliant":
        yield reason("review_rejected", Decision.DENY, "The last security review rejected it.", again)
    elif asset.compliance_status == "conditional":
        yield reason(
            "review_conditional",
            Decision.NEEDS_REVIEW,
            "The last security review approved it under conditions; whether they are met is not known.",
            "Have somebody confirm the conditions, and record an approval.",
        )
    elif asset.compliance_status == UNREVIEWED and asset.last_security_review is not None:
        yield reason(
            "review_outcome_unknown",
            Decision.NEEDS_REVIEW,
            "A date of a review was declared, and no outcome.",
            "Record the review with its outcome.",
        )


def _risk(facts: Facts, wish: Wish) -> Iterator[Reason]:
    asset = facts.asset
    environment = wish.target_env or asset.deployment_env

    def reason(code: str, effect: Decision, detail: str, source: str, mend: str) -> Reason:
        return Reason(Check.RISK, code, effect, detail, source, mend, asset.asset_id)

    if facts.risk_score is None:
        yield reason(
            "risk_unknown",
            Decision.NEEDS_REVIEW,
            "Its risk was never assessed.",
            "risk, assessments of the asset",
            "Wait for the assessment, which follows registration within seconds; see whether risk runs.",
        )
    elif environment is not asset.deployment_env:
        yield reason(
            "risk_of_other_environment",
            Decision.NEEDS_REVIEW,
            f"Its risk was assessed for {asset.deployment_env.value}; for {environment.value} it is not known.",
            "risk, the last assessment",
            "Set deployment_env to where it goes and check again, or simulate the score in risk.",
        )
    if facts.risk_score is not None and wish.max_risk is not None and facts.risk_score > wish.max_risk:
        yield reason(
            "risk_above_maximum",
            Decision.DENY,
            f"Its residual risk of {facts.risk_score:g} is above {wish.max_risk:g}.",
            "risk, the last assessment; the maximum is the caller's",
            "Deploy controls until the score is below it.",
        )
    if facts.ceilings is None:
        if wish.max_risk is None:
            yield reason(
                "appetite_unknown",
                Decision.NEEDS_REVIEW,
                "What risk the organisation takes is not known here.",
                "governance, no change of the appetite was announced",
                "Put the risk appetite into force in governance, or send max_risk.",
            )
        return
    ceiling = facts.ceilings.get(asset.data_classification.value, {}).get(environment.value)
    told = f"governance, appetite version {facts.appetite_version}"
    if ceiling is None:
        yield reason(
            "appetite_unknown",
            Decision.NEEDS_REVIEW,
            f"The appetite says nothing of {asset.data_classification.value} data in {environment.value}.",
            told,
            "Complete the risk appetite in governance.",
        )
    elif facts.risk_score is not None and facts.risk_score > ceiling and not facts.accepted:
        yield reason(
            "risk_above_appetite",
            Decision.DENY,
            f"Its residual risk of {facts.risk_score:g} is above the {ceiling:g} that the appetite allows for "
            f"{asset.data_classification.value} data in {environment.value}, and nobody accepted it.",
            told,
            "Deploy controls until the score is below it, or have the risk accepted in governance.",
        )


def _controls(facts: Facts, wish: Wish, today: date) -> Iterator[Reason]:
    own = facts.asset.asset_id
    for wanted in wish.required_controls:
        there = [control for control in facts.controls if wanted in (control.control_type, control.control_id)]
        working = [control for control in there if control.operational]
        proven = [
            control
            for control in working
            if control.evidence_valid_until is None or control.evidence_valid_until >= today
        ]
        if proven:
            continue
        if not there:
            yield Reason(
                Check.CONTROLS,
                "control_absent",
                Decision.DENY,
                f"No deployment of {wanted} on it is recorded.",
                "governance, control deployments of the asset",
                "Deploy the control and record it in governance.",
                own,
            )
        elif not working:
            yield Reason(
                Check.CONTROLS,
                "control_not_operational",
                Decision.DENY,
                f"{wanted} is {there[0].status} and not operational.",
                f"governance, control deployment {there[0].deployment_id} version {there[0].version}",
                "Bring the control into operation.",
                own,
            )
        else:
            yield Reason(
                Check.CONTROLS,
                "control_evidence_expired",
                Decision.NEEDS_REVIEW,
                f"The evidence that {wanted} works was valid until {working[0].evidence_valid_until}.",
                f"governance, control deployment {working[0].deployment_id} version {working[0].version}",
                "Verify the control again and record the evidence.",
                own,
            )


def _incidents(facts: Facts) -> Iterator[Reason]:
    own = facts.asset.asset_id
    for incident in facts.incidents:
        for asset_id in sorted(incident.asset_ids, key=lambda affected: affected != own):
            yield Reason(
                Check.INCIDENTS,
                "incident_open" if asset_id == own else "upstream_incident_open",
                # What is contained does no further harm, but is not over.
                Decision.NEEDS_REVIEW if incident.status == "contained" else Decision.DENY,
                f"A {incident.severity} incident ({incident.category}) that affects it is {incident.status}."
                if asset_id == own
                else f"An incident that affects an asset that it depends on is {incident.status}.",
                f"incidents, incident {incident.incident_id}",
                "Resolve the incident.",
                asset_id,
            )


def _digests(facts: Facts) -> Iterator[Reason]:
    for denied in facts.denied_digests or ():
        yield Reason(
            Check.DIGESTS,
            "digest_denied",
            Decision.DENY,
            f"{'It holds' if denied.asset_id == facts.asset.asset_id else 'It descends from an asset that holds'} "
            f"{denied.algorithm} {denied.digest}, which is denied: {denied.reason}",
            "inventory, the deny-list of digests",
            "Replace the file by one that is not denied.",
            denied.asset_id,
        )


def _bill(facts: Facts) -> Iterator[Reason]:
    asset = facts.asset
    if asset.is_self_hosted and not asset.sbom_available:
        yield Reason(
            Check.BILL_OF_MATERIALS,
            "bom_missing",
            Decision.NEEDS_REVIEW,
            "It is self-hosted, and what it is made of is not known.",
            f"inventory, asset version {asset.version}",
            "Supply a CycloneDX bill of materials (PUT /v1/assets/{id}/bom).",
            asset.asset_id,
        )


def _combinations(facts: Facts) -> Iterator[Reason]:
    for finding in facts.combinations:
        meaning = MEANINGS[finding.kind]
        yield Reason(
            Check.TOXIC_COMBINATIONS,
            finding.kind.value,
            Decision.DENY if meaning.severity is Severity.CRITICAL else Decision.NEEDS_REVIEW,
            meaning.why,
            f"inventory, toxic combination {finding.id}",
            meaning.mend,
            finding.asset_id,
        )


def ceilings_of(
    ceilings: Sequence[tuple[DataClassification, DeploymentEnvironment, float]],
) -> dict[str, dict[str, float]]:
    """Ceilings as Facts has them."""
    found: dict[str, dict[str, float]] = {}
    for classification, environment, score in ceilings:
        found.setdefault(classification.value, {})[environment.value] = score
    return found
