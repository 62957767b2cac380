"""Bills of materials: of one asset, supplied and made, how complete they are, what changed, and others' taken in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import Body, Query, Request
from pydantic import Field, ValidationError
from starlette.responses import JSONResponse, Response

from services.inventory import signing
from services.inventory.api.estate import DOCUMENT, MEDIA_TYPE, SpecVersion
from services.inventory.api.models import Label, NewAsset
from services.inventory.application.boms import Imported, Outcome, import_bom, store_bom
from services.inventory.domain import bom
from services.inventory.domain.bom import spdx
from services.inventory.domain.bom.completeness import Completeness, completeness
from services.inventory.domain.bom.reading import Part
from services.inventory.domain.graph import Direction
from services.inventory.store import assets as assets_store
from services.inventory.store import boms as store
from services.inventory.store import cards, scores
from services.inventory.store.boms import Kept, StoredBom
from services.inventory.store.graph import neighbourhood
from shared.auth import requires
from shared.contracts.inventory import ComponentChange
from shared.database import Tx
from shared.errors import Invalid, NotFound
from shared.http import reply
from shared.models import Out, PageOf
from shared.paging import Page
from shared.problems import field_errors
from shared.service import router as make_router
from shared.work import UnitOfWork, Work

router = make_router("/v1", "bills of materials")

BOM_LIMIT_BYTES = 8_388_608
_DEPTH = 20
_REQUEST = {"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": bom.OUTER_SCHEMA}}}}


class NoSuchBom(NotFound):
    """No such bill of materials, or none that you may know of."""


class BomReceipt(Out):
    """What was kept of a supplied document."""

    asset_id: UUID
    spec_version: str
    components: int
    sha256: str = Field(description="Of the document as it was sent.")
    stored_at: datetime
    stored_by: str


@router.get(
    "/assets/{asset_id:uuid}/bom",
    responses={
        200: {
            "description": "A CycloneDX document, or an SPDX 3 one where that was asked for.",
            "content": {name: {"schema": {"type": "object"}} for name in (MEDIA_TYPE, spdx.MEDIA_TYPE)},
        },
        409: {"description": "There is no key to sign with."},
    },
    response_class=Response,
)
@requires("inventory:read")
async def read_bom(
    asset_id: UUID,
    work: Work,
    spec_version: SpecVersion | None = None,
    origin: Annotated[
        Literal["supplied", "made"] | None, Query(description="The supplied one where there is, when left out.")
    ] = None,
    format: Annotated[Literal["cyclonedx", "spdx3"], Query()] = "cyclonedx",
    signed: Annotated[
        bool, Query(description="With a detached JWS over the body in the header X-JWS-Signature.")
    ] = False,
) -> Response:
    """The asset's bill of materials: the one that was supplied, else one made from what the inventory knows.

    With a `spec_version` that the supplied one has not the made one, with `format=spdx3` that in SPDX 3.0.1 with its AI
    and Dataset profiles. The keys for signatures are at /v1/boms/keys.
    """

    if format == "spdx3" and (origin == "supplied" or spec_version is not None):
        raise Invalid("an SPDX document is one that we make, of SPDX 3.0.1", field="format")

    async def read(tx: Tx) -> bytes:
        item = await assets_store.get(tx, work.caller, asset_id)
        if format == "spdx3":
            return orjson.dumps(await _made(tx, work, item, None))
        stored = None if origin == "made" else await store.get(tx, asset_id)
        if stored is not None and spec_version in (None, stored.spec_version):
            return stored.document
        if origin == "supplied":
            raise NoSuchBom("nobody supplied one" if stored is None else f"the supplied one is {stored.spec_version}")
        return orjson.dumps(await _made(tx, work, item, spec_version or bom.SPEC_VERSIONS[0]))

    content = await work.read(read)
    headers = {}
    if signed:
        headers["X-JWS-Signature"] = signing.sign(content, work.runtime.settings.bom_signing_key_file)
    return Response(content, media_type=spdx.MEDIA_TYPE if format == "spdx3" else MEDIA_TYPE, headers=headers)


async def _made(tx: Tx, work: UnitOfWork, item: assets_store.Known, spec_version: str | None) -> dict[str, Any]:
    """In CycloneDX of that version; None is SPDX."""
    graph = await neighbourhood(tx, work.caller, item.asset.asset_id, Direction.UPSTREAM, _DEPTH)
    keys = set(graph.nodes)
    others = await assets_store.get_many(tx, work.caller, keys - {item.asset.asset_id})
    edges = await store.edges(tx, keys)
    facts = await cards.facts_of(tx, keys)
    upstream = [other.asset for other in others]
    if spec_version is None:
        return spdx.generate(item.asset, upstream, edges, facts, at=datetime.now(UTC))
    return bom.generate(item.asset, upstream, edges, facts, at=datetime.now(UTC), spec_version=spec_version)


@router.put(
    "/assets/{asset_id:uuid}/bom",
    response_model=BomReceipt,
    responses={201: {"model": BomReceipt, "description": "The asset had none before."}},
    openapi_extra=_REQUEST,
)
@requires("inventory:write")
async def put_bom(
    asset_id: UUID, document: Annotated[dict[str, Any], Body()], request: Request, work: Work
) -> Response:
    """Keep a CycloneDX JSON document as the asset's bill of materials; it then counts as having one.

    It has to be valid by its schema, 1.2 to 1.7. What it lists with a denied digest is an alert at once.
    """
    as_sent = await request.body()
    bom.check(document)
    return await work.run(
        lambda tx: store_bom(tx, work.caller, asset_id, document, as_sent, datetime.now(UTC)),
        lambda result: _receipt(*result),
    )


put_bom.body_limit_bytes = BOM_LIMIT_BYTES  # type: ignore[attr-defined]  # read by shared.http.SecuredRoute


def _receipt(stored: StoredBom, first: bool) -> Response:
    view = BomReceipt(
        asset_id=stored.asset_id,
        spec_version=stored.spec_version,
        components=stored.components,
        sha256=stored.digest,
        stored_at=stored.stored_at,
        stored_by=stored.stored_by,
    )
    return reply(view, status=201 if first else 200)


# -- completeness ------------------------------------------------------------------------------------------------------


class MissingField(Out):
    """A field that the bill lacks."""

    name: str
    group: str
    gain: float = Field(description="Points of 100 that it would bring.")
    minimum: bool = Field(description="The minimum elements of CISA or NTIA ask for it.")
    how: str


class CompletenessView(Out):
    """How complete a bill of materials is; docs/bom.md has the fields and weights."""

    asset_id: UUID
    origin: Literal["supplied", "made"]
    score: int = Field(description="0 to 100.")
    groups: dict[str, int] = Field(description="Group of fields -> 0 to 100.")
    missing: list[MissingField] = Field(description="What to add, the most rewarding first.")


class AssetCompleteness(Out):
    """How complete an asset's bill of materials was when it was last judged."""

    asset_id: UUID
    name: str
    asset_type: str
    owner_team: str
    score: int
    missing: list[str] = Field(description="Fields, the most rewarding first.")
    scored_at: datetime = Field(description="last_updated of the asset as it was judged.")


