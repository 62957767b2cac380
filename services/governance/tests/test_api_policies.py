"""Policies, the RACI matrix and the risk appetite over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

from services.governance import jobs
from services.governance.tests.factories import day, made
from shared.testing import Harness

URL = "/v1/governance/policies"


async def a_text(governance: Harness, **fields: Any) -> dict[str, Any]:
    policy = await made(await governance.client("viewer").get(f"{URL}/acceptable-use"), 200)
    text: dict[str, Any] = policy["version"]["text"]
    return text | fields


async def test_the_five_policies_are_offered_once_as_drafts_in_force_nowhere(governance: Harness) -> None:
    await jobs.offer_shipped_policies(governance.runtime)
    found = await made(await governance.client("viewer").get(URL), 200)
    assert [policy["policy_id"] for policy in found["items"]] == [
        "acceptable-use",
        "data-handling",
        "incident-classification",
        "model-procurement",
        "red-teaming",
    ]
    assert {(policy["status"], policy["in_force"], policy["latest"]) for policy in found["items"]} == {
        ("draft", None, 1)
    }
    assert await governance.published("ev.governance.policy.approved.v1") == []


async def test_a_policy_comes_into_force_by_two_people_and_is_replaced_by_the_next(governance: Harness) -> None:
    alice, bob = governance.client("engineer", subject="alice"), governance.client("approver", subject="bob")
    first = f"{URL}/acceptable-use/versions/1"
    assert (await bob.post(f"{first}/approve", json={})).status_code == 409
    await made(await alice.post(f"{first}/submit"), 200)
    await made(await bob.post(f"{first}/approve", json={"note": "adopted"}), 200)
    (event,) = await governance.published("ev.governance.policy.approved.v1")
    assert (event.data["policy_id"], event.data["policy_version"], event.data["approved_by"]) == (
        "acceptable-use",
        1,
        "bob",
    )
    assert event.data["next_review"] == day(365)

    text = await a_text(governance, title="Acceptable use of AI, second edition")
    drafted = await alice.post(f"{URL}/acceptable-use/versions", json={"text": text, "change_note": "shorter"})
    assert (await made(drafted))["number"] == 2
    second = drafted.headers["location"]
    await made(await alice.post(f"{second}/submit"), 200)
    await made(await bob.post(f"{second}/approve", json={}), 200)
    versions = (await made(await alice.get(f"{URL}/acceptable-use/versions"), 200))["items"]
    assert [(version["number"], version["status"]) for version in versions] == [(2, "approved"), (1, "superseded")]
    policy = await made(await alice.get(f"{URL}/acceptable-use"), 200)
    assert (policy["in_force"], policy["title"]) == (2, "Acceptable use of AI, second edition")


async def test_an_author_cannot_approve_and_neither_can_a_later_hand(governance: Harness) -> None:
    alice, bob = governance.client(subject="alice"), governance.client(subject="bob")
    text = await a_text(governance)
    created = await alice.post(URL, json={"policy_id": "own-rules", "text": text})
    assert (await made(created))["version"]["authors"] == ["alice"]
    url = f"{URL}/own-rules/versions/1"
    revised = await bob.put(url, json={"text": text}, headers={"If-Match": '"1"'})
    assert (await made(revised, 200))["authors"] == ["alice", "bob"]
    await made(await alice.post(f"{url}/submit"), 200)
    for author in (alice, bob):
        answer = await author.post(f"{url}/approve", json={})
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:colonnade:problem:own-version")
    await made(await governance.client("approver", subject="carol").post(f"{url}/approve", json={}), 200)


async def test_a_version_in_review_is_fixed_until_it_is_sent_back(governance: Harness) -> None:
    alice, bob = governance.client("engineer"), governance.client("approver", subject="bob")
    url = f"{URL}/red-teaming/versions/1"
    text = await a_text(governance)
    await made(await alice.post(f"{url}/submit"), 200)
    assert (await alice.put(url, json={"text": text}, headers={"If-Match": "*"})).status_code == 409
    assert (await alice.post(f"{URL}/red-teaming/versions", json={})).status_code == 409
    back = await made(await bob.post(f"{url}/send-back", json={"reason": "name the team"}), 200)
    assert (back["status"], back["decision_note"]) == ("draft", "name the team")
    assert (await alice.put(url, json={"text": text}, headers={"If-Match": '"1"'})).status_code == 412
    assert (await alice.put(url, json={"text": text})).status_code == 428
    await made(await alice.put(url, json={"text": text}, headers={"If-Match": '"3"'}), 200)
    stale = await alice.post(f"{url}/submit", headers={"If-Match": '"3"'})
    assert stale.status_code == 412


async def test_approval_owes_the_next_review_and_confirming_it_owes_another(governance: Harness) -> None:
    alice, bob = governance.client("engineer"), governance.client("approver", subject="bob")
    url = f"{URL}/data-handling/versions/1"
    await made(await alice.post(f"{url}/submit"), 200)
    await made(await bob.post(f"{url}/approve", json={}), 200)
    listed = await made(await bob.get("/v1/governance/reviews", params={"kind": "policy"}), 200)
    (review,) = listed["items"]
    assert (review["target"], review["due_on"], review["timing"]) == ("data-handling", day(365), "upcoming")
    done = await bob.post(f"/v1/governance/reviews/{review['review_id']}/complete", json={"outcome": "still right"})
    assert (await made(done, 200))["completed_by"] == "bob"
    listed = await made(await bob.get("/v1/governance/reviews", params={"kind": "policy"}), 200)
    assert sorted(found["status"] for found in listed["items"]) == ["completed", "due"]
    again = await bob.post(f"/v1/governance/reviews/{review['review_id']}/complete", json={"outcome": "again"})
    assert again.status_code == 409


_WRONG_POLICYS: list[tuple[dict[str, Any], int, str]] = [
    ({"colour": "red"}, 422, "/text/colour"),
    ({"title": ""}, 422, "/text/title"),
    ({"title": "\u200b\u2060"}, 422, "/text/title"),
    ({"review_cycle_days": 0}, 422, "/text/review_cycle_days"),
    ({"statements": []}, 422, "/text/statements"),
    ({"statements": [{"id": "X", "text": "y", "level": "must"}]}, 422, "/text/statements/0/id"),
    ({"statements": [{"id": "X-1", "text": "y", "level": "might"}]}, 422, "/text/statements/0/level"),
    ({"statements": [{"id": "X-1", "text": "y", "level": "must"}] * 2}, 422, "/statements/1/id"),
    ({"mappings": {"eu_ai_act": ["Art. 999"]}}, 422, "/mappings/eu_ai_act/0"),
    ({"owner_role": "wizard"}, 409, "/owner_role"),
    ({"roles": [{"role": "wizard", "duty": "magic"}]}, 409, "/roles/0/role"),
]


async def test_a_wrong_policy_is_refused_by_name_and_not_written(governance: Harness) -> None:
    client = governance.client("engineer")
    for fields, status, field in _WRONG_POLICYS:
        body = {"policy_id": "own-rules", "text": await a_text(governance, **fields)}
        answer = await client.post(URL, json=body)
        assert answer.status_code == status, (fields, answer.text)
        assert field in [error["field"] for error in answer.json()["errors"]], fields
    assert (await client.get(f"{URL}/own-rules")).status_code == 404


async def test_policies_are_the_organisations_to_write_and_everybodys_to_read(governance: Harness) -> None:
    bound = governance.client("admin", teams=["support"])
    text = await a_text(governance)
    assert (await bound.get(URL)).status_code == 200
    assert (await bound.post(URL, json={"policy_id": "own-rules", "text": text})).status_code == 403
    assert (await bound.post(f"{URL}/acceptable-use/versions/1/submit")).status_code == 403
    taken = await governance.client().post(URL, json={"policy_id": "acceptable-use", "text": text})
    assert taken.status_code == 409
    assert (await governance.client().get(f"{URL}/unknown")).status_code == 404
    assert (await governance.client().get(f"{URL}/unknown/versions")).status_code == 404
    assert (await governance.client().get(f"{URL}/acceptable-use/versions/9")).status_code == 404


# -- charter -----------------------------------------------------------------------------------------------------------


async def test_the_matrix_is_replaced_under_its_version(governance: Harness) -> None:
    admin = governance.client()
    got = await admin.get("/v1/governance/raci")
    assert got.headers["etag"] == '"1"'
    matrix = {"roles": got.json()["roles"], "activities": got.json()["activities"]}
    matrix["activities"][0]["title"] = "Approve policies"
    assert (await admin.put("/v1/governance/raci", json=matrix)).status_code == 428
    changed = await admin.put("/v1/governance/raci", json=matrix, headers={"If-Match": '"1"'})
    assert (await made(changed, 200))["changed_by"] == "alice"
    assert (await admin.put("/v1/governance/raci", json=matrix, headers={"If-Match": '"1"'})).status_code == 412
    again = await made(await admin.get("/v1/governance/raci"), 200)
    assert (again["version"], again["activities"][0]["title"]) == (2, "Approve policies")


async def test_of_those_who_change_one_version_at_once_one_does(governance: Harness) -> None:
    admin = governance.client()
    matrix = (await admin.get("/v1/governance/raci")).json()
    body = {"roles": matrix["roles"], "activities": matrix["activities"]}
    asked = (admin.put("/v1/governance/raci", json=body, headers={"If-Match": '"1"'}) for _ in range(5))
    assert sorted(answer.status_code for answer in await asyncio.gather(*asked)) == [200, 412, 412, 412, 412]


async def test_a_matrix_or_appetite_that_leaves_something_open_is_refused(governance: Harness) -> None:
    admin = governance.client()
    matrix = (await admin.get("/v1/governance/raci")).json()
    for name in ("version", "changed_by", "changed_at"):
        del matrix[name]
    matrix["activities"][0]["assignments"] = {"ciso": "R"}
    answer = await admin.put("/v1/governance/raci", json=matrix, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/activities/0/assignments")
    appetite = (await admin.get("/v1/governance/appetite")).json()
    for name in ("version", "changed_by", "changed_at"):
        del appetite[name]
    del appetite["ceilings"]["public"]["research"]
    answer = await admin.put("/v1/governance/appetite", json=appetite, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/ceilings/public/research")
    appetite["ceilings"]["public"]["research"] = 101
    answer = await admin.put("/v1/governance/appetite", json=appetite, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/ceilings/public/research")


async def test_the_charter_is_the_organisations_and_takes_approval(governance: Harness) -> None:
    matrix = (await governance.client().get("/v1/governance/raci")).json()
    body = {"roles": matrix["roles"], "activities": matrix["activities"]}
    for client in (governance.client("engineer"), governance.client("admin", teams=["support"])):
        answer = await client.put("/v1/governance/raci", json=body, headers={"If-Match": "*"})
        assert answer.status_code == 403
