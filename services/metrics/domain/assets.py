"""What an asset adds to the program's counts: its presence, its review, its gaps, its risk and its controls.

Three services tell parts of it. Each part keeps the version that it was told last, so a repeated or older message
changes nothing, and an asset whose registration is not here yet counts for nothing, whatever else is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from uuid import UUID

from services.metrics.domain.ledger import ALWAYS, Counter, Share, Step, minute_of_day
from shared.contracts.governance import ControlDeploymentSnapshot, ControlType
from shared.contracts.inventory import AssetSnapshot, DataClassification, Lifecycle, NetworkExposure, RegulatoryScope
from shared.contracts.risk import AssessmentCompleted, RiskLevel

# A review is stale when more than this many days have gone by since the day it was made.
REVIEW_FRESH_DAYS = 90

CONTROL_TYPES: tuple[ControlType, ...] = tuple(ControlType)
_CONTROL_POSITION: dict[str, int] = {control_type: position for position, control_type in enumerate(CONTROL_TYPES)}
NO_CONTROLS: tuple[int, ...] = (0,) * len(CONTROL_TYPES)

# Words of a deployment's `status`.
NOT_IN_PLACE = frozenset({"planned", "retired"})

_SENSITIVE = frozenset({DataClassification.CONFIDENTIAL, DataClassification.RESTRICTED, DataClassification.REGULATED})
_NO_SCOPE = frozenset({RegulatoryScope.NONE})


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset as far as the figures need it.

    Attributes:
        minute: the latest minute at which something changed it; a change is never booked before it.
        asset_version: of inventory's latest message; 0 while only other services have spoken of the asset.
        reviewed_on: day of its last security review, null without one.
        residual_cents: latest residual risk in hundredths of a point, null while unassessed.
        deployed: controls on it, in whatever state; operational: those of them that work.
        operational_by_type: operational controls of each scored type, in the order of CONTROL_TYPES.
    """

    asset_id: UUID
    minute: int = ALWAYS
    asset_version: int = 0
    team: str = ""
    asset_type: str = ""
    live: bool = False
    reviewed_on: date | None = None
    missing_sbom: bool = False
    unclassified_data: bool = False
    public_exposure_high_sensitivity: bool = False
    assessment_version: int = 0
    residual_cents: int | None = None
    risk_level: str | None = None
    deployed: int = 0
    operational: int = 0
    operational_by_type: tuple[int, ...] = NO_CONTROLS

    @property
    def controlled(self) -> bool:
        """Whether at least one control of the ten scored types is operational on it."""
        return any(self.operational_by_type)

    def told(self, snapshot: AssetSnapshot, *, minute: int) -> Asset:
        """As inventory's message leaves it."""
        if snapshot.version <= self.asset_version:
            return self
        scoped = bool(snapshot.regulatory_scope) and not _NO_SCOPE.issuperset(snapshot.regulatory_scope)
        return replace(
            self,
            minute=max(self.minute, minute),
            asset_version=snapshot.version,
            team=snapshot.owner_team,
            asset_type=snapshot.asset_type.value,
            live=snapshot.lifecycle is not Lifecycle.RETIRED,
            reviewed_on=snapshot.last_security_review,
            missing_sbom=snapshot.is_self_hosted and not snapshot.sbom_available,
            unclassified_data=snapshot.data_classification is DataClassification.INTERNAL and scoped,
            public_exposure_high_sensitivity=(
                snapshot.network_exposure is NetworkExposure.PUBLIC and snapshot.data_classification in _SENSITIVE
            ),
        )

    def assessed(self, assessment: AssessmentCompleted, *, minute: int) -> Asset:
        """As risk's assessment leaves it."""
        if assessment.version <= self.assessment_version:
            return self
        return replace(
            self,
            minute=max(self.minute, minute),
            assessment_version=assessment.version,
            residual_cents=cents(assessment.residual_risk_score),
            risk_level=assessment.risk_level.value,
        )

    def with_control(self, old: Deployment | None, new: Deployment | None, *, minute: int) -> Asset:
        """With `new` among its control deployments in the place of `old`."""
        by_type = list(self.operational_by_type)
        deployed, operational = self.deployed, self.operational
        for deployment, sign in ((old, -1), (new, 1)):
            if deployment is None or not deployment.present:
                continue
            deployed += sign
            if deployment.operational:
                operational += sign
                if deployment.control_type is not None:
                    by_type[_CONTROL_POSITION[deployment.control_type]] += sign
        return replace(
            self,
            minute=max(self.minute, minute),
            deployed=deployed,
            operational=operational,
            operational_by_type=tuple(by_type),
        )

    def share(self) -> Share | None:
        """What it adds; None while unknown to inventory, and once retired."""
        if not self.live:
            return None
        steps: list[Step] = [(ALWAYS, Counter.ASSETS, 1)]
        stale_from = None
        if self.reviewed_on is not None:
            stale_from = minute_of_day(_stale_day(self.reviewed_on))
            steps.append((ALWAYS, Counter.REVIEWED, 1))
            steps.append((stale_from, Counter.STALE, 1))
        gaps = (
            (self.missing_sbom, Counter.MISSING_SBOM),
            (self.unclassified_data, Counter.UNCLASSIFIED_DATA),
            (not self.team, Counter.NO_OWNER),
            (self.public_exposure_high_sensitivity, Counter.PUBLIC_EXPOSURE_HIGH_SENSITIVITY),
        )
        steps.extend((ALWAYS, counter, 1) for present, counter in gaps if present)
        if stale_from is not None and not any(present for present, _ in gaps):
            steps.append((ALWAYS, Counter.GAP_FREE, 1))
            steps.append((stale_from, Counter.GAP_FREE, -1))
        if self.residual_cents is not None:
            steps.append((ALWAYS, Counter.ASSESSED, 1))
            steps.append((ALWAYS, Counter.RESIDUAL_CENTS, self.residual_cents))
            if self.risk_level == RiskLevel.CRITICAL:
                steps.append((ALWAYS, Counter.CRITICAL, 1))
            elif self.risk_level == RiskLevel.HIGH:
                steps.append((ALWAYS, Counter.HIGH, 1))
        if self.deployed:
            steps.append((ALWAYS, Counter.DEPLOYED, self.deployed))
        if self.operational:
            steps.append((ALWAYS, Counter.OPERATIONAL, self.operational))
        if self.controlled:
            steps.append((ALWAYS, Counter.CONTROLLED, 1))
        return Share(self.team, tuple(steps))


@dataclass(frozen=True, slots=True)
class Deployment:
    """A control on an asset.

    Attributes:
        control_type: null for controls that are never scored.
        present: in place, working or not: no longer only planned, not yet retired or removed.
    """

    deployment_id: UUID
    version: int
    asset_id: UUID
    control_type: str | None
    operational: bool
    present: bool

    @classmethod
    def of(cls, snapshot: ControlDeploymentSnapshot, *, removed: bool) -> Deployment:
        return cls(
            deployment_id=snapshot.deployment_id,
            version=snapshot.version,
            asset_id=snapshot.asset_id,
            control_type=None if snapshot.control_type is None else snapshot.control_type.value,
            operational=snapshot.operational,
            present=not removed and snapshot.status not in NOT_IN_PLACE,
        )


def cents(score: float) -> int:
    """A score in hundredths. Events carry scores with two decimals, so this is exact for them, and so are sums."""
    return int((Decimal(repr(score)) * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def _stale_day(reviewed_on: date) -> date:
    fresh_days = timedelta(days=REVIEW_FRESH_DAYS + 1)
    return reviewed_on + fresh_days if reviewed_on <= date.max - fresh_days else date.max
