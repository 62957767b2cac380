"""Undoing what hides words from a filter: encodings, letter spacing, leet, shifted alphabets, reversed text.

Decoded fragments are put back where they stood, so that a half-encoded sentence reads as a whole and one more pass over
the result undoes nested encodings. Work is bounded: no pass grows a text beyond MAX_CHARACTERS, and `unwrap` makes at
most MAX_PASSES of them. Every pattern here is ours and linear; TRIGGERS lets the caller's own scan say which decoders
are worth trying at all.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import html
import itertools
import quopri
import re
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import re2

from services.detection.domain import folding
from services.detection.domain.candidates import Candidates, base64_runs, base85_runs, by_re, by_re2, quoted_printable
from services.detection.domain.runs import Searched, begins_utf8, spans_of

MAX_CHARACTERS = 65_536
MAX_PASSES = 3
_MAX_FRAGMENTS = 64
_MAX_TOKEN = 8_192
SHORT = 6_144
"""Characters up to which a text is read as a whole in every way; of a longer one, what is around signs of disguises."""
_REACH = 768
_MOST_AROUND = 16_384


_words = str.split
_LOWER = "abcdefghijklmnopqrstuvwxyz"
# Words that say what an attack wants, long enough to be no word of any language once they are shifted or reversed.
_TELLTALE = _words(
    """
    ignore disregard forget previous instruction prompt system reveal bypass override developer guideline
    restriction unrestricted refuse safety assistant password secret forward message credential
    """
)


def _shifted(by: int) -> dict[int, str]:
    """The table that moves letters back by so many places; 26 stands for the mirrored alphabet (atbash)."""
    there = _LOWER[::-1] if by == 26 else _LOWER[-by:] + _LOWER[:-by]
    return {ord(one): other for one, other in zip(_LOWER + _LOWER.upper(), there + there.upper(), strict=True)}


_SHIFTS = {by: _shifted(by) for by in range(1, 27)}
# What each telltale word looks like under each shift: `by` moves back, so the shifted form is the word moved forward.
_SHIFTED_WORDS = {
    word.translate(_SHIFTS[by if by == 26 else 26 - by]): by for by in _SHIFTS for word in _TELLTALE if len(word) >= 6
}


# Of pig latin only what its attacks need can be told back: `eviouspray` is evious and pr, or eviousp and r.
_PLAIN_WORDS = [
    *_TELLTALE,
    *(word + "s" for word in _TELLTALE),
    *_words(
        """
        your the all prior above rules show print tell hidden before told never does that request mode free
        do not this and forward below given with without can must should have here now then from to
        """
    ),
]


def _pig(word: str) -> str:
    vowel = next((at for at, letter in enumerate(word) if letter in "aeiou"), 0)
    return word[vowel:] + word[:vowel] + ("ay" if vowel else "way")


# Hyperscan patterns over the raw text, one an encoding: cheap signs that a decoder may find something.
TRIGGERS: dict[str, str] = {
    "base64": r"[A-Za-z0-9+/_-]{20}",
    "base64_pieces": (
        r"[A-Za-z0-9+/]{4,}={1,2}\s+[A-Za-z0-9+/]{4,}={0,2}\s|[A-Za-z0-9+/]{12,19}\r?\n[A-Za-z0-9+/]{12,19}\r?\n"
    ),
    "base32": r"[A-Z2-7]{24}|[a-z2-7]{24}",
    "base85": r"[!-~]{3}[#$%&()*+;<>?@^_`{|}~]+[!-~]{20}",
    "hex": r"(?:[0-9A-Fa-f]{2}[ :,-]?){10}|(?:0x[0-9A-Fa-f]{2}[ ,]{1,2}){6}",
    "octal": r"(?:[01][0-7]{2}[ ,]{1,2}){9}",
    "quoted_printable": r"=[2-7][0-9A-F].{0,40}\n?.{0,40}=[2-7][0-9A-F]",
    "escapes": r"(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\[01][0-7]{2}){3}|(?:[Uu]\+00[2-7][0-9A-Fa-f][ ,;]?){6}",
    "url": r"%[0-9A-Fa-f]{2}[^%\s]{0,24}%[0-9A-Fa-f]{2}",
    "entities": r"&#x?[0-9A-Fa-f]{2,6};[^&]{0,20}&#x?[0-9A-Fa-f]{2,6};",
    "binary": r"(?:[01]{8}[ ,]?){5}|(?:[01]{7}[ ,]){5}",
    "decimal": r"(?:[0-9]{2,3}[ ,]{1,2}){9}",
    "letter_numbers": r"(?:[12]?[0-9][-. ]){5}[12]?[0-9]",
    "morse": r"(?:[.-]{1,5}[ /|]{1,3}){8}",
    "spacing": r"[^\sA-Za-z0-9]?\b[A-Za-z](?:[ ._*|~-]{1,3}[A-Za-z]\b){5}",
    "leet": r"[A-Za-z][0134578@$!|+][A-Za-z01345789@$!|+]*[A-Za-z]|\b[1345@$!|][01345789@$!|+]*[A-Za-z]",
    "shifted": "(?i)" + "|".join(sorted(_SHIFTED_WORDS)),
    "reversed": "(?i)" + "|".join(word[::-1] for word in _TELLTALE),
    "pig_latin": "(?i)" + "|".join(_pig(word) for word in _TELLTALE),
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
    shown = _UNSEEN.sub("", text)
    strange = len(_STRANGE.findall(shown))
    letters = len(shown) - len(_NO_LETTER.findall(shown))
    if strange > 0.1 * len(shown) or letters < 0.35 * len(shown):
        return None
    return text if _WORD.search(shown) else None


_STRANGE = re.compile(r"[^\w\s.,:;!?'\"()\[\]{}<>/=@#-]")
_NO_LETTER = re.compile(r"[\W\d_]")
_WORD = re.compile(r"[^\W\d_]{3}|(?:[^\W\d_][ .]){4}")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff\u0300-\u036f]")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{40,76}\r?\n)*[A-Za-z0-9+/_-]{20,}={0,2}")
# From the start of a run only: in lines of 76 every place would be tried as the start of sixty.
_BASE64_PIECES = re.compile(r"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/]{4,60}={0,2}\s+){2,}[A-Za-z0-9+/]{2,60}={0,2}")
_BASE32 = re.compile(r"\b(?:[A-Z2-7]{24,}|[a-z2-7]{24,})={0,6}")
_BASE85 = re.compile(r"<~[!-~]{20,}~>|(?<![!-~])[!-~]{25,}(?![!-~])")
_HEX = re.compile(r"(?:0x[0-9A-Fa-f]{2}[ ,]{1,2}){5,}0x[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{2}[ :,-]?){9,}[0-9A-Fa-f]{2}")
_OCTAL = re.compile(r"(?:[01][0-7]{2}[ ,]{1,2}){9,}[01][0-7]{2}")
_QUOTED_PRINTABLE = re.compile(r"(?:[^\s=]{0,60}[ ]?=(?:[0-9A-F]{2}|\r?\n))+[^\s=]*")
_ESCAPES = re.compile(
    r"(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\u\{[0-9A-Fa-f]{1,6}\}|\\[01][0-7]{2})+"
    r"|(?:[Uu]\+[0-9A-Fa-f]{4}[ ,;]?){6,}"
)
_ESCAPE = re.compile(
    r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|\\u\{([0-9A-Fa-f]{1,6})\}|\\([01][0-7]{2})|[Uu]\+([0-9A-Fa-f]{4})[ ,;]?"
)
_URL = re.compile(r"(?<![^\s%])[^\s%]*(?:%[0-9A-Fa-f]{2}[^\s%]*){2,}")
_ENTITIES = re.compile(r"(?:&#x?[0-9A-Fa-f]{2,6};[^&]{0,20}){1,200}&#x?[0-9A-Fa-f]{2,6};")
_BINARY = re.compile(r"(?:[01]{8}[ ,]?){4,}[01]{8}|(?:[01]{7}[ ,]){4,}[01]{7}")
_DECIMAL = re.compile(r"(?:[0-9]{2,3}[ ,]{1,2}){9,}[0-9]{2,3}")
_LETTER_NUMBERS = re.compile(r"(?:[12]?[0-9](?:[-.]| ?[/ ] ?)){11,}[12]?[0-9](?![0-9])")
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
        data = base64.b64decode(compact + "=" * (-len(compact) % 4))
    except (binascii.Error, ValueError):
        return None
    # PowerShell's way, and so an attacker's: UTF-16, every other byte zero.
    return _readable(data[::2] if len(data) >= 12 and not any(data[1:24:2]) else data)


def _base64_pieces(token: str) -> str | None:
    """Base64 in short lines, or word by word; plain words before and after it stay."""
    pieces = token.split()
    for first in range(min(2, len(pieces))):
        if not _begins_as_text("".join(pieces[first : first + 5])[:16]):
            continue
        for last in range(len(pieces), max(first, len(pieces) - 3), -1):
            joined = _base64("".join(pieces[first:last]))
            if joined is not None:
                return " ".join([*pieces[:first], joined, *pieces[last:]])
    words = [_base64_word(piece) or piece for piece in pieces]
    changed = sum(word != piece for word, piece in zip(words, pieces, strict=True))
    return " ".join(words) if changed >= 3 else None


def _begins_as_text(token: str) -> bool:
    try:
        return begins_utf8(base64.b64decode(token.replace("=", "")[: len(token) // 4 * 4]))
    except (binascii.Error, ValueError):
        return True


def _base64_word(piece: str) -> str | None:
    try:
        word = base64.b64decode(piece + "=" * (-len(piece.rstrip("=")) % 4 - piece.count("="))).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    return word if word.isalpha() else None


def _base85(token: str) -> str | None:
    if token.startswith("<~"):
        decoders: tuple[Callable[[bytes], bytes], ...] = (lambda data: base64.a85decode(data, adobe=True),)
    else:
        decoders = (base64.b85decode, base64.a85decode)
    for decoder in decoders:
        try:
            # A path or an address is seen to be none by its first bytes, and need not be decoded whole.
            if token.startswith("<~") or all(
                begins_utf8(decoder(token[:size].encode())[: size // 2]) for size in (25, 125)
            ):
                text = _readable(decoder(token[:_MAX_TOKEN].encode()))
            else:
                continue
        except ValueError:
            continue
        if text is not None:
            return text
    return None


def _quoted_printable(token: str) -> str | None:
    text = quopri.decodestring(token.encode()).decode("utf-8", "replace")
    # `trace=45ab09` of a log is none: a word with a letter encoded has no figures.
    if token.count("=") == 1 and len(_FIGURE.findall(text)) >= _MANY_FIGURES:
        return None
    return text if text != token and text.isprintable() and _WORD.search(text) else None


_FIGURE = re.compile(r"[0-9]")
_MANY_FIGURES = 3


def _octal(token: str) -> str | None:
    return _readable(bytes(int(code, 8) for code in re.findall(r"[01][0-7]{2}", token)))


def _letter_numbers(token: str) -> str | None:
    """Letters by their places in the alphabet: 9-7-14-15-18-5, words parted by something wider."""
    words = re.split(r"\s*/\s*|\s{2,}" if "-" not in token and "." not in token else r"[\s/]+", token)
    letters = [[int(number) for number in re.findall(r"[0-9]+", word)] for word in words]
    if not all(1 <= number <= 26 for word in letters for number in word):
        return None
    text = " ".join("".join(_LOWER[number - 1] for number in word) for word in letters)
    return text if any(word in text for word in _TELLTALE) else None


def _base32(token: str) -> str | None:
    compact = token.rstrip("=").upper()
    try:
        return _readable(base64.b32decode(compact + "=" * (-len(compact) % 8)))
    except (binascii.Error, ValueError):
        return None


def _hex(token: str) -> str | None:
    digits = re.sub(r"0x|[ :,-]", "", token)
    return _readable(bytes.fromhex(digits)) if len(digits) % 2 == 0 else None


def _escapes(token: str) -> str | None:
    def character(match: re.Match[str]) -> str:
        code = int(match.group(4), 8) if match.group(4) else int(next(group for group in match.groups() if group), 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code <= 0xDFFF else ""

    if _FOUR_DIGITS.fullmatch(token):
        return bytes.fromhex(token.replace("\\u", "")).decode("utf-16-be", "ignore")
    return _ESCAPE.sub(character, token)


_FOUR_DIGITS = re.compile(r"(?:\\u[0-9A-Fa-f]{4})+")


def _url(token: str) -> str | None:
    text = urllib.parse.unquote_plus(token, errors="ignore")
    return text if text != token else None


def _binary(token: str) -> str | None:
    width = 7 if re.match(r"[01]{7}[ ,]", token) else 8
    bits = re.sub(r"[ ,]", "", token)
    return _readable(bytes(int(bits[at : at + width], 2) for at in range(0, len(bits) - width + 1, width)))


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


_DECODERS: dict[str, tuple[Candidates, Callable[[str], str | None]]] = {
    "escapes": (by_re2(_ESCAPES), _escapes),
    "entities": (by_re(_ENTITIES), html.unescape),
    "url": (by_re(_URL), _url),
    "quoted_printable": (quoted_printable(_QUOTED_PRINTABLE), _quoted_printable),
    "binary": (by_re2(_BINARY), _binary),
    "octal": (by_re2(_OCTAL), _octal),
    "decimal": (by_re2(_DECIMAL), _decimal),
    "letter_numbers": (by_re(_LETTER_NUMBERS), _letter_numbers),
    "hex": (by_re2(_HEX), _hex),
    "base32": (by_re2(_BASE32), _base32),
    "base64": (base64_runs(_BASE64), _base64),
    "base64_pieces": (by_re(_BASE64_PIECES), _base64_pieces),
    "base85": (base85_runs(_BASE85, _MAX_TOKEN), _base85),
    "morse": (by_re2(_MORSE_CODE), _morse),
    "spacing": (by_re(_SPACING), _spacing),
}


def fragments(text: str, encodings: frozenset[str]) -> list[Fragment]:
    """The encoded fragments of a text, in order and without overlap, earlier decoders first."""
    found: list[Fragment] = []
    # Of what was decoded, in order: a log has thousands of candidates, and each asks whether another took its place.
    starts: list[int] = []
    ends: list[int] = []
    searched = Searched(text)
    for name, (candidates, decode) in _DECODERS.items():
        if name not in encodings:
            continue
        for start, end in candidates(searched):
            if len(found) >= _MAX_FRAGMENTS:
                break
            at = bisect.bisect_right(ends, start)
            if at < len(starts) and starts[at] < end:
                continue
            token = text[start:end]
            decoded = decode(token)
            if decoded is not None and decoded != token:
                found.append(Fragment(start, end, decoded, name))
                starts.insert(at, start)
                ends.insert(at, end)
    for start, end, message in folding.smuggled(text) if not text.isascii() else ():
        found.append(Fragment(start, end, f" {message} ", "invisible"))
    return sorted(found, key=lambda fragment: fragment.start)


def substituted(text: str, found: list[Fragment]) -> tuple[str, SourceMap]:
    """The text with fragments in place of what they stand for, and where its pieces came from."""
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


def unwrap(text: str, signs: Callable[[str], frozenset[str]], known: frozenset[str] | None = None) -> Unwrapped | None:
    """Decode what can be decoded, again and again up to MAX_PASSES; None when there was nothing.

    `signs` names the TRIGGERS that a text touches; `known` are those of this one, where they are known already.
    """
    maps: list[SourceMap] = []
    encodings: list[str] = []
    for number in range(MAX_PASSES):
        wanted = signs(text) if number or known is None else known
        found = fragments(text, wanted)
        if not found:
            break
        text, source_map = substituted(text, found)
        maps.append(source_map)
        encodings += [name for name in dict.fromkeys(one.encoding for one in found) if name not in encodings]
    if not maps:
        return None
    return Unwrapped(text, tuple(maps), tuple(encodings))


def around(spans: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The stretches of a text of that length that lie within _REACH of spans of it; overlapping ones are one.

    The densest are first, and together they are no longer than _MOST_AROUND, but for one that is by itself: an attack
    has several of its words in one place, and what is strewn over a long text to wear this out has not.
    """
    stretches: list[list[int]] = []
    for start, end in sorted(spans):
        low, high = max(0, start - _REACH), min(length, end + _REACH)
        if stretches and low <= stretches[-1][1]:
            stretches[-1][1] = max(stretches[-1][1], high)
            stretches[-1][2] += 1
        else:
            stretches.append([low, high, 1])
    kept: list[tuple[int, int]] = []
    total = 0
    for low, high, _ in sorted(stretches, key=lambda one: one[2] / (one[0] - one[1])):
        total += high - low
        if kept and total > _MOST_AROUND:
            break
        kept.append((low, high))
    return kept


