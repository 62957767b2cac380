"""Acceptances and board decisions over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from services.governance.application import acceptances
from services.governance.tests.factories import an_asset, assessed, day, in_days, made
from shared.testing import Harness

URL = "/v1/governance/acceptances"
DECISIONS = "/v1/governance/decisions"


async def requested(client: httpx.AsyncClient, asset_id: Any, **fields: Any) -> dict[str, Any]:
    body = {"kind": "risk", "asset_id": str(asset_id), "justification": "fixed in January", "expires_at": in_days(60)}
    return await made(await client.post(URL, json=body | fields))


async def kinds(governance: Harness) -> list[str]:
    types = [event.type for event in await governance.published()]
    return [kind.split(".")[3] for kind in types if kind.startswith("ev.governance.acceptance.")]


async def test_a_risk_is_accepted_by_somebody_else_and_announced(governance: Harness) -> None:
    asset_id = await an_asset(governance, score=53.44)
    asked = await requested(governance.client("engineer", subject="alice"), asset_id)
    assert (asked["status"], asked["requested_score"], asked["requested_level"]) == ("requested", 53.44, "HIGH")
    bob = governance.client("approver", subject="bob")
    granted = await made(await bob.post(f"{URL}/{asked['acceptance_id']}/approve", json={"note": "watched"}), 200)
    assert (granted["status"], granted["decided_by"], granted["accepted_score"]) == ("approved", "bob", 53.44)
    assert await kinds(governance) == ["requested", "granted"]
    event = (await governance.published("ev.governance.acceptance.granted.v1"))[0].data["acceptance"]
    assert (event["kind"], event["status"], event["owner_team"]) == ("risk", "approved", "support")
    assert event["asset_id"] == str(asset_id)


async def test_the_requester_cannot_decide_whatever_their_role(governance: Harness) -> None:
    alice = governance.client("admin", subject="alice")
    asked = await requested(alice, await an_asset(governance, score=53.44))
    url = f"{URL}/{asked['acceptance_id']}"
    for path, body in (("approve", {}), ("reject", {"reason": "no"})):
        answer = await alice.post(f"{url}/{path}", json=body)
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:colonnade:problem:own-request"
    assert (await made(await alice.get(url), 200))["status"] == "requested"


async def test_deciding_takes_the_scope_and_a_role_that_the_appetite_names(governance: Harness) -> None:
    asked = await requested(governance.client("engineer"), await an_asset(governance, score=53.44))
    url = f"{URL}/{asked['acceptance_id']}/approve"
    assert (await governance.client("engineer", subject="bob").post(url, json={})).status_code == 403
    scopes = ["governance:read", "governance:approve"]
    answer = await governance.client("engineer", subject="bob", scopes=scopes).post(url, json={})
    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:colonnade:problem:not-entitled"


async def test_an_acceptance_expires_when_its_time_is_over(governance: Harness) -> None:
    asset_id = await an_asset(governance, score=53.44)
    asked = await requested(governance.client("engineer"), asset_id)
    waiting = await requested(governance.client("engineer"), asset_id, expires_at=in_days(61))
    await made(
        await governance.client("approver", subject="bob").post(f"{URL}/{asked['acceptance_id']}/approve", json={}), 200
    )
    async with governance.runtime.db.begin() as tx:
        assert await acceptances.expire(tx, datetime.now(UTC)) == 0
    async with governance.runtime.db.begin() as tx:
        assert await acceptances.expire(tx, datetime.now(UTC) + timedelta(days=62)) == 2
    found = await made(await governance.client("viewer").get(f"{URL}/{asked['acceptance_id']}"), 200)
    assert (found["status"], found["ended_by"]) == ("expired", None)
    assert await kinds(governance) == ["requested", "requested", "granted", "expired", "expired"]
    late = await governance.client("approver", subject="bob").post(f"{URL}/{waiting['acceptance_id']}/approve", json={})
    assert late.status_code == 409


async def test_a_rejected_or_revoked_acceptance_is_over(governance: Harness) -> None:
    alice, bob = governance.client("engineer"), governance.client("approver", subject="bob")
    asset_id = await an_asset(governance, score=53.44)
    one, two = await requested(alice, asset_id), await requested(alice, asset_id)
    rejected = await bob.post(f"{URL}/{one['acceptance_id']}/reject", json={"reason": "fix it"})
    assert (await made(rejected, 200))["decision_note"] == "fix it"
    assert (await bob.post(f"{URL}/{one['acceptance_id']}/approve", json={})).status_code == 409
    assert (await bob.post(f"{URL}/{two['acceptance_id']}/revoke", json={"reason": "x"})).status_code == 409
    await made(await bob.post(f"{URL}/{two['acceptance_id']}/approve", json={}), 200)
    revoked = await made(await bob.post(f"{URL}/{two['acceptance_id']}/revoke", json={"reason": "worse"}), 200)
    assert (revoked["status"], revoked["ended_by"], revoked["end_reason"]) == ("revoked", "bob", "worse")
    assert await kinds(governance) == ["requested", "requested", "rejected", "granted", "revoked"]


async def test_two_who_decide_at_once_do_not_both(governance: Harness) -> None:
    asked = await requested(governance.client("engineer"), await an_asset(governance, score=53.44))
    url = f"{URL}/{asked['acceptance_id']}/approve"
    deciders = [governance.client("approver", subject=f"approver-{number}") for number in range(5)]
    answers = await asyncio.gather(*(decider.post(url, json={}) for decider in deciders))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    assert await kinds(governance) == ["requested", "granted"]


async def test_critical_risk_takes_a_decision_of_the_board(governance: Harness) -> None:
    asked = await requested(
        governance.client("engineer"), await an_asset(governance, score=80.0), expires_at=in_days(29)
    )
    url = f"{URL}/{asked['acceptance_id']}/approve"
    bob = governance.client("approver", subject="bob")
    missing = await bob.post(url, json={})
    assert (missing.status_code, missing.json()["type"]) == (409, "urn:colonnade:problem:board-decision-missing")
    unknown = await bob.post(url, json={"decision_id": str(uuid4())})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (404, "/decision_id")
    decision = {"title": "Accept for a month", "outcome": "approved", "rationale": "Contract ends."}
    recorded = await made(await bob.post(DECISIONS, json=decision | {"acceptance_id": asked["acceptance_id"]}))
    assert recorded["asset_id"] == asked["asset_id"]
    granted = await made(await bob.post(url, json={"decision_id": recorded["decision_id"]}), 200)
    assert granted["decision_id"] == recorded["decision_id"]
    (event,) = await governance.published("ev.governance.decision.recorded.v1")
    assert event.data["outcome"] == "approved"


async def test_a_risk_that_rose_after_the_request_is_judged_as_it_stands(governance: Harness) -> None:
    asset_id = await an_asset(governance, score=53.44)
    asked = await requested(governance.client("engineer"), asset_id)
    await governance.deliver(assessed(asset_id, 80.0, version=2))
    answer = await governance.client("approver", subject="bob").post(f"{URL}/{asked['acceptance_id']}/approve", json={})
    assert (answer.status_code, answer.json()["max_days"]) == (409, 30)


async def test_a_changed_appetite_governs_from_then_on(governance: Harness) -> None:
    admin = governance.client()
    asset_id = await an_asset(governance, score=53.44)
    got = await admin.get("/v1/governance/appetite")
    document = {
        name: value for name, value in got.json().items() if name not in ("version", "changed_by", "changed_at")
    }
    document["levels"]["HIGH"]["max_days"] = 45
    document["levels"]["CRITICAL"]["max_days"] = 20
    changed = await admin.put("/v1/governance/appetite", json=document, headers={"If-Match": got.headers["etag"]})
    assert (await made(changed, 200))["version"] == 2
    body = {"kind": "risk", "asset_id": str(asset_id), "justification": "x", "expires_at": in_days(46)}
    assert (await governance.client("engineer").post(URL, json=body)).status_code == 409
    await requested(governance.client("engineer"), asset_id, expires_at=in_days(44))
    (event,) = await governance.published("ev.governance.appetite.changed.v1")
    assert event.data["version"] == 2


async def test_an_exception_names_what_it_deviates_from(governance: Harness) -> None:
    alice = governance.client("engineer")
    asset_id = await an_asset(governance, score=53.44)
    fields = {"kind": "exception", "policy_id": "acceptable-use", "statement_id": "AU-4"}
    asked = await requested(alice, asset_id, **fields)
    assert (asked["policy_id"], asked["statement_id"]) == ("acceptable-use", "AU-4")
    body = {"kind": "exception", "justification": "trial", "expires_at": in_days(30), "control_id": "CLN-AGT-01"}
    assert (await made(await alice.post(URL, json=body)))["asset_id"] is None
    bound = governance.client("engineer", teams=["support"])
    assert (await bound.post(URL, json=body)).status_code == 403


_WRONG_REQUESTS: list[tuple[dict[str, Any], int, str]] = [
    ({"kind": "wish"}, 422, "/kind"),
    ({"asset_id": None}, 422, "/asset_id"),
    ({"asset_id": str(uuid4())}, 404, "/asset_id"),
    ({"expires_at": None}, 422, "/expires_at"),
    ({"expires_at": "2027-01-01T00:00:00"}, 422, "/expires_at"),
    ({"expires_at": 1800000000}, 422, "/expires_at"),
    ({"expires_at": "1800000000"}, 422, "/expires_at"),
    ({"expires_at": "9999-12-31T23:59:59-14:00"}, 422, "/expires_at"),
    ({"expires_at": in_days(-1)}, 409, "/expires_at"),
    ({"expires_at": in_days(91)}, 409, "/expires_at"),
    ({"justification": " "}, 422, "/justification"),
    ({"kind": "exception"}, 422, "/policy_id"),
    ({"policy_id": "unknown"}, 404, "/policy_id"),
    ({"policy_id": "acceptable-use", "statement_id": "AU-99"}, 409, "/statement_id"),
    ({"statement_id": "AU-1"}, 422, "/policy_id"),
    ({"control_id": "CLN-XXX-99"}, 404, "/control_id"),
    ({"status": "approved"}, 422, "/status"),
    ({"requested_by": "bob"}, 422, "/requested_by"),
]


async def test_a_wrong_request_is_refused_by_name_and_not_written(governance: Harness) -> None:
    alice = governance.client("engineer")
    asset_id = await an_asset(governance, score=53.44)
    for fields, status, field in _WRONG_REQUESTS:
        body = {"kind": "risk", "asset_id": str(asset_id), "justification": "x", "expires_at": in_days(60)} | fields
        answer = await alice.post(URL, json=body)
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert (await made(await alice.get(URL), 200))["items"] == []


async def test_another_teams_acceptance_does_not_exist(governance: Harness) -> None:
    theirs = await an_asset(governance, score=53.44, owner_team="billing")
    asked = await requested(governance.client("engineer"), theirs)
    url = f"{URL}/{asked['acceptance_id']}"
    ours = governance.client("approver", subject="bob", teams=["support"])
    assert (await ours.get(url)).status_code == 404
    assert (await ours.post(f"{url}/approve", json={})).status_code == 404
    assert (await made(await ours.get(URL), 200))["items"] == []
    body = {"kind": "risk", "asset_id": str(theirs), "justification": "x", "expires_at": in_days(9)}
    assert (await ours.post(URL, json=body)).status_code == 404


async def test_acceptances_are_filtered_and_paged(governance: Harness) -> None:
    alice, bob = governance.client("engineer", subject="alice"), governance.client("approver", subject="bob")
    one, two = await an_asset(governance, score=53.44), await an_asset(governance, score=30.0)
    first = await requested(alice, one, expires_at=in_days(10))
    await requested(bob, two)
    await made(await bob.post(f"{URL}/{first['acceptance_id']}/approve", json={}), 200)
    for params, count in (
        ({"status": "approved"}, 1),
        ({"status": "requested"}, 1),
        ({"kind": "exception"}, 0),
        ({"asset_id": str(two)}, 1),
        ({"requested_by": "alice"}, 1),
        ({"expires_before": in_days(11)}, 1),
    ):
        assert len((await made(await alice.get(URL, params=params), 200))["items"]) == count, params
    page = await made(await alice.get(URL, params={"limit": 1}), 200)
    rest = await made(await alice.get(URL, params={"limit": 1, "cursor": page["next_cursor"]}), 200)
    assert [page["items"][0]["asset_id"], rest["items"][0]["asset_id"]] == [str(two), str(one)]
    assert rest["next_cursor"] is None
    other_filter = {"limit": 1, "cursor": page["next_cursor"], "status": "approved"}
    assert (await alice.get(URL, params=other_filter)).status_code == 422


async def test_how_an_asset_stands_and_what_it_would_take(governance: Harness) -> None:
    viewer = governance.client("viewer")
    known, unknown = await an_asset(governance, score=53.44), await an_asset(governance)
    stands = await made(await viewer.get(f"/v1/governance/appetite/assets/{known}"), 200)
    assert (stands["max_residual_score"], stands["within_appetite"]) == (35, False)
    assert (stands["rule"]["max_days"], stands["rule"]["accepted_by"]) == (90, "ciso")
    open_question = await made(await viewer.get(f"/v1/governance/appetite/assets/{unknown}"), 200)
    assert open_question["within_appetite"] is None
    assert open_question["rule"]["board_decision"] is True
    bound = governance.client("viewer", teams=["billing"])
    assert (await bound.get(f"/v1/governance/appetite/assets/{known}")).status_code == 404


# -- decisions ---------------------------------------------------------------------------------------------------------


async def test_decisions_are_recorded_once_and_filtered(governance: Harness) -> None:
    bob = governance.client("approver", subject="bob")
    asset_id = await an_asset(governance)
    body = {"title": "Use of the agent", "outcome": "approved", "rationale": "Benefits.", "asset_id": str(asset_id)}
    one = await made(await bob.post(DECISIONS, json=body | {"conditions": ["monitored"], "decided_on": day(-3)}))
    later = {"title": "Stop", "outcome": "rejected", "rationale": "Costs.", "supersedes": one["decision_id"]}
    two = await made(await bob.post(DECISIONS, json=later))
    assert (one["recorded_by"], one["decided_on"], two["decided_on"]) == ("bob", day(-3), day())
    assert len((await made(await bob.get(DECISIONS, params={"outcome": "rejected"}), 200))["items"]) == 1
    mine = governance.client("viewer", teams=["support"])
    assert [found["title"] for found in (await made(await mine.get(DECISIONS), 200))["items"]] == ["Use of the agent"]
    assert (await mine.get(f"{DECISIONS}/{two['decision_id']}")).status_code == 404
    assert (await mine.get(f"{DECISIONS}/{one['decision_id']}")).status_code == 200


_WRONG_DECISIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"outcome": "maybe"}, 422, "/outcome"),
    ({"title": ""}, 422, "/title"),
    ({"decided_on": day(1)}, 409, "/decided_on"),
    ({"decided_on": "1066-10-14"}, 409, "/decided_on"),
    ({"asset_id": str(uuid4())}, 404, "/asset_id"),
    ({"acceptance_id": str(uuid4())}, 404, "/acceptance_id"),
    ({"policy_id": "unknown"}, 404, "/policy_id"),
    ({"supersedes": str(uuid4())}, 404, "/supersedes"),
]


async def test_a_wrong_decision_is_refused_by_name(governance: Harness) -> None:
    client = governance.client("approver")
    for fields, status, field in _WRONG_DECISIONS:
        answer = await client.post(DECISIONS, json={"title": "x", "outcome": "approved", "rationale": "y"} | fields)
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields


async def test_decisions_are_the_organisations(governance: Harness) -> None:
    body = {"title": "x", "outcome": "approved", "rationale": "y"}
    assert (await governance.client("approver", teams=["support"]).post(DECISIONS, json=body)).status_code == 403
    assert (await governance.client("engineer").post(DECISIONS, json=body)).status_code == 403
