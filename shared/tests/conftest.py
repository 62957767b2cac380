from collections.abc import AsyncIterator

import pytest

from shared.testing import Harness, TestServer, harness
from shared.tests.ledger import service as ledger_module
from shared.tests.ledger.service import LEDGER, LedgerSettings


@pytest.fixture
async def ledger(postgres: TestServer) -> AsyncIterator[Harness]:
    ledger_module.calls.clear()
    ledger_module.failures.clear()
    async with harness(LEDGER, LedgerSettings, postgres) as made:
        yield made
