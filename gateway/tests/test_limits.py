"""Rate limits: exact where small, never above anywhere, cheap where large."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.ports import free_port
from gateway import store
from gateway.limits import Grant, Lease, Limiter, LimitsUnavailable, Policy, Want
from gateway.tests.conftest import Gateway, Service, Stand
from shared.database import Database
from shared.testing import eventually

ROOT = Path(__file__).resolve().parents[2]


def lease_from(db: Database) -> Lease:
    async def lease(wants: Sequence[Want]) -> list[Grant]:
        async with db.begin() as tx:
            return await store.lease(tx, wants)

    return lease


@pytest.fixture
async def db(stand: Stand) -> AsyncIterator[Database]:
    made = Database(stand.database_url, name="limits", pool_size=8)
    yield made
    await made.close()


async def admitted(limiter: Limiter, policy: Policy, requests: int, subject: str = "key:a") -> int:
    async def ask() -> bool:
        decided = limiter.take(subject, policy) or await limiter.acquire(subject, policy)
        return decided[0]

    return sum(await asyncio.gather(*(ask() for _ in range(requests))))


@pytest.mark.parametrize("quota", [1, 7, 100, 200, 399, 400, 1000])
async def test_four_replicas_together_admit_exactly_the_limit_when_all_is_asked_at_once(
    db: Database, quota: int
) -> None:
    policy = Policy("key", quota, 60)
    replicas = [Limiter(lease_from(db)) for _ in range(4)]
    counts = await asyncio.gather(*(admitted(replica, policy, 2 * quota) for replica in replicas))
    stranded = 4 * 2 * policy.lease if policy.lease > 1 else 0
    assert quota - stranded <= sum(counts) <= quota


async def test_what_is_admitted_over_several_windows_never_exceeds_the_limit_of_each(db: Database) -> None:
    policy = Policy("key", 50, 1)
    replicas = [Limiter(lease_from(db)) for _ in range(2)]
    times: list[float] = []
    end = time.monotonic() + 3.2

    async def press(replica: Limiter) -> None:
        while time.monotonic() < end:
            # The permit is spent between these two moments; the later one is when its request would have run.
            decided = replica.take("key:a", policy) or await replica.acquire("key:a", policy)
            if decided[0]:
                times.append(time.monotonic())
            await asyncio.sleep(0.001)

    await asyncio.gather(*(press(replica) for replica in replicas for _ in range(5)))
    async with db.read() as tx:
        used = (await tx.execute(store.rate_window.select())).one()
    assert used.used <= used.quota == 50
    # At most four windows can have begun within 3.2 s.
    assert 100 <= len(times) <= 200


async def test_a_large_limit_costs_few_statements(db: Database) -> None:
    statements = 0
    lease = lease_from(db)

    async def counted(wants: Sequence[Want]) -> Sequence[Grant]:
        nonlocal statements
        statements += 1
        return await lease(wants)

    limiter = Limiter(counted)
    policy = Policy("key", 400_000, 60)
    for _ in range(10_000):
        decided = limiter.take("key:a", policy) or await limiter.acquire("key:a", policy)
        assert decided[0]
        if statements and _ % 100 == 0:
            await asyncio.sleep(0)
    assert statements <= 14  # 1,000 permits each; some are fetched ahead


async def test_requests_at_once_share_a_statement_and_callers_do_not_share_a_limit(db: Database) -> None:
    statements = 0
    lease = lease_from(db)

    async def counted(wants: Sequence[Want]) -> Sequence[Grant]:
        nonlocal statements
        statements += 1
        return await lease(wants)

    limiter = Limiter(counted)
    policy = Policy("key", 100, 60)
    counts = await asyncio.gather(*(admitted(limiter, policy, 500, f"key:{n}") for n in range(20)))
    assert counts == [100] * 20
    assert statements <= 5


async def test_a_new_window_starts_full_and_a_changed_limit_counts_at_once(db: Database) -> None:
    limiter = Limiter(lease_from(db))
    assert await admitted(limiter, Policy("key", 3, 1), 5) == 3
    assert await admitted(limiter, Policy("key", 5, 1), 5) == 2
    assert await admitted(limiter, Policy("key", 4, 1), 5) == 0
    await asyncio.sleep(1.1)
    assert await admitted(limiter, Policy("key", 4, 1), 5) == 4


async def test_a_database_clock_that_was_set_back_locks_nobody_out(db: Database) -> None:
    limiter = Limiter(lease_from(db))
    policy = Policy("key", 3, 60)
    assert await admitted(limiter, policy, 5) == 3
    async with db.begin() as tx:
        await tx.execute(store.rate_window.update().values(started_at=sa.text("now() + interval '1 hour'")))
    assert await admitted(Limiter(lease_from(db)), policy, 5) == 3


@settings(max_examples=60, deadline=None)
@given(
    quota=st.integers(1, 3000),
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 400), st.sampled_from([0.0, 0.5, 11.0])), max_size=25),
)
def test_in_every_order_of_replicas_bursts_and_pauses_no_window_is_exceeded(
    quota: int, steps: list[tuple[int, int, float]]
) -> None:
    """The windows as an exact model in memory; what is checked is the spending of leases on our side."""
    now = 0.0
    policy = Policy("key", quota, 10)
    window = {"start": -100.0, "used": 0, "admitted": 0}

    async def lease(wants: Sequence[Want]) -> list[Grant]:
        grants = []
        for want in wants:
            if now >= window["start"] + 10:
                window.update(start=now, used=0, admitted=0)
            granted = min(want.count, quota - int(window["used"]))
            window["used"] += granted
            left = quota - int(window["used"])
            grants.append(Grant(want.subject, granted, left, int(window["start"] * 1e6), window["start"] + 10 - now))
        return grants

    async def run() -> None:
        nonlocal now
        replicas = [Limiter(lease, clock=lambda: now) for _ in range(3)]
        for replica, burst, pause in steps:
            now += pause
            got = await admitted(replicas[replica], policy, burst)
            if got and now < window["start"] + 10:
                window["admitted"] += got
            assert window["admitted"] <= quota

    asyncio.run(run())


async def test_with_the_store_down_requests_are_refused_or_admitted_up_to_this_replicas_share() -> None:
    async def down(wants: Sequence[Want]) -> Sequence[Grant]:
        raise ConnectionRefusedError

    policy = Policy("key", 100, 60)
    with pytest.raises(LimitsUnavailable):
        await admitted(Limiter(down), policy, 1)
    assert await admitted(Limiter(down, outage_share=0.5), policy, 300) == 50


async def test_a_replica_alone_counts_what_it_admitted_in_the_window_before_the_outage() -> None:
    now = 0.0
    up = True

    async def lease(wants: Sequence[Want]) -> list[Grant]:
        if not up:
            raise ConnectionRefusedError
        return [Grant(want.subject, want.count, 100, 1 + int(now // 60), 60 - now % 60) for want in wants]

    policy = Policy("key", 100, 60)
    limiter = Limiter(lease, outage_share=0.5, clock=lambda: now)
    assert await admitted(limiter, policy, 30) == 30
    up = False
    assert await admitted(limiter, policy, 100) == 20
    up, now = True, 10.0
    assert await admitted(limiter, policy, 10) == 10  # the windows say how many, as soon as they can be asked
    up, now = False, 20.0
    assert await admitted(limiter, policy, 100) == 0
    now = 61.0
    assert await admitted(limiter, policy, 100) == 50
    up, now = True, 70.0
    assert await admitted(limiter, policy, 10) == 10
    up, now = False, 80.0
    assert await admitted(limiter, policy, 100) == 40


async def test_permits_in_memory_are_spent_through_an_outage_and_the_store_is_asked_now_and_then() -> None:
    now = 0.0
    asked: list[float] = []

    async def lease(wants: Sequence[Want]) -> list[Grant]:
        asked.append(now)
        if 0 < now < 10:
            raise ConnectionRefusedError
        return [Grant(want.subject, want.count, 4_000, 1, 60 - now) for want in wants]

    policy = Policy("key", 40_000, 60)  # leased by the hundred, and asked for again below fifty
    limiter = Limiter(lease, clock=lambda: now)
    assert await admitted(limiter, policy, 60) == 60
    for moment in (1.0, 1.2, 1.4, 1.6, 1.8):
        now = moment
        assert await admitted(limiter, policy, 1) == 1
        await asyncio.sleep(0)
    assert asked == [0.0, 1.0, 1.6]


async def test_a_lease_that_leaves_one_out_fails_its_waiters_and_the_next_lease_goes_on() -> None:
    now = 0.0
    missing = {"key:b"}

    async def lease(wants: Sequence[Want]) -> list[Grant]:
        return [Grant(want.subject, want.count, 9, 1, 60.0) for want in wants if want.subject not in missing]

    policy = Policy("key", 10, 60)
    limiter = Limiter(lease, clock=lambda: now)
    asked = [limiter.acquire(subject, policy) for subject in ("key:a", "key:b")]
    first, second = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert not isinstance(first, BaseException)
    assert first[0]
    assert isinstance(second, LimitsUnavailable)
    now = 1.0
    missing.clear()
    assert (await asyncio.wait_for(limiter.acquire("key:b", policy), 5))[0]


async def test_a_client_that_leaves_while_waiting_takes_no_permit_with_it(db: Database) -> None:
    limiter = Limiter(lease_from(db))
    policy = Policy("key", 10, 60)
    leaving = [asyncio.create_task(limiter.acquire("key:a", policy)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert await admitted(limiter, policy, 20) == 10


# Over HTTP


async def test_the_headers_say_what_is_left_and_the_refusal_when_to_come_back(gateway: Gateway) -> None:
    key = await gateway.key(quota=3, window_seconds=60)
    replies = [await gateway.get("/v1/assets", key) for _ in range(5)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
    left = [reply.headers["RateLimit"].partition("r=")[2].partition(";")[0] for reply in replies]
    assert left == ["2", "1", "0", "0", "0"]
    assert all(reply.headers["RateLimit-Policy"] == '"key";q=3;w=60' for reply in replies)
    assert 50 <= int(replies[-1].headers["Retry-After"]) <= 60
    assert replies[-1].json()["type"] == "urn:colonnade:problem:too-many-requests"


async def test_a_rotated_key_counts_in_the_window_of_the_one_it_replaced(gateway: Gateway) -> None:
    admin = await gateway.key("admin")
    key = await gateway.key("viewer", quota=3, window_seconds=60)
    assert [(await gateway.get("/v1/assets", key)).status for _ in range(3)] == [200] * 3
    body = {"overlap_seconds": 60}
    rotated = await gateway.call("POST", f"/v1/access/keys/{key.split('_')[1]}/rotate", admin, json=body)
    assert (await gateway.get("/v1/assets", rotated.json()["key"])).status == 429


@asynccontextmanager
async def gateway_process(stand: Stand, service: Service, **settings: str) -> AsyncIterator[str]:
    port = free_port()
    environment = os.environ | {
        "GATEWAY_DATABASE_URL": stand.database_url,
        "GATEWAY_TRUST_FILE": str(stand.settings["trust_file"]),
        "GATEWAY_SIGNING_KEY_FILE": str(stand.settings["signing_key_file"]),
        "GATEWAY_CURSOR_SECRET": "a secret of tests only",
        "GATEWAY_KEY_PEPPER": "a pepper of tests only",
        "GATEWAY_BIND_PORT": str(port),
        "GATEWAY_SERVICE_URLS": json.dumps({"inventory": service.url}),
        **{f"GATEWAY_{name.upper()}": value for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "serve", cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                try:
                    async with session.get(url + "/livez") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(answers, 20)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def test_a_thousand_requests_at_once_through_two_processes_at_100_a_minute_admit_exactly_100(
    stand: Stand, service: Service
) -> None:
    gateway = await stand.gateway()
    key = await gateway.key("viewer", quota=100, window_seconds=60)
    async with AsyncExitStack() as stack:
        urls = await asyncio.gather(*(stack.enter_async_context(gateway_process(stand, service)) for _ in range(2)))
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

        async def ask(n: int) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            async with session.get(urls[n % 2] + "/v1/assets", headers=headers) as response:
                assert "RateLimit" in response.headers
                return response.status

        statuses = await asyncio.gather(*(ask(n) for n in range(1000)))
    assert {status: statuses.count(status) for status in set(statuses)} == {200: 100, 429: 900}
    assert len(service.seen) == 100