def encoded_parts(text: str, signs: frozenset[str]) -> list[tuple[int, int]]:
    """The parts of a text that are worth unwrapping: around encoded fragments of a long one, all of a short one."""
    if len(text) <= SHORT:
        return [(0, len(text))]
    return around(((one.start, one.end) for one in fragments(text, signs)), len(text))


def disguised_parts(text: str, signs: frozenset[str]) -> list[tuple[int, int]]:
    """The parts of a text that are worth reading as disguised: around signs of it in a long one, all of a short one."""
    if len(text) <= SHORT:
        return [(0, len(text))]
    data = text.encode()
    lower = data.lower()
    spans: list[tuple[int, int]] = []
    if "leet" in signs:
        for swap in (_SWAP_I, _SWAP_L) if b"1" in lower or b"|" in lower else (_SWAP_I,):
            swapped = lower.translate(swap)
            spans += [span for span in spans_of(_TELLS, swapped) if lower[slice(*span)] != swapped[slice(*span)]]
    for sign, pattern in (("shifted", _SHIFTED), ("reversed", _REVERSED), ("pig_latin", _PIG)):
        if sign in signs:
            spans += [match.span() for match in itertools.islice(pattern.finditer(lower), _MAX_FRAGMENTS)]
    parts = around(spans, len(data))
    if len(data) == len(text):
        return parts
    return [
        (begin := len(data[:low].decode("utf-8", "ignore")), begin + len(data[low:high].decode("utf-8", "ignore")))
        for low, high in parts
    ]


