"""The ledger's arithmetic: a sum of dated changes gives the counts at any moment."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from services.metrics.domain.ledger import (
    ALWAYS,
    COUNTERS,
    LAST_MINUTE,
    ORGANISATION,
    Counter,
    Posting,
    Share,
    Totals,
    at_minute,
    minute_after,
    minute_of,
    minute_of_day,
    scopes_of,
    until,
)
from services.metrics.tests.factories import total_at


def value_at(posting: Posting, minute: int, counter: Counter, scope: str = ORGANISATION) -> int:
    return total_at(posting, minute, scope)[counter]


@pytest.mark.parametrize(
    ("instant", "within", "after"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0, 0),
        (datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 1, 1),
        (datetime(1970, 1, 1, 0, 1, 0, 1, tzinfo=UTC), 1, 2),
        (datetime(1970, 1, 1, 0, 1, 59, 999_999, tzinfo=UTC), 1, 2),
        (datetime(1969, 12, 31, tzinfo=UTC), 0, 0),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), LAST_MINUTE, LAST_MINUTE),
    ],
)
def test_an_instant_lies_in_a_minute_and_ends_with_the_next_full_one(
    instant: datetime, within: int, after: int
) -> None:
    assert (minute_of(instant), minute_after(instant)) == (within, after)


def test_a_day_begins_at_its_midnight_in_utc() -> None:
    assert at_minute(minute_of_day(date(2026, 7, 1))) == datetime(2026, 7, 1, tzinfo=UTC)


def test_minutes_fit_a_column_of_32_bits() -> None:
    assert LAST_MINUTE < 2**31 - 1
    assert [counter.value for counter in COUNTERS] == list(range(len(COUNTERS)))


def test_a_change_counts_from_its_minute_on_and_leaves_the_past_alone() -> None:
    posting = Posting()
    one = Share("search", ((ALWAYS, Counter.ASSETS, 1), (ALWAYS, Counter.RESIDUAL_CENTS, 5_000)))
    other = Share("search", ((ALWAYS, Counter.ASSETS, 1), (ALWAYS, Counter.RESIDUAL_CENTS, 7_000)))
    posting.replace(None, one, minute=10)
    posting.replace(one, other, minute=20)
    assert [value_at(posting, minute, Counter.RESIDUAL_CENTS) for minute in (9, 10, 19, 20)] == [0, 5_000, 5_000, 7_000]
    assert [value_at(posting, minute, Counter.ASSETS) for minute in (9, 10, 19, 20)] == [0, 1, 1, 1]


def test_a_later_step_is_taken_back_when_its_thing_changes_before_it() -> None:
    posting = Posting()
    goes_stale = Share("search", ((100, Counter.STALE, 1),))
    reviewed_again = Share("search", ((300, Counter.STALE, 1),))
    posting.replace(None, goes_stale, minute=10)
    posting.replace(goes_stale, reviewed_again, minute=50)
    assert [value_at(posting, minute, Counter.STALE) for minute in (50, 100, 299, 300)] == [0, 0, 0, 1]


def test_a_step_that_has_happened_ends_when_its_thing_changes_after_it() -> None:
    posting = Posting()
    goes_stale = Share("search", ((100, Counter.STALE, 1),))
    reviewed_again = Share("search", ((300, Counter.STALE, 1),))
    posting.replace(None, goes_stale, minute=10)
    posting.replace(goes_stale, reviewed_again, minute=150)
    assert [value_at(posting, minute, Counter.STALE) for minute in (99, 100, 149, 150, 300)] == [0, 1, 1, 0, 1]


def test_a_move_between_teams_leaves_the_organisation_as_it_was() -> None:
    posting = Posting()
    here, there = Share("search", ((ALWAYS, Counter.ASSETS, 1),)), Share("ads", ((ALWAYS, Counter.ASSETS, 1),))
    posting.replace(None, here, minute=10)
    posting.replace(here, there, minute=20)
    for scope, counts in (("team:search", [1, 0]), ("team:ads", [0, 1]), (ORGANISATION, [1, 1])):
        assert [value_at(posting, minute, Counter.ASSETS, scope) for minute in (10, 20)] == counts


def test_a_midnight_to_come_is_in_the_row_of_the_day_before_only() -> None:
    posting = Posting()
    midnight, later_that_day = 4 * 1_440, 4 * 1_440 + 60
    share = Share("search", ((midnight, Counter.STALE, 1), (later_that_day, Counter.FINDINGS, 1)))
    posting.replace(None, share, minute=10)
    rows = {(span, start): change for scope, span, start, change in posting.rows() if scope == ORGANISATION}
    assert sorted(rows) == [(1, later_that_day), (60, later_that_day), (1_440, 3 * 1_440), (1_440, 4 * 1_440)]
    assert [value_at(posting, midnight + minute, Counter.STALE) for minute in (-1, 0, 1_440)] == [0, 1, 1]
    gone = Posting()
    gone.replace(share, None, minute=midnight)
    assert [value_at(gone, midnight + minute, Counter.STALE) for minute in (-1, 0, 1_440)] == [0, -1, -1]


def test_hours_and_days_hold_the_same_changes_as_their_minutes() -> None:
    posting = Posting()
    share = Share("search", ((ALWAYS, Counter.ASSETS, 1), (5_000, Counter.STALE, 1)))
    posting.replace(None, share, minute=10)
    posting.replace(None, share, minute=20)
    rows = {(scope, span, start): change for scope, span, start, change in posting.rows()}
    for scope in (ORGANISATION, "team:search"):
        starts = sorted((span, start) for key, span, start in rows if key == scope)
        assert starts == [(1, 10), (1, 20), (1, 5_000), (60, 0), (60, 4_980), (1_440, 0), (1_440, 4_320)]
        assert rows[scope, 1_440, 0][Counter.ASSETS] == 2
        assert rows[scope, 60, 4_980][Counter.STALE] == 2


def test_rows_do_not_depend_on_how_events_are_cut_into_batches() -> None:
    share = Share("search", ((ALWAYS, Counter.ASSETS, 1),))
    together, first, second = Posting(), Posting(), Posting()
    together.replace(None, share, minute=10)
    together.replace(share, None, minute=10)
    first.replace(None, share, minute=10)
    second.replace(share, None, minute=10)
    apart = {row[:3] for posting in (first, second) for row in posting.rows()}
    assert {row[:3] for row in together.rows()} == apart


def test_what_ends_before_it_begins_never_counts() -> None:
    assert until(10, 10, Counter.ASSETS) == ()
    assert until(10, 12, Counter.ASSETS, 3) == ((10, Counter.ASSETS, 3), (12, Counter.ASSETS, -3))


def test_a_team_called_like_the_organisation_is_kept_apart() -> None:
    assert scopes_of(None) == [ORGANISATION]
    assert scopes_of({ORGANISATION, "ads"}) == ["team:ads", f"team:{ORGANISATION}"]
    assert scopes_of(frozenset()) == []


def test_totals_hold_every_counter() -> None:
    with pytest.raises(ValueError, match="sums expected"):
        Totals([1, 2, 3])
    more = Totals.zero().plus([position for position, _ in enumerate(COUNTERS)])
    assert more[Counter.ALERTS_TRUE] == Counter.ALERTS_TRUE