@router.get("/assets/{asset_id:uuid}/bom/completeness", response_model=CompletenessView)
@requires("inventory:read")
async def read_completeness(asset_id: UUID, work: Work) -> Response:
    """How complete the asset's bill of materials is, and what to add to it, the most rewarding first."""

    async def read(tx: Tx) -> tuple[Completeness, Literal["supplied", "made"]]:
        item = await assets_store.get(tx, work.caller, asset_id)
        stored = await store.get(tx, asset_id)
        if stored is not None:
            return completeness(orjson.loads(stored.document)), "supplied"
        return completeness(await _made(tx, work, item, bom.SPEC_VERSIONS[0])), "made"

    found, origin = await work.read(read)
    missing = [MissingField.model_validate(one) for one in found.missing]
    return reply(
        CompletenessView(
            asset_id=asset_id, origin=origin, score=found.score, groups=dict(found.groups), missing=missing
        )
    )


@router.get("/boms/completeness", response_model=PageOf[AssetCompleteness])
@requires("inventory:read")
async def list_completeness(work: Work, page: Page) -> Response:
    """The living assets by how complete their bills of materials are, the least first.

    Judged in the background within moments of a change; after large imports it takes as long as these.
    """
    rows = await work.read(lambda tx: scores.lowest(tx, work.caller, after=page.after, limit=page.limit + 1))
    items, cursor = page.cut(rows, "score", "asset_id")
    return reply(
        PageOf[AssetCompleteness](items=[AssetCompleteness.model_validate(row) for row in items], next_cursor=cursor)
    )


# -- what changed ------------------------------------------------------------------------------------------------------


