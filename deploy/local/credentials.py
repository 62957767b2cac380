"""The secrets of one home: made once, kept in files that only their owner reads, never printed."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

import nkeys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file of mode 0600 at once: a reader sees the old content or the new, never a half."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


class Credentials:
    """Named secrets in one folder. Asking for one that does not exist makes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, make: Callable[[], bytes]) -> Path:
        """The file of that name, made if missing."""
        path = self.folder / name
        if not path.exists():
            write_private(path, make())
        return path

    def text(self, name: str) -> str:
        """256 random bits in URL-safe text: a password, a pepper, a signing secret."""
        return self.file(name, lambda: secrets.token_urlsafe(32).encode()).read_text().strip()

    def nkey(self, name: str) -> Path:
        """The seed file of a NATS user."""
        return self.file(f"{name}.nk", _new_nkey)

    def nkey_public(self, name: str) -> str:
        """The public key that the NATS configuration lists for that user."""
        public: bytes = nkeys.from_seed(self.nkey(name).read_bytes().strip()).public_key
        return public.decode()

    def signing_key(self, name: str) -> Path:
        """The Ed25519 private key (PKCS #8 PEM) with which that service or the gateway signs internal tokens."""
        return self.file(f"{name}.signing.pem", _new_signing_key)

    def signing_key_public(self, name: str) -> str:
        """The public half (SubjectPublicKeyInfo PEM), for the trust file."""
        private = load_pem_private_key(self.signing_key(name).read_bytes(), password=None)
        return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _new_nkey() -> bytes:
    seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
    return seed


def _new_signing_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
