"""/v1/artifact-digests: what is denied and allowed, whom a denial reaches, and production models on no list."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import Query, Request
from pydantic import Field, StringConstraints, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from services.inventory.api.models import Label, Reason
from services.inventory.application import artifacts as use_cases
from services.inventory.domain.address import address
from services.inventory.domain.artifacts import DIGEST_LENGTHS, DigestNotListed, Entry, Hit, Mode, Verdict, checked
from services.inventory.store import artifacts as store
from shared.auth import demand_organization, requires
from shared.database import Tx
from shared.errors import DomainError, Invalid, TooLarge
from shared.http import MalformedJson, reply
from shared.models import In, Instant, Out, PageOf
from shared.paging import Page
from shared.problems import document_of, field_errors
from shared.runtime import Runtime
from shared.service import router as make_router
from shared.strictjson import NotStrictJson, loads
from shared.tokens import Caller
from shared.work import Work

router = make_router("/v1/artifact-digests", "artifact digests")

LINE_LIMIT_BYTES = 16_384
BATCH_LINES = 500
IMPORT_LIMIT_BYTES = 268_435_456
IMPORT_REFUSED_LIMIT = 10_000
MEDIA_TYPE = "application/x-ndjson"

Algorithm = Literal[
    "md5", "sha1", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", "blake2b-256", "blake2b-384",
    "blake2b-512", "blake3",
]  # fmt: skip
assert set(Algorithm.__args__) == set(DIGEST_LENGTHS)  # type: ignore[attr-defined]  # a Literal's values
Hex = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{32,128}$")]


class DigestEntryIn(In):
    """A digest to deny or to allow."""

    algorithm: Algorithm
    digest: Hex
    verdict: Verdict
    reason: Reason
    reference: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=2_048), Field(description="A URL or a CVE's number.")
    ] = ""
    expires_at: Instant | None = Field(default=None, description="When it ends to count; never when left out.")

    def entry(self, caller: Caller, at: datetime) -> Entry:
        """Raises NotThatLong, Invalid."""
        if self.expires_at is not None and self.expires_at <= at:
            raise Invalid("it would have expired already", field="/expires_at")
        if ":" in self.reference:
            try:
                address(self.reference)
            except ValueError as error:
                raise Invalid(str(error), field="/reference") from error
        return Entry(
            algorithm=self.algorithm,
            digest=checked(self.algorithm, self.digest),
            verdict=self.verdict,
            reason=self.reason,
            reference=self.reference,
            expires_at=self.expires_at,
            version=1,
            updated_at=at,
            updated_by=caller.subject,
        )


class DigestEntry(Out):
    """A digest that is denied or allowed."""

    algorithm: str
    digest: str
    verdict: Verdict
    reason: str
    reference: str
    expires_at: datetime | None
    version: int = Field(description="Grows by one each time that what is said of it changes.")
    updated_at: datetime
    updated_by: str


class HitView(Out):
    """An asset that a denial reaches."""

    asset_id: UUID
    asset_name: str
    asset_type: str
    owner_team: str
    holder_id: UUID | None = Field(description="Whose file or bill has the digest; null when you may not see it.")
    place: str = Field(description="The file or component.")
    path: list[UUID | None] = Field(description="From the holder to the asset; null stands for what you may not see.")
    found_at: datetime

    @classmethod
    def of(cls, hit: Hit, hidden: set[UUID]) -> HitView:
        return cls(
            asset_id=hit.asset_id,
            asset_name=hit.asset_name,
            asset_type=hit.asset_type,
            owner_team=hit.owner_team,
            holder_id=None if hit.holder_id in hidden else hit.holder_id,
            place="" if hit.holder_id in hidden else hit.place,
            path=[None if one in hidden else one for one in hit.path],
            found_at=hit.found_at,
        )


class UnlistedModel(Out):
    """A production model that has to be on the allow-list and is not, or not wholly."""

    asset_id: UUID
    name: str
    asset_type: str
    owner_team: str
    files: list[str] = Field(description="Files that nobody vouched for; empty when the asset has no digests at all.")


class PolicyIn(In):
    """Whether production models have to be on the allow-list."""

    mode: Mode


class PolicyView(Out):
    team: str = Field(description="Empty is the whole organisation.")
    mode: Mode
    version: int
    updated_at: datetime
    updated_by: str


@router.get("", response_model=PageOf[DigestEntry])
@requires("inventory:read")
async def list_digests(
    work: Work, page: Page, verdict: Verdict | None = None, algorithm: Algorithm | None = None
) -> Response:
    """What is denied and allowed, by algorithm and digest."""
    entries = await work.read(
        lambda tx: store.page(tx, verdict=verdict, algorithm=algorithm, after=page.after, limit=page.limit + 1)
    )
    items, cursor = page.cut(entries, "algorithm", "digest")
    return reply(PageOf[DigestEntry](items=[DigestEntry.model_validate(one) for one in items], next_cursor=cursor))


@router.post("", response_model=DigestEntry, status_code=201, responses={200: {"model": DigestEntry}})
@requires("inventory:respond")
async def put_digest(body: DigestEntryIn, work: Work) -> Response:
    """Deny or allow a digest, in place of what was said of it before: 201, or 200 when it was on the list.

    Each asset that holds a denied digest, or depends on one that does, gets an alert at once.
    """
    entry = body.entry(work.caller, datetime.now(UTC))
    return await work.run(
        lambda tx: use_cases.list_digest(tx, work.caller, entry),
        lambda done: reply(DigestEntry.model_validate(done[0]), status=201 if done[1] else 200),
    )


@router.get("/policies", response_model=PageOf[PolicyView])
@requires("inventory:read")
async def list_policies(work: Work) -> Response:
    """Whose production models have to be on the allow-list. Callers bound to teams see theirs and everybody's."""
    found = [one for one in await work.read(store.policies) if not one.team or work.caller.sees(one.team)]
    return reply(PageOf[PolicyView](items=[PolicyView.model_validate(one) for one in found]))


