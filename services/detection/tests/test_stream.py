"""The stream's other ways in, and what it remembers: NATS, trackers, inline sessions, content that leaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import nats
import nats.errors
import orjson
import prometheus_client
import pytest

from deploy.local.nats import Nats
from services.detection.domain.interaction import Interaction
from services.detection.stream.worker import STREAM_LAG
from services.detection.tests.conftest import caught_up, memory_of
from services.detection.tests.factories import ASSET, ATTACK, HARMLESS, a_rule, an_asset_registered, an_input
from services.detection.tests.otlp import PROTOBUF, chat, traces
from services.detection.tests.streams import administration, alerts, handled, interactions, on_a_stream, working
from services.detection.wire import IN_STREAM, STREAM, partition_of
from shared.contracts.detection import Direction
from shared.testing import Harness, TestServer, eventually


@pytest.fixture
async def streaming(postgres: TestServer, nats_server: Nats) -> AsyncIterator[Harness]:
    async with on_a_stream(postgres, nats_server) as detection:
        yield detection


# -- NATS --------------------------------------------------------------------------------------------------------------


async def publish(nats_server: Nats, subject: str, *bodies: Any) -> int:
    """As a program does that has the key of the user `telemetry`; how many were taken before one was refused."""
    seed = str(nats_server.seed_file("telemetry"))
    connection = await nats.connect(nats_server.url, nkeys_seed=seed, inbox_prefix=b"_INBOX_telemetry")
    try:
        for taken, body in enumerate(bodies):
            payload = body if isinstance(body, bytes) else orjson.dumps(body)
            answer = orjson.loads((await connection.request(subject, payload, timeout=5)).data)
            if "error" in answer:
                return taken
            assert answer["stream"] == IN_STREAM
        return len(bodies)
    finally:
        await connection.close()


async def test_a_program_publishes_for_its_team_and_no_other(streaming: Harness, nats_server: Nats) -> None:
    await streaming.deliver(an_asset_registered())
    long = an_input("x" * 90_000 + ATTACK, session_id="long")
    bodies = [
        an_input(ATTACK, session_id="own", asset_id=str(ASSET)),
        {"items": [an_input(ATTACK, session_id="first"), an_input(HARMLESS), long]},
    ]  # fmt: skip
    async with working(streaming):
        await publish(nats_server, "telemetry.in.shop", *bodies)
        # What another team owns is not there for this one.
        await publish(nats_server, "telemetry.in.other%20team", bodies[0], an_input(ATTACK, session_id="mine"))
        await handled(streaming)
    found = {
        alert.session_id: (alert.owner_team, alert.asset_id, alert.reported_by) for alert in await alerts(streaming)
    }
    assert found == {
        "own": ("shop", ASSET, "nats:shop"),
        "first": ("shop", None, "nats:shop"),
        "long": ("shop", None, "nats:shop"),
        "mine": ("other team", None, "nats:other team"),
    }


async def test_what_is_no_inspection_is_dropped_and_the_rest_goes_on(streaming: Harness, nats_server: Nats) -> None:
    bad = [b"\xff", b"[]", b"{}", b'{"direction": "input"}', b'{"items": [1, {"direction": "up"}]}', b"{" * 500,
           b'{"direction": "input", "content": "a\\u0000b"}']  # fmt: skip
    async with working(streaming):
        await publish(nats_server, "telemetry.in.shop", *bad, an_input(ATTACK, session_id="s"))
        await handled(streaming)
    assert [alert.session_id for alert in await alerts(streaming)] == ["s"]


async def test_an_asset_of_a_moment_ago_is_waited_for_and_unknown_ones_do_not_add_up(
    postgres: TestServer, nats_server: Nats
) -> None:
    async with on_a_stream(postgres, nats_server, asset_wait_seconds=4) as detection, working(detection):
        unknown = [an_input(ATTACK, session_id="unknown", asset_id=str(uuid4())) for _ in range(30)]
        early = an_input(ATTACK, session_id="early", asset_id=str(ASSET))
        await publish(nats_server, "telemetry.in.shop", early, *unknown)
        await detection.deliver(an_asset_registered())
        # One after another, the unknown ones would take two minutes.
        await handled(detection, 60)
        assert [(alert.session_id, alert.asset_id) for alert in await alerts(detection)] == [("early", ASSET)]


async def test_full_streams_are_worked_off(streaming: Harness, nats_server: Nats) -> None:
    async with administration(nats_server) as streams:
        for stream in (STREAM, IN_STREAM):
            config = (await streams.stream_info(stream)).config
            config.max_bytes, config.compression = 20_000, None
            await streams.update_stream(config)
        bodies = [an_input(f"{ATTACK} {os.urandom(500).hex()}", session_id=f"nats{number}") for number in range(100)]
        taken = await publish(nats_server, "telemetry.in.shop", *bodies)
        assert 10 < taken < 100
        told = 0
        while await tell(streaming, f"t/{told}", f"otlp{told}", f"{ATTACK} {os.urandom(500).hex()}") == 200:
            told += 1
        assert 10 < told < 100
        async with working(streaming):
            await handled(streaming)
        wanted = {f"nats{number}" for number in range(taken)} | {f"otlp{number}" for number in range(told)}
        assert {alert.session_id for alert in await alerts(streaming)} == wanted
        assert {alert.count for alert in await alerts(streaming)} == {1}


async def test_what_cannot_be_sorted_keeps_nothing_else_from_being_inspected(
    streaming: Harness, nats_server: Nats
) -> None:
    async def told() -> set[str | None]:
        return {alert.session_id for alert in await alerts(streaming)}

    async def inspected(*sessions: str) -> None:
        async def so() -> bool:
            return await told() == set(sessions)

        await eventually(so, 30)

    async with administration(nats_server) as streams, working(streaming):
        await publish(nats_server, "telemetry.in.shop", an_input(ATTACK, session_id="before"))
        await inspected("before")
        config = (await streams.stream_info(IN_STREAM)).config
        await streams.delete_stream(IN_STREAM)
        assert await tell(streaming, "t/1", "meanwhile", ATTACK) == 200
        await inspected("before", "meanwhile")
        await streams.add_stream(config)
        await publish(nats_server, "telemetry.in.shop", an_input(ATTACK, session_id="after"))
        await inspected("before", "meanwhile", "after")


async def test_the_user_of_programs_may_do_nothing_else(nats_server: Nats) -> None:
    seed = str(nats_server.seed_file("telemetry"))
    denied: list[str] = []

    async def on_error(error: Exception) -> None:
        denied.append(str(error))

    connection = await nats.connect(
        nats_server.url, nkeys_seed=seed, inbox_prefix=b"_INBOX_telemetry", error_cb=on_error
    )
    try:
        purges = [f"$JS.API.STREAM.PURGE.{stream}" for stream in (STREAM, IN_STREAM)]
        for subject in ("telemetry.detection.0", "ev.detection.alert.raised.v1", *purges):
            with pytest.raises(nats.errors.TimeoutError):
                await connection.request(subject, b"{}", timeout=0.3)
        await eventually(lambda: len(denied) == 4)
    finally:
        await connection.close()


# -- sessions ----------------------------------------------------------------------------------------------------------


async def tell(detection: Harness, name: str, session: str, said: str = HARMLESS) -> int:
    body = traces((name, chat(("user", said), session=session))).SerializeToString()
    return (await detection.client("ingest").post("/v1/traces", content=body, headers=PROTOBUF)).status_code


async def test_a_tracker_sees_a_session_whichever_way_it_comes_and_across_restarts(streaming: Harness) -> None:
    """The third call that is the same as those before it, and each after that, is worth a person."""
    detection = {"type": "tracker", "signal": "identical_calls", "threshold": 3}
    rule = a_rule(id="third_alike", detection=detection, scope={"directions": ["tool_call"]}, examples={})
    assert (await streaming.client().post("/v1/rules", json=rule)).status_code == 201
    await caught_up(streaming)
    client = streaming.client("ingest")
    call = {"direction": "tool_call", "session_id": "s", "tool": {"name": "search", "arguments": {"q": "hours"}}}

    async def told_as_a_span(name: str) -> None:
        said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "session.id": "s"}
        body = traces((name, said | {"gen_ai.tool.call.arguments": '{"q": "hours"}'})).SerializeToString()
        assert (await client.post("/v1/traces", content=body, headers=PROTOBUF)).status_code == 200

    async def asked() -> dict[str, Any]:
        answer: dict[str, Any] = (await client.post("/v1/inspections", json=call)).json()
        return answer

    async def are_known(number: int) -> None:
        async def so() -> bool:
            return await interactions(streaming) == {"s": number}

        await eventually(so)

    async with working(streaming) as worker:
        await eventually(lambda: len(worker.ownership.units) == 17)
        await eventually(lambda: memory_of(streaming).states.owns(Interaction(Direction.TOOL_CALL, (), session_id="s")))
        await told_as_a_span("a")
        await handled(streaming)
        assert (await asked())["verdict"] == "allow"
        # The third: in memory at once, so that it is in the answer.
        third = await asked()
        assert [one["rule_id"] for one in third["findings"]] == ["third_alike"]
        assert third["decision"] == "block"
        await are_known(3)
    # Another owner, and what it is told by a process that owns nothing: each counts on.
    assert (await asked())["verdict"] == "allow"
    sending = asyncio.create_task(memory_of(streaming).observations.run())
    try:
        await asked()
        async with working(streaming):
            await are_known(5)
            await told_as_a_span("b")
            await handled(streaming)
    finally:
        sending.cancel()
    assert [alert.count for alert in await alerts(streaming, rule_id="third_alike")] == [4]
    assert {alert.trace_id is not None for alert in await alerts(streaming)} == {True}


async def test_content_leaves_the_streams_when_it_is_handled(streaming: Harness, nats_server: Nats) -> None:
    async with working(streaming):
        assert await tell(streaming, "a", "s") == 200
        await handled(streaming)
        await publish(nats_server, "telemetry.in.shop", an_input(HARMLESS))
        await handled(streaming)
    for stream in (STREAM, IN_STREAM):
        info = await streaming.runtime.bus.jetstream(f"STREAM.INFO.{stream}")
        assert (info["state"]["last_seq"] > 0, info["state"]["bytes"]) == (True, 0)


async def test_who_reads_nothing_lags_behind_nothing(streaming: Harness) -> None:
    def lag() -> float | None:
        return prometheus_client.REGISTRY.get_sample_value("colonnade_detection_stream_lag_seconds")

    async with working(streaming) as worker:
        STREAM_LAG.set(99.0)
        await eventually(lambda: lag() == 0.0)
        await eventually(lambda: bool(worker.ownership.units))
        STREAM_LAG.set(99.0)
    assert lag() == 0.0


async def test_all_of_a_session_goes_to_one_partition_and_teams_are_kept_apart() -> None:
    one = Interaction("input", (), session_id="s", actor="ann", team="shop")  # type: ignore[arg-type]
    assert partition_of(one, "t1") == partition_of(replace(one, actor="bob"), "t2")
    spread = {partition_of(replace(one, session_id=None, actor=None), f"trace {n}") for n in range(200)}
    assert spread == set(range(16))
