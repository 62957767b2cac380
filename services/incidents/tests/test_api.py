"""The API: what people do with incidents, what is refused, who sees what, and what can be proved afterwards."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from services.incidents.main import SERVICE
from services.incidents.store.tables import playbook_table
from services.incidents.tests.factories import ASSET, NOON, a_playbook, an_alert_raised, minutes
from services.incidents.tests.peers import Neighbours
from services.incidents.tests.test_events import an_asset, the_incident
from shared import audit, migrate
from shared.audit import audit_entry
from shared.contracts.inventory import AssetRegistered
from shared.testing import Harness

ANY = {"If-Match": "*"}
DETECTED_TOO_EARLY = {"occurred_at": "2025-06-01T00:00:01Z", "detected_at": "2025-06-01T00:00:00Z"}


async def opened(incidents: Harness, client: httpx.AsyncClient | None = None, **body: Any) -> dict[str, Any]:
    answer = await (client or incidents.client("analyst")).post(
        "/v1/incidents", json={"category": "training_data_poisoning", **body}
    )
    assert answer.status_code == 201, answer.text
    incident: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/incidents/{incident['incident_id']}"
    return incident


async def test_the_tables_are_those_of_the_migrations(incidents: Harness) -> None:
    url = incidents.runtime.settings.database_url.get_secret_value()
    await migrate.check(SERVICE.directory / "migrations", url)


async def test_a_person_opens_an_incident_with_its_playbook(incidents: Harness) -> None:
    incident = await opened(incidents, title="Odd labels", severity="sev3")
    assert (incident["title"], incident["severity"], incident["opened_by"]) == ("Odd labels", "sev3", "alice")
    assert incident["detected_by"] == "alice"
    assert incident["steps_total"] == 9
    fetched = await incidents.client("viewer").get(f"/v1/incidents/{incident['incident_id']}")
    assert fetched.json() == incident
    assert fetched.headers["etag"] == '"1"'


async def test_an_idempotency_key_opens_one(incidents: Harness) -> None:
    client = incidents.client("analyst")
    body = {"category": "jailbreak_bypass"}
    first = await client.post("/v1/incidents", json=body, headers={"Idempotency-Key": "k1"})
    again = await client.post("/v1/incidents", json=body, headers={"Idempotency-Key": "k1"})
    assert first.json()["incident_id"] == again.json()["incident_id"]
    assert len((await client.get("/v1/incidents")).json()["items"]) == 1


async def test_by_hand_or_by_alert_one_story_is_one_incident(incidents: Harness) -> None:
    await incidents.deliver(AssetRegistered(version=1, occurred_at=NOON, asset=an_asset()))
    await incidents.deliver(an_alert_raised())
    alerted = await the_incident(incidents)
    body: dict[str, Any] = {"category": "prompt_injection_exploitation", "affected_assets": [str(ASSET)]}
    body["session_id"] = "session-1"
    refused = await incidents.client("analyst").post("/v1/incidents", json=body)
    assert refused.status_code == 409
    assert refused.json()["incident_id"] == alerted["incident_id"]
    mine = await opened(incidents, **(body | {"session_id": "session-7"}), occurred_at=NOON.isoformat())
    await incidents.deliver(an_alert_raised(session_id="session-7", actor="trudy", last_seen=NOON + minutes(1)))
    joined = (await incidents.client().get(f"/v1/incidents/{mine['incident_id']}")).json()
    # Opened now, the alert is of a day long past: another story.
    assert joined["alert_count"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "/category"),
        ({"category": "meteor_strike"}, "/category"),
        ({"category": "jailbreak_bypass", "colour": "red"}, "/colour"),
        ({"category": "jailbreak_bypass", "title": "  "}, "/title"),
        ({"category": "jailbreak_bypass", "severity": "sev0"}, "/severity"),
        ({"category": "jailbreak_bypass", "affected_assets": ["x"]}, "/affected_assets/0"),
        ({"category": "jailbreak_bypass", "affected_assets": [str(uuid4())]}, "/affected_assets/0"),
        ({"category": "jailbreak_bypass", "occurred_at": "2026-11-22T12:00:00"}, "/occurred_at"),
        ({"category": "jailbreak_bypass", "occurred_at": "2999-01-01T00:00:00Z"}, "/occurred_at"),
        ({"category": "jailbreak_bypass", "occurred_at": "0001-01-01T00:00:00Z"}, "/occurred_at"),
        ({"category": "jailbreak_bypass", "occurred_at": "0001-01-01T00:00:00+14:00"}, "/occurred_at"),
        ({"category": "jailbreak_bypass", "occurred_at": "1970-01-01T00:00:00Z"}, "/occurred_at"),
        ({"category": "jailbreak_bypass", "detected_at": "2999-01-01T00:00:00Z"}, "/detected_at"),
        ({"category": "jailbreak_bypass", "detected_at": "1970-01-01T00:00:00Z"}, "/detected_at"),
        ({"category": "jailbreak_bypass", **DETECTED_TOO_EARLY}, "/occurred_at"),
        ({"category": "jailbreak_bypass", **DETECTED_TOO_EARLY}, "/detected_at"),
        ({"category": "jailbreak_bypass", "actor": ""}, "/actor"),
    ],
)
async def test_bad_input_is_refused_by_field_and_writes_nothing(
    incidents: Harness, body: dict[str, Any], field: str
) -> None:
    refused = await incidents.client("analyst").post("/v1/incidents", json=body)
    assert refused.status_code == 422, refused.text
    assert field in [error["field"] for error in refused.json()["errors"]]
    assert (await incidents.client().get("/v1/incidents")).json()["items"] == []


async def test_what_was_found_years_later_and_by_a_clock_that_runs_ahead_is_taken(incidents: Harness) -> None:
    first = datetime.now(UTC) - timedelta(days=9 * 365)
    found = await opened(incidents, occurred_at=first.isoformat())
    assert datetime.fromisoformat(found["occurred_at"]) == first
    assert datetime.fromisoformat(found["detected_at"]) - first > timedelta(days=9 * 365)
    ahead = (datetime.now(UTC) + timedelta(seconds=20)).isoformat()
    now = await opened(incidents, occurred_at=ahead)
    assert now["occurred_at"] == now["detected_at"], "no time to detect is negative"


@pytest.mark.parametrize(
    "text",
    [
        '{"category":"jailbreak_bypass","category":"jailbreak_bypass"}',
        '{"category":"jailbreak_bypass","title":"\\ud800"}',
        '{"category":"jailbreak_bypass","title":"a\\u0000b"}',
        '{"category":NaN}',
        "[" * 64 + "]" * 64,
        "{",
    ],
)
async def test_json_that_two_parsers_read_differently_is_refused(incidents: Harness, text: str) -> None:
    refused = await incidents.client("analyst").post(
        "/v1/incidents", content=text, headers={"Content-Type": "application/json"}
    )
    assert refused.status_code in (400, 422)


async def test_an_asset_that_inventory_knows_and_we_do_not_yet_is_asked_for(
    incidents: Harness, neighbours: Neighbours
) -> None:
    neighbours.assets[str(ASSET)] = {"asset_id": str(ASSET), "owner_team": "support"}
    incident = await opened(incidents, affected_assets=[str(ASSET)])
    assert incident["owner_team"] == "support"


async def test_the_way_of_an_incident_through_its_steps(incidents: Harness) -> None:
    await incidents.deliver(an_alert_raised())
    await incidents.do_tasks()
    client = incidents.client("analyst", subject="ana")
    path = f"/v1/incidents/{(await the_incident(incidents))['incident_id']}"
    too_early = await client.post(f"{path}/steps/5/complete")
    assert (too_early.status_code, too_early.json()["steps"]) == (409, [1, 2])
    for number in (1, 2, 5, 6, 7):
        done = await client.post(f"{path}/steps/{number}/complete", json={"note": f"done {number}"})
        assert done.status_code == 200, done.text
    assert (done.json()["status"], done.json()["current_phase"]) == ("resolved", "lessons_learned")
    nothing_to_say = await client.post(f"{path}/steps/8/skip", json={})
    assert nothing_to_say.status_code == 422
    skipped = await client.post(f"{path}/steps/8/skip", json={"reason": "known attack"})
    assert skipped.json()["steps"][7]["outcome"] == "known attack"
    assert (await client.post(f"{path}/steps/9/complete")).status_code == 404
    assert (await client.post(f"{path}/steps/0/complete")).status_code == 422
    closed = await client.patch(path, json={"status": "closed"}, headers={"If-Match": skipped.headers["etag"]})
    assert (closed.json()["status"], closed.json()["resolution"]) == ("closed", "resolved")
    types = [event.type.split(".")[3] for event in await incidents.published() if ".incident." in event.type]
    assert [kind for kind in types if kind != "updated"] == ["opened", "contained", "resolved", "closed"]
    refused = await client.patch(path, json={"status": "investigating"}, headers=ANY)
    assert refused.status_code == 409
    again = await client.patch(path, json={"status": "investigating", "reason": "it is back"}, headers=ANY)
    assert (again.json()["status"], again.json()["reopened_count"]) == ("investigating", 1)
    [event] = await incidents.published("ev.incidents.incident.reopened.v1")
    assert event.data["reason"] == "it is back"


async def test_a_reopened_incident_does_not_take_the_place_of_a_newer_one(incidents: Harness) -> None:
    await incidents.deliver(an_alert_raised())
    client = incidents.client("analyst")
    path = f"/v1/incidents/{(await the_incident(incidents))['incident_id']}"
    assert (await client.patch(path, json={"status": "closed", "reason": "done"}, headers=ANY)).status_code == 200
    await incidents.deliver(an_alert_raised())
    refused = await client.patch(path, json={"status": "investigating", "reason": "again"}, headers=ANY)
    assert refused.status_code == 409
    assert refused.json()["incident_id"] != path.rsplit("/", 1)[1]


async def test_changes_need_the_version_that_was_read(incidents: Harness) -> None:
    incident = await opened(incidents)
    path, client = f"/v1/incidents/{incident['incident_id']}", incidents.client("analyst")
    assert (await client.patch(path, json={"assigned_to": "bob"})).status_code == 428
    changed = await client.patch(path, json={"assigned_to": "bob", "severity": "sev1"}, headers={"If-Match": '"1"'})
    assert (changed.json()["assigned_to"], changed.json()["status"]) == ("bob", "investigating")
    stale = await client.patch(path, json={"assigned_to": "eve"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    freed = await client.patch(path, json={"assigned_to": None}, headers=ANY)
    assert freed.json()["assigned_to"] is None
    assert (await client.patch(path, json={"severity": None}, headers=ANY)).status_code == 422
    same = await client.patch(path, json={"severity": "sev1"}, headers=ANY)
    assert same.headers["etag"] == freed.headers["etag"], "what already is so is no change"


async def test_a_false_positive_is_closed_with_its_reason(incidents: Harness) -> None:
    incident = await opened(incidents)
    path, client = f"/v1/incidents/{incident['incident_id']}", incidents.client("analyst")
    body = {"status": "closed", "resolution": "false_positive"}
    assert (await client.patch(path, json=body, headers=ANY)).status_code == 422
    closed = await client.patch(path, json=body | {"reason": "a drill"}, headers=ANY)
    assert (closed.json()["resolution"], closed.json()["contained_at"]) == ("false_positive", None)


APPROVED = {"automated": True, "automation_script": "block_asset", "requires_approval": True}


async def replace_playbook(incidents: Harness, *steps: dict[str, Any], author: str = "paul") -> httpx.Response:
    body = a_playbook(*steps).document()
    return await incidents.client("analyst", subject=author).put(
        f"/v1/playbooks/{body['category']}", json=body, headers=ANY
    )


async def test_a_second_person_approves_what_needs_it(incidents: Harness, neighbours: Neighbours) -> None:
    await incidents.deliver(AssetRegistered(version=1, occurred_at=NOON, asset=an_asset()))
    assert (await replace_playbook(incidents, APPROVED)).status_code == 200
    incident = await opened(incidents, category="prompt_injection_exploitation", affected_assets=[str(ASSET)])
    path = f"/v1/incidents/{incident['incident_id']}/steps/1/approve"
    assert incident["steps"][0]["status"] == "awaiting_approval"
    for somebody in ("alice", "paul"):
        refused = await incidents.client("analyst", subject=somebody).post(path)
        assert refused.status_code == 403, somebody
    assert await incidents.do_tasks() == 0
    approved = await incidents.client("analyst", subject="bob").post(path, json={"note": "seen it"})
    assert (approved.status_code, approved.json()["steps"][0]["approved_by"]) == (200, "bob")
    await incidents.do_tasks()
    assert [asked.body["target"] for asked in neighbours.of("detection")] == [str(ASSET)]
    assert (await incidents.client("analyst", subject="eve").post(path)).status_code == 409


async def test_playbooks_are_listed_read_and_replaced_by_version(incidents: Harness) -> None:
    client = incidents.client("analyst")
    listed = (await client.get("/v1/playbooks")).json()["items"]
    assert len(listed) == 8
    first = next(one for one in listed if one["category"] == "prompt_injection_exploitation")
    assert (first["num_steps"], first["severity_default"], first["version"]) == (8, "sev2", 1)
    path = "/v1/playbooks/prompt_injection_exploitation"
    read = await client.get(path)
    assert read.headers["etag"] == '"1"'
    body = read.json()
    assert (await client.put(path, json=body)).status_code == 428
    body["title"] = "Our own"
    written = await client.put(path, json=body, headers={"If-Match": '"1"'})
    assert (written.status_code, written.headers["etag"]) == (200, '"2"')
    assert (await client.put(path, json=body, headers={"If-Match": '"1"'})).status_code == 412
    assert (await client.get(path)).json() == body
    await incidents.deliver(an_alert_raised())
    assert (await the_incident(incidents))["playbook_version"] == 2


async def test_a_playbook_is_refused_with_each_of_its_faults(incidents: Harness) -> None:
    client = incidents.client("analyst")
    path = "/v1/playbooks/prompt_injection_exploitation"
    body = (await client.get(path)).json()
    body["steps"][2]["automation_script"] = "scripts/revoke_session.py; rm -rf /"
    body["steps"][0]["timeout_minutes"] = -1
    refused = await client.put(path, json=body, headers=ANY)
    assert refused.status_code == 422
    assert {error["field"] for error in refused.json()["errors"]} >= {
        "/steps/2/automation_script",
        "/steps/0/timeout_minutes",
    }
    other = (await client.get("/v1/playbooks/jailbreak_bypass")).json()
    assert (await client.put(path, json=other, headers=ANY)).status_code == 422
    assert (await client.get("/v1/playbooks/meteor_strike")).status_code == 404
    assert (await client.put("/v1/playbooks/meteor_strike", json=other, headers=ANY)).status_code == 404
    bound = incidents.client("analyst", teams=["payments"])
    assert (await bound.put(path, json=(await client.get(path)).json(), headers=ANY)).status_code == 403
    async with incidents.runtime.db.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(playbook_table)) == 0


async def test_a_playbook_is_exported_as_cacao(incidents: Harness) -> None:
    answer = await incidents.client("viewer").get("/v1/playbooks/agent_unauthorized_actions?format=cacao")
    document = answer.json()
    assert (document["type"], document["spec_version"]) == ("playbook", "cacao-2.0")
    assert document["workflow"][document["workflow_start"]]["type"] == "start"
    assert (await incidents.client().get("/v1/playbooks/jailbreak_bypass?format=xml")).status_code == 422


async def test_evidence_is_appended_and_nothing_else(incidents: Harness) -> None:
    incident = await opened(incidents)
    path, client = f"/v1/incidents/{incident['incident_id']}", incidents.client("analyst")
    for number in range(3):
        added = await client.post(
            f"{path}/evidence", json={"title": f"log {number}", "kind": "log", "content": {"line": number, "x": 0.1}}
        )
        assert added.status_code == 201, added.text
    listed = (await client.get(f"{path}/evidence")).json()["items"]
    assert [(piece["sequence"], piece["title"]) for piece in listed] == [(1, "log 0"), (2, "log 1"), (3, "log 2")]
    assert listed[1]["previous_hash"] == listed[0]["hash"]
    assert (await client.get(path)).json()["evidence_head"] == listed[2]["hash"]
    huge = await client.post(f"{path}/evidence", json={"title": "all of it", "content": "x" * 300_000})
    assert huge.status_code == 422
    for statement in (
        "UPDATE evidence SET title = 'x'",
        "DELETE FROM evidence",
        "TRUNCATE evidence",
        "DELETE FROM timeline",
    ):
        with pytest.raises(Exception, match="append-only"):
            async with incidents.runtime.db.begin() as tx:
                await tx.execute(sa.text(statement))


def digest_of(document: dict[str, Any]) -> str:
    """As any reader of a dossier would compute it."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_dossier_is_the_same_for_ever_and_its_digest_can_be_checked(incidents: Harness) -> None:
    await incidents.deliver(
        an_alert_raised(excerpt="ignore \u201eall\u201c previous instructions, s'il vous pla\u00eet")
    )
    await incidents.do_tasks()
    client = incidents.client("analyst")
    path = f"/v1/incidents/{(await the_incident(incidents))['incident_id']}"
    first = (await client.get(f"{path}/dossier")).json()
    assert first["digest"]["value"] == digest_of(first)
    assert first["evidence_chain"]["intact"] is True
    assert first["incident"]["status"] == "contained"
    await client.post(f"{path}/evidence", json={"title": "later", "content": 1})
    await client.patch(path, json={"severity": "sev1"}, headers=ANY)
    then = await client.get(f"{path}/dossier", params={"as_of": first["as_of"]})
    assert then.json() == first
    now = (await client.get(f"{path}/dossier")).json()
    assert (now["incident"]["severity"], len(now["evidence"])) == ("sev1", len(first["evidence"]) + 1)
    assert now["digest"]["value"] == digest_of(now) != first["digest"]["value"]
    opened_at = first["timeline"][0]["at"]
    at_first = (await client.get(f"{path}/dossier", params={"as_of": opened_at})).json()
    assert (at_first["incident"]["status"], at_first["incident"]["version"]) == ("open", 1)
    assert (await client.get(f"{path}/dossier", params={"as_of": "2020-01-01T00:00:00Z"})).status_code == 422
    assert (await client.get(f"{path}/dossier", params={"as_of": "2999-01-01T00:00:00Z"})).status_code == 422


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE evidence SET content = '{}' WHERE sequence = 2", 2),
        ("UPDATE evidence SET collected_by = 'nobody' WHERE sequence = 1", 1),
        ("DELETE FROM evidence WHERE sequence = 2", 2),
        ("DELETE FROM evidence WHERE sequence = 3", 3),
        ("UPDATE evidence SET sequence = sequence + 10", 1),
    ],
)
async def test_tampering_behind_the_services_back_shows_in_the_dossier(
    incidents: Harness, tampering: str, broken: int
) -> None:
    incident = await opened(incidents)
    path, client = f"/v1/incidents/{incident['incident_id']}", incidents.client("analyst")
    for number in range(3):
        await client.post(f"{path}/evidence", json={"title": f"log {number}", "content": number})
    async with incidents.runtime.db.begin() as tx:
        await tx.execute(sa.text("ALTER TABLE evidence DISABLE TRIGGER USER"))
        await tx.execute(sa.text(tampering))
    chain = (await client.get(f"{path}/dossier")).json()["evidence_chain"]
    assert (chain["intact"], chain["first_broken"]) == (False, broken)