# --- whole-text disguises: same length, so positions stay as they are (reversed text counts from the end)

_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "+": "t"}
_LEET_I = str.maketrans({**_LEET, "1": "i", "!": "i", "|": "i"})
_LEET_L = str.maketrans({**_LEET, "1": "l", "!": "i", "|": "l"})
_SWAP_I = bytes.maketrans(b"0345789@$+1!|", b"oeastbgastiii")
_SWAP_L = bytes.maketrans(b"0345789@$+1!|", b"oeastbgastlil")
_TELLS = re2.compile(
    "|".join(
        [
            *_TELLTALE,
            "answer",
            "above",
            "rules",
            "jailbreak",
            "filter",
            "policy",
            "policies",
            "training",
            "hidden",
            "anything",
            "everything",
            "illegal",
            "never",
            "mode",
            "execute",
            "unfiltered",
            "request",
            "user",
        ]
    ).encode()
)
_LEET_WORD = re.compile(r"[A-Za-z01345789@$!|+]{2,}")
_LEET_SIGN = re.compile(r"[013457@$!|+]")
_LEET_END = re.compile(r"[!|+]+$")


def _unleet(text: str, table: dict[int, str]) -> tuple[str, int]:
    words: set[str] = set()

    def reading(match: re.Match[str]) -> str:
        word = match.group()
        end = _LEET_END.search(word)
        inner = word[: end.start()] if end else word  # an exclamation mark at the end is one
        if _LEET_SIGN.search(inner) is None or not any(letter.isalpha() or letter in "@$" for letter in inner):
            return word
        words.add(word)
        return inner.translate(table) + word[len(inner) :]

    return _LEET_WORD.sub(reading, text), len(words)


