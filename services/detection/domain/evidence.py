"""Showing what was found without repeating it: excerpts, placeholders, redaction, digests."""

from __future__ import annotations

import hmac
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CONTEXT = 60
_LONGEST = 240
# Letters and digits mixed, too long for a word: a key of a kind we have no rule for yet.
_OPAQUE = re.compile(r"(?=[A-Za-z0-9+/_\-]{0,200}[0-9])(?=[A-Za-z0-9+/_\-]{0,200}[A-Za-z])[A-Za-z0-9+/_\-]{24,}={0,2}")
_DIGITS = re.compile(r"\d(?:[ .\-]?\d){8,}")


@dataclass(frozen=True, slots=True, order=True)
class Sensitive:
    """A span of a text, in characters, that must not be shown; `label` says what it is, `rule_id` who found it."""

    start: int
    end: int
    label: str
    rule_id: str = ""


def placeholder(label: str) -> str:
    """What stands in place of a value, e.g. `[EMAIL_ADDRESS]`."""
    return f"[{label.upper()}]"


class Placeholders:
    """Names for what is taken out of an interaction: `[EMAIL_ADDRESS_1]`, and `_1` again for the same value.

    So the text still says who wrote to whom, and a model can answer with a name that can be put back.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {}

    def of(self, label: str, value: str) -> str:
        known = self._numbers.setdefault(label, {})
        number = known.setdefault(_same(value), len(known) + 1)
        return f"[{label.upper()}_{number}]"


def _same(value: str) -> str:
    """Equal for ways to write one value: case, and how digits are grouped."""
    value = value.casefold().strip()
    return value if any(one.isalpha() for one in value) else re.sub(r"[\s.()\-/]", "", value)


def _rank(span: Sensitive) -> tuple[bool, int]:
    return span.label.lower() != "phone_number", span.end - span.start


def merge(spans: Iterable[Sensitive]) -> list[Sensitive]:
    """The spans in order, overlapping ones joined under the label of the longer.

    A telephone number is the least that digits can be: any other number that they were checked for names them.
    """
    merged: list[Sensitive] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            longer = last if _rank(last) >= _rank(span) else span
            merged[-1] = Sensitive(last.start, max(last.end, span.end), longer.label, longer.rule_id)
        else:
            merged.append(span)
    return merged


def redact(text: str, spans: Iterable[Sensitive], names: Placeholders | None = None) -> str:
    """The text with each span replaced by its placeholder, or by what `names` calls its value."""
    pieces: list[str] = []
    last = 0
    for span in merge(spans):
        shown = placeholder(span.label) if names is None else names.of(span.label, text[span.start : span.end])
        pieces += (text[last : span.start], shown)
        last = span.end
    return "".join(pieces) + text[last:]


def excerpt(text: str, start: int, end: int, sensitive: Sequence[Sensitive]) -> str:
    """The match with a little of what surrounds it, masked, on one line.

    Masking happens before cutting: a key cut in half would no longer look like one.

    Args:
        sensitive: the spans that must not be shown, merged (see `merge`): a dump has hundreds, and an excerpt sees few.
    """
    end = min(end, start + _LONGEST)
    low, high = max(0, start - _CONTEXT), min(len(text), end + _CONTEXT)
    first = bisect_right(sensitive, low, key=lambda span: span.end)
    inside = sensitive[first : bisect_left(sensitive, high, lo=first, key=lambda span: span.start)]
    if inside:
        low, high = min(low, inside[0].start), max(high, inside[-1].end)
    shown = redact(text[low:high], (Sensitive(span.start - low, span.end - low, span.label) for span in inside))
    shown = _DIGITS.sub("[NUMBER]", _OPAQUE.sub("[OPAQUE]", shown))
    if not shown.isprintable():
        shown = "".join([one if one.isprintable() else " " for one in shown])
    shown = " ".join(shown.split())
    return ("…" if low else "") + shown[: _LONGEST + 2 * _CONTEXT] + ("…" if high < len(text) else "")


def digest(key: bytes, text: str) -> str:
    """A keyed digest of a text: tells whether two are equal to who holds the key, and nothing else."""
    return hmac.digest(key, text.encode(), "sha256").hex()[:32]