async def test_lists_are_filtered_and_paged(incidents: Harness) -> None:
    for number in range(7):
        await incidents.deliver(
            an_alert_raised(
                session_id=f"s{number}",
                actor=f"actor-{number % 2}",
                category=("jailbreak_bypass" if number == 3 else "prompt_injection_exploitation"),
                asset_id=uuid4(),
            )
        )
    client = incidents.client("viewer")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/incidents", params=params)).json()
        seen += [incident["session_id"] for incident in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"s{number}" for number in reversed(range(7))]

    async def count(**filters: Any) -> int:
        answer = await client.get("/v1/incidents", params=filters)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["items"])

    assert await count(category="jailbreak_bypass") == 1
    assert await count(actor="actor-1") == 3
    assert await count(severity="sev3") == 1
    assert await count(status="open") == 7
    assert await count(status="closed") == 0
    newest = (await client.get("/v1/incidents", params={"limit": 1})).json()["items"][0]
    assert await count(asset_id=newest["affected_assets"][0]) == 1
    assert await count(**{"from": newest["opened_at"]}) == 1
    assert await count(to=newest["opened_at"]) == 6
    for wrong in ({"status": "weird"}, {"colour": "red"}, {"limit": 0}, {"cursor": "x"}, {"from": "yesterday"}):
        assert (await client.get("/v1/incidents", params=wrong)).status_code == 422, wrong


