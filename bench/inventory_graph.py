"""The graph at 1,000,000 assets and 5,000,000 edges, at the service itself: impact, dependencies, toxic combinations,
gap report, search.

The estate is made in SQL: agents use models, retrieve from stores, call tools; models are trained on data sets; few
models and tools are used by very many (the choice of neighbours is cubic). Beside it stand sixteen data sets on which
exactly 10,000 agents depend each, over five levels, most of them by several ways.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Callable

import aiohttp
import asyncpg

from bench import load, scale
from deploy.local.throwaway import Stack, running, superuser

SLOTS = (
    *["ai_agent"] * 5,
    *["api_endpoint"] * 3,
    *["fine_tuned_model"] * 2,
    "foundation_model",
    "embedding_model",
    *["vector_database"] * 2,
    *["training_dataset"] * 2,
    "guardrail_config",
    "mcp_server",
    "api_credential",
    "prompt_template",
)
"""Asset number n has type SLOTS[n % 20]."""
EDGES = int(os.environ.get("EDGES", "5000000"))
DESCENDANTS = 10_000
LEVELS = (1, 11, 111, 1_111, 4_111, DESCENDANTS)
"""How many lie up to each distance from a root, the root's first child included."""
ROOTS = 16

# Relation, downstream type, upstream type, edges of each downstream asset in a full estate.
SHAPE = (
    ("uses_model", "ai_agent", "foundation_model", 2),
    ("uses_model", "ai_agent", "fine_tuned_model", 1),
    ("retrieves_from", "ai_agent", "vector_database", 2),
    ("calls_tool", "ai_agent", "mcp_server", 3),
    ("guarded_by", "ai_agent", "guardrail_config", 1),
    ("depends_on", "ai_agent", "prompt_template", 1),
    ("served_by", "api_endpoint", "fine_tuned_model", 1),
    ("served_by", "api_endpoint", "foundation_model", 1),
    ("guarded_by", "api_endpoint", "guardrail_config", 1),
    ("depends_on", "api_endpoint", "prompt_template", 2),
    ("fine_tuned_from", "fine_tuned_model", "foundation_model", 1),
    ("trained_on", "fine_tuned_model", "training_dataset", 6),
    ("trained_on", "foundation_model", "training_dataset", 8),
    ("trained_on", "embedding_model", "training_dataset", 4),
    ("embeds_into", "vector_database", "embedding_model", 1),
    ("depends_on", "vector_database", "training_dataset", 4),
    ("exposes_credential", "api_credential", "mcp_server", 1),
)
_INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'dependency' AND indexname <> 'dependency_pkey'"
)


def slots(asset_type: str) -> list[int]:
    return [slot for slot, name in enumerate(SLOTS) if name == asset_type]


async def relate(connection: asyncpg.Connection) -> None:
    """Write EDGES edges between the assets that scale.fill wrote, some of which hold no more."""
    await connection.execute("SET statement_timeout = 0")
    indexes = await connection.fetch(_INDEXES)
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX {name}")
    await connection.execute("SELECT setseed(0.4)")
    blocks = scale.ASSETS // len(SLOTS)
    for number in range(ROOTS):
        await _root(connection, number, blocks)
    written = 0
    wanted = EDGES - await connection.fetchval("SELECT count(*) FROM dependency")
    planned = sum(len(slots(downstream)) * blocks * edges for _, downstream, _, edges in SHAPE)
    for relation, downstream, upstream, edges in SHAPE:
        copies = max(1, round(edges * wanted / planned))
        written += int(
            (
                await connection.execute(
                    """
            INSERT INTO dependency (edge_id, upstream_id, downstream_id, relation, source, locator, valid_from)
            SELECT gen_random_uuid(), upstream_id, downstream_id, $1, 'kubernetes', 'apps/v1/deployment', since
            FROM (
                SELECT DISTINCT ON (downstream_id, upstream_id)
                    md5('bench' || ($2::int[])[1 + n % $3::int] + $6::int * floor($7::int * random() ^ 3)::int)::uuid AS upstream_id,
                    md5('bench' || ($4::int[])[1 + n % $5::int] + $6::int * (n / $5::int))::uuid AS downstream_id,
                    now() - n % 365 * interval '1 day' AS since
                FROM generate_series(0, $7::int * $5::int - 1) AS n, generate_series(1, $8::int)
            ) AS made
            """,
                    relation,
                    slots(upstream),
                    len(slots(upstream)),
                    slots(downstream),
                    len(slots(downstream)),
                    len(SLOTS),
                    blocks,
                    copies,
                )
            ).split()[-1]
        )
    # What was: a twentieth as many edges that ended half a year ago.
    await connection.execute(
        """
        INSERT INTO dependency (edge_id, upstream_id, downstream_id, relation, source, locator, valid_from, valid_to)
        SELECT gen_random_uuid(), upstream_id, downstream_id, relation, 'before', '', valid_from - interval '400 days',
               now() - interval '180 days'
        FROM dependency TABLESAMPLE BERNOULLI (5)
        """
    )
    for _, definition in indexes:
        await connection.execute(definition)


async def _root(connection: asyncpg.Connection, number: int, blocks: int) -> None:
    """Let DESCENDANTS agents depend on one data set: each on one to three of the level before."""
    agents = slots("ai_agent")
    for first, last, before, size_before in _levels():
        await connection.execute(
            """
            INSERT INTO dependency (edge_id, upstream_id, downstream_id, relation, source, locator, valid_from)
            SELECT gen_random_uuid(), upstream_id, downstream_id, 'depends_on', 'repository', 'agents/a.py:12', now()
            FROM (
                SELECT DISTINCT
                    CASE WHEN $6::int = 0 THEN md5('bench' || $7::int)::uuid ELSE
                        md5('bench' || ($1::int[])[1 + up % $2::int] + $3::int * (up / $2::int))::uuid END AS upstream_id,
                    md5('bench' || ($1::int[])[1 + n % $2::int] + $3::int * (n / $2::int))::uuid AS downstream_id
                FROM (
                    SELECT n, $8::int + $5::int + floor($6::int * random())::int AS up
                    FROM generate_series($8::int + $4::int, $8::int + $9::int - 1) AS n, generate_series(1, 3)
                ) AS drawn
            ) AS made
            """,
            agents,
            len(agents),
            len(SLOTS),
            first,
            before,
            size_before,
            root_number(number),
            number * DESCENDANTS,
            last,
        )


def _levels() -> list[tuple[int, int, int, int]]:
    """(first, last + 1, first of the level before, its size) of each level, as numbers within one root's agents."""
    edges = (0, *LEVELS)
    return [
        (edges[at], edges[at + 1], edges[at - 1] if at else 0, edges[at] - edges[at - 1] if at else 0)
        for at in range(len(LEVELS))
    ]


def root_number(number: int) -> int:
    """The asset number of a root: a data set that nothing else is trained on is not needed, its agents are its own."""
    return slots("training_dataset")[0] + len(SLOTS) * (scale.ASSETS // len(SLOTS) - 1 - number)
