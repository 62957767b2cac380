"""Usage, budgets, canaries and profiles in the database: shared by replicas, judged once, and there after a restart."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from services.detection.application.tracking import PROFILES_AT_ONCE, Tracking, _profile_of
from services.detection.domain.detector import Inspected
from services.detection.domain.interaction import Interaction, Segment
from services.detection.domain.trackers import Session
from services.detection.domain.trackers import usage as domain
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.trackers.usage import Used
from services.detection.store import usage
from services.detection.store.tables import usage_amount_table
from services.detection.tests.conftest import client_of, memory_of
from services.detection.tests.factories import ASSET, HARMLESS, an_asset_registered, an_input
from shared.contracts.detection import Direction
from shared.testing import Harness, eventually

BUDGETS = f"/v1/telemetry/assets/{ASSET}/budgets"
CANARIES = f"/v1/telemetry/assets/{ASSET}/canaries"
NEW = {"If-Match": '"0"'}


def a_costly_one(cost: float, **fields: Any) -> dict[str, Any]:
    return an_input(asset_id=str(ASSET), usage={"input_tokens": 1_000, "cost_usd": cost}, **fields)


async def alerts_of(detection: Harness, kind: str = "cost_abuse") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await detection.client().get("/v1/alerts", params={"kind": kind})).json()["items"]
    return sorted(items, key=lambda one: str(one["alert_id"]))


async def test_each_share_of_a_budget_is_announced_once(detection: Harness, replica: Any) -> None:
    await detection.deliver(an_asset_registered())
    client = detection.client()
    budgets = [{"period": "day", "amount": "cost_usd", "limit": 9.0}]
    made = await client.put(BUDGETS, json={"budgets": budgets}, headers=NEW)
    assert made.status_code == 200, made.text
    other = await replica()
    there = client_of(other, detection)
    seen = []
    for cost in (7.0, 0.3, 0.1, 0.3, 0.9, 0.5, 1.0):
        # In turns, so that only the sum of both replicas crosses anything.
        for one, live in ((client, memory_of(detection)), (there, other.state.runtime.resources["live"])):
            assert (await one.post("/v1/inspections", json=a_costly_one(cost / 2))).status_code == 200
            await live.share_once()
        seen.append([alert["rule_id"] for alert in await alerts_of(detection)])
    assert seen[-1] == ["budget_80_percent", "budget_85_percent", "budget_95_percent", "budget_100_percent"]
    assert [len(one) for one in seen] == [0, 1, 1, 2, 3, 4, 4]
    alerts = await alerts_of(detection)
    assert [one["severity"] for one in alerts] == ["low", "medium", "high", "critical"]
    assert {one["count"] for one in alerts} == {1}
    view = (await client.get(BUDGETS)).json()
    assert view["version"] == 1
    assert view["budgets"][0]["used"] == pytest.approx(10.1)
    assert view["budgets"][0]["percent"] == pytest.approx(112.22)
    # With another limit they can be crossed again: at once, and the gravest speaks for all.
    budgets[0]["limit"] = 10.5
    await client.put(BUDGETS, json={"budgets": budgets}, headers={"If-Match": '"1"'})
    await client.post("/v1/inspections", json=a_costly_one(0.01))
    await memory_of(detection).share_once()
    assert {one["rule_id"]: one["count"] for one in await alerts_of(detection)}["budget_95_percent"] == 2


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (BUDGETS, {"budgets": [{"period": "year", "amount": "tokens", "limit": 1}]}, "/budgets/0/period"),
        (BUDGETS, {"budgets": [{"period": "day", "amount": "tokens", "limit": 0}]}, "/budgets/0/limit"),
        (BUDGETS, {"budgets": [{"period": "day", "amount": "requests", "limit": 1}]}, "/budgets/0/amount"),
        (BUDGETS, {"budgets": [{"period": "day", "amount": "tokens", "limit": 1}] * 2}, "/budgets"),
        (BUDGETS, {"budgets": [{"period": "day", "amount": "tokens", "limit": float("1e16")}]}, "/budgets/0/limit"),
        (CANARIES, {"canaries": ["short"]}, "/canaries"),
        (CANARIES, {"canaries": ["long-enough-0001"] * 21}, "/canaries"),
    ],
)
async def test_what_makes_no_sense_is_refused(detection: Harness, path: str, body: Any, field: str) -> None:
    await detection.deliver(an_asset_registered())
    refused = await detection.client().put(path, json=body, headers=NEW)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == field


async def test_limits_of_unknown_assets_and_old_versions_are_refused(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    client = detection.client()
    for path, body in ((BUDGETS, {"budgets": []}), (CANARIES, {"canaries": ["long-enough-0001"]})):
        unknown = path.replace(str(ASSET), str(UUID(int=1)))
        assert (await client.get(unknown)).status_code == 404
        assert (await client.put(unknown, json=body, headers=NEW)).status_code == 404
        assert (await client.put(path, json=body, headers={"If-Match": '"3"'})).status_code == 412
        assert (await client.put(path, json=body, headers=NEW)).json()["version"] == 1


async def test_canaries_are_kept_as_hashes_and_reach_the_tracker(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    client = detection.client()
    made = await client.put(CANARIES, json={"canaries": ["zk-quokka-7f3a-91"]}, headers=NEW)
    assert made.json() == {"asset_id": str(ASSET), "version": 1, "canaries": 1}
    async with detection.runtime.db.read() as tx:
        rows = await tx.execute(sa.text("SELECT marks::text FROM asset_canary"))
        assert "quokka" not in str(rows.all())
    memory = memory_of(detection)
    memory._assets.clear()
    watched, _ = await memory.asset(ASSET)
    assert watched is not None
    tracking = memory.tracking
    said = Interaction(Direction.OUTPUT, (Segment("/content", Direction.OUTPUT, "ZK quokka 7f3a 91"),), ASSET)
    found = tracking.observe(
        Session(),
        said,
        Inspected((), {}),
        detector=memory.detector,
        asset=watched.asset,
        now=datetime.now(UTC),
    )
    assert [one.rule_id for one in found] == ["canary_in_output"]


async def test_a_burst_on_two_replicas_raises_one_alert(detection: Harness, replica: Any) -> None:
    await detection.deliver(an_asset_registered())
    now = domain.hour_of(time.time())
    past = {("asset", str(ASSET), "hour", now - at): Used(1e5, 1.0, 30.0) for at in range(1, 15 * 24)}
    async with detection.runtime.db.begin() as tx:
        await usage.add(tx, past)
    other = await replica()
    there = client_of(other, detection)
    for _ in range(3):
        for one, live in (
            (detection.client(), memory_of(detection)),
            (there, other.state.runtime.resources["live"]),
        ):
            await one.post("/v1/inspections", json=a_costly_one(9.0, actor="stolen key", session_id="any"))
            await live.share_once()
    [alert] = await alerts_of(detection)
    assert (alert["rule_id"], alert["actor"], alert["count"]) == ("actor_cost_above_whole_asset", "stolen key", 1)
    assert alert["asset_id"] == str(ASSET)
    assert alert["owner_team"] == "shop"
    async with detection.runtime.db.read() as tx:
        recent = await usage.recent(tx, "asset", [str(ASSET)], "hour", now)
    [(_, (used, alerted))] = recent[str(ASSET)].items()
    assert (used.cost_usd, alerted) == (54.0, True)


async def test_what_was_learned_survives_a_restart(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    memory = memory_of(detection)
    watched, _ = await memory.asset(ASSET)
    assert watched is not None
    now = datetime.now(UTC)
    for day in range(5):
        for _ in range(60):
            call = Interaction(Direction.TOOL_CALL, (), ASSET, "s", "agent", "make_chart")
            asked = Interaction(Direction.INPUT, (Segment("/content", Direction.INPUT, HARMLESS),), ASSET, "s", "agent")
            for one in (call, asked):
                memory.tracking.observe(
                    Session(), one, Inspected((), {}), detector=memory.detector, asset=watched.asset,
                    now=now - timedelta(days=5 - day),
                )  # fmt: skip
        await memory.share_once(everything=True)
    restarted = Tracking()
    found = []
    for tool in ("make_chart", "drop_table"):
        for _ in range(2):
            call = Interaction(Direction.TOOL_CALL, (), ASSET, "t", "agent", tool)
            found = [
                one.rule_id
                for one in restarted.observe(
                    Session(), call, Inspected((), {}), detector=memory.detector, asset=watched.asset, now=now
                )
            ]
            await restarted.share(detection.runtime.db, memory.detector, now, timedelta(hours=1), everything=True)
        assert found == ([] if tool == "make_chart" else ["tool_not_seen_before"])
    [sketch] = restarted._actors.values()
    assert (sketch.requests, sum(sketch.earlier.values())) == (0, 0), "a call is no request"
    [known] = memory.tracking._actors.values()
    assert known.requests + sum(known.earlier.values()) == 300


async def test_usage_that_could_not_be_shared_is_not_lost(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    tracking = memory_of(detection).tracking
    await detection.client().post("/v1/inspections", json=a_costly_one(2.0, actor="a"))
    before = dict(tracking._used)
    assert before

    class Away:
        def begin(self) -> Any:
            raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        await tracking.share(Away(), memory_of(detection).detector, datetime.now(UTC), timedelta(hours=1))  # type: ignore[arg-type]  # a database that is away
    assert tracking._used == before


async def test_much_is_caught_up_on_in_pieces_so_that_one_that_waits_holds_up_no_other(detection: Harness) -> None:
    memory = memory_of(detection)
    tracking = memory.tracking
    assets = [f"asset {number:03}" for number in range(3 * PROFILES_AT_ONCE)]
    for name in assets:
        tracking._learned.setdefault(name, Profile()).called("search", 0.0, 10, (), ())
    # Somebody is at the last of them; the transaction that comes to it waits, and those before it are done.
    blocking = await detection.runtime.db.connect_alone()
    holding = blocking.transaction()
    await holding.start()
    await blocking.execute(
        "INSERT INTO learned_profile (kind, subject_key, state, updated_at) VALUES ('asset', $1, '', now())", assets[-1]
    )
    sharing = asyncio.create_task(memory.share_once(everything=True))

    async def are_shared() -> bool:
        async with detection.runtime.db.read() as tx:
            return len(await usage.profiles(tx, "asset", assets)) == 2 * PROFILES_AT_ONCE

    await eventually(are_shared)
    await holding.rollback()
    await sharing
    await blocking.close()
    async with detection.runtime.db.read() as tx:
        states = await usage.profiles(tx, "asset", assets)
    assert {sum(use.calls for use in _profile_of(state).tools.values()) for state in states.values()} == {1}
    assert len(states) == len(assets)
    assert tracking._learned == {}


async def test_old_usage_is_forgotten(detection: Harness) -> None:
    now = time.time()
    hour = domain.hour_of(now)
    places = {
        ("asset", str(ASSET), "hour", hour - 24): Used(1.0),
        ("asset", str(ASSET), "hour", hour - 43 * 24): Used(1.0),
        ("actor", "a", "hour", hour - 1): Used(1.0),
        ("actor", "a", "hour", hour - 9): Used(1.0),
        ("actor", "a", "day", hour // 24 - 30): Used(1.0),
        ("actor", "a", "day", hour // 24 - 40): Used(1.0),
    }
    async with detection.runtime.db.begin() as tx:
        await usage.add(tx, places)
        await usage.forget(tx, now)
        assert await tx.scalar(sa.select(sa.func.count()).select_from(usage_amount_table)) == 3