async def test_a_foreign_team_finds_nothing_anywhere(incidents: Harness) -> None:
    await incidents.deliver(an_alert_raised())
    await incidents.do_tasks()
    incident = await the_incident(incidents)
    path = f"/v1/incidents/{incident['incident_id']}"
    [action, *_] = (await incidents.client().get("/v1/actions")).json()["items"]
    mine, other = (incidents.client("analyst", teams=[team]) for team in ("payments", "marketing"))
    assert (await mine.get(path)).status_code == 200
    assert len((await mine.get("/v1/actions")).json()["items"]) == 2
    assert (await other.get("/v1/incidents")).json()["items"] == []
    assert (await other.get("/v1/actions")).json()["items"] == []
    for method, url, body in (
        ("GET", path, None),
        ("PATCH", path, {"severity": "sev4"}),
        ("GET", f"{path}/timeline", None),
        ("GET", f"{path}/evidence", None),
        ("POST", f"{path}/evidence", {"title": "x", "content": 1}),
        ("GET", f"{path}/dossier", None),
        ("POST", f"{path}/steps/1/complete", {}),
        ("POST", f"{path}/steps/1/skip", {"reason": "x"}),
        ("POST", f"{path}/steps/1/approve", {}),
        ("POST", f"{path}/steps/3/retry", {}),
        ("GET", f"/v1/actions/{action['action_id']}", None),
        ("POST", f"/v1/actions/{action['action_id']}/retry", None),
    ):
        answer = await other.request(method, url, json=body, headers=ANY)
        assert answer.status_code == 404, (method, url, answer.text)
    foreign = await other.post("/v1/incidents", json={"category": "jailbreak_bypass", "owner_team": "payments"})
    assert foreign.status_code == 422
    own = await opened(incidents, other)
    assert own["owner_team"] == "marketing"
    assert (await mine.get(f"/v1/incidents/{own['incident_id']}")).status_code == 404


