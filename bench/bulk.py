"""NDJSON import of 100,000 assets: stored and scored end to end, with the memory of what takes part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import orjson
import psutil

from bench import load
from deploy.local.throwaway import Stack, running

ASSETS = 100_000
TYPES = ("foundation_model", "ai_agent", "vector_database", "training_dataset", "api_endpoint", "prompt_template")
CLASSES = ("public", "internal", "confidential", "restricted", "regulated")


def line(number: int) -> bytes:
    return orjson.dumps(
        {
            "name": f"imported asset {number}",
            "asset_type": TYPES[number % len(TYPES)],
            "owner_team": f"team-{number % 40}",
            "owner_email": f"team-{number % 40}@example.com",
            "data_classification": CLASSES[number % len(CLASSES)],
            "deployment_env": "production",
            "model_provider": "openai" if number % 2 else "huggingface",
            "model_name": f"model-{number}",
            "regulatory_scope": ["gdpr"] if number % 3 == 0 else [],
        }
    )


async def body(count: int) -> AsyncIterator[bytes]:
    for start in range(0, count, 200):
        yield b"\n".join(line(number) for number in range(start, min(start + 200, count))) + b"\n"


def resident(stack: Stack) -> dict[str, int]:
    """Part -> resident bytes of the platform's Python processes."""
    found = {}
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        command = " ".join(process.cmdline())
        for name in ("inventory", "risk", "detection", "incidents", "governance", "metrics", "gateway"):
            if f"services.{name} " in command or (name == "gateway" and "-m gateway" in command):
                found[name] = process.memory_info().rss
    return found


async def run(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.database("inventory"))
    scored = await connection.fetchval("SELECT count(*) FROM asset_risk")
    before = resident(stack)
    peak: dict[str, int] = {}
    started = time.perf_counter()

    async def watch() -> None:
        while True:
            for name, size in resident(stack).items():
                peak[name] = max(peak.get(name, 0), size)
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    statuses: dict[str, int] = {}
    headers = {"Authorization": f"Bearer {stack.key}", "Content-Type": "application/x-ndjson"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{stack.url}/v1/assets/import", data=body(ASSETS), headers=headers) as response,
    ):
        if response.status != 200:
            raise RuntimeError(f"{response.status} {await response.text()}")
        async for answered in response.content:
            status = orjson.loads(answered)["status"]
            statuses[status] = statuses.get(status, 0) + 1
    stored = time.perf_counter() - started
    while await connection.fetchval("SELECT count(*) FROM asset_risk") < scored + ASSETS:
        await asyncio.sleep(0.05)
        if time.perf_counter() - started > 600:
            raise RuntimeError("not all assets were scored within ten minutes")
    complete = time.perf_counter() - started
    watching.cancel()
    await connection.close()
    print(f"   results {statuses}; stored after {stored:.1f} s, all scored after {complete:.1f} s")
    load.verdict("stored", ASSETS / stored, 2_500, "assets/s", at_most=False)
    load.verdict("stored and scored, end to end", ASSETS / complete, 2_500, "assets/s", at_most=False)
    for name in ("gateway", "inventory", "risk", "metrics"):
        grown = (peak[name] - before[name]) / 1e6
        load.verdict(f"growth of {name} at its peak", grown, 100, "MB")


def main() -> None:
    with running() as stack:
        asyncio.run(run(stack))


if __name__ == "__main__":
    main()
