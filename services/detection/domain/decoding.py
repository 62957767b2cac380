"""Undoing what hides words from a filter: encodings, letter spacing, leet, reversed text.

Decoded fragments are put back where they stood, so that a half-encoded sentence reads as a whole and one more pass over
the result undoes nested encodings. Work is bounded: no pass grows a text beyond MAX_CHARACTERS, and `unwrap` makes at
most MAX_PASSES of them. Every pattern here is ours and linear; TRIGGERS lets the caller's own scan say which decoders
are worth trying at all.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import codecs
import html
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field

from services.detection.domain import folding

MAX_CHARACTERS = 65_536
MAX_PASSES = 3
_MAX_FRAGMENTS = 64

# Hyperscan patterns over the raw text, one an encoding: cheap signs that a decoder may find something.
TRIGGERS: dict[str, str] = {
    "base64": r"[A-Za-z0-9+/_-]{20}",
    "base32": r"[A-Z2-7]{24}",
    "hex": r"(?:[0-9A-Fa-f]{2}[ :,-]?){10}",
    "escapes": r"(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}){3}",
    "url": r"%[0-9A-Fa-f]{2}[^%\s]{0,24}%[0-9A-Fa-f]{2}",
    "entities": r"&#x?[0-9A-Fa-f]{2,6};[^&]{0,3}&#x?[0-9A-Fa-f]{2,6};",
    "binary": r"(?:[01]{8}[ ,]?){5}",
    "decimal": r"(?:[0-9]{2,3}[ ,]{1,2}){9}",
    "morse": r"(?:[.-]{1,5}[ /|]{1,3}){8}",
    "spacing": r"[^\sA-Za-z0-9]?\b[A-Za-z](?:[ ._*|~-]{1,3}[A-Za-z]\b){5}",
    "leet": r"[A-Za-z][013457@$!|][A-Za-z013457@$!|]*[A-Za-z]|\b[134@$!|][A-Za-z013457@$!|]{2}",
    "rot13": r"(?i)\b(?:vtaber|qvfertneq|sbetrg|cerivbhf|vafgehpgvba|cebzcg|flfgrz|erirny|olcnff|qrirybcre)",
    "reversed": r"(?i)(?:erongi|dragersid|tegrof|suoiverp|noitcurtsni|tpmorp|metsys|laever|ssapyb)",
}


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Where the pieces of a rewritten text came from: (start here, start there, end there, same length) a piece."""

    starts: list[int]
    pieces: list[tuple[int, int, bool]]

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The span of the source that the span [start, end) of the result stands for."""
        return self._at(start, first=True), self._at(max(start, end - 1), first=False)

    def _at(self, position: int, *, first: bool) -> int:
        index = bisect.bisect_right(self.starts, position) - 1
        there, there_end, aligned = self.pieces[index]
        if aligned:
            return there + (position - self.starts[index]) + (0 if first else 1)
        return there if first else there_end


@dataclass(frozen=True, slots=True)
class Fragment:
    start: int
    end: int
    text: str
    encoding: str


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A text with its encoded fragments decoded in place. `encodings` names what was undone, outermost first."""

    text: str
    maps: tuple[SourceMap, ...]
    encodings: tuple[str, ...]
    squeezed: bool  # words lost their separators: match without looking for them

    def origin(self, start: int, end: int) -> tuple[int, int]:
        for source_map in reversed(self.maps):
            start, end = source_map.origin(start, end)
        return start, end