class BomVersion(Out):
    """A bill of an asset that is kept; its document is at /v1/boms/{bom_id} where one was supplied."""

    bom_id: UUID
    number: int
    origin: str = Field(description="supplied, or made when what we write it from changed.")
    spec_version: str
    components: int
    digest: str
    stored_at: datetime
    stored_by: str


class ChangedComponent(Out):
    key: str = Field(description="What stays when the version changes: a package URL, or type, group and name.")
    name: str
    component_type: str
    fields: list[str] = Field(description="What differs; of one that came or went empty.")


class BomDiff(Out):
    """How two bills of an asset differ."""

    asset_id: UUID
    from_number: int
    to_number: int
    added: list[ChangedComponent]
    removed: list[ChangedComponent]
    changed: list[ChangedComponent]


@router.get("/assets/{asset_id:uuid}/bom/versions", response_model=PageOf[BomVersion])
@requires("inventory:read")
async def list_versions(asset_id: UUID, work: Work) -> Response:
    """The bills of the asset that are kept, the newest first; the newest twenty are."""

    async def read(tx: Tx) -> list[Any]:
        await assets_store.get(tx, work.caller, asset_id)
        return await store.versions(tx, asset_id)

    rows = await work.read(read)
    return reply(PageOf[BomVersion](items=[BomVersion.model_validate(row) for row in rows]))


@router.get("/assets/{asset_id:uuid}/bom/diff", response_model=BomDiff)
@requires("inventory:read")
async def read_diff(
    asset_id: UUID,
    work: Work,
    from_: Annotated[
        int | None,
        Query(alias="from", ge=1, le=2_147_483_647, description="A kept bill's number; the one before `to`."),
    ] = None,
    to: Annotated[int | None, Query(ge=1, le=2_147_483_647, description="The newest when left out.")] = None,
) -> Response:
    """What came, went and changed between two kept bills of the asset."""

    async def read(tx: Tx) -> tuple[Kept, Kept]:
        await assets_store.get(tx, work.caller, asset_id)
        newest = await store.newest(tx, asset_id)
        if newest is None:
            raise NoSuchBom("no bill of this asset was kept yet: it never changed")
        last = to if to is not None else newest.number
        first = from_ if from_ is not None else max(1, last - 1)
        found = await store.kept(tx, asset_id, {first, last})
        for number in (first, last):
            if number not in found:
                raise NoSuchBom(f"bill {number} of this asset is not kept")
        return found[first], found[last]

    before, after = await work.read(read)
    found = bom.difference(before.parts, after.parts)
    return reply(
        BomDiff(
            asset_id=asset_id,
            from_number=before.number,
            to_number=after.number,
            added=_changes(found.added),
            removed=_changes(found.removed),
            changed=_changes(found.changed),
        )
    )


def _changes(changes: tuple[ComponentChange, ...]) -> list[ChangedComponent]:
    return [ChangedComponent.model_validate(one) for one in changes]


# -- others' -----------------------------------------------------------------------------------------------------------


class Conflict(Out):
    """What the document says otherwise; it changed nothing."""

    attribute: str
    standing: Any
    document: Any


class TakenComponent(Out):
    """What became of a component that is an asset."""

    ref: str = Field(description="Its bom-ref, else its JSON Pointer.")
    pointer: str
    name: str
    asset_type: str
    outcome: Outcome = Field(description="`restricted`: it is another team's, and nothing was done.")
    asset_id: UUID | None = Field(description="Null where it is restricted, and where a dry run would create it.")
    filled: list[str] = Field(description="What was empty and has a value now.")
    conflicts: list[Conflict]


class ImportReceipt(Out):
    """What an import did, or would do."""

    dry_run: bool
    bom_id: UUID | None = Field(description="Of the document that is kept; null of a dry run.")
    sha256: str
    spec_version: str
    components: int
    asset_id: UUID | None = Field(description="The asset that the document is of, when it is of one.")
    assets: list[TakenComponent]
    dependencies: int = Field(description="Edges between assets that the document states.")
    unattributed: int = Field(description="Components with hashes that no asset of the document needs: not watched.")


class KeptBom(Out):
    """A document that was supplied."""

    bom_id: UUID
    asset_id: UUID | None
    number: int
    owner_team: str
    spec_version: str
    components: int
    digest: str
    stored_at: datetime
    stored_by: str


class _DryRun(Exception):
    """Leaves the transaction without its effects."""

    def __init__(self, done: Imported) -> None:
        self.done = done


