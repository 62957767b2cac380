"""Engagements, findings and reviews."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governance.domain.documents import DoesNotFit
from services.governance.domain.redteam import (
    AcceptanceInForce,
    Engagement,
    EngagementStatus,
    FindingStatus,
    IllegalStep,
    NotAccepted,
    Team,
)
from services.governance.domain.reviews import (
    Review,
    ReviewClosed,
    ReviewKind,
    ReviewStatus,
    Timing,
    asset_review_due,
)
from services.governance.shipped import library
from services.governance.tests.factories import NOON, TODAY, a_finding
from shared.errors import DomainError

E = EngagementStatus
F = FindingStatus


def an_engagement() -> Engagement:
    return Engagement(
        engagement_id=uuid4(),
        version=1,
        title="autumn",
        objectives="",
        rules="",
        team=Team.INTERNAL,
        lead="",
        asset_ids=(),
        owner_team="",
        status=E.PLANNED,
        planned_for=None,
        started_on=None,
        completed_on=None,
        summary="",
        created_by="alice",
        created_at=NOON,
        updated_at=NOON,
    )


@given(st.lists(st.sampled_from(list(E)), max_size=12))
def test_an_engagement_is_completed_only_after_it_started(steps: list[E]) -> None:
    engagement, trail = an_engagement(), [E.PLANNED]
    for step in steps:
        try:
            engagement = engagement.moved(step, TODAY)
        except IllegalStep:
            continue
        if engagement.status is not trail[-1]:
            trail.append(engagement.status)
    assert tuple(trail) in {
        (E.PLANNED,),
        (E.PLANNED, E.IN_PROGRESS),
        (E.PLANNED, E.CANCELLED),
        (E.PLANNED, E.IN_PROGRESS, E.COMPLETED),
        (E.PLANNED, E.IN_PROGRESS, E.CANCELLED),
    }
    assert (engagement.started_on is not None) == (E.IN_PROGRESS in trail)
    assert (engagement.completed_on is not None) == (E.COMPLETED in trail)


@given(st.lists(st.tuples(st.sampled_from(list(F)), st.booleans()), max_size=15))
def test_a_finding_is_accepted_only_by_an_acceptance_and_dated_only_when_remediated(
    steps: list[tuple[F, bool]],
) -> None:
    finding = a_finding()
    in_force = AcceptanceInForce(uuid4(), finding.asset_id)
    for step, accepted in steps:
        with suppress(DomainError):
            finding = finding.moved(step, NOON, in_force if accepted else None)
        assert (finding.acceptance_id is not None) == (finding.status is F.ACCEPTED)
        assert (finding.remediated_at is not None) == (finding.status is F.REMEDIATED)
        assert finding.event().finding.status == finding.status


def test_an_acceptance_of_another_asset_does_not_cover_a_finding() -> None:
    with pytest.raises(NotAccepted):
        a_finding().moved(F.ACCEPTED, NOON, AcceptanceInForce(uuid4(), uuid4()))


def test_a_finding_is_remediated_only_with_word_of_how() -> None:
    with pytest.raises(DoesNotFit) as refused:
        a_finding(remediation="").moved(F.REMEDIATED, NOON)
    assert refused.value.extra["errors"][0]["field"] == "/remediation"


def test_a_finding_is_overdue_while_it_is_owed() -> None:
    late = TODAY + timedelta(days=31)
    assert a_finding().overdue(late)
    assert not a_finding().overdue(TODAY + timedelta(days=30))
    assert a_finding(status=F.RETEST).overdue(late)
    assert not a_finding(status=F.REMEDIATED).overdue(late)


# -- reviews -----------------------------------------------------------------------------------------------------------


def a_review(due_on: date) -> Review:
    return Review(uuid4(), 1, ReviewKind.POLICY, "acceptable-use", None, ReviewStatus.DUE, due_on, "", NOON, NOON)


@pytest.mark.parametrize(
    ("days", "timing"),
    [(-1, Timing.OVERDUE), (0, Timing.DUE), (14, Timing.DUE), (15, Timing.UPCOMING)],
)
def test_timing_is_a_matter_of_the_day(days: int, timing: Timing) -> None:
    assert a_review(TODAY + timedelta(days=days)).timing(TODAY) is timing


def test_what_is_over_is_owed_no_more() -> None:
    for over in (
        a_review(TODAY).completed(by="bob", at=NOON, outcome="fine"),
        a_review(TODAY).cancelled(NOON),
    ):
        assert over.timing(TODAY + timedelta(days=400)) is None
        with pytest.raises(ReviewClosed):
            over.completed(by="bob", at=NOON, outcome="again")
        with pytest.raises(ReviewClosed):
            over.rescheduled(TODAY, None, NOON)
        with pytest.raises(ReviewClosed):
            over.cancelled(NOON)


def test_the_event_carries_the_version_and_the_day() -> None:
    moved = a_review(TODAY).rescheduled(TODAY + timedelta(days=5), None, NOON)
    event = replace(moved, asset_id=uuid4()).event("support")
    assert (event.version, event.review.version, event.review.owner_team) == (2, 2, "support")
    assert event.review.due_on == TODAY + timedelta(days=5)


def test_assets_are_reviewed_soon_after_registration_and_then_in_their_rhythm() -> None:
    days = library().appetite.review_days
    assert asset_review_due(None, TODAY, days) == TODAY + timedelta(days=30)
    assert asset_review_due(TODAY, TODAY - timedelta(days=300), days) == TODAY + timedelta(days=90)
