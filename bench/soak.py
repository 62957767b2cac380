"""`make soak`: registrations and changes under load while every part is killed again and again; nothing may be missing.

Each asset is registered and then changed twice. Parts are killed with SIGKILL in an order that the seed decides:
each service, the gateway, NATS and PostgreSQL. What a client cannot know (its connection broke) it settles by asking
again with the same Idempotency-Key or version. In the end every store is compared with what clients were told.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import nats
import orjson
import psutil

from deploy.local.environment import Environment
from deploy.local.home import Home
from deploy.local.settings import StackSettings
from deploy.local.throwaway import Stack, running

REGISTRATIONS = int(os.environ.get("REGISTRATIONS", "10000"))
KILLS = int(os.environ.get("KILLS", "50"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1_000_000)
WORKERS = 24
SECONDS_BETWEEN_KILLS = 1.5
CHANGES = 2
DRAIN_SECONDS = 180.0
VICTIMS = ("inventory", "risk", "detection", "incidents", "governance", "metrics", "gateway", "nats", "postgres")


class Client:
    """A caller that does not give up: it asks again until it knows."""

    def __init__(self, session: aiohttp.ClientSession, stack: Stack) -> None:
        self._session = session
        self._stack = stack
        self.ambiguous = 0
        self.refused = 0

    async def ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any, str]:
        while True:
            try:
                async with self._session.request(
                    method, self._stack.url + path, json=body, headers=headers
                ) as response:
                    text = await response.read()
                    if response.status < 500 and response.status not in (409, 429):
                        return response.status, orjson.loads(text), response.headers.get("ETag", "")
                    if response.status == 500:
                        raise RuntimeError(f"{method} {path}: 500 {text[:500]!r}")
                    self.refused += 1
            except (aiohttp.ClientError, asyncio.TimeoutError):
                self.ambiguous += 1
            await asyncio.sleep(0.1 + random.random() * 0.2)

    async def live(self, number: int) -> UUID:
        """Register one asset and change it CHANGES times; its id."""
        body = {
            "name": f"soak {number}",
            "asset_type": "ai_agent",
            "owner_team": "soak",
            "model_name": f"soak-{number}",
            "model_provider": "openai",
        }
        status, asset, etag = await self.ask("POST", "/v1/assets", body, {"Idempotency-Key": uuid4().hex})
        if status != 201:
            raise RuntimeError(f"registration of {number} answered {status}: {asset}")
        for change in range(CHANGES):
            text = f"change {change}"
            path = f"/v1/assets/{asset['asset_id']}"
            while True:
                status, changed, new_etag = await self.ask("PATCH", path, {"description": text}, {"If-Match": etag})
                if status == 200:
                    etag = new_etag
                    break
                if status != 412:
                    raise RuntimeError(f"change of {number} answered {status}: {changed}")
                # An earlier try may have been carried out although its answer was lost.
                _, changed, etag = await self.ask("GET", path, None, {})
                if changed["description"] == text:
                    break
        return UUID(asset["asset_id"])


async def kill_parts(home: Home, rng: random.Random, kills: Counter[str], finished: asyncio.Event) -> None:
    order = [VICTIMS[n % len(VICTIMS)] for n in range(KILLS)]
    rng.shuffle(order)
    for victim in order:
        await asyncio.sleep(SECONDS_BETWEEN_KILLS * (0.5 + rng.random()))
        while (process := home.pids.running().get(victim)) is None:  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.1)
        family = [process, *(process.children(recursive=True) if victim == "postgres" else [])]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
        kills[victim] += 1
    finished.set()


async def events_in_stream(environment: Environment, stream: str) -> dict[str, list[tuple[str, int]]]:
    """Aggregate -> (type, version) of its events, in the stream's order."""
    client = await nats.connect(environment.nats_url, nkeys_seed=str(environment.seed_file("admin")))
    found: dict[str, list[tuple[str, int]]] = {}
    try:
        info = await client.jetstream().stream_info(stream)
        subscription = await client.jetstream().subscribe(f"ev.{stream.lower()}.>", ordered_consumer=True)
        for _ in range(info.state.messages):
            message = await subscription.next_msg(timeout=30)
            document = orjson.loads(message.data)
            for event in document if isinstance(document, list) else [document]:
                found.setdefault(event["subject"], []).append((event["type"], event["data"]["version"]))
    finally:
        await client.close()
    return found


