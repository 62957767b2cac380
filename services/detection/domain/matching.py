"""Every pattern rule at once: one Hyperscan pass says which rules a text touches, RE2 says exactly where.

Hyperscan knows no groups, and asking it where matches start makes it slower and refuse patterns. So it only tells
which patterns may match, from what they cannot match without (see prefilter.py), and the few that may are run under
RE2, whose answer counts. Both are linear in the text: 0.6 KB against all rules takes about 70 microseconds. RE2 is
asked for the pattern without upper bounds first (_Pattern.gate): where that is nowhere, the pattern is not either.

Rules that come over the API run under RE2 alone: compiling `(\\pL{1,50}\\s\\pN{1,50}){1,20}` took Hyperscan 28 seconds
and 200 MB here, and a compilation cannot be stopped. RE2 refuses such a pattern in 4 milliseconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from services.detection.domain import decoding, prefilter
from services.detection.domain.rules import DATA_KINDS, RegexDetection, Rule, View, compile_pattern, patterns_of
from services.detection.domain.scanner import LONG, Kept, Scanner, Touched
from shared.contracts.detection import Direction

_MAX_MATCHES = 50
"""Matches of one rule that are looked at in one text: more say nothing new."""
MAX_VALUES = 300
"""The same for secrets and personal data, of which all are masked: a text with more is masked from the first on."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a rule matched, in bytes of the scanned text.

    `value` is the group of that name or one named in capitals, else the whole match; such a name is the `label`.
    """

    start: int
    end: int
    value_start: int
    value_end: int
    label: str = ""


@dataclass(slots=True)
class _Pattern:
    """One pattern; `number` is its Hyperscan id, `field` its JSON Pointer in the rule.

    RE2 compiles it when it is first needed: all that are shipped hold 10 MB together, and take most of the time that
    making a set ready takes, while most of them never come near a match.
    """

    number: int
    written: str
    case_sensitive: bool
    field: str
    farthest: int = 0
    _compiled: Any = None
    _gate: Any = None
    _reach: int | None = None
    _groups: tuple[tuple[int, str], ...] = ()

    @property
    def regexp(self) -> Any:
        if self._compiled is None:
            self._compiled = compile_pattern(self.written, case_sensitive=self.case_sensitive, field=self.field)
            self._groups = tuple(
                (index, name if name.isupper() else "")
                for name, index in self._compiled.groupindex.items()
                if name == "value" or name.isupper()
            )
        return self._compiled

    @property
    def gate(self) -> Any:
        """Where the pattern without its upper bounds matches, which is wherever it does itself, far faster.

        A gap of up to sixty characters is sixty states, in as many combinations as the text has: RE2 made new ones all
        the time, and read 60 MB a second where it reads a gigabyte without the bound.
        """
        if self._gate is None:
            loose = prefilter.unbounded(self.written)
            compiled = compile_pattern(loose, case_sensitive=self.case_sensitive, field=self.field, capturing=False)
            # RE2's own method, without the generator and the match object that its Python module makes of it: seven
            # rules a message come this far, and nearly all end here.
            self._gate = compiled._regexp.Match
        return self._gate

    @property
    def reach(self) -> int:
        """Bytes that no match is longer than, or is looked for; 0 where it may be as long as the text."""
        if self._reach is None:
            self._reach = prefilter.width_of(self.written) * _BYTES_A_CHARACTER
            if self._reach > _FARTHEST:
                self._reach = self.farthest
        return self._reach

    def span(self, spans: Sequence[tuple[int, int]]) -> Span:
        """A match, given as the spans of all its groups."""
        start, end = spans[0]
        for index, label in self._groups:
            value_start, value_end = spans[index]
            if value_start >= 0:
                return Span(start, end, value_start, value_end, label)
        return Span(start, end, start, end)


@dataclass(slots=True)
class Effort:
    """What may still be done for a text that opens the gates of many patterns, and what was not done for want of it.

    Ordinary texts of 64 KB take a third of it, harmless sentences of every kind two thirds. Words of attacks in random
    order opened 330 rules over the whole text, and took 0.2 seconds: whoever hides among them is not found, but that is
    what shows it.

    Attributes:
        left: bytes that RE2 may read; a pattern with many steps counts them several times.
        readings: characters that may still be read, of the text and of what it becomes with disguises undone. Each
            reading counts for 2,500 more.
        unread: patterns that were not looked for to the end, and readings that were not made.
    """

    left: int = 14_000_000
    readings: int = 210_000
    unread: int = 0

    def goes_on(self, characters: int) -> bool:
        """Whether one more reading of so many characters may be made."""
        if self.readings <= 0:
            self.unread += 1
            return False
        self.readings -= characters + 2_500
        return True


_STEPS = 16
"""Steps of a pattern for which a byte counts once more: one that outgrows its memory takes a nanosecond for four."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    any: tuple[_Pattern, ...]
    all: tuple[_Pattern, ...]
    unless: tuple[_Pattern, ...]

    def applies(self, direction: Direction | None) -> bool:
        rule = self.rule
        return direction is None or direction in rule.scope.directions or rule.kind in DATA_KINDS

    def spans(self, text: bytes, touched: Touched | None, effort: Effort) -> list[Span]:
        """Matches in `text`, none when another condition fails. `touched` is Hyperscan's word, None without it."""
        any_of: Sequence[_Pattern] = self.any
        if touched is not None:
            for pattern in self.all:
                if pattern.number not in touched:
                    return []
            any_of = [pattern for pattern in any_of if pattern.number in touched]
            if self.any and not any_of:
                return []
        found: list[Span] = []
        most = MAX_VALUES if self.rule.kind in DATA_KINDS else _MAX_MATCHES
        for pattern in self.all:
            first = next(_matches(pattern, text, touched, effort), None)
            if first is None:
                return []
            if not self.any:
                found.append(pattern.span(first))
        for pattern in any_of:
            found += map(pattern.span, itertools.islice(_matches(pattern, text, touched, effort), most - len(found)))
            if len(found) >= most:
                break
        # Last, since most texts that touch a rule do not match it.
        if found and any(self._excuses(pattern, text, touched, effort) for pattern in self.unless):
            return []
        return found

    def size(self, touched: Touched) -> tuple[bool, int]:
        """Whether it is no rule for values, and the bytes that may hold matches: by which rules are taken in turn."""
        listed = (touched.get(one.number, ()) for one in (*self.any, *self.all))
        return self.rule.kind not in DATA_KINDS, sum(end - start for places in listed for start, end in places)

    @staticmethod
    def _excuses(pattern: _Pattern, text: bytes, touched: Touched | None, effort: Effort) -> bool:
        if touched is not None and pattern.number not in touched:
            return False
        return next(_matches(pattern, text, touched, effort), None) is not None


