"""The schema in code is the schema that migrations make."""

from __future__ import annotations

from services.risk.main import SERVICE
from shared import migrate
from shared.testing import Harness


async def test_migrations_make_the_tables_in_code(risk: Harness) -> None:
    await migrate.check(SERVICE.directory / "migrations", risk.runtime.settings.database_url.get_secret_value())
