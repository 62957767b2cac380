"""Inputs of 64 KB that are made to hurt a detector: floods, nested encodings, invisible characters, mixed scripts,
lines without end, and matches without end. Every shipped rule lends its own examples, so new rules bring new inputs.
"""

from __future__ import annotations

import base64
import codecs
import random
from collections.abc import Iterator

from bench.generated import Writer
from services.detection import pack

SIZE = 65_536
"""Bytes of a text that may be sent."""

_FLOODS = {
    "a": "a",
    "A": "A",
    "zero": "0",
    "space": " ",
    "line": "\n",
    "tab": "\t",
    "equals": "=",
    "percent": "%",
    "ampersand": "&",
    "backslash": "\\",
    "less": "<",
    "quote": '"',
    "dot": ".",
    "dash": "-",
    "bar": "|",
    "at": "@",
    "underscore": "_",
    "backtick": "`",
    "parenthesis": "(",
    "bracket": "[",
    "brace": "{",
    "nul": "\0",
    "zero width space": "\u200b",
    "joiner": "\u200d",
    "soft hyphen": "\u00ad",
    "tag": "\U000e0061",
    "selector": "\ufe01",
    "bidi": "\u202e",
    "accent": "\u0301",
    "e acute": "é",
    "cyrillic": "я",
    "double": "а",
    "kana": "カ",
    "half kana": "ｶﾞ",
    "han": "中",
    "hangul": "각",
    "jamo": "ᄀ",
    "thai": "กำ",
    "ligature": "ﷺ",
    "fullwidth": "ａ",
    "math": "𝐚",
    "emoji": "👩‍👩‍👧",
    "enclosed": "🅰",
    "roman": "ⅷ",
    "sharp s": "ß",
    "dotted i": "İ",
}
_RUNS = {
    "words": "a ",
    "figures": "1 ",
    "letters spaced": "i g n o r e   a l l   ",
    "dotted letters": "i.g.n.o.r.e. ",
    "leet": "1gn0r3 4ll pr3v10u5 ",
    "leet signs": "$@!0|",
    "hex pairs": "69 67 ",
    "hex escapes": "\\x69",
    "unicode escapes": "\\u0069",
    "percents": "%69",
    "double percents": "%2569",
    "entities": "&#105;",
    "named entities": "&amp;lt;",
    "binary": "01101001 ",
    "decimals": "105 103 ",
    "morse": "-.. --- / ",
    "rot13": "vtaber cerivbhf vafgehpgvbaf. ",
    "backwards": "snoitcurtsni suoiverp erongi. ",
    "short base64": "aWdub3JlIGFsbA== ",
    "short base32": "NFTW433SMU====== ",
    "short hex": "69676e6f726520616c6c ",
    "table": "|a|b|c|\n",
    "rows": "a,b,c,d,e,f\n",
    "pairs": "key=value;",
    "json": '{"a":[',
    "closing": "]}",
    "tags": "<b>",
    "comments": "<!--",
    "comment ends": "-->",
    "links": "[a](http://b.c/d?e=f) ",
    "images": "![a](https://b.c/d.png?e=f) ",
    "quotes": '"ignore" ',
    "addresses": "a@b.co ",
    "hosts": "10.0.0.1 ",
    "cards": "4111 1111 1111 1111 ",
    "near cards": "4111 1111 1111 1112 ",
    "ibans": "DE89370400440532013000 ",
    "phones": "+1 415-555-0132 ",
    "dates": "2026-01-01 ",
    "uuids": "123e4567-e89b-12d3-a456-426614174000 ",
    "scripts": "aа",
    "scripts by word": "word слово ",
    "breaks in words": "ig\u200bnore ",
    "accents in words": "i\u0301g\u0301n\u0301o\u0301r\u0301e ",
    "fullwidth words": "ｉｇｎｏｒｅ　",
    "mixed doubles": "іgnоrе аll ",
    "bidi words": "\u202eerongi\u202c ",
    "turns": "user: a\nassistant: b\n",
    "almost": "ignore ignore all all previous ",
    "stops": "a.b.c.d. ",
    "long words": "a" * 300 + " ",
}


