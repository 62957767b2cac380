"""An issuer's public keys: fetched when needed, kept while it is away, never fetched because somebody invents key ids.

Fresh for ten minutes, then fetched again; if that fails, what is there goes on counting for a day. A key id that is not
there triggers one fetch (a rotation), at most every half minute, and is then remembered as unknown, up to a bound.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import orjson

from shared import telemetry
from shared.errors import Unavailable

FRESH_SECONDS = 600.0
STALE_SECONDS = 86_400.0
COOLDOWN_SECONDS = 30.0
_FIRST_COOLDOWN_SECONDS = 2.0  # while nothing could be read yet
_MAX_UNKNOWN = 128
_MAX_DOCUMENT_BYTES = 256 * 1024
_MAX_KEYS = 100
_FETCH_SECONDS = 5.0
_MIN_RSA_BITS = 2048
_EC_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

Document = Mapping[str, Any]
Fetch = Callable[[], Awaitable[Document]]


class KeySet:
    """The keys of one issuer.

    Args:
        fetch: reads the set; None when `document` is all there ever is.
    """

    def __init__(
        self, fetch: Fetch | None, document: Document | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys = _usable(document) if document is not None else []
        self._read_at: float | None = clock() if document is not None else None
        self._tried_at: float | None = None
        self._searched_at: float | None = None
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._fetching: asyncio.Task[bool] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that id that fits the algorithm; without an id, the only one that fits.

        Raises:
            Unavailable: no keys are known and the issuer does not give any.
        """
        if self._fetch is not None:
            if self._read_at is None or self._age() > STALE_SECONDS:
                await self._refresh()
            elif self._age() > FRESH_SECONDS:
                self._start_refresh()  # what is there still counts; nobody waits for a slow issuer
        if self._read_at is None or (self._fetch is not None and self._age() > STALE_SECONDS):
            raise Unavailable("the keys of the token's issuer cannot be read at the moment")
        found = self._pick(kid, algorithm)
        if found is not None or self._fetch is None or kid is None:
            return found
        now = self._clock()
        if now < self._unknown.get(kid, 0.0):
            return None
        if self._fetching is not None or self._searched_at is None or now - self._searched_at >= COOLDOWN_SECONDS:
            if self._fetching is None:
                self._searched_at = now
            await self._refresh(forced=True)
            found = self._pick(kid, algorithm)
        if found is None:
            self._unknown[kid] = now + COOLDOWN_SECONDS
            while len(self._unknown) > _MAX_UNKNOWN:
                self._unknown.popitem(last=False)
        return found

    def _age(self) -> float:
        return self._clock() - (self._read_at or 0.0)

    def _pick(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if _fits(key, algorithm) and (kid is None or key.get("kid") == kid)]
        if len(fitting) != 1:
            return None
        return jwt.PyJWK(fitting[0], algorithm=algorithm)

    async def _refresh(self, *, forced: bool = False) -> None:
        self._start_refresh(forced=forced)
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _start_refresh(self, *, forced: bool = False) -> None:
        if self._fetching is not None:
            return
        now = self._clock()
        cooldown = _FIRST_COOLDOWN_SECONDS if self._read_at is None else COOLDOWN_SECONDS
        if not forced and self._tried_at is not None and now - self._tried_at < cooldown:
            return
        self._tried_at = now
        self._fetching = asyncio.create_task(self._read())
        self._fetching.add_done_callback(self._fetched)

    def _fetched(self, _task: asyncio.Task[bool]) -> None:
        self._fetching = None

    async def _read(self) -> bool:
        assert self._fetch is not None
        try:
            keys = _usable(await self._fetch())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            telemetry.logger().warning("issuer_keys_unreadable", error=repr(error))
            return False
        if keys:  # an empty set is a broken issuer, not a revocation of everything
            self._keys = keys
            self._read_at = self._clock()
            for key in keys:
                self._unknown.pop(str(key.get("kid")), None)
        return bool(keys)


def _usable(document: Document) -> list[dict[str, Any]]:
    """The public signature keys of a set that can be parsed; anything else in it is dropped."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ValueError("the key set has no list of keys, or too many")
    usable = []
    for key in listed:
        if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or "d" in key:
            continue
        if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
            continue
        usable.append(key)
    return usable


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    if key.get("alg", algorithm) != algorithm:
        return False
    kind = key["kty"]
    if algorithm == "EdDSA":
        return kind == "OKP" and key.get("crv") == "Ed25519"
    if algorithm in _EC_CURVES:
        return kind == "EC" and key.get("crv") == _EC_CURVES[algorithm]
    return kind == "RSA" and len(str(key.get("n", ""))) * 6 >= _MIN_RSA_BITS


def fetch_from(session: aiohttp.ClientSession, issuer: str, jwks_uri: str | None) -> Fetch:
    """Read the set from `jwks_uri`, or from where the issuer's discovery document says (OpenID Connect Discovery
    1.0)."""

    async def fetch() -> Document:
        uri = jwks_uri
        if uri is None:
            discovered = await _get(session, issuer.rstrip("/") + "/.well-known/openid-configuration")
            if discovered.get("issuer") != issuer:
                raise ValueError("the discovery document is of another issuer")
            uri = str(discovered.get("jwks_uri"))
        return await _get(session, uri)

    return fetch


async def _get(session: aiohttp.ClientSession, url: str) -> Document:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ValueError("an issuer's keys are read over https only")
    async with session.get(url, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=_FETCH_SECONDS)) as response:
        if response.status != 200:
            raise ValueError(f"the issuer answered {response.status}")
        body = await response.content.read(_MAX_DOCUMENT_BYTES + 1)
        while len(body) <= _MAX_DOCUMENT_BYTES and (part := await response.content.read(_MAX_DOCUMENT_BYTES)):
            body += part
        if len(body) > _MAX_DOCUMENT_BYTES:
            raise ValueError("the issuer's document is too large")
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the issuer's document is not an object")
    return document
