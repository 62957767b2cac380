"""Toxic combinations of the whole estate or of one asset, a page at a time.

Asset by asset in the order of an index, each fact looked up along the asset's own edges, until a page is full: to
find all that have a fact and to join the sets takes seconds at a million assets, whatever is asked for. Where findings
are rare, a call ends after SUBJECTS assets of a kind and says where to go on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.inventory.domain.combinations import Combination, Power, ToxicCombination, pattern_of
from services.inventory.store.graph import edge_of
from services.inventory.store.schema import SENSITIVE_CLASSES, UNPROVEN_MODEL, dependency_table
from shared.auth import Caller
from shared.contracts.inventory import Relation
from shared.database import Tx, driver

_TOOLS = r"lower(regexp_replace(array_to_string({0}.authorized_tools, ' '), '([a-z0-9])([A-Z])', '\1 \2', 'g'))"
_NAMED = r"lower(regexp_replace({0}.name, '([a-z0-9])([A-Z])', '\1 \2', 'g'))"
_NO_EDGES = "'{}'::uuid[]"
_ANY = ", ".join(f"'{relation.value}'" for relation in Relation)


def _can(asset: str, *powers: Power, by_name: bool = False) -> str:
    pattern = pattern_of(powers)
    listed = f"{_TOOLS.format(asset)} ~ '{pattern}'"
    return f"({listed} OR {_NAMED.format(asset)} ~ '{pattern}')" if by_name else f"({listed})"


def _step(relations: str, upstream: str, downstream: str = "a.asset_id", edge: str = "e") -> tuple[str, str]:
    """FROM and WHERE of a step along edges that hold: `upstream` is the alias of the asset that they come from."""
    return (
        f"dependency {edge} JOIN asset {upstream} ON {upstream}.asset_id = {edge}.upstream_id",
        f"""{edge}.downstream_id = {downstream} AND {edge}.valid_to IS NULL AND {edge}.relation IN ({relations})
            AND {upstream}.lifecycle <> 'retired'""",
    )


def _fact(edges: str, *steps: tuple[str, str], where: str = "true") -> str:
    """One way in which the asset `a` has a fact: the edges that lead to it, none when it is the asset's own."""
    sources = ", ".join(source for source, _ in steps)
    conditions = " AND ".join([*(condition for _, condition in steps), where])
    return f"SELECT {edges} AS edges {'FROM ' + sources if sources else ''} WHERE {conditions}"


def _sensitive(asset: str) -> str:
    return f"{asset}.data_classification IN ({SENSITIVE_CLASSES})"


def _holds(edge: str, end: str, of: str, *relations: str) -> tuple[str, str]:
    """FROM and WHERE of an edge that holds at one end of which `of` stands."""
    listed = ", ".join(f"'{relation}'" for relation in relations)
    return f"dependency {edge}", f"{edge}.{end} = {of} AND {edge}.valid_to IS NULL AND {edge}.relation IN ({listed})"


_ONE, _TWO = "ARRAY[e.edge_id]", "ARRAY[e.edge_id, f.edge_id]"
_READS_SENSITIVE = (
    _fact(_ONE, _step("'retrieves_from'", "s"), where=_sensitive("s")),
    _fact(
        _TWO,
        _step("'retrieves_from', 'calls_tool', 'depends_on'", "m"),
        _step("'retrieves_from', 'depends_on'", "s", "m.asset_id", "f"),
        where=f"{_sensitive('s')} AND s.asset_type IN ('vector_database', 'training_dataset', 'evaluation_dataset')",
    ),
)


def _may(*powers: Power) -> tuple[str, ...]:
    return (
        _fact(_NO_EDGES, where=_can("a", *powers)),
        _fact(_ONE, _step("'calls_tool'", "t"), where=_can("t", *powers, by_name=True)),
    )


