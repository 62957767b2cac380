"""Webhooks: signed as the standard has it, retried, kept to their teams, and never sent where they may not go."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from aiohttp import web
from pydantic import field_serializer

from services.incidents import jobs
from services.incidents.application.announce import DELIVER, owe_webhooks
from services.incidents.domain.webhooks import WebhookUrlRefused
from services.incidents.main import SERVICE
from services.incidents.outbound import AddressRefused, CheckedResolver, Reach
from services.incidents.settings import IncidentsSettings
from services.incidents.store.tables import incident_table, webhook_table
from services.incidents.tests.factories import NOON, an_alert_raised, opened
from services.incidents.tests.peers import Neighbours
from services.incidents.tests.test_automation import settle
from services.incidents.tests.test_domain_evidence import verify_independently
from services.incidents.tests.test_events import the_incident
from shared.contracts.incidents import IncidentClosed
from shared.tasks import task_table
from shared.testing import Harness, TestServer, harness


class Subscriber:
    """A receiver on a real socket."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((headers, await request.read()))
        status = self.answers.pop(0) if self.answers else 204
        if status == 302:
            return web.Response(status=302, headers={"Location": self.url + "/elsewhere"})
        return web.Response(status=status, text="told")


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    receiving = Subscriber()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiving.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiving.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiving
    await runner.cleanup()


async def subscribed(incidents: Harness, url: str, **body: Any) -> dict[str, Any]:
    teams = body.pop("as_teams", None)
    answer = await incidents.client("analyst", teams=teams).post("/v1/webhooks", json={"url": url, **body})
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


async def test_deliveries_verify_by_the_standard(incidents: Harness, subscriber: Subscriber) -> None:
    webhook = await subscribed(incidents, subscriber.url)
    await incidents.deliver(an_alert_raised())
    await incidents.do_tasks()
    types = [json.loads(body)["type"] for _, body in subscriber.got]
    assert sorted(types) == ["incident.contained", "incident.opened", "step.completed", "step.completed"]
    for headers, body in subscriber.got:
        assert verify_independently(webhook["secret"], headers, body)
        assert not verify_independently(webhook["secret"], headers, body + b" ")
    assert len({headers["webhook-id"] for headers, _ in subscriber.got}) == 4


class Costly(IncidentClosed):
    """Counts how often somebody had it put into words."""

    words: ClassVar[list[str]] = []

    @field_serializer("version")
    def _count(self, version: int) -> int:
        self.words.append(self.TYPE)
        return version


async def test_an_event_is_put_into_words_for_subscribers_alone(incidents: Harness, subscriber: Subscriber) -> None:
    change = opened()
    event = Costly(version=1, occurred_at=NOON, incident=change.incident.snapshot())
    for expected in (0, 1):
        async with incidents.runtime.db.begin() as tx:
            await owe_webhooks(tx, change, [event])
        assert len(event.words) == expected
        await subscribed(incidents, subscriber.url)
    await incidents.do_tasks()
    assert [json.loads(body)["type"] for _, body in subscriber.got] == ["incident.closed"]


async def test_the_secret_is_shown_once_and_sealed_at_rest(incidents: Harness, subscriber: Subscriber) -> None:
    webhook = await subscribed(incidents, subscriber.url)
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    client = incidents.client("analyst")
    assert webhook["secret"].startswith("whsec_")
    assert (await client.get(path)).json()["secret"] is None
    assert (await client.get("/v1/webhooks")).json()["items"][0]["secret"] is None
    async with incidents.runtime.db.read() as tx:
        sealed = bytes(await tx.scalar(sa.select(webhook_table.c.sealed_secret)) or b"")
    assert base64.b64decode(webhook["secret"].removeprefix("whsec_")) not in sealed
    rotated = await client.patch(path, json={"rotate_secret": True}, headers={"If-Match": '"1"'})
    assert rotated.json()["secret"] not in (None, webhook["secret"])
    assert (await client.post(f"{path}/test")).status_code == 202
    await incidents.do_tasks()
    assert verify_independently(rotated.json()["secret"], *subscriber.got[-1])


