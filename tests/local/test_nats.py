"""The NATS of the one-machine stack: nothing acknowledged is lost, and a service speaks only for itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from deploy.local.nats import ADMIN, STREAMS, Nats, create_streams, stream_config, telemetry_configs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with Nats(tmp_path_factory.mktemp("nats")) as running:
        yield running


@asynccontextmanager
async def connected(server: Nats, user: str) -> AsyncIterator[tuple[Client, asyncio.Queue[str]]]:
    """A connection as that user, and what the server refused it."""
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def note(error: Exception) -> None:
        refused.put_nowait(str(error))

    seed = str(server.seed_file(user))
    client = await nats.connect(
        server.url, nkeys_seed=seed, inbox_prefix=f"_INBOX_{user}".encode(), error_cb=note, max_reconnect_attempts=2
    )
    try:
        yield client, refused
    finally:
        await client.close()


async def api(client: Client, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{subject}", json.dumps(body).encode() if body else b"", timeout=2)
    document: dict[str, Any] = json.loads(answer.data)
    return document


async def test_every_service_has_a_stream_that_keeps_everything(server: Nats) -> None:
    async with connected(server, ADMIN) as (client, _refused):
        for stream in STREAMS:
            config = (await client.jetstream().stream_info(stream)).config
            assert config.subjects == [f"ev.{stream.lower()}.>"]
            assert (config.max_age, config.max_bytes, config.max_msgs) == (0, -1, -1)
            assert (config.deny_purge, config.deny_delete, config.allow_direct) == (True, True, True)
            assert config.discard == "new"


async def test_it_syncs_before_it_acknowledges(server: Nats) -> None:
    assert server.is_ready()  # refuses a server without sync_always
    assert "sync_interval: always" in (server.home / "nats" / "nats-server.conf").read_text()


def test_nobody_comes_in_without_a_key(server: Nats) -> None:
    # By hand: nats-py never closes the connection of a first attempt that is refused.
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"CONNECT {}\r\nPING\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert b"-ERR 'Authorization Violation'" in answer
    assert b"PONG" not in answer


async def test_a_service_publishes_its_own_events_and_reads_all(server: Nats) -> None:
    async with connected(server, "inventory") as (inventory, _), connected(server, "risk") as (risk, refused):
        sent = await inventory.jetstream().publish("ev.inventory.asset.registered.v1", b"{}")
        assert sent.stream == "INVENTORY"
        created = await api(
            risk,
            "CONSUMER.CREATE.INVENTORY",
            {
                "stream_name": "INVENTORY",
                "config": {"ack_policy": "none", "deliver_policy": "all", "mem_storage": True},
            },
        )
        inbox = risk.new_inbox()
        messages = await risk.subscribe(inbox)
        await risk.publish(f"$JS.API.CONSUMER.MSG.NEXT.INVENTORY.{created['name']}", b"1", reply=inbox)
        assert (await messages.next_msg(timeout=2)).subject == "ev.inventory.asset.registered.v1"
        assert refused.empty()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda client: client.publish("ev.inventory.asset.registered.v1", b"{}"),
        lambda client: client.publish("$JS.API.STREAM.PURGE.RISK", b""),
        lambda client: client.publish("$JS.API.STREAM.DELETE.RISK", b""),
        lambda client: client.publish("$JS.API.STREAM.UPDATE.RISK", b"{}"),
        lambda client: client.publish("$JS.API.STREAM.MSG.DELETE.RISK", b'{"seq":1}'),
        lambda client: client.publish("$JS.API.STREAM.CREATE.MINE", b"{}"),
        lambda client: client.publish("$JS.API.STREAM.MSG.GET.INVENTORY", b'{"seq":1}'),
        lambda client: client.subscribe("ev.>"),
        lambda client: client.subscribe("_INBOX_inventory.>"),
        lambda client: client.subscribe("$JS.>"),
    ],
    ids=[
        "forge another's event",
        "purge",
        "delete stream",
        "change stream",
        "delete message",
        "make stream",
        "look into another's stream",
        "listen to all events",
        "listen to another's answers",
        "listen to the API",
    ],
)
async def test_a_service_is_refused_what_is_not_its_own(
    server: Nats, attempt: Callable[[Client], Awaitable[object]]
) -> None:
    async with connected(server, "risk") as (client, refused):
        await attempt(client)
        await client.flush()
        assert "permissions violation" in (await asyncio.wait_for(refused.get(), 5)).lower()


def test_what_programs_publish_gets_a_stream_of_its_own_where_it_had_none(tmp_path: Path) -> None:
    async def share(server: Nats) -> None:
        async with connected(server, ADMIN) as (client, _):
            [shared, _own] = telemetry_configs()
            shared.subjects = ["telemetry.detection.*", "telemetry.in.*"]
            await client.jetstream().add_stream(shared)

    async def published(server: Nats) -> str:
        await create_streams(server.url, server.seed_file(ADMIN))
        async with connected(server, "telemetry") as (client, _):
            return (await client.jetstream().publish("telemetry.in.shop", b"{}")).stream

    async def bounds(server: Nats) -> list[tuple[str | None, list[str] | None, bool]]:
        async with connected(server, ADMIN) as (client, _):
            configs = [(await client.jetstream().stream_info(name)).config for name in ("TELEMETRY", "TELEMETRY_IN")]
            return [(one.discard, one.subjects, (one.max_bytes or 0) > 0) for one in configs]

    server = Nats(tmp_path)
    server.start(streams=False)
    try:
        asyncio.run(share(server))
        assert asyncio.run(published(server)) == "TELEMETRY_IN"
        assert asyncio.run(bounds(server)) == [
            ("new", ["telemetry.detection.*"], True),
            ("new", ["telemetry.in.*"], True),
        ]
    finally:
        server.stop()


def test_acknowledged_events_survive_a_kill_and_streams_are_brought_to_their_configuration(tmp_path: Path) -> None:
    async def publish(server: Nats) -> None:
        async with connected(server, "inventory") as (client, _):
            for _number in range(3):
                await client.jetstream().publish("ev.inventory.asset.registered.v1", b"{}")
        async with connected(server, ADMIN) as (client, _):
            changed = stream_config("inventory")
            changed.duplicate_window = 30.0
            await client.jetstream().update_stream(changed)

    async def state(server: Nats) -> tuple[int, float | None]:
        async with connected(server, ADMIN) as (client, _):
            info = await client.jetstream().stream_info("INVENTORY")
            return info.state.messages, info.config.duplicate_window

    server = Nats(tmp_path)
    server.start()
    asyncio.run(publish(server))
    assert asyncio.run(state(server)) == (3, 30.0)
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with Nats(tmp_path) as again:
        assert asyncio.run(state(again)) == (3, 120.0)
        asyncio.run(create_streams(again.url, again.seed_file(ADMIN)))
        assert asyncio.run(state(again)) == (3, 120.0)
