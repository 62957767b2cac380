"""Compiled pattern databases kept on disk, so that a start does not spend four seconds of CPU time on the same again.

They are in a directory of the user's own that nobody else may enter, in files named after all that they depend on:
patterns, flags, and the version that compiled them. Each begins with a digest of the rest; what does not fit it, or was
made for another processor, is compiled anew. Without a place to write to, every start compiles.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

_DIGEST_BYTES = 32
_MOST_FILES = 24
"""Files kept: a release has six."""


def directory() -> Path:
    """Where they are: `colonnade/patterns` in the user's cache directory (XDG_CACHE_HOME, ~/.cache)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given.startswith("/"):
        return Path(given) / "colonnade" / "patterns"
    try:
        return Path.home() / ".cache" / "colonnade" / "patterns"
    except RuntimeError:  # a container's user without a name
        return Path(tempfile.gettempdir()) / f"colonnade-patterns-{os.geteuid()}"


class CompiledCache:
    """Bytes by key in a private directory; a miss is None and a failure to write is silence."""

    def __init__(self, where: Path) -> None:
        self._where = where

    def load(self, key: str) -> bytes | None:
        if not self._private():
            return None
        path = self._where / key
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                kept = file.read()
        except OSError:
            return None
        digest, data = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def store(self, key: str, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._where.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._private():
                return
            handle, written = tempfile.mkstemp(dir=self._where, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(data).digest() + data)
                Path(written).replace(self._where / key)
            except OSError:
                Path(written).unlink(missing_ok=True)
                raise
            files = sorted(self._where.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in files[_MOST_FILES:]:
                path.unlink(missing_ok=True)

    def _private(self) -> bool:
        """Whether the directory is this user's alone: who can write there decides what this process runs."""
        try:
            found = self._where.lstat()
        except OSError:
            return False
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
