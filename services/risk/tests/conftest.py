"""One risk service a test, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.risk.main import SERVICE
from services.risk.settings import RiskSettings
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def risk(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, RiskSettings, postgres) as service:
        yield service
        assert [letter.error for letter in await service.dead_letters()] == []