async def test_a_failed_delivery_is_tried_again_under_the_same_id(incidents: Harness, subscriber: Subscriber) -> None:
    webhook = await subscribed(incidents, subscriber.url, event_types=["incident.opened"])
    subscriber.answers = [500, 302, 429]
    await incidents.deliver(an_alert_raised())
    await settle(incidents)
    assert len(subscriber.got) == 4
    assert len({headers["webhook-id"] for headers, _ in subscriber.got}) == 1
    deliveries = await incidents.client().get(f"/v1/webhooks/{webhook['webhook_id']}/deliveries")
    [delivery] = deliveries.json()["items"]
    assert (delivery["status"], delivery["attempts"], delivery["response_status"]) == ("delivered", 4, 204)


async def test_a_receiver_that_never_answers_is_given_up(incidents: Harness, subscriber: Subscriber) -> None:
    webhook = await subscribed(incidents, subscriber.url, event_types=["incident.opened"])
    subscriber.answers = [500] * 20
    await incidents.deliver(an_alert_raised())
    await settle(incidents)
    [delivery] = (await incidents.client().get(f"/v1/webhooks/{webhook['webhook_id']}/deliveries")).json()["items"]
    assert (delivery["status"], delivery["attempts"]) == ("failed", 9)
    assert "answered 500: told" in delivery["error"]


async def test_a_receiver_that_is_gone_is_unsubscribed(incidents: Harness, subscriber: Subscriber) -> None:
    webhook = await subscribed(incidents, subscriber.url)
    subscriber.answers = [410]
    await incidents.client("analyst").post(f"/v1/webhooks/{webhook['webhook_id']}/test")
    await incidents.do_tasks()
    shown = (await incidents.client().get(f"/v1/webhooks/{webhook['webhook_id']}")).json()
    assert (shown["enabled"], shown["version"]) == (False, 2)
    refused = await incidents.client("analyst").post(f"/v1/webhooks/{webhook['webhook_id']}/test")
    assert refused.status_code == 409


async def test_an_escalation_asks_subscribers_to_notify_a_role(incidents: Harness, subscriber: Subscriber) -> None:
    await subscribed(incidents, subscriber.url, event_types=["step.overdue", "notification.requested"])
    await incidents.deliver(an_alert_raised(category="agent_unauthorized_actions"))
    async with incidents.runtime.db.begin() as tx:
        long_past = datetime(2026, 11, 22, 12, 5, tzinfo=UTC)
        late = sa.text("jsonb_set(steps, '{0,due_at}', '\"2026-11-22T12:05:00+00:00\"')")
        await tx.execute(incident_table.update().values(steps=late, next_due_at=long_past))
    await jobs.flag_overdue_steps(incidents.runtime)
    await settle(incidents)
    told = {json.loads(body)["type"]: json.loads(body)["data"] for _, body in subscriber.got}
    assert told["notification.requested"]["role"] == "infrastructure_team"
    assert told["step.overdue"]["step_number"] == 1


async def test_subscribers_are_told_of_their_teams_only(incidents: Harness, subscriber: Subscriber) -> None:
    await subscribed(incidents, subscriber.url + "/marketing", as_teams=["marketing"])
    await subscribed(incidents, subscriber.url + "/payments", as_teams=["payments"])
    await subscribed(incidents, subscriber.url + "/narrowed", teams=["marketing"])
    await incidents.deliver(an_alert_raised())
    await incidents.do_tasks()
    assert len(subscriber.got) == 4
    other = incidents.client("analyst", teams=["marketing"])
    listed = (await other.get("/v1/webhooks")).json()["items"]
    assert sorted(one["url"].rsplit("/", 1)[1] for one in listed) == ["marketing", "narrowed"]
    foreign = await other.post("/v1/webhooks", json={"url": subscriber.url, "teams": ["payments"]})
    assert foreign.status_code == 422
    whole = await subscribed(incidents, subscriber.url + "/all")
    for method in ("GET", "DELETE", "PATCH"):
        path = f"/v1/webhooks/{whole['webhook_id']}"
        body: dict[str, Any] | None = {} if method == "PATCH" else None
        answer = await other.request(method, path, headers={"If-Match": "*"}, json=body)
        assert answer.status_code == 404


