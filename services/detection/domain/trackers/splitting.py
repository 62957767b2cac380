"""Payloads in pieces: texts of the last turns put together, and put to the patterns again.

The pieces join as written, with spaces, and by variables or numbered parts ("a = ...", "part 2: ...", then "a + b").
Only a match that spans a seam counts, and none of a text that raised an alert by itself is joined: what fires is what
no single turn showed. What is joined is masked and bounded to BYTES; joining happens only where a text looks like a
piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from services.detection.domain.rules import Signal
from services.detection.domain.trackers import lexicon
from services.detection.domain.trackers.observation import Heard, Sign, clipped
from services.detection.domain.verdict import FLAG_AT

BYTES = 2_048
_TURNS = 6
_VARIABLES = 24
_SHORT = 120
_SEAMS = 3
_LOOKED_AT = 4_000
"""Characters at the end of a text that pieces are looked for in."""
_ASSIGNED = re.compile(r"\b([A-Za-z]\w{0,9})\s*(?::=|=|:|\bis\b)\s*[\"'`“‘]([^\"'`”’\n]{1,120})[\"'`”’]")
_NUMBERED = re.compile(
    r"(?i)\b(?:part|piece|chunk|fragment|teil|partie|parte|czesc|часть"
    r"|deel)\s*#?\(?(\d{1,2})\)?(?:\s*(?:/|of)\s*\d{1,2})?\s*[:=\-]\s*"
    r"[\"'`“‘]?([^\n\"'`”’]{1,160})"
)
_SUM = re.compile(r"\b[A-Za-z]\w{0,9}(?:\s*\+\s*[A-Za-z]\w{0,9}\b){1,23}")
_ENDS = frozenset(".?!。？！…:;")

Scan = Callable[[str, tuple[int, ...]], tuple[float, str]]
"""Score and rule of the strongest match in a text that spans one of these positions."""


@dataclass(slots=True)
class Pieces:
    """`tails`: ends of the last texts; `variables`: what was assigned by name, or by number as `#02`."""

    tails: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def hear(self, heard: Heard, scan: Scan) -> list[Sign]:
        text = heard.masked[-_LOOKED_AT:]
        flagged = heard.score >= FLAG_AT
        if flagged:
            # It raised an alert of its own; whole texts joined to it would only do so again.
            self.tails.clear()
        assembles = lexicon.assembles(text) or (len(text) > 400 and lexicon.assembles(text[-400:]))
        named = self._remember(text) if assembles else False
        best = 0.0, ""
        for parts, separators in self._candidates(text, assembles=assembles, named=named):
            joined, seams = parts[0], []
            for part, separator in zip(parts[1:], separators, strict=True):
                seams.append(len(joined))
                joined += separator + part
            best = max(best, scan(joined, tuple(seams)))
        if not flagged:
            self.tails.append(clipped(text, BYTES // 2))
        while len(self.tails) > _TURNS or (sum(len(tail.encode()) for tail in self.tails) > BYTES):
            self.tails.pop(0)
        if best[0] <= 0:
            return []
        shown = f"pieces of the last {len(self.tails)} texts, put together, are what {best[1]} looks for"
        return [Sign(Signal.SPLIT_PAYLOAD, best[0], heard.field, shown)]

    def _remember(self, text: str) -> bool:
        found = [(name.lower(), value) for name, value in _ASSIGNED.findall(text)]
        found += [(f"#{int(place):02}", value.strip()) for place, value in _NUMBERED.findall(text)]
        for name, value in found[:_VARIABLES]:
            self.variables.pop(name, None)
            self.variables[name] = value
        while len(self.variables) > _VARIABLES or sum(len(one.encode()) for one in self.variables.values()) > BYTES:
            del self.variables[next(iter(self.variables))]
        return bool(found)

    def _candidates(self, text: str, *, assembles: bool, named: bool) -> list[tuple[list[str], tuple[str, ...]]]:
        joined: list[list[str]] = []
        if assembles and len(self.variables) >= 2:
            for expression in _SUM.findall(text)[:4]:
                parts = [self.variables.get(name.strip().lower(), "") for name in expression.split("+")]
                joined.append([part for part in parts if part])
            numbered = sorted(name for name in self.variables if name.startswith("#"))
            joined.append([self.variables[name] for name in numbered])
            joined.append([value for name, value in self.variables.items() if not name.startswith("#")])
        pieces = self.tails[-(_TURNS - 1) :]
        if pieces and not named and (assembles or (_fragment(text) and _fragment(pieces[-1]))):
            joined.append([*pieces, text[: _SHORT * 4]])
            if assembles and len(pieces) >= 2:
                joined.append(pieces)
        return [(parts, ways) for parts in joined if len(parts) >= 2 for ways in _separators(len(parts) - 1)]


def _separators(seams: int) -> list[tuple[str, ...]]:
    """With and without a space at each seam, at all or none of many: a value need not end where a word does."""
    if seams <= _SEAMS:
        return list(product(("", " "), repeat=seams))
    return [("",) * seams, (" ",) * seams]


def _fragment(text: str) -> bool:
    """A short text that ends in the middle of something."""
    stripped = text.rstrip()
    return 0 < len(stripped) <= _SHORT and stripped[-1] not in _ENDS
