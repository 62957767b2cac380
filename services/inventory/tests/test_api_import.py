"""The import: every line answered in order, broken ones alone, while the client still sends and however it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa

from services.inventory.api import imports, spool
from services.inventory.store.schema import asset_table, dependency_table
from services.inventory.tests.factories import a_body
from services.inventory.tests.test_api_assets import EVERYTHING, SHOWN, created
from shared.audit import audit_entry
from shared.contracts.envelope import encode
from shared.contracts.inventory import AssetEvent, AssetRegistered, AssetSnapshot
from shared.testing import Harness, eventually

NDJSON = {"Content-Type": "application/x-ndjson"}


def ndjson(*lines: Any) -> bytes:
    return b"".join(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in lines)


async def imported(client: httpx.AsyncClient, *lines: Any) -> list[dict[str, Any]]:
    response = await client.post("/v1/assets/import", content=ndjson(*lines), headers=NDJSON)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


async def _count(inventory: Harness, table: sa.Table = asset_table) -> int:
    async with inventory.runtime.db.read() as tx:
        return int(await tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


async def test_each_line_is_answered_in_order(inventory: Harness) -> None:
    client = inventory.client("engineer")
    existing = await created(client, model_name="known")
    results = await imported(
        client,
        a_body(name="one"),
        a_body(model_name="known"),
        a_body(name="two", model_name="twice"),
        a_body(name="three", model_name="twice"),
        EVERYTHING,
    )
    assert [(result["line"], result["status"]) for result in results] == [
        (1, "created"),
        (2, "existing"),
        (3, "created"),
        (4, "existing"),
        (5, "created"),
    ]
    assert results[1]["asset_id"] == existing["asset_id"]
    assert results[3]["asset_id"] == results[2]["asset_id"]
    read = (await client.get(f"/v1/assets/{results[4]['asset_id']}")).json()
    assert {name: read[name] for name in EVERYTHING} == SHOWN
    tree = await client.get(f"/v1/assets/{results[4]['asset_id']}/dependencies")
    assert tree.json()["upstream"] == [{"id": EVERYTHING["upstream_assets"][0], "missing": True}]


BROKEN: list[tuple[bytes, str | None]] = [
    (b"nonsense\n", "body"),
    (b'{"name":"a","name":"b","asset_type":"ai_agent"}\n', "/name"),
    (b'{"name":"\\ud800","asset_type":"ai_agent"}\n', "/name"),
    (b'{"name":"a\\u0000","asset_type":"ai_agent"}\n', "/name"),
    (b'{"name":"a","asset_type":"ai_agent","x":' + b"[" * 40 + b"]" * 40 + b"}\n", "/x" + "/0" * 31),
    (b"\xff\xfe\n", "body"),
    (b"[]\n", "body"),
    (b'{"name":"","asset_type":"ai_agent"}\n', "/name"),
    (b'{"name":"a","asset_type":"ai_agent","colour":1}\n', "/colour"),
    (b'{"name":"a","asset_type":"robot"}\n', "/asset_type"),
    (b'{"name":"a","asset_type":"ai_agent","last_security_review":"2126-01-01"}\n', "/last_security_review"),
    (b'{"name":"' + b"a" * 70_000 + b'"}\n', None),
]


async def test_a_broken_line_fails_alone_and_says_why(inventory: Harness) -> None:
    client = inventory.client("engineer")
    lines: list[Any] = []
    for text, _ in BROKEN:
        lines += [text, a_body()]
    results = await imported(client, *lines)
    assert [result["status"] for result in results] == ["failed", "created"] * len(BROKEN)
    for result, (text, field) in zip(results[::2], BROKEN, strict=True):
        problem = result["problem"]
        assert result["asset_id"] is None
        assert problem["status"] == (413 if field is None else 422), text
        if field is not None:
            assert problem["errors"][0]["field"] == field, (text, problem)
    assert await _count(inventory) == len(BROKEN)


async def test_blank_lines_are_counted_and_passed_over(inventory: Harness) -> None:
    client = inventory.client("engineer")
    results = await imported(client, b"\n \n", a_body(), b"\r\n", ndjson(a_body()).rstrip())
    assert [(result["line"], result["status"]) for result in results] == [(3, "created"), (5, "created")]
    assert await imported(client) == []


async def test_events_and_audit_are_those_of_registering(inventory: Harness) -> None:
    client = inventory.client("engineer", subject="loader")
    results = await imported(client, EVERYTHING, a_body(), a_body())
    events = await inventory.published()
    assert [event.subject for event in events] == [result["asset_id"] for result in results]
    snapshot = AssetSnapshot.model_validate(events[0].data["asset"])
    event = AssetRegistered(version=1, occurred_at=snapshot.registered_date, asset=snapshot)
    document = orjson.loads(encode(event, event_id=events[0].id, traceparent=None))
    assert document["data"] == events[0].data
    assert document["type"] == events[0].type
    async with inventory.runtime.db.read() as tx:
        entries = (await tx.execute(sa.select(audit_entry))).all()
    assert [(entry.action, entry.actor, entry.target) for entry in entries] == [
        ("assets.imported", "loader", "3 assets")
    ]
    assert entries[0].detail["first"] == results[0]["asset_id"]


async def test_a_team_imports_what_is_its_own(inventory: Harness) -> None:
    theirs = await created(inventory.client(), owner_team="claims", model_name="theirs")
    results = await imported(
        inventory.client("engineer", teams=["search"]),
        a_body(owner_team="search"),
        a_body(owner_team="claims"),
        a_body(owner_team="search", model_name="theirs"),
        a_body(owner_team="search", downstream_assets=[theirs["asset_id"]]),
    )
    assert [result.get("problem", {}).get("status") for result in results] == [None, 403, 409, 422]
    alone = await inventory.client("engineer", teams=["search"]).post(
        "/v1/assets", json=a_body(owner_team="search", downstream_assets=[theirs["asset_id"]])
    )
    for name in ("type", "detail", "errors"):
        assert results[3]["problem"][name] == alone.json()[name], "refused as a single registration is"
    assert theirs["asset_id"] not in json.dumps(results[2])


async def test_two_imports_of_the_same_assets_make_them_once(inventory: Harness) -> None:
    bodies = [a_body(model_name=f"m{n}") for n in range(1_200)]
    clients = [inventory.client("engineer") for _ in range(4)]
    orders = [bodies, list(reversed(bodies)), bodies, list(reversed(bodies))]
    found = await asyncio.gather(*(imported(c, *order) for c, order in zip(clients, orders, strict=True)))
    statuses = [result["status"] for results in found for result in results]
    assert (statuses.count("created"), statuses.count("existing")) == (1_200, 3_600)
    assert await _count(inventory) == 1_200
    assert len(await inventory.published()) == 1_200


async def test_edges_are_stored_once_for_created_lines(inventory: Harness) -> None:
    client = inventory.client("engineer")
    base = await created(client)
    line = a_body(model_name="m", upstream_assets=[base["asset_id"], base["asset_id"]])
    await imported(client, line, line)
    assert await _count(inventory, dependency_table) == 1


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
async def test_another_media_type_is_refused(inventory: Harness, content_type: str) -> None:
    response = await inventory.client("engineer").post(
        "/v1/assets/import", content=ndjson(a_body()), headers={"Content-Type": content_type}
    )
    assert response.status_code == 415


async def test_importing_needs_the_scope(inventory: Harness) -> None:
    response = await inventory.client("viewer").post("/v1/assets/import", content=b"", headers=NDJSON)
    assert response.status_code == 403


class Wire:
    """One request as a server drives it: parts go in when the test says so, and what comes out is there at once."""

    def __init__(self, inventory: Harness) -> None:
        self._app = inventory.app
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.out = b""
        self.reading = asyncio.Event()
        self.reading.set()
        token = inventory.token("engineer")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/assets/import",
            "raw_path": b"/v1/assets/import",
            "query_string": b"",
            "headers": [(b"content-type", b"application/x-ndjson"), (b"authorization", f"Bearer {token}".encode())],
            "app": inventory.app,
            "state": {},
        }
        self.done: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.done = asyncio.create_task(self._app(self._scope, self._in.get, self._take))

    async def _take(self, message: Any) -> None:
        await self.reading.wait()
        self.out += message.get("body", b"")

    def send(self, body: bytes, *, more: bool = True) -> None:
        self._in.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._in.put_nowait({"type": "http.disconnect"})

    @property
    def taken(self) -> int:
        return self._in.qsize()


def _told(wire: Wire, lines: int) -> bool:
    return wire.out.count(b"\n") == lines


@pytest.fixture
async def wire(inventory: Harness) -> AsyncIterator[Wire]:
    made = Wire(inventory)
    await made.start()
    yield made
    if made.done is not None:
        made.done.cancel()
        await asyncio.gather(made.done, return_exceptions=True)


async def test_results_come_while_the_client_still_sends(wire: Wire) -> None:
    for sent in range(1, 4):
        wire.send(ndjson(a_body()))
        await eventually(partial(_told, wire, sent))
    wire.send(b"", more=False)
    assert wire.done is not None
    await wire.done


async def test_lines_may_be_cut_anywhere(wire: Wire) -> None:
    text = ndjson(*(a_body(name=f"ж{n}") for n in range(20)), b'{"name":"' + b"x" * 200_000 + b'"}\n', a_body())
    for start in range(0, len(text), 777):
        wire.send(text[start : start + 777])
    wire.send(b"", more=False)
    assert wire.done is not None
    await wire.done
    statuses = [json.loads(line)["status"] for line in wire.out.splitlines()]
    assert statuses == ["created"] * 20 + ["failed", "created"]


async def test_a_client_that_reads_only_at_the_end_is_served(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SPOOL_IN_MEMORY_BYTES", 4_096)
    wire.reading.clear()
    for _ in range(10):
        wire.send(ndjson(*(a_body() for _ in range(300))))
    wire.send(b"", more=False)
    await eventually(lambda: wire.taken == 0)
    await asyncio.sleep(0.2)
    wire.reading.set()
    assert wire.done is not None
    await wire.done
    results = [json.loads(line) for line in wire.out.splitlines()]
    assert [result["line"] for result in results] == list(range(1, 3_001))
    assert {result["status"] for result in results} == {"created"}


async def test_what_was_sent_before_the_client_left_is_kept(inventory: Harness, wire: Wire) -> None:
    wire.send(ndjson(*(a_body() for _ in range(imports.BATCH_LINES))))
    wire.send(ndjson(a_body()))
    wire.leave()
    assert wire.done is not None
    await asyncio.gather(wire.done, return_exceptions=True)
    assert await _count(inventory) == imports.BATCH_LINES


async def test_a_client_that_stops_sending_is_told_and_left(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "STALL_SECONDS", 0.1)
    wire.send(ndjson(a_body()) + b'{"name":"half a li')
    assert wire.done is not None
    await wire.done
    first, last = (json.loads(line) for line in wire.out.splitlines())
    assert (first["status"], last["line"], last["problem"]["type"]) == (
        "created",
        2,
        "urn:colonnade:problem:import-stalled",
    )


async def test_the_import_stops_at_its_limit(inventory: Harness) -> None:
    object.__setattr__(inventory.runtime.settings, "import_limit_bytes", 300)
    results = await imported(inventory.client("engineer"), a_body(description="x" * 400))
    assert results[-1]["problem"]["status"] == 413


async def test_an_import_of_nothing_but_refused_lines_is_ended(inventory: Harness, wire: Wire) -> None:
    object.__setattr__(inventory.runtime.settings, "import_refused_limit", 1_000)
    wire.reading.clear()
    for _ in range(100):
        wire.send(b"1\n" * 500)
    # The client neither reads nor ends its body: the import does.
    await asyncio.sleep(0.2)
    wire.reading.set()
    assert wire.done is not None
    await asyncio.wait_for(wire.done, 10)
    results = [json.loads(line) for line in wire.out.splitlines()]
    assert [result["line"] for result in results] == list(range(1, 1_002))
    assert results[-1]["problem"]["type"] == "urn:colonnade:problem:too-many-refused"
    assert (results[-1]["status"], results[-1]["asset_id"]) == ("failed", None)
    assert wire.taken > 90, "what is left is not read"


async def test_an_import_whose_results_fill_the_spool_is_ended(inventory: Harness, wire: Wire) -> None:
    object.__setattr__(inventory.runtime.settings, "import_spool_limit_bytes", 50_000)
    wire.reading.clear()
    bodies = [a_body() for _ in range(4_000)]
    for start in range(0, 4_000, 500):
        wire.send(ndjson(*bodies[start : start + 500]))
    await eventually(lambda: wire.taken < 5)
    await asyncio.sleep(0.5)
    wire.reading.set()
    assert wire.done is not None
    await asyncio.wait_for(wire.done, 10)
    results = [json.loads(line) for line in wire.out.splitlines()]
    assert {result["status"] for result in results[:-1]} == {"created"}
    assert (results[-1]["line"], results[-1]["problem"]["status"]) == (len(results), 413)
    assert len(results) < 4_000
    assert await _count(inventory) == len(results) - 1, "all that is stored is told, and nothing else is stored"


async def test_a_client_that_reads_may_have_more_results_than_the_spool_holds(inventory: Harness, wire: Wire) -> None:
    object.__setattr__(inventory.runtime.settings, "import_spool_limit_bytes", 50_000)
    for sent in range(1, 6):
        wire.send(ndjson(*(a_body() for _ in range(500))), more=sent < 5)
        await eventually(partial(_told, wire, sent * 500))
    assert wire.done is not None
    await wire.done
    assert {json.loads(line)["status"] for line in wire.out.splitlines()} == {"created"}


async def test_a_batch_waits_out_a_database_that_restarts(inventory: Harness, wire: Wire) -> None:
    wire.send(ndjson(a_body()))
    await eventually(partial(_told, wire, 1))
    async with inventory.runtime.db.begin() as tx:
        await tx.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    wire.send(ndjson(a_body()), more=False)
    assert wire.done is not None
    await wire.done
    assert [json.loads(line)["status"] for line in wire.out.splitlines()] == ["created", "created"]
    for event in await inventory.published():
        assert AssetEvent.model_validate(event.data).version == 1
