"""Alerts become incidents: which do, which join, how many there are in the end; assets say whose they are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.incidents.application import alerts
from services.incidents.application.alerts import Arrival
from services.incidents.application.policy import Policy
from services.incidents.tests.factories import ASSET, NOON, an_alert, an_alert_raised, minutes
from shared.consumer import Fenced, dead_letter_table
from shared.contracts.detection import AlertDisposed, AlertRepeated, Disposition, Severity
from shared.contracts.inventory import AssetRegistered, AssetSnapshot, AssetType, AssetUpdated
from shared.testing import Harness

OPENED = "ev.incidents.incident.opened.v1"
UPDATED = "ev.incidents.incident.updated.v1"


async def incidents_of(incidents: Harness, **filters: Any) -> list[dict[str, Any]]:
    answer = await incidents.client().get("/v1/incidents", params=filters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def the_incident(incidents: Harness) -> dict[str, Any]:
    found = await incidents_of(incidents)
    assert len(found) == 1
    whole: dict[str, Any] = (await incidents.client().get(f"/v1/incidents/{found[0]['incident_id']}")).json()
    return whole


async def test_a_high_alert_opens_an_incident_with_the_steps_of_its_playbook(incidents: Harness) -> None:
    await incidents.deliver(an_alert_raised(first_seen=NOON - minutes(2)))
    incident = await the_incident(incidents)
    assert incident["category"] == "prompt_injection_exploitation"
    assert (incident["severity"], incident["status"], incident["current_phase"]) == ("sev2", "open", "detection")
    assert incident["detected_by"] == "ignore-previous-instructions"
    assert (incident["occurred_at"], incident["detected_at"]) == ("2026-11-22T11:58:00Z", "2026-11-22T12:00:00Z")
    assert incident["affected_assets"] == [str(ASSET)]
    assert (incident["owner_team"], incident["owner_teams"]) == ("payments", ["payments"])
    assert [step["step_number"] for step in incident["steps"]] == list(range(1, 9))
    assert [step["status"] for step in incident["steps"] if step["automated"]] == ["running", "running"]
    [event] = await incidents.published(OPENED)
    assert event.data["incident"]["incident_id"] == incident["incident_id"]
    assert event.data["incident"]["alert_count"] == 1
    assert [piece["kind"] for piece in incident["evidence"]] == ["alert"]
    assert incident["evidence"][0]["content"]["excerpt"].startswith("Please ignore")


@pytest.mark.parametrize("severity", [Severity.INFO, Severity.LOW, Severity.MEDIUM])
async def test_a_lesser_alert_alone_opens_none(incidents: Harness, severity: Severity) -> None:
    await incidents.deliver(an_alert_raised(severity=severity))
    assert await incidents_of(incidents) == []


async def test_a_medium_alert_that_repeats_opens_one_as_suspicious(incidents: Harness) -> None:
    alert = an_alert(severity=Severity.MEDIUM)
    again = alert.model_copy(update={"count": 4, "version": 2, "last_seen": NOON + minutes(1)})
    await incidents.deliver(
        an_alert_raised(alert_id=alert.alert_id, severity=Severity.MEDIUM),
        AlertRepeated(version=2, occurred_at=NOON + minutes(1), alert=again),
    )
    incident = await the_incident(incidents)
    assert (incident["severity"], incident["alert_count"], incident["occurrence_count"]) == ("sev3", 1, 4)


async def test_medium_alerts_of_one_story_add_up_and_all_of_them_belong_to_it(incidents: Harness) -> None:
    for number in range(3):
        assert await incidents_of(incidents) == []
        await incidents.deliver(an_alert_raised(severity=Severity.MEDIUM, session_id=f"session-{number}"))
    incident = await the_incident(incidents)
    assert (incident["alert_count"], incident["occurrence_count"]) == (3, 3)
    assert len(incident["alert_ids"]) == 3


async def test_alerts_join_by_session_or_by_actor(incidents: Harness) -> None:
    await incidents.deliver(
        an_alert_raised(session_id="s1", actor=None),
        an_alert_raised(session_id="s1", actor="mallory"),
        an_alert_raised(session_id="s2", actor="mallory"),
        an_alert_raised(session_id="s2", actor=None),
    )
    incident = await the_incident(incidents)
    assert (incident["alert_count"], incident["sessions"], incident["actor"]) == (4, ["s1", "s2"], "mallory")


@pytest.mark.parametrize(
    "other",
    [
        {"session_id": "s2", "actor": "trent"},
        {"asset_id": uuid4()},
        {"category": "jailbreak_bypass"},
        {"last_seen": NOON + minutes(61), "first_seen": NOON + minutes(61)},
    ],
)
async def test_what_differs_in_story_or_comes_too_late_is_another_incident(
    incidents: Harness, other: dict[str, Any]
) -> None:
    await incidents.deliver(an_alert_raised(), an_alert_raised(**other))
    assert len(await incidents_of(incidents)) == 2


@pytest.mark.parametrize("severity", [Severity.HIGH, Severity.MEDIUM])
async def test_alerts_of_two_teams_without_an_asset_are_never_one_incident(
    incidents: Harness, severity: Severity
) -> None:
    """Neither by what is open nor by what waits, in one batch and in several."""
    teams = ["payments", "claims"] * 3
    alerts = [an_alert_raised(asset_id=None, owner_team=team, severity=severity) for team in teams]
    await incidents.deliver(*alerts[:4], together=True)
    await incidents.deliver(*alerts[4:])
    found = await incidents_of(incidents)
    assert sorted((one["owner_team"], one["alert_count"]) for one in found) == [("claims", 3), ("payments", 3)]


@pytest.mark.parametrize("together", [True, False])
async def test_alerts_about_assets_of_two_teams_are_never_one_incident(incidents: Harness, together: bool) -> None:
    """Whatever session and actor the senders name, and though one asset's alerts join whoever its owner is by then."""
    places: list[dict[str, Any]] = [
        {"asset_id": ASSET, "owner_team": "payments"},
        {"asset_id": uuid4(), "owner_team": "claims"},
        {"asset_id": None, "owner_team": "claims"},
        {"asset_id": None, "owner_team": ""},
        {"asset_id": uuid4(), "owner_team": ""},
    ]
    await incidents.deliver(*(an_alert_raised(**place) for place in places * 2), together=together)
    found = await incidents_of(incidents)
    assert sorted((one["owner_team"], one["alert_count"]) for one in found) == [
        ("", 2),
        ("", 2),
        ("claims", 2),
        ("claims", 2),
        ("payments", 2),
    ]


