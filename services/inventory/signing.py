"""Detached signatures over bills of materials: JWS (RFC 7515 appendix F) over the bytes as sent (RFC 7797), Ed25519.

Over the bytes and not over a canonical form: whoever verifies needs no more than the body and the key.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from shared.errors import Conflict


class NoSigningKey(Conflict):
    """This installation has no key to sign bills of materials with."""


@lru_cache(maxsize=2)
def _key(path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} holds no Ed25519 key")
    return key


def _demanded(path: Path | None) -> Ed25519PrivateKey:
    if path is None:
        raise NoSigningKey("set INVENTORY_BOM_SIGNING_KEY_FILE")
    return _key(path)


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    """The public key as a JWK with its thumbprint (RFC 7638, RFC 8037) as kid."""
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    named = {"crv": "Ed25519", "kty": "OKP", "x": _text(raw)}
    return {**named, "kid": _text(hashlib.sha256(orjson.dumps(named, option=orjson.OPT_SORT_KEYS)).digest())}


def keys(path: Path | None) -> dict[str, Any]:
    """The JWK set with which signatures are verified."""
    return {"keys": [] if path is None else [{**_public(_key(path)), "alg": "EdDSA", "use": "sig"}]}


def sign(content: bytes, path: Path | None) -> str:
    """The signature of those bytes: `header..signature`. Raises NoSigningKey."""
    key = _demanded(path)
    # No typ: what is signed is no JWT, and must pass for none.
    header = {"kid": _public(key)["kid"], "b64": False, "crit": ["b64"], "typ": ""}
    return jwt.api_jws.encode(content, key, algorithm="EdDSA", headers=header, is_payload_detached=True)
