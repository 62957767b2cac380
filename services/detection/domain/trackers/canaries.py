"""Canaries: strings planted in hidden context that have no business anywhere else.

Registered per asset and kept as keyed hashes only: of the letters and digits of the canary, in lower case, as it is,
backwards, turned by 13 places, and in base64 and hex by itself; the readings of a text undo encodings of more. Text is
compared run by run of letters and digits, consecutive runs joined, so that separators do not matter. Beginnings are
hashed too: what a session has said of a canary so far is kept, and a run that continues it is recognised whatever was
said in between, letter by letter if need be.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import re
from collections.abc import Iterable

MIN_LETTERS = 10
MAX_LETTERS = 128
MAX_CANARIES = 20
_RUN = re.compile(r"[A-Za-z0-9]+")
_CARRIED = 8
_LOOKED_AT = 3_000
_HASHED = 20_000
"""Candidates in one text: prose of 64 KB has half as many."""

Mark = tuple[int, int]
"""Length and keyed 64-bit hash of one form of a canary; the length of a beginning of one is negative."""


def _letters(text: str) -> str:
    return "".join(_RUN.findall(text)).lower()


def _hash(letters: str, key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(letters.encode(), digest_size=8, key=key[:64]).digest(), "big", signed=True)


def marks_of(canary: str, key: bytes) -> list[Mark]:
    """What is kept of a canary.

    Raises:
        ValueError: it has fewer letters and digits than nobody would write by chance, or too many.
    """
    letters = _letters(canary)
    if not MIN_LETTERS <= len(letters) <= MAX_LETTERS:
        raise ValueError(f"a canary has {MIN_LETTERS} to {MAX_LETTERS} letters and digits; this one has {len(letters)}")
    encoded = (base64.b64encode(canary.encode()).decode(), canary.encode().hex())
    forms = dict.fromkeys((letters, letters[::-1], codecs.encode(letters, "rot13"), *map(_letters, encoded)))
    beginnings = [(-length, _hash(letters[:length], key)) for length in range(1, len(letters))]
    return [(len(form), _hash(form, key)) for form in forms] + beginnings


class CanaryIndex:
    """The canaries registered for one asset, ready to be looked for."""

    def __init__(self, marks: Iterable[Mark], key: bytes) -> None:
        self._key = key
        self._marks = frozenset((length, value) for length, value in marks)
        self._lengths = frozenset(length for length, _ in self._marks if length > 0)
        self._longest = max(self._lengths, default=0)

    def __bool__(self) -> bool:
        return bool(self._marks)

    def find(self, text: str) -> tuple[int, int] | None:
        """Where a canary stands in a text, in characters."""
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        runs: list[str] = []
        length = 0
        for match in _RUN.finditer(text):
            starts[length] = match.start()
            runs.append(match.group())
            length += match.end() - match.start()
            ends[length] = match.end()
        letters = "".join(runs).lower()
        hashed: set[str] = set()
        for start, there in starts.items():
            for size in self._lengths:
                # Only what begins and ends with a run is hashed, and once: 64 KB of short runs are 160,000 otherwise.
                if start + size not in ends or (piece := letters[start : start + size]) in hashed:
                    continue
                if (size, _hash(piece, self._key)) in self._marks:
                    return there, ends[start + size]
                hashed.add(piece)
                if len(hashed) >= _HASHED:
                    return None
        return None

    def find_in_pieces(self, said: list[str], text: str) -> tuple[bool, list[str]]:
        """Whether this text completes a canary of which `said` was said before; and what is said of any by now."""
        known = dict.fromkeys(said)
        for match in _RUN.finditer(text[:_LOOKED_AT]):
            run = match.group().lower()
            for begun in ("", *known):
                if len(begun) + len(run) > self._longest:
                    continue
                joined = begun + run
                value = _hash(joined, self._key)
                if begun and (len(joined), value) in self._marks:
                    return True, list(known)
                if (-len(joined), value) in self._marks:
                    known[joined] = None
        # The longest are the most that anybody said.
        return False, sorted(known, key=len)[-_CARRIED:]
