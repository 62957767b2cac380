"""Digests denied and allowed, and whom a denial reaches, over HTTP and with a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from services.inventory.application import artifacts
from services.inventory.domain.asset import Digest
from services.inventory.store import bulk
from services.inventory.store.schema import artifact_hit_table, asset_digest_table
from services.inventory.tests.factories import NOW, an_asset
from services.inventory.tests.test_api_assets import created
from shared.auth import Caller
from shared.contracts.inventory import ArtifactDenied
from shared.testing import Harness

BAD, WORSE, GOOD = "ab" * 32, "cd" * 32, "ef" * 32
URL = "/v1/artifact-digests"


def denial(digest: str = BAD, **fields: Any) -> dict[str, Any]:
    return {"algorithm": "sha256", "digest": digest, "verdict": "denied", "reason": "carries a backdoor", **fields}


def file(digest: str = BAD, path: str = "model.safetensors") -> dict[str, Any]:
    return {"path": path, "algorithm": "sha256", "digest": digest}


async def denied(inventory: Harness) -> list[ArtifactDenied]:
    return [ArtifactDenied.model_validate(event.data) for event in await inventory.published(ArtifactDenied.TYPE)]


async def test_a_denial_reaches_holders_and_all_that_depends_on_them_at_once(inventory: Harness) -> None:
    client = inventory.client()
    base = await created(client, integrity=[file(), file(GOOD, "tokenizer.json")])
    tuned = await created(client, asset_type="fine_tuned_model", upstream_assets=[base["asset_id"]])
    agent = await created(client, asset_type="ai_agent", upstream_assets=[tuned["asset_id"], base["asset_id"]])
    desk = await created(client, asset_type="integration", upstream_assets=[agent["asset_id"]])
    await created(client, integrity=[file(GOOD)])
    response = await client.post(URL, json=denial(reference="https://example.org/advisory/1"))
    assert response.status_code == 201, response.text
    assert (response.json()["version"], response.json()["updated_by"]) == (1, "alice")
    # No task was done yet: the announcements are of the request's own transaction.
    events = {str(event.asset_id): event for event in await denied(inventory)}
    assert set(events) == {one["asset_id"] for one in (base, tuned, agent, desk)}
    ids = [UUID(one["asset_id"]) for one in (base, tuned, agent, desk)]
    assert events[base["asset_id"]].path == (ids[0],)
    assert events[agent["asset_id"]].path == (ids[0], ids[2])
    assert events[desk["asset_id"]].path == (ids[0], ids[2], ids[3])
    assert {event.holder_id for event in events.values()} == {ids[0]}
    assert (events[desk["asset_id"]].place, events[desk["asset_id"]].reason) == (
        "model.safetensors",
        "carries a backdoor",
    )
    listed = (await client.get(f"{URL}/sha256/{BAD}/assets")).json()["items"]
    assert [item["asset_id"] for item in listed] == sorted(events)
    again = await client.post(URL, json=denial(reason="carries two backdoors"))
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert len(await denied(inventory)) == 4


async def test_an_asset_that_brings_a_denied_digest_is_told_of_whichever_way_it_comes(inventory: Harness) -> None:
    client = inventory.client()
    await client.post(URL, json=denial())
    registered = await created(client, integrity=[file()])
    line = {"name": "imported", "asset_type": "foundation_model", "owner_team": "search", "integrity": [file()]}
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await client.post("/v1/assets/import", content=orjson.dumps(line), headers=headers)
    imported = orjson.loads(answer.content)
    changed = await created(client, name="changed later")
    patched = await client.patch(
        f"/v1/assets/{changed['asset_id']}", json={"integrity": [file()]}, headers={"If-Match": "*"}
    )
    assert patched.status_code == 200
    await inventory.do_tasks()
    expected = [registered["asset_id"], imported["asset_id"], changed["asset_id"]]
    assert sorted(str(event.asset_id) for event in await denied(inventory)) == sorted(expected)


async def test_what_comes_to_depend_on_a_reached_asset_later_is_reached(inventory: Harness) -> None:
    client = inventory.client()
    base = await created(client, integrity=[file()])
    await client.post(URL, json=denial())
    agent = await created(client, asset_type="ai_agent")
    front = await created(client, asset_type="integration", upstream_assets=[agent["asset_id"]])
    await inventory.do_tasks()
    assert len(await denied(inventory)) == 1
    await client.patch(
        f"/v1/assets/{agent['asset_id']}", json={"upstream_assets": [base["asset_id"]]}, headers={"If-Match": "*"}
    )
    await inventory.do_tasks()
    assert [str(event.asset_id) for event in await denied(inventory)] == [
        base["asset_id"],
        agent["asset_id"],
        front["asset_id"],
    ]


async def test_a_denial_that_reaches_many_goes_on_as_a_task_and_tells_of_each_once(inventory: Harness) -> None:
    async with inventory.runtime.db.begin() as tx:
        holder = an_asset(integrity=(Digest("m.bin", "sha256", BAD),))
        first = [an_asset(upstream_assets=(holder.asset_id,)) for _ in range(450)]
        second = [an_asset(upstream_assets=(one.asset_id, first[0].asset_id)) for one in first[1:301]]
        circle = an_asset(upstream_assets=(second[0].asset_id,), downstream_assets=(holder.asset_id,))
        await bulk.add(tx, Caller("tests", "service"), [holder, *first, *second, circle], NOW)
    client = inventory.client()
    assert (await client.post(URL, json=denial())).status_code == 201
    assert len(await denied(inventory)) == artifacts.AT_ONCE
    await inventory.do_tasks()
    reached = [event.asset_id for event in await denied(inventory)]
    assert len(reached) == len(set(reached)) == 752


async def test_a_circle_of_dependencies_ends(inventory: Harness) -> None:
    client = inventory.client()
    one = await created(client, integrity=[file()])
    two = await created(client, upstream_assets=[one["asset_id"]])
    await client.patch(
        f"/v1/assets/{one['asset_id']}", json={"upstream_assets": [two["asset_id"]]}, headers={"If-Match": "*"}
    )
    await client.post(URL, json=denial())
    await inventory.do_tasks()
    assert len(await denied(inventory)) == 2


async def test_retired_assets_and_digests_that_are_no_more_denied_reach_nobody(inventory: Harness) -> None:
    client = inventory.client()
    gone = await created(client, integrity=[file()])
    await client.post(f"/v1/assets/{gone['asset_id']}/retire", json={"reason": "r"})
    await client.post(URL, json=denial())
    assert await denied(inventory) == []
    assert (await client.delete(f"{URL}/sha256/{BAD}")).status_code == 204
    assert (await client.get(f"{URL}/sha256/{BAD}")).status_code == 404
    assert (await client.delete(f"{URL}/sha256/{BAD}")).status_code == 404
    kept = await created(client, integrity=[file()])
    await inventory.do_tasks()
    assert await denied(inventory) == []
    await client.post(URL, json=denial())
    assert [str(event.asset_id) for event in await denied(inventory)] == [kept["asset_id"]]
    # Allowed instead: forgotten, and denied once more is told once more.
    await client.post(URL, json=denial(verdict="allowed"))
    async with inventory.runtime.db.read() as tx:
        assert (await tx.execute(artifact_hit_table.select())).all() == []
    await client.post(URL, json=denial())
    assert len(await denied(inventory)) == 2


async def test_an_expired_denial_ends(inventory: Harness) -> None:
    client = inventory.client()
    past = await client.post(URL, json=denial(expires_at="2020-01-01T00:00:00Z"))
    assert (past.status_code, past.json()["errors"][0]["field"]) == (422, "/expires_at")
    await client.post(URL, json=denial(expires_at="2999-01-01T00:00:00Z"))
    async with inventory.runtime.db.begin() as tx:
        await artifacts.end_expired(tx, datetime(2998, 1, 1, tzinfo=UTC))
    assert (await client.get(f"{URL}/sha256/{BAD}")).status_code == 200
    async with inventory.runtime.db.begin() as tx:
        await artifacts.end_expired(tx, datetime(2999, 1, 2, tzinfo=UTC))
    assert (await client.get(f"{URL}/sha256/{BAD}")).status_code == 404


async def test_the_list_is_paged_and_refuses_what_is_no_digest(inventory: Harness) -> None:
    client = inventory.client()
    for digest in (BAD, WORSE, GOOD):
        await client.post(URL, json=denial(digest, verdict="allowed" if digest == GOOD else "denied"))
    first = (await client.get(URL, params={"limit": 2})).json()
    rest = (await client.get(URL, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["digest"] for item in first["items"] + rest["items"]] == [BAD, WORSE, GOOD]
    allowed = (await client.get(URL, params={"verdict": "allowed"})).json()["items"]
    assert [item["digest"] for item in allowed] == [GOOD]
    for body, field in (
        (denial("ab" * 20), "/digest"),
        (denial("xy" * 32), "/digest"),
        (denial(algorithm="crc32"), "/algorithm"),
        (denial(reason=""), "/reason"),
        (denial(reference="javascript:alert(1)"), "/reference"),
    ):
        refused = await client.post(URL, json=body)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)


async def test_only_who_may_speak_for_everybody_denies(inventory: Harness) -> None:
    for role, teams in (("viewer", None), ("engineer", None), ("responder", ["search"])):
        response = await inventory.client(role, teams=teams).post(URL, json=denial())
        assert response.status_code == 403, role
    assert (await inventory.client("responder").post(URL, json=denial())).status_code == 201
    assert (await inventory.client("viewer").get(URL)).status_code == 200


async def test_a_team_sees_what_reaches_it_and_nothing_of_others(inventory: Harness) -> None:
    client = inventory.client()
    base = await created(client, integrity=[file()], owner_team="platform")
    own = await created(client, upstream_assets=[base["asset_id"]], owner_team="search")
    await client.post(URL, json=denial())
    listed = (await inventory.client(teams=["search"]).get(f"{URL}/sha256/{BAD}/assets")).json()["items"]
    assert [(item["asset_id"], item["holder_id"], item["place"], item["path"]) for item in listed] == [
        (own["asset_id"], None, "", [None, own["asset_id"]])
    ]


async def test_many_come_as_lines_and_a_bad_line_fails_alone(inventory: Harness) -> None:
    client = inventory.client()
    held = await created(client, integrity=[file(WORSE)])
    lines = [
        orjson.dumps(denial()),
        b"{no json",
        orjson.dumps(denial("ab" * 20)),
        orjson.dumps(denial(WORSE, reason="first word")),
        orjson.dumps(denial(WORSE, reason="last word")),
    ]
    lines += [orjson.dumps(denial(f"{number:064x}")) for number in range(1_200)]
    headers = {"Content-Type": "application/x-ndjson"}
    response = await client.post(f"{URL}/import", content=b"\n".join(lines), headers=headers)
    assert response.status_code == 200
    told = [orjson.loads(line) for line in response.content.splitlines()]
    assert [item["line"] for item in told] == list(range(1, 1_206))
    assert [item["line"] for item in told if item["status"] == "failed"] == [2, 3]
    assert told[2]["problem"]["errors"][0]["field"] == "/digest"
    assert (await client.get(f"{URL}/sha256/{WORSE}")).json()["reason"] == "last word"
    await inventory.do_tasks()
    assert [str(event.asset_id) for event in await denied(inventory)] == [held["asset_id"]]
    assert (await client.post(f"{URL}/import", content=b"", headers=headers)).content == b""
    assert (await client.post(f"{URL}/import", json={})).status_code == 415
    team = inventory.client("responder", teams=["search"])
    assert (await team.post(f"{URL}/import", content=lines[0], headers=headers)).status_code == 403


async def test_production_models_that_nobody_vouched_for_are_findings_where_a_team_wants_it(inventory: Harness) -> None:
    client = inventory.client()
    production = {"deployment_env": "production", "is_self_hosted": True}
    vouched = await created(client, integrity=[file(GOOD)], **production)
    partly = await created(client, integrity=[file(GOOD), file(BAD, "extra.bin")], **production)
    unknown = await created(client, **production)
    await created(client, integrity=[file(BAD)], is_self_hosted=True)
    other = await created(client, owner_team="other", **production)
    await client.post(URL, json=denial(GOOD, verdict="allowed"))
    assert (await client.get(f"{URL}/findings")).json()["items"] == []
    set_ = await client.put(f"{URL}/policies", params={"team": "search"}, json={"mode": "allow_list"})
    assert (set_.status_code, set_.json()["version"]) == (200, 1)
    found = (await client.get(f"{URL}/findings")).json()["items"]
    assert [(item["asset_id"], item["files"]) for item in found] == [
        (partly["asset_id"], ["extra.bin"]),
        (unknown["asset_id"], []),
    ]
    await client.put(f"{URL}/policies", json={"mode": "allow_list"})
    await client.put(f"{URL}/policies", params={"team": "search"}, json={"mode": "off"})
    found = (await client.get(f"{URL}/findings")).json()["items"]
    assert [item["asset_id"] for item in found] == [other["asset_id"]]
    assert vouched["asset_id"] not in str(found)
    assert (await inventory.client(teams=["search"]).get(f"{URL}/findings")).json()["items"] == []
    shown = (await inventory.client(teams=["search"]).get(f"{URL}/policies")).json()["items"]
    assert [item["team"] for item in shown] == ["", "search"]


async def test_the_index_of_digests_follows_the_assets(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client, integrity=[file(), file(BAD, "copy.bin"), file(GOOD, "b")])
    other = {"integrity": [file(WORSE)]}
    await client.patch(f"/v1/assets/{asset['asset_id']}", json=other, headers={"If-Match": "*"})
    async with inventory.runtime.db.read() as tx:
        rows = (await tx.execute(asset_digest_table.select())).all()
    assert [(str(row.asset_id), row.origin, row.digest) for row in rows] == [(asset["asset_id"], "asset", WORSE)]


async def test_a_bad_file_that_went_and_comes_back_is_told_again(inventory: Harness) -> None:
    client = inventory.client()
    asset = await created(client, integrity=[file(), file(GOOD, "b")])
    await created(client, upstream_assets=[asset["asset_id"]])
    await client.post(URL, json=denial())
    url, any_ = f"/v1/assets/{asset['asset_id']}", {"If-Match": "*"}
    # Another file changes, the bad one stays: nothing new.
    await client.patch(url, json={"integrity": [file(), file(WORSE, "b")]}, headers=any_)
    await inventory.do_tasks()
    assert len(await denied(inventory)) == 2
    await client.patch(url, json={"integrity": [file(WORSE, "b")]}, headers=any_)
    assert (await client.get(f"{URL}/sha256/{BAD}/assets")).json()["items"] == []
    await client.patch(url, json={"integrity": [file()]}, headers=any_)
    await inventory.do_tasks()
    assert len(await denied(inventory)) == 4


async def test_a_denial_and_assets_that_come_at_the_same_moment_miss_none(inventory: Harness) -> None:
    client = inventory.client()
    base = await created(client, integrity=[file()])

    async def register(number: int) -> str:
        fields = {"integrity": [file()]} if number % 2 else {"upstream_assets": [base["asset_id"]]}
        return str((await created(client, name=f"at once {number}", **fields))["asset_id"])

    denying = asyncio.create_task(client.post(URL, json=denial()))
    ids = await asyncio.gather(*(register(number) for number in range(12)))
    assert (await denying).status_code == 201
    await inventory.do_tasks()
    reached = [str(event.asset_id) for event in await denied(inventory)]
    assert sorted(reached) == sorted([base["asset_id"], *ids])