DISGUISES = frozenset({"leet", "shifted", "reversed", "pig_latin"})
"""The signs of disguises."""


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
        data = text.lower().encode()
        told = len(spans_of(_TELLS, data))
        for table, swap in ((_LEET_I, _SWAP_I), (_LEET_L, _SWAP_L)):
            # Digits and e-mail addresses are everywhere; only a text that says more of attacks without them is read on.
            if len(spans_of(_TELLS, data.translate(swap))) > told:
                reading, words = _unleet(text, table)
                if words >= 2 and all(reading != other.text for other in readings):
                    readings.append(Disguise(reading, "leet"))
    if "shifted" in signs:
        for by in dict.fromkeys(
            _SHIFTED_WORDS[match.group().decode()]
            for match in itertools.islice(_SHIFTED.finditer(text.lower().encode()), _MAX_FRAGMENTS)
        ):
            readings.append(Disguise(text.translate(_SHIFTS[by]), "rot13" if by == 13 else "shifted alphabet"))
            if len(readings) >= _MAX_DISGUISES:
                break
    if "reversed" in signs:
        readings.append(Disguise(text[::-1], "reversed", backwards=True))
        readings.append(Disguise(_LETTERS.sub(lambda match: match.group()[::-1], text), "reversed"))
    if "pig_latin" in signs:
        readings.append(Disguise(_LETTERS.sub(lambda match: _unpig(match.group()), text), "pig latin"))
    return readings


_SHIFTED = re2.compile("|".join(sorted(_SHIFTED_WORDS)).encode())
_REVERSED = re2.compile("|".join(word[::-1] for word in _TELLTALE).encode())
_PIG = re2.compile("|".join(_pig(word) for word in _TELLTALE).encode())
_LETTERS = re.compile("[A-Za-z]{2,}")
_MAX_DISGUISES = 6
_PIG_WORDS = {_pig(word): word for word in _PLAIN_WORDS}


def _unpig(word: str) -> str:
    """The word that a word of pig latin stands for, made as long as that one is: positions stay."""
    lower = word.lower()
    if not lower.endswith("ay") or len(lower) < 4:
        return word
    plain = _PIG_WORDS.get(lower) or lower[:-2].removesuffix("w")
    return plain.ljust(len(word))
