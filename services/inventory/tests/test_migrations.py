"""The migrations make the tables that the code expects."""

from __future__ import annotations

from pathlib import Path

from shared import migrate
from shared.testing import TestServer

MIGRATIONS = Path(__file__).parents[1] / "migrations"


async def test_the_tables_in_code_are_those_of_the_migrations(postgres: TestServer) -> None:
    url = await postgres.database("inventory", MIGRATIONS)
    try:
        await migrate.check(MIGRATIONS, url)
    finally:
        await postgres.drop(url)
