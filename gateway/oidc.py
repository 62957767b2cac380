"""OIDC and JWT bearer tokens: whom an issuer that is trusted by configuration says the caller is.

The algorithm is ours to choose, not the token's: an asymmetric allow-list for each issuer, and a key of that issuer's
set whose type, curve, use and algorithm fit. `jku`, `x5u`, `jwk` and `x5c` in a header are not read, `crit` is
refused, symmetric and private keys in a key set are dropped. RFC 8725, RFC 9068, RFC 9700.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import jwt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.jwks import KeySet
from gateway.limits import Policy
from gateway.principals import Principal
from shared import auth
from shared.tokens import Caller

MAX_TOKEN_BYTES = 8192
LEEWAY_SECONDS = 30
_MAX_VERIFIED = 4096
_RECHECK_SECONDS = 300.0  # a verified token is not verified again for this long; revocations do not wait for it

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class IssuerSettings(BaseModel):
    """One issuer that is trusted, and what its claims mean here.

    Attributes:
        name: short and stable; callers are `user:<name>:<sub>`.
        issuer: the exact `iss`.
        audience: ours, which `aud` has to contain.
        jwks_uri: where the keys are; without it (and without `jwks`) discovery tells.
        jwks: the keys themselves, for issuers without an endpoint.
        types: accepted `typ` headers, lower case; RFC 9068 wants at+jwt, many issuers send JWT.
        roles_claim: dotted path to a string or list.
        roles: their value -> our role; None takes equal names. What maps to nothing is dropped.
        teams_claim: dotted path; without it `teams` counts for everybody (None: the whole organisation).
        team_map: their value -> our team; None takes equal names.
        organization_values: values of the claim that stand for the whole organisation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    issuer: Annotated[str, Field(min_length=1, max_length=500)]
    audience: Annotated[str, Field(min_length=1, max_length=500)]
    jwks_uri: str | None = None
    jwks: dict[str, Any] | None = None
    algorithms: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    types: tuple[str, ...] = ("at+jwt",)
    roles_claim: str = "roles"
    roles: dict[str, str] | None = None
    teams_claim: str | None = None
    team_map: dict[str, str] | None = None
    teams: tuple[str, ...] | None = ()
    organization_values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sources(self) -> IssuerSettings:
        if self.jwks_uri is not None and self.jwks is not None:
            raise ValueError(f"{self.name}: give jwks_uri or jwks, not both")
        unknown = set((self.roles or {}).values()) - set(auth.ROLES)
        if unknown:
            raise ValueError(f"{self.name}: {', '.join(sorted(unknown))} are not roles")
        if "service" in (self.roles or {}).values():
            raise ValueError(f"{self.name}: the role `service` is for services")
        return self


class TokenRefused(Exception):
    """The token is not believed; the text says why and may be shown."""


class TokenVerifier:
    """Checks bearer tokens of all configured issuers."""

    def __init__(self, issuers: Sequence[IssuerSettings], key_sets: Mapping[str, KeySet], policy: Policy) -> None:
        self._issuers = {settings.issuer: settings for settings in issuers}
        self._key_sets = key_sets
        self._policy = policy
        # By digest: the cache must not be a store of usable tokens.
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def principal_of(self, token: str) -> Principal:
        """Whom this token speaks for.

        Raises:
            TokenRefused
            Unavailable: the issuer's keys were never read and cannot be now.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused("the token is too long")
        place = hashlib.sha256(token.encode()).digest()
        now = time.time()
        known = self._verified.get(place)
        if known is not None:
            if now < known[0]:
                return known[1]
            del self._verified[place]
        principal = await self._verify(token)
        self._verified[place] = (min(now + _RECHECK_SECONDS, principal.ends_at), principal)
        while len(self._verified) > _MAX_VERIFIED:
            self._verified.popitem(last=False)
        return principal

    async def _verify(self, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            named = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefused("this is not a token") from error
        settings = self._issuers.get(named) if isinstance(named, str) else None
        if settings is None:
            raise TokenRefused("the token's issuer is not trusted")
        algorithm = header.get("alg")
        if algorithm not in settings.algorithms:
            raise TokenRefused("the token's algorithm is not allowed for its issuer")
        if "crit" in header:
            raise TokenRefused("the token demands extensions that are not understood")
        kind = str(header.get("typ") or "").lower().removeprefix("application/")
        if kind not in settings.types:
            raise TokenRefused("the token is of the wrong type")
        kid = header.get("kid")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= 256):
            raise TokenRefused("the token names its key in an unusable way")
        key = await self._key_sets[settings.issuer].find(kid, algorithm)
        if key is None:
            raise TokenRefused("the token was signed with a key that its issuer does not publish")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise TokenRefused(f"the token is not valid: {error}") from error
        return self._principal(settings, claims)

    def _principal(self, settings: IssuerSettings, claims: Mapping[str, Any]) -> Principal:
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
            raise TokenRefused("the token's subject is unusable")
        ends_at = float(claims["exp"])
        if not math.isfinite(ends_at):
            raise TokenRefused("the token's expiry is unusable")
        roles = {_mapped(settings.roles, value) for value in _values(claims, settings.roles_claim)}
        roles &= set(auth.ROLES) - {"service"}
        session_id = claims.get("sid")
        caller = Caller(
            subject=f"user:{settings.name}:{subject}",
            kind="user",
            roles=frozenset(role for role in roles if role is not None),
            scopes=auth.scopes_of_roles(role for role in roles if role is not None),
            teams=_teams(settings, claims),
            session_id=session_id if isinstance(session_id, str) and 0 < len(session_id) <= 255 else None,
        )
        return Principal(caller, caller.subject, self._policy, ends_at + LEEWAY_SECONDS)


def _teams(settings: IssuerSettings, claims: Mapping[str, Any]) -> frozenset[str] | None:
    if settings.teams_claim is None:
        return None if settings.teams is None else frozenset(settings.teams)
    values = _values(claims, settings.teams_claim)
    if any(value in settings.organization_values for value in values):
        return None
    teams = {_mapped(settings.team_map, value) for value in values}
    return frozenset(team for team in teams if team is not None)


def _mapped(mapping: Mapping[str, str] | None, value: str) -> str | None:
    return value if mapping is None else mapping.get(value)


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """The strings at a claim; the whole path is tried as one name first, for claims like `https://example/roles`."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, str):
        return found.split()
    if isinstance(found, list):
        return [value for value in found if isinstance(value, str)]
    return []
