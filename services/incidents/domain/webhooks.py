"""Signed webhooks, as the Standard Webhooks specification has them (https://www.standardwebhooks.com).

The signature covers message id, time and body, so that a captured delivery can be neither altered nor, by a receiver
that checks the time, replayed. Retries carry the same id: receivers drop what they have seen.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.errors import Conflict, Invalid, NotFound

SECRET_PREFIX = "whsec_"  # noqa: S105  (a public prefix, not a secret)
SECRET_BYTES = 32

EVENT_TYPES: tuple[str, ...] = (
    "incident.opened",
    "incident.updated",
    "incident.contained",
    "incident.resolved",
    "incident.closed",
    "incident.reopened",
    "step.completed",
    "step.overdue",
    "notification.requested",
    "webhook.test",
)


class UnknownWebhook(NotFound):
    """There is no such webhook."""


class WebhookUrlRefused(Invalid):
    """Deliveries may not go to that address."""


class WebhookDisabled(Conflict):
    """The webhook is disabled."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is told what. `teams` None means incidents of the whole organisation; no event types means all."""

    id: UUID
    url: str
    description: str
    event_types: tuple[str, ...]
    teams: tuple[str, ...] | None
    enabled: bool
    created_by: str
    created_at: datetime

    def wants(self, event_type: str, owner_teams: Iterable[str]) -> bool:
        if not self.enabled or (self.event_types and event_type not in self.event_types):
            return False
        return self.teams is None or not set(self.teams).isdisjoint(owner_teams)


def event_type_of(contract_type: str) -> str:
    """`ev.incidents.incident.opened.v1` -> `incident.opened`, the name that subscribers know."""
    return ".".join(contract_type.split(".")[2:-1])


def secret_text(secret: bytes) -> str:
    """A secret as subscribers are shown it, once."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` value: `v1,` and the base64 HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def headers(secret: bytes, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """What a delivery carries beside its body; `timestamp` is the Unix time of this attempt, in seconds."""
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, message_id, timestamp, body),
    }
