"""Reading at 1,000,000 assets, at the service itself: a page of a search, and one asset."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
import asyncpg
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bench import load
from bench.bulk import CLASSES, TYPES
from deploy.local.environment import Environment
from deploy.local.home import Home
from deploy.local.settings import StackSettings
from deploy.local.throwaway import Stack, running
from shared.auth import ROLES
from shared.tokens import Caller, Signer

ASSETS = int(os.environ.get("ASSETS", "1000000"))
READS = 2_000


async def fill(connection: asyncpg.Connection, types: Sequence[str] = TYPES) -> list[UUID]:
    """Write ASSETS rows in SQL, of `types` in turn: what is measured is reading."""
    await connection.execute("SET statement_timeout = 0")
    await connection.execute("SET synchronous_commit = off")
    for start in range(0, ASSETS, 50_000):
        await connection.execute(
            """
            INSERT INTO asset
            SELECT md5('bench' || n)::uuid, 1, 'asset ' || n, ($3::text[])[1 + n % $4], '', 'team-' || n % 400,
                   '', ($5::text[])[1 + n % $6], (ARRAY['production','staging','development','research'])[1 + n % 4],
                   CASE WHEN n % 3 = 0 THEN ARRAY['gdpr'] ELSE ARRAY[]::text[] END, 'provider-' || n % 20,
                   'model-' || n, NULL, n % 2 = 0, NULL, NULL, NULL, NULL, n % 5 = 0, NULL, 'aws', 'eu-west-1',
                   (ARRAY['internal','vpc','public'])[1 + n % 3], '{}', '{}', '', '{}', '[]', '[]', 'active',
                   'unreviewed', now() - n * interval '1 second', 'bench', now() - n * interval '1 second',
                   sha256(('bench' || n)::bytea)
            FROM generate_series($1::int, $2::int) AS n
            """,
            start,
            min(start + 50_000, ASSETS) - 1,
            list(types),
            len(types),
            list(CLASSES),
            len(CLASSES),
        )
    await connection.execute(
        """
        INSERT INTO asset_risk (asset_id, version, risk_score, risk_level, assessed_at, owner_team)
        SELECT asset_id, 1, (hashtext(asset_id::text) & 8191) * 100.0 / 8192, 'HIGH', $1, owner_team FROM asset
        ON CONFLICT DO NOTHING
        """,
        datetime.now(UTC),
    )
    return [row[0] for row in await connection.fetch("SELECT asset_id FROM asset TABLESAMPLE SYSTEM (1) LIMIT 5000")]


def token(stack: Stack) -> str:
    environment = Environment(Home(stack.home), StackSettings(home=stack.home, port=stack.port))
    pem = open(environment.of("gateway")["GATEWAY_SIGNING_KEY_FILE"], "rb").read()  # noqa: PTH123, SIM115
    key = load_pem_private_key(pem, password=None)
    caller = Caller("bench", "api_key", frozenset({"admin"}), ROLES["admin"], None)
    return Signer("gateway", key).sign("inventory", caller)  # type: ignore[arg-type]


async def timed(session: aiohttp.ClientSession, url: str) -> float:
    started = time.perf_counter()
    async with session.get(url) as response:
        await response.read()
        if response.status != 200:
            raise RuntimeError(f"{url}: {response.status}")
    return (time.perf_counter() - started) * 1000


async def run(stack: Stack) -> None:
    from deploy.local.throwaway import superuser

    connection = await asyncpg.connect(superuser(stack, "inventory"))
    started = time.perf_counter()
    ids = await fill(connection)
    await connection.execute("VACUUM ANALYZE")
    print(f"   {ASSETS} assets written in {time.perf_counter() - started:.0f} s")
    base = stack.service_url("inventory")
    searches: dict[str, Callable[[], str]] = {
        "page, no filter": lambda: "",
        "page by owner team": lambda: f"owner_team=team-{random.randrange(400)}",
        "page by type and class": lambda: f"asset_type={random.choice(TYPES)}&data_classification=restricted",
        "page by regulatory scope": lambda: "regulatory_scope=gdpr",
        "page unreviewed only": lambda: "unreviewed_only=true",
        "page by words in the name": lambda: f"q=asset {random.randrange(ASSETS)}",
    }
    for name, query in searches.items():
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token(stack)}"}) as session:
            took = [await timed(session, f"{base}/v1/assets?limit=50&{query()}") for _ in range(READS // len(searches))]
        load.verdict(f"{name}, p99", load.percentile(took, 0.99), 25, "ms")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token(stack)}"}) as session:
        took = [await timed(session, f"{base}/v1/assets/{random.choice(ids)}") for _ in range(READS)]
    load.verdict("one asset, p99", load.percentile(took, 0.99), 25, "ms")
    await connection.close()


def main() -> None:
    with running() as stack:
        asyncio.run(run(stack))


if __name__ == "__main__":
    main()
