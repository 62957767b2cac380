"""The scoring model over HTTP: one resource, its versions, and how far the portfolio follows the newest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from starlette.responses import Response

from services.risk import application
from services.risk.domain.model import DECIMAL_PLACES, ScoringModel
from services.risk.store import models
from shared.auth import demand_organization, requires
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/risk", "risk")


def _fits(value: float) -> float:
    if -int(_decimal(value).normalize().as_tuple().exponent) > DECIMAL_PLACES:
        raise ValueError(f"at most {DECIMAL_PLACES} decimal places")
    return value


def _decimal(value: float) -> Decimal:
    """The decimal that was written: 0.1 is 0.1, not the binary number next to it."""
    return Decimal(repr(value))


def _only_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write it as text, e.g. 2026-11-22")
    return value


day_in_text = BeforeValidator(_only_text)
"""Refuses numbers, which pydantic would read as seconds since 1970."""

Points = Annotated[float, Field(strict=True, ge=0, le=100), AfterValidator(_fits)]
Share = Annotated[float, Field(strict=True, ge=0, le=1), AfterValidator(_fits)]
Factor = Annotated[float, Field(strict=True, ge=0, le=10), AfterValidator(_fits)]
HalfLife = Annotated[float, Field(strict=True, ge=0.01, le=365), AfterValidator(_fits)]
Threshold = Annotated[float, Field(strict=True, gt=0, le=100), AfterValidator(_fits)]


class Section(In):
    """A part of the model. What goes in comes out: one class serves both."""

    def decimals(self) -> Mapping[str, Decimal]:
        """The numbers of a flat section."""
        return {name: _decimal(value) for name, value in self.model_dump().items()}


class Weights(Section):
    """Shares of the six dimensions; they sum to 1 exactly, as decimals of at most six places."""

    data_sensitivity: Share
    deployment_exposure: Share
    model_provenance: Share
    regulatory_impact: Share
    capability_risk: Share
    supply_chain: Share


class DataSensitivity(Section):
    public: Points
    internal: Points
    confidential: Points
    restricted: Points
    regulated: Points


class NetworkScores(Section):
    internal: Points
    vpc: Points
    public: Points


class EnvironmentFactors(Section):
    development: Factor
    staging: Factor
    production: Factor
    research: Factor


class DeploymentExposure(Section):
    """network x environment, capped at 100."""

    network: NetworkScores
    network_other: Points
    environment: EnvironmentFactors
    environment_other: Factor


class ModelProvenance(Section):
    """A named provider's score, else self_hosted or other; plus a missing or old review."""

    providers: Annotated[dict[Annotated[str, Field(min_length=1, max_length=200)], Points], Field(max_length=500)]
    self_hosted: Points
    other: Points
    never_reviewed: Points
    stale_review: Points
    stale_after_days: Annotated[int, Field(strict=True, ge=1, le=3_650)]


class ScopeScores(Section):
    gdpr: Points
    hipaa: Points
    sox: Points
    eu_ai_act_high_risk: Points
    eu_ai_act_limited_risk: Points
    pci_dss: Points
    ccpa: Points


class RegulatoryImpact(Section):
    """The highest score among the scopes that apply."""

    scopes: ScopeScores
    unregulated: Points


class CapabilityRisk(Section):
    ai_agent: Points
    fine_tuned_model: Points
    api_endpoint: Points
    vector_database: Points
    foundation_model: Points
    training_dataset: Points
    embedding_model: Points
    prompt_template: Points
    guardrail_config: Points
    evaluation_dataset: Points
    mcp_server: Points
    api_credential: Points
    integration: Points


class SupplyChain(Section):
    """base - sbom - known_license + model_hub, each where it applies, within 0 and 100."""

    base: Points
    sbom: Points
    known_license: Points
    model_hub: Points
    hubs: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=100)]


class ControlShares(Section):
    input_filtering: Share
    output_filtering: Share
    rate_limiting: Share
    authentication: Share
    encryption_at_rest: Share
    encryption_in_transit: Share
    monitoring: Share
    guardrails: Share
    access_logging: Share
    network_isolation: Share


class Tables(Section):
    """The score tables, each of them whole."""

    data_sensitivity: DataSensitivity
    deployment_exposure: DeploymentExposure
    model_provenance: ModelProvenance
    regulatory_impact: RegulatoryImpact
    capability_risk: CapabilityRisk
    supply_chain: SupplyChain
    controls: ControlShares


class Thresholds(Section):
    """Where a level begins: critical > high > medium."""

    critical: Threshold
    high: Threshold
    medium: Threshold


