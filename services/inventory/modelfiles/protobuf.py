"""Protocol buffers by their wire form: fields as (number, kind, value or range), without schema or copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.inventory.modelfiles.report import Broken, Scan
from services.inventory.modelfiles.source import Reader, Source

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEPTH_LIMIT = 64
TEXT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """One field: a number as `value`, or the range of bytes from `start` to `end`."""

    number: int
    kind: int
    value: int
    start: int
    end: int


class Message:
    """A message that lies between two offsets of a source."""

    def __init__(self, scan: Scan, source: Source, start: int = 0, end: int | None = None, depth: int = 0) -> None:
        if depth > DEPTH_LIMIT:
            raise Broken("messages within messages, too deep")
        self.scan, self.source, self.depth = scan, source, depth
        self.start, self.end = start, source.size if end is None else end

    def fields(self) -> Iterator[Field]:
        """Every field in order. Raises Broken when the bytes are no message."""
        reader = Reader(self.scan, self.source, self.start)
        while reader.at < self.end:
            tag = self._varint(reader)
            number, kind = tag >> 3, tag & 7
            at = reader.at
            if number == 0:
                raise Broken("field number 0")
            if kind == VARINT:
                yield Field(number, kind, self._varint(reader), at, reader.at)
            elif kind == BYTES:
                size = self._varint(reader)
                at = reader.at
                if at + size > self.end:
                    raise Broken("a field is longer than its message")
                yield Field(number, kind, size, at, at + size)
                reader.seek(at + size)
            elif kind in (FIXED64, FIXED32):
                width = 8 if kind == FIXED64 else 4
                yield Field(number, kind, int.from_bytes(reader.take(width), "little"), at, at + width)
            else:
                raise Broken(f"wire type {kind}")
        if reader.at != self.end:
            raise Broken("a field is longer than its message")

    @staticmethod
    def _varint(reader: Reader) -> int:
        value = shift = 0
        while True:
            byte = reader.byte()
            if byte < 0:
                raise Broken("it ends too early")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Broken("a number of more than 64 bits")

    def within(self, field: Field) -> Message:
        """The message that a field holds."""
        if field.kind != BYTES:
            raise Broken("a number where a message belongs")
        return Message(self.scan, self.source, field.start, field.end, self.depth + 1)

    def text(self, field: Field, limit: int = TEXT_LIMIT) -> str:
        """The text that a field holds. Raises Broken when it is longer than the limit."""
        if field.kind != BYTES or field.end - field.start > limit:
            raise Broken("no text, or a very long one, where a name belongs")
        return self.source.read(field.start, field.end - field.start).decode("utf-8", "replace")
