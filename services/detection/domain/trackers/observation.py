"""What trackers are told of one interaction, and what they say of it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from services.detection.domain import folding
from services.detection.domain.rules import Signal
from shared.contracts.detection import Direction, FindingKind

SIGN_FROM = 0.15
"""Scores below this are no sign of an attack at all."""
_WORD = re.compile(r"\w+")
_SKETCH_WORDS = 32
_CJK = 0x2E80


@dataclass(frozen=True, slots=True)
class Heard:
    """One text that is new in its session.

    Attributes:
        text: as sent; of it trackers keep hashes and figures at most.
        masked: the same without its secrets and personal data: parts of it may be kept for a few turns.
        score: of the strongest attack finding in it, below the threshold of alerts too.
        kinds: of the attack findings of SIGN_FROM and more.
        tool: the called tool, or the one whose result this is.
        authorized: the asset's record allows that tool.
    """

    direction: Direction
    field: str
    text: str
    masked: str
    score: float = 0.0
    kinds: frozenset[FindingKind] = frozenset()
    tool: str | None = None
    authorized: bool = False


@dataclass(frozen=True, slots=True)
class Sign:
    """A signal's value now, and why; `shown` holds no content. `samples` is how much it was reckoned from."""

    signal: Signal
    value: float
    field: str
    shown: str
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Observation:
    """One interaction. `at` is in seconds since the epoch; `flagged` says that what is seen is not to be learned from.

    `failed`: the results among them are errors or refusals.
    """

    at: float
    heard: tuple[Heard, ...]
    failed: bool = False
    flagged: bool = False


def number(value: str) -> int:
    """32 bits that stand for a value. Also after a restart the same, unlike Python's own hash."""
    return zlib.crc32(value.encode("utf-8", "replace"))


def words(text: str, most: int = 200) -> list[str]:
    """The folded words of a text; pairs of characters where a script sets no spaces."""
    found: list[str] = []
    for match in _WORD.finditer(folding.fold(text)):
        word = match.group()
        if ord(word[0]) >= _CJK and len(word) > 2:
            found += [word[at : at + 2] for at in range(len(word) - 1)]
        else:
            found.append(word)
        if len(found) >= most:
            break
    return found


def sketch(text: str) -> list[int]:
    """What a request is about: hashes of the stems of its longer words, at most 32, in no order."""
    stems = {word[:6] for word in words(text) if len(word) > 3 or ord(word[0]) >= _CJK}
    return sorted({number(stem) for stem in stems})[:_SKETCH_WORDS]


def containment(part: Iterable[int], whole: Iterable[int]) -> float:
    """The share of one sketch that is in the other, the smaller being measured; 0 without anything to compare."""
    one, other = set(part), set(whole)
    least = min(len(one), len(other))
    return len(one & other) / least if least >= 2 else 0.0


def clipped(text: str, size_bytes: int) -> str:
    """The end of a text that takes at most so many bytes."""
    data = text[-size_bytes:].encode("utf-8", "replace")
    return text[-size_bytes:] if len(data) <= size_bytes else data[-size_bytes:].decode("utf-8", "ignore")
