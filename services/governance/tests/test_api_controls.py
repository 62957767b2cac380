"""Controls and their deployments over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from services.governance.application import controls
from services.governance.tests.factories import a_control, an_asset, day, made
from shared.testing import Harness

CONTROLS = "/v1/governance/controls"
DEPLOYMENTS = "/v1/governance/control-deployments"


async def deployed(client: httpx.AsyncClient, asset_id: Any, control_id: str = "CLN-INP-01", **fields: Any) -> Any:
    body = {"control_id": control_id, "asset_id": str(asset_id), **fields}
    return await made(await client.post(DEPLOYMENTS, json=body))


async def every(client: httpx.AsyncClient, url: str, limit: int = 50, **params: Any) -> list[dict[str, Any]]:
    """All items of a list, page after page."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = params | {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = await made(await client.get(url, params=asked), 200)
        assert len(page["items"]) <= limit
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


# -- controls ----------------------------------------------------------------------------------------------------------


async def test_the_library_is_listed_page_by_page_with_own_controls_in_their_place(governance: Harness) -> None:
    client = governance.client()
    await made(await client.post(CONTROLS, json=a_control()))
    found = await every(client, CONTROLS, limit=7)
    ids = [control["control_id"] for control in found]
    assert ids == sorted(set(ids))
    assert len(ids) >= 49
    assert {control["function"] for control in found} == {"preventive", "detective", "corrective"}
    assert [control["control_id"] for control in found if control["source"] == "own"] == ["OWN-INP-01"]


_FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"function": "corrective"}, lambda control: control["function"] == "corrective"),
    ({"control_type": "rate_limiting"}, lambda control: control["control_type"] == "rate_limiting"),
    ({"applies_to": "mcp_server"}, lambda control: "mcp_server" in control["applies_to"]),
    ({"maps_to": "LLM09:2026"}, lambda control: "LLM09:2026" in control["mappings"]["owasp_llm_2026"]),
    ({"maps_to": "Art. 73"}, lambda control: "Art. 73" in control["mappings"]["eu_ai_act"]),
]


async def test_controls_are_filtered(governance: Harness) -> None:
    client = governance.client("viewer")
    everything = await every(client, CONTROLS)
    for params, holds in _FILTERS:
        found = await every(client, CONTROLS, **params)
        assert found == [control for control in everything if holds(control)], params
        assert found, params


async def test_one_control_comes_with_its_implementation(governance: Harness) -> None:
    control = await made(await governance.client("viewer").get(f"{CONTROLS}/CLN-INP-01"), 200)
    assert control["source"] == "library"
    assert control["implementation"]["steps"]
    assert control["implementation"]["verification"][0]["expected"]
    missing = await governance.client("viewer").get(f"{CONTROLS}/CLN-XXX-99")
    assert missing.status_code == 404


async def test_own_controls_are_changed_under_their_version(governance: Harness) -> None:
    client = governance.client()
    added = await client.post(CONTROLS, json=a_control())
    assert added.headers["etag"] == '"1"'
    url, text = added.headers["location"], a_control(title="Screen attachments")
    del text["control_id"]
    assert (await client.put(url, json=text)).status_code == 428
    changed = await made(await client.put(url, json=text, headers={"If-Match": '"1"'}), 200)
    assert (changed["control_id"], changed["title"], changed["version"]) == ("OWN-INP-01", "Screen attachments", 2)
    assert (await client.put(url, json=text, headers={"If-Match": '"1"'})).status_code == 412
    assert (await client.put(f"{CONTROLS}/OWN-XXX-01", json=text, headers={"If-Match": "*"})).status_code == 404
    assert (await client.post(CONTROLS, json=a_control())).status_code == 409


async def test_the_library_cannot_be_changed_nor_its_ids_taken(governance: Harness) -> None:
    client = governance.client()
    body = a_control()
    del body["control_id"]
    assert (await client.put(f"{CONTROLS}/CLN-INP-01", json=body, headers={"If-Match": "*"})).status_code == 409
    assert (await client.post(CONTROLS, json=a_control(control_id="CLN-OWN-01"))).status_code == 409