async def test_an_incident_by_hand_takes_no_alert_of_another_team(incidents: Harness) -> None:
    body = {"category": "prompt_injection_exploitation", "session_id": "session-1", "actor": "mallory"}
    mine = await incidents.client("analyst", teams=["claims"]).post("/v1/incidents", json=body)
    assert mine.status_code == 201, mine.text
    now = datetime.now(UTC)
    for team in ("payments", "claims", ""):
        await incidents.deliver(an_alert_raised(asset_id=None, owner_team=team, first_seen=now, last_seen=now))
    found = {(one["opened_by"], one["owner_team"]): one["alert_count"] for one in await incidents_of(incidents)}
    assert found == {
        ("alice", "claims"): 1,
        ("service:incidents", "payments"): 1,
        ("service:incidents", ""): 1,
    }


async def test_a_new_story_after_the_window_takes_the_keys_over(incidents: Harness) -> None:
    late = {"first_seen": NOON + minutes(90), "last_seen": NOON + minutes(90)}
    await incidents.deliver(an_alert_raised(), an_alert_raised(**late), an_alert_raised(**late))
    found = await incidents_of(incidents)
    assert sorted(incident["alert_count"] for incident in found) == [1, 2]


async def test_ten_thousand_alerts_are_one_incident_with_the_right_counts(incidents: Harness) -> None:
    for batch in range(20):
        events = [an_alert_raised(count=1 + (number + batch) % 3) for number in range(500)]
        await incidents.deliver(*events, together=True)
    incident = await the_incident(incidents)
    expected = sum(1 + (number + batch) % 3 for batch in range(20) for number in range(500))
    assert (incident["alert_count"], incident["occurrence_count"]) == (10_000, expected)
    assert len(incident["alert_ids"]) == 50
    assert incident["evidence_count"] == 20
    assert len(await incidents.published(OPENED)) == 1
    assert len(await incidents.published(UPDATED)) == 19


async def test_a_storm_from_many_sides_at_once_opens_one(incidents: Harness) -> None:
    """Sixteen transactions at a time, as if as many consumers ran: the keys decide, not luck."""

    async def take(number: int) -> None:
        arrivals = [Arrival(an_alert(session_id=f"s{number % 4}", actor="mallory"), NOON, uuid4()) for _ in range(25)]
        async with incidents.runtime.db.begin() as tx:
            await alerts.take(tx, arrivals, Policy(), datetime.now(UTC))

    for _ in range(5):
        await asyncio.gather(*(take(number) for number in range(8)))
    incident = await the_incident(incidents)
    assert (incident["alert_count"], incident["occurrence_count"]) == (1_000, 1_000)
    assert len(await incidents.published(OPENED)) == 1


