"""/v1/governance/control-deployments: which control is in place on which asset, and what shows that it works."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.governance.api.fields import Day, Flag, Label, Note, Reason, await_assets
from services.governance.application import controls as application
from services.governance.application.controls import NewEvidence, Wanted
from services.governance.domain.controls import ControlFunction, DeploymentStatus, Evidence
from services.governance.store import controls as store
from services.governance.store.controls import DeploymentFilter, KnownDeployment
from shared.auth import requires
from shared.contracts.governance import ControlType
from shared.database import Tx
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/control-deployments", "control deployments")


class EvidenceIn(In):
    """Proof that the control works. Without `valid_until` it is believed as long as the control says."""

    summary: Reason
    reference: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)] = Field(
        default="", description="Where it can be seen, e.g. a URL or ticket; it is not fetched."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    collected_on: Day | None = Field(default=None, description="Today unless told.")
    valid_until: Day | None = None

    def value(self) -> NewEvidence:
        return NewEvidence(self.summary, self.reference, self.sha256, self.collected_on, self.valid_until)


class NewDeployment(In):
    """A control to put on an asset."""

    control_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    asset_id: UUID
    status: DeploymentStatus | None = Field(default=None, description="planned unless told.")
    operational: Flag | None = Field(
        default=None, description="True is short for status operational, false for implemented."
    )
    evidence: EvidenceIn | None = None
    owner: Label | None = Field(default=None, description="Who operates it; the control's role unless told.")
    notes: Note | None = None


class DeploymentChange(In):
    """What to change; null and absent leave as it is. Evidence is added to what is on file."""

    status: DeploymentStatus | None = None
    operational: Flag | None = Field(
        default=None, description="True is short for status operational; false degrades an operational deployment."
    )
    evidence: EvidenceIn | None = None
    owner: Label | None = None
    notes: Note | None = None


def _wanted(body: NewDeployment | DeploymentChange) -> Wanted:
    return Wanted(
        status=body.status,
        operational=body.operational,
        evidence=body.evidence.value() if body.evidence else None,
        owner=body.owner,
        notes=body.notes,
        named=frozenset(name for name in body.model_fields_set if getattr(body, name) is not None),
    )


class EvidenceView(Out):
    evidence_id: UUID
    summary: str
    reference: str
    sha256: str | None
    collected_on: date
    valid_until: date
    recorded_by: str
    recorded_at: datetime


class DeploymentView(Out):
    """A control on an asset. Risk scores count it while `operational`."""

    deployment_id: UUID
    version: int
    control_id: str
    control_type: ControlType | None
    function: ControlFunction
    asset_id: UUID
    asset_name: str
    owner_team: str
    status: DeploymentStatus
    operational: bool
    owner: str
    notes: str
    evidence_valid_until: date | None = Field(description="End of the newest evidence; null while there is none.")
    evidence_due_on: date | None = Field(
        description="Last day on which it counts as operational without new evidence; null until it was put in place."
    )
    evidence_stale: bool
    created_by: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, known: KnownDeployment) -> DeploymentView:
        return cls(**_fields(known))


class DeploymentDetail(DeploymentView):
    """A deployment with its newest evidence, up to fifty pieces."""

    evidence: list[EvidenceView]


def _fields(known: KnownDeployment) -> dict[str, object]:
    deployment = known.deployment
    own = {name: getattr(deployment, name) for name in deployment.__slots__ if name != "evidence_days"}
    return own | {
        "asset_name": known.asset_name,
        "owner_team": known.owner_team,
        "operational": deployment.operational,
        "evidence_stale": deployment.evidence_stale(datetime.now(UTC).date()),
    }


@router.post("", status_code=201, response_model=DeploymentView)
@requires("governance:write")
async def deploy_control(body: NewDeployment, work: Work) -> Response:
    """Put a control on an asset. It counts in the asset's risk from the moment it is operational."""
    await await_assets(work, [body.asset_id])
    return await work.run(
        lambda tx: application.deploy(
            tx, work.caller, body.control_id, body.asset_id, _wanted(body), datetime.now(UTC)
        ),
        lambda known: reply(
            DeploymentView.of(known),
            status=201,
            etag=known.deployment.version,
            location=f"/v1/governance/control-deployments/{known.deployment_id}",
        ),
    )


@router.get("", response_model=PageOf[DeploymentView])
@requires("governance:read")
async def list_deployments(
    work: Work,
    page: Page,
    asset_id: Annotated[UUID | None, Query()] = None,
    control_id: Annotated[str | None, Query(max_length=64)] = None,
    control_type: Annotated[ControlType | None, Query()] = None,
    status: Annotated[DeploymentStatus | None, Query()] = None,
    operational: Annotated[bool | None, Query()] = None,
    evidence_stale: Annotated[bool | None, Query(description="Whether its evidence is out of date.")] = None,
    owner_team: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """Deployments that you may see, newest first."""
    wanted = DeploymentFilter(asset_id, control_id, control_type, status, operational, evidence_stale, owner_team)
    today = datetime.now(UTC).date()
    rows = await work.read(lambda tx: store.page_deployments(tx, work.caller, wanted, page, today))
    items, cursor = page.cut(rows, "deployment_id")
    return reply(PageOf[DeploymentView](items=[DeploymentView.of(known) for known in items], next_cursor=cursor))


@router.get("/{deployment_id}", response_model=DeploymentDetail)
@requires("governance:read")
async def get_deployment(deployment_id: UUID, work: Work) -> Response:
    """One deployment with its evidence."""

    async def read(tx: Tx) -> tuple[KnownDeployment, list[Evidence]]:
        known = await store.get_deployment(tx, work.caller, deployment_id)
        return known, list(await store.evidence_of(tx, deployment_id))

    known, evidence = await work.read(read)
    view = DeploymentDetail(**_fields(known), evidence=[EvidenceView.model_validate(piece) for piece in evidence])
    return reply(view, etag=known.deployment.version)


@router.patch("/{deployment_id}", response_model=DeploymentView)
@requires("governance:write")
async def change_deployment(deployment_id: UUID, body: DeploymentChange, work: Work, if_match: IfMatch) -> Response:
    """Change status or operation, add evidence, hand it over. `status: retired` ends it."""
    return await work.run(
        lambda tx: application.change_deployment(
            tx, work.caller, deployment_id, if_match, _wanted(body), datetime.now(UTC)
        ),
        lambda known: reply(DeploymentView.of(known), etag=known.deployment.version),
    )
