"""The dependency tree and the blast radius over graphs with circles, diamonds, holes and walls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from services.inventory.domain.graph import Direction, Impact, Neighbourhood, Node, id_text, tree
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    Relation,
)

SPACE = UUID(int=7)


def an_id(name: str) -> UUID:
    return uuid5(SPACE, name)


def a_node(name: str) -> Node:
    return Node(
        asset_id=an_id(name),
        name=name,
        asset_type=AssetType.AI_AGENT,
        owner_team=f"team-{name}",
        data_classification=DataClassification.INTERNAL,
        deployment_env=DeploymentEnvironment.PRODUCTION,
        lifecycle=Lifecycle.ACTIVE,
        risk_score=None,
        risk_level=None,
    )


def a_graph(edges: Iterable[str], *, missing: str = "", restricted: str = "", root: str = "a") -> Neighbourhood:
    """A neighbourhood from edges like "ab": one step leads from a to b."""
    graph = Neighbourhood(an_id(root))
    names = {root}
    for edge in edges:
        here, there = edge[0], edge[1]
        names |= {here, there}
        graph.neighbours.setdefault(an_id(here), [])
        graph.neighbours[an_id(here)].append(an_id(there))
    for name in names - set(missing) - set(restricted):
        graph.nodes[an_id(name)] = a_node(name)
        graph.neighbours.setdefault(an_id(name), [])
    graph.restricted = {an_id(name) for name in restricted}
    return graph


def shape(entry: dict[str, Any], names: dict[str, str]) -> Any:
    """The tree as nested lists of names and marks, to compare at a glance."""
    marks = "".join(
        f"!{mark}" for mark in ("circular", "missing", "restricted", "repeated", "truncated") if mark in entry
    )
    below = [shape(child, names) for child in entry.get("upstream", [])]
    return (names[entry["id"]] + marks, *below)


def reached(graph: Neighbourhood) -> set[UUID]:
    found, waiting = {graph.root}, [graph.root]
    while waiting:
        new = set(graph.neighbours.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found


NAMES = {str(an_id(letter)): letter for letter in "abcdefgh"}


def upstream(graph: Neighbourhood, depth: int = 10) -> Any:
    return shape(tree(graph, Direction.UPSTREAM, depth), NAMES)


def test_a_chain_has_the_specifications_shape() -> None:
    entry = tree(a_graph(["ab"]), Direction.UPSTREAM, 10)
    assert {key: entry[key] for key in ("id", "name", "type")} == {
        "id": str(an_id("a")),
        "name": "a",
        "type": "ai_agent",
    }
    assert entry["upstream"][0]["name"] == "b"
    assert entry["upstream"][0]["upstream"] == []


def test_a_circle_is_marked_where_it_closes() -> None:
    assert upstream(a_graph(["ab", "bc", "ca"])) == ("a", ("b", ("c", ("a!circular",))))


def test_a_missing_asset_is_marked() -> None:
    assert upstream(a_graph(["ab", "ac"], missing="b")) == ("a", ("b!missing",), ("c",))


def test_an_asset_that_the_caller_may_not_see_is_an_id_and_nothing_more() -> None:
    graph = a_graph(["ab"], restricted="b")
    assert tree(graph, Direction.UPSTREAM, 10)["upstream"] == [{"id": str(an_id("b")), "restricted": True}]


def test_a_diamond_is_no_circle() -> None:
    assert upstream(a_graph(["ab", "ac", "bd", "cd", "de"])) == (
        "a",
        ("b", ("d", ("e",))),
        ("c", ("d!repeated",)),
    )


def test_a_node_is_opened_at_its_shortest_distance_even_when_met_deeper_first() -> None:
    graph = a_graph(["ab", "bc", "cd", "ad", "de"])
    assert upstream(graph, depth=3) == (
        "a",
        ("b", ("c", ("d!repeated",))),
        ("d", ("e",)),
    )


def test_depth_stops_the_walk_and_says_so() -> None:
    assert upstream(a_graph(["ab", "bc"]), depth=1) == ("a", ("b!truncated",))
    assert upstream(a_graph(["ab", "bc"]), depth=2) == ("a", ("b", ("c",)))


def test_downstream_has_the_same_shape_under_its_own_name() -> None:
    entry = tree(a_graph(["ab"]), Direction.DOWNSTREAM, 10)
    assert entry["downstream"][0]["name"] == "b"


def an_impact(*levels: str, **came_from: str) -> Impact:
    """An impact of "a" whose levels are the letters of each text, each letter reached from the one named."""
    found = Impact(an_id("a"))
    for letters in levels:
        found.levels.append(sorted(an_id(letter).bytes for letter in letters))
    found.came_from = {an_id(name).bytes: (an_id(before).bytes, "uses_model") for name, before in came_from.items()}
    return found


def test_impact_is_paged_nearest_first_with_the_path_of_each() -> None:
    found = an_impact("bc", "d", "", "ef", b="a", c="a", d="c", e="d", f="d")
    whole = found.page(None, 10)
    assert [item.distance for item in whole] == [1, 1, 2, 3, 3]
    paths = {item.asset_id: item.path for item in whole}
    assert paths[an_id("e").bytes] == tuple(str(an_id(name)) for name in "acde")
    assert (found.count, {item.relation for item in whole}) == (5, {"uses_model"})


@given(st.lists(st.sets(st.uuids(), max_size=6), max_size=5), st.integers(1, 7))
def test_the_pages_of_an_impact_are_the_whole(levels: list[set[UUID]], size: int) -> None:
    found = Impact(an_id("a"))
    for level in levels:
        fresh = {asset_id.bytes for asset_id in level} - set(found.came_from)
        before = found.levels[-1][0] if found.levels and found.levels[-1] else found.root.bytes
        if not fresh or (before not in found.came_from and before != found.root.bytes):
            continue
        found.levels.append(sorted(fresh))
        found.came_from.update((asset_id, (before, "trained_on")) for asset_id in fresh)
    whole = found.page(None, 1_000)
    pages = []
    after = None
    while page := found.page(after, size):
        pages += page
        after = (page[-1].distance, UUID(bytes=page[-1].asset_id))
    assert pages == whole


@given(st.uuids())
def test_an_id_is_written_as_everywhere(asset_id: UUID) -> None:
    assert id_text(asset_id.bytes) == str(asset_id)


def test_an_entry_says_what_binds_it_unless_that_is_plain_dependency() -> None:
    graph = a_graph(["ab", "ac"])
    graph.relations[an_id("a"), an_id("b")] = (Relation.TRAINED_ON, Relation.DEPENDS_ON)
    graph.relations[an_id("a"), an_id("c")] = (Relation.DEPENDS_ON,)
    entries = {entry["name"]: entry.get("relations") for entry in tree(graph, Direction.UPSTREAM, 10)["upstream"]}
    assert entries == {"b": ["trained_on", "depends_on"], "c": None}


def test_what_lies_behind_the_bound_is_not_called_missing() -> None:
    graph = a_graph(["ab", "bc"], missing="c")
    graph.unread = {an_id("c")}
    assert upstream(graph) == ("a", ("b", ("c!truncated",)))


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda edge: edge[0] != edge[1]),
        max_size=60,
    )
)
def test_any_graph_is_walked_to_an_end_and_opens_each_node_once(
    edges: list[tuple[int, int]],
) -> None:
    letters = "abcdefghij"
    graph = a_graph(sorted({letters[here] + letters[there] for here, there in edges}))
    opened: list[str] = []

    def collect(entry: dict[str, Any]) -> None:
        if entry.get("upstream"):
            opened.append(entry["id"])
        for child in entry.get("upstream", []):
            collect(child)

    collect(tree(graph, Direction.UPSTREAM, 50))
    reachable = {str(asset_id) for asset_id in reached(graph)}
    assert len(opened) == len(set(opened))
    assert set(opened) == {item for item in reachable if graph.neighbours[UUID(item)]}
