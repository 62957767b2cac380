"""What this service does beside answering: automated actions at other services, webhooks, and the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from services.incidents.application import automation
from services.incidents.application.announce import DELIVER
from services.incidents.application.automation import Attempt
from services.incidents.application.change import PERFORM
from services.incidents.domain import webhooks as domain
from services.incidents.domain.playbooks import ActionName
from services.incidents.domain.webhooks import WebhookUrlRefused
from services.incidents.outbound import Outbound
from services.incidents.sealing import Seal
from services.incidents.store import actions
from services.incidents.store import webhooks as store
from services.incidents.store.actions import Action, Sent
from services.incidents.store.webhooks import DeliveryStatus
from shared.errors import Unavailable
from shared.peers import Peers
from shared.runtime import Runtime
from shared.tasks import Hopeless, Task, Tasks

tasks = Tasks()

_ANSWER_LIMIT_BYTES = 16_384
_CALL_SECONDS = 5.0
_TOGETHER_SECONDS = 0.02
_BLOCKS_FIRST_SECONDS = 0.5
# The other side's fault, or a wrong set-up that somebody will put right: not an answer to what was asked.
_NOT_AN_ANSWER = frozenset({401, 403, 408, 425})
# A 409 that refuses nothing: the same request, sent before, is still being worked on there.
_TWIN_IN_FLIGHT = "urn:colonnade:problem:key-in-progress"


async def _abandon(task: Task, runtime: Runtime) -> None:
    async with runtime.db.begin() as tx:
        await automation.abandon(
            tx,
            [UUID(action_id) for action_id in task.payload["action_ids"]],
            "a fault of this service's own; see its dead letters",
            runtime.settings.policy,
            datetime.now(UTC),
        )


@tasks.on(PERFORM, max_attempts=5, on_dead=_abandon)
async def perform_actions(task: Task, runtime: Runtime) -> dict[str, Any]:
    """Do actions of one incident side by side; those that are done at about the same time are written down together.

    Further tries are tasks of their own, so that each of them is visible.
    """
    async with runtime.db.read() as tx:
        due, incident = await actions.due(tx, [UUID(action_id) for action_id in task.payload["action_ids"]])
    blocks = [action for action in due if action.action is not ActionName.DEPLOY_EMERGENCY_RULE]
    trying = {asyncio.create_task(_try(runtime.peers, action)): action for action in blocks}
    # A new rule keeps detection busy for some tenths of a second; the block goes first and does not wait behind it.
    first = list(trying)
    for action in due:
        if action.action is ActionName.DEPLOY_EMERGENCY_RULE:
            trying[asyncio.create_task(_try(runtime.peers, action, after=first))] = action
    reached: dict[str, Any] = {}
    try:
        while trying:
            await asyncio.wait(trying, return_when=asyncio.FIRST_COMPLETED)
            # One that hangs keeps nobody waiting: what has been done is shown at once.
            await asyncio.wait(trying, timeout=_TOGETHER_SECONDS)
            tried = [(trying.pop(done), done.result()) for done in list(trying) if done.done()]
            written = None
            if incident is not None:
                async with runtime.db.statement() as connection:
                    written = await automation.record_at_once(
                        connection, incident, tried, runtime.settings.policy, datetime.now(UTC)
                    )
                # It has changed by now, by this or by somebody else.
                incident = None
            if written is None:
                async with runtime.db.begin() as tx:
                    written = await automation.record(tx, tried, runtime.settings.policy, datetime.now(UTC))
            reached |= {str(action_id): status for action_id, status in written.items()}
    finally:
        for one in trying:
            one.cancel()
    return reached


async def _try(peers: Peers, action: Action, after: Sequence[asyncio.Task[Attempt]] = ()) -> Attempt:
    """Send what the action has not had answered yet, when the others are done or took long."""
    if after:
        await asyncio.wait(after, timeout=_BLOCKS_FIRST_SECONDS)
    tried = await asyncio.gather(
        *(_send(peers, sent, f"{action.key}-{number}") for number, sent in enumerate(action.requests))
    )
    return Attempt(
        sent=tuple(sent for sent, _, _ in tried),
        refused=next((refused for _, refused, _ in tried if refused), None),
        unavailable=next((unavailable for _, _, unavailable in tried if unavailable), None),
    )


async def _send(peers: Peers, sent: Sent, key: str) -> tuple[Sent, str | None, str | None]:
    """The request with its answer; why it was refused; why it could not be asked."""
    if sent.done:
        return sent, None, None
    request = sent.request
    try:
        answer = await peers.call(
            request.service,
            request.method,
            request.path,
            scopes=[request.scope],
            body=request.body,
            idempotency_key=key if request.method == "POST" else None,
            timeout_seconds=_CALL_SECONDS,
        )
        if answer.ok:
            return replace(sent, done=True, status=answer.status, answer=_kept(answer.body)), None, None
        if answer.status == 409 and request.path.endswith("/quarantine"):
            standing = await _standing(peers, request.path.removesuffix("/quarantine"))
            if standing is not None:
                return replace(sent, done=True, status=answer.status, answer=standing), None, None
    except Unavailable as error:
        return sent, None, error.detail
    told = f"{request.service} answered {answer.status}: {_detail(answer.body)}"
    asked = replace(sent, status=answer.status, answer=_kept(answer.body))
    twin = isinstance(answer.body, dict) and answer.body.get("type") == _TWIN_IN_FLIGHT
    if answer.status >= 500 or answer.status in _NOT_AN_ANSWER or twin:
        return asked, None, told
    return asked, told, None


async def _standing(peers: Peers, path: str) -> dict[str, Any] | None:
    """That an asset is out of use already, which is what was wanted; None when it is not."""
    answer = await peers.call("inventory", "GET", path, scopes=["inventory:read"], timeout_seconds=_CALL_SECONDS)
    if answer.ok and answer.body.get("lifecycle") in ("quarantined", "retired"):
        return {"already": answer.body["lifecycle"], "asset_id": answer.body.get("asset_id")}
    return None


def _detail(body: Any) -> str:
    if isinstance(body, dict):
        return str(body.get("detail") or body.get("title") or "")[:500]
    return ""


def _kept(body: Any) -> Any:
    """An answer as it is kept; a long one only in that it was long."""
    text = orjson.dumps(body)
    return body if len(text) <= _ANSWER_LIMIT_BYTES else {"omitted": f"{len(text)} bytes"}


async def _give_up(task: Task, runtime: Runtime) -> None:
    async with runtime.db.begin() as tx:
        await store.given_up(tx, UUID(task.payload["delivery_id"]), datetime.now(UTC))


@tasks.on(DELIVER, max_attempts=9, on_dead=_give_up)
async def deliver_webhook(task: Task, runtime: Runtime) -> dict[str, Any] | None:
    """Sign and send one delivery; anything but a 2xx is tried again, 410 ends the subscription."""
    outbound: Outbound = runtime.resources["outbound"]
    seal: Seal = runtime.resources["seal"]
    delivery_id = UUID(task.payload["delivery_id"])
    async with runtime.db.read() as tx:
        delivery = await store.delivery(tx, delivery_id)
        if delivery is None or delivery.status != DeliveryStatus.PENDING:
            return None
        webhook = await store.get(tx, delivery.webhook_id)
    subscription = webhook.subscription
    if not subscription.enabled:
        await _attempted(runtime, delivery_id, DeliveryStatus.FAILED, None, "the webhook was disabled")
        return None
    body = delivery.body.encode()
    headers = domain.headers(
        seal.open(subscription.id, webhook.sealed_secret), f"msg_{delivery_id.hex}", int(time.time()), body
    )
    try:
        reply = await outbound.post(subscription.url, body, headers)
    except WebhookUrlRefused as error:
        await _attempted(runtime, delivery_id, DeliveryStatus.FAILED, None, error.detail)
        raise Hopeless(error.detail) from error
    except (OSError, aiohttp.ClientError, asyncio.TimeoutError) as error:
        await _attempted(runtime, delivery_id, DeliveryStatus.PENDING, None, f"no answer: {error!r}")
        raise
    if 200 <= reply.status < 300:
        await _attempted(runtime, delivery_id, DeliveryStatus.DELIVERED, reply.status, None)
        return {"status": reply.status}
    if reply.status == 410:
        async with runtime.db.begin() as tx:
            await store.disable(tx, subscription.id, datetime.now(UTC))
        await _attempted(runtime, delivery_id, DeliveryStatus.FAILED, 410, "gone; the webhook is disabled")
        return {"status": 410}
    told = f"answered {reply.status}: {reply.text[:200]}"
    await _attempted(runtime, delivery_id, DeliveryStatus.PENDING, reply.status, told)
    raise Unavailable(told)


async def _attempted(
    runtime: Runtime, delivery_id: UUID, status: DeliveryStatus, response_status: int | None, error: str | None
) -> None:
    at = None if status is DeliveryStatus.PENDING else datetime.now(UTC)
    # NUL and lone surrogates of a subscriber's answer have no place in a column of text.
    told = error.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:1_000] if error else None
    async with runtime.db.begin() as tx:
        await store.attempted(tx, delivery_id, status=status, response_status=response_status, error=told, at=at)


async def flag_overdue_steps(runtime: Runtime) -> None:
    """Escalate what has passed its time, a bounded number in each transaction."""
    flagged = automation.OVERDUE_A_ROUND
    while flagged == automation.OVERDUE_A_ROUND:
        async with runtime.db.begin() as tx:
            flagged = await automation.flag_overdue(tx, runtime.settings.policy, datetime.now(UTC))


async def forget_what_is_past(runtime: Runtime) -> None:
    """Deliveries that ended long ago."""
    async with runtime.db.begin() as tx:
        await store.forget_old_deliveries(tx, datetime.now(UTC))
