from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.governance import jobs
from services.governance.main import SERVICE
from services.governance.settings import GovernanceSettings
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def governance(postgres: TestServer) -> AsyncIterator[Harness]:
    """The service on an empty database, with the shipped policies put up as drafts."""
    async with harness(SERVICE, GovernanceSettings, postgres, asset_wait_seconds=0) as made:
        await jobs.offer_shipped_policies(made.runtime)
        yield made
