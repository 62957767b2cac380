"""SHA-256 of weights: streamed, several files at a time, each content once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from services.inventory.connectors.filesystem.disk import Disk, Unreadable

BUFFER_BYTES = 1 << 20
SPARSE_BYTES = 1 << 30
"""Files from this size on are not hashed when less than half of them is there: a hole can be as large as it likes."""

Key = tuple[int, int, int, int]
"""Device, inode, size and time of change in ns: the same as long as a file was not written."""


class DigestCache(Protocol):
    """Digests that are known from before."""

    def get(self, key: Key) -> str | None: ...

    def put(self, key: Key, digest: str) -> None: ...


class InMemoryDigests:
    """Digests of one run."""

    def __init__(self) -> None:
        self._known: dict[Key, str] = {}

    def get(self, key: Key) -> str | None:
        return self._known.get(key)

    def put(self, key: Key, digest: str) -> None:
        self._known[key] = digest


class Hasher:
    """Hashes files of a disk in a few threads; hashlib lets go of the interpreter meanwhile."""

    def __init__(self, disk: Disk, cache: DigestCache, stop: threading.Event, threads: int | None = None) -> None:
        self._disk, self._cache, self._stop = disk, cache, stop
        self._pool = ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1), "hashing")

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, paths: Iterable[Path]) -> list[Future[tuple[Path, str | Unreadable]]]:
        """Each path's digest to come, or why there is none."""
        return [self._pool.submit(self._one, path) for path in paths]

    def _one(self, path: Path) -> tuple[Path, str | Unreadable]:
        try:
            return path, sha256(self._disk, path, self._cache, self._stop.is_set)
        except Unreadable as why:
            return path, why


def sha256(disk: Disk, path: Path, cache: DigestCache, stopped: Callable[[], bool] = lambda: False) -> str:
    """Hex digest of a file. Raises Unreadable, also when it changes while it is read."""
    try:
        with disk.opened(path) as (file, status):
            key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if known := cache.get(key):
                return known
            if status.st_size >= SPARSE_BYTES and status.st_blocks * 512 < status.st_size // 2:
                raise Unreadable(path, f"is sparse: {status.st_size} bytes, most of which are a hole", lasting=True)
            digest = hashlib.sha256()
            buffer = memoryview(bytearray(BUFFER_BYTES))
            descriptor, left = file.fileno(), status.st_size
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while left > 0 and (count := os.readv(descriptor, [buffer[: min(left, BUFFER_BYTES)]])):
                digest.update(buffer[:count])
                left -= count
                if stopped():
                    raise Unreadable(path, "the run has ended", lasting=False)
            after = os.fstat(descriptor)
            if left or (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise Unreadable(path, "changed while it was read", lasting=False)
    except OSError as error:
        raise Unreadable(path, error.strerror or "cannot be read", lasting=False) from None
    value = digest.hexdigest()
    cache.put(key, value)
    return value