_WRONG_CONTROLS: list[tuple[dict[str, Any], int, str]] = [
    ({"colour": "red"}, 422, "/colour"),
    ({"function": "magic"}, 422, "/function"),
    ({"control_type": "firewall"}, 422, "/control_type"),
    ({"applies_to": ["toaster"]}, 422, "/applies_to/0"),
    ({"applies_to": []}, 422, "/applies_to"),
    ({"control_id": "lower-case"}, 422, "/control_id"),
    ({"title": "  "}, 422, "/title"),
    ({"evidence_valid_days": "60"}, 422, "/evidence_valid_days"),
    ({"mappings": {"atlas": ["AML.M0020", "AML.M9999"]}}, 422, "/mappings/atlas/1"),
    ({"mappings": {"owasp_llm_2025": ["LLM01:2026"]}}, 422, "/mappings/owasp_llm_2025/0"),
    ({"mappings": {"soc2": ["CC1"]}}, 422, "/mappings/soc2"),
    ({"owner_role": "wizard"}, 409, "/owner_role"),
]


async def test_a_wrong_control_is_refused_by_name_and_not_written(governance: Harness) -> None:
    client = governance.client()
    for fields, status, field in _WRONG_CONTROLS:
        answer = await client.post(CONTROLS, json=a_control(**fields))
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert await every(client, CONTROLS, source="own") == []


# -- deployments -------------------------------------------------------------------------------------------------------


async def test_an_operational_control_is_announced_as_one_that_counts(governance: Harness) -> None:
    asset_id = await an_asset(governance)
    client = governance.client("engineer")
    view = await deployed(client, asset_id, operational=True)
    assert (view["status"], view["operational"], view["control_type"]) == ("operational", True, "input_filtering")
    assert view["evidence_due_on"] == day(90)
    (event,) = await governance.published("ev.governance.control.deployed.v1")
    told = event.data["deployment"]
    assert told["asset_id"] == str(asset_id)
    assert (told["operational"], told["control_type"], told["owner_team"]) == (True, "input_filtering", "support")
    (review,) = (await made(await client.get("/v1/governance/reviews", params={"kind": "evidence"}), 200))["items"]
    assert (review["target"], review["due_on"]) == (view["deployment_id"], day(90))


async def test_a_deployment_is_planned_unless_told(governance: Harness) -> None:
    view = await deployed(governance.client("engineer"), await an_asset(governance), "CLN-MON-01")
    assert (view["status"], view["operational"], view["evidence_due_on"]) == ("planned", False, None)
    assert view["owner"] == "ai_security_analyst"


async def test_a_deployment_lives_through_its_statuses_under_its_version(governance: Harness) -> None:
    client = governance.client("engineer")
    view = await deployed(client, await an_asset(governance))
    url = f"{DEPLOYMENTS}/{view['deployment_id']}"
    assert (await client.patch(url, json={"status": "implemented"})).status_code == 428
    one = await client.patch(url, json={"status": "implemented"}, headers={"If-Match": '"1"'})
    assert one.headers["etag"] == '"2"'
    assert (await client.patch(url, json={"operational": True}, headers={"If-Match": '"1"'})).status_code == 412
    two = await made(await client.patch(url, json={"operational": True}, headers={"If-Match": '"2"'}), 200)
    assert two["status"] == "operational"
    three = await made(await client.patch(url, json={"operational": False}, headers={"If-Match": "*"}), 200)
    assert three["status"] == "degraded"
    back = await client.patch(url, json={"status": "planned"}, headers={"If-Match": "*"})
    assert back.status_code == 409
    assert back.json()["type"] == "urn:colonnade:problem:illegal-move"
    four = await made(await client.patch(url, json={"status": "retired"}, headers={"If-Match": "*"}), 200)
    assert four["operational"] is False
    types = [event.type.removeprefix("ev.governance.") for event in await governance.published()]
    assert [kind for kind in types if kind.startswith("control")] == [
        "control.deployed.v1",
        "control.updated.v1",
        "control.updated.v1",
        "control.updated.v1",
        "control.removed.v1",
    ]
    reviews = await made(await client.get("/v1/governance/reviews", params={"kind": "evidence"}), 200)
    assert [review["status"] for review in reviews["items"]] == ["cancelled"]


async def test_evidence_is_kept_and_completes_the_review_that_asked_for_it(governance: Harness) -> None:
    client = governance.client("engineer")
    view = await deployed(client, await an_asset(governance), operational=True)
    url = f"{DEPLOYMENTS}/{view['deployment_id']}"
    evidence = {"summary": "regression set passed", "reference": "https://ci/1", "valid_until": day(120)}
    await made(await client.patch(url, json={"evidence": evidence}, headers={"If-Match": '"1"'}), 200)
    detail = await made(await client.get(url), 200)
    assert detail["evidence_valid_until"] == detail["evidence_due_on"] == day(120)
    assert [piece["summary"] for piece in detail["evidence"]] == ["regression set passed"]
    reviews = await made(await client.get("/v1/governance/reviews", params={"kind": "evidence"}), 200)
    assert [(review["status"], review["due_on"]) for review in reviews["items"]] == [
        ("completed", day(90)),
        ("due", day(120)),
    ]