async def test_reading_and_writing_need_their_scopes(incidents: Harness) -> None:
    incident = await opened(incidents)
    path = f"/v1/incidents/{incident['incident_id']}"
    viewer, nobody = incidents.client("viewer"), incidents.client("ingest")
    assert (await viewer.post("/v1/incidents", json={"category": "jailbreak_bypass"})).status_code == 403
    assert (await viewer.patch(path, json={"title": "x"}, headers=ANY)).status_code == 403
    assert (await viewer.post(f"{path}/steps/1/complete")).status_code == 403
    assert (await nobody.get(path)).status_code == 403
    assert (await incidents.anonymous().get(path)).status_code == 401
    assert (await incidents.client(audience="risk").get(path)).status_code == 401


async def test_every_write_of_a_caller_is_in_the_audit(incidents: Harness) -> None:
    incident = await opened(incidents, owner_team="payments")
    path, client = f"/v1/incidents/{incident['incident_id']}", incidents.client("analyst", subject="ana")
    await client.patch(path, json={"assigned_to": "bob"}, headers=ANY)
    await client.post(f"{path}/steps/2/complete", json={"note": "x"})
    await client.post(f"{path}/steps/4/skip", json={"reason": "x"})
    await client.post(f"{path}/steps/4/retry", json={})
    await client.post(f"{path}/evidence", json={"title": "x", "content": 1})
    await replace_playbook(incidents, {})
    async with incidents.runtime.db.read() as tx:
        rows = (await tx.execute(sa.select(audit_entry).order_by(audit_entry.c.seq))).all()
    assert [row.action for row in rows] == [
        "incident.opened",
        "incident.changed",
        "step.completed",
        "step.skipped",
        "step.retried",
        "evidence.added",
        "playbook.replaced",
    ]
    assert rows[1].owner_team == "payments"
    while await audit.seal(incidents.runtime.db, incidents.runtime.audit_key):
        pass
    assert (await audit.verify(incidents.runtime.db, incidents.runtime.audit_key)).intact


async def test_the_timeline_tells_everything_in_order_and_pages(incidents: Harness) -> None:
    await incidents.deliver(an_alert_raised())
    await incidents.do_tasks()
    incident = await the_incident(incidents)
    path, client = f"/v1/incidents/{incident['incident_id']}/timeline", incidents.client("viewer")
    first = (await client.get(path, params={"limit": 2})).json()
    rest = (await client.get(path, params={"limit": 200, "cursor": first["next_cursor"]})).json()
    entries = first["items"] + rest["items"]
    assert entries == incident["timeline"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    assert rest["next_cursor"] is None


async def test_an_incident_that_does_not_exist_is_not_found(incidents: Harness) -> None:
    client = incidents.client()
    for path in ("", "/timeline", "/evidence", "/dossier"):
        assert (await client.get(f"/v1/incidents/{uuid4()}{path}")).status_code == 404
    assert (await client.get("/v1/incidents/nonsense")).status_code == 422
