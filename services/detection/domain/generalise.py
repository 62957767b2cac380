"""From one attack to a pattern for its kin: the words that tell it from ordinary text, without what is only its own.

Addresses, numbers and names become classes, spacing and a word in between are free, and what folding undoes (case,
full width, accents, leet) costs nothing. It is a proposal: people read it, and a trial decides.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import re2

from services.detection.domain import folding

WORDS = (5, 4, 3)
"""How many words in a row a phrase has, the most telling first."""
LETTERS = 9
"""The same in scripts that write no spaces."""
_RARE = 3.0
"""Words in less than a twentieth of ordinary texts tell equally much: what is rarer still is mostly a name."""
_SHORT = 0.3
"""What a word of up to three letters is worth of another: mostly articles and pronouns."""
_TELLING = 2.0
_STEMS = tuple(
    folding.fold(
        """
        aside assist bypass conceal confidential disregard earlier forget guid hidden ignor instruct leak mode order
        overrid password pretend previous prior prompt quiet reveal role rule secret silent system token tool unrestrict
        verbatim
        anweisung befehl bisherig geheim regel vergiss verborgen vorgabe vorherig
        cachée consigne directive oubli règle secrète
        anterior instrucc instruç oculta olvid ordene regla regra esquec
        dimentic istruzion nascost precedent
        instrukcj poprzedni ukryt zapomn
        забуд игнорир инструкц правил прежн секрет скрыт указани
        """
    ).split()
)
"""Beginnings of words in which attacks say what they want: of two phrases equally rare, one with them is the attack."""
_TOKEN = re.compile(r"https?://\S+|\S+@\S+\.\S+|\[[a-z0-9_]+\]|[^\W_]+(?:['’][^\W_]+)*")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_GAP = r"[^\w\s]*\s+[^\w\s]*(?:\S{1,15}\s+)?"
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)\b[A-Z][a-z]{2,}\b")


@dataclass(frozen=True, slots=True)
class _Token:
    pattern: str
    worth: float


def patterns_for(text: str, ordinary: Sequence[str], is_quiet: Callable[[str], bool]) -> list[str]:
    """Up to two patterns over folded text, the more telling first; none when nothing in the text is telling.

    Args:
        ordinary: harmless texts, whose words tell little.
        is_quiet: whether a pattern leaves harmless texts alone; loud ones are passed over while there are others.
    """
    folded = folding.fold(text)
    if len(_UNSPACED.findall(folded)) * 2 > len(re.sub(r"\s", "", folded)):
        return _chosen(_letters(folded), is_quiet)
    frequency = Counter(word for one in ordinary for word in set(_TOKEN.findall(folding.fold(one))))
    names = {folding.fold(name) for name in _NAME.findall(text)} - frequency.keys()
    found = _chosen(_phrases(folded, frequency, len(ordinary), names), is_quiet)
    return found or _chosen(_phrases(folded, frequency, len(ordinary), frozenset()), is_quiet)


def _phrases(
    folded: str, frequency: Counter[str], texts: int, names: Iterable[str]
) -> list[tuple[float, int, int, str]]:
    """(worth, first and last token, pattern) of every run of words."""
    tokens = [_token(word, frequency, texts, names) for word in _TOKEN.findall(folded)]
    for length in WORDS:
        listed = []
        for at in range(len(tokens) - length + 1):
            run = tokens[at : at + length]
            words = sum(one.worth > 0 for one in run)
            # What begins or ends in a class says nothing more than without it.
            if words >= max(3, length - 1) and run[0].worth and run[-1].worth:
                worth = sum(one.worth for one in run)
                listed.append((worth, at, at + length, _GAP.join(one.pattern for one in run)))
        if listed:
            return listed
    return []


def _token(word: str, frequency: Counter[str], texts: int, names: Iterable[str]) -> _Token:
    if word.startswith(("http://", "https://", "[")) or "@" in word:
        return _Token(r"\S{1,300}", 0.0)
    if any(letter.isdigit() for letter in word):
        return _Token(r"\S{1,40}", 0.0)
    if word in names:
        return _Token(r"\S{1,40}", 0.0)
    worth = min(_RARE, math.log((texts + 1) / (frequency[word] + 1))) * (_SHORT if len(word) <= 3 else 1.0)
    if word.startswith(_STEMS):
        worth += _TELLING
    pattern = re2.escape(word)
    if word.isascii() and word.isalpha() and len(word) > 3:
        pattern = (re2.escape(word[:-1]) if word.endswith("s") and not word.endswith("ss") else pattern) + "s?"
    return _Token(rf"\b{pattern}\b" if word.isascii() else pattern, max(worth, 0.01))


def _letters(folded: str) -> list[tuple[float, int, int, str]]:
    letters = [letter for letter in folded if letter.isalnum()]
    return [
        (float(len(set(letters[at : at + LETTERS]))), at, at + LETTERS, r"[^\w]{0,3}?".join(
            re2.escape(letter) for letter in letters[at : at + LETTERS]
        ))
        for at in range(len(letters) - LETTERS + 1)
    ]  # fmt: skip


def _chosen(phrases: list[tuple[float, int, int, str]], is_quiet: Callable[[str], bool]) -> list[str]:
    """The most telling phrase and the next that shares no word with it and is nearly as telling."""
    ranked = sorted(phrases, key=lambda one: (-one[0], one[1]))
    chosen: list[tuple[float, int, int, str]] = []
    for worth, first, last, pattern in ranked[:40]:
        apart = all(last <= one[1] or one[2] <= first for one in chosen)
        if apart and (not chosen or worth >= 0.7 * chosen[0][0]) and is_quiet(pattern):
            chosen.append((worth, first, last, pattern))
            if len(chosen) == 2:
                break
    if not chosen and ranked:
        chosen = ranked[:1]
    return [pattern for _, _, _, pattern in chosen]


_LEET = str.maketrans("aeiostAEIOST", "431057431057")


def mutations(text: str) -> dict[str, str]:
    """The text as somebody would write it who knows that we look for it."""
    words = text.split()
    broken = "".join(word + ("\n" if at % 2 else " ") for at, word in enumerate(words)).rstrip()
    return {
        "case": text.upper(),
        "spacing": "   ".join(words),
        "line_breaks": broken,
        "fullwidth": "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text),
        "leet": text.translate(_LEET),
    }