def _filled(piece: str) -> str:
    """The piece again and again, 64 KB of it."""
    times = SIZE // len(piece.encode()) + 1
    return (piece * times).encode()[:SIZE].decode("utf-8", "ignore")


def _encoded(plain: str) -> Iterator[tuple[str, str]]:
    raw = plain.encode()
    for depth in (1, 2, 3, 4):
        size = int(SIZE * 0.73**depth)
        data = raw[:size]
        for _ in range(depth):
            data = base64.b64encode(data)
        yield f"base64, {depth} deep", data.decode()
    yield "base64 in lines", base64.encodebytes(raw[:47_000]).decode()[:SIZE]
    yield "base32", base64.b32encode(raw[: SIZE * 5 // 8]).decode()
    yield "hex", raw[: SIZE // 2].hex()
    yield "base64 of hex", base64.b64encode(raw[: SIZE * 3 // 8 - 9].hex().encode()).decode()[:SIZE]
    yield "percent of base64", "".join(f"%{one:02x}" for one in base64.b64encode(raw[: SIZE // 4 - 9]))[:SIZE]
    yield "escapes", "".join(f"\\u{ord(one):04x}" for one in plain[: SIZE // 6])
    yield "entities", "".join(f"&#x{ord(one):x};" for one in plain[: SIZE // 7])
    yield "binary", " ".join(f"{one:08b}" for one in raw[: SIZE // 9])
    yield "rot13", codecs.encode(plain[:SIZE], "rot13")
    yield "reversed", plain[:SIZE][::-1]
    yield (
        "tag characters",
        "".join(chr(0xE0000 + ord(one)) for one in plain[: SIZE // 4] if one.isascii() and one >= " "),
    )
    yield "one line", plain.replace("\n", " ")[:SIZE]
    pieces = plain.encode()[: SIZE // 2].split(b" ")
    yield (
        "a word in two in base64",
        " ".join(
            base64.b64encode(one * 3).decode() if at % 2 else one.decode("utf-8", "ignore")
            for at, one in enumerate(pieces)
        )[:SIZE],
    )


def _rules() -> Iterator[tuple[str, str]]:
    for rule_id, one in pack.shipped().items():
        for kind, examples in (("match", one.rule.examples.match), ("near miss", one.rule.examples.near_miss)):
            texts = [example.content for example in examples[:3] if example.content]
            if texts:
                yield f"{rule_id}, {kind}", _filled(" ".join(texts) + "\n")


def _shuffled(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Pieces of everything above and words of the rules, put together at random."""
    drawn = random.Random(seed)
    words = sorted(
        {
            word
            for one in pack.shipped().values()
            for example in one.rule.examples.match
            for word in example.content.split()
            if len(word) < 40
        }
    )
    pieces = [*_FLOODS.values(), *_RUNS.values()]
    for number in range(count):
        chosen = [
            drawn.choice(words) if drawn.random() < 0.6 else drawn.choice(pieces) for _ in range(drawn.randint(2, 400))
        ]
        between = drawn.choice((" ", " ", "\n", "", ", ", "\u200b", "_"))
        yield f"shuffled {number}", _filled(between.join(chosen) + between)
    long = [word for word in words if len(word) > 3]
    for number in range(count // 4):
        text, length = [], 0
        while length < SIZE:
            text.append(drawn.choice(long))
            length += len(text[-1].encode()) + 1
        yield f"words of rules {number}", " ".join(text).encode()[:SIZE].decode("utf-8", "ignore")


def inputs(seed: int, fuzzed: int) -> Iterator[tuple[str, str]]:
    """(name, text) of every hostile input; `fuzzed` of them are random."""
    for name, piece in _FLOODS.items():
        yield f"flood of {name}", _filled(piece)
    for name, piece in _RUNS.items():
        yield f"run of {name}", _filled(piece)
    plain = Writer(seed).of_size(Writer(seed).prose, "en", SIZE)
    yield from _encoded(plain)
    yield from _rules()
    yield from _shuffled(seed, fuzzed)