async def rows(url: str, query: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


async def drained(stack: Stack, expected: int) -> float:
    """Wait until risk has scored the last version of every asset and inventory shows it; seconds waited."""
    started = time.perf_counter()
    while time.perf_counter() - started < DRAIN_SECONDS:
        try:
            shown = await rows(
                stack.database("inventory"), "SELECT count(*) FROM asset_risk WHERE version > $1", CHANGES
            )
            if shown[0][0] >= expected:
                break
        except (OSError, asyncpg.PostgresError):
            pass
        await asyncio.sleep(0.5)
    return time.perf_counter() - started


async def run(stack: Stack) -> int:
    home = Home(stack.home)
    environment = Environment(home, StackSettings(home=stack.home, port=stack.port))
    rng = random.Random(SEED)
    kills: Counter[str] = Counter()
    finished = asyncio.Event()
    numbers = iter(range(REGISTRATIONS))
    told: dict[UUID, int] = {}
    started = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {stack.key}"}, timeout=timeout) as session:
        client = Client(session, stack)

        async def work() -> None:
            for number in numbers:
                told[await client.live(number)] = number
                if number % 1_000 == 999:
                    print(f"   {len(told)} assets, {sum(kills.values())} kills", file=sys.stderr, flush=True)
                # The load lasts as long as the killing.
                if not finished.is_set():
                    await asyncio.sleep(WORKERS * KILLS * SECONDS_BETWEEN_KILLS / REGISTRATIONS * 0.5)

        killing = asyncio.create_task(kill_parts(home, rng, kills, finished))
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        await killing
    print(
        f"   seed {SEED}: {len(told)} assets and {len(told) * CHANGES} changes in {time.perf_counter() - started:.0f} s"
    )
    print(f"   {sum(kills.values())} kills: {dict(sorted(kills.items()))}")
    print(f"   {client.ambiguous} broken connections, {client.refused} refusals, settled by asking again")
    print(f"   drained {await drained(stack, len(told)):.1f} s after the last request")
    return await judge(stack, environment, told)


async def judge(stack: Stack, environment: Environment, told: dict[UUID, int]) -> int:
    stored = {row[0]: row[1] for row in await rows(stack.database("inventory"), "SELECT asset_id, version FROM asset")}
    stream = await events_in_stream(environment, "INVENTORY")
    assessed: dict[UUID, list[int]] = {}
    history = await rows(
        stack.database("risk"), "SELECT asset_id, asset_version FROM assessment ORDER BY asset_id, number"
    )
    for asset_id, version in history:
        assessed.setdefault(asset_id, []).append(version)
    shown = {row[0] for row in await rows(stack.database("inventory"), "SELECT asset_id FROM asset_risk")}
    wanted = list(range(1, CHANGES + 2))
    lost = doubled = inverted = 0
    for asset_id in told:
        versions = [version for _, version in stream.get(str(asset_id), [])]
        for seen in (versions, assessed.get(asset_id, [])):
            lost += len(set(wanted) - set(seen))
            doubled += len(seen) - len(set(seen))
            inverted += sum(1 for one, two in pairwise(seen) if two < one)
        lost += asset_id not in stored
        lost += asset_id not in shown
    doubled += len(set(stored) - set(told))
    print(f"   {lost} lost, {doubled} doubled, {inverted} inverted")
    return 1 if lost or doubled or inverted else 0


def main() -> None:
    print(f"soak: {REGISTRATIONS} registrations, {KILLS} kills, SEED={SEED}")
    with running() as stack:
        code = asyncio.run(run(stack))
    sys.exit(code)


if __name__ == "__main__":
    main()
