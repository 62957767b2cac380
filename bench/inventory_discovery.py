"""Discovery over some 10,000 recorded cloud objects: seconds and objects a second of the connectors alone.

The platform is a server in a process of its own that answers as AWS's API descriptions say. What is measured is the
looking: the real SDK over a real socket, every page and every detail, mapped to claims and links; what is found goes to
a sink that only keeps it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time

from bench import load
from bench.clouds import ENVIRONMENT, served
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


async def run() -> None:
    totals: list[float] = []
    with served() as url:
        for turn in ("first run", "second run"):
            seconds, objects = 0.0, 0
            for connector in (bedrock.CONNECTOR, sagemaker.CONNECTOR):
                took, cpu, sink = await look(connector, url)
                seconds, objects = seconds + took, objects + len(sink.found)
                print(f"   {turn}, {connector.title}: {len(sink.found):,} objects in {took:.1f} s (CPU {cpu:.1f} s)")
            totals.append(seconds)
            print(f"   {turn}: {objects:,} objects in {seconds:.1f} s, {objects / seconds:,.0f} objects/s")
            load.verdict(f"{turn}: looking", seconds, LIMIT_SECONDS, "s")
    print(f"   the second run, nothing changed: {totals[0] / totals[1]:.1f} times as fast")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    print(f"   most memory of this process, all that was found included: {peak:,.0f} MB")


def main() -> None:
    os.environ.update(ENVIRONMENT)
    asyncio.run(run())


if __name__ == "__main__":
    main()
