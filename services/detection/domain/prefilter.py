"""What a text must contain for a pattern to match: a condition over words that one pass decides (scanner.py).

Compiling our patterns themselves took Hyperscan 27 seconds, most of it for bounded gaps and optional words. Of
`(ignore|forget)\\s+(all\\s+)?previous\\s+instructions?` only `(ignore|forget) & previous & instruction` is asked for
here: all rules compile in 3 seconds of CPU time, and a few texts too many pass; RE2 then decides. The idea is
FilteredRE2's. Where a pattern demands no word, as a card number does not, Hyperscan gets the pattern itself with its
upper bounds dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MIN_WORD = 3
"""Bytes of the shortest word that is asked for: three Latin letters, two Cyrillic ones, one Chinese character."""
BOUNDARY = "\b"
"""Before a word: it starts there. `ai` is in "said" and `say` in "essay"."""
_MAX_WORDS = 400
_MAX_STRINGS = 12
_LONGEST_STRING = 24
_LONG_PATTERN = 250
_SMALL_SET = 4
_parser: Any = re._parser  # type: ignore[attr-defined]  # the standard library's own regex parser has no public name


@dataclass(frozen=True, slots=True)
class Words:
    """At least one of these occurs."""

    any: frozenset[str]


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any_:  # noqa: N801  # `Any` is typing's
    parts: tuple[Condition, ...]


Condition = Words | All | Any_
"""None stands for no condition at all."""


def spaced(data: bytes) -> bytes:
    """A text as conditions are asked of it: every run of whitespace one space, and one at each end."""
    return b" %b " % b" ".join(data.split())


def condition_of(pattern: str) -> Condition | None:
    """The words and phrases that every match of a pattern needs, in `spaced` text; None when none can be named."""
    try:
        tree = _parser.parse(pattern)
    except (re.error, RecursionError):
        return None
    needed = _Needed()
    needed.follow(list(tree))
    return needed.condition()


class _Needed:
    """What has been found needed on the way through a sequence.

    `strings` are the ways in which the text may read just before where we are, as far as they are known; they grow
    until there are too many, and then become a condition.
    """

    def __init__(self) -> None:
        self.strings: frozenset[str] = frozenset({""})
        self.parts: list[Condition] = []

    def condition(self) -> Condition | None:
        self.settle()
        return all_of(self.parts)

    def settle(self) -> None:
        """Make a condition of the strings, if they say enough, and start anew."""
        if all(_says_enough(one) for one in self.strings):
            self.parts.append(Words(_least(one.lower() for one in self.strings)))
        self.strings = frozenset({""})

    def add(self, strings: frozenset[str]) -> None:
        if (
            len(self.strings) * len(strings) > _MAX_STRINGS
            or max(map(len, self.strings)) + max(map(len, strings)) > _LONGEST_STRING
        ):
            self.settle()
        self.strings = frozenset(_joined(one, other) for one in self.strings for other in strings)

    def follow(self, items: Sequence[tuple[Any, Any]]) -> None:
        for code, argument in items:
            strings = _strings_of(str(code), argument)
            if strings is not None:
                self.add(strings)
                continue
            name = str(code)
            if name == "AT" and str(argument) == "AT_BOUNDARY":
                self.strings = frozenset(one or BOUNDARY for one in self.strings)
                continue
            if name == "SUBPATTERN":
                self.follow(list(argument[3]))
                continue
            before = self.strings
            if name == "BRANCH":
                branches = [_Needed() for _ in argument[1]]
                for branch, inside in zip(branches, argument[1], strict=True):
                    branch.strings = before
                    branch.follow(list(inside))
                either = any_of([branch.condition() for branch in branches])
                if either is None:
                    self.settle()
                else:
                    self.parts.append(either)
            elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") and argument[0] >= 1:
                self.follow(list(argument[2]))
                self.settle()
            else:
                self.settle()
            self.strings = frozenset({""})


def _strings_of(code: str, argument: Any) -> frozenset[str] | None:
    """All that an item can match, when that is a handful of strings."""
    if code == "LITERAL":
        letter = chr(argument)
        return frozenset({letter}) if letter == " " or not letter.isspace() else None
    if code == "IN":
        letters = [chr(value) for kind, value in argument if str(kind) == "LITERAL"]
        few = len(letters) == len(argument) <= _SMALL_SET and not any(letter.isspace() for letter in letters)
        return frozenset(letters) if few else None
    if code in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, inside = argument
        if least >= 1 and [(str(kind), str(value)) for kind, value in inside] == [_WHITESPACE]:
            return frozenset({" "}) if least == 1 else None
        if (least, most) == (0, 1):
            optional = _sequence_strings(list(inside))
            return None if optional is None else optional | {""}
        return _sequence_strings(list(inside)) if least == most == 1 else None
    if code == "SUBPATTERN":
        return _sequence_strings(list(argument[3]))
    if code == "BRANCH":
        ways = [_sequence_strings(list(branch)) for branch in argument[1]]
        known = [way for way in ways if way is not None]
        return frozenset[str]().union(*known) if len(known) == len(ways) else None
    return None


_WHITESPACE = ("IN", "[(CATEGORY, CATEGORY_SPACE)]")


def _sequence_strings(items: Sequence[tuple[Any, Any]]) -> frozenset[str] | None:
    strings = frozenset({""})
    for code, argument in items:
        more = _strings_of(str(code), argument)
        if more is None or len(strings) * len(more) > _MAX_STRINGS:
            return None
        strings = frozenset(_joined(one, other) for one in strings for other in more)
    return strings


def _joined(one: str, other: str) -> str:
    return one + other.removeprefix(" ") if one.endswith(" ") else one + other


def _least(strings: Iterable[str]) -> frozenset[str]:
    """The strings without those that contain another of them."""
    kept: list[str] = []
    for string in sorted(set(strings), key=len):
        if not any(one in string for one in kept):
            kept.append(string)
    return frozenset(kept)


def _says_enough(string: str) -> bool:
    bare = string.removeprefix(BOUNDARY).strip()
    # Two signs, as in `](`, are rarer than two letters.
    return len(bare.encode()) >= MIN_WORD or (
        len(bare) == MIN_WORD - 1 and (len(string) > len(bare) or _signs_only(bare))
    )


def _signs_only(bare: str) -> bool:
    return not any(letter.isalnum() or letter.isspace() for letter in bare)


def all_of(parts: Iterable[Condition]) -> Condition | None:
    different = tuple(dict.fromkeys(parts))
    if not different:
        return None
    return different[0] if len(different) == 1 else All(different)


def any_of(parts: Iterable[Condition | None]) -> Condition | None:
    known: list[Condition] = []
    for part in parts:
        if part is None:
            return None
        known.append(part)
    words = _least(word for part in known if isinstance(part, Words) for word in part.any)
    others = tuple(dict.fromkeys(part for part in known if not isinstance(part, Words)))
    either = (*([Words(words)] if words else []), *others)
    return either[0] if len(either) == 1 else Any_(either)


def worthwhile(condition: Condition | None, pattern: str) -> bool:
    """Whether to ask for the words rather than for the pattern itself.

    Short words are in almost any text; asking for them still beats compiling a long pattern.
    """
    return condition is not None and (len(pattern) > _LONG_PATTERN or _selective(condition))


def _selective(condition: Condition) -> bool:
    if isinstance(condition, Words):
        return len(condition.any) <= _MAX_WORDS and min(len(word) for word in condition.any) > MIN_WORD
    if isinstance(condition, Any_):
        return all(_selective(part) for part in condition.parts)
    return len(condition.parts) > 1 or _selective(condition.parts[0])


def _words(text: str) -> list[str]:
    return text.split()


# How many short texts in a thousand hold a word, by its letters, roughly; and words far more common than that.
_PER_MILLE = {2: 300, 3: 150, 4: 60, 5: 25, 6: 12, 7: 6}
_SIGNS_PER_MILLE = 40
_COMMON = frozenset(
    _words(
        """
        the and you your are all any for not can will with that this what have has must from now was were
        its his her our one two out say use new how who when where which about into over then than them they
        their there here should would could may might also just only more other some such very let get give
        make like time text
        """
    )
)
_MOST_PARTS = 4


def often(condition: Condition) -> float:
    """A guess at how many texts in a thousand meet a condition."""
    if isinstance(condition, Words):
        return sum(
            300.0
            if (bare := word.removeprefix(BOUNDARY)) in _COMMON
            else _SIGNS_PER_MILLE
            if _signs_only(bare)
            else _PER_MILLE.get(len(bare), 3)
            for word in condition.any
        )
    if isinstance(condition, Any_):
        return sum(often(part) for part in condition.parts)
    return min(often(part) for part in condition.parts)


def lightened(condition: Condition) -> Condition:
    """The condition without what excludes little: of parts that must all hold, the rarest few.

    Each word costs Hyperscan wherever it occurs, and common ones occur in every text: asking for all of them took it
    75 microseconds for 0.6 KB.
    """
    if isinstance(condition, Words):
        return condition
    if isinstance(condition, Any_):
        return any_of([lightened(part) for part in condition.parts]) or condition
    rarest = sorted(condition.parts, key=often)[:_MOST_PARTS]
    return all_of(lightened(part) for at, part in enumerate(rarest) if at == 0 or often(part) < _TOO_OFTEN) or condition


_TOO_OFTEN = 700


_BOUND = re.compile(r"(?<!\\)\{(\d+),(\d*)\}")
_LETTERS = re.compile(r"\\p(?:L|\{(?:Lu|Ll|L|Han)\})")


def relaxed(pattern: str, keep_up_to: int = 2) -> str:
    """The pattern without upper bounds over `keep_up_to`, which cost Hyperscan a state a repetition.

    Classes of letters, which are large automata of their own, become ASCII's and whatever is not ASCII: write them
    inside brackets.
    """
    beyond = r"\x80-\xff" if pattern.isascii() else r"\x{80}-\x{10ffff}"

    def bound(match: re.Match[str]) -> str:
        least, most = int(match.group(1)), match.group(2)
        if most and int(most) <= keep_up_to:
            return match.group()
        return {0: "*", 1: "+"}.get(least, f"{{{least},}}")

    def letters(match: re.Match[str]) -> str:
        upper = "" if "Ll" in match.group() else "A-Z"
        return upper + ("" if "Lu" in match.group() else "a-z") + beyond

    return _LETTERS.sub(letters, _BOUND.sub(bound, pattern))


def unbounded(pattern: str, keep_up_to: int = 3) -> str:
    """The pattern without upper bounds over `keep_up_to`: matches wherever the pattern does, and a few times more."""

    def bound(match: re.Match[str]) -> str:
        least, most = int(match.group(1)), match.group(2)
        if not most or int(most) <= keep_up_to:
            return match.group()
        return {0: "*", 1: "+"}.get(least, f"{{{least},}}")

    return _BOUND.sub(bound, pattern)


def beyond_ascii(condition: Condition) -> bool:
    """Whether no ASCII text can satisfy it."""
    if isinstance(condition, Words):
        return not any(word.isascii() for word in condition.any)
    parts = (beyond_ascii(part) for part in condition.parts)
    return any(parts) if isinstance(condition, All) else all(parts)


def in_ascii(condition: Condition) -> Condition | None:
    """The condition over what its words have of ASCII, for text whose other letters may be small or capital."""
    if isinstance(condition, Words):
        words = [_in_ascii(word) for word in condition.any]
        return Words(_least(words)) if all(_says_enough(word) for word in words) else None
    if isinstance(condition, Any_):
        return any_of(in_ascii(part) for part in condition.parts)
    return all_of(part for one in condition.parts if (part := in_ascii(one)) is not None)


def _in_ascii(word: str) -> str:
    return word if word.isascii() else max(re.split(r"[^\x20-\x7e]+", word), key=len)


def width_of(pattern: str) -> int:
    """Characters of the longest match of a pattern; a large number where there is no bound, or it cannot be told."""
    try:
        return int(_parser.parse(pattern).getwidth()[1])
    except (re.error, RecursionError):
        return _UNKNOWN


_UNKNOWN = 1 << 31
