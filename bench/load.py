"""Open-loop load: requests start at their intended times, whatever became of those before.

A closed loop waits for each answer and so hides what a user would have waited (coordinated omission); latency here
counts from the intended start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` 0.99 is p99."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def at_rate(rate: float, seconds: float, request: Callable[[int, float], Coroutine[Any, Any, None]]) -> None:
    """Call `request(n, intended_start)` `rate` times a second; intended_start is of time.perf_counter().

    Raises:
        ExceptionGroup: a request failed; the others were cancelled.
    """
    begin = time.perf_counter() + 0.2
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            intended = begin + number / rate
            delay = intended - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            group.create_task(request(number, intended))


def verdict(name: str, value: float, goal: float, unit: str, *, at_most: bool = True) -> bool:
    """Print a figure beside its goal; returns whether it is met."""
    met = value <= goal if at_most else value >= goal
    sign = "≤" if at_most else "≥"
    print(f"   {name:<58} {value:>10.1f} {unit:<10} goal {sign} {goal:g}  {'ok' if met else 'MISSED'}", flush=True)
    return met
