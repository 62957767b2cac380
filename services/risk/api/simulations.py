"""What an asset would score, without keeping anything of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import Field, StrictBool
from starlette.responses import Response

from services.risk.api.model import Weights, day_in_text
from services.risk.api.views import AssessmentView
from services.risk.domain.adjustments import Situation
from services.risk.domain.assessment import score_asset
from services.risk.domain.formula import Control, Subject
from services.risk.store import models
from shared.auth import requires
from shared.contracts.governance import ControlType
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    NetworkExposure,
    RegulatoryScope,
)
from shared.http import reply
from shared.models import In, Text
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/risk", "risk")

Line = Annotated[str, Field(max_length=2_000)]


class SimulatedAsset(In):
    """An asset as one would register it, with the inventory's names and defaults.

    Whatever does not enter a score is accepted and not looked at, so that a registration can be tried out unchanged.
    """

    asset_type: AssetType
    asset_id: UUID | None = None
    name: Line = ""
    owner_team: Line = ""
    data_classification: DataClassification = DataClassification.INTERNAL
    deployment_env: DeploymentEnvironment = DeploymentEnvironment.DEVELOPMENT
    network_exposure: NetworkExposure = NetworkExposure.INTERNAL
    regulatory_scope: Annotated[tuple[RegulatoryScope, ...], Field(max_length=20)] = ()
    model_provider: Line | None = None
    is_self_hosted: StrictBool = False
    last_security_review: Annotated[date, day_in_text] | None = None
    sbom_available: StrictBool = False
    license_type: Line | None = None
    source_url: Line | None = None

    description: Text = ""
    owner_email: Line = ""
    model_name: Line | None = None
    model_version: Line | None = None
    parameter_count: Line | None = None
    api_endpoint: Line | None = None
    cloud_provider: Line | None = None
    cloud_region: Line | None = None
    upstream_assets: Annotated[tuple[UUID, ...], Field(max_length=10_000)] = ()
    downstream_assets: Annotated[tuple[UUID, ...], Field(max_length=10_000)] = ()
    purpose: Text = ""
    authorized_tools: Annotated[tuple[Line, ...], Field(max_length=1_000)] = ()

    def subject(self) -> Subject:
        return Subject(
            asset_type=self.asset_type,
            data_classification=self.data_classification,
            deployment_env=self.deployment_env,
            network_exposure=self.network_exposure,
            regulatory_scope=self.regulatory_scope,
            model_provider=self.model_provider,
            is_self_hosted=self.is_self_hosted,
            last_security_review=self.last_security_review,
            sbom_available=self.sbom_available,
            license_type=self.license_type,
            source_url=self.source_url,
        )


class SimulatedControl(In):
    """A control on the asset; it counts only when operational."""

    type: ControlType
    operational: StrictBool = False


class Simulation(In):
    asset: SimulatedAsset
    controls: Annotated[tuple[SimulatedControl, ...], Field(max_length=500)] = ()
    weights: Weights | None = Field(default=None, description="Instead of those of the model in force.")


@router.post("/simulations", response_model=AssessmentView)
@requires("risk:read")
async def simulate(work: Work, body: Simulation) -> Response:
    """Score an asset that need not exist, as of today, by the model in force or with weights of your own.

    The formula alone: there is no activity to adjust for. Each control given counts, also of a type given twice.
    """
    model = (await work.read(models.current)).model
    if body.weights is not None:
        model = replace(model, weights=body.weights.decimals())
        model.check()
    now = datetime.now(UTC)
    score = score_asset(
        model,
        body.asset.asset_id or uuid4(),
        body.asset.subject(),
        [Control(control.type, control.operational) for control in body.controls],
        Situation(),
        at=now,
    )
    return reply(
        AssessmentView.simulated(
            score,
            asset_id=body.asset.asset_id,
            name=body.asset.name,
            owner_team=body.asset.owner_team,
            model_version=None if body.weights else model.version,
            at=now,
        )
    )