@router.put("/policies", response_model=PolicyView)
@requires("inventory:respond")
async def put_policy(
    body: PolicyIn, work: Work, team: Annotated[Label, Query(description="Empty is the whole organisation.")] = ""
) -> Response:
    """Say whether a team's production models have to be on the allow-list; its own word goes before everybody's."""
    at = datetime.now(UTC)
    return await work.run(
        lambda tx: use_cases.set_policy(tx, work.caller, team, body.mode, at),
        lambda done: reply(PolicyView.model_validate(done)),
    )


@router.get("/findings", response_model=PageOf[UnlistedModel])
@requires("inventory:read")
async def list_findings(work: Work, page: Page) -> Response:
    """Production models that we host and that are not on the allow-list although they have to be, by id."""
    after = UUID(page.after[0]) if page.after else None
    found = await work.read(lambda tx: store.unlisted(tx, work.caller, after=after, limit=page.limit + 1))
    items, cursor = page.cut(found, "asset_id")
    return reply(PageOf[UnlistedModel](items=[UnlistedModel.model_validate(one) for one in items], next_cursor=cursor))


@router.get("/{algorithm}/{digest}", response_model=DigestEntry)
@requires("inventory:read")
async def read_digest(algorithm: Algorithm, digest: Hex, work: Work) -> Response:
    """What is said of one digest."""
    return reply(DigestEntry.model_validate(await _standing(work, algorithm, digest)))


async def _standing(work: Work, algorithm: str, digest: str) -> Entry:
    entry = await work.read(lambda tx: store.get(tx, algorithm, digest))
    if entry is None:
        raise DigestNotListed(f"{algorithm}:{digest} is neither denied nor allowed")
    return entry


@router.delete("/{algorithm}/{digest}", status_code=204, response_class=Response)
@requires("inventory:respond")
async def remove_digest(algorithm: Algorithm, digest: Hex, work: Work) -> Response:
    """Take a digest off the list."""

    async def remove(tx: Tx) -> None:
        await use_cases.unlist_digest(tx, work.caller, algorithm, digest)

    return await work.run(remove, lambda _: reply(None, status=204))


@router.get("/{algorithm}/{digest}/assets", response_model=PageOf[HitView])
@requires("inventory:read")
async def list_reached(algorithm: Algorithm, digest: Hex, work: Work, page: Page) -> Response:
    """The assets that a denial reaches: those that hold the digest and those that depend on them, by id."""
    await _standing(work, algorithm, digest)
    after = UUID(page.after[0]) if page.after else None

    async def read(tx: Tx) -> tuple[list[Hit], set[UUID]]:
        found = await store.hits(tx, work.caller, algorithm, digest, after=after, limit=page.limit + 1)
        on_the_way = {one for hit in found for one in (hit.holder_id, *hit.path)}
        return found, await store.hidden(tx, work.caller, sorted(on_the_way))

    found, hidden = await work.read(read)
    items, cursor = page.cut(found, "asset_id")
    return reply(PageOf[HitView](items=[HitView.of(hit, hidden) for hit in items], next_cursor=cursor))


