"""Discovery over some 10,000 recorded cloud objects: the connectors alone, then runs of a whole platform.

The cloud is a server in a process of its own that answers as AWS's API descriptions say. The connectors alone: the real
SDK over a real socket, every page and every detail, mapped to claims and links, kept by a sink that does nothing else.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from typing import Any

import aiohttp

from bench import load
from bench.clouds import ENVIRONMENT, served
from deploy.local.throwaway import Stack, running
from services.inventory.connectors.aws import bedrock, sagemaker
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.tests.fakes_aws import REGION
from services.inventory.tests.looking import SETTINGS

LIMIT_SECONDS = 60.0


async def look(connector: Connector, url: str) -> tuple[float, float, InMemory]:
    """Seconds, seconds of this process's CPU, and what was found."""
    sink = InMemory()
    harvest = Harvest(sink)
    given = connector.options.model_validate({"regions": [REGION], "endpoint_url": url})
    started, cpu = time.perf_counter(), time.process_time()
    await connector.discover(given, SETTINGS, harvest)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if harvest.problems or sink.stale_scopes:
        raise RuntimeError(f"the estate was not read to its end: {harvest.problems[:3]} {list(sink.stale_scopes)[:3]}")
    return seconds, cpu, sink


async def alone(url: str) -> None:
    """The connectors without the inventory behind them."""
    totals: list[float] = []
    for turn in ("first look", "second look"):
        seconds, objects = 0.0, 0
        for connector in (bedrock.CONNECTOR, sagemaker.CONNECTOR):
            took, cpu, sink = await look(connector, url)
            seconds, objects = seconds + took, objects + len(sink.found)
            print(f"   {turn}, {connector.title}: {len(sink.found):,} objects in {took:.1f} s (CPU {cpu:.1f} s)")
        totals.append(seconds)
        print(f"   {turn}: {objects:,} objects in {seconds:.1f} s, {objects / seconds:,.0f} objects/s")
    print(f"   the second look, nothing changed: {totals[0] / totals[1]:.1f} times as fast")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    print(f"   most memory of this process, all that was found included: {peak:,.0f} MB")


async def discovered(session: aiohttp.ClientSession, base: str, source: str, url: str) -> tuple[float, dict[str, Any]]:
    """A run over the API, from the request to its end: seconds, and the run."""
    body = {"source": source, "options": {"regions": [REGION], "endpoint_url": url}}
    started = time.perf_counter()
    async with session.post(f"{base}/v1/discovery/runs", json=body) as response:
        if response.status != 202:
            raise RuntimeError(await response.text())
        run = await response.json()
    while run["finished_at"] is None:
        await asyncio.sleep(0.1)
        async with session.get(f"{base}/v1/discovery/runs/{run['run_id']}") as response:
            run = await response.json()
    if run["status"] != "succeeded":
        raise RuntimeError(f"{source}: {run['status']} {run['problems'][:3]}")
    return time.perf_counter() - started, run


async def whole(stack: Stack, url: str) -> None:
    """Runs of a running platform, everything taken in: assets, evidence, edges, events."""
    totals: list[float] = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {stack.key}"}) as session:
        for turn in ("first run", "second run, nothing changed"):
            total = 0.0
            for source in ("aws_bedrock", "aws_sagemaker"):
                seconds, run = await discovered(session, stack.url, source, url)
                total += seconds
                print(f"   {turn}, {source}: {seconds:.1f} s, {run['counts']}")
            totals.append(total)
    load.verdict("a run over 10,000 objects, taken in", totals[0], LIMIT_SECONDS, "s")
    load.verdict("times as fast when nothing changed", totals[0] / totals[1], 3, "", at_most=False)


def main() -> None:
    os.environ.update(ENVIRONMENT)
    with served() as url:
        asyncio.run(alone(url))
        with running(INVENTORY_DISCOVERY_ENDPOINT_URLS="true", **ENVIRONMENT) as stack:
            asyncio.run(whole(stack, url))


if __name__ == "__main__":
    main()
