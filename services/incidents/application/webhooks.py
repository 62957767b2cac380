"""Webhook subscriptions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.incidents.application.announce import delivery_row, owe_rows
from services.incidents.domain.webhooks import Subscription, WebhookDisabled
from services.incidents.store import webhooks as store
from services.incidents.store.webhooks import Webhook
from shared import audit
from shared.auth import Caller
from shared.database import Tx
from shared.errors import Invalid
from shared.http import check_version


class ForeignTeam(Invalid):
    """You do not speak for that team."""


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """What a PATCH asks for; None leaves a field as it is."""

    url: str | None = None
    description: str | None = None
    event_types: tuple[str, ...] | None = None
    enabled: bool | None = None
    sealed_secret: bytes | None = None


def teams_of(caller: Caller, wanted: Collection[str] | None) -> tuple[str, ...] | None:
    """Whose incidents a caller's webhook is told of: those it asks for, never more than its own.

    Raises:
        ForeignTeam: it asks for a team that it does not speak for.
    """
    if wanted is None:
        return None if caller.teams is None else tuple(sorted(caller.teams))
    for number, team in enumerate(wanted):
        if not caller.sees(team):
            raise ForeignTeam(f"you do not speak for {team}", field=f"/teams/{number}")
    return tuple(sorted(set(wanted)))


async def create(tx: Tx, caller: Caller, subscription: Subscription, sealed_secret: bytes) -> Webhook:
    webhook = Webhook(subscription, 1, sealed_secret, subscription.created_at)
    await store.add(tx, webhook)
    await _audit(tx, caller, webhook, "webhook.created")
    return webhook


async def change(
    tx: Tx, caller: Caller, webhook_id: UUID, wanted: WebhookChange, expected_version: int | None, at: datetime
) -> Webhook:
    """Raises: UnknownWebhook, PreconditionFailed."""
    before = await store.get(tx, webhook_id, caller, lock=True)
    check_version(before.version, expected_version)
    was = before.subscription
    subscription = replace(
        was,
        url=was.url if wanted.url is None else wanted.url,
        description=was.description if wanted.description is None else wanted.description,
        event_types=was.event_types if wanted.event_types is None else wanted.event_types,
        enabled=was.enabled if wanted.enabled is None else wanted.enabled,
    )
    webhook = Webhook(subscription, before.version + 1, wanted.sealed_secret or before.sealed_secret, at)
    await store.put(tx, webhook)
    await _audit(tx, caller, webhook, "webhook.secret_rotated" if wanted.sealed_secret else "webhook.changed")
    return webhook


async def remove(tx: Tx, caller: Caller, webhook_id: UUID) -> None:
    """Raises: UnknownWebhook."""
    webhook = await store.get(tx, webhook_id, caller, lock=True)
    await store.remove(tx, webhook_id)
    await _audit(tx, caller, webhook, "webhook.removed")


async def send_test(tx: Tx, caller: Caller, webhook_id: UUID, at: datetime) -> UUID:
    """Owe the webhook a delivery that says nothing but that it works; gives the delivery's id.

    Raises:
        UnknownWebhook: there is none that the caller may see.
        WebhookDisabled: it gets nothing at the moment.
    """
    webhook = await store.get(tx, webhook_id, caller)
    if not webhook.subscription.enabled:
        raise WebhookDisabled("enable it first")
    row = delivery_row(webhook_id, "webhook.test", {"webhook_id": str(webhook_id)}, None, at)
    await owe_rows(tx, [row])
    await _audit(tx, caller, webhook, "webhook.tested")
    delivery_id: UUID = row["id"]
    return delivery_id


async def _audit(tx: Tx, caller: Caller, webhook: Webhook, action: str) -> None:
    detail = {"url": webhook.subscription.url, "event_types": list(webhook.subscription.event_types)}
    await audit.record(tx, caller, action=action, target=str(webhook.subscription.id), detail=detail)
