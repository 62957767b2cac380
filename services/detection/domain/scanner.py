"""Which patterns a text may match, and where: literals that Hyperscan finds, and conditions over them that we weigh.

A condition (prefilter.py) is over sets of words. Asking Hyperscan for sets and for their combinations took it 48
microseconds for 0.6 KB and 4 milliseconds for 64 KB in overlapping stretches: it weighs combinations anew at every
word. Here it finds every word once, as a plain literal (11 and 950), and which conditions hold is a question to small
sets for a short text, and to columns of bits, one a block, for a long one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Protocol

import hyperscan
import numpy as np
import re2

from services.detection.domain import prefilter

Touched = Mapping[int, Sequence[tuple[int, int]]]
"""The stretches of a text, in bytes, that may hold a match of an expression, by its number."""
BLOCK = 2_048
"""Bytes of a block of a long text. The words of a condition must stand in two neighbours, so that what is longer than a
block may be missed: no attack's sentence is. In 64 KB of prose nearly every rule finds its words, pages apart."""
LONG = 2 * BLOCK
"""Bytes up to which a text is one stretch."""
_MOST_BLOCKS = 64
_BEYOND = 96
"""Bytes of the next block that are read with one: no word is longer."""
_SPACES = bytes(0x20 if code in b"\t\n\r\x0b\x0c" else code for code in range(256))
_LEAST_LITERAL = 3
"""Bytes of a word, spaces aside, that is looked for wherever it stands. Shorter ones are in everything, and are asked
for only where a condition has nothing else."""
_RARE = 100
"""Texts in a thousand that may meet a condition by the guess of prefilter.often, to be asked for nothing more."""
_MOST_WAYS = 64
_WIDEST = BLOCK // 4
"""Characters of the longest match of a pattern over raw text that is looked for between neighbouring blocks."""


class Kept(Protocol):
    """Where compiled databases are kept from one start to the next."""

    def load(self, key: str) -> bytes | None: ...

    def store(self, key: str, data: bytes) -> None: ...


class Database:
    """A Hyperscan database, with a scratch space for each thread that scans."""

    def __init__(self, listed: list[tuple[int, str, int]], kept: Kept | None) -> None:
        """Compile (number, expression, flags); numbers are unique."""
        self._local = threading.local()
        key = hashlib.sha256(repr((version("hyperscan"), listed)).encode()).hexdigest()
        if kept is not None and (data := kept.load(key)) is not None:
            # Of another version or for another processor: Hyperscan says so itself.
            with contextlib.suppress(hyperscan.error):
                self._database = hyperscan.loadb(data, hyperscan.HS_MODE_BLOCK)
                self._local.scratch = hyperscan.Scratch(self._database)
                return
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            ids=[number for number, _, _ in listed],
            expressions=[pattern.encode() for _, pattern, _ in listed],
            flags=[flags for _, _, flags in listed],
        )
        if kept is not None:
            kept.store(key, hyperscan.dumpb(self._database))

    def scan(self, text: bytes) -> list[int]:
        """Numbers of the expressions that match; with HS_FLAG_SINGLEMATCH each once."""
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = hyperscan.Scratch(self._database)
        found: list[int] = []
        add = found.append
        self._database.scan(
            text, match_event_handler=lambda number, _from, _to, _flags, _context: add(number), scratch=scratch
        )
        return found


def _bare(word: str) -> str:
    return word.removeprefix(prefilter.BOUNDARY)


def _long_enough(word: str) -> bool:
    return len(_bare(word).strip().encode()) >= _LEAST_LITERAL


def _lighter(condition: prefilter.Condition) -> prefilter.Condition | None:
    """The condition without its sets of short words; None when nothing remains."""
    if isinstance(condition, prefilter.Words):
        return condition if all(map(_long_enough, condition.any)) else None
    if isinstance(condition, prefilter.Any_):
        return prefilter.any_of(map(_lighter, condition.parts))
    return prefilter.all_of(part for one in condition.parts if (part := _lighter(one)) is not None)


def _light_enough(condition: prefilter.Condition) -> prefilter.Condition:
    lighter = _lighter(condition)
    return lighter if lighter is not None and prefilter.often(lighter) <= _RARE else condition


Ways = frozenset[frozenset[frozenset[str]]]
"""Ways to meet a condition: each a collection of sets of words, of every one of which a word must occur."""