async def test_a_removed_webhook_gets_nothing_more(incidents: Harness, subscriber: Subscriber) -> None:
    webhook = await subscribed(incidents, subscriber.url)
    await incidents.deliver(an_alert_raised())
    assert (await incidents.client("analyst").delete(f"/v1/webhooks/{webhook['webhook_id']}")).status_code == 204
    await incidents.do_tasks()
    assert subscriber.got == []
    assert (await the_incident(incidents))["status"] == "contained"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://example.com/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://localhost/hook",
        "https://sub.localhost/hook",
        "https://10.0.0.7/",
        "https://192.168.1.1/",
        "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fe80::1]/",
        "https://[fc00::1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://user:secret@example.com/",
        "https://example.com/#fragment",
        "https://example.com:22/",
        "https://example.com:99999/",
        "https:///nohost",
        "https://exa mple.com/",
        "nonsense",
        "https://[::1",
    ],
)
async def test_a_webhook_may_not_lead_inside(postgres: TestServer, url: str) -> None:
    with pytest.raises(WebhookUrlRefused):
        Reach().check_url(url)


async def test_the_api_refuses_such_a_url_by_name(postgres: TestServer, subscriber: Subscriber) -> None:
    async with harness(SERVICE, IncidentsSettings, postgres) as service:
        refused = await service.client("analyst").post("/v1/webhooks", json={"url": subscriber.url})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "/url"
        unknown = await service.client("analyst").post(
            "/v1/webhooks", json={"url": "https://example.com/x", "event_types": ["coffee.ready"]}
        )
        assert unknown.status_code == 422


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert Reach().allows(ip_address(address), 443)


PLATFORM = Reach(loopback=True, networks=(ip_network("10.20.0.0/16"),), own_ports=frozenset({5432, 8081}))


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://127.0.0.1:9000/hook", None),
        ("http://localhost:9000/hook", None),
        ("https://[::1]:9000/hook", None),
        ("https://10.20.1.2/hook", None),
        ("https://example.com:8081/hook", None),
        ("https://8.8.8.8:8081/hook", None),
        ("http://127.0.0.1:8081/v1/rules", "platform"),
        ("http://127.8.8.8:8081/v1/rules", "platform"),
        ("http://localhost:5432/", "platform"),
        ("https://a.localhost:8081/", "platform"),
        ("https://[::1]:8081/", "platform"),
        ("https://[::ffff:127.0.0.1]:8081/", "not public"),
        ("https://10.20.1.2:8081/hook", "not public"),
        ("http://10.20.1.2/hook", "not https"),
        ("https://10.21.0.1/hook", "not public"),
        ("https://169.254.169.254/latest/meta-data", "not public"),
        ("https://0.0.0.0:9000/", "not public"),
    ],
)
def test_what_is_let_in_by_name_never_includes_the_platform_itself(url: str, refused: str | None) -> None:
    if refused is None:
        assert PLATFORM.check_url(url)
        return
    with pytest.raises(WebhookUrlRefused, match=refused):
        PLATFORM.check_url(url)


