"""Webhooks: signed deliveries of what happens, in the manner of Standard Webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from starlette.responses import Response

from services.incidents.api.views import ChangeWebhook, CreateWebhook, DeliveryView, TestOwed, WebhookView
from services.incidents.application import webhooks as application
from services.incidents.application.webhooks import WebhookChange
from services.incidents.domain.webhooks import Subscription, secret_text
from services.incidents.outbound import Outbound
from services.incidents.sealing import Seal, new_secret
from services.incidents.store import webhooks as store
from services.incidents.store.webhooks import Webhook
from shared.auth import requires
from shared.database import Tx
from shared.http import IfMatch, reply
from shared.models import PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import UnitOfWork, Work

router = make_router("/v1/webhooks", "webhooks")


def _outbound(work: UnitOfWork) -> Outbound:
    outbound: Outbound = work.runtime.resources["outbound"]
    return outbound


def _seal(work: UnitOfWork) -> Seal:
    seal: Seal = work.runtime.resources["seal"]
    return seal


@router.post("", status_code=201, response_model=WebhookView)
@requires("incidents:write")
async def create_webhook(work: Work, body: CreateWebhook) -> Response:
    """Subscribe. The answer holds the signing secret; it is not shown again.

    A delivery is a POST with `webhook-id`, `webhook-timestamp` and `webhook-signature` (`v1,` and the base64
    HMAC-SHA256 of `id.timestamp.body` under the decoded secret), retried for about four hours, in no promised order.
    """
    await _outbound(work).check(body.url)
    secret, webhook_id = new_secret(), uuid4()
    subscription = Subscription(
        id=webhook_id,
        url=body.url,
        description=body.description,
        event_types=tuple(dict.fromkeys(body.event_types)),
        teams=application.teams_of(work.caller, body.teams),
        enabled=True,
        created_by=work.caller.subject,
        created_at=datetime.now(UTC),
    )
    return await work.run(
        lambda tx: application.create(tx, work.caller, subscription, _seal(work).seal(webhook_id, secret)),
        lambda webhook: reply(
            WebhookView.of(webhook, secret_text(secret)),
            status=201,
            etag=webhook.version,
            location=f"/v1/webhooks/{webhook_id}",
        ),
    )


@router.get("", response_model=PageOf[WebhookView])
@requires("incidents:read")
async def list_webhooks(work: Work, page: Page) -> Response:
    """Webhooks, the newest first."""
    rows = await work.read(lambda tx: store.page(tx, work.caller, page.after, page.limit))
    shown = [WebhookView.of(webhook) for webhook in rows]
    items, cursor = page.cut(shown, "created_at", "webhook_id")
    return reply(PageOf[WebhookView](items=items, next_cursor=cursor))


@router.get("/{webhook_id}", response_model=WebhookView)
@requires("incidents:read")
async def get_webhook(work: Work, webhook_id: UUID) -> Response:
    """A webhook, without its secret."""
    webhook = await work.read(lambda tx: store.get(tx, webhook_id, work.caller))
    return reply(WebhookView.of(webhook), etag=webhook.version)


@router.patch("/{webhook_id}", response_model=WebhookView)
@requires("incidents:write")
async def change_webhook(work: Work, webhook_id: UUID, body: ChangeWebhook, version: IfMatch) -> Response:
    """Change a webhook, or give it a new secret."""
    sent = body.model_fields_set - {"rotate_secret"}
    if "url" in sent:
        await _outbound(work).check(body.url)
    secret = new_secret() if body.rotate_secret else None
    asked: dict[str, Any] = {name: getattr(body, name) for name in sent}
    if "event_types" in asked:
        asked["event_types"] = tuple(dict.fromkeys(asked["event_types"]))
    wanted = WebhookChange(**asked, sealed_secret=_seal(work).seal(webhook_id, secret) if secret is not None else None)
    return await work.run(
        lambda tx: application.change(tx, work.caller, webhook_id, wanted, version, datetime.now(UTC)),
        lambda webhook: reply(
            WebhookView.of(webhook, secret_text(secret) if secret is not None else None), etag=webhook.version
        ),
    )


@router.delete("/{webhook_id}", status_code=204)
@requires("incidents:write")
async def remove_webhook(work: Work, webhook_id: UUID) -> Response:
    """Unsubscribe; what is still owed is not delivered."""
    return await work.run(lambda tx: application.remove(tx, work.caller, webhook_id), lambda _: reply(None, status=204))


@router.post("/{webhook_id}/test", status_code=202, response_model=TestOwed)
@requires("incidents:write")
async def test_webhook(work: Work, webhook_id: UUID) -> Response:
    """Send a delivery of type `webhook.test`."""
    return await work.run(
        lambda tx: application.send_test(tx, work.caller, webhook_id, datetime.now(UTC)),
        lambda delivery_id: reply(TestOwed(delivery_id=delivery_id), status=202),
    )


@router.get("/{webhook_id}/deliveries", response_model=PageOf[DeliveryView])
@requires("incidents:read")
async def list_deliveries(work: Work, page: Page, webhook_id: UUID) -> Response:
    """Deliveries of the last thirty days, the newest first."""

    async def query(tx: Tx) -> tuple[Webhook, list[Any]]:
        webhook = await store.get(tx, webhook_id, work.caller)
        return webhook, await store.deliveries(tx, webhook_id, page.after, page.limit)

    _, rows = await work.read(query)
    items, cursor = page.cut(rows, "created_at", "id")
    return reply(PageOf[DeliveryView](items=[DeliveryView.of(row) for row in items], next_cursor=cursor))