_EXPOSES = (
    _fact(_ONE, _holds("e", "upstream_id", "a.asset_id", "exposes_credential")),
    _fact(
        _TWO,
        _holds("e", "downstream_id", "a.asset_id", "calls_tool", "depends_on"),
        _holds("f", "upstream_id", "e.upstream_id", "exposes_credential"),
    ),
)
_QUARANTINED = (_fact(_ONE, _step(_ANY, "q"), where="q.lifecycle = 'quarantined'"),)
_MEETS_SENSITIVE = (
    _fact(_NO_EDGES, where=_sensitive("a")),
    _fact(
        _ONE,
        _holds("e", "upstream_id", "a.asset_id", "uses_model", "embeds_into", "served_by", "depends_on"),
        ("asset u", "u.asset_id = e.downstream_id"),
        where=f"u.lifecycle = 'active' AND u.deployment_env = 'production' AND {_sensitive('u')}",
    ),
)
_HAS_BASE = (_fact(_ONE, _holds("e", "downstream_id", "a.asset_id", "fine_tuned_from")),)
_GUARDED = (
    _fact(_ONE, _holds("e", "downstream_id", "a.asset_id", "guarded_by")),
    _fact(
        _TWO,
        _holds("e", "downstream_id", "a.asset_id", "served_by"),
        _holds("f", "downstream_id", "e.upstream_id", "guarded_by"),
    ),
    _fact(
        _NO_EDGES,
        (
            "control_copy",
            """control_copy.asset_id = a.asset_id AND control_type IN ('guardrails', 'input_filtering')
                AND operational AND NOT removed""",
        ),
    ),
)
_SERVES = (_fact(_ONE, _holds("e", "downstream_id", "a.asset_id", "served_by")), _fact(_NO_EDGES))
_TRAINED_ON_SENSITIVE = (
    _fact(_ONE, _step("'trained_on'", "s"), where=_sensitive("s")),
    _fact(
        _TWO,
        _step("'served_by'", "m"),
        _step("'trained_on'", "s", "m.asset_id", "f"),
        where=_sensitive("s"),
    ),
)
_MODELS = "'foundation_model', 'fine_tuned_model', 'embedding_model'"
_PUBLIC = "a.network_exposure = 'public' AND a.lifecycle = 'active'"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an asset `a` must be, the facts that it must have and that it must not, each in one of several ways."""

    subject: str
    facts: tuple[tuple[str, ...], ...]
    never: tuple[str, ...] = ()


_KINDS: dict[Combination, _Kind] = {
    Combination.PUBLIC_AGENT_DATA_TOOL: _Kind(
        f"a.asset_type = 'ai_agent' AND {_PUBLIC}", (_READS_SENSITIVE, _may(*Power))
    ),
    Combination.EXPOSED_CREDENTIAL_EGRESS: _Kind(
        "a.asset_type = 'ai_agent' AND a.lifecycle = 'active'", (_EXPOSES, _may(Power.EGRESS))
    ),
    # Starts from what is quarantined, which is little; the second condition is in the words of its partial index.
    Combination.QUARANTINED_UPSTREAM: _Kind(
        """a.lifecycle = 'active' AND a.asset_id IN (
            SELECT e.downstream_id FROM asset q JOIN dependency e ON e.upstream_id = q.asset_id AND e.valid_to IS NULL
            WHERE q.lifecycle = 'quarantined' AND q.lifecycle <> 'active'
        )""",
        (_QUARANTINED,),
    ),
    Combination.UNPROVEN_MODEL: _Kind(
        f"a.lifecycle = 'active' AND a.{UNPROVEN_MODEL.replace(' AND ', ' AND a.')}", (_MEETS_SENSITIVE,), _HAS_BASE
    ),
    Combination.UNGUARDED_ENDPOINT: _Kind(
        f"a.asset_type IN ('api_endpoint', {_MODELS}) AND {_PUBLIC}", (_SERVES,), _GUARDED
    ),
    Combination.PUBLIC_MODEL_PRIVATE_TRAINING: _Kind(
        f"a.asset_type IN ('api_endpoint', {_MODELS}) AND {_PUBLIC}", (_TRAINED_ON_SENSITIVE,)
    ),
}
_ORDER = tuple(Combination)
SUBJECTS = 50_000
"""Assets of one kind that one call looks at, whether or not they are findings."""


def _statement(kind: _Kind) -> str:
    facts = "".join(
        f" CROSS JOIN LATERAL ({' UNION ALL '.join(ways)} LIMIT 1) AS fact_{number}"
        for number, ways in enumerate(kind.facts)
    )
    never = f"WHERE NOT EXISTS ({' UNION ALL '.join(kind.never)})" if kind.never else ""
    edges = " || ".join(f"fact_{number}.edges" for number in range(len(kind.facts)))
    return f"""
        SELECT a.asset_id, {edges} AS edges
        FROM ({_subjects(kind, "a.asset_id, a.name, a.authorized_tools, a.data_classification")}) AS a {facts} {never}
        ORDER BY a.asset_id LIMIT $4
    """  # noqa: S608


def _subjects(kind: _Kind, columns: str) -> str:
    return f"""
        SELECT {columns} FROM asset a
        WHERE {kind.subject} AND ($1::uuid IS NULL OR a.asset_id > $1)
          AND ($2::text[] IS NULL OR a.owner_team = ANY($2)) AND ($3::uuid IS NULL OR a.asset_id = $3)
        ORDER BY a.asset_id LIMIT {SUBJECTS}
    """  # noqa: S608


_STATEMENTS = {kind: _statement(made) for kind, made in _KINDS.items()}
_SUBJECT_BEFORE_END = {
    kind: f"SELECT asset_id FROM ({_subjects(made, 'a.asset_id')}) AS s OFFSET {SUBJECTS - 1} LIMIT 1"  # noqa: S608
    for kind, made in _KINDS.items()
}
Position = tuple[Combination, UUID]


async def find(
    tx: Tx,
    caller: Caller,
    *,
    kinds: Collection[Combination] = (),
    team: str | None = None,
    asset_id: UUID | None = None,
    after: Position | None = None,
    limit: int,
) -> tuple[list[ToxicCombination], Position | None]:
    """Up to `limit` findings at assets that the caller may see, by kind and asset, from behind `after`.

    Args:
        kinds: only these; all when empty.
        team: only at assets of this team.
        asset_id: only at this asset.

    Returns:
        the findings, and from behind where to go on; None when there are no more.
    """
    teams = None if caller.teams is None else sorted(caller.teams)
    if team is not None:
        teams = [team] if caller.sees(team) else []
    connection = await driver(tx)
    found: list[tuple[Combination, UUID, list[UUID]]] = []
    ended: Position | None = None
    # A kind is rare in one estate and everywhere in another, a team large or small: planned for its values.
    await connection.execute("SET plan_cache_mode = force_custom_plan")
    try:
        for kind in _ORDER:
            if (kinds and kind not in kinds) or (after is not None and _ORDER.index(kind) < _ORDER.index(after[0])):
                continue
            behind = after[1] if after is not None and kind is after[0] else None
            wanted = limit + 1 - len(found)
            rows = await connection.fetch(_STATEMENTS[kind], behind, teams, asset_id, wanted)
            found += ((kind, row["asset_id"], row["edges"]) for row in rows)
            if len(rows) == wanted:
                found.pop()
                ended = found[-1][:2]
                break
            last = await connection.fetchval(_SUBJECT_BEFORE_END[kind], behind, teams, asset_id)
            if last is not None:
                ended = (kind, last)
                break
    finally:
        await connection.execute("RESET plan_cache_mode")
    edges = await _edges(tx, [edge_id for _, _, ids in found for edge_id in ids])
    return [
        ToxicCombination(kind, own, tuple(edges[edge_id] for edge_id in dict.fromkeys(ids) if edge_id in edges))
        for kind, own, ids in found
    ], ended


async def _edges(tx: Tx, edge_ids: Sequence[UUID]) -> dict[UUID, Any]:
    if not edge_ids:
        return {}
    column = dependency_table.c.edge_id
    ids = sa.literal(list(dict.fromkeys(edge_ids)), sa.ARRAY(sa.Uuid))
    rows = await tx.execute(sa.select(dependency_table).where(column == sa.any_(ids)))
    return {row.edge_id: edge_of(row._mapping) for row in rows}
