"""The command line, as the stack and an administrator use it: real processes on a real database."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from gateway import keys
from gateway.tests.conftest import Stand
from shared.testing import TestServer, eventually

ROOT = Path(__file__).resolve().parents[2]


async def command(stand: Stand, *arguments: str, url: str | None = None) -> tuple[int, str]:
    environment = os.environ | {
        "GATEWAY_DATABASE_URL": url or stand.database_url,
        "GATEWAY_TRUST_FILE": str(stand.settings["trust_file"]),
        "GATEWAY_SIGNING_KEY_FILE": str(stand.settings["signing_key_file"]),
        "GATEWAY_CURSOR_SECRET": "a secret of tests only",
        "GATEWAY_KEY_PEPPER": "a pepper of tests only",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_keys_are_made_listed_and_revoked_from_the_command_line(stand: Stand, postgres: TestServer) -> None:
    gateway = await stand.gateway()
    out = stand.folder / "admin.key"
    made = ["create-key", "--name", "admin", "--role", "admin", "--out", str(out)]
    assert await command(stand, *made) == (0, f"written to {out}\n")
    assert out.stat().st_mode & 0o777 == 0o600
    key = out.read_text().strip()
    key_id = keys.key_id(key)
    assert key_id
    me = (await gateway.get("/v1/access/me", key)).json()
    assert (me["roles"], me["teams"]) == (["admin"], None)

    code, output = await command(
        stand, "create-key", "--name", "x", "--role", "viewer", "--role", "ingest", "--team", "a"
    )
    assert code == 0
    other = output.strip()
    assert (await gateway.get("/v1/access/me", other)).json()["teams"] == ["a"]

    code, output = await command(stand, "list-keys")
    assert [json.loads(line)["name"] for line in output.splitlines()] == ["x", "admin"]
    assert key.split("_")[2] not in output

    assert (await command(stand, "revoke-key", key_id))[0] == 0

    async def gone() -> bool:
        return (await gateway.get("/v1/access/me", key)).status == 401

    await eventually(gone, 2)
    assert (await command(stand, "revoke-key", "nobody"))[0] == 1
    assert (await command(stand, "create-key", "--name", "x", "--role", "root"))[0] == 1
    assert (await command(stand, "create-key", "--name", "x", "--role", "viewer", "--expires-days", "-1"))[0] == 1

    code, output = await command(stand, "audit", "verify")
    assert (code, output.startswith("intact")) == (0, True)


async def test_migrate_makes_an_empty_database_ready_and_is_repeatable(stand: Stand, postgres: TestServer) -> None:
    name = f"empty_{os.getpid()}"
    await postgres._administer(f'CREATE DATABASE "{name}"')
    url = postgres.url_of(name)
    try:
        for _ in range(2):
            code, output = await command(stand, "migrate", url=url)
            assert (code, output) == (0, "gateway is at gateway_0002\n")
        assert (await command(stand, "migrate", "--check", url=url))[0] == 0
    finally:
        await postgres.drop(url)