class RecommendAbove(Section):
    """Factor scores above which there is a recommendation."""

    data_sensitivity: Points
    deployment_exposure: Points
    model_provenance: Points
    regulatory_impact: Points
    capability_risk: Points
    supply_chain: Points


class AlertPoints(Section):
    """Must not fall from info to critical."""

    info: Points
    low: Points
    medium: Points
    high: Points
    critical: Points


class IncidentPoints(Section):
    """Must not fall from sev4 to sev1."""

    sev1: Points
    sev2: Points
    sev3: Points
    sev4: Points


class ThreatActivity(Section):
    points: AlertPoints
    half_life_days: HalfLife
    cap: Points


class IncidentActivity(Section):
    points: IncidentPoints
    contained_share: Share
    half_life_days: HalfLife
    cap: Points


class BlastRadius(Section):
    points_per_doubling: Points
    full_at_points: Threshold
    cap: Points


class Activity(Section):
    """Points for what happens to an asset, on top of the formula."""

    threat_activity: ThreatActivity
    incident_activity: IncidentActivity
    blast_radius: BlastRadius


class RescoreView(Out):
    """Scoring the portfolio again with this version, in the background."""

    status: Literal["running", "completed", "superseded"]
    total: int = Field(description="Assets when the version came into force.")
    done: int
    finished_at: datetime | None


class ModelView(Out):
    """One version of the scoring model."""

    version: int
    weights: Weights
    tables: Tables
    thresholds: Thresholds
    recommend_above: RecommendAbove
    activity: Activity
    note: str
    changed_by: str
    changed_at: datetime | None = Field(description="Null for version 1, which was there from the beginning.")
    rescore: RescoreView | None = Field(description="Null for version 1.")

    @classmethod
    def of(cls, version: models.ModelVersion) -> ModelView:
        rescore = version.rescore
        return cls.model_validate(
            models.as_numbers(version.model)
            | {
                "note": version.note,
                "changed_by": version.changed_by,
                "changed_at": version.changed_at,
                "rescore": None
                if rescore is None
                else RescoreView(
                    status=rescore.status,
                    total=rescore.total,
                    done=rescore.done,
                    finished_at=rescore.finished_at,
                ),
            }
        )


class ModelChange(In):
    """The next version. A section that is left out stays as it is; one that is given is given whole."""

    weights: Weights | None = None
    tables: Tables | None = None
    thresholds: Thresholds | None = None
    recommend_above: RecommendAbove | None = None
    activity: Activity | None = None
    note: str = Field(default="", max_length=2_000, description="Why; kept with the version.")
    # What is only read: taken so that a model that was read can be sent back changed, and ignored.
    version: Annotated[int, Field(strict=True)] | None = Field(default=None, description="Ignored; see If-Match.")
    changed_by: str | None = Field(default=None, description="Ignored.")
    changed_at: Annotated[datetime, day_in_text] | None = Field(default=None, description="Ignored.")
    rescore: dict[str, Any] | None = Field(default=None, description="Ignored.")

    def apply(self, model: ScoringModel) -> ScoringModel:
        """The model with the sections given replaced."""
        given = self.model_dump(
            include={"weights", "tables", "thresholds", "recommend_above", "activity"}, exclude_none=True
        )
        return models.from_document(models.as_document(model) | given)


@router.get("/model", response_model=ModelView)
@requires("risk:read")
async def get_model(work: Work) -> Response:
    """The scoring model in force; its version is its ETag."""
    version = await work.read(models.current)
    return reply(ModelView.of(version), etag=version.model.version)


@router.put("/model", response_model=ModelView)
@requires("risk:write")
async def put_model(work: Work, body: ModelChange, if_match: IfMatch) -> Response:
    """Put a changed model in force as the next version.

    New events are assessed with it at once; the rest of the portfolio follows in the background, see `rescore`.
    """
    demand_organization(work.caller, "the scoring model")
    consumers = work.runtime.consumers
    assert consumers is not None, "risk is made of what it hears"
    return await work.run(
        lambda tx: application.change_model(
            tx, consumers.execute, work.caller, body.apply, note=body.note, expected=if_match
        ),
        lambda version: reply(ModelView.of(version), etag=version.model.version),
    )


@router.get("/model/versions", response_model=PageOf[ModelView])
@requires("risk:read")
async def list_model_versions(work: Work, page: Page) -> Response:
    """All versions there were, newest first."""
    before = int(page.after[0]) if page.after else None
    found = await work.read(lambda tx: models.page(tx, before=before, limit=page.limit + 1))
    items = found[: page.limit]
    cursor = page.cursor(items[-1].model.version) if len(found) > page.limit else None
    return reply(PageOf[ModelView](items=[ModelView.of(version) for version in items], next_cursor=cursor))