_BYTES_A_CHARACTER = 4
_FARTHEST = 8_192
_UNANCHORED = re2._re2.RE2.Anchor.UNANCHORED
_LOOSE_END = 1_024
"""Bytes of a match of a gate from which on it is not asked again before its end: without bounds one may reach to the
end of the text, every time."""


def _matches(
    pattern: _Pattern, text: bytes, touched: Touched | None, effort: Effort
) -> Iterator[Sequence[tuple[int, int]]]:
    """Matches of a pattern, as the spans of their groups, in order, looked for where the text touches it."""
    if touched is None:
        for match in pattern.regexp.finditer(text):
            yield [match.span(), *(match.span(index) for index in range(1, match.re.groups + 1))]
        return
    if effort.left <= 0:
        effort.unread += 1
        return
    gate = pattern.gate
    compiled = pattern.regexp._regexp
    find, dear = compiled.Match, 1 + compiled.ProgramSize() // _STEPS
    reach = pattern.reach
    last = 0
    for begin, end in touched[pattern.number]:
        start = max(begin, last)  # stretches overlap by some bytes
        told = start
        while start <= end:
            if start >= told:
                near, near_end = gate(_UNANCHORED, text, start, end)[0]
                effort.left -= (end if near < 0 else near_end) - start
                if near < 0:
                    break
                start = near
                if near_end - near > _LOOSE_END:
                    told = near_end if reach else end + 1
            # No farther than a match reaches that starts within its own length: RE2 is slow where a pattern's bounds
            # give it more states than it keeps, and beyond that the gate says where to look on.
            stop = min(end, start + 2 * reach) if reach else end
            spans = find(_UNANCHORED, text, start, stop)
            low, high = spans[0]
            effort.left -= ((stop if low < 0 else high) - start) * dear
            if effort.left <= 0:
                effort.unread += 1
                return
            if low < 0 or (stop < end and low > start + reach):
                if stop == end:
                    break
                start += reach
                continue
            yield spans
            last = start = max(high, low + 1)


