"""/v1/assets/{id}/deployment-check: may a pipeline deploy it, and why not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.inventory.domain.gate import Check, Decision, Facts, Reason, Wish, judge, passed
from services.inventory.domain.graph import Neighbourhood
from services.inventory.store import assets as assets_store
from services.inventory.store import edges as edges_store
from services.inventory.store import gate as store
from shared.auth import requires
from shared.contracts.inventory import DeploymentEnvironment
from shared.database import Tx
from shared.http import reply
from shared.models import In, Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/assets", "deployment check")


class DeploymentCheckIn(In):
    """What the pipeline means to do, and what it demands beyond the organisation's own rules."""

    target_env: DeploymentEnvironment | None = Field(
        default=None, description="Where to; the asset's deployment_env when left out."
    )
    required_controls: Annotated[
        tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)], ...],
        Field(max_length=50, description="Types (input_filtering, ...) or ids of controls that must be operational."),
    ] = ()
    max_risk: float | None = Field(
        default=None, ge=0, le=100, description="Highest residual risk score to let pass, beside the risk appetite."
    )


class ReasonView(Out):
    """Why it may not be deployed, or not without a person."""

    check: Check
    code: str
    effect: Decision
    detail: str
    source: str = Field(description="Where the fact came from.")
    mend: str = Field(description="What makes this reason go away.")
    asset_id: UUID | None = Field(description="The asset that the fact is about; null when you may not see it.")


class DeploymentCheckView(Out):
    """The decision: allow, deny or needs_review. What is not known is never allowed, it needs review."""

    asset_id: UUID
    asset_version: int
    target_env: DeploymentEnvironment
    checked_at: datetime
    decision: Decision
    reasons: list[ReasonView] = Field(description="The gravest first; empty when it is allowed.")
    passed: list[Check] = Field(description="Checks that were made and gave no reason.")


@router.post("/{asset_id:uuid}/deployment-check", response_model=DeploymentCheckView)
@requires("inventory:read")
async def check_deployment(asset_id: UUID, work: Work, body: DeploymentCheckIn) -> Response:
    """Whether the asset may be deployed, with every reason why not, where it comes from and how to mend it.

    It changes nothing. Upstream assets count whoever owns them; what you may not see is not named.
    """
    now = datetime.now(UTC)

    async def read(tx: Tx) -> tuple[Facts, Neighbourhood]:
        known = await assets_store.get(tx, work.caller, asset_id)
        facts = await store.facts(tx, known, now)
        return facts, await edges_store.nodes_of(tx, work.caller, [asset_id, *facts.upstreams])

    facts, visible = await work.read(read)
    wish = Wish(body.target_env, tuple(dict.fromkeys(body.required_controls)), body.max_risk)
    decision, reasons = judge(facts, wish, now.date())
    return reply(
        DeploymentCheckView(
            asset_id=asset_id,
            asset_version=facts.asset.version,
            target_env=body.target_env or facts.asset.deployment_env,
            checked_at=now,
            decision=decision,
            reasons=[_shown(reason, reason.asset_id in visible.restricted) for reason in reasons],
            passed=passed(facts, reasons),
        )
    )


def _shown(reason: Reason, walled: bool) -> ReasonView:
    return ReasonView(
        check=reason.check,
        code=reason.code,
        effect=reason.effect,
        detail=reason.detail,
        # Behind the comma stands which of another team's records it was.
        source=reason.source.partition(",")[0] if walled else reason.source,
        mend=reason.mend,
        asset_id=None if walled else reason.asset_id,
    )
