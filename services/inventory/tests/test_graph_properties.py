"""Walks, times and walls over any graph, against the plainest way to compute them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.inventory.application.assets import register_new_asset
from services.inventory.domain.graph import Direction
from services.inventory.domain.relations import Edge
from services.inventory.store import edges as store
from services.inventory.store import graph, walk
from services.inventory.tests.factories import an_asset
from shared.auth import Caller
from shared.contracts.inventory import Relation
from shared.testing import Harness

START = datetime(2026, 11, 1, tzinfo=UTC)
TEAMS = ("red", "green", "blue")
EVERYBODY = Caller("all", "api_key")
SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
EDGES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from(Relation)).filter(lambda edge: edge[0] != edge[1]),
    max_size=24,
)


class World:
    """Nine places in the graph: assets of three teams, the last of which no asset fills; anew for each example."""

    def __init__(self, inventory: Harness) -> None:
        self.inventory = inventory
        self.ids: list[UUID] = []

    async def make(self) -> None:
        self.ids = [uuid4() for _ in range(9)]
        async with self.inventory.runtime.db.begin() as tx:
            for number, asset_id in enumerate(self.ids[:8]):
                asset = an_asset(asset_id, at=START, owner_team=TEAMS[number % 3])
                assert await register_new_asset(tx, EVERYBODY, asset)

    def team_of(self, asset_id: UUID) -> str | None:
        number = self.ids.index(asset_id)
        return TEAMS[number % 3] if number < 8 else None

    def edge(self, described: tuple[int, int, Relation]) -> Edge:
        subject, to, relation = described
        return Edge(self.ids[subject], self.ids[to], relation, "tests", "")


@pytest.fixture
def world(inventory: Harness) -> World:
    return World(inventory)


def reach(world: World, edges: set[Edge], root: UUID, depth: int, teams: frozenset[str]) -> tuple[dict[UUID, int], int]:
    """Distance of each visible asset downstream, and how many walls were met: breadth first, by hand."""
    distance, walls, frontier = {root: 0}, set(), [root]
    for level in range(1, depth + 1):
        following = []
        for here in frontier:
            for edge in edges:
                there = edge.downstream_id
                if edge.upstream_id != here or there in distance or there in walls:
                    continue
                team = world.team_of(there)
                if team is not None and team not in teams:
                    walls.add(there)
                elif team is not None:
                    distance[there] = level
                    following.append(there)
        frontier = following
    return {asset_id: steps for asset_id, steps in distance.items() if steps}, len(walls)


@SETTINGS
@given(EDGES, st.integers(1, 4), st.sets(st.sampled_from(TEAMS[1:])))
async def test_impact_is_what_a_breadth_first_search_finds_and_stops_at_walls(
    world: World, described: list[tuple[int, int, Relation]], depth: int, more: set[str]
) -> None:
    await world.make()
    edges = {world.edge(item) for item in described}
    teams = frozenset({"red", *more})
    async with world.inventory.runtime.db.begin() as tx:
        await graph.link(tx, sorted(edges, key=str), START)
    for caller, sees in ((EVERYBODY, frozenset(TEAMS)), (Caller("one", "api_key", teams=teams), teams)):
        async with world.inventory.runtime.db.read() as tx:
            found, _, _ = await walk.impact(tx, caller, world.ids[0], depth, walk.Window(None, 3))
        expected, walls = reach(world, edges, world.ids[0], depth, sees)
        touched = found.page(None, 100)
        assert {UUID(bytes=item.asset_id): item.distance for item in touched} == expected
        assert found.restricted == walls
        owners = [str(world.team_of(asset_id)) for asset_id in expected]
        assert found.owners == {team: owners.count(team) for team in set(owners)}
        assert set(found.missing) <= {world.ids[8]}
        deeper, more_walls = reach(world, edges, world.ids[0], depth + 1, sees)
        if found.truncated is False:
            assert (deeper, more_walls) == (expected, walls)
        harm = {(edge.upstream_id, edge.downstream_id, edge.relation.value) for edge in edges}
        for item in touched:
            steps = [UUID(step) for step in item.path]
            assert all(any((*pair, r.value) in harm for r in Relation) for pair in pairwise(steps))
            assert (steps[-2], steps[-1], item.relation) in harm
            assert all(world.team_of(step) in sees for step in steps[1:])


CHANGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5), st.sampled_from(list(Relation)[:3])).filter(
        lambda change: change[1] != change[2]
    ),
    max_size=16,
)


@SETTINGS
@given(CHANGES, st.integers(0, 17), st.integers(0, 17))
async def test_the_graph_at_a_time_is_the_replay_of_what_was_done_until_then_and_diff_is_their_difference(
    world: World, changes: list[tuple[bool, int, int, Relation]], one: int, other: int
) -> None:
    await world.make()
    since, until = sorted((one, other))

    def at(step: int) -> datetime:
        return START + timedelta(hours=step + 1)

    held: set[Edge] = set()
    history = [frozenset(held)]
    for step, (opens, subject, to, relation) in enumerate(changes):
        edge = world.edge((subject, to, relation))
        async with world.inventory.runtime.db.begin() as tx:
            done = await (graph.link if opens else graph.unlink)(tx, [edge], at(step))
        assert done == (edge not in held if opens else edge in held)
        held = held | {edge} if opens else held - {edge}
        history.append(frozenset(held))

    def then(step: int) -> frozenset[Edge]:
        return history[min(step + 1, len(history) - 1)]

    async with world.inventory.runtime.db.read() as tx:
        for step in (since, until):
            for asset_id in world.ids[:6]:
                own = await store.edges_of(tx, asset_id, as_of=at(step), limit=100)
                assert {known.edge for known in own} == {
                    edge for edge in then(step) if asset_id in (edge.from_id, edge.to_id)
                }
                assert len(own) == len({known.edge for known in own})
            found, _, _ = await walk.impact(tx, EVERYBODY, world.ids[0], 5, walk.Window(None, 3), at(step))
            expected, _ = reach(world, set(then(step)), world.ids[0], 5, frozenset(TEAMS))
            assert {UUID(bytes=item.asset_id): item.distance for item in found.page(None, 99)} == expected
            tree = await graph.neighbourhood(tx, EVERYBODY, world.ids[0], Direction.DOWNSTREAM, 5, at(step))
            assert set(tree.nodes) - {world.ids[0]} == set(expected)
        bound = Caller("one", "api_key", teams=frozenset({"red"}))
        red = {asset_id for asset_id in world.ids[:8] if world.team_of(asset_id) == "red"}
        for caller in (EVERYBODY, bound):
            differing = []
            after = None
            while page := await store.diff(tx, caller, at(since), at(until), after=after, limit=3):
                differing += page
                after = page[-1].position
            mine = {
                (item.kind.value, item.edge.edge)
                for item in differing
                if item.edge is not None and {item.edge.edge.from_id, item.edge.edge.to_id} & set(world.ids)
            }
            wanted = {("edge_opened", edge) for edge in then(until) - then(since)}
            wanted |= {("edge_closed", edge) for edge in then(since) - then(until)}
            if caller is bound:
                wanted = {(kind, edge) for kind, edge in wanted if red & {edge.from_id, edge.to_id}}
            assert mine == wanted
            assert len(differing) == len({item.position for item in differing})
            assert [item.position for item in differing] == sorted(item.position for item in differing)
