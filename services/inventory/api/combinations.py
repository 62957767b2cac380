"""/v1/toxic-combinations, and those of one asset."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.inventory.api.graph import EdgeView, EndView
from services.inventory.domain.combinations import MEANINGS, Combination, Severity, ToxicCombination
from services.inventory.domain.graph import Neighbourhood
from services.inventory.store import assets as assets_store
from services.inventory.store import combinations as store
from services.inventory.store import edges as edges_store
from shared.auth import Caller, requires
from shared.database import Tx
from shared.http import reply
from shared.models import Out, PageOf
from shared.paging import Page, PageRequest
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1", "toxic combinations")


class ToxicCombinationView(Out):
    """Facts that are dangerous together, at the asset whose team can end it."""

    id: UUID = Field(description="The same as long as the combination is there.")
    kind: Combination
    name: str
    severity: Severity
    asset: EndView
    why: str
    path: list[EdgeView] = Field(description="The edges that lead to the facts, each with its locator.")
    owners: list[str] = Field(description="Teams of the assets on the path that you may see, the asset's own first.")
    owasp: list[str]
    what_to_do: str

    @classmethod
    def of(cls, finding: ToxicCombination, known: Neighbourhood) -> ToxicCombinationView:
        meaning = MEANINGS[finding.kind]
        nodes = (known.nodes.get(asset_id) for asset_id in _assets(finding))
        return cls(
            id=finding.id,
            kind=finding.kind,
            name=meaning.name,
            severity=meaning.severity,
            asset=EndView.of(finding.asset_id, known),
            why=meaning.why,
            path=[EdgeView.of(edge, known) for edge in finding.edges],
            owners=list(dict.fromkeys(node.owner_team for node in nodes if node is not None and node.owner_team)),
            owasp=list(meaning.owasp),
            what_to_do=meaning.mend,
        )


def _assets(finding: ToxicCombination) -> list[UUID]:
    ends = [asset_id for known in finding.edges for asset_id in (known.edge.from_id, known.edge.to_id)]
    return [finding.asset_id, *ends]


async def views(tx: Tx, caller: Caller, findings: list[ToxicCombination]) -> list[ToxicCombinationView]:
    """The findings with what the caller may know of the assets in them."""
    known = await edges_store.nodes_of(tx, caller, [own for finding in findings for own in _assets(finding)])
    return [ToxicCombinationView.of(finding, known) for finding in findings]


def _behind(page: PageRequest) -> tuple[Combination, UUID] | None:
    return (Combination(page.after[0]), UUID(page.after[1])) if page.after else None


def _answer(page: PageRequest, shown: tuple[list[ToxicCombinationView], store.Position | None]) -> Response:
    items, ended = shown
    cursor = page.cursor(ended[0].value, ended[1]) if ended is not None else None
    return reply(PageOf[ToxicCombinationView](items=items, next_cursor=cursor))


Kind = Annotated[Combination | None, Query(description="Only this kind.")]


@router.get("/toxic-combinations", response_model=PageOf[ToxicCombinationView])
@requires("inventory:read")
async def list_toxic_combinations(
    work: Work,
    page: Page,
    kind: Kind = None,
    team: Annotated[str | None, Query(max_length=200, description="Only at assets of this team.")] = None,
) -> Response:
    """Toxic combinations at the assets that you may see, gravest kind first.

    A page may hold fewer than `limit`, and even none, and yet have a `next_cursor`: so many assets were looked at.
    """

    async def read(tx: Tx) -> tuple[list[ToxicCombinationView], store.Position | None]:
        kinds = () if kind is None else (kind,)
        found, ended = await store.find(tx, work.caller, kinds=kinds, team=team, after=_behind(page), limit=page.limit)
        return await views(tx, work.caller, found), ended

    return _answer(page, await work.read(read))


@router.get("/assets/{asset_id:uuid}/toxic-combinations", response_model=PageOf[ToxicCombinationView])
@requires("inventory:read")
async def list_toxic_combinations_of_asset(asset_id: UUID, work: Work, page: Page, kind: Kind = None) -> Response:
    """Toxic combinations at one asset."""

    async def read(tx: Tx) -> tuple[list[ToxicCombinationView], store.Position | None]:
        await assets_store.get(tx, work.caller, asset_id)
        kinds = () if kind is None else (kind,)
        found, ended = await store.find(
            tx, work.caller, kinds=kinds, asset_id=asset_id, after=_behind(page), limit=page.limit
        )
        return await views(tx, work.caller, found), ended

    return _answer(page, await work.read(read))
