"""JSON read strictly: what two parsers could understand differently is refused.

Duplicate keys, NaN and infinities, lone surrogates, NUL characters (PostgreSQL's text cannot hold them) and nesting
deeper than 32 are errors here, not surprises further in.
"""

from __future__ import annotations

import re
from typing import Any, cast

import jiter

DEPTH_LIMIT = 32
POINTER_LIMIT = 300
"""Longest pointer, in characters, that an error names; of a longer one the beginning."""

# Possessive, also in a string that never ends: giving back would make the time grow with the square of the text.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{}:,]', re.DOTALL)
_POSITION = re.compile(r" at line (\d+) column (\d+)$")
_WALKED_BYTES = 65_536  # some 10 ms at worst; who sends more looks at line and column


class NotStrictJson(ValueError):
    """The text is not JSON as we read it; the message says where and why.

    Attributes:
        pointer: JSON Pointer (RFC 6901) of the value that is wrong or that encloses what is, as far as it is known;
            empty for the whole document.
    """

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


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
                    raise NotStrictJson(f"nested deeper than {DEPTH_LIMIT} levels", _pointer(text, token.start()))
            case b"}" | b"]":
                depth -= 1


def _pointer(text: bytes, offset: int) -> str:
    """Pointer of the value in which the byte at `offset` lies; what is before it need not be JSON."""
    if offset > _WALKED_BYTES:
        return ""
    path: list[bytes | int | None] = []  # a member's name (None: not read yet) or an element's index, outermost first
    latest = b'""'
    for token in _TOKEN.finditer(text, 0, offset):
        match token.group()[:1]:
            case b"{":
                path.append(None)
            case b"[":
                path.append(0)
            case b"}" | b"]" if path:
                path.pop()
            case b":" if path and path[-1] is None:
                path[-1] = latest
            case b"," if path:
                place = path[-1]
                path[-1] = place + 1 if isinstance(place, int) else None
            case b'"' if token[1]:
                latest = token.group()
    pointer = ""
    for part in path:
        if part is None:
            break
        further = f"{pointer}/{part if isinstance(part, int) else _name(part)}"
        if len(further) > POINTER_LIMIT:
            break
        pointer = further
    return pointer


def _name(quoted: bytes) -> str:
    try:
        name = str(jiter.from_json(quoted))
    except ValueError:
        name = quoted[1:-1].decode(errors="replace")
    return name.replace("~", "~0").replace("/", "~1")


def _offset(text: bytes, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = text.find(b"\n", start) + 1
        if start > _WALKED_BYTES:
            break
    return start + max(column - 1, 0)


def loads(text: bytes) -> Any:
    """Parse one JSON document.

    Raises:
        NotStrictJson: malformed, or one of the ambiguities above.
    """
    _check_depth(text)
    if b"\\u0000" in text and (found := _ESCAPED_NUL.search(text)):
        raise NotStrictJson("a NUL character is not allowed in text", _pointer(text, found.start()))
    try:
        return cast(Any, jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True))
    except ValueError as error:
        position = _POSITION.search(str(error))
        pointer = _pointer(text, _offset(text, int(position[1]), int(position[2]))) if position else ""
        raise NotStrictJson(str(error), pointer) from error
