"""The PostgreSQL of the one-machine stack, and what its roles may do. pytest's folders are 0700: as root, this proves
that the server runs where the account it drops to cannot walk."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from deploy.local.credentials import Credentials
from deploy.local.databases import create_databases, service_database
from deploy.local.postgres import Postgres


def query(url: str, *statements: str) -> Any:
    """Run statements in order on one connection; returns the first value of the last."""

    async def work() -> Any:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(work())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as running:
        yield running


@pytest.fixture(scope="module")
def credentials(server: Postgres) -> Credentials:
    made = asyncio.run(create_databases(server.url, ["inventory", "risk"], server.credentials))
    assert made == ["inventory", "risk"]
    return server.credentials


def test_it_runs_without_rights_and_asks_for_a_password(server: Postgres) -> None:
    assert server.url.startswith("postgresql://postgres:")
    lines = (server.data / "postmaster.pid").read_text().splitlines()
    assert psutil.Process(int(lines[0])).uids().effective != 0
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(server.url.replace(server.credentials.text("postgres.password"), "guess"), "SELECT 1")
    assert (server.home / "secrets" / "postgres.password").stat().st_mode & 0o077 == 0


def test_a_durable_server_survives_the_kill_of_all_its_processes_and_a_reused_pid(tmp_path: Path) -> None:
    with Postgres(tmp_path) as first:
        assert query(first.url, "CREATE TABLE kept AS SELECT 7 AS n", "SELECT n FROM kept") == 7
        assert query(first.url, "SELECT current_setting('fsync') || current_setting('synchronous_commit')") == "onon"
        postmaster = psutil.Process(int((first.data / "postmaster.pid").read_text().splitlines()[0]))
        for process in [postmaster, *postmaster.children()]:
            process.send_signal(signal.SIGKILL)
        postmaster.wait(5)
        lock = first.data / "postmaster.pid"
        lock.write_text(lock.read_text().replace(str(postmaster.pid), str(os.getpid()), 1))
        with Postgres(tmp_path) as second:
            assert query(second.url, "SELECT n FROM kept") == 7


def test_a_server_left_over_from_a_killed_owner_is_ended_first(tmp_path: Path) -> None:
    orphan = Postgres(tmp_path, durable=False)
    orphan.start()
    try:
        with Postgres(tmp_path, durable=False) as second:
            assert query(second.url, "SELECT 1") == 1
    finally:
        orphan.stop()


def test_data_of_another_major_version_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("13\n")
    with pytest.raises(Exception, match=r"holds data of PostgreSQL 13, the installed server is 18"):
        Postgres(tmp_path).start()


def test_the_runtime_role_reads_and_writes_rows_and_nothing_else(server: Postgres, credentials: Credentials) -> None:
    database = service_database(server.url, "inventory", credentials)
    query(database.migration_url, "CREATE TABLE asset (id int GENERATED ALWAYS AS IDENTITY, name text)", "SELECT 1")
    app = database.runtime_url
    assert query(app, "INSERT INTO asset (name) VALUES ('a')", "SELECT name FROM asset") == "a"
    for refused in (
        "CREATE TABLE mine (n int)",
        "ALTER TABLE asset ADD COLUMN n int",
        "DROP TABLE asset",
        "TRUNCATE asset",
        "CREATE SCHEMA mine",
        "SET ROLE inventory_owner",
        "CREATE ROLE somebody",
        "COPY asset TO PROGRAM 'cat'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(app, refused, "SELECT 1")


@pytest.mark.parametrize("kind", ["runtime_url", "migration_url"])
def test_a_service_cannot_enter_another_services_database(
    server: Postgres, credentials: Credentials, kind: str
) -> None:
    url = getattr(service_database(server.url, "inventory", credentials), kind)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        query(url.removesuffix("/inventory") + "/risk", "SELECT 1")


def test_making_the_databases_again_changes_nothing_until_a_password_does(
    server: Postgres, credentials: Credentials
) -> None:
    assert asyncio.run(create_databases(server.url, ["inventory", "risk"], credentials)) == []
    (credentials.folder / "risk_app.password").unlink()
    assert asyncio.run(create_databases(server.url, ["inventory", "risk"], credentials)) == ["risk"]
    assert query(service_database(server.url, "risk", credentials).runtime_url, "SELECT 1") == 1


def test_a_role_that_may_only_create_databases_and_roles_suffices(server: Postgres, tmp_path: Path) -> None:
    query(server.url, "CREATE ROLE operator LOGIN PASSWORD 'o' CREATEDB CREATEROLE", "SELECT 1")
    url = server.url_of("postgres", "operator", "o")
    credentials = Credentials(tmp_path)
    assert asyncio.run(create_databases(url, ["metrics"], credentials)) == ["metrics"]
    database = service_database(url, "metrics", credentials)
    assert query(database.migration_url, "CREATE TABLE figure (n int)", "SELECT 1") == 1
    assert query(database.runtime_url, "INSERT INTO figure VALUES (1)", "SELECT n FROM figure") == 1


def test_a_database_of_somebody_else_is_not_taken_over(server: Postgres, tmp_path: Path) -> None:
    query(server.url, "CREATE DATABASE governance", "SELECT 1")
    with pytest.raises(Exception, match="'governance', which belongs to 'postgres'"):
        asyncio.run(create_databases(server.url, ["governance"], Credentials(tmp_path)))
