"""The organisation's bill of materials at 1,000,000 assets and 5,000,000 edges: how fast, and in how much memory. And a
denied digest with 10,000 descendants: how soon each of them is announced."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from uuid import UUID

import aiohttp
import asyncpg
import psutil

from bench import load, scale
from deploy.local.home import Home
from deploy.local.throwaway import Stack, running, superuser

EDGES_AN_ASSET = 5
DESCENDANTS = 10_000
DIGEST = "ab" * 32
_REF = re.compile(rb'"(?:bom-ref|ref)":"([0-9a-f-]{36})"')
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EDGES = b'],"dependencies":['


async def connect_all(connection: asyncpg.Connection) -> None:
    """Edges from each asset to five that were written before it, in SQL: what is measured is reading."""
    for start in range(1, scale.ASSETS, 50_000):
        await connection.execute(
            """
            INSERT INTO dependency (downstream_id, upstream_id, declared_by)
            SELECT md5('bench' || n)::uuid, md5('bench' || up)::uuid, md5('bench' || n)::uuid
            FROM generate_series($1::int, $2::int) AS n,
                LATERAL (SELECT DISTINCT (n::bigint * 7919 * k + k * k) % n AS up FROM generate_series(1, $3) k) AS ups
            """,
            start,
            min(start + 50_000, scale.ASSETS) - 1,
            EDGES_AN_ASSET,
        )


@dataclass
class Read:
    """What a client saw of the stream."""

    components: int = 0
    edges: int = 0
    size: int = 0
    dangling: int = 0
    peak: float = 0.0
    first_byte_seconds: float = 0.0
    seconds: float = 0.0


async def read(session: aiohttp.ClientSession, url: str, service: psutil.Process) -> Read:
    seen = Read()
    known: set[bytes] = set()
    started = time.perf_counter()
    rest, behind = b"", False
    async with session.get(url) as response:
        if response.status != 200:
            raise RuntimeError(f"{url}: {response.status}")
        async for part in response.content.iter_chunked(1 << 20):
            if not seen.size:
                seen.first_byte_seconds = time.perf_counter() - started
            seen.size += len(part)
            seen.peak = max(seen.peak, service.memory_info().rss / 1e6)
            text = rest + part
            # Cut where no reference is in two.
            cut = max(text.rfind(b"},{"), 0)
            text, rest = text[:cut], text[cut:]
            before, mark, after = text.partition(_EDGES)
            if not behind:
                known.update(UUID(found.decode()).bytes for found in _REF.findall(before))
                behind = bool(mark)
                text = after
            if behind:
                _count(text, known, seen)
    _count(rest, known, seen)
    seen.components = len(known)
    seen.seconds = time.perf_counter() - started
    if not rest.endswith(b"]}"):
        raise RuntimeError("the document is cut off")
    return seen


def _count(text: bytes, known: set[bytes], seen: Read) -> None:
    for found in _ID.findall(text):
        seen.edges += 1
        seen.dangling += UUID(found.decode()).bytes not in known


async def deny(session: aiohttp.ClientSession, base: str, connection: asyncpg.Connection) -> None:
    """A model that 10,000 assets come from, over four steps, turns out to be bad."""
    await connection.execute(
        """
        INSERT INTO asset SELECT * FROM jsonb_populate_recordset(NULL::asset, (
            SELECT jsonb_agg(to_jsonb(asset) || jsonb_build_object('asset_id', md5('line' || n)::uuid,
                'duplicate_key', '\\x' || md5('line' || n),
                'integrity', CASE WHEN n = 0 THEN jsonb_build_array(jsonb_build_object(
                    'path', 'm', 'algorithm', 'sha256', 'digest', $2::text)) ELSE '[]'::jsonb END))
            FROM (SELECT * FROM asset LIMIT 1) AS asset, generate_series(0, $1::int) AS n))
        """,
        DESCENDANTS,
        DIGEST,
    )
    await connection.execute(
        """
        INSERT INTO dependency SELECT md5('line' || n)::uuid, md5('line' || (n - 1) / 10)::uuid, md5('line' || n)::uuid
        FROM generate_series(1, $1::int) AS n
        """,
        DESCENDANTS,
    )
    body = {"algorithm": "sha256", "digest": DIGEST, "verdict": "denied", "reason": "bench"}
    announced = "SELECT count(*) FROM outbox WHERE type = 'ev.inventory.artifact.denied.v1'"
    started = time.perf_counter()
    async with session.post(f"{base}/v1/artifact-digests", json=body) as response:
        if response.status != 201:
            raise RuntimeError(await response.text())
    load.verdict("digest denied, the first 200 assets announced", (time.perf_counter() - started) * 1000, 1_000, "ms")
    while await connection.fetchval(announced) < DESCENDANTS + 1:
        await asyncio.sleep(0.05)
        if time.perf_counter() - started > 120:
            raise RuntimeError("not all were announced within two minutes")
    load.verdict(f"all {DESCENDANTS + 1} that it reaches announced", time.perf_counter() - started, 10, "s")


async def run(stack: Stack) -> None:
    connection = await asyncpg.connect(superuser(stack, "inventory"))
    started = time.perf_counter()
    await scale.fill(connection)
    await connect_all(connection)
    await connection.execute("VACUUM ANALYZE")
    edges = await connection.fetchval("SELECT count(*) FROM dependency")
    print(f"   {scale.ASSETS} assets and {edges} edges written in {time.perf_counter() - started:.0f} s")
    service = psutil.Process(Home(stack.home).pids.running()["inventory"].pid)
    base = stack.service_url("inventory")
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {scale.token(stack)}"}, timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        before = service.memory_info().rss / 1e6
        seen = await read(session, f"{base}/v1/boms/organization", service)
        print(
            f"   {seen.components} components, {seen.edges} references, {seen.size / 1e6:.0f} MB in "
            f"{seen.seconds:.0f} s, first byte after {seen.first_byte_seconds * 1000:.0f} ms"
        )
        print(f"   resident before {before:.0f} MB, at most meanwhile {seen.peak:.0f} MB")
        load.verdict("components a second", seen.components / seen.seconds, 5_000, "/s", at_most=False)
        load.verdict("memory grows by", seen.peak - before, 64, "MB")
        load.verdict("dangling references", seen.dangling, 0, "")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {scale.token(stack)}"}) as session:
        await deny(session, base, connection)
    await connection.close()


def main() -> None:
    with running() as stack:
        asyncio.run(run(stack))


if __name__ == "__main__":
    main()
