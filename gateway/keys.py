"""API keys: `cln_<id>_<secret><checksum>`.

    cln_  7GmQ2rX0bZkA _ k3...32 letters and digits...Yt  0pQ8zL
    |     |              |                                 `- CRC-32 of everything before it, 6 base62 digits
    |     |              `- 190 random bits; the only secret part
    |     `- 71 random bits; public, it names the key in lists, logs and revocations
    `- fixed, so that secret scanners recognise a leaked key

The checksum refuses typos and scanner noise before any look-up; it proves nothing. At rest there is only
HMAC-SHA256(pepper, whole key): at 190 bits of entropy a slow password hash would add cost to every request and nothing
to safety, and with the pepper outside the database a stolen table cannot even be checked against a guess.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
from binascii import crc32
from dataclasses import dataclass

PREFIX = "cln_"
ID_LENGTH = 12
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
KEY_LENGTH = len(PREFIX) + ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHAPE = re.compile(rf"cln_([0-9A-Za-z]{{{ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment it exists in clear text."""

    id: str
    plaintext: str


def generate() -> NewKey:
    """A fresh key from the operating system's random source."""
    key_id = _random(ID_LENGTH)
    body = f"{PREFIX}{key_id}_{_random(SECRET_LENGTH)}"
    return NewKey(key_id, body + _checksum(body))


def key_id(text: str) -> str | None:
    """The id inside `text`, or None when it cannot be one of our keys: wrong shape or a checksum that does not fit."""
    shape = _SHAPE.fullmatch(text)
    if shape is None or _checksum(text[:-CHECKSUM_LENGTH]) != text[-CHECKSUM_LENGTH:]:
        return None
    return shape[1]


def digest(pepper: bytes, plaintext: str) -> bytes:
    """What is stored of a key: HMAC-SHA256 under the pepper, 32 bytes."""
    return hmac.digest(pepper, plaintext.encode(), "sha256")


def matches(peppers: tuple[bytes, ...], plaintext: str, stored: bytes) -> bool:
    """Whether `stored` is the digest of this key under any pepper in use (two while one is being replaced)."""
    for pepper in peppers:  # noqa: SIM110 - on every request, and a generator costs more than the digest
        if hmac.compare_digest(digest(pepper, plaintext), stored):
            return True
    return False


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    value = crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, 62)
        digits = _ALPHABET[digit] + digits
    return digits
