"""The ledger: POST adds an entry and announces it; its consumer sums what was announced."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic_settings import SettingsConfigDict
from sqlalchemy.dialects.postgresql import insert
from starlette.responses import Response

from shared import audit, outbox, tasks
from shared.auth import requires
from shared.consumer import Consumers, Received
from shared.contracts.envelope import Event
from shared.database import Tx
from shared.errors import Conflict, Unavailable
from shared.http import reply
from shared.models import In, Name, Out, PageOf
from shared.paging import Page
from shared.runtime import Runtime
from shared.service import Service, router
from shared.settings import ServiceSettings
from shared.tasks import Task, Tasks
from shared.work import Work

metadata = sa.MetaData()
entry_table = sa.Table(
    "entry",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("account", sa.Text, nullable=False, unique=True),
    sa.Column("amount", sa.Integer, nullable=False),
)
balance_table = sa.Table(
    "balance",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("trail", sa.Text, nullable=False),
)


class EntryTaken(Conflict):
    """This account has an entry already."""


class EntryAdded(Event):
    """The ledger's only event; it borrows a producer's name that has a stream."""

    TYPE: ClassVar[str] = "ev.metrics.entry.added.v1"
    SUBJECT: ClassVar[str] = "account"

    account: str
    amount: int


class NewEntry(In):
    account: Name
    amount: int


class EntryView(Out):
    id: UUID
    account: str
    amount: int


api = router("/v1/entries", "ledger")
consumers = Consumers("metrics", rebuilt=[balance_table])
effects = Tasks()
calls: list[str] = []
failures: list[Exception] = []


@api.post("", status_code=201, response_model=EntryView)
@requires("metrics:read")
async def add_entry(body: NewEntry, work: Work) -> Response:
    """Add an entry."""

    async def use_case(tx: Tx) -> EntryView:
        view = EntryView(id=uuid4(), account=body.account, amount=body.amount)
        stmt = insert(entry_table).values(view.model_dump()).on_conflict_do_nothing(index_elements=["account"])
        if (await tx.execute(stmt.returning(entry_table.c.id))).first() is None:
            raise EntryTaken(f"{body.account} is taken")
        await outbox.add(
            tx, EntryAdded(version=1, occurred_at=datetime.now(UTC), account=view.account, amount=view.amount)
        )
        await audit.record(tx, work.caller, action="entry.added", target=body.account)
        await tasks.add(tx, kind="call", key=body.account, payload={"account": body.account})
        return view

    return await work.run(use_case, lambda view: reply(view, status=201, etag=1))


@api.get("", response_model=PageOf[EntryView])
@requires("metrics:read")
async def list_entries(page: Page, work: Work) -> Response:
    """List entries by account."""

    async def query(tx: Tx) -> list[Any]:
        stmt = sa.select(entry_table).order_by(entry_table.c.account).limit(page.limit + 1)
        if page.after is not None:
            stmt = stmt.where(entry_table.c.account > page.after[0])
        return list((await tx.execute(stmt)).all())

    rows, cursor = page.cut(await work.read(query), "account")
    return reply(PageOf[EntryView](items=[EntryView.model_validate(row) for row in rows], next_cursor=cursor))


@consumers.on(EntryAdded)
async def sum_entries(tx: Tx, batch: Sequence[Received[EntryAdded]]) -> None:
    for received in batch:
        if received.event.amount < 0:
            raise ValueError("a negative amount is poison here")
        await _add(tx, received.event.account.split("-")[0], received.event.amount)


@consumers.command("interest")
async def pay_interest(tx: Tx, payload: dict[str, Any], _at: datetime) -> None:
    await tx.execute(
        balance_table.update().values(total=balance_table.c.total * payload["times"], trail=balance_table.c.trail + "*")
    )


async def _add(tx: Tx, account: str, amount: int) -> None:
    new = insert(balance_table).values(account=account, total=amount, trail=f"+{amount}")
    await tx.execute(
        new.on_conflict_do_update(
            index_elements=["account"],
            set_={
                "total": balance_table.c.total + new.excluded.total,
                "trail": balance_table.c.trail + new.excluded.trail,
            },
        )
    )


@effects.on("call", workers=1, max_attempts=3)
async def call(task: Task, _runtime: Runtime) -> dict[str, Any]:
    if failures:
        raise failures.pop(0)
    calls.append(task.key)
    return {"called": task.key}


@effects.on("hang", workers=1, max_attempts=1, limit_seconds=0.05)
async def hang(_task: Task, _runtime: Runtime) -> None:
    await asyncio.Event().wait()


class LedgerSettings(ServiceSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="LEDGER_")


LEDGER = Service(
    name="metrics",
    title="Ledger",
    description="Tests of the backbone",
    directory=Path(__file__).parent,
    metadata=metadata,
    routers=[api],
    consumers=consumers,
    tasks=effects,
)

__all__ = ["LEDGER", "LedgerSettings", "Unavailable"]
