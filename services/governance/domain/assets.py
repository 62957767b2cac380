"""What governance knows of assets: its own copy, built from inventory's and risk's events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from shared.contracts.inventory import AssetSnapshot, AssetType, DataClassification, DeploymentEnvironment, Lifecycle
from shared.errors import Conflict, NotFound


class AssetNotFound(NotFound):
    """There is no such asset, or none that you may know of."""


class AssetRetired(Conflict):
    """The asset is retired."""


@dataclass(frozen=True, slots=True)
class AssetCopy:
    """An asset as inventory last announced it."""

    asset_id: UUID
    version: int
    name: str
    asset_type: AssetType
    owner_team: str
    data_classification: DataClassification
    deployment_env: DeploymentEnvironment
    lifecycle: Lifecycle
    last_security_review: date | None
    registered_at: datetime

    @classmethod
    def of(cls, snapshot: AssetSnapshot) -> AssetCopy:
        return cls(
            asset_id=snapshot.asset_id,
            version=snapshot.version,
            name=snapshot.name,
            asset_type=snapshot.asset_type,
            owner_team=snapshot.owner_team,
            data_classification=snapshot.data_classification,
            deployment_env=snapshot.deployment_env,
            lifecycle=snapshot.lifecycle,
            last_security_review=snapshot.last_security_review,
            registered_at=snapshot.registered_date,
        )

    def demand_active(self) -> None:
        """Refuse a retired asset.

        Raises:
            AssetRetired: nothing new is attached to it.
        """
        if self.lifecycle is Lifecycle.RETIRED:
            raise AssetRetired(f"asset {self.asset_id} is retired")
