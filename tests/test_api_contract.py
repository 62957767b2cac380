"""The API does what its OpenAPI document says: Schemathesis finds nothing, with all its checks, logged in.

`make contract` runs the same at length, with the coverage phase (18,000 requests); here a little fuzzing has to do.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import aiohttp

from deploy.local.throwaway import Stack

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = os.environ.get("EXAMPLES", "4")
PHASES = os.environ.get("PHASES", "examples,fuzzing")


def schemathesis(platform: Stack, key: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).parent / "st"),
        "--config-file",
        str(ROOT / "schemathesis.toml"),
        "run",
        f"{platform.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {key}",
        "--checks=all",
        f"--phases={PHASES}",
        f"--max-examples={EXAMPLES}",
        "--workers=2",
        "--request-timeout=20",
        "--generation-deterministic",
        "--continue-on-failure",
        "--no-color",
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1_800
    )


async def test_schemathesis_finds_nothing(platform: Stack, admin: aiohttp.ClientSession, tmp_path: Path) -> None:
    # A key of its own: among the examples is the revocation of keys.
    body = {"name": f"schemathesis {uuid.uuid4().hex[:6]}", "roles": ["admin"]}
    async with admin.post("/v1/access/keys", json=body) as response:
        assert response.status == 201, await response.text()
        key = (await response.json())["key"]
    done = await asyncio.to_thread(schemathesis, platform, key, tmp_path)
    found = done.stdout[done.stdout.find("= FAILURES =") :]
    assert done.returncode == 0, found[:8_000] + done.stderr[-2_000:]
