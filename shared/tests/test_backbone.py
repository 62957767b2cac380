"""Promises of the backbone that every service relies on, each on a real PostgreSQL."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from shared import audit, migrate, tasks
from shared.auth import PUBLIC, requires
from shared.consumer import Fenced
from shared.database import Database, driver, is_outage
from shared.http import UndeclaredScope
from shared.service import create_app, router
from shared.testing import Harness, TestServer, eventually
from shared.tests.ledger import service as ledger_module
from shared.tests.ledger.service import (
    LEDGER,
    EntryAdded,
    LedgerSettings,
    Unavailable,
    balance_table,
    consumers,
    entry_table,
)


def an_entry(account: str = "a", amount: int = 1) -> EntryAdded:
    return EntryAdded(version=1, occurred_at=datetime.now(UTC), account=account, amount=amount)


async def count(ledger: Harness, table: sa.Table) -> int:
    async with ledger.runtime.db.read() as tx:
        return int(await tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


async def balances(ledger: Harness) -> dict[str, tuple[int, str]]:
    async with ledger.runtime.db.read() as tx:
        return {row.account: (row.total, row.trail) for row in await tx.execute(sa.select(balance_table))}


async def test_migrations_and_tables_agree(postgres: TestServer) -> None:
    url = await postgres.database("ledger-check", LEDGER.directory / "migrations")
    await migrate.check(LEDGER.directory / "migrations", url)


async def test_a_request_writes_row_event_audit_and_task_together(ledger: Harness) -> None:
    answer = await ledger.client().post("/v1/entries", json={"account": "a", "amount": 3})
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    (event,) = await ledger.published("ev.metrics.entry.added.v1")
    assert event.data["account"] == "a"
    assert event.source == "/colonnade/metrics"
    assert await count(ledger, audit.audit_entry) == 1
    assert await ledger.do_tasks() == 1
    assert ledger_module.calls == ["a"]


async def test_a_refused_request_writes_nothing(ledger: Harness) -> None:
    client = ledger.client()
    await client.post("/v1/entries", json={"account": "a", "amount": 3})
    answer = await client.post("/v1/entries", json={"account": "a", "amount": 4})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:colonnade:problem:entry-taken"
    assert problem["title"] == "This account has an entry already."
    assert problem["trace_id"]
    assert len(await ledger.published()) == 1
    assert await count(ledger, audit.audit_entry) == 1


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b'{"account":"a","amount":1,"amount":2}', 422, "/amount"),
        (b'{"account":"a","amount":NaN}', 422, "/amount"),
        (b'{"account":"\\ud800","amount":1}', 422, "/account"),
        (b'{"account":"a\\u0000","amount":1}', 422, "/account"),
        (b'{"amount":1,"account":{"a/b":[1,{"c":NaN}]}}', 422, "/account/a~1b/1/c"),
        (b'{"amount":1,"account":{"x":1,"y":{"x":2},"y":3}}', 422, "/account/y"),
        (b'{"amount":1 "account":"a"}', 422, "/amount"),
        (b'{"amount":1}{', 422, "body"),
        # Read in a time that grows with the square of its length, this one would take minutes.
        (b'{"account":"' + b"[" * 40 + b'\\"' * 200_000, 422, "body"),
        (b'{"account":"' + b"x" * 70_000 + b'","amount":NaN}', 422, "body"),
        (b'{"account":"a","amount":1,"colour":"red"}', 422, "/colour"),
        (b'{"account":"   ","amount":1}', 422, "/account"),
        ('{"account":"\u200b\u2060\u00ad","amount":1}'.encode(), 422, "/account"),
        ('{"account":" \u3164","amount":1}'.encode(), 422, "/account"),
        (b'{"account":"a"}', 422, "/amount"),
        (b'{"account":"a","amount":' + b"[" * 40 + b"]" * 40 + b"}", 422, "/amount" + "/0" * 31),
        (b"{", 422, "body"),
        (b"", 422, "body"),
        (b'{"account":"' + b"x" * 2_000_000 + b'","amount":1}', 413, None),
    ],
)
async def test_bad_bodies_are_refused_with_the_field_named(
    ledger: Harness, body: bytes, status: int, field: str | None
) -> None:
    answer = await ledger.client().post("/v1/entries", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if field is not None:
        assert field in [error["field"] for error in answer.json()["errors"]]
    assert await count(ledger, entry_table) == 0


async def test_a_name_may_be_a_single_sign_of_any_script(ledger: Harness) -> None:
    for account in ("\u200bé", "한", "🦊", "-", "\u0301a"):
        answer = await ledger.client().post("/v1/entries", json={"account": account, "amount": 1})
        assert (answer.status_code, answer.json().get("account")) == (201, account)


async def test_head_is_answered_as_get_is_and_is_not_in_the_description(ledger: Harness) -> None:
    client = ledger.client()
    whole, head = await client.get("/v1/entries"), await client.head("/v1/entries")
    assert (head.status_code, head.content, head.headers) == (200, b"", whole.headers)
    assert (await ledger.client(scopes=["risk:read"]).head("/v1/entries")).status_code == 403
    refused = await client.put("/v1/entries")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert set(ledger.app.openapi()["paths"]["/v1/entries"]) == {"get", "post"}


async def test_head_of_an_endless_answer_ends() -> None:
    stream = router("/stream", "stream")

    @stream.get("")
    @requires(PUBLIC)
    async def events() -> Response:
        async def tick() -> AsyncIterator[bytes]:
            while True:
                yield b"tick"
                await asyncio.sleep(0)

        return StreamingResponse(tick(), media_type="text/event-stream")

    app = FastAPI(routes=stream.routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        async with asyncio.timeout(5):
            answer = await client.head("/stream")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_other_media_types_and_unknown_parameters_are_refused(ledger: Harness) -> None:
    client = ledger.client()
    text = await client.post("/v1/entries", content=b"account=a", headers={"Content-Type": "text/plain"})
    assert text.status_code == 415
    unknown = await client.get("/v1/entries", params={"colour": "red"})
    assert unknown.status_code == 422
    assert unknown.json()["errors"][0]["field"] == "colour"


async def test_callers_need_a_valid_token_and_the_scope(ledger: Harness) -> None:
    assert (await ledger.anonymous().get("/v1/entries")).status_code == 401
    assert (await ledger.client(scopes=["risk:read"]).get("/v1/entries")).status_code == 403
    assert (await ledger.client(audience="risk").get("/v1/entries")).status_code == 401
    forged = ledger.token()[:-6] + "AAAAAA"
    answer = await ledger.anonymous().get("/v1/entries", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_application_with_an_undeclared_route_refuses_to_start() -> None:
    open_door = router("/v1/open", "open")
    with pytest.raises(UndeclaredScope, match="/v1/open"):

        @open_door.get("")
        async def anyone() -> None: ...


async def test_an_idempotency_key_makes_a_retry_give_the_first_answer(ledger: Harness) -> None:
    client = ledger.client()
    first = await client.post("/v1/entries", json={"account": "a", "amount": 1}, headers={"Idempotency-Key": '"k-1"'})
    again = await client.post("/v1/entries", json={"account": "a", "amount": 1}, headers={"Idempotency-Key": "k-1"})
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    other = await client.post("/v1/entries", json={"account": "b", "amount": 1}, headers={"Idempotency-Key": "k-1"})
    assert other.status_code == 422
    somebody_else = await ledger.client(subject="bob").post(
        "/v1/entries", json={"account": "b", "amount": 1}, headers={"Idempotency-Key": "k-1"}
    )
    assert somebody_else.status_code == 201


async def test_simultaneous_requests_with_one_key_happen_once(ledger: Harness) -> None:
    client = ledger.client()
    answers = await asyncio.gather(
        *(
            client.post("/v1/entries", json={"account": "a", "amount": 1}, headers={"Idempotency-Key": "same"})
            for _ in range(20)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert await count(ledger, entry_table) == 1


async def test_pages_follow_each_other_and_a_foreign_cursor_is_refused(ledger: Harness) -> None:
    client = ledger.client()
    for n in range(7):
        await client.post("/v1/entries", json={"account": f"a{n}", "amount": n})
    seen, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/entries", params=params)).json()
        seen += [entry["account"] for entry in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"a{n}" for n in range(7)]
    refused = await client.get("/v1/entries", params={"cursor": "bm9uc2Vuc2U"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "cursor"


async def test_an_event_is_applied_once_however_often_it_comes(ledger: Harness) -> None:
    await ledger.deliver(an_entry("a", 5))
    with pytest.raises(Fenced):
        await ledger.redeliver("METRICS", 1)
    assert await balances(ledger) == {"a": (5, "+5")}


async def test_poison_is_set_aside_and_its_neighbours_are_applied(ledger: Harness) -> None:
    await ledger.deliver(an_entry("a", 1), an_entry("a", -1), an_entry("a", 2), together=True)
    assert await balances(ledger) == {"a": (3, "+1+2")}
    (letter,) = await ledger.dead_letters()
    assert (letter.error_class, letter.attempts, letter.seq) == ("ValueError", 3, 2)


async def test_a_rebuild_gives_the_same_tables(ledger: Harness) -> None:
    await ledger.deliver(an_entry("a", 1), an_entry("b", 4), an_entry("a", -1))
    async with ledger.runtime.db.begin() as tx:
        await consumers.execute(tx, "interest", {"times": 3})
    await ledger.deliver(an_entry("a", 2), an_entry("b", 8), together=True)
    before = await balances(ledger)
    assert before == {"a": (5, "+1*+2"), "b": (20, "+4*+8")}
    tables = await ledger.rebuild()
    assert all(table.identical for table in tables.values())
    assert await balances(ledger) == before


async def test_a_side_effect_is_tried_again_and_then_given_up(ledger: Harness) -> None:
    ledger_module.failures.extend([Unavailable("away"), Unavailable("away"), Unavailable("away")])
    await ledger.client().post("/v1/entries", json={"account": "a", "amount": 1})
    async with ledger.runtime.db.begin() as tx:
        await tx.execute(sa.text("UPDATE task SET run_at = now()"))
    for _ in range(3):
        await ledger.do_tasks()
        async with ledger.runtime.db.begin() as tx:
            await tx.execute(sa.text("UPDATE task SET run_at = now()"))
    async with ledger.runtime.db.read() as tx:
        row = (await tx.execute(sa.text("SELECT status, attempts, error FROM task"))).one()
    assert (row.status, row.attempts) == ("dead", 3)
    assert "away" in row.error
    assert ledger_module.calls == []


async def test_a_side_effect_that_hangs_has_failed_when_its_time_is_over(ledger: Harness) -> None:
    async with ledger.runtime.db.begin() as tx:
        await tasks.add(tx, kind="hang", key="1", payload={})
    assert await ledger.do_tasks() == 1
    async with ledger.runtime.db.read() as tx:
        task = (await tx.execute(sa.select(tasks.task_table))).one()
    assert (task.status, task.error) == ("dead", "TimeoutError: ")


async def test_side_effects_that_hang_keep_no_other_kind_waiting(ledger: Harness) -> None:
    assert ledger.service.tasks is not None
    async with ledger.runtime.db.begin() as tx:
        for number in range(20):
            await tasks.add(tx, kind="hang", key=str(number), payload={})
        await tasks.add(tx, kind="call", key="a", payload={"account": "a"})
    working = asyncio.create_task(ledger.service.tasks.run_workers(ledger.runtime))

    async def hanging() -> int:
        async with ledger.runtime.db.read() as tx:
            waiting = sa.select(sa.func.count()).select_from(tasks.task_table).filter_by(kind="hang", status="queued")
            return int(await tx.scalar(waiting) or 0)

    await eventually(lambda: ledger_module.calls == ["a"])
    assert await hanging() > 0
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_a_killed_workers_task_is_taken_up_again(ledger: Harness) -> None:
    await ledger.client().post("/v1/entries", json={"account": "a", "amount": 1})
    assert ledger.service.tasks is not None
    assert await ledger.service.tasks._claim(ledger.runtime.db, ["call"]) is not None
    assert await ledger.do_tasks() == 0
    async with ledger.runtime.db.begin() as tx:
        await tx.execute(sa.text("UPDATE task SET leased_until = now() - interval '1 second'"))
    assert await ledger.do_tasks() == 1


async def test_the_audit_chain_shows_a_change_a_gap_and_a_cut_tail(ledger: Harness) -> None:
    client, db, key = ledger.client(), ledger.runtime.db, ledger.runtime.audit_key
    for n in range(5):
        await client.post("/v1/entries", json={"account": f"a{n}", "amount": n})
    assert (await audit.verify(db, key)).unsealed == 5
    assert await audit.seal(db, key) == 5
    verdict = await audit.verify(db, key)
    assert (verdict.intact, verdict.length, verdict.unsealed) == (True, 5, 0)
    anchor = (verdict.length, verdict.head)
    async with db.begin() as tx:
        await tx.execute(sa.text("DELETE FROM audit_seal WHERE position = 5"))
        await tx.execute(sa.text("DELETE FROM audit_entry WHERE seq = (SELECT max(seq) FROM audit_entry)"))
    assert (await audit.verify(db, key)).intact
    assert "tail" in str((await audit.verify(db, key, anchor)).reason)
    async with db.begin() as tx:
        await tx.execute(
            sa.text("UPDATE audit_entry SET actor = 'mallory' WHERE seq = (SELECT min(seq) + 1 FROM audit_entry)")
        )
    assert (await audit.verify(db, key)).broken_at == 2


async def test_a_dead_database_is_503_with_retry_after(ledger: Harness, postgres: TestServer) -> None:
    client = ledger.client()
    assert (await client.get("/v1/entries")).status_code == 200
    await ledger.runtime.db.close()
    ledger.runtime.db = type(ledger.runtime.db)("postgresql://nobody:x@127.0.0.1:1/none", name="metrics")
    answer = await client.get("/v1/entries")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 503


async def test_after_a_database_restart_no_caller_meets_an_old_connection(ledger: Harness) -> None:
    client = ledger.client()
    accounts = [f"a{number}" for number in range(8)]
    before = [client.post("/v1/entries", json={"account": account, "amount": 1}) for account in accounts]
    assert {answer.status_code for answer in await asyncio.gather(*before)} == {201}
    alone = await ledger.runtime.db.connect_alone()
    await alone.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    pooled = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
    while await alone.fetchval(pooled, ledger.runtime.db.name):  # noqa: ASYNC110  # a server has no event to wait for
        await asyncio.sleep(0.01)
    await alone.close()
    after = [client.post("/v1/entries", json={"account": f"{account}+", "amount": 1}) for account in accounts]
    assert {answer.status_code for answer in await asyncio.gather(*after)} == {201}


@pytest.mark.parametrize("stalled", ["BEGIN", "the statement", "COMMIT"])
async def test_what_is_answered_after_a_stall_is_committed(ledger: Harness, stalled: str) -> None:
    """A server that stands still at any point of a transaction leaves no connection in it."""
    db = Database(ledger.runtime.db.dsn, name="stalling", pool_size=1, statement_seconds=0.3)
    add = sa.text("INSERT INTO balance VALUES (:account, 0, '')")

    async with db.statement() as connection:
        server = int(await connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)

    async def transact() -> None:
        async with db.begin() as tx:
            for step in ("BEGIN", "the statement"):
                if step == stalled:
                    os.kill(server, signal.SIGSTOP)
                # Past SQLAlchemy, which would throw a connection away that did not answer.
                await (await driver(tx)).execute("INSERT INTO balance VALUES ($1, 0, '')", f"given up {step}")
            if stalled == "COMMIT":
                os.kill(server, signal.SIGSTOP)

    with pytest.raises((TimeoutError, asyncio.TimeoutError, asyncpg.InterfaceError)):
        await transact()
    os.kill(server, signal.SIGCONT)
    for account in "abc":
        async with db.begin() as tx:
            await tx.execute(add, {"account": account})
    await db.close()
    assert {"a", "b", "c"} <= set(await balances(ledger))


def test_waiting_too_long_for_a_lock_is_no_fault_of_ours() -> None:
    assert is_outage(asyncpg.LockNotAvailableError("canceling statement due to lock timeout"))
    assert not is_outage(asyncpg.ObjectInUseError("in use"))


async def test_a_statement_past_sqlalchemy_is_inside_the_transaction(ledger: Harness) -> None:
    async def insert_and_fail() -> None:
        async with ledger.runtime.db.begin() as tx:
            connection = await driver(tx)
            await connection.execute("INSERT INTO balance VALUES ('x', 1, '')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await insert_and_fail()
    assert await count(ledger, balance_table) == 0


def test_the_openapi_document_tells_of_security_and_problems() -> None:
    import json
    import tempfile
    from pathlib import Path

    from pydantic import SecretStr

    with tempfile.TemporaryDirectory() as folder:
        trust = Path(folder, "trust.json")
        trust.write_text("{}")
        settings = LedgerSettings(
            database_url=SecretStr("postgresql://x@127.0.0.1/x"), trust_file=trust, cursor_secret=SecretStr("0" * 32)
        )
        document = create_app(LEDGER, settings).openapi()
    operation = document["paths"]["/v1/entries"]["post"]
    assert operation["security"] == [{"bearer": []}]
    assert operation["x-scope"] == "metrics:read"
    assert "503" in operation["responses"]
    assert "HTTPValidationError" not in json.dumps(document)
