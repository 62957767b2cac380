"""What risk knows about one asset, and how each event changes it.

A batch of events is folded over dossiers in memory, event by event, and written once: where a batch ends must make no
difference to what is stored, or a replay would not give the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final, NamedTuple, TypeVar
from uuid import UUID, uuid5

from services.risk.domain.adjustments import NOTICEABLE, AlertSignal, IncidentSignal, Situation
from services.risk.domain.assessment import Assessment, Score, Standing, Trigger, score_asset
from services.risk.domain.formula import Control, Subject
from services.risk.domain.model import ScoringModel
from shared.contracts.detection import AlertSnapshot, Disposition
from shared.contracts.governance import AcceptanceSnapshot, ControlDeploymentSnapshot
from shared.contracts.incidents import IncidentSnapshot
from shared.contracts.inventory import AssetSnapshot, Lifecycle
from shared.contracts.risk import RiskLevel

MOST_SIGNALS: Final = 200
"""Alerts, and incidents, that a dossier holds: the strongest. Somebody who changes sessions makes alerts without end;
their points are capped long before this many, but each would be read and weighed with every further event."""

T = TypeVar("T", AlertSignal, IncidentSignal)


@dataclass(frozen=True, slots=True)
class AssetCopy:
    """An asset as the inventory last announced it. `edges`: (upstream, downstream) pairs that it declares."""

    asset_id: UUID
    version: int
    name: str
    owner_team: str
    lifecycle: str
    subject: Subject
    edges: frozenset[tuple[UUID, UUID]]

    @classmethod
    def of(cls, snapshot: AssetSnapshot) -> AssetCopy:
        own = snapshot.asset_id
        return cls(
            asset_id=own,
            version=snapshot.version,
            name=snapshot.name,
            owner_team=snapshot.owner_team,
            lifecycle=snapshot.lifecycle,
            subject=Subject(
                asset_type=snapshot.asset_type,
                data_classification=snapshot.data_classification,
                deployment_env=snapshot.deployment_env,
                network_exposure=snapshot.network_exposure,
                regulatory_scope=tuple(snapshot.regulatory_scope),
                model_provider=snapshot.model_provider,
                is_self_hosted=snapshot.is_self_hosted,
                last_security_review=snapshot.last_security_review,
                sbom_available=snapshot.sbom_available,
                license_type=snapshot.license_type,
                source_url=snapshot.source_url,
            ),
            edges=frozenset(
                edge
                for edge in (
                    *((upstream, own) for upstream in snapshot.upstream_assets),
                    *((own, downstream) for downstream in snapshot.downstream_assets),
                )
                if edge[0] != edge[1]
            ),
        )


@dataclass(frozen=True, slots=True)
class ControlCopy:
    """A deployment of a control that scores."""

    deployment_id: UUID
    asset_id: UUID
    version: int
    control_type: str
    operational: bool


@dataclass(frozen=True, slots=True)
class AcceptanceCopy:
    """An acceptance of an asset's risk that was granted and neither expired nor was revoked."""

    acceptance_id: UUID
    asset_id: UUID
    version: int
    expires_at: datetime


class Place(NamedTuple):
    """Where in the portfolio an asset is counted."""

    owner_team: str
    asset_type: str
    risk_level: RiskLevel
    accepted: bool


