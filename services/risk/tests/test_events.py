"""What events do to scores: through decoding, cursor, journal and a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from services.risk.domain.dossier import MOST_SIGNALS
from services.risk.store.tables import alert_copy, assessment, asset_copy, incident_copy, portfolio_cell
from services.risk.tests.factories import (
    NOW,
    acceptance,
    alert,
    an_asset,
    control,
    incident,
    now_is,
    registered,
    retired,
    then,
)
from shared.consumer import Fenced
from shared.contracts.detection import AlertDisposed, AlertRepeated
from shared.contracts.governance import (
    AcceptanceExpired,
    AcceptanceRevoked,
    ControlRemoved,
    ControlUpdated,
)
from shared.contracts.incidents import IncidentContained, IncidentResolved, IncidentUpdated
from shared.contracts.inventory import AssetQuarantined, AssetReleased, AssetReviewed, AssetUpdated
from shared.contracts.risk import AssessmentCompleted
from shared.testing import Harness

ASSET = UUID("018f5f6e-0000-7000-8000-00000000a55e")


async def announced(risk: Harness, asset_id: UUID = ASSET) -> list[AssessmentCompleted]:
    events = [AssessmentCompleted.model_validate(e.data) for e in await risk.published(AssessmentCompleted.TYPE)]
    return [event for event in events if event.asset_id == asset_id]


async def newest(risk: Harness, asset_id: UUID = ASSET) -> AssessmentCompleted:
    return (await announced(risk, asset_id))[-1]


async def rows(risk: Harness, table: sa.Table) -> list[Any]:
    async with risk.runtime.db.read() as tx:
        return list((await tx.execute(sa.select(table).order_by(*table.primary_key.columns))).all())


async def test_a_registered_asset_is_assessed_and_announced(risk: Harness) -> None:
    await risk.deliver(registered(ASSET))
    [event] = await announced(risk)
    assert (event.inherent_risk_score, event.residual_risk_score, event.risk_level) == (71.25, 71.25, "HIGH")
    assert event.base_residual_risk_score == 71.25
    assert event.adjustments == ()
    assert (event.version, event.asset_version, event.model_version) == (1, 1, 1)
    assert (event.previous_risk_score, event.previous_risk_level) == (None, None)
    assert (event.trigger, event.owner_team, event.assessed_at) == ("asset.registered", "support", NOW)


async def test_two_operational_controls_bring_the_golden_asset_to_53_44(risk: Harness) -> None:
    await risk.deliver(
        registered(ASSET),
        control(ASSET, "input_filtering"),
        control(ASSET, "monitoring"),
        control(ASSET, "guardrails", operational=False),
        control(ASSET, None),
    )
    events = await announced(risk)
    assert [event.residual_risk_score for event in events] == [71.25, 60.56, 53.44, 53.44]
    assert events[2].control_effectiveness == 0.25
    assert (events[2].risk_level, events[2].previous_risk_score, events[2].trigger) == (
        "HIGH",
        60.56,
        "control.deployed",
    )


async def test_a_control_type_counts_once_for_an_asset_however_often_it_is_deployed(risk: Harness) -> None:
    await risk.deliver(registered(ASSET), control(ASSET, "monitoring"), control(ASSET, "monitoring"))
    assert (await newest(risk)).control_effectiveness == 0.10


async def test_a_control_that_fails_or_is_removed_counts_no_more(risk: Harness) -> None:
    first, second = control(ASSET, "monitoring"), control(ASSET, "guardrails")
    await risk.deliver(registered(ASSET), first, second)
    assert (await newest(risk)).control_effectiveness == 0.20
    await risk.deliver(then(first, ControlUpdated, operational=False))
    assert (await newest(risk)).control_effectiveness == 0.10
    await risk.deliver(then(second, ControlRemoved))
    assert (await newest(risk)).control_effectiveness == 0


async def test_what_came_before_the_asset_counts_once_it_comes(risk: Harness) -> None:
    await risk.deliver(control(ASSET, "monitoring"), alert(ASSET), acceptance(ASSET))
    assert await announced(risk) == []
    await risk.deliver(registered(ASSET))
    event = await newest(risk)
    assert event.control_effectiveness == 0.10
    assert [adjustment.kind for adjustment in event.adjustments] == ["threat_activity"]
    assert event.accepted_until == NOW + timedelta(days=30)


async def test_a_review_lowers_the_score_and_says_what_it_was(risk: Harness) -> None:
    await risk.deliver(
        registered(ASSET), now_is(AssetReviewed, ASSET, version=2, last_security_review=NOW.date().isoformat())
    )
    event = await newest(risk)
    assert (event.trigger, event.previous_risk_score, event.residual_risk_score) == ("asset.reviewed", 71.25, 68.25)


async def test_a_snapshot_that_is_not_newer_changes_nothing(risk: Harness) -> None:
    await risk.deliver(
        registered(ASSET, version=3), now_is(AssetUpdated, ASSET, version=3, network_exposure="internal")
    )
    assert len(await announced(risk)) == 1


async def test_a_redelivered_event_is_assessed_once(risk: Harness) -> None:
    await risk.deliver(registered(ASSET))
    with pytest.raises(Fenced):
        await risk.redeliver("INVENTORY", 1)
    assert len(await rows(risk, assessment)) == 1


async def test_an_alert_raises_the_score_in_points_that_sum(risk: Harness) -> None:
    raised = alert(ASSET, "high")
    await risk.deliver(registered(ASSET), raised)
    event = await newest(risk)
    assert event.trigger == "alert.raised"
    assert (event.base_residual_risk_score, event.residual_risk_score, event.risk_level) == (71.25, 77.25, "CRITICAL")
    assert [(a.kind, a.points) for a in event.adjustments] == [("threat_activity", 6.0)]


async def test_repetition_raises_and_a_false_positive_takes_it_all_back(risk: Harness) -> None:
    raised = alert(ASSET, "high")
    again = then(raised, AlertRepeated, count=10)
    await risk.deliver(
        registered(ASSET),
        raised,
        again,
        then(again, AlertDisposed, disposition="false_positive"),
    )
    assert [event.residual_risk_score for event in await announced(risk)] == [71.25, 77.25, 83.25, 71.25]
    assert (await newest(risk)).adjustments == ()
    assert await rows(risk, alert_copy) == []


async def test_an_alert_that_moves_nothing_is_no_assessment(risk: Harness) -> None:
    await risk.deliver(registered(ASSET), alert(ASSET, "info"), alert(None), alert(uuid4()))
    assert len(await announced(risk)) == 1


async def test_an_incident_counts_until_it_is_contained_resolved_and_faded(risk: Harness) -> None:
    opened = incident(ASSET, severity="sev2")
    contained = then(opened, IncidentContained, status="contained", contained_at=NOW)
    await risk.deliver(
        registered(ASSET, network_exposure="internal"),
        opened,
        contained,
        then(contained, IncidentResolved, at=NOW + timedelta(days=7), status="resolved", resolved_at=NOW),
    )
    found = [(e.trigger, [(a.kind, a.points) for a in e.adjustments]) for e in await announced(risk)]
    assert found == [
        ("asset.registered", []),
        ("incident.opened", [("incident_activity", 18.0)]),
        ("incident.contained", [("incident_activity", 9.0)]),
        ("incident.resolved", [("incident_activity", 4.5)]),
    ]


async def test_an_asset_that_an_incident_turns_out_not_to_affect_gets_its_score_back(risk: Harness) -> None:
    other = uuid4()
    opened = incident(ASSET, other, severity="sev3")
    await risk.deliver(registered(ASSET), registered(other), opened)
    assert (await newest(risk)).residual_risk_score == 79.25
    assert (await newest(risk, other)).residual_risk_score == 79.25
    await risk.deliver(then(opened, IncidentUpdated, affected_assets=[other]))
    assert (await newest(risk)).residual_risk_score == 71.25
    assert (await newest(risk, other)).residual_risk_score == 79.25
    assert [row.asset_id for row in await rows(risk, incident_copy)] == [other]


async def test_what_depends_on_an_asset_counts_only_when_something_happens_to_it(risk: Harness) -> None:
    near, far, gone = uuid4(), uuid4(), uuid4()
    await risk.deliver(
        registered(ASSET, network_exposure="internal", downstream_assets=[str(gone), str(uuid4())]),
        registered(near, upstream_assets=[str(ASSET)]),
        registered(far, upstream_assets=[str(near)], downstream_assets=[str(ASSET)]),
        registered(gone),
        retired(gone),
    )
    assert (await newest(risk)).adjustments == ()
    await risk.deliver(incident(ASSET))
    blast = (await newest(risk)).adjustments[1]
    # log2(1 + 2) x 2 points: a circle does not count twice, what is retired or unknown not at all.
    assert (blast.kind, blast.points) == ("blast_radius", 3.17)
    assert blast.reason == "2 assets downstream, and 30 points of activity."


async def test_a_quarantined_asset_carries_its_blast_radius_until_it_is_released(risk: Harness) -> None:
    await risk.deliver(
        registered(ASSET),
        registered(uuid4(), upstream_assets=[str(ASSET)]),
        now_is(AssetQuarantined, ASSET, version=2, lifecycle="quarantined"),
        now_is(AssetReleased, ASSET, version=3),
    )
    assert [(e.trigger, e.residual_risk_score) for e in await announced(risk)] == [
        ("asset.registered", 71.25),
        ("asset.quarantined", 73.25),
        ("asset.released", 71.25),
    ]


async def test_a_dependency_may_be_taken_back_by_who_declared_it(risk: Harness) -> None:
    consumer = uuid4()
    await risk.deliver(
        registered(ASSET),
        registered(consumer, upstream_assets=[str(ASSET)]),
        now_is(AssetUpdated, consumer, version=2, upstream_assets=[]),
        alert(ASSET),
    )
    assert [adjustment.kind for adjustment in (await newest(risk)).adjustments] == ["threat_activity"]


async def test_an_acceptance_leaves_the_score_and_is_shown_until_it_ends(risk: Harness) -> None:
    granted = acceptance(ASSET)
    await risk.deliver(registered(ASSET), granted)
    event = await newest(risk)
    assert (event.residual_risk_score, event.risk_level, event.trigger) == (71.25, "HIGH", "acceptance.granted")
    assert event.accepted_until == granted.acceptance.expires_at
    await risk.deliver(then(granted, AcceptanceExpired, status="expired"))
    assert (await newest(risk)).accepted_until is None


async def test_an_exception_from_policy_is_no_acceptance_of_risk(risk: Harness) -> None:
    deviation = acceptance(ASSET, kind="exception")
    await risk.deliver(registered(ASSET), deviation, acceptance(None), then(deviation, AcceptanceRevoked))
    assert len(await announced(risk)) == 1


async def test_a_retired_asset_leaves_the_portfolio_and_is_assessed_no_more(risk: Harness) -> None:
    other = uuid4()
    await risk.deliver(registered(ASSET), registered(other), retired(ASSET), alert(ASSET), control(ASSET, "monitoring"))
    assert [event.trigger for event in await announced(risk)] == ["asset.registered", "asset.retired"]
    [cell] = await rows(risk, portfolio_cell)
    assert (cell.owner_team, cell.asset_type, cell.risk_level, cell.assets) == ("support", "ai_agent", "HIGH", 1)


async def test_the_portfolio_follows_team_type_level_and_acceptance(risk: Harness) -> None:
    moved = now_is(AssetUpdated, ASSET, version=2, owner_team="sales", network_exposure="internal")
    await risk.deliver(registered(ASSET), registered(uuid4(), asset_type="integration"), moved, acceptance(ASSET))
    cells = [(c.owner_team, c.asset_type, c.risk_level, c.accepted, c.assets) for c in await rows(risk, portfolio_cell)]
    assert cells == [("sales", "ai_agent", "HIGH", True, 1), ("support", "integration", "HIGH", False, 1)]


async def test_a_storm_of_alerts_leaves_the_strongest(risk: Harness) -> None:
    storm = [alert(ASSET, "low", at=NOW - timedelta(minutes=i)) for i in range(MOST_SIGNALS + 30)]
    worst = alert(ASSET, "critical", at=NOW - timedelta(days=2))
    await risk.deliver(registered(ASSET))
    await risk.deliver(worst, *storm, together=True)
    kept = {row.alert_id for row in await rows(risk, alert_copy)}
    assert len(kept) == MOST_SIGNALS
    assert worst.alert.alert_id in kept
    event = await newest(risk)
    assert event.residual_risk_score == 91.25
    assert "capped at 20" in event.adjustments[0].reason
    assert all(table.identical for table in (await risk.rebuild()).values())


STORY = [
    registered(ASSET, owner_team="a"),
    control(ASSET, "monitoring"),
    registered(UUID(int=2), upstream_assets=[str(ASSET)], owner_team="b"),
    alert(ASSET, "medium", count=7),
    now_is(AssetUpdated, ASSET, version=2, network_exposure="vpc", owner_team="a"),
    registered(UUID(int=3), upstream_assets=[str(UUID(int=2))], owner_team="a"),
    incident(ASSET, UUID(int=2), severity="sev3"),
    alert(UUID(int=2), "low"),
    now_is(AssetUpdated, UUID(int=2), version=2, upstream_assets=[], owner_team="a"),
    alert(ASSET, "high"),
    retired(UUID(int=3), owner_team="a"),
    acceptance(UUID(int=2)),
    alert(ASSET, "low", at=NOW + timedelta(days=3)),
    registered(UUID(int=4), downstream_assets=[str(ASSET)], owner_team="b"),
    incident(UUID(int=4), severity="sev4"),
]


async def test_where_a_batch_ends_makes_no_difference(risk: Harness) -> None:
    """One by one, then all of it again as one batch and in odd ones, on tables emptied before."""
    ids = [UUID(int=1000 + i) for i in range(len(STORY))]
    found = []
    for size in (1, len(STORY), 4, 7):
        async with risk.runtime.db.begin() as tx:
            await tx.execute(
                sa.text(
                    "TRUNCATE asset_copy, dependency, control_copy, acceptance_copy, alert_copy, "
                    "incident_copy, assessment, portfolio_cell, outbox"
                )
            )
        for start in range(0, len(STORY), size):
            await deliver_as(risk, STORY[start : start + size], ids[start : start + size])
        assert risk.service.consumers is not None
        async with risk.runtime.db.read() as tx:
            digests = await risk.service.consumers.digests(tx)
        events = [event.data for event in await risk.published(AssessmentCompleted.TYPE)]
        found.append((digests, events))
    assert all(entry == found[0] for entry in found[1:])
    assert len(found[0][1]) > len(STORY) / 2


async def deliver_as(risk: Harness, events: list[Any], ids: list[UUID]) -> None:
    """Deliver in one transaction, under the ids given."""
    from shared.contracts.envelope import encode, stream_of
    from shared.feed import Message

    messages = []
    for event, event_id in zip(events, ids, strict=True):
        tape = risk._tape.setdefault(stream_of(event.TYPE), [])
        payload = encode(event, event_id=event_id, traceparent=None)
        tape.append(Message(stream_of(event.TYPE), len(tape) + 1, event.TYPE, payload, 0.0))
        messages.append(tape[-1])
    await risk._consume(messages)


async def test_replay_gives_the_same_tables(risk: Harness) -> None:
    await risk.deliver(*STORY[:6])
    await risk.deliver(*STORY[6:], together=True)
    before = len(await risk.published())
    for name, table in (await risk.rebuild()).items():
        assert table.identical, name
    assert len(await rows(risk, assessment)) == before
    assert len(await risk.published()) == before, "nothing is announced twice"


async def test_ids_follow_from_the_event_alone(risk: Harness) -> None:
    other = uuid4()
    await risk.deliver(registered(ASSET), registered(other))
    opened = incident(ASSET, other)
    await risk.deliver(opened)
    events = [*await announced(risk), *await announced(risk, other)]
    assert len({event.assessment_id for event in events}) == 4
    assert events[1].trigger_event_id == events[3].trigger_event_id


async def test_a_thousand_assets_in_one_batch(risk: Harness) -> None:
    assets = [registered(name=f"agent {i}", owner_team=f"team {i % 7}") for i in range(1_000)]
    await risk.deliver(*assets, together=True)
    assert len(await rows(risk, asset_copy)) == 1_000
    assert sum(cell.assets for cell in await rows(risk, portfolio_cell)) == 1_000
    assert len(await risk.published(AssessmentCompleted.TYPE)) == 1_000
    assert an_asset().owner_team == "support"
