"""Bytes that are looked at: files, parts of files, and what comes out of compressed streams. None is held whole."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from services.inventory.modelfiles.report import Broken, Exhausted, Scan

CHUNK = 1 << 16
_LZMA_MEMORY = 96 << 20
"""Most that an LZMA dictionary may take: what a file asks for beyond is refused by the decoder itself."""
_UNRATED = 1 << 20
"""Compressed streams may grow to this whatever their ratio."""


class Source(Protocol):
    """Bytes by offset."""

    @property
    def size(self) -> int:
        """How many there are. Raises Broken or Exhausted where that takes reading."""

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end. Raises Broken or Exhausted."""


class FileSource:
    """An open file that can seek."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        count = min(count, self.size - offset)
        if offset < 0 or count <= 0:
            return b""
        self._file.seek(offset)
        return self._file.read(count)


class BytesSource:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count] if offset >= 0 and count > 0 else b""


class Part:
    """A range of another source; what lies beyond the other's end is not there."""

    def __init__(self, whole: Source, start: int, size: int) -> None:
        self._whole, self._start = whole, start
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        count = min(count, self.size - offset)
        return self._whole.read(self._start + offset, count) if offset >= 0 and count > 0 else b""


class Decoder(Protocol):
    """A streaming decompressor as bz2's and lzma's are: bounded output, `eof`, what it did not need."""

    def decompress(self, data: bytes, max_length: int) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Zlib:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, window_bits: int) -> None:
        self._object = zlib.decompressobj(window_bits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data


def _lz4() -> Decoder:
    import lz4.frame

    decoder: Decoder = lz4.frame.LZ4FrameDecompressor()
    return decoder


DECODERS: dict[str, Callable[[], Decoder]] = {
    "deflate": lambda: _Zlib(-zlib.MAX_WBITS),
    "zlib": lambda: _Zlib(zlib.MAX_WBITS),
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY),
    "lz4": _lz4,
}
_SEVERAL = ("gzip", "bzip2", "xz", "lz4")
"""Formats in which one stream may follow another; readers take them together."""


class Inflated:
    """What comes out of a compressed stream. Reading backwards starts it anew, and costs as much.

    Attributes:
        trailing: compressed bytes that lie behind the stream's end; known once it was read to its end.
    """

    def __init__(self, scan: Scan, packed: Source, kind: str) -> None:
        self._scan, self._packed, self._kind = scan, packed, kind
        self._size: int | None = None
        self.trailing = 0
        self._restart()

    def _restart(self) -> None:
        self._decoder = DECODERS[self._kind]()
        self._start = 0  # of the buffer, in what comes out
        self._buffer = b""
        self._fed = 0  # compressed bytes read so far
        self._ended = False

    @property
    def size(self) -> int:
        if self._size is None:
            while not self._ended:
                self._advance()
            self._size = self._start + len(self._buffer)
        return self._size

    def read(self, offset: int, count: int) -> bytes:
        if offset < 0:
            return b""
        if offset < self._start:
            self._restart()
        parts: list[bytes] = []
        while count > 0:
            inside = offset - self._start
            if inside < len(self._buffer):
                part = self._buffer[inside : inside + count]
                parts.append(part)
                offset += len(part)
                count -= len(part)
            elif self._ended:
                break
            else:
                self._advance()
        return b"".join(parts)

    def _advance(self) -> bytes:
        """Replace the buffer by the next piece."""
        at = self._start + len(self._buffer)
        try:
            piece = self._next()
        except (zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
            raise Broken(f"the {self._kind} stream is broken: {error}") from None
        self._scan.spend_inflated(len(piece))
        if at + len(piece) > _UNRATED and at + len(piece) > self._scan.limits.inflation_ratio * max(self._fed, 1):
            raise Exhausted(f"the {self._kind} stream grows more than {self._scan.limits.inflation_ratio} times")
        self._start, self._buffer = at, piece
        return piece

    def _next(self) -> bytes:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data or b""
                follows = rest or self._packed.read(self._fed, 64)
                if self._kind in _SEVERAL and follows[:2] == self._packed.read(0, 2):
                    self._fed -= len(rest)
                    self._decoder = DECODERS[self._kind]()
                    continue
                self.trailing = self._packed.size - self._fed + len(rest)
                self._ended = True
                return b""
            data = b""
            if self._decoder.needs_input:
                data = self._packed.read(self._fed, CHUNK)
                self._fed += len(data)
                self._scan.spend(len(data))
            piece = self._decoder.decompress(data, CHUNK)
            if piece:
                return piece
            if not data and self._decoder.needs_input and not self._decoder.eof:
                raise EOFError("it ends too early")


class Reader:
    """Reads a source from front to back through a small buffer."""

    def __init__(self, scan: Scan, source: Source, at: int = 0) -> None:
        self._scan, self.source = scan, source
        self._buffer = b""
        self._start = at  # of the buffer, in the source
        self._inside = 0

    @property
    def at(self) -> int:
        return self._start + self._inside

    def seek(self, offset: int) -> None:
        inside = offset - self._start
        if 0 <= inside <= len(self._buffer):
            self._inside = inside
        else:
            self._start, self._buffer, self._inside = offset, b"", 0

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes (a buffer at most) without going on."""
        if len(self._buffer) - self._inside < count:
            self._start += self._inside
            self._buffer = self.source.read(self._start, max(CHUNK, count))
            self._scan.spend(min(len(self._buffer), CHUNK))
            self._inside = 0
        return self._buffer[self._inside : self._inside + count]

    def byte(self) -> int:
        """The next byte; -1 at the end."""
        inside = self._inside
        if inside >= len(self._buffer):
            if not self.peek(1):
                return -1
            inside = self._inside
        self._inside = inside + 1
        return self._buffer[inside]

    def take(self, count: int) -> bytes:
        """Exactly that many bytes. Raises Broken at the end; the caller has bounded `count`."""
        inside = self._inside
        if inside + count <= len(self._buffer):
            self._inside = inside + count
            return self._buffer[inside : inside + count]
        if count <= CHUNK:
            data = self.peek(count)
            self._inside += len(data)
        else:
            data = self.source.read(self.at, count)
            self._scan.spend(len(data))
            self.seek(self.at + len(data))
        if len(data) < count:
            raise Broken("it ends too early")
        return data

    def skip(self, count: int) -> None:
        """Pass over bytes. Raises Broken when they are not there."""
        if count <= 0:
            if count < 0:
                raise Broken("a length is negative")
            return
        target = self.at + count
        if not self.source.read(target - 1, 1):
            raise Broken("it ends too early")
        self.seek(target)

    def line(self, limit: int = 1 << 20) -> bytes:
        """Up to the next line feed, without it. Raises Broken when there is none within the limit."""
        parts = b""
        while True:
            piece = self.peek(CHUNK)
            end = piece.find(b"\n")
            if end >= 0:
                self._inside += end + 1
                return parts + piece[:end]
            if not piece or len(parts) + len(piece) > limit:
                raise Broken("a line does not end")
            parts += piece
            self._inside += len(piece)

    @property
    def ended(self) -> bool:
        return not self.peek(1)
