"""An issuer on a socket of its own, with keys that can be rotated and a door that can be shut."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
WEAK_RSA_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is refused is the test
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
AUDIENCE = "colonnade"


def jwk(key: PrivateKey, **more: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        found = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        found = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**found, "key_ops": ["verify"], **more}


def pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def b64(data: bytes | dict[str, Any]) -> str:
    raw = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """Serves discovery and keys; counts how often it is asked."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = [
            jwk(RSA_KEY, kid="rsa-1", use="sig", alg="RS256"),
            jwk(EC_KEY, kid="ec-1", use="sig", alg="ES256"),
            jwk(ED_KEY, kid="ed-1", use="sig", alg="EdDSA"),
        ]
        self.asked = 0
        self.down = False
        self.delay_seconds = 0.0

    async def discovery(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def serve_keys(self, _: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.sleep(self.delay_seconds)
        if self.down:
            return web.Response(status=500)
        return web.json_response({"keys": self.keys})

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Good claims, with some changed; None removes one."""
        now = int(time.time())
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now,
            "exp": now + 300,
            "roles": ["analyst"],
            "groups": ["payments"],
        }
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(
        self,
        key: PrivateKey = RSA_KEY,
        *,
        kid: str | None = "rsa-1",
        alg: str = "RS256",
        typ: str | None = "at+jwt",
        headers: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        head: dict[str, Any] = {"typ": typ, **({"kid": kid} if kid else {}), **(headers or {})}
        return jwt.encode(self.claims(**claims), key, algorithm=alg, headers=head)


@asynccontextmanager
async def issuer_running() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", issuer.discovery)
    application.router.add_get("/keys", issuer.serve_keys)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()
