"""Discovery over the API: runs with progress, schedules that come round, and who may ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.inventory.application.schedules import start_due
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from services.inventory.tests.servers import answering, serving
from shared.testing import Harness, TestServer, harness

MODELS = {"data": [{"id": "tiny", "owned_by": "vllm", "root": "acme/tiny-7b"}]}


@pytest.fixture
async def inventory(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres, discovery_endpoint_urls=True) as made:
        yield made


async def ran(inventory: Harness, url: str) -> dict[str, Any]:
    client = inventory.client("engineer", subject="dora")
    body = {"source": "openai_compatible", "options": {"urls": [url]}, "owner_team": "search"}
    asked = await client.post("/v1/discovery/runs", json=body)
    assert (asked.status_code, asked.json()["status"]) == (202, "queued"), asked.text
    assert await inventory.do_tasks() == 1
    return dict((await client.get(asked.headers["Location"])).json())


async def test_a_run_shows_what_it_read_and_makes_assets(inventory: Harness) -> None:
    async with serving(answering({"GET /models": MODELS})) as url:
        run = await ran(inventory, url)
    assert (run["status"], run["problems"]) == ("succeeded", [])
    assert run["counts"] == {"seen": 2, "new": 2, "changed": 0, "missing": 0, "gone": 0, "merged": 0}
    (scope,) = run["scopes"]
    assert (scope["scope"], scope["complete"], scope["entries"]) == (f"{url}/models", True, 2)
    items = (await inventory.client().get("/v1/assets")).json()["items"]
    assert {item["owner_team"] for item in items} == {"search"}
    edges = [one for one in await inventory.published() if one.type == "ev.inventory.edge.opened.v1"]
    assert len(edges) == 1


async def test_a_server_that_is_away_is_a_failed_run_and_no_empty_estate(inventory: Harness) -> None:
    async with serving(answering({"GET /models": MODELS})) as url:
        await ran(inventory, url)
    run = await ran(inventory, url)
    assert run["status"] == "failed"
    assert run["counts"]["gone"] == run["counts"]["missing"] == 0
    assert len((await inventory.client().get("/v1/assets")).json()["items"]) == 2


async def test_sources_say_what_they_need(inventory: Harness) -> None:
    items = (await inventory.client().get("/v1/discovery/sources")).json()["items"]
    by_name = {item["source"]: item for item in items}
    assert "urls" in by_name["openai_compatible"]["options"]["properties"]
    assert all(item["permissions"] and item["looks_for"] for item in items)


async def test_a_schedule_asks_for_a_run_when_it_is_due_and_not_while_the_last_goes_on(inventory: Harness) -> None:
    client = inventory.client("engineer", subject="dora")
    async with serving(answering({"GET /models": MODELS})) as url:
        body = {"source": "openai_compatible", "options": {"urls": [url]}, "every_seconds": 60}
        made = await client.post("/v1/discovery/schedules", json=body)
        assert made.status_code == 201, made.text
        path = made.headers["Location"]

        async def due(seconds: float) -> int:
            async with inventory.runtime.db.begin() as tx:
                return await start_due(tx, datetime.now(UTC) + timedelta(seconds=seconds))

        assert await due(0) == 1
        assert await due(0) == 0, "the next is due in a minute"
        assert await due(70) == 0, "the first has not ended"
        assert await inventory.do_tasks() == 1
        assert await due(140) == 1
        shown = (await client.get(path)).json()
        run = (await client.get(f"/v1/discovery/runs/{shown['last_run_id']}")).json()
        assert (run["requested_by"], run["source"]) == ("dora", "openai_compatible")
    assert await inventory.do_tasks() == 1
    stopped = await client.patch(path, json={"enabled": False})
    assert (stopped.status_code, stopped.json()["enabled"]) == (200, False)
    assert await due(1_000) == 0
    assert len((await client.get("/v1/discovery/schedules")).json()["items"]) == 1
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"source": "gopher", "options": {}}, "/source"),
        ({"source": "openai_compatible", "options": {}}, "/options/targets"),
        ({"source": "openai_compatible", "options": {"urls": ["ftp://x.example"]}}, "/options/urls/0"),
        ({"source": "openai_compatible", "options": {"urls": ["http://x.example"], "key": "x"}}, "/options/key"),
        ({"source": "openai_compatible", "options": {"urls": ["http://u:pw@x.example"]}}, "/options/urls/0"),
        ({"source": "openai_compatible", "options": {"urls": ["http://169.254.169.254/latest"]}}, "/options/urls/0"),
        ({"source": "openai_compatible", "options": {"urls": ["http://[::ffff:169.254.169.254]/"]}}, "/options/urls/0"),
        (
            {"source": "kubernetes", "options": {"cluster": "c", "endpoint_url": "http://u:pw@h"}},
            "/options/endpoint_url",
        ),
        (
            {"source": "kubernetes", "options": {"cluster": "c", "endpoint_url": "http://h/?t=1"}},
            "/options/endpoint_url",
        ),
        ({"source": "kubernetes", "options": {"cluster": "c", "namespaces": ["Bad_Name"]}}, "/options/namespaces/0"),
    ],
)
async def test_bad_options_are_told_by_their_field(inventory: Harness, body: dict[str, Any], field: str) -> None:
    for path, more in (("runs", {}), ("schedules", {"every_seconds": 60})):
        answer = await inventory.client("engineer").post(f"/v1/discovery/{path}", json=body | more)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == field


async def test_teams_neither_ask_nor_see(inventory: Harness) -> None:
    async with serving(answering({"GET /models": MODELS})) as url:
        run = await ran(inventory, url)
        red = inventory.client("engineer", teams=["red"])
        body = {"source": "openai_compatible", "options": {"urls": [url]}}
        assert (await red.post("/v1/discovery/runs", json=body)).status_code == 403
        assert (await red.post("/v1/discovery/schedules", json=body | {"every_seconds": 60})).status_code == 403
    assert (await red.get(f"/v1/discovery/runs/{run['run_id']}")).status_code == 404
    for path in ("runs", "schedules", "sightings", "stale-scopes"):
        assert (await red.get(f"/v1/discovery/{path}")).json()["items"] == []
