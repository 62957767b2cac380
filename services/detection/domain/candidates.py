"""Where decoders look: the spans of a text, in characters, that may be encoded, in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import re2

from services.detection.domain.runs import ASCII85, BASE85, Searched, alphabet

Candidates = Callable[[Searched], Iterable[tuple[int, int]]]


def by_re(pattern: re.Pattern[str]) -> Candidates:
    return lambda searched: (match.span() for match in pattern.finditer(searched.text))


def by_re2(pattern: re.Pattern[str]) -> Candidates:
    """The same, faster by ten, for patterns that do not look around."""
    compiled = re2.compile(pattern.pattern.encode())
    return lambda searched: searched.matches(compiled)


_FEW = 1_536
"""Characters of a text up to which arrays take longer than they save."""


def base64_runs(pattern: re.Pattern[str]) -> Candidates:
    def found(searched: Searched) -> Iterator[tuple[int, int]]:
        if len(searched.text) <= _FEW:
            yield from (match.span() for match in pattern.finditer(searched.text))
            return
        starts, _ = searched.runs(_BASE64_ALPHABET, 20)
        last = 0
        for start in searched.like_base64(starts).tolist():
            at = searched.character(start)
            if at >= last and (match := pattern.match(searched.text, at)) is not None:
                last = match.end()
                yield match.span()

    return found


def base85_runs(pattern: re.Pattern[str], most: int) -> Candidates:
    def found(searched: Searched) -> Iterator[tuple[int, int]]:
        if len(searched.text) <= _FEW or "<~" in searched.text:
            yield from (match.span() for match in pattern.finditer(searched.text))
            return
        starts, ends = searched.runs(_PRINTED, 25)
        end_of = dict(zip(starts.tolist(), ends.tolist(), strict=True))
        for start in sorted(
            {
                start
                for characters, values in ((_B85, BASE85), (_A85, ASCII85))
                for start in searched.like_base85(starts, values).tolist()
                if not searched.data[start : min(end_of[start], start + most)].translate(None, characters)
            }
        ):
            at = searched.character(start)
            yield at, at + end_of[start] - start

    return found


def quoted_printable(pattern: re.Pattern[str]) -> Candidates:
    def found(searched: Searched) -> Iterator[tuple[int, int]]:
        """Matches, each looked for from where the word before an encoded character starts."""
        text = searched.text
        last = 0
        for sign in _QUOTED.finditer(text):
            if sign.start() < last:
                continue
            start = max(last, sign.start() - 61)
            before = text[start : sign.start()]
            word = _BEFORE_QUOTED.search(before[::-1])
            match = pattern.match(text, sign.start() - (word.end() if word else 0))
            if match is not None:
                last = match.end()
                yield match.span()

    return found


_BEFORE_QUOTED = re.compile(r"^ ?[^\s=]{0,60}")
_LETTERS_AND_FIGURES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_BASE64_ALPHABET = alphabet(_LETTERS_AND_FIGURES + b"+/_-")
_PRINTED = alphabet(bytes(range(0x21, 0x7F)))
_B85 = _LETTERS_AND_FIGURES + b"!#$%&()*+-;<=>?@^_`{|}~"
_A85 = bytes(range(0x21, 0x76)) + b"z"
_QUOTED = re.compile(r"=(?:[0-9A-F]{2}|\r?\n)")