class PatternSet:
    """Pattern rules compiled together. Immutable: a change of rules makes a new set."""

    def __init__(self, rules: Iterable[Rule], *, multi: bool, kept: Kept | None = None) -> None:
        """Compile `rules`.

        Args:
            multi: under Hyperscan as well, which takes milliseconds a rule; for rules that are shipped. RE2 compiles
                theirs on first use.
            kept: where what Hyperscan compiles is kept.

        Raises:
            InvalidRule: a pattern does not compile under RE2; not with `multi`.
            hyperscan.error: one does not under Hyperscan.
        """
        self._rules: dict[View, list[_Compiled]] = {View.TEXT: [], View.RAW: []}
        self._by_number: dict[View, dict[int, _Compiled]] = {View.TEXT: {}, View.RAW: {}}
        self._multi = multi
        expressions: dict[View, list[tuple[int, str, bool]]] = {View.TEXT: [], View.RAW: []}
        number = len(_SIGNS)
        for rule in rules:
            if not isinstance(rule.detection, RegexDetection):
                continue
            view, case_sensitive = rule.detection.view, rule.detection.case_sensitive
            roles: dict[str, list[_Pattern]] = {"any": [], "all": [], "unless": []}
            for role, field, written in patterns_of(rule):
                pattern = _Pattern(number, written, case_sensitive, field, LONG if view is View.TEXT else 0)
                if not multi:
                    _ = pattern.regexp
                roles[role].append(pattern)
                expressions[view].append((number, pattern.written, case_sensitive))
                number += 1
            compiled = _Compiled(rule, tuple(roles["any"]), tuple(roles["all"]), tuple(roles["unless"]))
            self._rules[view].append(compiled)
            # A rule is worth a look when one of `any` is touched, or else all of `all`, of which one stands for them.
            leading = roles["any"] or sorted(roles["all"], key=lambda one: len(one.written))[-1:]
            self._by_number[view].update((one.number, compiled) for one in leading)
        if multi:
            signs = [(at, pattern, True) for at, pattern in enumerate(decoding.TRIGGERS.values())]
            self._scanners = {
                View.TEXT: Scanner(expressions[View.TEXT], kept, folded=True),
                View.RAW: Scanner(signs + expressions[View.RAW], kept, folded=False, signs=len(_SIGNS)),
            }

    def scan(
        self, text: bytes, view: View, direction: Direction | None = None, effort: Effort | None = None
    ) -> tuple[list[tuple[Rule, list[Span]]], frozenset[str]]:
        """The rules that match a text, with where, and the signs of encodings in it (raw view under Hyperscan only).

        Args:
            direction: which way the text goes. Rules for other ways are left out, but for secrets and personal data,
                which are masked whichever way they go. None looks at every rule.
            effort: what the whole text that this is a reading of may take.
        """
        effort = effort or Effort()
        if not self._rules[view]:
            return [], _NO_SIGNS
        if not self._multi:
            own = (one for one in self._rules[view] if one.applies(direction))
            return [(one.rule, spans) for one in own if (spans := one.spans(text, None, effort))], _NO_SIGNS
        scanner = self._scanners[view]
        signs = _signs(scanner.signs(text))
        touched = scanner.touched(text)
        if not touched:
            return [], signs
        by_number = self._by_number[view]
        candidates = {id(one): one for number in touched if (one := by_number.get(number)) is not None}
        asked = [one for one in candidates.values() if one.applies(direction)]
        if len(text) > LONG:
            # What is masked first, then what has the fewest places: should it be too much, the rest says the least.
            asked.sort(key=lambda one: one.size(touched))
        results = [(one.rule, spans) for one in asked if (spans := one.spans(text, touched, effort))]
        return results, signs

    def signs(self, text: str) -> frozenset[str]:
        """The signs of encodings in a text; this set must have been compiled under Hyperscan."""
        return _signs(self._scanners[View.RAW].signs(text.encode()))


_SIGNS = tuple(decoding.TRIGGERS)
_NO_SIGNS: frozenset[str] = frozenset()


def _signs(numbers: Iterable[int]) -> frozenset[str]:
    return frozenset(_SIGNS[number] for number in numbers)
