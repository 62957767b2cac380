"""Answers that are made faster, or slower, than the client reads them: in memory while small, beyond that in a file."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator

SPOOL_IN_MEMORY_BYTES = 1_048_576


class Spool:
    """What is sent, between those who make it and the client who reads it; never holds up the former."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY_BYTES)  # noqa: SIM115  # closed by close()
        self._written = 0
        self._read = 0
        self._more = asyncio.Event()
        self._ended = False

    def write(self, text: bytes) -> None:
        if self._read == self._written and self._written:
            # Everything was read: start over, so that a client that keeps up costs one small buffer.
            self._file.seek(0)
            self._file.truncate()
            self._read = self._written = 0
        self._file.seek(self._written)
        self._file.write(text)
        self._written += len(text)
        self._more.set()

    @property
    def size(self) -> int:
        """Bytes that it takes, those included that were read since it was last empty."""
        return self._written

    def end(self) -> None:
        self._ended = True
        self._more.set()

    async def parts(self) -> AsyncGenerator[bytes]:
        """What was written, until `end`."""
        while True:
            if self._read < self._written:
                self._file.seek(self._read)
                part = self._file.read(min(65_536, self._written - self._read))
                self._read += len(part)
                yield part
            elif self._ended:
                return
            else:
                self._more.clear()
                await self._more.wait()

    def close(self) -> None:
        self._file.close()
