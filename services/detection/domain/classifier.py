"""The classifier: does a text read like an attack, whoever wrote it?

A linear model over hashed words, stems, and what stands beside them (tokens.py). Linear on purpose: the score of any
stretch of a text is a difference of two running sums, so that the stretch that speaks loudest is found for the price
of the whole, and shown as evidence. Measured against a fine-tuned transformer of three layers it found three times as
much at the same false-positive rate on sources left out (docs/decisions/0012).

Each head has a table of weights and speaks of one channel. A logit becomes a score between 0 and 1 by how often
harmless texts of sources left out of training reach it (Head.levels), so that a score means the same for every head.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from services.detection.domain.tokens import Tokens, rows, tokens

MIN_TOKENS = 4
"""Shorter texts are not judged."""
MIN_SCORE = 0.1
"""Below it, an opinion is not worth hearing."""
MIN_KNOWN = 0.15
"""Share of a text's features that training must have met; below it the head abstains instead of guessing."""
_RUNS = (1, 2, 4, 8)
"""Lengths, in sentences, of the stretches that are judged beside the whole."""
_CUT = 48
"""Tokens after which a sentence without an end is taken to end."""


@dataclass(frozen=True, slots=True)
class Head:
    """One question that is put to a text.

    Attributes:
        weights: 2**bits weights, `scale` to one.
        center, spread: what harmless texts reach by the logarithm of the number of their features, and how far they
            spread, as polynomials with the highest power first. Long texts gather more of everything, so a logit says
            something only beside those of harmless texts as long.
        levels: (distance from the center in spreads, score) pairs, both rising; in between the score is interpolated.
        whole: whether a text is judged as a whole, not only its stretches.
        stretches: whether its stretches are judged.
        out_of_place: added to the distance of a sentence that stands among the rows of a table.
    """

    weights: npt.NDArray[np.int8]
    scale: float
    bias: float
    center: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (1.0,)
    levels: tuple[tuple[float, float], ...] = ((-1.0, 0.0), (1.0, 1.0))
    whole: bool = True
    stretches: bool = True
    out_of_place: float = 0.0

    def distances(self, logits: npt.NDArray[np.float64], features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """How far above harmless texts of that many features these logits are, in their spreads."""
        size = np.log(np.clip(features, _LEAST, _MOST))
        spread = np.maximum(np.polyval(self.spread, size), _NARROWEST)
        return np.asarray((logits - np.polyval(self.center, size)) / spread, np.float64)

    def score(self, distance: float) -> float:
        distances, scores = zip(*self.levels, strict=True)
        return float(np.interp(distance, distances, scores))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a head holds of a text, and the stretch of characters that speaks loudest for it."""

    distance: float
    start: int
    end: int


_MOST = 6_000.0
_NARROWEST = 0.2
_LEAST = 6.0
"""Features that a shorter stretch is taken to have, so that a word alone does not shout."""
_LENGTH = -0.4
"""Power of the number of features by which their sum is scaled: between a mean and a sum, long texts count for more."""
_BAR, _COMMA = ord("|"), ord(",")
_SILENT = -1e6
_scratch = threading.local()


class Features:
    """A text's features, shared by all heads that are asked about it."""

    def __init__(self, folded: str, bits: int) -> None:
        self.tokens: Tokens = tokens(folded)
        self._rows = rows(self.tokens, bits) if len(self.tokens) >= MIN_TOKENS else None
        self._first = self._firsts(self._rows.numbers, bits) if self._rows is not None else np.zeros(0, bool)

    @cached_property
    def _windows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return _windows(self.tokens)

    @staticmethod
    def _firsts(numbers: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.bool_]:
        """Which features occur for the first time: what a text repeats says nothing new."""
        # Half as wide a table is in faster memory: all but the longest texts have few enough features for it.
        kind = "uint16" if len(numbers) < 1 << 16 else "int32"
        seen = getattr(_scratch, kind, None)
        if seen is None or len(seen) != 1 << bits:
            seen = np.zeros(1 << bits, kind)
            setattr(_scratch, kind, seen)
        order = np.arange(len(numbers), dtype=kind)
        seen[numbers[::-1]] = order[::-1]
        return np.asarray(seen[numbers] == order)

    def unique(self) -> npt.NDArray[np.uint32]:
        """Every feature once, for training."""
        return np.zeros(0, np.uint32) if self._rows is None else self._rows.numbers[self._first]

    def judge(self, head: Head) -> Judgement | None:
        """What a head holds of the text, or of its loudest stretch; None where it abstains."""
        if self._rows is None:
            return None
        weights = head.weights[self._rows.numbers]
        if np.count_nonzero(weights) < MIN_KNOWN * len(weights):
            return None
        weights = weights * self._first
        if not head.stretches:
            number = np.array([float(np.count_nonzero(self._first))])
            value = np.array([float(weights.sum(dtype=np.int64))]) * weight_of(number) * head.scale + head.bias
            found = self.tokens
            return Judgement(float(head.distances(value, number)[0]), int(found.starts[0]), int(found.ends[-1]))
        return self._loudest(head, weights)

    def loudest(self, head: Head) -> Judgement:
        """The stretch that speaks loudest, of a text that is judged as a whole."""
        assert self._rows is not None, "what is not judged has no loudest stretch"
        return self._loudest(head, head.weights[self._rows.numbers] * self._first)

    def _loudest(self, head: Head, weights: npt.NDArray[np.int8]) -> Judgement:
        assert self._rows is not None
        size = len(self.tokens)
        sums = np.zeros(size, np.int64)
        counts = np.zeros(size, np.int64)
        for start, end in pairwise(self._rows.edges):
            sums[: end - start] += weights[start:end]
            counts[: end - start] += self._first[start:end]
        total = np.concatenate(([0.0], np.cumsum(sums, dtype=np.float64)))
        number = np.concatenate(([0.0], np.cumsum(counts, dtype=np.float64)))
        starts, ends = self._windows
        if head.whole:
            starts, ends = np.append(starts, 0), np.append(ends, size)
        sizes = number[ends] - number[starts]
        values = (total[ends] - total[starts]) * weight_of(sizes) * head.scale + head.bias
        values = head.distances(values, sizes)
        values[ends - starts < MIN_TOKENS] = _SILENT
        if head.out_of_place:
            among = self._among_rows()
            if among is not None:
                values = values + head.out_of_place * ((among[ends] - among[starts]) == ends - starts)
        best = int(np.argmax(values))
        found = self.tokens
        return Judgement(
            float(values[best]),
            int(found.starts[starts[best]]),
            int(found.ends[ends[best] - 1]),
        )

    def _among_rows(self) -> npt.NDArray[np.int64] | None:
        """Running count of the tokens on lines of prose in a text that is a table; None where it is none.

        A table is a text of three lines or more, half of them rows: lines of two bars, tabs or four commas. In tables
        that nobody tampered with, hardly a line is a sentence.
        """
        signs = self.tokens.signs
        at_edge = np.zeros(len(signs) + 1, bool)
        at_edge[self.tokens.lines] = True
        at_edge[[0, len(signs)]] = True
        edges = np.flatnonzero(at_edge)
        if len(edges) < 4:
            return None
        at = edges[:-1]
        sizes = np.diff(edges)
        parted = (signs == _BAR).astype(np.int64) + np.bincount(self.tokens.tabs, minlength=len(signs) + 1)[:-1]
        bars = np.add.reduceat(parted, at)
        commas = np.add.reduceat(signs == _COMMA, at, dtype=np.int64)
        words = np.add.reduceat(signs == 0, at, dtype=np.int64)
        filled = words > 0
        row = filled & ((bars >= 2) | ((commas >= 4) & (commas * 4 > words)))
        if row.sum() * 2 < filled.sum() or filled.sum() < 3:
            return None
        prose = ~row & (words >= 4) & (words * 5 > sizes * 3)
        return np.concatenate(([0], np.cumsum(np.repeat(prose, sizes))))


def weight_of(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each feature of a text counts for that has so many."""
    return np.maximum(features, _LEAST) ** _LENGTH


def _windows(found: Tokens) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Stretches of one, two, four and eight sentences, as token numbers from and to."""
    size = len(found)
    at_edge = np.zeros(size + 1, bool)  # sorting them took longer than all the rest
    at_edge[::_CUT] = True
    at_edge[found.breaks[found.breaks <= size]] = True
    at_edge[[0, size]] = True
    edges = np.flatnonzero(at_edge)
    starts: list[npt.NDArray[np.int64]] = []
    ends: list[npt.NDArray[np.int64]] = []
    for run in _RUNS:
        if len(edges) > run:
            starts.append(edges[:-run])
            ends.append(edges[run:])
    if not starts:
        return np.zeros(1, np.int64), np.full(1, size, np.int64)
    return np.concatenate(starts), np.concatenate(ends)


class Classifier:
    """All heads over one hashing of features.

    `attack` speaks of what users write, `smuggled` of documents, tool results and tool calls. Where `attack` speaks up,
    `jailbreak` tells a jailbreak from an injection.
    """

    def __init__(self, heads: Mapping[str, Head], bits: int) -> None:
        self.heads = dict(heads)
        self._bits = bits

    def judge(self, folded: str, questions: Collection[str]) -> dict[str, tuple[float, Judgement]]:
        """Scores between 0 and 1 of a folded text, with where it is loudest; a question that is no is absent.

        Args:
            questions: of `injection`, `jailbreak` and `smuggled`.
        """
        features = Features(folded, self._bits)
        found: dict[str, tuple[float, Judgement]] = {}
        if "smuggled" in questions and (told := self._ask(features, "smuggled")):
            found["smuggled"] = told
        if ("injection" in questions or "jailbreak" in questions) and (told := self._ask(features, "attack")):
            kind = features.judge(self.heads["jailbreak"])
            name = "jailbreak" if kind is not None and kind.distance > 0 else "injection"
            if name in questions:
                found[name] = told
        return found

    def _ask(self, features: Features, name: str) -> tuple[float, Judgement] | None:
        head = self.heads[name]
        judgement = features.judge(head)
        if judgement is None or (score := head.score(judgement.distance)) < MIN_SCORE:
            return None
        return score, judgement if head.stretches else features.loudest(head)
