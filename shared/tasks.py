"""Side effects that must happen although processes die: what is owed is a row, written with the cause of owing it.

A worker takes a row on lease, does the work outside any transaction and records the outcome. A worker that is killed
loses its lease within LEASE_SECONDS and another goes on; so a handler may run twice for one task, and passes the
task's key to its target as Idempotency-Key. This replaces a durable JetStream consumer with an inbox: the same
promises, one mechanism less (docs/decisions/0004-side-effects-are-tasks.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat as uuid_utils
from opentelemetry.trace import SpanKind
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, insert

from shared import telemetry
from shared.backbone import metadata
from shared.database import Database, Tx, is_outage, storable
from shared.outbox import replaying

if TYPE_CHECKING:
    from shared.service import Runtime

task_table = sa.Table(
    "task",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("payload", JSONB, nullable=False),
    sa.Column("status", sa.Text, nullable=False, server_default="queued"),
    sa.Column("run_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("leased_until", TIMESTAMP(timezone=True)),
    sa.Column("result", JSONB),
    sa.Column("error", sa.Text),
    sa.Column("traceparent", sa.Text),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("finished_at", TIMESTAMP(timezone=True)),
    sa.UniqueConstraint("kind", "key"),
    sa.Index("task_ready", "run_at", postgresql_where=sa.text("status IN ('queued', 'running')")),
)

LEASE_SECONDS = 12
RENEW_SECONDS = 3.0
BACKOFF_SECONDS = (0.5, 2.0, 5.0, 15.0, 60.0, 300.0, 1_800.0)
IDLE_SECONDS = 1.0
KEPT_DAYS = 30

Handler = Callable[["Task", "Runtime"], Awaitable[dict[str, Any] | None]]


class Hopeless(Exception):
    """Trying again will not help: the task dies at once."""


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of owed work.

    Attributes:
        key: unique within its kind; hand it to the target as Idempotency-Key.
        attempt: 1 on the first try.
        last: this is the last try; what the handler raises now is final.
    """

    id: UUID
    kind: str
    key: str
    payload: dict[str, Any]
    attempt: int
    last: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class _Kind:
    handler: Handler
    max_attempts: int
    limit_seconds: float
    on_dead: Handler | None


