"""The inventory in this process, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def inventory(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres) as made:
        yield made
