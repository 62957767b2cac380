"""What anyone may see: pointers, readiness of the whole, the description, the page that shows it."""

from __future__ import annotations

import json
import re
from typing import Any

from openapi_spec_validator import validate

from deploy.local.ports import free_port, is_taken
from gateway.pages import _STATIC
from gateway.target import SERVICES
from gateway.tests.conftest import Gateway, Service, Stand, service_running
from gateway.tests.test_openapi import document, text
from shared.testing import eventually


def answering(body: Any, status: int = 200) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        content = json.dumps(body).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return answer


async def test_the_root_points_people_and_programs_to_where_to_go(gateway: Gateway) -> None:
    program = await gateway.get("/")
    assert program.json()["openapi"] == "/openapi.json"
    person = await gateway.get("/", headers={"Accept": "text/html,*/*"})
    assert (person.status, person.headers["Location"]) == (303, "/docs")


async def test_what_is_not_offered_is_404_and_pages_are_only_read(gateway: Gateway) -> None:
    for path in ("/nothing", "/v1", "/v1/unknown", "/docs/../x.js", "/docs/docs.py", "/static/docs.js"):
        assert (await gateway.get(path)).status == 404, path
    for path in ("/", "/docs", "/openapi.json", "/readyz"):
        reply = await gateway.call("POST", path)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD"), path
    head = await gateway.call("HEAD", "/docs")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 100


async def test_readiness_names_the_service_that_is_not_ready(stand: Stand, service: Service) -> None:
    service.answers["/readyz"] = answering({"status": "ok", "checks": {"database": "ok", "bus": "ok"}})
    gateway = await stand.gateway()
    reply = await gateway.get("/readyz")
    assert reply.status == 200, reply.text
    assert set(reply.json()["services"]) == {"gateway", *SERVICES}
    async with service_running(Service()) as ill:
        broken = {"status": "not ready", "checks": {"database": "ok", "bus": "cannot be reached"}}
        ill.answers["/readyz"] = answering(broken, 503)
        urls = dict.fromkeys(SERVICES, service.url) | {"risk": ill.url, "metrics": "http://127.0.0.1:9"}
        second = await stand.gateway(service_urls=urls)
        reply = await second.get("/readyz")
        found = reply.json()["services"]
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        assert found["risk"] == {"status": "not ready", "checks": broken["checks"]}
        assert found["metrics"]["checks"] == {"http": "cannot be reached"}
        assert found["inventory"]["status"] == "ok"
        assert ":9" not in reply.text
        alone = await second.get("/readyz?only=gateway")
        assert (alone.status, set(alone.json()["services"])) == (200, {"gateway"})


async def test_the_description_joins_the_services_and_follows_them(stand: Stand, service: Service) -> None:
    service.answers["/openapi.json"] = answering(document("/v1/assets", {"View": text("inventory's")}, "View"))
    async with service_running(Service()) as risk:
        gateway = await stand.gateway(service_urls={"inventory": service.url, "risk": risk.url})
        first = await gateway.get("/openapi.json")  # risk answers something else there: it is left out for now
        validate(first.json())
        assert "/v1/assets" in first.json()["paths"]
        assert "/v1/access/keys" in first.json()["paths"]
        assert "/v1/risk/portfolio" not in first.json()["paths"]
        risk.answers["/openapi.json"] = answering(document("/v1/risk/portfolio", {"View": text("risk's")}, "View"))

        async def complete() -> bool:
            return "/v1/risk/portfolio" in (await gateway.get("/openapi.json")).json()["paths"]

        await eventually(complete, 8)
        whole = await gateway.get("/openapi.json")
        validate(whole.json())
        assert "Risk_View" in whole.json()["components"]["schemas"]
        unchanged = await gateway.get("/openapi.json", headers={"If-None-Match": whole.headers["ETag"]})
        assert (unchanged.status, unchanged.body) == (304, b"")


async def test_the_page_runs_under_a_policy_that_allows_nothing_but_its_own_files(gateway: Gateway) -> None:
    page = await gateway.get("/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in re.findall(r'(?:src|href)="(/docs/[^"]+)"', page.text):
        asset = await gateway.get(path)
        assert asset.status == 200
        assert asset.headers["X-Content-Type-Options"] == "nosniff"
    everything = "".join(path.read_text() for path in _STATIC.iterdir())
    assert not re.search(
        r"https?://|//cdn|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(| on\w+=", everything
    )
    assert "<style" not in page.text
    assert not re.search(r"<script(?![^>]*src=)", page.text)


async def test_metrics_count_requests_by_service_and_status_and_name_no_path(stand: Stand) -> None:
    port = free_port()
    gateway = await stand.gateway(metrics_port=port)
    key = await gateway.key()
    await gateway.get("/v1/assets/some-secret-name", key)
    await gateway.get("/v1/assets")
    async with gateway.session.get(f"http://127.0.0.1:{port}/metrics") as response:
        text_of_metrics = await response.text()
    line = 'colonnade_gateway_request_duration_seconds_count{area="inventory",method="GET",status="%d"}'
    assert line % 200 in text_of_metrics
    assert line % 401 in text_of_metrics
    assert "some-secret-name" not in text_of_metrics
    await gateway.stop()
    await eventually(lambda: not is_taken(port))


async def test_the_public_address_shows_nobody_the_metrics(stand: Stand) -> None:
    gateway = await stand.gateway(metrics_port=free_port())
    for key in (None, await gateway.key("admin")):
        assert (await gateway.get("/metrics", key)).status == 404
