"""Bookkeeping: a run of events, in order, against what is known of the things they speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from services.metrics.domain.assets import Asset, Deployment
from services.metrics.domain.coverage import CoverageChanges
from services.metrics.domain.entries import Entry, entry_of
from services.metrics.domain.incidents import Incident
from services.metrics.domain.ledger import Posting, minute_of
from shared.contracts.envelope import Event
from shared.contracts.governance import ControlEvent, ControlRemoved
from shared.contracts.incidents import IncidentEvent, StepEvent
from shared.contracts.inventory import AssetEvent
from shared.contracts.risk import AssessmentCompleted


@dataclass(frozen=True, slots=True)
class Wanted:
    """The things that a run of events speaks of: what has to be known before it can be booked."""

    assets: frozenset[UUID]
    deployments: frozenset[UUID]
    incidents: frozenset[UUID]
    entries: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the things wanted; one that is absent was never heard of."""

    assets: Mapping[UUID, Asset] = field(default_factory=dict)
    deployments: Mapping[UUID, Deployment] = field(default_factory=dict)
    incidents: Mapping[UUID, Incident] = field(default_factory=dict)
    entries: Mapping[tuple[str, str], Entry] = field(default_factory=dict)


class Books:
    """The things that events changed, as they stand now, and what that changes in the ledger and in coverage."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.assets: dict[UUID, Asset] = {}
        self.deployments: dict[UUID, Deployment] = {}
        self.incidents: dict[UUID, Incident] = {}
        self.entries: dict[tuple[str, str], Entry] = {}
        self.ledger = Posting()
        self.coverage = CoverageChanges()

    def post(self, event: Event) -> None:
        """Book one event. One that was booked before, or is older than what is known, changes nothing.

        Raises:
            NotImplementedError: no figure counts what the event is about.
        """
        minute = minute_of(event.occurred_at)
        match event:
            case AssetEvent():
                asset = self._asset(event.asset.asset_id)
                self._keep_asset(asset, asset.told(event.asset, minute=minute))
            case AssessmentCompleted():
                asset = self._asset(event.asset_id)
                self._keep_asset(asset, asset.assessed(event, minute=minute))
            case ControlEvent():
                self._post_control(event, minute)
            case IncidentEvent():
                incident = self._incident(event.incident.incident_id)
                self._keep_incident(incident, incident.told(event.incident, minute=minute))
            case StepEvent():
                incident = self._incident(event.incident_id)
                self._keep_incident(incident, incident.step_reported(event, minute=minute))
            case _:
                self._post_entry(entry_of(event))

    def _asset(self, asset_id: UUID) -> Asset:
        return self.assets.get(asset_id) or self._known.assets.get(asset_id) or Asset(asset_id)

    def _keep_asset(self, old: Asset, new: Asset) -> None:
        if new is old:
            return
        self.ledger.replace(old.share(), new.share(), minute=new.minute)
        self.coverage.replace(old, new)
        self.assets[new.asset_id] = new

    def _post_control(self, event: ControlEvent, minute: int) -> None:
        new = Deployment.of(event.deployment, removed=isinstance(event, ControlRemoved))
        old = self.deployments.get(new.deployment_id) or self._known.deployments.get(new.deployment_id)
        if old is not None and new.version <= old.version:
            return
        asset = self._asset(new.asset_id)
        self._keep_asset(asset, asset.with_control(old, new, minute=minute))
        self.deployments[new.deployment_id] = new

    def _incident(self, incident_id: UUID) -> Incident:
        return self.incidents.get(incident_id) or self._known.incidents.get(incident_id) or Incident(incident_id)

    def _keep_incident(self, old: Incident, new: Incident) -> None:
        if new is old:
            return
        self.ledger.replace(old.share(), new.share(), minute=new.minute)
        self.incidents[new.incident_id] = new

    def _post_entry(self, new: Entry) -> None:
        old = self.entries.get((new.kind, new.key)) or self._known.entries.get((new.kind, new.key))
        if old is not None and new.version <= old.version:
            return
        kept = new if old is None else new.not_before(old)
        self.ledger.replace(None if old is None else old.share, kept.share, minute=kept.minute)
        self.entries[kept.kind, kept.key] = kept


def wanted(events: Iterable[Event]) -> Wanted:
    """What has to be known to book `events`."""
    assets: set[UUID] = set()
    deployments: set[UUID] = set()
    incidents: set[UUID] = set()
    entries: set[tuple[str, str]] = set()
    for event in events:
        match event:
            case AssetEvent():
                assets.add(event.asset.asset_id)
            case AssessmentCompleted():
                assets.add(event.asset_id)
            case ControlEvent():
                assets.add(event.deployment.asset_id)
                deployments.add(event.deployment.deployment_id)
            case IncidentEvent():
                incidents.add(event.incident.incident_id)
            case StepEvent():
                incidents.add(event.incident_id)
            case _:
                entry = entry_of(event)
                entries.add((entry.kind, entry.key))
    return Wanted(frozenset(assets), frozenset(deployments), frozenset(incidents), frozenset(entries))
