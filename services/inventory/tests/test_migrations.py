"""The migrations make the tables that the code expects."""

from __future__ import annotations

import runpy
from pathlib import Path
from uuid import uuid4

import asyncpg

from services.inventory.tests.factories import NOW, an_asset
from shared import migrate
from shared.testing import TestServer

MIGRATIONS = Path(__file__).parents[1] / "migrations"


async def test_the_tables_in_code_are_those_of_the_migrations(postgres: TestServer) -> None:
    url = await postgres.database("inventory", MIGRATIONS)
    try:
        await migrate.check(MIGRATIONS, url)
    finally:
        await postgres.drop(url)


async def test_edges_of_before_keep_who_declared_them_and_since_when(postgres: TestServer) -> None:
    graph = runpy.run_path(str(MIGRATIONS / "versions" / "2026-11-28_0830_graph.py"))
    url = await postgres.database("inventory", MIGRATIONS)
    asset = an_asset(at=NOW)
    other, unknown = uuid4(), uuid4()
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("DROP TABLE dependency")
            await connection.execute(
                "CREATE TABLE dependency (downstream_id uuid, upstream_id uuid, declared_by uuid, "
                "PRIMARY KEY (downstream_id, upstream_id, declared_by))"
            )
            rows = [
                (asset.asset_id, other, asset.asset_id),
                (other, asset.asset_id, asset.asset_id),
                (unknown, other, unknown),
            ]
            await connection.executemany("INSERT INTO dependency VALUES ($1, $2, $3)", rows)
            await connection.execute(
                "INSERT INTO asset (asset_id, version, name, asset_type, description, owner_team, owner_email, "
                "data_classification, deployment_env, regulatory_scope, is_self_hosted, sbom_available, "
                "network_exposure, upstream_assets, downstream_assets, purpose, authorized_tools, integrity, sources, "
                "lifecycle, compliance_status, registered_date, registered_by, last_updated, duplicate_key) VALUES "
                "($1, 1, 'a', 'ai_agent', '', '', '', 'internal', 'production', '{}', false, false, 'vpc', '{}', '{}', "
                "'', '{}', '[]', '[]', 'active', 'unreviewed', $2, 'x', $2, 'k')",
                asset.asset_id,
                NOW,
            )
            for statement in graph["_DEPENDENCY"]:
                await connection.execute(statement)
        kept = await connection.fetch(
            "SELECT upstream_id, downstream_id, relation, source, valid_from = $1 AS then, valid_to FROM dependency",
            NOW,
        )
        assert {tuple(row) for row in kept} == {
            (other, asset.asset_id, "depends_on", "upstream_assets", True, None),
            (asset.asset_id, other, "depends_on", "downstream_assets", True, None),
            (other, unknown, "depends_on", "upstream_assets", False, None),
        }
    finally:
        await connection.close()
        await postgres.drop(url)
