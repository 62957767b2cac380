"""The stream's other ways in, and what it remembers: NATS, trackers, inline sessions, content that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import nats
import nats.errors
import orjson
import pytest

from deploy.local.nats import Nats
from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector, Inspected
from services.detection.domain.interaction import Interaction
from services.detection.domain.rules import Response
from services.detection.domain.verdict import Evidence, Finding
from services.detection.stream.wire import partition_of
from services.detection.tests.conftest import memory_of
from services.detection.tests.factories import ASSET, ATTACK, HARMLESS, an_asset_registered, an_input
from services.detection.tests.otlp import PROTOBUF, chat, traces
from services.detection.tests.streams import alerts, handled, interactions, on_a_stream, working
from shared.contracts.detection import FindingKind, Severity
from shared.contracts.incidents import IncidentCategory
from shared.testing import Harness, TestServer, eventually


@pytest.fixture
async def streaming(postgres: TestServer, nats_server: Nats) -> AsyncIterator[Harness]:
    async with on_a_stream(postgres, nats_server) as detection:
        yield detection


# -- NATS --------------------------------------------------------------------------------------------------------------


async def publish(nats_server: Nats, subject: str, *bodies: Any) -> None:
    """As a program does that has the key of the user `telemetry`."""
    seed = str(nats_server.seed_file("telemetry"))
    connection = await nats.connect(nats_server.url, nkeys_seed=seed, inbox_prefix=b"_INBOX_telemetry")
    try:
        for body in bodies:
            payload = body if isinstance(body, bytes) else orjson.dumps(body)
            answer = await connection.request(subject, payload, timeout=5)
            assert orjson.loads(answer.data)["stream"] == "TELEMETRY"
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


async def test_the_user_of_programs_may_do_nothing_else(nats_server: Nats) -> None:
    seed = str(nats_server.seed_file("telemetry"))
    denied: list[str] = []

    async def on_error(error: Exception) -> None:
        denied.append(str(error))

    connection = await nats.connect(
        nats_server.url, nkeys_seed=seed, inbox_prefix=b"_INBOX_telemetry", error_cb=on_error
    )
    try:
        for subject in ("telemetry.detection.0", "$JS.API.STREAM.PURGE.TELEMETRY", "ev.detection.alert.raised.v1"):
            with pytest.raises(nats.errors.TimeoutError):
                await connection.request(subject, b"{}", timeout=0.3)
        await eventually(lambda: len(denied) == 3)
    finally:
        await connection.close()


# -- sessions ----------------------------------------------------------------------------------------------------------


class Counting:
    """A tracker that finds every third interaction of a session worth a person."""

    def open(self, state: bytes) -> list[int]:
        return [int(state or b"0")]

    def observe(
        self,
        tracked: list[int],
        interaction: Interaction,
        inspected: Inspected,
        *,
        detector: Detector,
        asset: Asset | None,
        now: datetime,
    ) -> Sequence[Finding]:
        tracked[0] += 1
        if tracked[0] % 3:
            return ()
        evidence = Evidence(interaction.segments[0].field, 0, 0, f"interaction {tracked[0]}")
        return (
            Finding("third_of_a_session", 1, "Every third", FindingKind.ANOMALY, IncidentCategory.JAILBREAK_BYPASS,
                    Severity.HIGH, 0.8, Response.BLOCK, evidence),
        )  # fmt: skip

    def close(self, tracked: list[int]) -> bytes:
        return str(tracked[0]).encode()


async def tell(detection: Harness, name: str, session: str) -> None:
    body = traces((name, chat(("user", HARMLESS), session=session))).SerializeToString()
    answer = await detection.client("ingest").post("/v1/traces", content=body, headers=PROTOBUF)
    assert answer.status_code == 200


async def test_a_tracker_sees_a_session_whichever_way_it_comes_and_across_restarts(streaming: Harness) -> None:
    memory_of(streaming).states.tracker = Counting()
    client = streaming.client("ingest")
    asked = an_input(HARMLESS, session_id="s")
    async with working(streaming) as worker:
        await eventually(lambda: len(worker.ownership.units) == 17)
        await eventually(lambda: memory_of(streaming).states.owns(Interaction(asked["direction"], (), session_id="s")))
        await tell(streaming, "a", "s")
        await handled(streaming)
        first = (await client.post("/v1/inspections", json=asked)).json()
        assert first["verdict"] == "allow"
        # The third: in memory at once, so that it is in the answer.
        second = (await client.post("/v1/inspections", json=asked)).json()
        assert [one["rule_id"] for one in second["findings"]] == ["third_of_a_session"]
        assert second["decision"] == "block"

        async def saved() -> bool:
            return await interactions(streaming) == {"s": 3}

        await eventually(saved)
    # Another owner, and what it is told by a process that owns nothing: each counts on.
    answer = (await client.post("/v1/inspections", json=asked)).json()
    assert answer["verdict"] == "allow"
    sending = asyncio.create_task(memory_of(streaming).observations.run())
    try:
        await client.post("/v1/inspections", json=asked)
        async with working(streaming):

            async def told() -> bool:
                return await interactions(streaming) == {"s": 5}

            await eventually(told)
            await tell(streaming, "b", "s")
            await handled(streaming)
    finally:
        sending.cancel()
    assert [alert.count for alert in await alerts(streaming, rule_id="third_of_a_session")] == [2]
    assert {alert.trace_id is not None for alert in await alerts(streaming)} == {True}


async def test_content_leaves_the_stream_when_it_is_handled(streaming: Harness) -> None:
    async with working(streaming):
        await tell(streaming, "a", "s")
        await handled(streaming)
    info = await streaming.runtime.bus.jetstream("STREAM.INFO.TELEMETRY")
    assert info["state"]["bytes"] == 0


async def test_all_of_a_session_goes_to_one_partition_and_teams_are_kept_apart() -> None:
    one = Interaction("input", (), session_id="s", actor="ann", team="shop")  # type: ignore[arg-type]
    assert partition_of(one, "t1") == partition_of(replace(one, actor="bob"), "t2")
    spread = {partition_of(replace(one, session_id=None, actor=None), f"trace {n}") for n in range(200)}
    assert spread == set(range(16))
