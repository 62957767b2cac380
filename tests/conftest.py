"""One platform for all tests that need the whole of it."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from deploy.local.throwaway import Stack, running


@pytest.fixture(scope="session")
def platform() -> Iterator[Stack]:
    """The whole platform, as `make run` starts it, in a home that is thrown away."""
    with running(COLONNADE_LOG_LEVEL="WARNING") as stack:
        yield stack


@pytest.fixture
async def admin(platform: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    """A session at the gateway with the administrator's key; its paths are relative."""
    headers = {"Authorization": f"Bearer {platform.key}"}
    async with aiohttp.ClientSession(platform.url, headers=headers) as session:
        yield session
