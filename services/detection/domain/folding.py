"""Folding of characters that look alike, or like nothing, to the ones that a reader sees.

The tables are our own selection: what attackers use to hide words from filters, kept small so that ordinary text in
any of the world's scripts stays itself. A Cyrillic or Greek letter is taken for its Latin double only inside a word
that also has Latin letters, or where a word is made of doubles alone while the text has no other word of that script.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from array import array
from collections.abc import Iterator

TAG_BASE = 0xE0000


def _ranges(*bounds: tuple[int, int]) -> Iterator[int]:
    for low, high in bounds:
        yield from range(low, high + 1)


# Invisible or control: nothing a reader sees. U+200D and U+FE0F are part of ordinary emoji, so removing them is silent;
# whether their presence means anything is `hidden_characters`' question.
_INVISIBLE = frozenset(
    _ranges(
        (0x00, 0x08),
        (0x0E, 0x1F),
        (0x7F, 0x84),
        (0x86, 0x9F),
        (0xAD, 0xAD),
        (0x34F, 0x34F),
        (0x61C, 0x61C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF9, 0xFFFB),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0000, 0xE0FFF),
    )
)
# Marks that modify Latin, Greek and Cyrillic letters. Vowel signs of other scripts are not here: without them Hindi or
# Thai would be different words.
_ACCENTS = frozenset(_ranges((0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F)))
_SPACES = frozenset((0x0B, 0x0C, 0x85, 0x1680, 0x2028, 0x2029, 0x2800))


def _pairs(listed: str) -> dict[int, str]:
    """Two-letter words, the character and its double, as a translation table."""
    return {ord(pair[0]): pair[1] for pair in listed.split()}


# Latin letters that NFKC leaves alone: small capitals, turned and stroked letters, and enclosed capitals.
_STYLED = {
    **_pairs("ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz"),
    **_pairs("ɐa ɔc ǝe ɟf ɥh ᴉi ɾj ʞk ɯm ɹr ʇt ʌv ʍw ʎy"),
    **_pairs("ıi ȷj ɡg ɑa ɩi ʋv łl øo đd ħh ŧt ƒf ɛe ɨi ʉu"),
    **dict(zip(map(ord, "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵"), "abcdefghijklmnopqrstuvwxyz", strict=True)),
    **{code: chr(ord("a") + index) for index, code in enumerate(range(0x1F150, 0x1F16A))},
    **{code: chr(ord("a") + index) for index, code in enumerate(range(0x1F170, 0x1F18A))},
    **{code: chr(ord("a") + index) for index, code in enumerate(range(0x1F1E6, 0x1F200))},
}
# Their capitals too (a Polish or Vietnamese sentence may begin with one), which case folding reaches only afterwards.
_STYLED.update(
    {
        ord(upper): _STYLED[code]
        for code in list(_STYLED)
        if len(upper := chr(code).upper()) == 1 and not upper.isascii()
    }
)
_TABLE: dict[int, str | None] = {
    **dict.fromkeys(_INVISIBLE, None),
    **dict.fromkeys(_ACCENTS, None),
    **dict.fromkeys(_SPACES, " "),
    **_STYLED,
}

_CYRILLIC = _pairs(
    "аa сc ԁd еe ԍg һh іi јj кk ӏl мm нh оo рp ԛq гr ѕs тt ѵv ԝw хx уy ьb вb зz иu йu пn яr цu "
    "АA ВB СC ЕE НH ІI ЈJ КK МM ОO РP ТT ХX УY ЅS ԌG ԚQ ԜW ИN ЯR"
)
_GREEK = _pairs("αa βb ϲc εe ηn ιi κk νv οo ρp τt υu χx γy ωw σo δd ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX")
_ARMENIAN = _pairs("օo ոn սu հh ցg յj քf զq ՕO ՍU ԼL ՏS")
_CHEROKEE = _pairs("ᎪA ᏴB ᏟC ᎠD ᎬE ᎶG ᎻH ᎥI ᎫJ ᏦK ᏞL ᎷM ᏢP ᏒR ᏚS ᎢT ᏙV ᏔW ᎩY ᏃZ")
_DOUBLES: dict[int, str] = {**_CYRILLIC, **_GREEK, **_ARMENIAN, **_CHEROKEE}
_FOREIGN = "\u0370-\u03ff\u0400-\u052f\u0530-\u058f\u13a0-\u13ff"
_FOREIGN_RUN = re.compile(rf"[{_FOREIGN}][^\W\d_]*")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile("[A-Za-z]")
_FOREIGN_LETTER = re.compile(f"[{_FOREIGN}]")

PLAIN_ASCII = re.compile(r"[\t\n\r\x20-\x7e]*")
_RUN = re.compile(r"[^\t\n\r\x20-\x7e]+")


def undouble(text: str) -> tuple[str, int]:
    """Replace foreign doubles of Latin letters, one for one, and count the words that mixed the scripts."""
    if _FOREIGN_LETTER.search(text) is None:
        return text, 0
    mixed = 0
    genuine = False
    words: list[tuple[int, int, bool]] = []
    last = 0
    for match in _FOREIGN_RUN.finditer(text):
        start, end = match.span()
        while start > last and _LETTER.match(text, start - 1):
            start -= 1
        word = text[start:end]
        last = end
        latin = _LATIN.search(word) is not None
        # A genuine word of the script has letters without a double. The odd symbol (a Greek mu in a unit) is no word.
        if not latin and len(word) > 2 and any(ord(letter) not in _DOUBLES for letter in word):
            genuine = True
        if latin and len(word) > 3 and sum(ord(letter) in _DOUBLES for letter in word) > 0:
            mixed += 1
        words.append((start, end, latin))
    if not any(latin for _, _, latin in words) and genuine:
        return text, 0
    pieces: list[str] = []
    last = 0
    for start, end, latin in words:
        word = text[start:end]
        if latin or (not genuine and all(ord(letter) in _DOUBLES for letter in word)):
            pieces += (text[last:start], word.translate(_DOUBLES))
            last = end
    return "".join(pieces) + text[last:], mixed


def _fold_long(run: str) -> str:
    # Small letters first: the tables know these, and `Ø` has no other way to become the `o` that `ø` is.
    decomposed = unicodedata.normalize("NFKD", run).casefold().translate(_TABLE)
    return unicodedata.normalize("NFKC", decomposed).casefold().lower()


_fold_short = functools.lru_cache(maxsize=16_384)(_fold_long)


def _fold_match(match: re.Match[str]) -> str:
    return _folded_run(match.group())


def _folded_run(run: str) -> str:
    return _fold_short(run) if len(run) <= 24 else _fold_long(run)


def fold(text: str) -> str:
    """Text as a reader sees it: compatibility forms, accents and styles gone, invisible characters out, case folded.

    Runs outside printable ASCII are folded apart, which is exact: once the accents are gone, nothing composes with an
    ASCII neighbour. Prose repeats the same few runs, hence the cache.
    """
    if text.isascii() and PLAIN_ASCII.fullmatch(text):
        return text.lower()
    return _RUN.sub(_fold_match, text).lower()


@functools.lru_cache(maxsize=8_192)
def _continues(character: str) -> bool:
    """True when a character can melt into the one before: marks, joining Hangul, and what folds to nothing."""
    decomposed = unicodedata.normalize("NFKD", character).translate(_TABLE)
    if not decomposed:
        return True
    first = decomposed[0]
    return unicodedata.category(first)[0] == "M" or 0x1160 <= ord(first) <= 0x11FF


def _run_offsets(run: str) -> tuple[str, tuple[int, ...]]:
    """A run outside ASCII folded, and where in it each character of the result comes from."""
    pieces: list[str] = []
    offsets: list[int] = []
    start = 0
    for end in range(1, len(run) + 1):
        if end < len(run) and _continues(run[end]):
            continue
        piece = _folded_run(run[start:end])
        pieces.append(piece)
        offsets.extend([start] * len(piece))
        start = end
    return "".join(pieces), tuple(offsets)


_short_offsets = functools.lru_cache(maxsize=4_096)(_run_offsets)


def fold_with_offsets(text: str) -> tuple[str, array[int]]:
    """As `fold`, with the position in `text` of each character of the result, and one more for its end.

    Called only when something was found: outside ASCII it takes about a microsecond a character.
    """
    pieces: list[str] = []
    offsets = array("l")
    last = 0
    for run in _RUN.finditer(text):
        pieces.append(text[last : run.start()].lower())
        offsets.extend(range(last, run.start()))
        start = run.start()
        folded, within = _short_offsets(run.group()) if len(run.group()) <= 24 else _run_offsets(run.group())
        pieces.append(folded)
        offsets.extend([start + offset for offset in within])
        last = run.end()
    pieces.append(text[last:].lower())
    offsets.extend(range(last, len(text) + 1))
    return "".join(pieces), offsets


_UNSEEN = "[\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0]"
_ONE_UNSEEN = re.compile(_UNSEEN)
_BETWEEN_LETTERS = re.compile(f"(?<=[A-Za-z]){_UNSEEN}+(?=[A-Za-z])")
_TAGS = re.compile("[\U000e0020-\U000e007f]{4,}")
_FLAG = "\U0001f3f4"
# What messages that no font shows are written in: ordinary text has none, and one look for them is all it costs.
_UNSHOWN = re.compile("[\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0020-\U000e007f\U000e0100-\U000e01ef]")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
# Two or more kinds in a row, dozens long: no emoji or script joins anything that way.
_ZERO_WIDTH = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff]{40,}")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")


def invisible_breaks(text: str) -> list[tuple[int, int]]:
    """Spans of invisible characters inside Latin words: no writing system needs them there.

    Soft hyphens are none: publishers put them into every long word.
    """
    first = _ONE_UNSEEN.search(text)
    return [] if first is None else [match.span() for match in _BETWEEN_LETTERS.finditer(text, first.start())]


def bidi_controls(text: str) -> int:
    return len(_BIDI.findall(text))


def smuggled(text: str) -> list[tuple[int, int, str]]:
    """Messages written in characters that no font shows: tags, bytes as variation selectors, bits as zero-width ones.

    The flags of England, Scotland and Wales are spelt in tag characters too; those are left out.
    """
    found: list[tuple[int, int, str]] = []
    if _UNSHOWN.search(text) is None:
        return found
    for match in _TAGS.finditer(text):
        if match.start() and text[match.start() - 1] == _FLAG:
            continue
        found.append((*match.span(), "".join(chr(ord(tag) - TAG_BASE) for tag in match.group() if ord(tag) < 0xE007F)))
    for match in _SELECTORS.finditer(text):
        values = bytes(ord(one) - 0xFE00 if ord(one) < 0xFE10 else ord(one) - 0xE0100 + 16 for one in match.group())
        message = values.decode("utf-8", "replace")
        if message.isprintable():
            found.append((*match.span(), message))
    for match in _ZERO_WIDTH.finditer(text):
        found += [(*match.span(), message) for message in _bits(match.group())][:1]
    return found


def _bits(run: str) -> Iterator[str]:
    """The texts that a run of two kinds of invisible characters spells as bits; a third kind parts the bytes."""
    kinds = sorted(set(run), key=run.index)
    for zero, one in itertools.permutations(kinds[:3], 2):
        bits = "".join("0" if kind == zero else "1" for kind in run if kind in (zero, one))
        for width in (8, 7):
            values = bytes(int(bits[at : at + width], 2) for at in range(0, len(bits) - width + 1, width))
            if values.isascii() and (message := values.decode("ascii")).isprintable() and len(message) >= 5:
                yield message
