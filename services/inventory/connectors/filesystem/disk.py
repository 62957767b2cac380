"""Reading a disk that may be hostile: never out of the root, never what is no regular file, never more than asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jiter

FOLDER_ENTRIES_LIMIT = 100_000
"""Entries of one folder that are read."""
JSON_LIMIT_BYTES = 1 << 20
SKIPPED = frozenset(
    {".git", "node_modules", "__pycache__", "proc", "sys", ".locks", ".venv", "site-packages", "lost+found"}
)
"""Folders in which no models are kept, or too much else."""


class Unreadable(Exception):
    """A file or folder that cannot be read, and why; `lasting` when looking again would say the same."""

    def __init__(self, path: Path, why: str, *, lasting: bool) -> None:
        super().__init__(why)
        self.path, self.why, self.lasting = path, why, lasting


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's entries by name, sorted; `truncated` when there are more than are read."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Disk:
    """What lies below one root, which is free of links itself."""

    root: Path

    def listing(self, folder: Path) -> Listing:
        """Links to folders are left out: what they lead to is found where it is. Raises Unreadable."""
        files: list[str] = []
        folders: list[str] = []
        truncated = False
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if len(files) + len(folders) >= FOLDER_ENTRIES_LIMIT:
                        truncated = True
                        break
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in SKIPPED:
                            folders.append(entry.name)
                    else:
                        files.append(entry.name)
        except OSError as error:
            raise Unreadable(folder, error.strerror or "cannot be read", lasting=False) from None
        return Listing(tuple(sorted(files)), tuple(sorted(folders)), truncated)

    def resolved(self, path: Path) -> Path:
        """The path without links. Raises Unreadable when it leads out of the root or nowhere."""
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            why = getattr(error, "strerror", None) or "a link leads to itself"
            raise Unreadable(path, why, lasting=False) from None
        if not target.is_relative_to(self.root):
            raise Unreadable(path, "a link leads out of the configured root", lasting=True)
        return target

    @contextmanager
    def opened(self, path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
        """A regular file, for reading. Raises Unreadable, OSError while it is read."""
        target = self.resolved(path)
        try:
            # The resolved path has no links; should one be put there in this moment, opening it fails. A pipe does not
            # make us wait.
            descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Unreadable(path, error.strerror or "cannot be read", lasting=False) from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable(path, "is no regular file", lasting=True)
            yield file, status

    def text(self, path: Path, limit: int, *, whole: bool = True) -> str:
        """A file's text. Raises Unreadable; also when it is longer than the limit, unless its beginning is enough."""
        try:
            with self.opened(path) as (file, _):
                raw = file.read(limit + 1)
        except OSError as error:
            raise Unreadable(path, error.strerror or "cannot be read", lasting=False) from None
        if len(raw) > limit and whole:
            raise Unreadable(path, f"is larger than {limit} bytes", lasting=True)
        return _decoded(path, raw) if whole else raw[:limit].decode("utf-8", "replace")

    def json(self, path: Path, limit: int = JSON_LIMIT_BYTES) -> tuple[Any, str]:
        """A file's parsed JSON and its text. Raises Unreadable."""
        text = self.text(path, limit)
        try:
            return jiter.from_json(text.encode()), text
        except ValueError as error:
            raise Unreadable(path, f"is no JSON: {error}", lasting=True) from None


def _decoded(path: Path, raw: bytes) -> str:
    try:
        return raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise Unreadable(path, "is not UTF-8", lasting=True) from None
