"""The telemetry stream under kill -9, with several workers, and with spans told again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from deploy.local.nats import Nats
from services.detection.application.live import Live
from services.detection.application.sessions import SessionStates
from services.detection.application.tracking import Tracking, _profile_of
from services.detection.domain.interaction import Interaction
from services.detection.domain.rules import Metric
from services.detection.domain.sessions import Subject
from services.detection.store import activity, usage
from services.detection.tests.conftest import memory_of
from services.detection.tests.factories import ASSET, ATTACK, HARMLESS, an_asset_registered
from services.detection.tests.otlp import PROTOBUF, chat, in_batches
from services.detection.tests.streams import (
    WorkerProcess,
    alerts,
    another,
    handled,
    interactions,
    on_a_stream,
    working,
)
from shared.contracts.detection import Direction
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
        spans, attacks = conversations(sessions=40, turns=60, attack_every=10)
        bodies = in_batches(spans, 60)
        client = detection.client("ingest")
        # A tenth is sent again later, as exporters do that saw no answer.
        for body in [*bodies, *chance.sample(bodies, len(bodies) // 10)]:
            assert (await client.post("/v1/traces", content=body, headers=PROTOBUF)).status_code == 200
        log = tmp_path / "workers.log"
        running = [WorkerProcess(detection, log) for _ in range(2)]
        try:
            for share in (0.1, 0.4, 0.7):

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
        assert await interactions(detection) == dict.fromkeys(attacks, 60)
        found = await alerts(detection, rule_id=RULE)
        assert {alert.session_id: alert.count for alert in found} == attacks
        assert len(found) == len(attacks)


async def test_workers_share_the_units_and_take_over_from_one_that_ends(
    postgres: TestServer, nats_server: Nats
) -> None:
    async with on_a_stream(postgres, nats_server) as first, working(first) as one, another(first) as other:
        await eventually(lambda: len(one.ownership.units) == 17, 10)
        async with working(other) as two:
            await eventually(lambda: len(two.ownership.units) == 8 and len(one.ownership.units) == 9, 10)
            assert not one.ownership.units & two.ownership.units
        await eventually(lambda: len(one.ownership.units) == 17, 10)


@pytest.fixture
async def streaming(postgres: TestServer, nats_server: Nats):  # type: ignore[no-untyped-def]
    async with on_a_stream(postgres, nats_server) as detection, working(detection):
        yield detection


async def sums(*replicas: Live) -> dict[str, float]:
    """What all replicas together know of ASSET: tokens and requests of its hours and of its rates, calls and requests
    in its profile and its actor's sketch."""
    db = replicas[0].states._db
    for replica in replicas:
        await replica.share_once(everything=True)
    async with db.read() as tx:
        hours = await usage.recent(tx, "asset", [str(ASSET)], "hour", 0)
        used = [one for one, _ in hours[str(ASSET)].values()]
        subject = Subject("asset", str(ASSET))
        rates = (await activity.of(tx, [subject]))[subject].amounts
        profile = _profile_of((await usage.profiles(tx, "asset", [str(ASSET)]))[str(ASSET)])
    actor = f"{ASSET}@|ann"
    sketches = [one for replica in replicas if (one := replica.tracking._actors.get(actor)) is not None]
    return {
        "tokens": sum(one.tokens for one in used),
        "requests": sum(one.requests for one in used),
        "rated tokens": sum(amount for (metric, _), amount in rates.items() if metric is Metric.TOKENS_PER_MINUTE),
        "rated calls": sum(amount for (metric, _), amount in rates.items() if metric is Metric.TOOL_CALLS_PER_MINUTE),
        "profiled calls": sum(one.calls for one in profile.tools.values()),
        "sketched requests": sum(one.requests + sum(one.earlier.values()) for one in sketches),
    }


def turns_of_an_agent(number: int) -> list[tuple[str, dict[str, Any]]]:
    """Calls of a model, 5 tokens each, and of a tool, of one actor in a session a turn."""
    return [
        one
        for turn in range(number)
        for one in (
            (f"t{turn}/1", chat(("user", HARMLESS), **OF_ASSET, gen_ai__usage__input_tokens=5)),
            (f"t{turn}/2", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"} | _named(OF_ASSET)),
        )
    ]


OF_ASSET = {"colonnade__asset_id": str(ASSET), "user__id": "ann", "session__id": "s"}


def _named(given: dict[str, str]) -> dict[str, str]:
    return {name.replace("__", "."): value for name, value in given.items()}


async def test_a_span_told_again_counts_once(streaming: Harness) -> None:
    await streaming.deliver(an_asset_registered())
    client = streaming.client("ingest")
    spans = [("t/1", chat(("user", ATTACK), **OF_ASSET, gen_ai__usage__input_tokens=5)), *turns_of_an_agent(1)]
    [body] = in_batches(spans, 10)
    [twice] = in_batches([*spans, *spans, ("t/2", chat(("user", "Hello"), **OF_ASSET))], 10)
    for one in (body, twice, body):
        assert (await client.post("/v1/traces", content=one, headers=PROTOBUF)).status_code == 200
    await handled(streaming)
    [alert] = await alerts(streaming)
    assert (alert.count, alert.asset_id) == (1, ASSET)
    assert await interactions(streaming) == {"s": 4}
    assert await sums(memory_of(streaming)) == {
        "tokens": 10, "requests": 3, "rated tokens": 10, "rated calls": 1, "profiled calls": 1, "sketched requests": 3,
    }  # fmt: skip


async def test_what_was_read_and_not_stored_is_counted_once_by_whoever_takes_over(
    postgres: TestServer, nats_server: Nats
) -> None:
    async with on_a_stream(postgres, nats_server) as first, another(first) as other:
        await first.deliver(an_asset_registered())
        client = first.client("ingest")
        [before, after] = in_batches(turns_of_an_agent(10), 10)
        blocking = await first.runtime.db.connect_alone()

        async def is_being_stored() -> bool:
            return bool(
                await blocking.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
            )

        async with working(first):
            assert (await client.post("/v1/traces", content=before, headers=PROTOBUF)).status_code == 200
            await handled(first)
            # What comes next is inspected and cannot be stored, until the worker is gone.
            holding = blocking.transaction()
            await holding.start()
            await blocking.execute("LOCK TABLE stream_cursor IN EXCLUSIVE MODE")
            assert (await client.post("/v1/traces", content=after, headers=PROTOBUF)).status_code == 200
            await eventually(is_being_stored)
        await holding.rollback()
        await blocking.close()
        async with working(other):
            await handled(first)
        replicas = (memory_of(first), other.state.runtime.resources["live"])
        assert await sums(*replicas) == {
            "tokens": 50, "requests": 10, "rated tokens": 50, "rated calls": 10, "profiled calls": 10,
            "sketched requests": 10,
        }  # fmt: skip


async def test_a_session_stays_in_memory_until_it_is_saved_and_while_a_message_needs_it(
    postgres: TestServer, nats_server: Nats
) -> None:
    async with on_a_stream(postgres, nats_server) as detection:
        states = SessionStates(detection.runtime.db, Tracking(), capacity=1)
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
        # Somebody else's sessions are loaded while a message is in work: its own stay.
        states.saved()
        async with states.at_hand([three]):
            third = states.of(three)
            await states.load([one])
            assert states.of(three) is third is not None
        await states.load([two])
        assert states.of(three) is None
