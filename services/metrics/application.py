"""The one use case that writes: booking what was heard."""

from __future__ import annotations

from collections.abc import Sequence

from services.metrics.domain.books import Books, wanted
from services.metrics.store import books as store
from shared.contracts.envelope import Event
from shared.database import Tx


async def book(tx: Tx, events: Sequence[Event]) -> None:
    """Bring ledger and coverage up to date with a run of events, in their order.

    Raises:
        NotImplementedError: no figure counts what an event is about.
    """
    books = Books(await store.load(tx, wanted(events)))
    for event in events:
        books.post(event)
    await store.save(tx, books)
