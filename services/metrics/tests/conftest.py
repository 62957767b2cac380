"""The metrics service on a database of its own, a test each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.metrics.main import SERVICE
from services.metrics.settings import MetricsSettings
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def metrics(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, MetricsSettings, postgres) as made:
        yield made
