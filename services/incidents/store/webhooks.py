"""Webhook subscriptions and their deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.incidents.domain.webhooks import Subscription, UnknownWebhook
from services.incidents.store.tables import delivery_table, webhook_table
from shared.auth import Caller
from shared.database import Tx, driver

DELIVERIES_KEPT_DAYS = 30


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription with its version and its secret as it is stored."""

    subscription: Subscription
    version: int
    sealed_secret: bytes
    updated_at: datetime


def _subscription(row: Mapping[str, Any]) -> Subscription:
    return Subscription(
        id=row["id"],
        url=row["url"],
        description=row["description"],
        event_types=tuple(row["event_types"]),
        teams=None if row["teams"] is None else tuple(row["teams"]),
        enabled=row["enabled"],
        created_by=row["created_by"],
        created_at=row["created_at"],
    )


def _webhook(row: Any) -> Webhook:
    return Webhook(_subscription(row._mapping), row.version, bytes(row.sealed_secret), row.updated_at)


def _own(caller: Caller) -> sa.ColumnElement[bool]:
    """A caller bound to teams sees subscriptions that are bound to no other teams than theirs."""
    if caller.teams is None:
        return sa.true()
    return webhook_table.c.teams.contained_by(sorted(caller.teams))  # type: ignore[no-any-return]  # of ARRAY columns


async def enabled(tx: Tx) -> list[Subscription]:
    connection = await driver(tx)
    return [_subscription(row) for row in await connection.fetch("SELECT * FROM webhook WHERE enabled")]


async def get(tx: Tx, webhook_id: UUID, caller: Caller | None = None, *, lock: bool = False) -> Webhook:
    """Raises: UnknownWebhook."""
    query = sa.select(webhook_table).where(webhook_table.c.id == webhook_id)
    if caller is not None:
        query = query.where(_own(caller))
    row = (await tx.execute(query.with_for_update() if lock else query)).first()
    if row is None:
        raise UnknownWebhook(f"there is no webhook {webhook_id}")
    return _webhook(row)


async def page(tx: Tx, caller: Caller, after: tuple[Any, ...] | None, limit: int) -> list[Webhook]:
    """Newest first, one more than `limit`."""
    query = sa.select(webhook_table).where(_own(caller))
    if after is not None:
        query = query.where(
            sa.tuple_(webhook_table.c.created_at, webhook_table.c.id)
            < sa.tuple_(sa.literal(datetime.fromisoformat(after[0])), sa.literal(UUID(after[1])))
        )
    query = query.order_by(webhook_table.c.created_at.desc(), webhook_table.c.id.desc()).limit(limit + 1)
    return [_webhook(row) for row in await tx.execute(query)]


async def add(tx: Tx, webhook: Webhook) -> None:
    await tx.execute(webhook_table.insert().values(**_values(webhook)))


async def put(tx: Tx, webhook: Webhook) -> None:
    await tx.execute(
        webhook_table.update().where(webhook_table.c.id == webhook.subscription.id).values(**_values(webhook))
    )


def _values(webhook: Webhook) -> dict[str, Any]:
    subscription = webhook.subscription
    return {
        "id": subscription.id,
        "version": webhook.version,
        "url": subscription.url,
        "description": subscription.description,
        "event_types": list(subscription.event_types),
        "teams": None if subscription.teams is None else list(subscription.teams),
        "enabled": subscription.enabled,
        "sealed_secret": webhook.sealed_secret,
        "created_by": subscription.created_by,
        "created_at": subscription.created_at,
        "updated_at": webhook.updated_at,
    }


async def remove(tx: Tx, webhook_id: UUID) -> None:
    await tx.execute(webhook_table.delete().where(webhook_table.c.id == webhook_id))


async def disable(tx: Tx, webhook_id: UUID, at: datetime) -> None:
    await tx.execute(
        webhook_table.update()
        .where(webhook_table.c.id == webhook_id, webhook_table.c.enabled)
        .values(enabled=False, version=webhook_table.c.version + 1, updated_at=at)
    )


async def add_deliveries(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        await tx.execute(delivery_table.insert(), list(rows))


async def delivery(tx: Tx, delivery_id: UUID) -> Any:
    """The delivery's row; None when its webhook was removed in the meantime."""
    return (await tx.execute(sa.select(delivery_table).where(delivery_table.c.id == delivery_id))).first()


async def attempted(
    tx: Tx,
    delivery_id: UUID,
    *,
    status: DeliveryStatus,
    response_status: int | None,
    error: str | None,
    at: datetime | None,
) -> None:
    """Write down what came of an attempt; `at` when it was the last."""
    await tx.execute(
        delivery_table.update()
        .where(delivery_table.c.id == delivery_id)
        .values(
            status=status,
            attempts=delivery_table.c.attempts + 1,
            response_status=response_status,
            error=error,
            finished_at=at,
        )
    )


async def given_up(tx: Tx, delivery_id: UUID, at: datetime) -> None:
    pending = delivery_table.update().where(
        delivery_table.c.id == delivery_id, delivery_table.c.status == DeliveryStatus.PENDING
    )
    await tx.execute(pending.values(status=DeliveryStatus.FAILED, finished_at=at))


async def deliveries(tx: Tx, webhook_id: UUID, after: tuple[Any, ...] | None, limit: int) -> list[Any]:
    """Newest first, one more than `limit`."""
    query = sa.select(delivery_table).where(delivery_table.c.webhook_id == webhook_id)
    if after is not None:
        query = query.where(
            sa.tuple_(delivery_table.c.created_at, delivery_table.c.id)
            < sa.tuple_(sa.literal(datetime.fromisoformat(after[0])), sa.literal(UUID(after[1])))
        )
    query = query.order_by(delivery_table.c.created_at.desc(), delivery_table.c.id.desc()).limit(limit + 1)
    return list(await tx.execute(query))


async def forget_old_deliveries(tx: Tx, now: datetime) -> None:
    old = now - timedelta(days=DELIVERIES_KEPT_DAYS)
    await tx.execute(delivery_table.delete().where(delivery_table.c.finished_at < old))