def _readable(data: bytes) -> str | None:
    """The bytes as text when a person would call them text; None for what decoding garbage gives."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if len(text) < 6:
        return None
    strange = len(_STRANGE.findall(text))
    letters = len(text) - len(_NO_LETTER.findall(text))
    if strange > 0.1 * len(text) or letters < 0.5 * len(text):
        return None
    return text if _WORD.search(text) else None


_STRANGE = re.compile(r"[^\w\s.,:;!?'\"()\[\]{}<>/=@#-]")
_NO_LETTER = re.compile(r"[\W\d_]")
_WORD = re.compile(r"[^\W\d_]{3}")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{40,76}\r?\n)*[A-Za-z0-9+/_-]{20,}={0,2}")
_BASE32 = re.compile(r"\b[A-Z2-7]{24,}={0,6}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}[ :,-]?){9,}[0-9A-Fa-f]{2}")
_ESCAPES = re.compile(r"(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\u\{[0-9A-Fa-f]{1,6}\})+")
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|\\u\{([0-9A-Fa-f]{1,6})\}")
_URL = re.compile(r"(?<![^\s%])[^\s%]*(?:%[0-9A-Fa-f]{2}[^\s%]*){2,}")
_ENTITIES = re.compile(r"(?:&#x?[0-9A-Fa-f]{2,6};[^&]{0,3}){3,}&#x?[0-9A-Fa-f]{2,6};")
_BINARY = re.compile(r"(?:[01]{8}[ ,]?){4,}[01]{8}")
_DECIMAL = re.compile(r"(?:[0-9]{2,3}[ ,]{1,2}){9,}[0-9]{2,3}")
_MORSE_CODE = re.compile(r"(?:[.\-]{1,6}[ /|]{1,3}){8,}[.\-]{1,6}")
_SPACING = re.compile(r"(?<![A-Za-z0-9])[A-Za-z](?:[ ._*|~\-]{1,4}[A-Za-z](?![A-Za-z0-9])){5,}")

_MORSE = (
    "a.- b-... c-.-. d-.. e. f..-. g--. h.... i.. j.--- k-.- l.-.. m-- n-. o--- p.--. q--.- r.-. s... t- u..- v...- "
    "w.-- x-..- y-.-- z--.."
)
_MORSE_LETTERS = {sign[1:]: sign[0] for sign in _MORSE.split()}


def _base64(token: str) -> str | None:
    compact = re.sub(r"[\r\n=]", "", token).replace("-", "+").replace("_", "/")
    compact = compact[: len(compact) - (len(compact) % 4 == 1)]
    try:
        return _readable(base64.b64decode(compact + "=" * (-len(compact) % 4)))
    except (binascii.Error, ValueError):
        return None


def _base32(token: str) -> str | None:
    compact = token.rstrip("=")
    try:
        return _readable(base64.b32decode(compact + "=" * (-len(compact) % 8)))
    except (binascii.Error, ValueError):
        return None


def _hex(token: str) -> str | None:
    digits = re.sub(r"[ :,-]", "", token)
    return _readable(bytes.fromhex(digits)) if len(digits) % 2 == 0 else None


def _escapes(token: str) -> str | None:
    def character(match: re.Match[str]) -> str:
        code = int(next(group for group in match.groups() if group), 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code <= 0xDFFF else ""

    return _ESCAPE.sub(character, token)


def _url(token: str) -> str | None:
    text = urllib.parse.unquote_plus(token, errors="ignore")
    return text if text != token else None


def _binary(token: str) -> str | None:
    bits = re.sub(r"[ ,]", "", token)
    return _readable(bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8)))


def _decimal(token: str) -> str | None:
    codes = [int(code) for code in re.findall(r"[0-9]+", token)]
    return _readable(bytes(codes)) if all(32 <= code < 127 for code in codes) else None


def _morse(token: str) -> str | None:
    words = re.split(r"\s*[/|]\s*|\s{2,}", token)
    letters = [[_MORSE_LETTERS.get(sign, "") for sign in word.split()] for word in words]
    text = " ".join("".join(word) for word in letters)
    # A ruled table looks like morse, and says "ooo ooo".
    return text if len(text) >= 6 and len(set(text)) >= 5 else None


def _spacing(token: str) -> str | None:
    """Letters joined; a separator wider than the narrowest, or of another kind, parts words."""
    separators = re.findall(r"[^A-Za-z]+", token)
    narrow = min(set(separators), key=lambda one: (len(one), -separators.count(one)))
    return re.sub(r"[^A-Za-z]+", lambda match: "" if match.group() == narrow else " ", token)


_DECODERS: dict[str, tuple[re.Pattern[str], Callable[[str], str | None]]] = {
    "escapes": (_ESCAPES, _escapes),
    "entities": (_ENTITIES, html.unescape),
    "url": (_URL, _url),
    "binary": (_BINARY, _binary),
    "decimal": (_DECIMAL, _decimal),
    "hex": (_HEX, _hex),
    "base32": (_BASE32, _base32),
    "base64": (_BASE64, _base64),
    "morse": (_MORSE_CODE, _morse),
    "spacing": (_SPACING, _spacing),
}


def fragments(text: str, encodings: frozenset[str]) -> list[Fragment]:
    """The encoded fragments of a text, in order and without overlap, earlier decoders first."""
    found: list[Fragment] = []
    taken: list[tuple[int, int]] = []
    for name, (pattern, decode) in _DECODERS.items():
        if name not in encodings:
            continue
        for match in pattern.finditer(text):
            if len(found) >= _MAX_FRAGMENTS:
                break
            start, end = match.span()
            if any(start < there_end and there < end for there, there_end in taken):
                continue
            decoded = decode(match.group())
            if decoded is not None and decoded != match.group():
                found.append(Fragment(start, end, decoded, name))
                taken.append((start, end))
    for start, end, message in folding.smuggled(text) if not text.isascii() else ():
        found.append(Fragment(start, end, f" {message} ", "invisible"))
    return sorted(found, key=lambda fragment: fragment.start)


def _substitute(text: str, found: list[Fragment]) -> tuple[str, SourceMap]:
    pieces: list[str] = []
    starts: list[int] = []
    spans: list[tuple[int, int, bool]] = []
    length = last = 0

    def add(piece: str, start: int, end: int, *, aligned: bool) -> None:
        nonlocal length
        if piece:
            pieces.append(piece)
            starts.append(length)
            spans.append((start, end, aligned))
            length += len(piece)

    for fragment in found:
        if fragment.start < last:
            continue
        add(text[last : fragment.start], last, fragment.start, aligned=True)
        add(fragment.text, fragment.start, fragment.end, aligned=False)
        last = fragment.end
    add(text[last:], last, len(text), aligned=True)
    return "".join(pieces)[:MAX_CHARACTERS], SourceMap(starts, spans)


def unwrap(text: str, signs: Callable[[str], frozenset[str]]) -> Unwrapped | None:
    """Decode what can be decoded, again and again up to MAX_PASSES; None when there was nothing.

    `signs` names the TRIGGERS that a text touches.
    """
    maps: list[SourceMap] = []
    encodings: list[str] = []
    squeezed = False
    for _ in range(MAX_PASSES):
        wanted = signs(text)
        found = fragments(text, wanted)
        if not found:
            break
        squeezed = squeezed or any(one.encoding == "spacing" and " " not in one.text for one in found)
        text, source_map = _substitute(text, found)
        maps.append(source_map)
        encodings += [name for name in dict.fromkeys(one.encoding for one in found) if name not in encodings]
    if not maps:
        return None
    return Unwrapped(text, tuple(maps), tuple(encodings), squeezed)


# --- whole-text disguises: same length, so positions stay as they are (reversed text counts from the end)

_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"}
_LEET_I = str.maketrans({**_LEET, "1": "i", "!": "i", "|": "i"})
_LEET_L = str.maketrans({**_LEET, "1": "l", "!": "l", "|": "l"})
_LEET_WORD = re.compile(r"[A-Za-z013457@$!|]{3,}")
_LEET_SIGN = re.compile(r"[013457@$]")


def _unleet(text: str, table: dict[int, str]) -> tuple[str, int]:
    words: set[str] = set()

    def reading(match: re.Match[str]) -> str:
        word = match.group()
        if _LEET_SIGN.search(word) is None or not any(letter.isalpha() for letter in word):
            return word
        words.add(word)
        return word.translate(table)

    return _LEET_WORD.sub(reading, text), len(words)


@dataclass(frozen=True, slots=True)
class Disguise:
    """A whole text read another way. `backwards` positions count from its end."""

    text: str
    name: str
    backwards: bool = field(default=False)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        if self.backwards:
            return len(self.text) - end, len(self.text) - start
        return start, end


def disguises(text: str, signs: frozenset[str]) -> list[Disguise]:
    """Other readings of the whole text that the signs make likely."""
    readings: list[Disguise] = []
    if "leet" in signs:
        for table in (_LEET_I, _LEET_L):
            reading, words = _unleet(text, table)
            if words >= 2 and all(reading != other.text for other in readings):
                readings.append(Disguise(reading, "leet"))
    if "rot13" in signs:
        readings.append(Disguise(codecs.encode(text, "rot13"), "rot13"))
    if "reversed" in signs:
        readings.append(Disguise(text[::-1], "reversed", backwards=True))
    return readings
