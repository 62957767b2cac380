"""Who is asking, as the gateway found out, and the internal token that says so to a service."""

from __future__ import annotations

import time

from gateway.limits import Policy
from shared.tokens import LIFETIME_SECONDS, Caller, Signer

REUSE_SECONDS = LIFETIME_SECONDS // 2 - 2
"""A token is handed on again for this long, so that every service gets at least half of its minute."""

_MAX_TOKENS = 64


class Principal:
    """A caller with its credential's end and its rate limit; lives as long as its credential is cached.

    Attributes:
        limit_subject: whose window its requests count in.
        key_id: of the API key, None for other credentials.
        ends_at: when the credential ends, seconds since the epoch; infinity when it does not.
    """

    __slots__ = ("caller", "ends_at", "key_id", "limit_subject", "policy", "tokens")

    def __init__(
        self, caller: Caller, limit_subject: str, policy: Policy, ends_at: float, key_id: str | None = None
    ) -> None:
        self.caller = caller
        self.limit_subject = limit_subject
        self.policy = policy
        self.ends_at = ends_at
        self.key_id = key_id
        self.tokens: dict[tuple[str, str | None], tuple[float, bytes]] = {}


class TokenExchange:
    """Exchanges a principal for a token that one service believes for a minute."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def authorization(self, principal: Principal, audience: str, session_id: str | None) -> bytes:
        """The `Authorization` value for `audience`.

        Args:
            session_id: the session that the client named; its own token's session counts more.
        """
        now = time.monotonic()
        known = principal.tokens.get((audience, session_id))
        if known is not None and now < known[0]:
            return known[1]
        caller = principal.caller
        if session_id is not None and caller.session_id is None:
            caller = Caller(caller.subject, caller.kind, caller.roles, caller.scopes, caller.teams, session_id)
        value = f"Bearer {self._signer.sign(audience, caller)}".encode()
        if len(principal.tokens) >= _MAX_TOKENS:
            principal.tokens.clear()
        principal.tokens[(audience, session_id)] = (now + REUSE_SECONDS, value)
        return value
