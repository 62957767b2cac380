"""Webhook secrets at rest: AES-256-GCM, each bound to the webhook it belongs to."""

from __future__ import annotations

import hmac
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.incidents.domain.webhooks import SECRET_BYTES

_NONCE_BYTES = 12


class Unsealable(RuntimeError):
    """The secret was sealed under another key, or for another webhook."""


class Seal:
    """Seals and opens secrets under one key."""

    def __init__(self, secret: str) -> None:
        self._key = AESGCM(hmac.digest(secret.encode(), b"webhook secrets", "sha256"))

    def seal(self, webhook_id: UUID, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._key.encrypt(nonce, secret, webhook_id.bytes)

    def open(self, webhook_id: UUID, sealed: bytes) -> bytes:
        """Raises: Unsealable."""
        try:
            return self._key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], webhook_id.bytes)
        except InvalidTag as error:
            raise Unsealable(f"the secret of webhook {webhook_id} cannot be read; rotate it") from error


def new_secret() -> bytes:
    return os.urandom(SECRET_BYTES)
