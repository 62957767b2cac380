"""What a text must contain for a pattern to match: a condition over words that Hyperscan decides in one pass.

Compiling our patterns themselves took Hyperscan 27 seconds, most of it for bounded gaps and optional words. Of
`(ignore|forget)\\s+(all\\s+)?previous\\s+instructions?` only `(ignore|forget) & previous & instruction` is asked for
here: all rules compile in 1.6 seconds of CPU time, and a few texts too many pass; RE2 then decides. The idea is
FilteredRE2's; logical combinations keep it inside Hyperscan. Where a pattern demands no word, as a card number does
not, the pattern itself is used with its upper bounds dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MIN_WORD = 3
_MAX_WORDS = 400
_LONG_PATTERN = 250
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


def condition_of(pattern: str) -> Condition | None:
    """The words that every match of a pattern needs; None when none can be named."""
    try:
        tree = _parser.parse(pattern)
    except (re.error, RecursionError):
        return None
    return _sequence(list(tree))


def _sequence(items: Sequence[tuple[Any, Any]]) -> Condition | None:
    parts: list[Condition] = []
    word = ""
    for name, argument in [(str(name), argument) for name, argument in items] + [("END", None)]:
        if name == "LITERAL":
            word += chr(argument)
            continue
        if len(word) >= MIN_WORD:
            parts.append(Words(frozenset({word.lower()})))
        word = ""
        part = _item(name, argument)
        if part is not None:
            parts.append(part)
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else All(tuple(dict.fromkeys(parts)))


def _item(name: str, argument: Any) -> Condition | None:
    if name == "SUBPATTERN":
        return _sequence(list(argument[3]))
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _sequence(list(argument[2])) if argument[0] >= 1 else None
    if name == "BRANCH":
        return _either([_sequence(list(branch)) for branch in argument[1]])
    return None


def _either(parts: Iterable[Condition | None]) -> Condition | None:
    known: list[Condition] = []
    for part in parts:
        if part is None:
            return None
        known.append(part)
    words = frozenset[str]().union(*(part.any for part in known if isinstance(part, Words)))
    others = tuple(dict.fromkeys(part for part in known if not isinstance(part, Words)))
    if not others:
        return Words(words)
    return Any_((*([Words(words)] if words else []), *others))


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


def words_of(condition: Condition) -> Iterable[frozenset[str]]:
    """Every set of words in a condition."""
    if isinstance(condition, Words):
        yield condition.any
    else:
        for part in condition.parts:
            yield from words_of(part)


def combination(condition: Condition, number_of: dict[frozenset[str], int]) -> str:
    """The condition in Hyperscan's notation, its sets of words by their expression numbers."""
    if isinstance(condition, Words):
        return str(number_of[condition.any])
    sign = " & " if isinstance(condition, All) else " | "
    return "(" + sign.join(combination(part, number_of) for part in condition.parts) + ")"
