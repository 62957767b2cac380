"""One platform for all tests that need the whole of it."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest

from deploy.local.home import Home
from deploy.local.throwaway import Stack, running
from tests.collector import Collector


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="session")
def platform(collector: Collector) -> Iterator[Stack]:
    """The whole platform, as `make run` starts it, in a home that is thrown away."""
    with running(COLONNADE_LOG_LEVEL="WARNING", COLONNADE_OTLP_ENDPOINT=collector.url) as stack:
        yield stack


@pytest.fixture
async def admin(platform: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    """A session at the gateway with the administrator's key; its paths are relative."""
    headers = {"Authorization": f"Bearer {platform.key}"}
    async with aiohttp.ClientSession(platform.url, headers=headers) as session:
        yield session


@pytest.fixture
def stopped(platform: Stack) -> Callable[[str], AbstractAsyncContextManager[None]]:
    """Freezes a part for the length of a block: it holds its connections and answers nothing."""

    @asynccontextmanager
    async def freeze(part: str) -> AsyncIterator[None]:
        process = Home(platform.home).pids.running()[part]
        frozen = [process, *process.children(recursive=True)]
        for one in frozen:
            one.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for one in frozen:
                one.send_signal(signal.SIGCONT)

    return freeze
