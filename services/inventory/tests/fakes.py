"""What fakes of platforms have in common: a real server on a real socket, and the ways in which platforms fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Fault = Callable[[int], web.StreamResponse | None]
"""What a call is answered instead, by how often it was made (from 0); None answers as usual."""


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The application on a port of this machine; its address."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@dataclass
class Faults:
    """Calls that fail, by name, and how often each call was made."""

    planned: dict[str, Fault] = field(default_factory=dict)
    hung: set[str] = field(default_factory=set)
    made: dict[str, int] = field(default_factory=dict)

    async def of(self, call: str) -> web.StreamResponse | None:
        number = self.made.get(call, 0)
        self.made[call] = number + 1
        if call in self.hung:
            await asyncio.sleep(3_600)
        fault = self.planned.get(call)
        return fault(number) if fault else None


def always(make: Callable[[], web.StreamResponse]) -> Fault:
    return lambda _: make()


def first(times: int, make: Callable[[], web.StreamResponse]) -> Fault:
    """Fails that often, then no more."""
    return lambda number: make() if number < times else None


def after(times: int, make: Callable[[], web.StreamResponse]) -> Fault:
    """Works that often, then fails: half of the pages."""
    return lambda number: make() if number >= times else None


def text(body: str, status: int = 200) -> Callable[[], web.StreamResponse]:
    return lambda: web.Response(text=body, status=status, content_type="application/json")
