"""One request's unit of work: the one transaction, with the Idempotency-Key that makes it happen once.

    return await work.run(lambda tx: application.register(tx, asset), lambda done: reply(View.of(done), status=201))

The reply is stored in the same transaction as its effects (draft-ietf-httpapi-idempotency-key-header-06), so a client
that saw its connection break can ask again with the same key and gets what happened the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import asyncpg
import sqlalchemy as sa
import sqlalchemy.exc
from fastapi import Depends, Header, Request
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TIMESTAMP, insert
from starlette.responses import Response

from shared import telemetry
from shared.backbone import metadata
from shared.database import Tx, cause_of
from shared.errors import Conflict, Invalid
from shared.runtime import Runtime
from shared.tokens import Caller

T = TypeVar("T")

idempotency_table = sa.Table(
    "idempotency",
    metadata,
    sa.Column("caller", sa.Text, primary_key=True),
    sa.Column("route", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", BYTEA, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("headers", JSONB),
    sa.Column("body", BYTEA),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Index("idempotency_created", "created_at"),
)

KEY_LIFETIME_HOURS = 24


class KeyInProgress(Conflict):
    """A request with this Idempotency-Key is still being worked on."""


class KeyReused(Invalid):
    """This Idempotency-Key was used for a different request."""


class _Replayed(Exception):
    """Leaves the transaction: the work was done before, and this is what was answered."""

    def __init__(self, response: Response) -> None:
        self.response = response


class UnitOfWork:
    """What a handler gets to work with: the caller, the service's runtime, and the transaction."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = key
        self.caller: Caller = request.state.caller
        self.runtime: Runtime = request.app.state.runtime

    @property
    def trace_id(self) -> str | None:
        return telemetry.trace_id()

    async def read(self, query: Callable[[Tx], Awaitable[T]]) -> T:
        """Run `query` on a connection of its own. It is for reading: what it wrote would be committed at once."""
        async with self.runtime.db.read() as tx:
            return await query(tx)

    async def run(
        self,
        use_case: Callable[[Tx], Awaitable[T]],
        answer: Callable[[T], Response],
        *,
        at_once: Callable[[Tx], Awaitable[T | None]] | None = None,
    ) -> Response:
        """Do `use_case` in one transaction and answer what it gave, once for each Idempotency-Key.

        Args:
            at_once: the same for the usual case, writing with a single statement and so without a transaction around
                it; it gives None, and has done nothing, when the case is not the usual one.

        Raises:
            KeyInProgress: a request with the same key has not finished.
            KeyReused: the key came with another request before.
        """
        if at_once is not None and self._key is None:
            async with self.runtime.db.statement() as connection:
                done = await at_once(connection)
            if done is not None:
                return answer(done)
        try:
            async with self.runtime.db.begin() as tx:
                if self._key is not None:
                    await self._claim(tx, self._key)
                response = answer(await use_case(tx))
                if self._key is not None:
                    await self._remember(tx, self._key, response)
        except _Replayed as replay:
            return replay.response
        return response

    def _identity(self, key: str) -> dict[str, Any]:
        return {"caller": self.caller.subject, "route": f"{self._request.method} {self._request.url.path}", "key": key}

    async def _claim(self, tx: Tx, key: str) -> None:
        fingerprint = hashlib.sha256(self._request.scope["query_string"] + b"\0" + await self._request.body()).digest()
        claim = insert(idempotency_table).values(**self._identity(key), fingerprint=fingerprint)
        try:
            # Waits for a twin in flight: it commits (then this finds its reply), fails (then this goes on), or takes
            # longer than lock_timeout.
            claimed = await tx.scalar(claim.on_conflict_do_nothing().returning(idempotency_table.c.key))
        except sqlalchemy.exc.DBAPIError as error:
            if isinstance(cause_of(error), asyncpg.LockNotAvailableError):
                raise KeyInProgress("ask again in a moment") from error
            raise
        if claimed is not None:
            return
        stored = (await tx.execute(sa.select(idempotency_table).filter_by(**self._identity(key)))).one()
        if bytes(stored.fingerprint) != fingerprint:
            raise KeyReused("send a new key with a new request", field="Idempotency-Key")
        headers = dict(stored.headers) | {"Idempotent-Replayed": "true"}
        raise _Replayed(Response(bytes(stored.body), stored.status, headers))

    async def _remember(self, tx: Tx, key: str, response: Response) -> None:
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        await tx.execute(
            idempotency_table.update()
            .filter_by(**self._identity(key))
            .values(status=response.status_code, headers=headers, body=bytes(response.body))
        )


async def forget_old_keys(tx: Tx) -> int:
    """Drop replies older than KEY_LIFETIME_HOURS, some at a time; returns how many."""
    age = sa.func.now() - sa.text(f"interval '{KEY_LIFETIME_HOURS} hours'")
    table = idempotency_table
    identity = sa.tuple_(table.c.caller, table.c.route, table.c.key)
    old = sa.select(table.c.caller, table.c.route, table.c.key).where(table.c.created_at < age).limit(5_000)
    return (await tx.execute(table.delete().where(identity.in_(old)))).rowcount


# Dependencies are coroutines although they await nothing: FastAPI runs plain functions in a thread.
async def _unit(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            description="Makes a retry safe: the same key with the same request is done once and answered alike.",
        ),
    ] = None,
) -> UnitOfWork:
    return UnitOfWork(request, idempotency_key.strip('"') if idempotency_key else None)


Work = Annotated[UnitOfWork, Depends(_unit)]
"""A handler's parameter: its unit of work."""