def _ways(condition: prefilter.Condition) -> Ways:
    """The condition multiplied out, or a looser one where that would be too much."""
    if isinstance(condition, prefilter.Words):
        return frozenset({frozenset({frozenset(_literal(word) for word in condition.any)})})
    if isinstance(condition, prefilter.Any_):
        return frozenset[frozenset[frozenset[str]]]().union(*map(_ways, condition.parts))
    found: Ways = frozenset({frozenset()})
    for part in condition.parts:
        more = _ways(part)
        if len(found) * len(more) <= _MOST_WAYS:
            found = frozenset(one | other for one in found for other in more)
    return found


def _literal(word: str) -> str:
    """A word as it is looked for: long ones wherever they stand, short ones from a boundary on if they ask for that."""
    return _bare(word) if _long_enough(word) else word


def _expression(literal: str) -> str:
    escaped: str = re2.escape(_bare(literal))
    return (r"\b" if literal.startswith(prefilter.BOUNDARY) else "") + escaped


class Conditions:
    """Expressions by the words they need: which of them a text may match, all found in one pass of literals."""

    def __init__(self, listed: Sequence[tuple[int, prefilter.Condition]], kept: Kept | None) -> None:
        """Take (number, condition), numbers unique and conditions over text in small letters."""
        ways = [(number, way) for number, condition in listed for way in _ways(_light_enough(condition))]
        sets = {
            one: at for at, one in enumerate(dict.fromkeys(one for _, way in ways for one in sorted(way, key=sorted)))
        }
        literals = sorted(frozenset[str]().union(*sets))
        number_of = {literal: at for at, literal in enumerate(literals)}
        sets_of: list[list[int]] = [[] for _ in literals]
        for words, at in sets.items():
            for word in words:
                sets_of[number_of[word]].append(at)
        self._sets_of = [tuple(one) for one in sets_of]
        # By the rarest of its sets, so that an ordinary text asks for few of them.
        self._led: dict[int, list[tuple[frozenset[int], int]]] = {}
        for number, way in ways:
            rarest = min(way, key=lambda words: (prefilter.often(prefilter.Words(words)), sorted(words)))
            needed = frozenset(sets[one] for one in way)
            self._led.setdefault(sets[rarest], []).append((needed, number))
        # The same for many blocks at once: children side by side, and where each parent's begin.
        flat = [number_of[word] for words in sets for word in sorted(words)]
        self._words_of_sets = np.array(flat, np.int32)
        self._set_starts = np.cumsum([0, *(len(words) for words in sets)])[:-1]
        self._sets_of_ways = np.array([sets[one] for _, way in ways for one in way], np.int32)
        self._way_starts = np.cumsum([0, *(len(way) for _, way in ways)])[:-1]
        self._numbers = [number for number, _ in ways]
        self._literals = len(literals)
        single = hyperscan.HS_FLAG_SINGLEMATCH
        self._database = Database([(at, _expression(one), single) for at, one in enumerate(literals)], kept)

    def met(self, block: bytes) -> set[int]:
        """Numbers of the expressions whose conditions a short text meets."""
        present: set[int] = set()
        sets_of = self._sets_of
        for literal in self._database.scan(block):
            present.update(sets_of[literal])
        led = self._led
        return {number for one in present if one in led for needed, number in led[one] if needed <= present}

    def met_near(self, blocks: Sequence[bytes]) -> dict[int, int]:
        """For expressions whose conditions two neighbouring blocks meet: a bit for the first of each such pair."""
        occurs = np.zeros(self._literals, np.uint64)
        for at, block in enumerate(blocks):
            found = self._database.scan(block)
            if found:
                occurs[found] |= np.uint64(1 << at)
        if not occurs.any():
            return {}
        sets = np.bitwise_or.reduceat(occurs[self._words_of_sets], self._set_starts)
        if len(blocks) > 1:
            sets |= sets >> np.uint64(1)
        ways = np.bitwise_and.reduceat(sets[self._sets_of_ways], self._way_starts)
        met: dict[int, int] = {}
        for way in np.flatnonzero(ways).tolist():
            number = self._numbers[way]
            met[number] = met.get(number, 0) | int(ways[way])
        return met