async def test_a_control_without_fresh_evidence_degrades_by_itself(governance: Harness) -> None:
    client = governance.client("engineer")
    view = await deployed(client, await an_asset(governance), operational=True)
    url = f"{DEPLOYMENTS}/{view['deployment_id']}"
    later = datetime.now(UTC) + timedelta(days=91)
    async with governance.runtime.db.begin() as tx:
        assert await controls.degrade_stale(tx, datetime.now(UTC)) == 0
    async with governance.runtime.db.begin() as tx:
        assert await controls.degrade_stale(tx, later) == 1
    async with governance.runtime.db.begin() as tx:
        assert await controls.degrade_stale(tx, later) == 0
    found = await made(await client.get(url), 200)
    assert (found["status"], found["operational"], found["version"]) == ("degraded", False, 2)
    event = (await governance.published("ev.governance.control.updated.v1"))[-1]
    assert event.data["deployment"]["operational"] is False


async def test_a_control_is_on_an_asset_once_also_when_many_ask_at_once(governance: Harness) -> None:
    asset_id = await an_asset(governance)
    client = governance.client("engineer")
    body = {"control_id": "CLN-INP-01", "asset_id": str(asset_id)}
    answers = await asyncio.gather(*(client.post(DEPLOYMENTS, json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]
    refused = next(answer for answer in answers if answer.status_code == 409)
    winner = next(answer for answer in answers if answer.status_code == 201)
    assert refused.json()["deployment_id"] == winner.json()["deployment_id"]
    await made(
        await client.patch(winner.headers["location"], json={"status": "retired"}, headers={"If-Match": "*"}), 200
    )
    assert (await client.post(DEPLOYMENTS, json=body)).status_code == 201


async def test_an_idempotency_key_deploys_once(governance: Harness) -> None:
    client = governance.client("engineer")
    body = {"control_id": "CLN-INP-01", "asset_id": str(await an_asset(governance))}
    first = await client.post(DEPLOYMENTS, json=body, headers={"Idempotency-Key": "k1"})
    again = await client.post(DEPLOYMENTS, json=body, headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(await governance.published("ev.governance.control.deployed.v1")) == 1


_WRONG_DEPLOYMENTS: list[tuple[dict[str, Any], int, str]] = [
    ({"control_id": "CLN-XXX-99"}, 404, "/control_id"),
    ({"asset_id": str(uuid4())}, 404, "/asset_id"),
    ({"asset_id": "7"}, 422, "/asset_id"),
    ({"control_id": "CLN-DAT-03"}, 409, "/control_id"),
    ({"status": "sleeping"}, 422, "/status"),
    ({"status": "degraded"}, 422, "/status"),
    ({"status": "planned", "operational": True}, 422, "/operational"),
    ({"operational": "yes"}, 422, "/operational"),
    ({"colour": "red"}, 422, "/colour"),
    ({"evidence": {"summary": "x", "collected_on": day(1)}}, 409, "/evidence/collected_on"),
    ({"evidence": {"summary": "x", "valid_until": day(-1)}}, 422, "/evidence/valid_until"),
    ({"evidence": {"summary": "x", "valid_until": "soon"}}, 422, "/evidence/valid_until"),
    ({"evidence": {"summary": "x", "collected_on": 20000}}, 422, "/evidence/collected_on"),
    ({"evidence": {"summary": "x", "sha256": "abc"}}, 422, "/evidence/sha256"),
    ({"evidence": {"summary": ""}}, 422, "/evidence/summary"),
]


async def test_a_wrong_deployment_is_refused_by_name_and_not_written(governance: Harness) -> None:
    client = governance.client("engineer")
    asset_id = await an_asset(governance)
    for fields, status, field in _WRONG_DEPLOYMENTS:
        body = {"control_id": "CLN-INP-01", "asset_id": str(asset_id)} | fields
        answer = await client.post(DEPLOYMENTS, json=body)
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert await every(client, DEPLOYMENTS) == []


async def test_another_teams_asset_and_deployment_do_not_exist(governance: Harness) -> None:
    ours, theirs = await an_asset(governance), await an_asset(governance, owner_team="billing")
    engineer = governance.client("engineer", teams=["support"])
    foreign = await deployed(governance.client(), theirs)
    answer = await engineer.post(DEPLOYMENTS, json={"control_id": "CLN-INP-01", "asset_id": str(theirs)})
    unknown = await engineer.post(DEPLOYMENTS, json={"control_id": "CLN-INP-01", "asset_id": str(uuid4())})
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert answer.json()["type"] == unknown.json()["type"]
    url = f"{DEPLOYMENTS}/{foreign['deployment_id']}"
    assert (await engineer.get(url)).status_code == 404
    assert (await engineer.patch(url, json={"notes": "x"}, headers={"If-Match": "*"})).status_code == 404
    mine = await deployed(engineer, ours)
    assert [found["deployment_id"] for found in await every(engineer, DEPLOYMENTS)] == [mine["deployment_id"]]


async def test_deployments_are_filtered_and_paged(governance: Harness) -> None:
    client = governance.client()
    one, two = await an_asset(governance), await an_asset(governance, owner_team="billing")
    await deployed(client, one, "CLN-INP-01", operational=True)
    await deployed(client, one, "CLN-MON-01", status="implemented")
    await deployed(client, two, "CLN-INP-01")
    everything = await every(client, DEPLOYMENTS, limit=1)
    assert [found["control_id"] for found in everything] == ["CLN-INP-01", "CLN-MON-01", "CLN-INP-01"]
    assert len(await every(client, DEPLOYMENTS, asset_id=str(one))) == 2
    assert len(await every(client, DEPLOYMENTS, control_id="CLN-INP-01")) == 2
    assert len(await every(client, DEPLOYMENTS, control_type="monitoring")) == 1
    assert len(await every(client, DEPLOYMENTS, status="planned")) == 1
    assert len(await every(client, DEPLOYMENTS, operational="true")) == 1
    assert len(await every(client, DEPLOYMENTS, operational="false")) == 2
    assert len(await every(client, DEPLOYMENTS, evidence_stale="true")) == 0
    assert len(await every(client, DEPLOYMENTS, owner_team="billing")) == 1
    assert (await client.get(DEPLOYMENTS, params={"status": "asleep"})).status_code == 422
    assert (await client.get(DEPLOYMENTS, params={"cursor": "nonsense"})).status_code == 422
    assert (await client.get(DEPLOYMENTS, params={"colour": "red"})).status_code == 422


async def test_a_request_waits_for_an_asset_that_is_on_its_way(governance: Harness) -> None:
    governance.runtime.settings = governance.runtime.settings.model_copy(update={"asset_wait_seconds": 5})
    asset_id = uuid4()
    client = governance.client("engineer")
    asking = asyncio.create_task(client.post(DEPLOYMENTS, json={"control_id": "CLN-INP-01", "asset_id": str(asset_id)}))
    await asyncio.sleep(0.1)
    await an_asset(governance, asset_id=asset_id)
    assert (await asking).status_code == 201


# -- coverage ----------------------------------------------------------------------------------------------------------


async def test_coverage_tells_operational_deployed_available_and_none_apart(governance: Harness) -> None:
    client = governance.client()
    asset_id = await an_asset(governance)
    await deployed(client, asset_id, "CLN-AGT-08", operational=True)
    await deployed(client, asset_id, "CLN-RAG-01")
    url = "/v1/governance/frameworks/owasp_llm_2026/coverage"
    found = await made(await client.get(url), 200)
    status = {entry["id"]: entry["status"] for entry in found["entries"]}
    assert status["LLM06:2026"] == "operational"
    assert status["LLM09:2026"] == "deployed"
    assert status["LLM10:2026"] == "available"
    totals = found["totals"]
    assert totals["entries"] == 10
    assert sum(totals[name] for name in ("operational", "deployed", "available", "none")) == 10
    other = await an_asset(governance, owner_team="billing")
    empty = await made(await client.get(url, params={"asset_id": str(other)}), 200)
    assert {entry["status"] for entry in empty["entries"]} == {"available"}
    scoped = governance.client("viewer", teams=["billing"])
    assert (await made(await scoped.get(url), 200))["totals"]["operational"] == 0
    assert (await scoped.get(url, params={"asset_id": str(asset_id)})).status_code == 404


async def test_frameworks_are_listed_with_source_and_entries(governance: Harness) -> None:
    client = governance.client("viewer")
    found = await every(client, "/v1/governance/frameworks", limit=3)
    assert [framework["id"] for framework in found] == sorted(
        [
            "eu_ai_act",
            "iso_42001",
            "mitre_atlas",
            "nist_ai_rmf",
            "owasp_agentic_2026",
            "owasp_llm_2025",
            "owasp_llm_2026",
        ]
    )
    assert all(framework["source"].startswith("https://") for framework in found)
    atlas = await made(await client.get("/v1/governance/frameworks/mitre_atlas"), 200)
    assert len(atlas["entries"]) == atlas["entry_count"] > 200
    assert (await client.get("/v1/governance/frameworks/soc2")).status_code == 404
