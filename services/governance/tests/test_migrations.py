"""The migrations make the tables that the code expects."""

from __future__ import annotations

from services.governance.main import SERVICE
from shared import migrate
from shared.testing import TestServer


async def test_the_tables_in_code_are_those_of_the_migrations(postgres: TestServer) -> None:
    migrations = SERVICE.directory / "migrations"
    url = await postgres.database("governance", migrations)
    try:
        await migrate.check(migrations, url)
    finally:
        await postgres.drop(url)
