"""Every pattern rule at once: one Hyperscan pass says which rules a text touches, RE2 says exactly where.

Hyperscan knows no groups, and asking it where matches start makes it slower and refuse patterns. So it only tells
which patterns may match, from what they cannot match without (see prefilter.py), and the few that may are run under
RE2, whose answer counts. Both are linear in the text: 0.6 KB against all rules takes about 70 microseconds. RE2 is
asked for the pattern without upper bounds first (_Pattern.gate): where that is nowhere, the pattern is not either.

Rules that come over the API run under RE2 alone: compiling `(\\pL{1,50}\\s\\pN{1,50}){1,20}` took Hyperscan 28 seconds
and 200 MB here, and a compilation cannot be stopped. RE2 refuses such a pattern in 4 milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import hyperscan
import re2

from services.detection.domain import decoding, prefilter
from services.detection.domain.rules import DATA_KINDS, RegexDetection, Rule, View, compile_pattern, patterns_of
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


Touched = Mapping[int, Sequence[tuple[int, int]]]
"""The stretches of a text, in bytes, that may hold a match of an expression, by its number."""
_STRETCH, _OVERLAP = 3_072, 1_536
"""Bytes of a stretch of a long folded text, and how much of the one before it repeats: no attack is longer than that.
In 64 KB of prose nearly every rule finds the words it needs, pages apart; within a stretch few do."""


def _stretches(text: bytes) -> list[tuple[int, int]]:
    if len(text) <= 2 * _STRETCH:
        return [(0, len(text))]
    found: list[tuple[int, int]] = []
    for start in range(0, len(text) - _OVERLAP, _STRETCH):
        low, high = start, min(len(text), start + _STRETCH + _OVERLAP)
        while low and text[low] & 0xC0 == 0x80:  # in the middle of a character
            low -= 1
        while high < len(text) and text[high] & 0xC0 == 0x80:
            high += 1
        found.append((low, high))
    return found


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
    _compiled: Any = None
    _gate: Any = None
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
            compiled = compile_pattern(loose, case_sensitive=self.case_sensitive, field=self.field)
            # RE2's own method, without the generator and the match object that its Python module makes of it: seven
            # rules a message come this far, and nearly all end here.
            self._gate = compiled._regexp.Match
        return self._gate

    def span(self, match: Any) -> Span:
        start, end = match.span()
        for index, label in self._groups:
            value_start, value_end = match.span(index)
            if value_start >= 0:
                return Span(start, end, value_start, value_end, label)
        return Span(start, end, start, end)


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    any: tuple[_Pattern, ...]
    all: tuple[_Pattern, ...]
    unless: tuple[_Pattern, ...]

    def applies(self, direction: Direction | None) -> bool:
        rule = self.rule
        return direction is None or direction in rule.scope.directions or rule.kind in DATA_KINDS

    def spans(self, text: bytes, touched: Touched | None) -> list[Span]:
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
            first = next(_matches(pattern, text, touched), None)
            if first is None:
                return []
            if not self.any:
                found.append(pattern.span(first))
        for pattern in any_of:
            found += map(pattern.span, itertools.islice(_matches(pattern, text, touched), most - len(found)))
            if len(found) >= most:
                break
        # Last, since most texts that touch a rule do not match it.
        if found and any(self._excuses(pattern, text, touched) for pattern in self.unless):
            return []
        return found

    @staticmethod
    def _excuses(pattern: _Pattern, text: bytes, touched: Touched | None) -> bool:
        if touched is not None and pattern.number not in touched:
            return False
        return next(_matches(pattern, text, touched), None) is not None


_UNANCHORED = re2._re2.RE2.Anchor.UNANCHORED
_LOOSE_END = 1_024
"""Bytes of a match of a gate from which on it is not asked again: without bounds one may reach to the end of the text,
every time."""


def _matches(pattern: _Pattern, text: bytes, touched: Touched | None) -> Iterator[Any]:
    """Matches of a pattern in order, looked for where the text touches it."""
    if touched is None:
        yield from pattern.regexp.finditer(text)
        return
    gate = pattern.gate
    for start, end in touched[pattern.number]:
        while start <= end:
            if gate is not None:
                near, near_end = gate(_UNANCHORED, text, start, end)[0]
                if near < 0:
                    break
                start = near
                if near_end - near > _LOOSE_END:
                    gate = None
            match = pattern.regexp.search(text, start, end)
            if match is None:
                break
            yield match
            start = max(match.end(), match.start() + 1)


class Kept(Protocol):
    """Where compiled databases are kept from one start to the next."""

    def load(self, key: str) -> bytes | None: ...

    def store(self, key: str, data: bytes) -> None: ...


class _Database:
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

    def scan(self, text: bytes, numbers: set[int]) -> None:
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = hyperscan.Scratch(self._database)
        add = numbers.add
        self._database.scan(
            text, match_event_handler=lambda number, _from, _to, _flags, _context: add(number), scratch=scratch
        )


class _Wordings:
    """Expressions by the words they need; what several need is looked for once."""

    def __init__(self) -> None:
        self._conditions: list[tuple[int, prefilter.Condition]] = []

    def add(self, number: int, condition: prefilter.Condition) -> None:
        self._conditions.append((number, condition))

    def compiled(self, last: int, kept: Kept | None) -> _Database | None:
        """One database for all of them; `last` is the highest number that is taken."""
        single = hyperscan.HS_FLAG_SINGLEMATCH
        listed: list[tuple[int, str, int]] = []
        words: dict[frozenset[str], int] = {}
        for number, condition in self._conditions:
            if isinstance(condition, prefilter.Words):
                alternatives = _alternatives(condition.any)
                listed.append((number, alternatives, single | _case_and_encoding(alternatives, sensitive=False)))
                continue
            for wanted in prefilter.words_of(condition):
                if wanted not in words:
                    words[wanted] = last = last + 1
                    alternatives = _alternatives(wanted)
                    flags = single | hyperscan.HS_FLAG_QUIET | _case_and_encoding(alternatives, sensitive=False)
                    listed.append((last, alternatives, flags))
            listed.append((number, prefilter.combination(condition, words), hyperscan.HS_FLAG_COMBINATION | single))
        return _Database(listed, kept) if listed else None


class _Scanner:
    """Which expressions a text touches: by the words they need, and those that need none by themselves."""

    def __init__(self, expressions: list[tuple[int, str, bool]], kept: Kept | None) -> None:
        """Compile (number, pattern, case sensitive) expressions; numbers are unique."""
        single = hyperscan.HS_FLAG_SINGLEMATCH
        # Apart, three of a kind are faster than all together, and compile in two thirds of the time: signs of
        # encodings, what cares for case, and what does not.
        direct: dict[str, list[tuple[int, str, int]]] = {}
        # What only a text beyond ASCII can match, eleven languages' rules among it, is apart too: half of the words.
        near, far = _Wordings(), _Wordings()
        for number, pattern, sensitive in expressions:
            condition = None if sensitive else prefilter.condition_of(pattern)
            if condition is None or not prefilter.worthwhile(condition, pattern):
                flags = single | _case_and_encoding(pattern, sensitive=sensitive)
                caseless = flags & hyperscan.HS_FLAG_CASELESS or pattern.startswith("(?i)")
                kind = "signs" if number < len(_SIGNS) else "caseless" if caseless else "cased"
                direct.setdefault(kind, []).append((number, prefilter.relaxed(pattern), flags))
                continue
            wordings = far if prefilter.beyond_ascii(condition) else near
            wordings.add(number, prefilter.lightened(condition))
        last = max((number for number, _, _ in expressions), default=0)
        self._direct = [_Database(one, kept) for one in direct.values()]
        self._near, self._far = near.compiled(last, kept), far.compiled(last, kept)

    def touched(self, text: bytes) -> set[int]:
        """Numbers of the expressions that may match: all that do, and a few more."""
        numbers: set[int] = set()
        if not text:
            return numbers
        for database in self._direct:
            database.scan(text, numbers)
        spaced = prefilter.spaced(text)
        if self._near is not None:
            self._near.scan(spaced, numbers)
        if self._far is not None and not text.isascii():
            self._far.scan(spaced, numbers)
        return numbers


def _alternatives(words: Iterable[str]) -> str:
    return "(?:" + "|".join(_word(word) for word in sorted(words)) + ")"


def _word(word: str) -> str:
    bound = word.startswith(prefilter.BOUNDARY)
    escaped: str = re2.escape(word.removeprefix(prefilter.BOUNDARY))
    return (r"\b" if bound else "") + escaped


def _case_and_encoding(pattern: str, *, sensitive: bool) -> int:
    # Without UTF-8 a gap counts bytes instead of characters; its upper bound is gone anyway, and states are far fewer.
    case = 0 if sensitive else hyperscan.HS_FLAG_CASELESS
    return int(case | (0 if pattern.isascii() else hyperscan.HS_FLAG_UTF8))


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
                pattern = _Pattern(number, written, case_sensitive, field)
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
                View.TEXT: _Scanner(expressions[View.TEXT], kept),
                View.RAW: _Scanner(signs + expressions[View.RAW], kept),
            }

    def scan(
        self, text: bytes, view: View, direction: Direction | None = None
    ) -> tuple[list[tuple[Rule, list[Span]]], frozenset[str]]:
        """The rules that match a text, with where, and the signs of encodings in it (raw view under Hyperscan only).

        Args:
            direction: which way the text goes. Rules for other ways are left out, but for secrets and personal data,
                which are masked whichever way they go. None looks at every rule.
        """
        if not self._rules[view]:
            return [], _NO_SIGNS
        if not self._multi:
            asked = (one for one in self._rules[view] if one.applies(direction))
            return [(one.rule, spans) for one in asked if (spans := one.spans(text, None))], _NO_SIGNS
        touched: dict[int, list[tuple[int, int]]] = {}
        # Keys and tables can be longer than a stretch, so raw text is looked at as a whole.
        for start, end in _stretches(text) if view is View.TEXT else [(0, len(text))]:
            for number in self._scanners[view].touched(text[start:end]):
                places = touched.setdefault(number, [])
                if places and start <= places[-1][1]:
                    places[-1] = (places[-1][0], end)
                else:
                    places.append((start, end))
        if not touched:
            return [], _NO_SIGNS
        by_number = self._by_number[view]
        candidates = {id(one): one for number in touched if (one := by_number.get(number)) is not None}
        asked = (one for one in candidates.values() if one.applies(direction))
        results = [(one.rule, spans) for one in asked if (spans := one.spans(text, touched))]
        return results, _signs(touched) if view is View.RAW else _NO_SIGNS

    def signs(self, text: str) -> frozenset[str]:
        """The signs of encodings in a text; this set must have been compiled under Hyperscan."""
        return _signs(self._scanners[View.RAW].touched(text.encode()))


_SIGNS = tuple(decoding.TRIGGERS)
_NO_SIGNS: frozenset[str] = frozenset()


def _signs(touched: Iterable[int]) -> frozenset[str]:
    return frozenset(_SIGNS[number] for number in touched if number < len(_SIGNS))