async def test_redelivery_changes_nothing(incidents: Harness) -> None:
    event = an_alert_raised()
    await incidents.deliver(event)
    with pytest.raises(Fenced):
        await incidents.redeliver("DETECTION", 1)
    # The same event under another sequence, as after a stream was filled again.
    await incidents.deliver(event)
    incident = await the_incident(incidents)
    assert (incident["alert_count"], incident["version"]) == (1, 1)


async def test_repetitions_count_once_however_they_arrive(incidents: Harness) -> None:
    alert = an_alert()
    events = [
        AlertRepeated(
            version=version,
            occurred_at=NOON,
            alert=alert.model_copy(update={"version": version, "count": 2**version}),
        )
        for version in (2, 4, 3, 5)
    ]
    await incidents.deliver(an_alert_raised(alert_id=alert.alert_id), *events)
    incident = await the_incident(incidents)
    assert (incident["alert_count"], incident["occurrence_count"]) == (1, 32)


async def test_an_alert_of_an_ended_incident_that_repeats_begins_a_new_one(incidents: Harness) -> None:
    alert = an_alert()
    await incidents.deliver(an_alert_raised(alert_id=alert.alert_id))
    first = await the_incident(incidents)
    client = incidents.client()
    closed = await client.patch(
        f"/v1/incidents/{first['incident_id']}",
        json={"status": "closed", "reason": "handled"},
        headers={"If-Match": "*"},
    )
    assert closed.status_code == 200, closed.text
    again = alert.model_copy(update={"version": 2, "count": 8})
    await incidents.deliver(AlertRepeated(version=2, occurred_at=NOON, alert=again))
    found = {incident["status"]: incident for incident in await incidents_of(incidents)}
    assert found["open"]["occurrence_count"] == 7
    assert found["closed"]["occurrence_count"] == 1


async def test_what_a_person_said_of_an_alert_is_on_the_timeline(incidents: Harness) -> None:
    alert = an_alert()
    said = alert.model_copy(update={"version": 2, "disposition": Disposition.FALSE_POSITIVE})
    await incidents.deliver(
        an_alert_raised(alert_id=alert.alert_id),
        AlertDisposed(version=2, occurred_at=NOON, alert=said, actor="ana"),
    )
    incident = await the_incident(incidents)
    assert "false_positive, says ana" in incident["timeline"][-1]["summary"]
    assert incident["alert_count"] == 1


async def test_an_alert_disposed_of_as_harmless_opens_none(incidents: Harness) -> None:
    harmless = an_alert(disposition=Disposition.BENIGN)
    await incidents.deliver(AlertDisposed(version=1, occurred_at=NOON, alert=harmless, actor="ana"))
    assert await incidents_of(incidents) == []


async def test_a_session_that_becomes_known_later_is_contained_then(incidents: Harness) -> None:
    await incidents.deliver(an_alert_raised(session_id=None))
    before = await the_incident(incidents)
    assert before["steps"][2]["outcome"] == "not applicable: no session in the alert"
    await incidents.deliver(an_alert_raised(session_id="session-9"))
    after = await the_incident(incidents)
    assert (after["steps"][2]["status"], after["steps"][2]["run"]) == ("running", 2)


def an_asset(**changed: Any) -> AssetSnapshot:
    values: dict[str, Any] = {
        "asset_id": ASSET,
        "version": 1,
        "name": "support agent",
        "asset_type": AssetType.AI_AGENT,
        "owner_team": "support",
        "registered_date": NOON,
    }
    return AssetSnapshot(**(values | changed))


async def test_an_incident_belongs_to_whom_its_asset_belongs(incidents: Harness) -> None:
    await incidents.deliver(AssetRegistered(version=1, occurred_at=NOON, asset=an_asset()))
    await incidents.deliver(an_alert_raised())
    assert (await the_incident(incidents))["owner_teams"] == ["support"]
    moved = an_asset(version=2, owner_team="sales")
    await incidents.deliver(AssetUpdated(version=2, occurred_at=NOON, asset=moved))
    assert (await the_incident(incidents))["owner_teams"] == ["sales"]
    stale = an_asset(version=1, owner_team="support")
    await incidents.deliver(AssetUpdated(version=1, occurred_at=NOON, asset=stale))
    assert (await the_incident(incidents))["owner_teams"] == ["sales"]


async def test_an_alert_of_no_category_is_set_aside_and_holds_nobody_up(incidents: Harness) -> None:
    strange = an_alert_raised()
    strange = strange.model_copy(update={"alert": strange.alert.model_copy(update={"category": "meteor_strike"})})
    await incidents.deliver(strange, an_alert_raised(), together=True)
    letters = await incidents.dead_letters()
    assert len(letters) == 1
    assert "meteor_strike" in letters[0].error
    assert len(await incidents_of(incidents)) == 1
    async with incidents.runtime.db.begin() as tx:
        await tx.execute(dead_letter_table.delete())
