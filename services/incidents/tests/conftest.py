"""One incidents service a test, on a database of its own; and other services as real servers on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.incidents.main import SERVICE
from services.incidents.settings import IncidentsSettings
from services.incidents.tests.peers import Neighbours
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def neighbours() -> AsyncIterator[Neighbours]:
    """Detection, inventory and gateway, as far as incidents calls them."""
    async with Neighbours() as running:
        yield running


@pytest.fixture
async def incidents(postgres: TestServer, neighbours: Neighbours) -> AsyncIterator[Harness]:
    async with harness(
        SERVICE, IncidentsSettings, postgres, service_urls=neighbours.urls, webhook_allow_loopback=True
    ) as service:
        neighbours.trust(service.runtime.settings.trust_file)
        yield service
        assert [letter.error for letter in await service.dead_letters()] == []
