"""Is a piece of a registered prompt in this text? Fragments as keyed word hashes, compared where words line up.

What is registered for an asset is not kept: a fragment is a sequence of keyed 64-bit hashes of its folded words. Text
is compared by cosine over counts of words and word pairs, within a window as long as the fragment, and only where
pairs of the fragment occur at all; so a long text that merely shares vocabulary stays far below the threshold. A word
changed in twelve leaves 0.87.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import sqrt

from services.detection.domain import folding

MIN_WORDS = 8
MAX_WORDS = 32
MAX_FRAGMENTS = 400
RUN_WORDS = 4
"""Words in a row that are more than shared vocabulary."""
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")

Fragment = tuple[int, ...]


@lru_cache(maxsize=100_000)
def _hash(word: str, key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8, key=key).digest(), "big", signed=True)


def fragments_of(text: str, key: bytes) -> list[Fragment]:
    """A prompt as fragments of MIN_WORDS to MAX_WORDS words, along its sentences. Shorter prompts give none."""
    words: list[int] = []
    found: list[Fragment] = []
    for sentence in _SENTENCE.split(folding.fold(text)):
        words += [_hash(word, key) for word in _WORD.findall(sentence)]
        while len(words) > MAX_WORDS:
            found.append(tuple(words[:MAX_WORDS]))
            words = words[MAX_WORDS:]
        if len(words) >= MIN_WORDS:
            found.append(tuple(words))
            words = []
    if words and found and len(words) >= MIN_WORDS // 2:
        found.append(tuple((*found[-1], *words)[-MAX_WORDS:]))
    return list(dict.fromkeys(found))[:MAX_FRAGMENTS]


@dataclass(frozen=True, slots=True)
class Likeness:
    """A window of a text that is like a fragment; positions in characters of the folded text."""

    similarity: float
    start: int
    end: int


def _features(words: Sequence[int]) -> Counter[int]:
    counts = Counter(words)
    counts.update(hash(pair) for pair in pairwise(words))
    return counts


def _cosine(one: Counter[int], other: Counter[int]) -> float:
    common = sum(count * other[feature] for feature, count in one.items() if feature in other)
    size = sqrt(sum(count * count for count in one.values())) * sqrt(sum(count * count for count in other.values()))
    return common / size if size else 0.0


class PromptIndex:
    """The fragments registered for one asset, ready to be looked for."""

    def __init__(self, fragments: Sequence[Fragment], key: bytes) -> None:
        self._key = key
        self._fragments = [tuple(fragment) for fragment in fragments]
        self._features = [_features(fragment) for fragment in self._fragments]
        self._places: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number, fragment in enumerate(self._fragments):
            for position, pair in enumerate(pairwise(fragment)):
                self._places.setdefault(pair, []).append((number, position))

    def __len__(self) -> int:
        return len(self._fragments)

    def size(self, number: int) -> int:
        """Words of a fragment."""
        return len(self._fragments[number])

    def covered(self, folded: str) -> dict[int, int]:
        """The words of each fragment that a folded text says, in runs of at least RUN_WORDS, as bits by their place."""
        words = [_hash(match.group(), self._key) for match in _WORD.finditer(folded)]
        found: dict[int, int] = {}
        open_runs: dict[tuple[int, int], int] = {}
        for pair in pairwise(words):
            going: dict[tuple[int, int], int] = {}
            for number, position in self._places.get(pair, ())[:50]:
                length = open_runs.get((number, position), 1) + 1
                going[number, position + 1] = length
                if length >= RUN_WORDS:
                    run = (1 << length) - 1
                    found[number] = found.get(number, 0) | run << (position + 2 - length)
            open_runs = going
        return found

    def closest(self, folded: str) -> Likeness | None:
        """The window of a folded text that is most like a registered fragment; None when no two words meet."""
        matches = list(_WORD.finditer(folded))
        words = [_hash(match.group(), self._key) for match in matches]
        votes: Counter[tuple[int, int]] = Counter()
        for at, pair in enumerate(pairwise(words)):
            for number, position in self._places.get(pair, ())[:50]:
                votes[number, max(0, at - position)] += 1
        best: Likeness | None = None
        for (number, start), _ in votes.most_common(50):
            size = len(self._fragments[number])
            window = words[start : start + size]
            similarity = _cosine(self._features[number], _features(window))
            if window and (best is None or similarity > best.similarity):
                best = Likeness(similarity, matches[start].start(), matches[start + len(window) - 1].end())
        return best
