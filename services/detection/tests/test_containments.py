"""Containments: who is blocked, for how long, and everywhere."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.detection.application import containments as application
from services.detection.tests.conftest import caught_up, client_of
from services.detection.tests.factories import ASSET, an_asset_registered, an_input
from shared.testing import Harness, eventually


def a_block(kind: str = "session", target: str = "s1", **fields: Any) -> dict[str, Any]:
    return {"target_kind": kind, "target": target, "reason": "incident 7", **fields}


def after(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


async def decision(client: httpx.AsyncClient, **fields: Any) -> str:
    return str((await client.post("/v1/inspections", json=an_input(**fields))).json()["decision"])


@pytest.mark.parametrize(
    ("kind", "target", "hit", "miss"),
    [
        ("session", "s1", {"session_id": "s1"}, {"session_id": "s2"}),
        ("actor", "mallory", {"actor": "mallory"}, {"actor": "alice"}),
        ("asset", str(ASSET), {"asset_id": str(ASSET)}, {"session_id": "s1"}),
    ],
)
async def test_what_is_blocked_is_refused_whatever_it_says(
    detection: Harness, kind: str, target: str, hit: dict[str, Any], miss: dict[str, Any]
) -> None:
    await detection.deliver(an_asset_registered())
    client = detection.client("responder")
    made = await client.post("/v1/containments", json=a_block(kind, target, expires_at=after(hours=1)))
    assert made.status_code == 201, made.text
    assert made.json()["in_force"] is True
    await caught_up(detection)
    found = (await client.post("/v1/inspections", json=an_input(**hit))).json()
    assert (found["verdict"], found["decision"]) == ("allow", "block")
    assert found["blocked"] == {
        "reason": "incident 7",
        "containment_id": made.json()["containment_id"],
        "target_kind": kind,
        "target": target,
    }
    assert await decision(client, **miss) == "allow"
    [event] = await detection.published("ev.detection.containment.applied.v1")
    assert (event.data["target_kind"], event.data["target"]) == (kind, target)
    assert (await client.get("/v1/alerts")).json()["items"] == [], "a block is no news"


async def test_a_block_holds_for_observed_assets_too(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    client = detection.client()
    await client.put(f"/v1/telemetry/assets/{ASSET}", json={"mode": "observe"}, headers={"If-Match": "*"})
    await client.post("/v1/containments", json=a_block())
    await caught_up(detection)
    assert await decision(client, session_id="s1", asset_id=str(ASSET)) == "block"


async def test_blocking_twice_is_blocking_once_until_the_later_time(detection: Harness) -> None:
    client = detection.client("responder")
    first = await client.post("/v1/containments", json=a_block(expires_at=after(hours=1)))
    same = await client.post("/v1/containments", json=a_block(expires_at=after(minutes=5)))
    longer = await client.post("/v1/containments", json=a_block(expires_at=after(hours=2)))
    for_good = await client.post("/v1/containments", json=a_block())
    assert [one.status_code for one in (first, same, longer, for_good)] == [201, 200, 200, 200]
    assert len({one.json()["containment_id"] for one in (first, same, longer, for_good)}) == 1
    assert same.json()["expires_at"] == first.json()["expires_at"]
    assert longer.json()["expires_at"] > first.json()["expires_at"]
    assert for_good.json()["expires_at"] is None
    assert len((await client.get("/v1/containments")).json()["items"]) == 1


@pytest.mark.parametrize("whose", [{}, {"team": "shop"}, {"team": ""}])
async def test_twenty_callers_at_once_make_one_block(detection: Harness, whose: dict[str, str]) -> None:
    client = detection.client("responder")
    made = await asyncio.gather(
        *(client.post("/v1/containments", json=a_block(expires_at=after(hours=1), **whose)) for _ in range(20))
    )
    assert {one.status_code for one in made} <= {200, 201}
    assert len({one.json()["containment_id"] for one in made}) == 1
    assert [one.status_code for one in made].count(201) == 1


async def test_a_block_expires_by_itself(detection: Harness) -> None:
    client = detection.client("responder")
    await client.post("/v1/containments", json=a_block(expires_at=after(seconds=0.5)))
    await caught_up(detection)
    assert await decision(client, session_id="s1") == "block"
    await asyncio.sleep(0.6)
    # At once, whether or not anybody has swept it up.
    assert await decision(client, session_id="s1") == "allow"
    async with detection.runtime.db.begin() as tx:
        await application.expire(tx, datetime.now(UTC))
    [one] = (await client.get("/v1/containments?in_force=false")).json()["items"]
    assert (one["in_force"], one["lifted_by"]) == (False, "service:detection")
    assert len(await detection.published("ev.detection.containment.lifted.v1")) == 1
    again = await client.post("/v1/containments", json=a_block())
    assert again.status_code == 201


async def test_a_block_is_lifted_once(detection: Harness) -> None:
    client = detection.client("responder")
    made = (await client.post("/v1/containments", json=a_block())).json()
    path = f"/v1/containments/{made['containment_id']}"
    assert (await client.get(path)).json()["in_force"] is True
    assert (await client.delete(path)).json()["in_force"] is False
    assert (await client.delete(path)).status_code == 409
    await caught_up(detection)
    assert await decision(client, session_id="s1") == "allow"
    assert (await client.get("/v1/containments/00000000-0000-0000-0000-000000000009")).status_code == 404


async def test_lists_filter_and_page(detection: Harness) -> None:
    client = detection.client("responder")
    for number in range(5):
        await client.post("/v1/containments", json=a_block(target=f"s{number}"))
    await client.post("/v1/containments", json=a_block("actor", "mallory"))
    first = (await client.get("/v1/containments?limit=4")).json()
    rest = (await client.get(f"/v1/containments?limit=4&cursor={first['next_cursor']}")).json()
    assert len(first["items"]) + len(rest["items"]) == 6
    assert rest["next_cursor"] is None
    assert len((await client.get("/v1/containments?target_kind=actor")).json()["items"]) == 1
    assert len((await client.get("/v1/containments?target=s3")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target_kind": "planet"}, "/target_kind"),
        ({"target": ""}, "/target"),
        ({"reason": ""}, "/reason"),
        ({"target_kind": "asset", "target": "not-an-id"}, "/target"),
        ({"target_kind": "asset", "target": str(ASSET), "team": "shop"}, "/team"),
        ({"team": "x" * 201}, "/team"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
        ({"surprise": 1}, "/surprise"),
    ],
)
async def test_bad_input_is_refused(detection: Harness, change: dict[str, Any], field: str) -> None:
    response = await detection.client("responder").post("/v1/containments", json=a_block() | change)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"] == field


async def test_teams_block_their_own_assets_only(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    shop, bank = detection.client("responder", teams=["shop"]), detection.client("responder", teams=["bank"])
    block = a_block("asset", str(ASSET))
    assert (await bank.post("/v1/containments", json=block)).status_code == 404
    made = await shop.post("/v1/containments", json=block)
    assert made.status_code == 201
    path = f"/v1/containments/{made.json()['containment_id']}"
    assert (await bank.get(path)).status_code == 404
    assert (await bank.delete(path)).status_code == 404
    assert (await bank.get("/v1/containments")).json()["items"] == []
    assert (await shop.delete(path)).status_code == 200
    assert (await detection.client("analyst").post("/v1/containments", json=block)).status_code == 403


@pytest.mark.parametrize("kind", ["session", "actor"])
async def test_a_team_s_block_holds_for_its_own_traffic_only(detection: Harness, kind: str) -> None:
    await detection.deliver(an_asset_registered())
    shop, bank, everyone = (detection.client(teams=["shop"]), detection.client(teams=["bank"]), detection.client())
    name = {"session": "session_id", "actor": "actor"}[kind]
    made = await shop.post("/v1/containments", json=a_block(kind))
    assert (made.status_code, made.json()["team"], made.json()["owner_team"]) == (201, "shop", "shop")
    assert (await bank.get(f"/v1/containments/{made.json()['containment_id']}")).status_code == 404
    await caught_up(detection)

    async def decisions() -> dict[str, str]:
        return {
            "shop's key": await decision(shop, **{name: "s1"}),
            "shop's asset": await decision(everyone, **{name: "s1"}, asset_id=str(ASSET)),
            "bank": await decision(bank, **{name: "s1"}),
            "no team": await decision(everyone, **{name: "s1"}),
        }

    held = {"shop's key": "block", "shop's asset": "block"}
    assert await decisions() == held | {"bank": "allow", "no team": "allow"}
    nobody_s = await everyone.post("/v1/containments", json=a_block(kind, team=""))
    assert nobody_s.json()["owner_team"] == ""
    await caught_up(detection)
    assert await decisions() == held | {"bank": "allow", "no team": "block"}
    all_of_it = await everyone.post("/v1/containments", json=a_block(kind))
    assert (all_of_it.status_code, all_of_it.json()["team"]) == (201, None)
    await caught_up(detection)
    assert set((await decisions()).values()) == {"block"}
    applied = await detection.published("ev.detection.containment.applied.v1")
    assert [(event.data["team"], event.data["owner_team"]) for event in applied] == [
        ("shop", "shop"),
        ("", ""),
        (None, ""),
    ]


@pytest.mark.parametrize(
    ("teams", "asked", "status"),
    [
        (["shop"], {"team": "shop"}, 201),
        (["shop"], {"team": "bank"}, 403),
        (["shop"], {"team": ""}, 403),
        (["shop", "bank"], {"team": "bank"}, 201),
        (["shop", "bank"], {}, 422),
        ([], {}, 403),
    ],
)
async def test_callers_bound_to_teams_block_in_these(
    detection: Harness, teams: list[str], asked: dict[str, str], status: int
) -> None:
    client = detection.client("responder", teams=teams)
    assert (await client.post("/v1/containments", json=a_block(**asked))).status_code == status


async def test_a_block_reaches_every_replica(detection: Harness, replica: Any) -> None:
    other = await replica()
    runtime = other.state.runtime
    jobs = [
        asyncio.create_task(runtime.signals.run()),
        asyncio.create_task(runtime.resources["live"].follow(runtime)),
    ]
    await asyncio.sleep(0.3)
    there = client_of(other, detection)
    assert await decision(there, session_id="s1") == "allow"
    await detection.client("responder").post("/v1/containments", json=a_block())

    async def blocked() -> bool:
        return await decision(there, session_id="s1") == "block"

    await eventually(blocked)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
