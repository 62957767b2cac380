"""The graph at 1,000,000 assets and 5,000,000 edges, at the service itself: impact, dependencies, toxic combinations,
gap report, search.

The estate is made in SQL: agents use models, retrieve from stores, call tools; models are trained on data sets; few
models and tools are used by very many (the choice of neighbours is cubic). Beside it stand sixteen data sets on which
10,000 agents depend each, and little else, over five levels, most of them by several ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aiohttp
import asyncpg
import orjson
import psutil

from bench import load, scale
from deploy.local.throwaway import Stack, running, superuser
from services.inventory.domain.combinations import Combination

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
ROOTS = min(16, scale.ASSETS * 5 // len(SLOTS) // DESCENDANTS)

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
_RELATE = """
    INSERT INTO dependency (edge_id, upstream_id, downstream_id, relation, source, locator, valid_from)
    SELECT gen_random_uuid(), upstream_id, downstream_id, $1, 'kubernetes', 'apps/v1/deployment', since
    FROM (
        SELECT DISTINCT ON (downstream_id, upstream_id)
            md5('bench' || ($2::int[])[1 + n % $3::int] + $6::int * floor($7::int * random() ^ 3)::int)::uuid
                AS upstream_id,
            md5('bench' || ($4::int[])[1 + n % $5::int] + $6::int * (n / $5::int))::uuid AS downstream_id,
            now() - n % 365 * interval '1 day' AS since
        FROM generate_series(0, $7::int * $5::int - 1) AS n, generate_series(1, $8::int)
    ) AS made
"""
_DESCEND = """
    INSERT INTO dependency (edge_id, upstream_id, downstream_id, relation, source, locator, valid_from)
    SELECT gen_random_uuid(), upstream_id, downstream_id, 'depends_on', 'repository', 'agents/a.py:12',
           now() - interval '40 days'
    FROM (
        SELECT DISTINCT
            md5('bench' || CASE WHEN $6::int = 0 THEN $7::int
                ELSE ($1::int[])[1 + up % $2::int] + $3::int * (up / $2::int) END)::uuid AS upstream_id,
            md5('bench' || ($1::int[])[1 + n % $2::int] + $3::int * (n / $2::int))::uuid AS downstream_id
        FROM (
            SELECT n, $8::int + $5::int + floor($6::int * random())::int AS up
            FROM generate_series($8::int + $4::int, $8::int + $9::int - 1) AS n, generate_series(1, 3)
        ) AS drawn
    ) AS made
"""
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
        await _root(connection, number)
    wanted = EDGES - await connection.fetchval("SELECT count(*) FROM dependency")
    planned = sum(len(slots(downstream)) * blocks * edges for _, downstream, _, edges in SHAPE)
    for relation, downstream, upstream, edges in SHAPE:
        copies = max(1, round(edges * wanted / planned))
        up, down = slots(upstream), slots(downstream)
        await connection.execute(_RELATE, relation, up, len(up), down, len(down), len(SLOTS), blocks, copies)
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


async def _root(connection: asyncpg.Connection, number: int) -> None:
    """Let DESCENDANTS agents depend on one data set: each on one to three of the level before."""
    agents = slots("ai_agent")
    root = root_number(number)
    for first, last, before, size_before in _levels():
        own = number * DESCENDANTS
        await connection.execute(_DESCEND, agents, len(agents), len(SLOTS), first, before, size_before, root, own, last)


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


async def enrich(connection: asyncpg.Connection) -> None:
    """What toxic combinations are made of: few servers with tools that send, few models of unknown origin, some of
    what is in use quarantined."""
    for statement in (
        "UPDATE asset SET authorized_tools = '{sendMail}' WHERE asset_type = 'mcp_server' AND hashtext(name) % 99 = 0",
        "UPDATE asset SET lifecycle = 'quarantined' WHERE asset_type = 'mcp_server' AND hashtext(name) % 1000 = 1",
        "UPDATE asset SET model_provider = NULL WHERE asset_type = 'embedding_model' AND hashtext(name) % 10 = 0",
    ):
        await connection.execute(statement)


def root_id(number: int) -> UUID:
    return UUID(hashlib.md5(f"bench{root_number(number)}".encode(), usedforsecurity=False).hexdigest())


class Asking:
    """A session whose token is renewed: one lives for a minute."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self._stack = stack
        self._session = session
        self._headers: dict[str, str] = {}
        self._renewed = 0.0

    async def __call__(self, url: str, body: object = None) -> tuple[float, bytes]:
        """Milliseconds until the whole answer was there, and the answer."""
        if time.monotonic() - self._renewed > 30:
            self._headers = {"Authorization": f"Bearer {scale.token(self._stack)}"}
            self._renewed = time.monotonic()
        method = "GET" if body is None else "POST"
        started = time.perf_counter()
        async with self._session.request(method, url, json=body, headers=self._headers) as response:
            answer = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{url}: {response.status} {answer[:300]!r}")
        return (time.perf_counter() - started) * 1000, answer


