"""Edges in the store: what holds when, and what is announced of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from services.inventory.domain.relations import FLOWS, Edge, Harm, ends
from services.inventory.store import graph
from services.inventory.store.schema import dependency_table
from services.inventory.tests.test_api_assets import created
from shared.contracts.inventory import EdgeClosed, EdgeOpened, Relation
from shared.testing import Harness

START = datetime(2026, 11, 1, tzinfo=UTC)


def an_edge(from_id: UUID, to_id: UUID, relation: Relation = Relation.USES_MODEL, **fields: str) -> Edge:
    return Edge(from_id, to_id, relation, fields.get("source", "repository"), fields.get("locator", "agent.py:3"))


async def link(inventory: Harness, edges: Sequence[Edge], at: datetime = START) -> int:
    async with inventory.runtime.db.begin() as tx:
        return await graph.link(tx, edges, at)


async def unlink(inventory: Harness, edges: Sequence[Edge], at: datetime) -> int:
    async with inventory.runtime.db.begin() as tx:
        return await graph.unlink(tx, edges, at)


async def rows(inventory: Harness) -> list[Any]:
    async with inventory.runtime.db.read() as tx:
        return list(await tx.execute(sa.select(dependency_table).order_by(dependency_table.c.edge_id)))


@pytest.mark.parametrize("relation", Relation)
def test_every_relation_says_which_way_harm_goes_and_ends_are_their_own_inverse(relation: Relation) -> None:
    subject, of = uuid4(), uuid4()
    upstream, downstream = ends(relation, subject, of)
    assert FLOWS[relation].reason
    assert (upstream, downstream) == ((subject, of) if FLOWS[relation].harm is Harm.REACHES_OBJECT else (of, subject))
    assert ends(relation, upstream, downstream) == (subject, of)


async def test_an_edge_is_stored_the_way_harm_goes_and_announced(inventory: Harness) -> None:
    agent, model, store = uuid4(), uuid4(), uuid4()
    assert await link(inventory, [an_edge(agent, model), an_edge(model, store, Relation.EMBEDS_INTO)]) == 2
    stored = {(row.upstream_id, row.downstream_id, row.relation) for row in await rows(inventory)}
    assert stored == {(model, agent, "uses_model"), (model, store, "embeds_into")}
    told = [EdgeOpened.model_validate(event.data).edge for event in await inventory.published(EdgeOpened.TYPE)]
    assert {(edge.from_id, edge.to_id, edge.relation.value) for edge in told} == {
        (agent, model, "uses_model"),
        (model, store, "embeds_into"),
    }


async def test_what_holds_already_is_not_written_again_whatever_its_locator(inventory: Harness) -> None:
    agent, model = uuid4(), uuid4()
    twice = [an_edge(agent, model), an_edge(agent, model, locator="other.py:9")]
    assert await link(inventory, twice) == 1
    before = await rows(inventory)
    assert await link(inventory, twice, START + timedelta(days=1)) == 0
    assert await rows(inventory) == before
    assert len(await inventory.published()) == 1
    assert await link(inventory, [an_edge(agent, model, source="kubernetes")]) == 1


async def test_an_edge_that_is_found_again_is_another_edge(inventory: Harness) -> None:
    edge = an_edge(uuid4(), uuid4())
    await link(inventory, [edge])
    assert await unlink(inventory, [edge], START + timedelta(days=1)) == 1
    assert await unlink(inventory, [edge], START + timedelta(days=2)) == 0
    assert await link(inventory, [edge], START + timedelta(days=3)) == 1
    held = [(row.valid_from - START, row.valid_to and row.valid_to - START) for row in await rows(inventory)]
    assert held == [(timedelta(0), timedelta(days=1)), (timedelta(days=3), None)]
    (closed,) = await inventory.published(EdgeClosed.TYPE)
    assert EdgeClosed.model_validate(closed.data).edge.valid_to == START + timedelta(days=1)


async def test_nothing_is_its_own_neighbour_and_nothing_is_done_for_nothing(inventory: Harness) -> None:
    own = uuid4()
    assert await link(inventory, [an_edge(own, own)]) == 0
    assert await link(inventory, []) == 0
    assert await unlink(inventory, [an_edge(own, uuid4())], START) == 0
    assert (await rows(inventory), await inventory.published()) == ([], [])


async def test_the_edges_of_a_record_follow_it_and_only_its_own_event_tells_of_them(inventory: Harness) -> None:
    client = inventory.client()
    kept, dropped, added = (str(uuid4()) for _ in range(3))
    asset = await created(client, upstream_assets=[kept, dropped], downstream_assets=[added])
    url = f"/v1/assets/{asset['asset_id']}"
    await client.patch(url, json={"upstream_assets": [kept, added]}, headers={"If-Match": "*"})
    own = UUID(asset["asset_id"])
    held = {(row.upstream_id, row.downstream_id, row.source, row.valid_to is None) for row in await rows(inventory)}
    assert held == {
        (UUID(kept), own, "upstream_assets", True),
        (UUID(dropped), own, "upstream_assets", False),
        (UUID(added), own, "upstream_assets", True),
        (own, UUID(added), "downstream_assets", True),
    }
    told = [event.type for event in await inventory.published() if ".edge." in event.type or ".asset." in event.type]
    assert told == ["ev.inventory.asset.registered.v1", "ev.inventory.asset.updated.v1"]
