"""Detection at the speed of a stream: the batch API, OTLP end to end, and workers beside each other.

All through the gateway on a platform of its own, distinct texts of some 700 characters. A rate a core is by the CPU
time of detection's own processes, since load generator, gateway, PostgreSQL and NATS share the machine's cores; the
rate by the clock stands beside it. Workers are measured on a backlog, from a tenth of it to nine tenths.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import asyncpg
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.load import verdict
from deploy.local.environment import Environment
from deploy.local.home import Home
from deploy.local.settings import StackSettings
from deploy.local.throwaway import Stack, running

MESSAGES = 8_000
SPANS = 20_000
BATCH = 200
SPANS_A_REQUEST = 500
SESSIONS = 400
GOAL = 2_000.0
_WORDS = [
    *("museum", "opens", "visitor", "ticket", "garden", "painting", "children", "sunday", "price", "hour", "train"),
    *("street", "coffee", "booking", "invoice", "report", "weather", "project", "meeting", "answer", "question"),
    *("please", "about", "where", "when", "could", "would", "order", "delivery", "customer", "account", "summary"),
]


def a_text(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=110))


def requests_of(prefix: str, count: int) -> list[bytes]:
    """Export requests as an SDK sends them, packed."""
    chance = random.Random(prefix)
    bodies = []
    for start in range(0, count, SPANS_A_REQUEST):
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        for number in range(start, min(start + SPANS_A_REQUEST, count)):
            span = scope.spans.add(
                trace_id=chance.randbytes(16), span_id=chance.randbytes(8), name="chat gpt-5", kind=3
            )
            said = [{"role": "user", "parts": [{"type": "text", "content": a_text(chance)}]}]
            texts = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5",
                "gen_ai.conversation.id": f"{prefix}{number % SESSIONS}",
                "gen_ai.input.messages": json.dumps(said),
            }
            for name, value in texts.items():
                span.attributes.add(key=name).value.string_value = value
            span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 140
        bodies.append(gzip.compress(request.SerializeToString(), 1))
    return bodies


async def four_at_a_time(send: Callable[[Any], Awaitable[None]], bodies: Sequence[Any]) -> None:
    waiting = list(reversed(bodies))

    async def sender() -> None:
        while waiting:
            await send(waiting.pop())

    await asyncio.gather(*(sender() for _ in range(4)))


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


class Workers:
    """`python -m services.detection worker`, so many of them."""

    def __init__(self, stack: Stack, count: int) -> None:
        environment = Environment(Home(stack.home), StackSettings(home=stack.home, port=stack.port)).of("detection")
        self._started = [
            subprocess.Popen(
                [sys.executable, "-m", "services.detection", "worker"],
                env={
                    **os.environ,
                    **environment,
                    "DETECTION_LOG_LEVEL": "WARNING",
                },
            )
            for _ in range(count)
        ]
        self.processes = [psutil.Process(one.pid) for one in self._started]

    def stop(self) -> None:
        for one in self._started:
            one.terminate()
        for one in self._started:
            one.wait(30)


async def batches(session: aiohttp.ClientSession, api: psutil.Process) -> bool:
    chance = random.Random(7)
    items = [{"direction": "input", "content": a_text(chance)} for _ in range(MESSAGES)]
    bodies = [json.dumps({"items": items[at : at + BATCH]}).encode() for at in range(0, MESSAGES, BATCH)]

    async def send(body: bytes) -> None:
        async with session.post(
            "/v1/inspections/batch", data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    await four_at_a_time(send, bodies[:4])
    before, started = cpu_seconds([api]), time.perf_counter()
    await four_at_a_time(send, bodies)
    seconds, spent = time.perf_counter() - started, cpu_seconds([api]) - before
    print(f"   batches of {BATCH}: {MESSAGES / seconds:,.0f} messages/s by the clock")
    return verdict("batch API, messages a second of one core", MESSAGES / spent, GOAL, "/s", at_most=False)


async def drained(database: asyncpg.Connection[Any], prefix: str, share: float) -> float:
    """When so much of a backlog has been handled."""
    query = "SELECT coalesce(sum(interactions), 0)::bigint FROM session_state WHERE session_key LIKE $1"
    # The rows are other processes' work; there is no event to wait for.
    while await database.fetchval(query, f"%|{prefix}%") < share * SPANS:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return time.perf_counter()


async def backlog(
    stack: Stack, session: aiohttp.ClientSession, database: asyncpg.Connection[Any], api: psutil.Process, workers: int
) -> tuple[float, float]:
    """Spans a second by the clock of so many workers, and of a core of all of detection, reception included."""
    prefix = f"bench{workers}-"
    bodies = requests_of(prefix, SPANS)

    async def send(body: bytes) -> None:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        async with session.post("/v1/traces", data=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    before, started = cpu_seconds([api]), time.perf_counter()
    await four_at_a_time(send, bodies)
    received = cpu_seconds([api]) - before
    print(f"   received {SPANS / (time.perf_counter() - started):,.0f} spans/s by the clock", flush=True)
    started_workers = Workers(stack, workers)
    try:
        first = await drained(database, prefix, 0.1)
        begun = cpu_seconds(started_workers.processes)
        last = await drained(database, prefix, 0.9)
        spent = (cpu_seconds(started_workers.processes) - begun) / 0.8
    finally:
        started_workers.stop()
    rate = 0.8 * SPANS / (last - first)
    print(f"   {workers} worker(s): {rate:,.0f} spans/s by the clock, {SPANS / spent:,.0f} a second of a worker's core")
    return rate, SPANS / (received + spent)


async def measure(stack: Stack) -> bool:
    api = Home(stack.home).pids.running()["detection"]
    database = await asyncpg.connect(stack.database("detection"))
    try:
        async with aiohttp.ClientSession(stack.url, headers={"Authorization": f"Bearer {stack.key}"}) as session:
            met = await batches(session, api)
            one, a_core = await backlog(stack, session, database, api, 1)
            two, _ = await backlog(stack, session, database, api, 2)
    finally:
        await database.close()
    met &= verdict("OTLP end to end, spans a second of one core", a_core, GOAL, "/s", at_most=False)
    print(f"   two workers to one, by the clock, on {os.cpu_count()} cores shared with all the rest: {two / one:.2f}")
    return met


def main() -> None:
    with running(COLONNADE_LOG_LEVEL="WARNING", DETECTION_STREAM_WORKER="false") as stack:
        if not asyncio.run(measure(stack)):
            raise SystemExit("   a goal was missed")


if __name__ == "__main__":
    main()
