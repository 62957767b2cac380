"""Internal tokens: who is asking, signed for one audience and one minute.

The gateway exchanges a caller's API key or OIDC token for one; a service that calls another signs its own. Every
service verifies them itself, so that nothing is trusted for having come from inside. EdDSA over Ed25519 (RFC 8037),
`typ` at+jwt (RFC 9068).
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from shared.errors import Unauthenticated

LIFETIME_SECONDS = 60
LEEWAY_SECONDS = 5
LENGTH_LIMIT_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what for. `teams` None is the whole organisation; an empty set sees nothing that has an owner."""

    subject: str
    kind: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    teams: frozenset[str] | None = None
    session_id: str | None = None

    @property
    def organization_wide(self) -> bool:
        return self.teams is None

    def sees(self, team: str) -> bool:
        """Whether what `team` owns is this caller's to see."""
        return self.teams is None or team in self.teams


class Signer:
    """Signs tokens in the name of one issuer."""

    def __init__(self, issuer: str, private_key: Ed25519PrivateKey) -> None:
        self.issuer = issuer
        self._key = private_key

    @classmethod
    def from_file(cls, issuer: str, path: Path) -> Signer:
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path} holds no Ed25519 private key")
        return cls(issuer, key)

    def sign(self, audience: str, caller: Caller, *, scopes: Iterable[str] | None = None) -> str:
        """A token for `audience` in which `caller` asks, good for LIFETIME_SECONDS."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": caller.subject,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "jti": uuid4().hex,
            "kind": caller.kind,
            "roles": sorted(caller.roles),
            "scope": " ".join(sorted(caller.scopes if scopes is None else scopes)),
            "teams": None if caller.teams is None else sorted(caller.teams),
        }
        if caller.session_id:
            claims["sid"] = caller.session_id
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"typ": "at+jwt"})


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens are believed, up to `scopes` ("*" is any)."""

    public_key: Ed25519PublicKey
    scopes: frozenset[str]


def load_trust(path: Path) -> dict[str, Issuer]:
    """Read the trust file: issuer -> {"public_key": PEM, "scopes": [...]}."""
    issuers = {}
    for name, entry in json.loads(path.read_text()).items():
        key = load_pem_public_key(entry["public_key"].encode())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{path}: {name} has no Ed25519 public key")
        issuers[name] = Issuer(key, frozenset(entry["scopes"]))
    return issuers


class Verifier:
    """Checks tokens addressed to one audience."""

    def __init__(self, audience: str, trust: dict[str, Issuer]) -> None:
        self._audience = audience
        self._trust = trust
        # A token is good for a minute and presented many times in it; its signature need not be checked each time.
        self._verified: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def verify(self, token: str) -> Caller:
        """Who this token speaks for.

        Raises:
            Unauthenticated: it is not a valid, current token of a trusted issuer for this audience.
        """
        now = time.time()
        known = self._verified.get(token)
        if known is not None and now < known[0]:
            return known[1]
        if len(token) > LENGTH_LIMIT_BYTES:
            raise Unauthenticated("the token is too long")
        try:
            if jwt.get_unverified_header(token).get("typ") != "at+jwt":
                raise Unauthenticated("the token is of the wrong type")
            named = jwt.decode(token, options={"verify_signature": False}).get("iss")
            issuer = self._trust.get(named) if isinstance(named, str) else None
            if issuer is None:
                raise Unauthenticated("the token's issuer is not trusted")
            claims = jwt.decode(
                token,
                issuer.public_key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=named,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            # Nested JSON in a header exhausts the recursion limit before any signature is looked at.
            raise Unauthenticated(f"the token is not valid: {error}") from error
        if "teams" not in claims:
            # Null is the whole organisation; a token that merely forgot them must not become one.
            raise Unauthenticated("the token does not say which teams it is for")
        scopes = frozenset(str(claims.get("scope", "")).split())
        if "*" not in issuer.scopes:
            scopes &= issuer.scopes
        teams = claims["teams"]
        caller = Caller(
            subject=claims["sub"],
            kind=str(claims.get("kind", "service")),
            roles=frozenset(claims.get("roles", ())),
            scopes=scopes,
            teams=None if teams is None else frozenset(teams),
            session_id=claims.get("sid"),
        )
        self._verified[token] = (float(claims["exp"]), caller)
        while len(self._verified) > 4_096:
            self._verified.popitem(last=False)
        return caller