class Tasks:
    """The kinds of side effects a service has, and the workers that do them."""

    def __init__(self, *, workers: int = 4) -> None:
        self._workers = workers
        self._kinds: dict[str, _Kind] = {}
        self._stopping = False

    def on(
        self, kind: str, *, max_attempts: int = 8, limit_seconds: float = 120.0, on_dead: Handler | None = None
    ) -> Callable[[Handler], Handler]:
        """Register the handler of a kind; what it returns is kept as the task's result.

        Args:
            max_attempts: tries before the task is dead; between them BACKOFF_SECONDS, the last one repeated.
            limit_seconds: a try that takes longer has failed; one that hangs would hold its worker for ever.
            on_dead: called once when the task is given up.
        """

        def register(handler: Handler) -> Handler:
            self._kinds[kind] = _Kind(handler, max_attempts, limit_seconds, on_dead)
            return handler

        return register

    async def run_workers(self, runtime: Runtime) -> None:
        """Work for ever; cancel to stop, and what was being worked on is taken up again elsewhere or later."""
        # One idle worker at a time listens: a notification that wakes all of them makes all but one look in vain.
        turn = asyncio.Lock()
        await asyncio.gather(*(self._work(runtime, turn) for _ in range(self._workers)))

    async def _work(self, runtime: Runtime, turn: asyncio.Lock) -> None:
        while True:
            try:
                worked = await self.work_once(runtime)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if not is_outage(error):
                    telemetry.logger().error("task_worker_failed", exc_info=error)
                worked = False
                await asyncio.sleep(1.0)
            if not worked:
                async with turn:
                    await runtime.signals.wait("task", IDLE_SECONDS)

    async def work_once(self, runtime: Runtime) -> bool:
        """Do one ready task if there is one."""
        task = await self._claim(runtime.db)
        if task is None:
            return False
        # Others may be ready too; let an idle worker look.
        runtime.signals.wake("task")
        kind = self._kinds[task.kind]
        if task.attempt > kind.max_attempts:
            # Its last worker died over it, so no exception was there to count.
            await self._failed(runtime, task, kind, Hopeless("the process that worked on it died, each time"))
            return True
        renewing = asyncio.create_task(self._renew(runtime.db, task))
        try:
            with telemetry.span(
                f"task {task.kind}",
                SpanKind.CONSUMER,
                parent=task.payload.get("_traceparent"),
                **{"colonnade.task.key": task.key},
            ):
                try:
                    async with asyncio.timeout(kind.limit_seconds):
                        result = await kind.handler(task, runtime)
                except Exception as error:
                    await self._failed(runtime, task, kind, error)
                else:
                    await self._finish(runtime.db, task, "done", result=result)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        return True

    async def _claim(self, db: Database) -> Task | None:
        now = sa.func.clock_timestamp()
        async with db.statement() as tx:
            ready = (
                sa.select(task_table.c.id)
                .where(task_table.c.kind.in_(sorted(self._kinds)))
                .where(
                    sa.or_(
                        sa.and_(task_table.c.status == "queued", task_table.c.run_at <= now),
                        sa.and_(task_table.c.status == "running", task_table.c.leased_until < now),
                    )
                )
                .order_by(task_table.c.run_at)
                .limit(1)
                .with_for_update(skip_locked=True)
                .scalar_subquery()
            )
            claimed = (
                await tx.execute(
                    task_table.update()
                    .where(task_table.c.id == ready)
                    .values(
                        status="running",
                        attempts=task_table.c.attempts + 1,
                        leased_until=now + timedelta(seconds=LEASE_SECONDS),
                    )
                    .returning(task_table)
                )
            ).first()
        if claimed is None:
            return None
        payload = dict(claimed.payload)
        if claimed.traceparent:
            payload["_traceparent"] = claimed.traceparent
        last = claimed.attempts >= self._kinds[claimed.kind].max_attempts
        return Task(claimed.id, claimed.kind, claimed.key, payload, claimed.attempts, last, claimed.created_at)

    async def _renew(self, db: Database, task: Task) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            until = sa.func.clock_timestamp() + timedelta(seconds=LEASE_SECONDS)
            try:
                async with db.statement() as tx:
                    await tx.execute(
                        task_table.update()
                        .filter_by(id=task.id, status="running", attempts=task.attempt)
                        .values(leased_until=until)
                    )
            except Exception as error:
                if not is_outage(error):
                    raise

    async def _failed(self, runtime: Runtime, task: Task, kind: _Kind, error: Exception) -> None:
        telemetry.logger().warning("task_failed", kind=task.kind, key=task.key, attempt=task.attempt, error=repr(error))
        if not task.last and not isinstance(error, Hopeless):
            delay = BACKOFF_SECONDS[min(task.attempt, len(BACKOFF_SECONDS)) - 1] * random.uniform(0.8, 1.2)
            again = datetime.now(UTC) + timedelta(seconds=delay)
            await self._finish(runtime.db, task, "queued", error=error, run_at=again)
            return
        if kind.on_dead is not None:
            await kind.on_dead(task, runtime)
        await self._finish(runtime.db, task, "dead", error=error)

    async def _finish(
        self,
        db: Database,
        task: Task,
        status: str,
        *,
        result: dict[str, Any] | None = None,
        error: Exception | None = None,
        run_at: datetime | None = None,
    ) -> None:
        values: dict[str, Any] = {
            "status": status,
            "leased_until": None,
            "result": result,
            "error": storable(f"{type(error).__name__}: {error}", 2_000) if error is not None else None,
        }
        if run_at is not None:
            values["run_at"] = run_at
        else:
            values["finished_at"] = sa.func.clock_timestamp()
        async with db.statement() as tx:
            # Only the holder of the lease may finish: a worker that was frozen past it has been replaced.
            await tx.execute(
                task_table.update().filter_by(id=task.id, status="running", attempts=task.attempt).values(**values)
            )
        telemetry.TASKS_DONE.labels(db.name, task.kind, status).inc()


async def add(tx: Tx, *, kind: str, key: str, payload: dict[str, Any], run_at: datetime | None = None) -> None:
    """Owe `kind` once for `key`; owing it again changes nothing."""
    if replaying.get():
        return
    owed = insert(task_table).values(
        id=uuid_utils.uuid7(),
        kind=kind,
        key=key,
        payload=payload,
        run_at=run_at if run_at is not None else sa.func.clock_timestamp(),
        traceparent=telemetry.traceparent(),
    )
    await tx.execute(owed.on_conflict_do_nothing(index_elements=["kind", "key"]))


async def forget_done(tx: Tx) -> int:
    """Drop tasks done more than KEPT_DAYS ago, some at a time; returns how many. Dead ones are kept."""
    age = sa.func.now() - sa.text(f"interval '{KEPT_DAYS} days'")
    old = sa.select(task_table.c.id).where(task_table.c.status == "done", task_table.c.finished_at < age)
    gone = await tx.execute(task_table.delete().where(task_table.c.id.in_(old.limit(5_000).scalar_subquery())))
    return gone.rowcount


async def retry(tx: Tx, task_id: UUID) -> bool:
    """Queue a dead task again from its first attempt; False when there is no dead task of that id."""
    again = await tx.execute(
        task_table.update()
        .filter_by(id=task_id, status="dead")
        .values(status="queued", attempts=0, run_at=sa.func.clock_timestamp(), error=None, finished_at=None)
    )
    return again.rowcount == 1