def _worked(stack: Stack) -> float:
    """Seconds of processor time that the whole stack has used: what a call costs however busy the machine is."""
    total = 0.0
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


async def impacts(stack: Stack, ask: Asking, base: str) -> list[bool]:
    met = []
    await ask(f"{base}/v1/assets/{root_id(0)}/impact")
    for name, query, goal in (
        ("impact of 10,000, p50", "", 150),
        ("impact of 10,000, all of them in one answer, p50", "?limit=10000", 250),
        ("impact of 10,000 as of ten minutes ago, p50", f"?as_of={_ago(minutes=10)}", 150),
    ):
        took = []
        worked = _worked(stack)
        for round_ in range(4):
            for number in range(ROOTS):
                milliseconds, answer = await ask(f"{base}/v1/assets/{root_id(number)}/impact{query}")
                if round_:  # the first round fills the caches
                    took.append(milliseconds)
                if not query and (count := orjson.loads(answer)["impacted_count"]) < DESCENDANTS:
                    raise RuntimeError(f"root {number} reaches {count}")
        met.append(load.verdict(name, statistics.median(took), goal, "ms"))
        worked = (_worked(stack) - worked) / (4 * ROOTS) * 1000
        print(f"   {'':<58} {load.percentile(took, 0.99):>10.1f} ms p99, {worked:.0f} ms of processor time a call")
    return met


def _ago(**time_: float) -> str:
    return (datetime.now(UTC) - timedelta(**time_)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def lists(ask: Asking, base: str, ids: Sequence[UUID]) -> list[bool]:
    met = []
    searches: dict[str, Callable[[], str]] = {
        "search page, no filter": lambda: "",
        "search page by owner team": lambda: f"owner_team=team-{random.randrange(400)}",
        "search page by type and class": lambda: "asset_type=ai_agent&data_classification=restricted",
        "search page by scope, riskiest first": lambda: "regulatory_scope=gdpr&sort=-risk_score",
        "search page by words in the name": lambda: f"q=asset {random.randrange(scale.ASSETS)}",
    }
    for name, query in searches.items():
        took = [(await ask(f"{base}/v1/assets?limit=50&{query()}"))[0] for _ in range(300)]
        met.append(load.verdict(f"{name}, p99", load.percentile(took, 0.99), 25, "ms"))
    took = [(await ask(f"{base}/v1/compliance-gaps"))[0] for _ in range(5)]
    met.append(load.verdict("gap report, slowest of 5", max(took), 2_000, "ms"))
    for kind in Combination:
        url = f"{base}/v1/toxic-combinations?limit=50&kind={kind.value}"
        took, found = [], 0
        for _ in range(5):
            milliseconds, answer = await ask(url)
            took.append(milliseconds)
            found = len(orjson.loads(answer)["items"])
        met.append(load.verdict(f"{kind.value}: {found}, max", max(took), 1_000, "ms"))
    for name, path, goal in (
        ("edges of an asset, p99", "edges", 25),
        ("dependencies of an asset, depth 3, p99", "dependencies?depth=3", 250),
        ("toxic combinations of an asset, p99", "toxic-combinations", 50),
    ):
        took = [(await ask(f"{base}/v1/assets/{random.choice(ids)}/{path}"))[0] for _ in range(200)]
        met.append(load.verdict(name, load.percentile(took, 0.99), goal, "ms"))
    took = [(await ask(f"{base}/v1/assets/{random.choice(ids)}/deployment-check", {}))[0] for _ in range(200)]
    met.append(load.verdict("deployment check, p99", load.percentile(took, 0.99), 250, "ms"))
    took = [(await ask(f"{base}/v1/graph/diff?from={_ago(days=200)}&limit=200"))[0] for _ in range(20)]
    met.append(load.verdict("first page of a diff over 200 days, p99", load.percentile(took, 0.99), 250, "ms"))
    return met


async def run(stack: Stack) -> bool:
    connection = await asyncpg.connect(superuser(stack, "inventory"))
    started = time.perf_counter()
    ids = await scale.fill(connection, SLOTS)
    await relate(connection)
    await enrich(connection)
    await connection.execute("VACUUM ANALYZE")
    edges = await connection.fetchval("SELECT count(*) FROM dependency")
    await connection.close()
    print(f"   {scale.ASSETS} assets and {edges} edges written in {time.perf_counter() - started:.0f} s")
    base = stack.service_url("inventory")
    async with aiohttp.ClientSession() as session:
        ask = Asking(stack, session)
        met = await impacts(stack, ask, base)
        met += await lists(ask, base, ids)
    return all(met)


def main() -> None:
    random.seed(4)
    with running() as stack:
        if not asyncio.run(run(stack)):
            sys.exit(1)


if __name__ == "__main__":
    main()