_LINE = {
    "type": "object",
    "required": ["line", "status"],
    "properties": {
        "line": {"type": "integer", "description": "Number of the input line, from 1."},
        "status": {"enum": ["stored", "failed"]},
        "problem": {"$ref": "#/components/schemas/Problem"},
    },
}


@router.post(
    "/import",
    response_class=StreamingResponse,
    responses={200: {"description": "A result for each line, in order.", "content": {MEDIA_TYPE: {"schema": _LINE}}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"description": "A DigestEntryIn object on each line."}}},
        }
    },
)
@requires("inventory:respond")
async def import_digests(request: Request) -> Response:
    """Deny and allow many: newline-delimited JSON, an entry a line. A line that is refused fails alone.

    The body is read before the first answer; sending it again is harmless.
    """
    if request.headers.get("content-type", "").split(";", 1)[0].strip().lower() != MEDIA_TYPE:
        raise HTTPException(415, f"send {MEDIA_TYPE}")
    caller: Caller = request.state.caller
    demand_organization(caller, "what is denied or allowed")
    results = tempfile.SpooledTemporaryFile(max_size=1_048_576)  # noqa: SIM115  # closed when it was sent
    try:
        async for told in _import(request, caller):
            results.write(told)
    except BaseException:
        results.close()
        raise
    return StreamingResponse(_parts(results), media_type=MEDIA_TYPE)


async def _parts(results: tempfile.SpooledTemporaryFile[bytes]) -> AsyncIterator[bytes]:
    with results:
        results.seek(0)
        while part := results.read(65_536):
            yield part


async def _import(request: Request, caller: Caller) -> AsyncIterator[bytes]:
    runtime: Runtime = request.app.state.runtime
    at = datetime.now(UTC)
    number = refused = 0
    async for lines in _batches(request):
        told: list[dict[str, Any]] = []
        entries: list[Entry] = []
        for line in lines:
            number += 1
            if not line.strip():
                continue
            outcome = _entry_of(line, caller, at)
            if isinstance(outcome, Entry):
                entries.append(outcome)
                told.append({"line": number, "status": "stored"})
            else:
                refused += 1
                told.append({"line": number, "status": "failed", "problem": document_of(outcome)})
        if entries:
            async with runtime.db.begin() as tx:
                await use_cases.list_digests(tx, caller, entries)
        if refused > IMPORT_REFUSED_LIMIT:
            excess = TooLarge(f"{refused} lines were refused; from this one on nothing was stored")
            told.append({"line": number + 1, "status": "failed", "problem": document_of(excess)})
        yield b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in told)
        if refused > IMPORT_REFUSED_LIMIT:
            return


async def _batches(request: Request) -> AsyncIterator[list[bytes]]:
    rest, lines, received = b"", [], 0
    async for part in request.stream():
        received += len(part)
        *complete, rest = (rest + part).split(b"\n")
        lines += complete
        while len(lines) >= BATCH_LINES:
            yield lines[:BATCH_LINES]
            del lines[:BATCH_LINES]
        if len(rest) > LINE_LIMIT_BYTES or received > IMPORT_LIMIT_BYTES:
            # What is longer than any line is no list of digests: nothing behind it is read.
            break
    if rest:
        lines.append(rest)
    if lines:
        yield lines


def _entry_of(line: bytes, caller: Caller, at: datetime) -> Entry | DomainError:
    if len(line) > LINE_LIMIT_BYTES:
        return TooLarge(f"a line may hold at most {LINE_LIMIT_BYTES} bytes; nothing behind it was read")
    try:
        return DigestEntryIn.model_validate(loads(line)).entry(caller, at)
    except NotStrictJson as error:
        return MalformedJson(f"the line cannot be read: {error}", field=error.pointer or "/")
    except ValidationError as error:
        fields = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        return Invalid(f"{fields[0]['field']}: {fields[0]['message']}", errors=fields)
    except DomainError as refusal:
        return refusal
