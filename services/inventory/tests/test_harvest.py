"""What a connector reports: complete scopes, stale scopes, and a way home that is bounded."""

from __future__ import annotations

import asyncio

import pytest

from services.inventory.connectors.harvest import BATCH, PROBLEMS_LIMIT, Harvest, HarvestClosed, InMemory
from services.inventory.domain.claims import Found, found
from shared.contracts.inventory import AssetType


def entry(number: int) -> Found:
    return found(f"at/{number}", name=f"model {number}", asset_type=AssetType.FOUNDATION_MODEL)


async def test_a_scope_that_ends_by_itself_is_complete_and_holds_what_was_added() -> None:
    sink = InMemory()
    harvest = Harvest(sink)
    async with harvest.scope("listing") as scope:
        for number in range(BATCH + 1):
            await scope.add(entry(number))
            await scope.add(entry(number))
    assert len(sink.found) == BATCH + 1
    assert sink.complete_scopes == {"listing": {f"at/{number}" for number in range(BATCH + 1)}}
    assert not harvest.problems


async def test_a_platform_that_fails_half_way_makes_the_scope_stale_and_keeps_what_was_found() -> None:
    sink = InMemory()
    harvest = Harvest(sink)
    async with harvest.scope("first", failures=(ConnectionError,), where="ListModels") as scope:
        await scope.add(entry(1))
        raise ConnectionError("reset; password=correct-horse-battery")
    async with harvest.scope("second") as scope:
        await scope.add(entry(2))
    assert [item.locator for item in sink.found] == ["at/1", "at/2"]
    assert list(sink.complete_scopes) == ["second"]
    assert "ListModels: reset" in sink.stale_scopes["first"]
    assert "correct-horse" not in repr((sink.stale_scopes, harvest.problems))


async def test_a_mistake_of_ours_is_not_taken_for_the_platforms() -> None:
    sink = InMemory()
    with pytest.raises(KeyError):
        async with Harvest(sink).scope("listing", failures=(ConnectionError,)):
            raise KeyError("typo")
    assert not sink.complete_scopes


async def test_more_than_a_run_may_bring_ends_the_scope_as_stale() -> None:
    sink = InMemory()
    harvest = Harvest(sink, entries_limit=3)
    async with harvest.scope("endless") as scope:
        for number in range(1_000_000):
            await scope.add(entry(number))
    assert len(sink.found) == 3
    assert "stopped at 3 entries" in sink.stale_scopes["endless"]


async def test_threads_report_and_learn_that_the_run_is_over() -> None:
    sink = InMemory()
    harvest = Harvest(sink)
    async with harvest.scope("disk") as scope:
        await asyncio.to_thread(scope.add_from_thread, entry(1))
    assert [item.locator for item in sink.found] == ["at/1"]
    with pytest.raises(HarvestClosed):
        await asyncio.to_thread(scope.add_from_thread, entry(2))


async def test_problems_are_bounded() -> None:
    harvest = Harvest(InMemory())
    for number in range(PROBLEMS_LIMIT + 5):
        harvest.fail("x", number)
    assert (len(harvest.problems), harvest.problems_untold) == (PROBLEMS_LIMIT, 5)


async def test_what_an_earlier_try_read_is_known() -> None:
    harvest = Harvest(InMemory(), read=["a"])
    assert harvest.is_read("a")
    assert not harvest.is_read("b")
    assert harvest.completed == ["a"]