@router.post(
    "/boms",
    response_model=ImportReceipt,
    status_code=201,
    responses={200: {"model": ImportReceipt}},
    openapi_extra=_REQUEST,
)
@requires("inventory:write")
async def import_document(
    document: Annotated[dict[str, Any], Body()],
    request: Request,
    work: Work,
    owner_team: Annotated[Label, Query(description="Of assets of which the document names no owner.")] = "",
    dry_run: Annotated[bool, Query(description="Only say what would be done.")] = False,
) -> Response:
    """Take in a CycloneDX JSON document, 1.2 to 1.7: its models and data become assets, or fill what known ones lack.

    What depends on what is taken over, also through libraries between. The document is kept byte for byte; its hashes
    are watched from then on. 201, or 200 of a dry run. Known values are never overwritten: what differs is told.
    """
    as_sent = await request.body()
    bom.check(document)
    reading = bom.read(document)
    teams = work.caller.teams
    team = owner_team or (next(iter(teams)) if teams is not None and len(teams) == 1 else "")
    declared = {key: _declared(part, team) for key, part in reading.parts.items()}

    async def take(tx: Tx) -> Imported:
        done = await import_bom(tx, work.caller, document, as_sent, reading, declared, team, datetime.now(UTC))
        if dry_run:
            raise _DryRun(done)
        return done

    try:
        return await work.run(take, lambda done: _told(done, dry_run=False))
    except _DryRun as dry:
        return _told(dry.done, dry_run=True)


import_document.body_limit_bytes = BOM_LIMIT_BYTES  # type: ignore[attr-defined]  # read by shared.http.SecuredRoute


def _declared(part: Part, team: str) -> Mapping[str, Any]:
    """The component as an asset that is registered, only with what it says. Raises Invalid by its JSON Pointer."""
    told = {"owner_team": team, **part.declared}
    try:
        body = NewAsset.model_validate(told)
    except ValidationError as error:
        found = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
        errors = [{"field": part.pointer, "message": f"{one['field']}: {one['message']}"} for one in found]
        raise Invalid(f"{part.pointer} cannot be an asset: {errors[0]['message']}", errors=errors) from error
    values = body.declared()
    return {name: value for name, value in values.items() if name in told}


def _told(done: Imported, *, dry_run: bool) -> Response:
    assets = [TakenComponent.model_validate(asdict(one)) for one in done.taken]
    if dry_run:
        assets = [
            one.model_copy(update={"asset_id": None}) if one.outcome is Outcome.CREATED else one for one in assets
        ]
    created = {one.asset_id for one in done.taken if one.outcome is Outcome.CREATED}
    view = ImportReceipt(
        dry_run=dry_run,
        bom_id=None if dry_run else done.bom_id,
        sha256=done.sha256,
        spec_version=done.spec_version,
        components=done.components,
        asset_id=None if dry_run and done.asset_id in created else done.asset_id,
        assets=assets,
        dependencies=done.dependencies,
        unattributed=done.unattributed,
    )
    return reply(view, status=200 if dry_run else 201)


@router.get("/boms", response_model=PageOf[KeptBom])
@requires("inventory:read")
async def list_documents(work: Work, page: Page) -> Response:
    """The documents that were supplied, newest first; of one asset the newest twenty bills are kept."""
    before = UUID(page.after[0]) if page.after else None
    rows = await work.read(lambda tx: store.supplied(tx, work.caller, before=before, limit=page.limit + 1))
    items, cursor = page.cut(rows, "bom_id")
    return reply(PageOf[KeptBom](items=[KeptBom.model_validate(row) for row in items], next_cursor=cursor))


@router.get("/boms/keys", response_class=JSONResponse)
@requires("inventory:read")
async def read_keys(work: Work) -> Response:
    """The public keys with which signatures of bills of materials are verified: a JWK set (RFC 7517)."""
    return JSONResponse(signing.keys(work.runtime.settings.bom_signing_key_file))


@router.get("/boms/{bom_id:uuid}", responses=DOCUMENT, response_class=Response)
@requires("inventory:read")
async def read_document(bom_id: UUID, work: Work) -> Response:
    """A supplied document, as it was sent."""
    document = await work.read(lambda tx: store.document(tx, work.caller, bom_id))
    if document is None:
        raise NoSuchBom(f"there is no document {bom_id}")
    return Response(document, media_type=MEDIA_TYPE)
