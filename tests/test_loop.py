"""The whole platform, as a stranger starts it: the loop closes, also when a part of it is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from deploy.local.demo import play
from deploy.local.home import Home
from deploy.local.throwaway import Stack
from shared.testing import eventually
from tests.collector import Collector

SERVICES = ("inventory", "risk", "detection", "incidents", "governance", "metrics", "gateway")


async def get(admin: aiohttp.ClientSession, path: str) -> Any:
    async with admin.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def colonnade(platform: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line on that platform's home."""
    environment = {**os.environ, "COLONNADE_HOME": str(platform.home), "COLONNADE_PORT": str(platform.port)}
    command = [sys.executable, "-m", "deploy.local", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


async def test_the_demo_closes_the_loop(platform: Stack) -> None:
    done = await asyncio.to_thread(colonnade, platform, "demo")
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-2_000:]
    assert "The loop closed." in done.stdout


@pytest.mark.parametrize("victim", [*SERVICES, "nats", "postgres"])
async def test_the_loop_closes_although_a_part_is_killed_meanwhile(platform: Stack, victim: str) -> None:
    """A story during which it is killed, and one that begins after that."""

    async def kill_soon() -> None:
        await asyncio.sleep(0.3)
        Home(platform.home).pids.running()[victim].send_signal(signal.SIGKILL)

    killing = asyncio.create_task(kill_soon())
    await play(platform.url, platform.key)
    await killing
    await play(platform.url, platform.key)


async def test_the_golden_scores_come_out_of_the_api(admin: aiohttp.ClientSession) -> None:
    asset = {
        "name": "golden agent",
        "asset_type": "ai_agent",
        "data_classification": "restricted",
        "network_exposure": "public",
        "deployment_env": "production",
        "model_provider": "openai",
        "regulatory_scope": ["gdpr"],
    }
    async with admin.post("/v1/risk/simulations", json={"asset": asset, "controls": []}) as response:
        bare = await response.json()
    assert (bare["inherent_risk_score"], bare["residual_risk_score"], bare["risk_level"]) == (71.25, 71.25, "HIGH")
    controls = [{"type": "input_filtering", "operational": True}, {"type": "monitoring", "operational": True}]
    async with admin.post("/v1/risk/simulations", json={"asset": asset, "controls": controls}) as response:
        guarded = await response.json()
    assert guarded["control_effectiveness"] == 0.25
    assert (guarded["residual_risk_score"], guarded["risk_level"]) == (53.44, "HIGH")


async def test_playbooks_rules_and_controls_are_listed(admin: aiohttp.ClientSession) -> None:
    playbooks = (await get(admin, "/v1/playbooks"))["items"]
    assert len({playbook["category"] for playbook in playbooks}) == 8
    assert all(playbook["num_steps"] >= 4 for playbook in playbooks)
    assert len((await get(admin, "/v1/rules?limit=200"))["items"]) >= 40
    assert len((await get(admin, "/v1/governance/controls?limit=200"))["items"]) >= 40


async def test_the_six_gap_lists_hold_what_was_made_for_them(admin: aiohttp.ClientSession) -> None:
    estate = {
        "no_security_review": {"owner_team": "gaps"},
        "missing_sbom": {"owner_team": "gaps", "is_self_hosted": True},
        "unclassified_data": {"owner_team": "gaps", "regulatory_scope": ["gdpr"]},
        "no_owner": {},
        "public_exposure_high_sensitivity": {
            "owner_team": "gaps",
            "network_exposure": "public",
            "data_classification": "restricted",
        },
        "stale_review": {"owner_team": "gaps", "last_security_review": "2026-01-05"},
    }
    made = {}
    for gap, fields in estate.items():
        body = {"name": f"gap {gap}", "asset_type": "training_dataset", **fields}
        async with admin.post("/v1/assets", json=body) as response:
            assert response.status == 201, await response.text()
            made[gap] = (await response.json())["asset_id"]
    gaps = await get(admin, "/v1/compliance-gaps")
    for gap, asset_id in made.items():
        listed = gaps[gap]["asset_ids"] if isinstance(gaps[gap], dict) else gaps[gap]
        assert asset_id in listed, gap