@dataclass(slots=True)
class Dossier:
    """Everything about one asset that its score depends on. `copy` is None until the inventory announced it: signals
    and controls may come first, as their events travel in other streams."""

    asset_id: UUID
    copy: AssetCopy | None = None
    controls: dict[UUID, ControlCopy] = field(default_factory=dict)
    alerts: dict[UUID, AlertSignal] = field(default_factory=dict)
    incidents: dict[UUID, IncidentSignal] = field(default_factory=dict)
    acceptances: dict[UUID, AcceptanceCopy] = field(default_factory=dict)
    standing: Standing | None = None
    accepted_until: datetime | None = None
    review_stale_on: date | None = None
    """The day on which the review will be old by the model of the newest assessment, if that lies ahead and the asset
    is still scored then."""

    @property
    def is_quiet(self) -> bool:
        """Nothing happens to the asset, so what depends on it does not matter."""
        return not (self.alerts or self.incidents or self.is_quarantined)

    @property
    def is_quarantined(self) -> bool:
        return self.copy is not None and self.copy.lifecycle == Lifecycle.QUARANTINED

    @property
    def is_scored(self) -> bool:
        """The asset is known and has not left the estate: what happens to it moves its score."""
        return self.copy is not None and self.copy.lifecycle != Lifecycle.RETIRED

    @property
    def place(self) -> Place | None:
        """None before the first assessment and after retirement."""
        if self.copy is None or self.standing is None or not self.is_scored:
            return None
        accepted = self.accepted_until is not None
        return Place(self.copy.owner_team, self.copy.subject.asset_type, self.standing.level, accepted)

    def record_asset(self, snapshot: AssetSnapshot) -> bool:
        """Take over a snapshot; False when it is not newer than what is known."""
        if self.copy is not None and self.copy.version >= snapshot.version:
            return False
        self.copy = AssetCopy.of(snapshot)
        return True

    def record_control(self, deployment: ControlDeploymentSnapshot, *, removed: bool) -> bool:
        """Take over a deployment; False when it is not newer, or no control that scores."""
        known = self.controls.get(deployment.deployment_id)
        if known is not None and known.version >= deployment.version:
            return False
        if removed or deployment.control_type is None:
            return self.controls.pop(deployment.deployment_id, None) is not None
        self.controls[deployment.deployment_id] = ControlCopy(
            deployment_id=deployment.deployment_id,
            asset_id=self.asset_id,
            version=deployment.version,
            control_type=deployment.control_type,
            operational=deployment.operational,
        )
        return True

    def record_acceptance(self, acceptance: AcceptanceSnapshot, *, in_force: bool) -> bool:
        """Take over an acceptance of risk; False when it is not newer or nothing changes by it."""
        known = self.acceptances.get(acceptance.acceptance_id)
        if known is not None and known.version >= acceptance.version:
            return False
        if not in_force:
            return self.acceptances.pop(acceptance.acceptance_id, None) is not None
        self.acceptances[acceptance.acceptance_id] = AcceptanceCopy(
            acceptance.acceptance_id, self.asset_id, acceptance.version, acceptance.expires_at
        )
        return True

    def record_alert(self, alert: AlertSnapshot) -> bool:
        """Take over an alert; one that somebody found to be nothing is forgotten. False when it is not newer."""
        known = self.alerts.get(alert.alert_id)
        if known is not None and known.version >= alert.version:
            return False
        if alert.disposition is not None and alert.disposition != Disposition.TRUE_POSITIVE:
            return self.alerts.pop(alert.alert_id, None) is not None
        self.alerts[alert.alert_id] = AlertSignal(
            alert.alert_id, self.asset_id, alert.version, alert.severity, alert.count, alert.last_seen
        )
        return True

    def record_incident(self, incident: IncidentSnapshot) -> bool:
        """Take over an incident; one that no longer affects this asset is forgotten. False when it is not newer."""
        known = self.incidents.get(incident.incident_id)
        if known is not None and known.version >= incident.version:
            return False
        if self.asset_id not in incident.affected_assets:
            return self.incidents.pop(incident.incident_id, None) is not None
        self.incidents[incident.incident_id] = IncidentSignal(
            incident.incident_id,
            self.asset_id,
            incident.version,
            incident.severity,
            incident.status,
            incident.resolved_at or incident.closed_at,
        )
        return True

    def forget_faded(self, model: ScoringModel, at: datetime) -> None:
        """Drop signals too old to move the score: they would be loaded with every event on the asset for ever."""
        threat, incidents = model.activity.threat_activity, model.activity.incident_activity
        self.alerts = {key: alert for key, alert in self.alerts.items() if alert.points(threat, at) >= NOTICEABLE}
        self.incidents = {
            key: incident
            for key, incident in self.incidents.items()
            if not incident.is_over or incident.points(incidents, at) >= NOTICEABLE
        }

    def keep_strongest(self, model: ScoringModel, at: datetime) -> None:
        """Drop the weakest signals above MOST_SIGNALS."""
        threat, incidents = model.activity.threat_activity, model.activity.incident_activity
        self.alerts = _strongest(self.alerts, lambda alert: alert.points(threat, at))
        self.incidents = _strongest(self.incidents, lambda incident: incident.points(incidents, at))

    def score(self, model: ScoringModel, at: datetime, *, dependents: int = 0) -> Score:
        """The asset's score as of a moment. `dependents` matters only when the dossier is not quiet."""
        assert self.copy is not None, "an asset that the inventory did not announce has no score"
        situation = Situation(
            alerts=tuple(self.alerts.values()),
            incidents=tuple(self.incidents.values()),
            quarantined=self.is_quarantined,
            dependents=dependents,
        )
        return score_asset(model, self.asset_id, self.copy.subject, self.counted_controls(), situation, at=at)

    def counted_controls(self) -> Iterable[Control]:
        """One control of each type, operational if any deployment of it is.

        The formula adds up whatever it is given. Two filters in a row are not twice one filter, and the same control
        registered twice would otherwise talk any risk down.
        """
        operational = {control.control_type for control in self.controls.values() if control.operational}
        return [Control(kind, operational=True) for kind in sorted(operational)]

    def assess(self, model: ScoringModel, score: Score, trigger: Trigger) -> Assessment:
        """Record a score as the asset's next assessment."""
        assert self.copy is not None, "an asset that the inventory did not announce has no assessment"
        in_force = [entry.expires_at for entry in self.acceptances.values() if entry.expires_at > trigger.at]
        self.accepted_until = max(in_force, default=None)
        stale_from = self.copy.subject.stale_from(model, after=trigger.at.date())
        self.review_stale_on = stale_from if self.is_scored else None
        assessment = Assessment(
            # One trigger may concern many assets, but no asset twice.
            assessment_id=uuid5(trigger.id, self.asset_id.hex),
            number=self.standing.number + 1 if self.standing else 1,
            asset_id=self.asset_id,
            asset_name=self.copy.name,
            asset_version=self.copy.version,
            owner_team=self.copy.owner_team,
            score=score,
            previous=self.standing,
            trigger=trigger,
            accepted_until=self.accepted_until,
        )
        self.standing = assessment.standing
        return assessment


def _strongest(signals: dict[UUID, T], points: Callable[[T], Decimal]) -> dict[UUID, T]:
    if len(signals) <= MOST_SIGNALS:
        return signals
    # Equals by id, so that a rebuild drops the same.
    ranked = sorted(signals.items(), key=lambda entry: (-points(entry[1]), entry[0].int))
    return dict(ranked[:MOST_SIGNALS])


def moved(before: Standing | None, score: Score, *, by: Decimal) -> bool:
    """Whether a score differs from what the asset carries: another level, or at least `by` points."""
    return before is None or before.level != score.level or abs(before.residual - score.residual) >= by
