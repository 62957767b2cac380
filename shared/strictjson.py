"""JSON read strictly: what two parsers could understand differently is refused.

Duplicate keys, NaN and infinities, lone surrogates, NUL characters (PostgreSQL's text cannot hold them) and nesting
deeper than 32 are errors here, not surprises further in.
"""

from __future__ import annotations

import re
from typing import Any, cast

import jiter

DEPTH_LIMIT = 32

_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class NotStrictJson(ValueError):
    """The text is not JSON as we read it; the message says where and why."""


def _check_depth(text: bytes) -> None:
    # Counting brackets is a memchr; only a text that could nest too deep is walked.
    if text.count(b"{") + text.count(b"[") <= DEPTH_LIMIT:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        match token.group()[:1]:
            case b"{" | b"[":
                depth += 1
                if depth > DEPTH_LIMIT:
                    raise NotStrictJson(f"nested deeper than {DEPTH_LIMIT} levels")
            case b"}" | b"]":
                depth -= 1


def loads(text: bytes) -> Any:
    """Parse one JSON document.

    Raises:
        NotStrictJson: malformed, or one of the ambiguities above.
    """
    _check_depth(text)
    if b"\\u0000" in text and _ESCAPED_NUL.search(text):
        raise NotStrictJson("a NUL character is not allowed in text")
    try:
        return cast(Any, jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True))
    except ValueError as error:
        raise NotStrictJson(str(error)) from error
