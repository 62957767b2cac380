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
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
import uuid_utils.compat as uuid_utils
from opentelemetry.trace import SpanKind
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from shared import telemetry
from shared.backbone import metadata
from shared.database import Database, Tx, driver, is_outage, storable
from shared.outbox import replaying
from shared.runtime import Runtime

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

# What all that is owed waits for goes to asyncpg at once; SQLAlchemy costs half a millisecond more each. The statuses
# are written out, so that the plan that is kept can use the index of what is ready.
_READY = """
    kind = ANY($1) AND (
        (status = 'queued' AND run_at <= clock_timestamp()) OR (status = 'running' AND leased_until < clock_timestamp())
    )
"""
_CLAIM = f"""
    UPDATE task SET status = 'running', attempts = attempts + 1, leased_until = clock_timestamp() + $2::interval
    WHERE id = (SELECT id FROM task WHERE {_READY} ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, kind, key, payload, attempts, traceparent, created_at,
        EXISTS (SELECT FROM task AS other WHERE {_READY} AND other.id <> task.id) AS more
"""  # noqa: S608  # no value is in it
_FINISH = """
    UPDATE task SET status = $3, leased_until = NULL, result = $4, error = $5, run_at = coalesce($6, run_at),
        finished_at = CASE WHEN $6::timestamptz IS NULL THEN clock_timestamp() ELSE finished_at END
    WHERE id = $1 AND status = 'running' AND attempts = $2
"""
_ADD = """
    INSERT INTO task (id, kind, key, payload, run_at, traceparent)
    VALUES ($1, $2, $3, $4, coalesce($5, clock_timestamp()), $6) ON CONFLICT (kind, key) DO NOTHING
"""

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
    workers: int


class Tasks:
    """The kinds of side effects a service has, and the workers that do them.

    Each kind has workers of its own: one whose targets are slow or dead, as webhooks may be, keeps no other waiting.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def on(
        self,
        kind: str,
        *,
        workers: int = 4,
        max_attempts: int = 8,
        limit_seconds: float = 120.0,
        on_dead: Handler | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register the handler of a kind; what it returns is kept as the task's result.

        Args:
            workers: tasks of the kind that one replica does at a time.
            max_attempts: tries before the task is dead; between them BACKOFF_SECONDS, the last one repeated.
            limit_seconds: a try that takes longer has failed; one that hangs would hold its worker for ever.
            on_dead: called once when the task is given up.
        """

        def register(handler: Handler) -> Handler:
            self._kinds[kind] = _Kind(handler, max_attempts, limit_seconds, on_dead, workers)
            return handler

        return register

    async def run_workers(self, runtime: Runtime) -> None:
        """Work for ever; cancel to stop, and what was being worked on is taken up again elsewhere or later."""
        async with asyncio.TaskGroup() as group:
            for name, kind in self._kinds.items():
                # One idle worker of a kind listens: a notification that wakes all makes all but one look in vain.
                turn = asyncio.Lock()
                for _ in range(kind.workers):
                    group.create_task(self._work(runtime, name, turn))

    async def _work(self, runtime: Runtime, kind: str, turn: asyncio.Lock) -> None:
        while True:
            try:
                worked = await self.work_once(runtime, kind)
            except Exception as error:
                if not is_outage(error):
                    telemetry.logger().error("task_worker_failed", exc_info=error)
                worked = False
                await asyncio.sleep(1.0)
            if not worked:
                async with turn:
                    await runtime.signals.wait("task", IDLE_SECONDS, kind)

    async def work_once(self, runtime: Runtime, kind: str | None = None) -> bool:
        """Do one ready task, of that kind or of any, if there is one."""
        claimed = await self._claim(runtime.db, sorted(self._kinds) if kind is None else [kind])
        if claimed is None:
            return False
        task, more = claimed
        if more:
            runtime.signals.wake("task")
        how = self._kinds[task.kind]
        if task.attempt > how.max_attempts:
            # Its last worker died over it, so no exception was there to count.
            await self._failed(runtime, task, how, Hopeless("the process that worked on it died, each time"))
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
                    async with asyncio.timeout(how.limit_seconds):
                        result = await how.handler(task, runtime)
                except Exception as error:
                    await self._failed(runtime, task, how, error)
                else:
                    await self._finish(runtime.db, task, "done", result=result)
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
        return True

    async def _claim(self, db: Database, kinds: list[str]) -> tuple[Task, bool] | None:
        """A ready task, and whether there are more."""
        async with db.statement() as tx:
            lease = timedelta(seconds=LEASE_SECONDS)
            claimed = await (await driver(tx)).fetchrow(_CLAIM, kinds, lease)
        if claimed is None:
            return None
        payload = dict(claimed["payload"])
        if claimed["traceparent"]:
            payload["_traceparent"] = claimed["traceparent"]
        kind, attempts = claimed["kind"], claimed["attempts"]
        last = attempts >= self._kinds[kind].max_attempts
        task = Task(claimed["id"], kind, claimed["key"], payload, attempts, last, claimed["created_at"])
        return task, claimed["more"]

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
        told = storable(f"{type(error).__name__}: {error}", 2_000) if error is not None else None
        kept = orjson.dumps(result).decode() if result is not None else None
        async with db.statement() as tx:
            # Only the holder of the lease may finish: a worker that was frozen past it has been replaced.
            await (await driver(tx)).execute(_FINISH, task.id, task.attempt, status, kept, told, run_at)
        telemetry.TASKS_DONE.labels(db.name, task.kind, status).inc()


async def add(tx: Tx, *, kind: str, key: str, payload: dict[str, Any], run_at: datetime | None = None) -> None:
    """Owe `kind` once for `key`; owing it again changes nothing."""
    if replaying.get():
        return
    task_id, traceparent = uuid_utils.uuid7(), telemetry.traceparent()
    await (await driver(tx)).execute(_ADD, task_id, kind, key, orjson.dumps(payload).decode(), run_at, traceparent)


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
