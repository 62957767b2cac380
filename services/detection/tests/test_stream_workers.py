"""The telemetry stream under kill -9, with several workers, and with spans told again."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from deploy.local.nats import Nats
from services.detection.domain.interaction import Interaction
from services.detection.stream.publisher import Publisher
from services.detection.stream.sessions import SessionStates
from services.detection.stream.worker import StreamWorker
from services.detection.tests.factories import ATTACK, HARMLESS
from services.detection.tests.otlp import PROTOBUF, chat, in_batches
from services.detection.tests.streams import (
    WorkerProcess,
    alerts,
    handled,
    interactions,
    on_a_stream,
    working,
)
from shared.contracts.detection import Direction
from shared.leader import end
from shared.testing import Harness, TestServer, eventually

RULE = "injection_keyword_match"


def conversations(
    sessions: int, turns: int, attack_every: int
) -> tuple[list[tuple[str, dict[str, str]]], dict[str, int]]:
    """Spans of many sessions mixed with one another, each session's in order; and how many attacks each has."""
    rounds = []
    for turn in range(turns):
        for number in random.Random(turn).sample(range(sessions), sessions):
            said = f"{ATTACK} Ticket {turn}." if turn % attack_every == 0 else f"{HARMLESS} Visit {turn}."
            rounds.append((f"s{number}-{turn}", chat(("user", said), session=f"s{number}")))
    return rounds, {f"s{number}": -(-turns // attack_every) for number in range(sessions)}


@pytest.mark.parametrize("seed", [1])
async def test_kill_9_of_workers_loses_nothing_doubles_nothing_and_sessions_go_on(
    postgres: TestServer, nats_server: Nats, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with on_a_stream(postgres, nats_server) as detection:
        spans, attacks = conversations(sessions=40, turns=120, attack_every=10)
        bodies = in_batches(spans, 60)
        client = detection.client("ingest")
        # A tenth is sent again later, as exporters do that saw no answer.
        for body in [*bodies, *chance.sample(bodies, len(bodies) // 10)]:
            assert (await client.post("/v1/traces", content=body, headers=PROTOBUF)).status_code == 200
        log = tmp_path / "workers.log"
        running = [WorkerProcess(detection, log) for _ in range(2)]
        try:
            for share in (0.05, 0.3, 0.55, 0.8):

                async def far_enough(share: float = share) -> bool:
                    return sum((await interactions(detection)).values()) >= share * len(spans)

                await eventually(far_enough, 90)
                victim = chance.randrange(2)
                running[victim].kill()
                running[victim] = WorkerProcess(detection, log)
            await handled(detection, 90)
        finally:
            for worker in running:
                worker.kill()
        assert "duty_failed" not in log.read_text()
        assert await interactions(detection) == dict.fromkeys(attacks, 120)
        found = await alerts(detection, rule_id=RULE)
        assert {alert.session_id: alert.count for alert in found} == attacks
        assert len(found) == len(attacks)


async def test_workers_share_the_units_and_take_over_from_one_that_ends(
    postgres: TestServer, nats_server: Nats
) -> None:
    async with on_a_stream(postgres, nats_server) as first, working(first) as one:
        await eventually(lambda: len(one.ownership.units) == 17, 10)
        two = StreamWorker(first.runtime, first.runtime.resources["live"], Publisher(first.runtime.bus))
        second = asyncio.create_task(two.run())
        await eventually(lambda: len(two.ownership.units) == 8 and len(one.ownership.units) == 9, 10)
        assert not one.ownership.units & two.ownership.units
        await end(second)
        await eventually(lambda: len(one.ownership.units) == 17, 10)


@pytest.fixture
async def streaming(postgres: TestServer, nats_server: Nats):  # type: ignore[no-untyped-def]
    async with on_a_stream(postgres, nats_server) as detection, working(detection):
        yield detection


async def test_a_span_told_again_counts_once(streaming: Harness) -> None:
    client = streaming.client("ingest")
    spans = [("t/1", chat(("user", ATTACK), session="s", gen_ai__usage__input_tokens=5))]
    [body] = in_batches(spans, 10)
    [twice] = in_batches([*spans, *spans, ("t/2", chat(("user", "Hello"), session="s"))], 10)
    for one in (body, twice, body):
        assert (await client.post("/v1/traces", content=one, headers=PROTOBUF)).status_code == 200
    await handled(streaming)
    [alert] = await alerts(streaming)
    assert alert.count == 1
    assert await interactions(streaming) == {"s": 2}


async def test_a_session_stays_in_memory_until_it_is_saved_and_while_a_message_needs_it(
    postgres: TestServer, nats_server: Nats
) -> None:
    async with on_a_stream(postgres, nats_server) as detection:
        states = SessionStates(detection.runtime.db, None, capacity=1)
        states.own(range(16))
        one, two, three = (Interaction(Direction.INPUT, (), session_id=name) for name in "abc")
        await states.load([one, two])
        first, second = states.of(one), states.of(two)
        assert first is not None and second is not None
        for state, interaction in ((first, one), (second, two)):
            state.interactions += 1
            states.changed(interaction)
        assert {stored.interactions for stored in states.take_changed()} == {1}
        # The transaction runs; meanwhile others come in, and one that is being saved changes again.
        await states.load([one, three])
        assert states.of(one) is first and states.of(two) is second
        states.changed(two)
        states.saved()
        assert states.of(two) is second
        assert states.of(one) is None
        assert len(states.take_changed()) == 1
