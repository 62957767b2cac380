"""/v1/access: keys, revocations, the audit trail, and who you are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Path, Query, Request
from pydantic import AwareDatetime, Field, StringConstraints
from starlette.responses import Response

from gateway import application, store
from gateway.domain import ApiKey, Revocation, RevocationKind
from gateway.settings import GatewaySettings
from shared.audit import audit_entry, audit_seal
from shared.auth import PUBLIC, demand_organization, requires, scopes_of_roles, visible
from shared.database import Tx
from shared.errors import Invalid
from shared.http import authenticate, reply
from shared.models import In, Name, Out, PageOf
from shared.paging import Page, PageRequest
from shared.service import router as secured_router
from shared.work import UnitOfWork, Work

router = secured_router("/v1/access", "access")

Role = Literal["viewer", "analyst", "responder", "engineer", "approver", "admin", "ingest"]
KeyId = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{1,40}$")]
RevocationId = Annotated[str, Path(pattern=r"^rev_[0-9a-f]{24}$")]
# Issuers choose the subjects and session ids of their users, in any script and with spaces.
Value = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
MAX_OVERLAP_SECONDS = 7 * 86_400


class Limit(In):
    """A rate limit: so many requests in each window."""

    requests: int = Field(ge=1, le=100_000_000)
    window_seconds: int = Field(default=60, ge=1, le=86_400)


class NewKey(In):
    name: Name
    roles: list[Role] = Field(min_length=1, max_length=7)
    scopes: list[Annotated[str, Field(max_length=60)]] | None = Field(
        default=None, max_length=50, description="Fewer than the roles hold; null is all of theirs."
    )
    teams: list[Name] | None = Field(
        default=None, max_length=100, description="Teams whose things the key sees; null is the whole organisation."
    )
    expires_at: AwareDatetime | None = None
    limit: Limit | None = Field(default=None, description="Its own rate limit; null is its class's.")


class Rotation(In):
    overlap_seconds: int = Field(default=0, ge=0, le=MAX_OVERLAP_SECONDS, description="How long the old key works on.")


class LimitView(Out):
    requests: int
    window_seconds: int


class KeyView(Out):
    """An API key without its secret."""

    id: str
    name: str
    subject: str = Field(description="Who asks when this key does; rotation keeps it.")
    roles: list[str]
    scopes: list[str]
    teams: list[str] | None
    limit: LimitView | None
    status: Literal["active", "expired", "revoked"]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_from: str | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, stored: ApiKey, **more: Any) -> Any:
        now = datetime.now(UTC)
        held = scopes_of_roles(stored.roles)
        revoked = stored.revoked_at is not None and stored.revoked_at <= now
        return cls(
            id=stored.id,
            name=stored.name,
            subject=stored.subject,
            roles=list(stored.roles),
            scopes=sorted(held if stored.scopes is None else held & frozenset(stored.scopes)),
            teams=None if stored.teams is None else list(stored.teams),
            limit=None
            if stored.quota is None
            else LimitView(requests=stored.quota, window_seconds=stored.window_seconds or 60),
            status="revoked" if revoked else "active" if stored.usable(now) else "expired",
            created_at=stored.created_at,
            created_by=stored.created_by,
            expires_at=stored.expires_at,
            revoked_at=stored.revoked_at,
            rotated_from=stored.rotated_from,
            last_used_at=stored.last_used_at,
            **more,
        )


class CreatedKeyView(KeyView):
    """A key that was just made."""

    key: str | None = Field(
        description="The key itself, shown this once. Null when an Idempotency-Key repeats a request: it is not stored."
    )


class NewRevocation(In):
    kind: RevocationKind
    value: Value = Field(description="A session id, a caller's subject, or the id of an API key.")
    subject: Value | None = Field(
        default=None,
        description="Of a session: refuse it in the requests of this subject only. Null: in everybody's.",
    )
    expires_at: AwareDatetime | None = Field(default=None, description="Null: until it is lifted.")
    reason: Name


class RevocationView(Out):
    id: str
    kind: RevocationKind
    value: str
    subject: str | None = Field(description="Only this subject's requests are refused in the session; null: all.")
    reason: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None


class MeView(Out):
    """Who the gateway takes you for."""

    subject: str
    kind: str
    roles: list[str]
    scopes: list[str]
    teams: list[str] | None = Field(description="Null: the whole organisation.")
    session_id: str | None


class AuditView(Out):
    seq: int
    at: datetime
    actor: str
    actor_kind: str
    action: str
    target: str
    detail: dict[str, Any]
    trace_id: str | None
    hash: str | None = Field(description="Its link in the chain, hex; null for the moment before it is chained.")


def _now() -> datetime:
    return datetime.now(UTC)


def _settings(work: UnitOfWork) -> GatewaySettings:
    settings: GatewaySettings = work.runtime.settings
    return settings


async def _made(work: UnitOfWork, make: Any) -> Response:
    """Answer with a new key in clear text, while what is stored for a repeated request has none."""
    shown: list[CreatedKeyView] = []

    def redacted(made: tuple[ApiKey, str]) -> Response:
        shown.append(CreatedKeyView.of(made[0], key=made[1]))
        return reply(CreatedKeyView.of(made[0], key=None), status=201, location=f"/v1/access/keys/{made[0].id}")

    answer = await work.run(make, redacted)
    if not shown:
        return answer
    return reply(shown[0], status=201, location=f"/v1/access/keys/{shown[0].id}")


@router.post("/keys", status_code=201, response_model=CreatedKeyView)
@requires("access:write")
async def create_key(body: NewKey, work: Work) -> Response:
    """Make an API key. It is shown in this answer and never again."""
    limit = body.limit
    wanted = application.KeyRequest(
        name=body.name,
        roles=body.roles,
        scopes=body.scopes,
        teams=body.teams,
        expires_at=body.expires_at,
        quota=limit.requests if limit else None,
        window_seconds=limit.window_seconds if limit else None,
    )
    pepper = _settings(work).peppers[0]
    return await _made(work, lambda tx: application.create_key(tx, work.caller, wanted, pepper, _now()))


@router.get("/keys", response_model=PageOf[KeyView])
@requires("access:read")
async def list_keys(
    work: Work, page: Page, include_revoked: Annotated[bool, Query(description="Also those that were revoked.")] = False
) -> Response:
    """List API keys, newest first."""
    rows = await work.read(
        lambda tx: store.page_of_keys(tx, page.limit + 1, page.after, work.caller.teams, include_revoked)
    )
    items, cursor = page.cut(rows, "created_at", "id")
    return reply(PageOf[KeyView](items=[KeyView.of(key) for key in items], next_cursor=cursor))


@router.get("/keys/{key_id}", response_model=KeyView)
@requires("access:read")
async def get_key(key_id: KeyId, work: Work) -> Response:
    """One API key."""
    return reply(KeyView.of(await work.read(lambda tx: application.visible_key(tx, work.caller, key_id))))


@router.delete("/keys/{key_id}", status_code=204)
@requires("access:write")
async def revoke_key(key_id: KeyId, work: Work) -> Response:
    """Revoke an API key; every replica refuses it within a second."""
    return await work.run(
        lambda tx: application.revoke_key(tx, work.caller, key_id, _now()), lambda _: reply(None, status=204)
    )


@router.post("/keys/{key_id}/rotate", status_code=201, response_model=CreatedKeyView)
@requires("access:write")
async def rotate_key(key_id: KeyId, body: Rotation, work: Work) -> Response:
    """Replace an API key by a new one with the same rights; the old one works on for the overlap."""
    pepper = _settings(work).peppers[0]
    overlap = timedelta(seconds=body.overlap_seconds)
    return await _made(work, lambda tx: application.rotate_key(tx, work.caller, key_id, overlap, pepper, _now()))


@router.get("/me", response_model=MeView, openapi_extra={"security": [{"bearer": []}]})
@requires(PUBLIC)  # any caller may ask who it is; without credentials the next line refuses
async def me(request: Request) -> Response:
    """Who you are here: subject, roles, scopes and teams."""
    caller = authenticate(request)
    view = MeView(
        subject=caller.subject,
        kind=caller.kind,
        roles=sorted(caller.roles),
        scopes=sorted(caller.scopes),
        teams=None if caller.teams is None else sorted(caller.teams),
        session_id=caller.session_id,
    )
    return reply(view)


@router.post("/revocations", status_code=201, response_model=RevocationView)
@requires("access:respond")
async def revoke(body: NewRevocation, work: Work) -> Response:
    """Refuse a session, a subject or a key from now on, at every replica within a second."""
    wanted = (body.kind, body.value, body.reason, body.expires_at)
    return await work.run(
        lambda tx: application.revoke(tx, work.caller, *wanted, _now(), subject=body.subject),
        lambda made: reply(RevocationView.model_validate(made), status=201),
    )


@router.get("/revocations", response_model=PageOf[RevocationView])
@requires("access:respond")
async def list_revocations(
    work: Work,
    page: Page,
    kind: RevocationKind | None = None,
    value: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """List revocations in force, newest first. They belong to no team, so only to callers bound to none."""
    demand_organization(work.caller, "the list of revocations")
    rows: list[Revocation] = await work.read(
        lambda tx: store.page_of_revocations(tx, page.limit + 1, page.after, kind and kind.value, value)
    )
    items, cursor = page.cut(rows, "created_at", "id")
    views = [RevocationView.model_validate(item) for item in items]
    return reply(PageOf[RevocationView](items=views, next_cursor=cursor))


@router.delete("/revocations/{revocation_id}", status_code=204)
@requires("access:respond")
async def lift(revocation_id: RevocationId, work: Work) -> Response:
    """End a revocation."""
    return await work.run(
        lambda tx: application.lift(tx, work.caller, revocation_id, _now()), lambda _: reply(None, status=204)
    )


@router.get("/audit", response_model=PageOf[AuditView])
@requires("access:read")
async def list_audit(
    work: Work,
    page: Page,
    action: Annotated[str | None, Query(max_length=100)] = None,
    actor: Annotated[str | None, Query(max_length=300)] = None,
    target: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """List who changed what about access, newest first."""
    given = {"action": action, "actor": actor, "target": target}

    async def query(tx: Tx) -> list[Any]:
        return await _page_of_audit(tx, page, given, visible(work.caller, audit_entry.c.owner_team))

    items, cursor = page.cut(await work.read(query), "seq")
    views = [
        AuditView(
            seq=row.seq,
            at=row.at,
            actor=row.actor,
            actor_kind=row.actor_kind,
            action=row.action,
            target=row.target,
            detail=row.detail,
            trace_id=row.trace_id,
            hash=None if row.hash is None else bytes(row.hash).hex(),
        )
        for row in items
    ]
    return reply(PageOf[AuditView](items=views, next_cursor=cursor))


async def _page_of_audit(
    tx: Tx, page: PageRequest, given: dict[str, str | None], seen: sa.ColumnElement[bool]
) -> list[Any]:
    query = (
        sa.select(audit_entry, audit_seal.c.hash)
        .select_from(audit_entry.outerjoin(audit_seal, audit_seal.c.entry_seq == audit_entry.c.seq))
        .where(seen)
        .order_by(audit_entry.c.seq.desc())
        .limit(page.limit + 1)
    )
    for name, value in given.items():
        if value is not None:
            if "\0" in value:
                raise Invalid("a NUL character is not allowed", field=name)
            query = query.where(audit_entry.c[name] == value)
    if page.after is not None:
        query = query.where(audit_entry.c.seq < page.after[0])
    return list(await tx.execute(query))
