"""Detection in this process on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.detection.main import SERVICE
from services.detection.settings import DetectionSettings
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def detection(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, DetectionSettings, postgres) as made:
        yield made
