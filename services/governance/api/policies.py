"""/v1/governance/policies: policies, their versions, and how these come into force."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field
from starlette.responses import Response

from services.governance.api.fields import MappingsIn, MaybeIfMatch, Note, Reason
from services.governance.application import policies as application
from services.governance.domain.documents import Slug
from services.governance.domain.policies import PolicyStatus, PolicyText, PolicyVersion
from services.governance.store import policies as store
from services.governance.store.policies import Policy
from shared.auth import requires
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as new_router
from shared.work import Work

router = new_router("/v1/governance/policies", "policies")


class PolicyTextIn(PolicyText):
    """What a policy says."""

    mappings: MappingsIn = MappingsIn()


class NewPolicy(In):
    policy_id: Slug
    text: PolicyTextIn
    change_note: Note = ""


class NewVersion(In):
    """The next version; without a text it starts as a copy of the latest."""

    text: PolicyTextIn | None = None
    change_note: Note = ""


class Revision(In):
    text: PolicyTextIn
    change_note: Note | None = Field(default=None, description="Null leaves it as it is.")


class PolicyDecision(In):
    note: Note = ""


class PolicyReturn(In):
    reason: Reason


class PolicyVersionView(Out):
    """One version. `version` counts its changes and is its ETag; `number` is its place among the policy's versions."""

    policy_id: str
    number: int
    version: int
    status: PolicyStatus
    text: PolicyText
    authors: list[str]
    change_note: str
    created_at: datetime
    updated_at: datetime
    submitted_by: str | None
    submitted_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str


class PolicySummary(Out):
    """A policy: its latest version's number and status, and which version is in force, if any."""

    policy_id: str
    title: str
    owner_role: str
    latest: int
    status: PolicyStatus
    in_force: int | None
    statements: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, policy: Policy) -> PolicySummary:
        return cls(
            policy_id=policy.policy_id,
            title=policy.latest.text.title,
            owner_role=policy.latest.text.owner_role,
            latest=policy.latest.number,
            status=policy.latest.status,
            in_force=policy.in_force,
            statements=len(policy.latest.text.statements),
            created_at=policy.created_at,
            updated_at=policy.latest.updated_at,
        )


class PolicyView(PolicySummary):
    """A policy with its latest version."""

    version: PolicyVersionView

    @classmethod
    def of(cls, policy: Policy) -> PolicyView:
        summary = PolicySummary.of(policy).model_dump()
        return cls(**summary, version=PolicyVersionView.model_validate(policy.latest))


PolicyIdPath = Annotated[str, Path(max_length=64, description="E.g. acceptable-use.")]
NumberPath = Annotated[int, Path(ge=1, le=1_000_000)]


def _version_reply(version: PolicyVersion) -> Response:
    return reply(PolicyVersionView.model_validate(version), etag=version.version)


@router.get("", response_model=PageOf[PolicySummary])
@requires("governance:read")
async def list_policies(
    work: Work,
    page: Page,
    status: Annotated[PolicyStatus | None, Query(description="Status of the latest version.")] = None,
    owner_role: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Policies by id."""
    rows = await work.read(lambda tx: store.page(tx, page, status=status, owner_role=owner_role))
    items, cursor = page.cut(rows, "policy_id")
    return reply(PageOf[PolicySummary](items=[PolicySummary.of(policy) for policy in items], next_cursor=cursor))


@router.post("", status_code=201, response_model=PolicyView)
@requires("governance:write")
async def create_policy(body: NewPolicy, work: Work) -> Response:
    """Write a new policy, as a draft."""
    return await work.run(
        lambda tx: application.create(tx, work.caller, body.policy_id, body.text, body.change_note, datetime.now(UTC)),
        lambda policy: reply(
            PolicyView.of(policy), status=201, etag=1, location=f"/v1/governance/policies/{policy.policy_id}"
        ),
    )


@router.get("/{policy_id}", response_model=PolicyView)
@requires("governance:read")
async def get_policy(policy_id: PolicyIdPath, work: Work) -> Response:
    """One policy with the text of its latest version."""
    policy = await work.read(lambda tx: store.get(tx, policy_id))
    return reply(PolicyView.of(policy), etag=policy.latest.version)


@router.get("/{policy_id}/versions", response_model=PageOf[PolicyVersionView])
@requires("governance:read")
async def list_versions(policy_id: PolicyIdPath, work: Work, page: Page) -> Response:
    """Versions of a policy, newest first."""
    rows = await work.read(lambda tx: store.page_versions(tx, policy_id, page))
    items, cursor = page.cut(rows, "number")
    views = [PolicyVersionView.model_validate(version) for version in items]
    return reply(PageOf[PolicyVersionView](items=views, next_cursor=cursor))


@router.post("/{policy_id}/versions", status_code=201, response_model=PolicyVersionView)
@requires("governance:write")
async def draft_version(policy_id: PolicyIdPath, body: NewVersion, work: Work) -> Response:
    """Begin the next version, once the latest is decided."""
    return await work.run(
        lambda tx: application.draft(tx, work.caller, policy_id, body.text, body.change_note, datetime.now(UTC)),
        lambda version: reply(
            PolicyVersionView.model_validate(version),
            status=201,
            etag=version.version,
            location=f"/v1/governance/policies/{policy_id}/versions/{version.number}",
        ),
    )


@router.get("/{policy_id}/versions/{number}", response_model=PolicyVersionView)
@requires("governance:read")
async def get_version(policy_id: PolicyIdPath, number: NumberPath, work: Work) -> Response:
    """One version of a policy."""
    return _version_reply(await work.read(lambda tx: store.get_version(tx, policy_id, number)))


@router.put("/{policy_id}/versions/{number}", response_model=PolicyVersionView)
@requires("governance:write")
async def revise_version(
    policy_id: PolicyIdPath, number: NumberPath, body: Revision, work: Work, if_match: IfMatch
) -> Response:
    """Replace the text of a draft."""
    return await work.run(
        lambda tx: application.revise(
            tx, work.caller, policy_id, number, if_match, body.text, body.change_note, datetime.now(UTC)
        ),
        _version_reply,
    )


@router.post("/{policy_id}/versions/{number}/submit", response_model=PolicyVersionView)
@requires("governance:write")
async def submit_version(policy_id: PolicyIdPath, number: NumberPath, work: Work, if_match: MaybeIfMatch) -> Response:
    """Put a draft up for approval."""
    return await work.run(
        lambda tx: application.submit(tx, work.caller, policy_id, number, if_match, datetime.now(UTC)), _version_reply
    )


@router.post("/{policy_id}/versions/{number}/send-back", response_model=PolicyVersionView)
@requires("governance:approve")
async def send_back_version(
    policy_id: PolicyIdPath, number: NumberPath, body: PolicyReturn, work: Work, if_match: MaybeIfMatch
) -> Response:
    """Make a version in review a draft again, with the reason."""
    return await work.run(
        lambda tx: application.send_back(tx, work.caller, policy_id, number, if_match, body.reason, datetime.now(UTC)),
        _version_reply,
    )


@router.post("/{policy_id}/versions/{number}/approve", response_model=PolicyVersionView)
@requires("governance:approve")
async def approve_version(
    policy_id: PolicyIdPath, number: NumberPath, body: PolicyDecision, work: Work, if_match: MaybeIfMatch
) -> Response:
    """Put a version in force in place of the one before. Its authors cannot."""
    return await work.run(
        lambda tx: application.approve(tx, work.caller, policy_id, number, if_match, body.note, datetime.now(UTC)),
        _version_reply,
    )