def blocks_of(text: bytes) -> tuple[int, list[bytes]]:
    """A long text in blocks of so many bytes, every run of whitespace one space, each with a look beyond its end."""
    size = max(BLOCK, -(-len(text) // _MOST_BLOCKS))
    plain = b" %b " % text.translate(_SPACES)
    borders = range(1, len(text) + size, size)
    if b"  " not in plain:
        return size, [plain[start - 1 : end + _BEYOND] for start, end in itertools.pairwise(borders)]
    codes = np.frombuffer(plain, np.uint8)
    spaces = codes == 0x20
    spaces[1:] &= spaces[:-1]
    spaces[0] = False
    kept = np.flatnonzero(~spaces)
    plain = codes[kept].tobytes()
    places = np.searchsorted(kept, borders).tolist()
    return size, [plain[max(0, start - 1) : end + _BEYOND] for start, end in itertools.pairwise(places)]


def _spans(bits: int, size: int, length: int) -> Iterator[tuple[int, int]]:
    """The stretches that pairs of blocks make, by the bits of their first."""
    at = 0
    while bits:
        low = (bits & -bits).bit_length() - 1
        bits >>= low
        run = (~bits & (bits + 1)).bit_length() - 1
        at += low
        # A match may begin just before a block: a boundary, a letter that must not be there.
        yield max(0, at * size - 8), min(length, (at + run + 1) * size + _BEYOND)
        bits >>= run
        at += run


class Scanner:
    """Which expressions a text touches: by the words they need, and those that need none by themselves."""

    def __init__(
        self, expressions: list[tuple[int, str, bool]], kept: Kept | None, *, folded: bool, signs: int = 0
    ) -> None:
        """Compile (number, pattern, case sensitive) expressions.

        Args:
            expressions: numbers are unique, those below `signs` are signs of encodings.
            folded: texts will be in small letters, and no match is longer than a block. Otherwise keys and tables are
                to be found that may be longer.
        """
        self._anywhere: set[int] = set()
        single = hyperscan.HS_FLAG_SINGLEMATCH
        # Apart, three of a kind are faster than all together, and compile in two thirds of the time: signs of
        # encodings, what cares for case, and what does not.
        direct: dict[str, list[tuple[int, str, int]]] = {}
        # What only a text beyond ASCII can match, eleven languages' rules among it, is apart too: half of the words.
        near: list[tuple[int, prefilter.Condition]] = []
        far: list[tuple[int, prefilter.Condition]] = []
        for number, pattern, sensitive in expressions:
            loose = number >= signs and (not sensitive or pattern.startswith("(?i)"))
            condition = prefilter.condition_of(pattern) if loose else None
            if condition is not None and not folded:
                condition = prefilter.in_ascii(condition)
                if condition is not None and prefilter.often(prefilter.lightened(condition)) > _RARE:
                    condition = None
                if prefilter.width_of(pattern) > _WIDEST:
                    self._anywhere.add(number)
            if condition is None or not prefilter.worthwhile(condition, pattern):
                flags = single | _case_and_encoding(pattern, sensitive=sensitive)
                caseless = flags & hyperscan.HS_FLAG_CASELESS or pattern.startswith("(?i)")
                kind = "signs" if number < signs else "caseless" if caseless else "cased"
                direct.setdefault(kind, []).append((number, prefilter.relaxed(pattern), flags))
                continue
            (far if prefilter.beyond_ascii(condition) else near).append((number, prefilter.lightened(condition)))
        self._signs = Database(direct.pop("signs"), kept) if "signs" in direct else None
        self._direct = [Database(one, kept) for one in direct.values()]
        self._near = Conditions(near, kept) if near else None
        self._far = Conditions(far, kept) if far else None

    def signs(self, text: bytes) -> list[int]:
        return self._signs.scan(text) if self._signs is not None and text else []

    def touched(self, text: bytes) -> dict[int, Sequence[tuple[int, int]]]:
        """The expressions that may match, with where: all that do, and a few more."""
        if not text:
            return {}
        whole = ((0, len(text)),)
        found: dict[int, Sequence[tuple[int, int]]] = {}
        for database in self._direct:
            for number in database.scan(text):
                found[number] = whole
        asked = [one for one in (self._near, None if text.isascii() else self._far) if one is not None]
        if not asked:
            return found
        lower = text.lower()
        if len(text) <= LONG:
            spaced = prefilter.spaced(lower)
            for one in asked:
                for number in one.met(spaced):
                    found[number] = whole
            return found
        size, blocks = blocks_of(lower)
        for one in asked:
            for number, bits in one.met_near(blocks).items():
                found[number] = whole if number in self._anywhere else tuple(_spans(bits, size, len(text)))
        return found


def _case_and_encoding(pattern: str, *, sensitive: bool) -> int:
    # Without UTF-8 a gap counts bytes instead of characters; its upper bound is gone anyway, and states are far fewer.
    case = 0 if sensitive else hyperscan.HS_FLAG_CASELESS
    return int(case | (0 if pattern.isascii() else hyperscan.HS_FLAG_UTF8))