async def test_a_denied_digest_becomes_an_incident_for_each_asset_that_it_reaches(
    admin: aiohttp.ClientSession,
) -> None:
    async def register(**fields: Any) -> str:
        body = {"name": f"denied {os.urandom(4).hex()}", "deployment_env": "production", **fields}
        async with admin.post("/v1/assets", json=body) as response:
            assert response.status == 201, await response.text()
            return str((await response.json())["asset_id"])

    digest = os.urandom(32).hex()
    held = [{"path": "model.safetensors", "algorithm": "sha256", "digest": digest}]
    base = await register(asset_type="foundation_model", integrity=held)
    agent = await register(asset_type="ai_agent", upstream_assets=[base])
    denial = {"algorithm": "sha256", "digest": digest, "verdict": "denied", "reason": "a backdoor was found in it"}
    async with admin.post("/v1/artifact-digests", json=denial) as response:
        assert response.status == 201, await response.text()

    async def opened() -> bool:
        for asset_id in (base, agent):
            found = (await get(admin, f"/v1/incidents?asset_id={asset_id}"))["items"]
            if not any(item["category"] == "model_supply_chain_compromise" for item in found):
                return False
        return True

    await eventually(opened, 30)
    (alert,) = (await get(admin, f"/v1/alerts?asset_id={agent}"))["items"]
    assert alert["rule_id"] == "denied_model_artifact"
    (incident,) = (await get(admin, f"/v1/incidents?asset_id={base}"))["items"]
    steps = (await get(admin, f"/v1/incidents/{incident['incident_id']}"))["steps"]
    assert {step.get("automation_script") for step in steps} >= {"quarantine_asset"}

    async def contained() -> bool:
        return bool((await get(admin, f"/v1/assets/{base}"))["lifecycle"] == "quarantined")

    await eventually(contained, 30)


async def test_one_trace_runs_from_the_request_to_every_consumer(
    platform: Stack, admin: aiohttp.ClientSession, collector: Collector
) -> None:
    trace_id = os.urandom(16).hex()
    headers = {"traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01"}
    body = {"name": f"traced {trace_id}", "asset_type": "ai_agent", "model_name": trace_id}
    async with admin.post("/v1/assets", json=body, headers=headers) as response:
        assert response.status == 201

    def arrived() -> bool:
        return {"colonnade-inventory", "colonnade-risk"} <= set(collector.services_of(trace_id))

    await eventually(arrived, 60)


@pytest.mark.parametrize("service", ["risk", "metrics"])
async def test_tables_rebuilt_by_replay_are_identical(platform: Stack, service: str) -> None:
    done = await asyncio.to_thread(colonnade, platform, "replay", "--consumer", service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout
    assert "DIFFERS" not in done.stdout


async def test_the_audit_chains_verify(platform: Stack) -> None:
    done = await asyncio.to_thread(colonnade, platform, "audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("intact") >= 6


async def test_no_event_was_set_aside(platform: Stack) -> None:
    done = await asyncio.to_thread(colonnade, platform, "dlq", "list")
    assert done.returncode == 0
    assert '"kind":"event"' not in done.stdout


async def test_reads_go_on_while_the_broker_is_away_and_nothing_is_lost(
    platform: Stack, admin: aiohttp.ClientSession, stopped: Callable[[str], Any]
) -> None:
    async with stopped("nats"):
        async with admin.post("/v1/assets", json={"name": "while away", "asset_type": "ai_agent"}) as response:
            assert response.status == 201
            asset_id = (await response.json())["asset_id"]
        assert (await get(admin, f"/v1/assets/{asset_id}"))["risk_score"] is None

    async def scored() -> bool:
        return (await get(admin, f"/v1/assets/{asset_id}"))["risk_score"] is not None

    await eventually(scored, 30)


async def test_a_frozen_database_is_503_with_retry_after(
    admin: aiohttp.ClientSession, stopped: Callable[[str], Any]
) -> None:
    async with stopped("postgres"), admin.get("/v1/assets") as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert response.content_type == "application/problem+json"
    assert "items" in await get(admin, "/v1/assets")
