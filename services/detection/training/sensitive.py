"""Invented texts that hold something sensitive, and texts that look so and hold nothing: what both kinds share.

Formats are written from the issuers' documentation, not from our patterns, so that a test over these texts says whether
the patterns are right. Everything comes from a seed; no value is anybody's.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
ALNUM = string.ascii_letters + DIGITS
HEX = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, what kind of value it holds, and whether it should be flagged."""

    text: str
    kind: str
    flagged: bool


def some(rnd: random.Random, alphabet: str, size: int) -> str:
    return "".join(rnd.choice(alphabet) for _ in range(size))
