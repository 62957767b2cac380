"""The inventory in this process, on a database of its own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def inventory(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres) as made:
        yield made


@pytest.fixture
def unused_tcp_port_here() -> int:
    """A port of this machine at which nothing answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
