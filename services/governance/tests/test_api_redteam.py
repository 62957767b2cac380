"""Engagements, findings and reviews over HTTP, on a real PostgreSQL."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from services.governance.tests.factories import an_asset, day, in_days, made
from shared.testing import Harness

ENGAGEMENTS = "/v1/governance/red-team/engagements"
FINDINGS = "/v1/governance/red-team/findings"
REVIEWS = "/v1/governance/reviews"


async def under_way(client: httpx.AsyncClient, **fields: Any) -> str:
    """Id of an engagement in progress."""
    made_one = await made(await client.post(ENGAGEMENTS, json={"title": "autumn", "status": "in_progress"} | fields))
    return str(made_one["engagement_id"])


async def found(client: httpx.AsyncClient, engagement_id: str, **fields: Any) -> dict[str, Any]:
    body = {"engagement_id": engagement_id, "title": "tool results are obeyed", "severity": "high"}
    return await made(await client.post(FINDINGS, json=body | fields))


async def test_an_engagement_is_planned_started_and_completed(governance: Harness) -> None:
    asset_id = await an_asset(governance)
    client = governance.client("engineer")
    planned = await client.post(
        ENGAGEMENTS, json={"title": "agents", "asset_ids": [str(asset_id)], "planned_for": day(7)}
    )
    view = await made(planned)
    assert (view["status"], view["owner_team"], view["started_on"]) == ("planned", "support", None)
    url = planned.headers["location"]
    early = await client.patch(url, json={"status": "completed"}, headers={"If-Match": '"1"'})
    assert early.status_code == 409
    started = await made(await client.patch(url, json={"status": "in_progress"}, headers={"If-Match": '"1"'}), 200)
    assert started["started_on"] == day()
    completed = await client.patch(
        url, json={"status": "completed", "summary": "two findings"}, headers={"If-Match": '"2"'}
    )
    assert (await made(completed, 200))["completed_on"] == day()
    events = [event.data["engagement"] for event in await governance.published("ev.governance.engagement.changed.v1")]
    assert [(event["status"], event["version"]) for event in events] == [
        ("planned", 1),
        ("in_progress", 2),
        ("completed", 3),
    ]


async def test_an_engagement_of_the_past_is_recorded_with_its_days(governance: Harness) -> None:
    client = governance.client("engineer")
    body = {"title": "spring", "status": "completed", "started_on": day(-40), "completed_on": day(-30)}
    view = await made(await client.post(ENGAGEMENTS, json=body))
    assert (view["started_on"], view["completed_on"]) == (day(-40), day(-30))


_WRONG_ENGAGEMENTS: list[tuple[dict[str, Any], int, str]] = [
    ({"status": "cancelled"}, 422, "/status"),
    ({"status": "paused"}, 422, "/status"),
    ({"team": "purple"}, 422, "/team"),
    ({"started_on": day(-1)}, 422, "/started_on"),
    ({"status": "in_progress", "started_on": day(1)}, 409, "/started_on"),
    ({"status": "completed", "started_on": day(-1), "completed_on": day(-2)}, 422, "/completed_on"),
    ({"planned_for": "9999-01-01"}, 409, "/planned_for"),
    ({"asset_ids": [str(uuid4())]}, 404, "/asset_ids/0"),
    ({"title": ""}, 422, "/title"),
    ({"colour": "red"}, 422, "/colour"),
]


async def test_a_wrong_engagement_is_refused_by_name(governance: Harness) -> None:
    client = governance.client("engineer")
    for fields, status, field in _WRONG_ENGAGEMENTS:
        answer = await client.post(ENGAGEMENTS, json={"title": "x"} | fields)
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert (await made(await client.get(ENGAGEMENTS), 200))["items"] == []


async def test_a_team_sees_and_makes_engagements_of_its_own_assets(governance: Harness) -> None:
    ours, theirs = await an_asset(governance), await an_asset(governance, owner_team="billing")
    admin, engineer = governance.client(), governance.client("engineer", teams=["support"])
    wide = await under_way(admin, asset_ids=[str(ours), str(theirs)])
    mine = await under_way(engineer, asset_ids=[str(ours)])
    assert (await engineer.post(ENGAGEMENTS, json={"title": "x", "asset_ids": [str(theirs)]})).status_code == 404
    assert (await engineer.post(ENGAGEMENTS, json={"title": "x"})).status_code == 403
    assert (await engineer.post(ENGAGEMENTS, json={"title": "x", "owner_team": "billing"})).status_code == 403
    assert (await engineer.get(f"{ENGAGEMENTS}/{wide}")).status_code == 404
    listed = await made(await engineer.get(ENGAGEMENTS), 200)
    assert [engagement["engagement_id"] for engagement in listed["items"]] == [mine]
    by_asset = await made(await admin.get(ENGAGEMENTS, params={"asset_id": str(theirs)}), 200)
    assert [engagement["engagement_id"] for engagement in by_asset["items"]] == [wide]


async def test_a_finding_gets_its_day_from_the_appetite_and_is_worked_to_its_end(governance: Harness) -> None:
    client = governance.client("engineer")
    asset_id = await an_asset(governance)
    finding = await found(
        client,
        await under_way(client),
        asset_id=str(asset_id),
        owasp=["LLM01:2026", "ASI02:2026"],
        atlas=["AML.T0051.001"],
    )
    assert (finding["status"], finding["due_on"], finding["owner_team"]) == ("open", day(30), "support")
    url = f"{FINDINGS}/{finding['finding_id']}"
    silent = await client.patch(url, json={"status": "remediated"}, headers={"If-Match": '"1"'})
    assert (silent.status_code, silent.json()["errors"][0]["field"]) == (409, "/remediation")
    claimed = {"status": "retest", "remediation": "results are inspected"}
    await made(await client.patch(url, json=claimed, headers={"If-Match": '"1"'}), 200)
    done = await made(await client.patch(url, json={"status": "remediated"}, headers={"If-Match": '"2"'}), 200)
    assert done["remediated_at"] is not None
    events = [event.data["finding"] for event in await governance.published("ev.governance.finding.changed.v1")]
    assert [event["status"] for event in events] == ["open", "retest", "remediated"]
    assert events[-1]["remediated_at"] is not None
    assert (await client.patch(url, json={"owner": "x"}, headers={"If-Match": '"1"'})).status_code == 412


async def test_an_accepted_finding_is_open_again_when_the_acceptance_ends(governance: Harness) -> None:
    alice, bob = governance.client("engineer"), governance.client("approver", subject="bob")
    asset_id, other = await an_asset(governance, score=30.0), await an_asset(governance, score=30.0)
    finding = await found(alice, await under_way(alice), asset_id=str(asset_id))
    url = f"{FINDINGS}/{finding['finding_id']}"

    async def acceptance(of: Any) -> str:
        body = {"kind": "risk", "asset_id": str(of), "justification": "x", "expires_at": in_days(30)}
        return str((await made(await alice.post("/v1/governance/acceptances", json=body)))["acceptance_id"])

    async def accept(acceptance_id: str) -> httpx.Response:
        body = {"status": "accepted", "acceptance_id": acceptance_id}
        return await alice.patch(url, json=body, headers={"If-Match": "*"})

    right, wrong = await acceptance(asset_id), await acceptance(other)
    assert (await accept(right)).status_code == 409  # not approved yet
    for acceptance_id in (right, wrong):
        await made(await bob.post(f"/v1/governance/acceptances/{acceptance_id}/approve", json={}), 200)
    assert (await accept(wrong)).status_code == 409
    assert (await accept(str(uuid4()))).status_code == 404
    assert (await made(await accept(right), 200))["acceptance_id"] == right
    await made(await bob.post(f"/v1/governance/acceptances/{right}/revoke", json={"reason": "worse"}), 200)
    again = await made(await alice.get(url), 200)
    assert (again["status"], again["acceptance_id"], again["version"]) == ("open", None, 3)


_WRONG_FINDINGS: list[tuple[dict[str, Any], int, str]] = [
    ({"severity": "awful"}, 422, "/severity"),
    ({"owasp": ["LLM01:2026", "LLM01"]}, 422, "/owasp/1"),
    ({"atlas": ["AML.T9999"]}, 422, "/atlas/0"),
    ({"due_on": day(-1)}, 409, "/due_on"),
    ({"due_on": "9999-12-31"}, 409, "/due_on"),
    ({"engagement_id": str(uuid4())}, 404, "/engagement_id"),
    ({"asset_id": str(uuid4())}, 404, "/asset_id"),
    ({"status": "remediated"}, 422, "/status"),
]


async def test_a_wrong_finding_is_refused_by_name_and_not_written(governance: Harness) -> None:
    client = governance.client("engineer")
    engagement_id = await under_way(client)
    for fields, status, field in _WRONG_FINDINGS:
        answer = await client.post(
            FINDINGS, json={"engagement_id": engagement_id, "title": "x", "severity": "low"} | fields
        )
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert (await made(await client.get(FINDINGS), 200))["items"] == []


async def test_findings_are_recorded_only_while_or_after_testing(governance: Harness) -> None:
    client = governance.client("engineer")
    planned = await made(await client.post(ENGAGEMENTS, json={"title": "x"}))
    body = {"engagement_id": planned["engagement_id"], "title": "x", "severity": "low"}
    answer = await client.post(FINDINGS, json=body)
    assert (answer.status_code, answer.json()["current_status"]) == (409, "planned")


async def test_findings_are_filtered_and_another_teams_do_not_exist(governance: Harness) -> None:
    admin = governance.client()
    ours, theirs = await an_asset(governance), await an_asset(governance, owner_team="billing")
    engagement = await under_way(admin)
    one = await found(admin, engagement, asset_id=str(ours), severity="low")
    two = await found(admin, engagement, asset_id=str(theirs))
    await found(admin, engagement)
    for params, count in (
        ({"engagement_id": engagement}, 3),
        ({"asset_id": str(ours)}, 1),
        ({"severity": "high"}, 2),
        ({"status": "open"}, 3),
        ({"overdue": "true"}, 0),
        ({"overdue": "false"}, 3),
    ):
        assert len((await made(await admin.get(FINDINGS, params=params), 200))["items"]) == count, params
    engineer = governance.client("engineer", teams=["support"])
    listed = await made(await engineer.get(FINDINGS), 200)
    assert [finding["finding_id"] for finding in listed["items"]] == [one["finding_id"]]
    url = f"{FINDINGS}/{two['finding_id']}"
    assert (await engineer.get(url)).status_code == 404
    assert (await engineer.patch(url, json={"owner": "x"}, headers={"If-Match": "*"})).status_code == 404


# -- reviews -----------------------------------------------------------------------------------------------------------


async def test_a_review_can_be_owed_earlier_than_by_itself_and_moved(governance: Harness) -> None:
    client = governance.client("engineer")
    asset_id = await an_asset(governance)
    body = {"kind": "asset_security", "target": str(asset_id), "due_on": day(3), "note": "after the incident"}
    scheduled = await client.post(REVIEWS, json=body)
    review = await made(scheduled)
    assert (review["timing"], review["owner_team"]) == ("due", "support")
    twin = await client.post(REVIEWS, json=body)
    assert (twin.status_code, twin.json()["review_id"]) == (409, review["review_id"])
    url = scheduled.headers["location"]
    moved = await made(await client.patch(url, json={"due_on": day(40)}, headers={"If-Match": '"1"'}), 200)
    assert (moved["timing"], moved["version"]) == ("upcoming", 2)
    assert (await client.patch(url, json={"due_on": day(41)}, headers={"If-Match": '"1"'})).status_code == 412
    done = await governance.client("approver").post(f"{url}/complete", json={"outcome": "fine"})
    assert done.status_code == 409
    assert f"/v1/assets/{asset_id}/reviews" in done.json()["detail"]
    events = [event.data["review"]["due_on"] for event in await governance.published("ev.governance.review.changed.v1")]
    assert events == [day(3), day(40)]


_WRONG_REVIEWS: list[tuple[dict[str, Any], int, str]] = [
    ({"kind": "party"}, 422, "/kind"),
    ({"target": "seven"}, 422, "/target"),
    ({"target": str(uuid4())}, 404, "/target"),
    ({"kind": "policy", "target": "unknown"}, 404, "/target"),
    ({"kind": "evidence", "target": str(uuid4())}, 404, "/target"),
    ({"due_on": day(-1)}, 409, "/due_on"),
    ({"due_on": "tomorrow"}, 422, "/due_on"),
]


async def test_a_wrong_review_is_refused_by_name(governance: Harness) -> None:
    client = governance.client("engineer")
    asset_id = await an_asset(governance)
    for fields, status, field in _WRONG_REVIEWS:
        body = {"kind": "asset_security", "target": str(asset_id), "due_on": day(9)} | fields
        answer = await client.post(REVIEWS, json=body)
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert (await made(await client.get(REVIEWS), 200))["items"] == []


async def test_reviews_are_paged_by_day_and_filtered(governance: Harness) -> None:
    client = governance.client()
    days = [9, 3, 3, 30]
    for index, due in enumerate(days):
        asset_id = await an_asset(governance, owner_team="support" if index else "billing")
        body = {"kind": "asset_security", "target": str(asset_id), "due_on": day(due)}
        await made(await client.post(REVIEWS, json=body))
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = await made(await client.get(REVIEWS, params=params), 200)
        seen += [review["due_on"] for review in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [day(3), day(3), day(9), day(30)]
    for params, count in (
        ({"timing": "due"}, 3),
        ({"timing": "upcoming"}, 1),
        ({"timing": "overdue"}, 0),
        ({"status": "due"}, 4),
        ({"kind": "policy"}, 0),
    ):
        assert len((await made(await client.get(REVIEWS, params=params), 200))["items"]) == count, params
    bound = governance.client("viewer", teams=["billing"])
    assert len((await made(await bound.get(REVIEWS), 200))["items"]) == 1
