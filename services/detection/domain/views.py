"""The readings of a text that rules are matched against: as sent, as read by a person, and with disguises undone."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from services.detection.domain import decoding, folding, separation
from services.detection.domain.rules import View

_SHORT = 2_048
"""Bytes up to which a place in a text is counted anew each time; of a longer one, where characters go on is kept."""
Origin = Callable[[int, int], tuple[int, int]]


def _same(start: int, end: int) -> tuple[int, int]:
    return start, end


@dataclass(slots=True)
class Reading:
    """One reading of a text, and the way back from a place in it to the place in the original.

    Attributes:
        source: what this was folded from; the same as `text` for raw readings.
        via: what had to be undone to read it, outermost first; empty for the plain text.
        signs: what its scan showed of encodings, once it was scanned.
        mixed: words that mix scripts, in the raw reading of the text itself, once it was read further.
        breaks: invisible characters inside Latin words, likewise.
    """

    view: View
    text: str
    source: str
    origin_of_source: Origin = _same
    via: tuple[str, ...] = ()
    signs: frozenset[str] = frozenset()
    mixed: int = 0
    breaks: int = 0
    data: bytes = b""
    _offsets: array[int] | None = field(default=None)
    _continuations: npt.NDArray[np.int64] | None = field(default=None)

    def __post_init__(self) -> None:
        self.data = self.text.encode()

    def characters(self, start: int, end: int) -> tuple[int, int]:
        """A span of `data` as a span of `text`."""
        if len(self.data) == len(self.text):
            return start, end
        if len(self.data) > _SHORT:
            if self._continuations is None:
                self._continuations = np.flatnonzero((np.frombuffer(self.data, np.uint8) & 0xC0) == 0x80)
            before, after = np.searchsorted(self._continuations, (start, end)).tolist()
            return start - before, end - after
        low = len(self.data[:start].decode("utf-8", "ignore"))
        return low, low + len(self.data[start:end].decode("utf-8", "ignore"))

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """A span of `text` as a span of the original; positions in folded text cost a pass over it, once."""
        if self.view is View.RAW or (len(self.text) == len(self.source) and self.source.isascii()):
            return self.origin_of_source(start, end)
        if self._offsets is None:
            exact, offsets = folding.fold_with_offsets(self.source)
            # The two ways of folding agree wherever we looked; should they not, the whole text is a safe answer.
            self._offsets = offsets if exact == self.text else array("l", [0, len(self.source)])
        if len(self._offsets) != len(self.text) + 1:
            return self.origin_of_source(0, len(self.source))
        return self.origin_of_source(self._offsets[start], self._offsets[end])


def readings(text: str, signs: Callable[[str], frozenset[str]]) -> Iterator[Reading]:
    """The readings of a text that are worth a look, the raw one first.

    What is undone in a long text is read with what is around it, not the whole text once more.

    Args:
        signs: which of decoding.TRIGGERS a text touches. For `text` itself the scan of the raw reading tells it
            (Reading.signs), so that ordinary text is not scanned once more.
    """
    raw = Reading(View.RAW, text, text)
    yield raw
    foreign = not text.isascii()
    readable = text
    if foreign:
        readable, raw.mixed = folding.undouble(text)
        raw.breaks = len(folding.invisible_breaks(text))
    yield from _folded(readable, _same, ("unicode",) if raw.mixed or raw.breaks else ())
    if not raw.signs and not foreign:
        return
    known = raw.signs if readable == text else signs(readable)
    for start, end in decoding.encoded_parts(readable, known):
        unwrapped = decoding.unwrap(readable[start:end], signs, known)
        if unwrapped is None:
            continue
        via, origin = unwrapped.encodings, _chain(unwrapped.origin, _from(start))
        inner = Reading(View.RAW, unwrapped.text, unwrapped.text, origin, via)
        yield inner
        yield from _folded(unwrapped.text, origin, via)
        yield from _disguised(unwrapped.text, inner.signs, origin, via)
    yield from _disguised(readable, raw.signs, _same, ())


def _disguised(text: str, signs: frozenset[str], origin: Origin, via: tuple[str, ...]) -> Iterator[Reading]:
    """A text read as leet, backwards and so on, where it has signs of that."""
    if signs.isdisjoint(decoding.DISGUISES):
        return
    for start, end in decoding.disguised_parts(text, signs):
        for disguise in decoding.disguises(text[start:end], signs):
            way_back = _chain(disguise.origin, _chain(_from(start), origin))
            yield from _folded(disguise.text, way_back, (*via, disguise.name))


def _folded(source: str, origin: Origin, via: tuple[str, ...]) -> Iterator[Reading]:
    """A text folded, and once more with its words put together where they were taken apart."""
    reading = Reading(View.TEXT, folding.fold(source), source, origin, via)
    yield reading
    apart = separation.separated(reading.text, reading.data)
    if not apart:
        return
    spans = [(one.start, one.end) for one in apart]
    size = len(reading.text)
    for start, end in [(0, size)] if size <= decoding.SHORT else decoding.around(spans, size):
        inside = [
            replace(one, start=one.start - start, end=one.end - start)
            for one in apart
            if start <= one.start and one.end <= end
        ]
        text, source_map = decoding.substituted(reading.text[start:end], inside)
        way_back = _chain(source_map.origin, _chain(_from(start), reading.origin))
        yield Reading(View.TEXT, text, text, way_back, (*via, "separation"))


def _from(offset: int) -> Origin:
    """The way back from a part of a text that begins there."""
    return (lambda start, end: (start + offset, end + offset)) if offset else _same


def _chain(inner: Origin, outer: Origin) -> Origin:
    return lambda start, end: outer(*inner(start, end))
