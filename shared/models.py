"""Bases for what comes in and goes out over HTTP."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
)

T = TypeVar("T")


class In(BaseModel):
    """A request body: a field we do not know is refused, so that a typing error never passes silently."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=65_536)


class Out(BaseModel):
    """A view: what a caller may see, never a row as it is."""

    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class PageOf(Out, Generic[T]):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


# Letters and a symbol by their category, and yet empty on the screen: Hangul fillers, Braille without a dot, and a note
# without a head.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159")


def _visible(text: str) -> str:
    if not text or "!" <= text[0] <= "~":
        return text
    if any(unicodedata.category(character)[0] in "LNPS" and character not in _BLANK for character in text):
        return text
    raise ValueError("it has no visible character")


Visible = AfterValidator(_visible)
"""Of a text: unless empty, it has a letter, digit, punctuation mark or symbol, so that a person can see that it is
there. What is only spaces, zero-width or formatting characters names nothing and passes for what it is not."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), Visible]
Text = Annotated[str, Field(max_length=20_000)]


def _written(value: Any) -> Any:
    """pydantic takes the number 0.5 for a moment in 1970; a date or instant that was meant is written out."""
    if isinstance(value, date | datetime) or (isinstance(value, str) and len(value) >= 10 and value[4:5] == "-"):
        return value
    raise ValueError("write it as in RFC 3339, e.g. 2026-11-22T18:30:00Z or 2026-11-22")


Instant = Annotated[AwareDatetime, BeforeValidator(_written, json_schema_input_type=AwareDatetime)]
"""A moment with its offset from UTC."""
Day = Annotated[date, BeforeValidator(_written, json_schema_input_type=date)]
Flag = Annotated[bool, Strict()]
"""true or false, not "yes" or 1."""