@pytest.mark.parametrize("port", [8081, 9000])
async def test_a_name_that_leads_to_the_platform_itself_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    async def answers(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    resolving = CheckedResolver(PLATFORM).resolve("rebound.example", port)
    if port == 9000:
        assert (await resolving)[0]["host"] == "127.0.0.1"
        return
    with pytest.raises(AddressRefused):
        await resolving


async def test_where_loopback_is_allowed_the_platforms_ports_are_not(
    incidents: Harness, neighbours: Neighbours, subscriber: Subscriber
) -> None:
    """Neither in a new subscription nor in a changed one, nor at delivery to one that was written otherwise."""
    settings = incidents.runtime.settings
    database = urlsplit(settings.database_url.get_secret_value()).port
    client = incidents.client("analyst")
    webhook = await subscribed(incidents, subscriber.url)
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    targets = [*neighbours.urls.values(), f"http://127.0.0.1:{database}", f"http://localhost:{settings.bind_port}"]
    for target in [*targets, settings.nats_url.replace("nats:", "http:")]:
        refused = await client.post("/v1/webhooks", json={"url": f"{target}/v1/containments"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "/url"), target
        changed = await client.patch(path, json={"url": f"{target}/x"}, headers={"If-Match": "*"})
        assert changed.status_code == 422
    async with incidents.runtime.db.begin() as tx:
        await tx.execute(webhook_table.update().values(url=f"{neighbours.urls['detection']}/v1/containments"))
    assert (await client.post(f"{path}/test")).status_code == 202
    await settle(incidents)
    assert neighbours.asked == []
    [delivery] = (await client.get(f"{path}/deliveries")).json()["items"]
    assert (delivery["status"], delivery["attempts"]) == ("failed", 1)


@pytest.mark.parametrize(
    ("changed", "ports"),
    [
        ({"nats_url": "nats://nats"}, {4222}),
        ({"nats_url": "nats://a:4001,nats://b:4002"}, {4001}),
        ({"database_url": "postgresql://u:p:5@h/db"}, {5432}),
        ({"database_url": "postgresql://u:p@[::1]:6000,h2:6001/db"}, {6000, 6001}),
        ({"service_urls": {"a": "https://a", "b": "http://b", "c": "http://c:1234/x"}}, {443, 80, 1234}),
        ({"webhook_refused_ports": [8089]}, {8089}),
    ],
)
def test_the_platforms_ports_are_read_from_the_settings(changed: dict[str, Any], ports: set[int]) -> None:
    values: dict[str, Any] = {"database_url": "postgresql://h/db", "trust_file": "/x", "cursor_secret": "x" * 16}
    assert ports | {8084} <= IncidentsSettings(**(values | changed)).own_ports


async def test_a_name_that_turns_inward_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up by us, and each of its addresses is checked: one bad one among good ones is enough."""

    async def answers(*_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 443)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answers)
    with pytest.raises(AddressRefused):
        await CheckedResolver(Reach()).resolve("rebound.example", 443)


@pytest.fixture
async def turned_inward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name under `.example` leads inside."""
    loop = asyncio.get_running_loop()
    really = loop.getaddrinfo

    async def answers(host: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if str(host).endswith(".example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.11.12.13", 443))]
        return list(await really(host, *args, **kwargs))

    monkeypatch.setattr(loop, "getaddrinfo", answers)


async def test_a_delivery_to_a_name_that_turned_inward_is_not_tried_again(
    incidents: Harness, subscriber: Subscriber, turned_inward: None
) -> None:
    webhook = await subscribed(incidents, subscriber.url)
    async with incidents.runtime.db.begin() as tx:
        await tx.execute(webhook_table.update().values(url="https://rebound.example/hook"))
    path = f"/v1/webhooks/{webhook['webhook_id']}"
    assert (await incidents.client("analyst").post(f"{path}/test")).status_code == 202
    await settle(incidents)
    [delivery] = (await incidents.client().get(f"{path}/deliveries")).json()["items"]
    assert (delivery["status"], delivery["attempts"]) == ("failed", 1)
    assert "not public" in delivery["error"]
    assert "10.11.12.13" not in delivery["error"]
    async with incidents.runtime.db.read() as tx:
        [owed] = (await tx.execute(sa.select(task_table).where(task_table.c.kind == DELIVER))).all()
    assert (owed.status, "10.11.12.13" in str(owed)) == ("dead", False)


async def test_a_refusal_does_not_tell_what_a_name_resolves_to(incidents: Harness, turned_inward: None) -> None:
    refused = await incidents.client("analyst").post("/v1/webhooks", json={"url": "https://db.internal.example/"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "/url")
    assert "10.11.12.13" not in refused.text
