"""Finding repositories below allowed roots, and reading their files within bounds.

Every path is resolved before it is opened and must still lie below its root; links are never followed, so there is no
loop and no way out. Version control, packages that were installed and build output are not the repository's own words.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from services.inventory.domain.secrets import SecretReference, secrets_in

TEXT_LIMIT_BYTES = 1_048_576
FILES_LIMIT = 200_000
"""Files of one repository that are looked at; beyond, it is read in part."""
DEPTH_LIMIT = 40
REPOSITORIES_LIMIT = 5_000

SKIPPED = frozenset(
    {
        *(".git", ".hg", ".svn", "node_modules", "bower_components", "__pycache__", ".venv", "venv", "virtualenv"),
        *("site-packages", ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".gradle", ".terraform"),
        *("vendor", "dist", "build", "target", ".next", ".nuxt", ".cache", "Pods", ".yarn", "proc", "sys"),
    }
)
_BINARY = frozenset(
    ".png .jpg .jpeg .gif .webp .ico .pdf .zip .gz .tgz .bz2 .xz .7z .tar .jar .whl .so .dll .dylib .exe .bin .pt .pth "
    ".ckpt .gguf .onnx .safetensors .h5 .keras .pkl .joblib .npy .npz .parquet .mp3 .mp4 .wav .mov .avi .woff .woff2 "
    ".ttf .otf .eot .class .o .a .pyc .wasm .sqlite .db .map .svg .csv .tsv".split()
)
_REMOTE = re.compile(r"^\s*url\s*=\s*(\S+)\s*$")
_SECTION = re.compile(r'^\s*\[\s*(\w+)(?:\s+"([^"]*)")?\s*\]')
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCP = re.compile(r"^(?:[^@/\s]+@)?([A-Za-z0-9.-]+):(?!/)(\S+)$")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a repository; `path` is relative to it, with forward slashes."""

    path: str
    name: str
    location: str
    size: int

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1].lower()  # noqa: PTH122  # a Path for each of 100,000 files is slow

    @property
    def parts(self) -> list[str]:
        return self.path.lower().split("/")[:-1]


@dataclass(slots=True)
class Checkout:
    """A repository on this machine.

    Attributes:
        remote: host and path of its origin, without user, password and `.git`; None where it has none.
        commit: what HEAD points to, by loose or packed refs; None where that cannot be told.
        exposed: credentials in its configuration, as (file, line, reference).
    """

    folder: Path
    root: Path
    remote: str | None = None
    commit: str | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    exposed: list[tuple[str, int, SecretReference]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its path at its origin, else its last two folders: `tools` alone is the name of too many."""
        return self.remote.partition("/")[2] if self.remote else "/".join(self.folder.parts[-2:]).strip("/")

    @property
    def origin(self) -> str:
        """What its parts are named within."""
        return self.remote or str(self.folder)


def repositories(start: Path, stopped: Callable[[], bool]) -> tuple[list[Path], list[tuple[str, str]]]:
    """`start` and the folders below it that have a `.git`: each is read for itself, without those within it. Then what
    could not be listed, and why."""
    found: list[Path] = []
    failures: list[tuple[str, str]] = []
    pending = [(start, 0)]
    while pending and not stopped():
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as entries:
                names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except OSError as error:
            failures.append((str(folder), error.strerror or "cannot be read"))
            continue
        if ".git" in names and folder != start:
            found.append(folder)
            if len(found) >= REPOSITORIES_LIMIT:
                failures.append((str(start), f"stopped at {REPOSITORIES_LIMIT} repositories"))
                break
        if depth < DEPTH_LIMIT:
            below = [name for name, is_folder in names.items() if is_folder and name not in SKIPPED]
            pending += [(folder / name, depth + 1) for name in sorted(below, reverse=True)]
    return [start, *found], failures


def checkout(folder: Path, root: Path) -> Checkout:
    """What `.git` says of a repository; it is only read, and no git is run: hooks and filters would be."""
    made = Checkout(folder, root)
    git = folder / ".git"
    if git.is_symlink():
        made.problems.append((str(git), "is a link, and not followed"))
        return made
    if git.is_file():
        # A worktree or submodule: the file names the folder, which must lie below the root too.
        text = _small(git, made)
        target = Path(text.partition("gitdir:")[2].strip()) if text.startswith("gitdir:") else None
        if target is None:
            return made
        git = (folder / target).resolve()
        if not git.is_relative_to(root):
            made.problems.append((str(folder / ".git"), "names a folder outside the configured roots"))
            return made
    if not git.is_dir():
        return made
    shared = git
    if (git / "commondir").is_file():
        shared = (git / _small(git / "commondir", made).strip()).resolve()
        if not shared.is_relative_to(root):
            shared = git
    config = _small(shared / "config", made)
    made.exposed = [
        (str(shared / "config"), config.count("\n", 0, start) + 1, one) for start, _, one in secrets_in(config)
    ]
    made.remote = _remote(config)
    made.commit = _commit(git, shared, made)
    return made


def _small(path: Path, made: Checkout) -> str:
    try:
        resolved = path.resolve(strict=True)
        if not resolved.is_relative_to(made.root):
            made.problems.append((str(path), "a link leads out of the configured root"))
            return ""
        return contents(str(resolved), TEXT_LIMIT_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        made.problems.append((str(path), getattr(error, "strerror", None) or str(error)))
        return ""


def _remote(config: str) -> str | None:
    """The origin's address, else the first remote's, free of credentials and the same however it is cloned."""
    urls: dict[str, str] = {}
    section: tuple[str, str] = ("", "")
    for line in config.splitlines():
        if match := _SECTION.match(line):
            section = (match[1].lower(), match[2] or "")
        elif section[0] == "remote" and (match := _REMOTE.match(line)):
            urls.setdefault(section[1], match[1])
    url = urls.get("origin") or next(iter(urls.values()), None)
    return address(url) if url else None


def address(url: str) -> str | None:
    """`host/path` of a repository's URL: no scheme, user, password, port, query or `.git`; None for local ones."""
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname, parts.path
        except ValueError:
            return None
    elif match := _SCP.match(url):
        host, path = match[1], match[2]
    else:
        return None
    path = path.strip("/").removesuffix(".git")
    return f"{host.lower()}/{path}" if host and path else None


def _commit(git: Path, shared: Path, made: Checkout) -> str | None:
    head = _small(git / "HEAD", made).strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else None
    ref = head.partition(":")[2].strip()
    if ".." in ref or not ref.startswith("refs/"):
        return None
    for folder in (git, shared):
        if _COMMIT.fullmatch(loose := _small(folder / ref, made).strip()):
            return loose
    for line in _small(shared / "packed-refs", made).splitlines():
        if line.endswith(" " + ref):
            return line.partition(" ")[0]
    return None


def files(
    folder: Path, nested: frozenset[Path], stopped: Callable[[], bool], failed: Callable[[str, str], None]
) -> Iterator[File]:
    """The repository's own regular files, smaller folders first in no promised order; `nested` are other repositories.

    `failed` hears of what could not be listed and of bounds that were reached.
    """
    counted = 0
    prefix = len(str(folder).rstrip("/")) + 1
    pending = [(str(folder), 0)]
    others = {str(one) for one in nested if one != folder}
    while pending and not stopped():
        at, depth = pending.pop()
        try:
            with os.scandir(at) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            failed(at, error.strerror or "cannot be read")
            continue
        below: list[tuple[str, int]] = []
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name in SKIPPED or entry.path in others:
                        continue
                    if depth >= DEPTH_LIMIT:
                        failed(entry.path, f"lies more than {DEPTH_LIMIT} folders deep")
                        continue
                    below.append((entry.path, depth + 1))
                    continue
                if not entry.is_file(follow_symlinks=False):
                    continue
                entry.name.encode()
                size = entry.stat(follow_symlinks=False).st_size
            except UnicodeEncodeError:
                failed(ascii(entry.path), "its name is not UTF-8")
                continue
            except OSError as error:
                failed(entry.path, error.strerror or "cannot be read")
                continue
            counted += 1
            if counted > FILES_LIMIT:
                failed(str(folder), f"stopped at {FILES_LIMIT} files")
                return
            if os.path.splitext(entry.name)[1].lower() not in _BINARY:  # noqa: PTH122
                yield File(entry.path[prefix:], entry.name, entry.path, size)
        pending += reversed(below)


def contents(location: str, limit: int) -> bytes:
    """Up to `limit` bytes of a regular file that is no link.

    Raises:
        OSError: it cannot be read, or has become a link.
        ValueError: it is no regular file, or larger than the limit.
    """
    handle = os.open(location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > limit:
            raise ValueError(f"is larger than {limit} bytes")
        parts: list[bytes] = []
        left = limit + 1
        while left and (part := os.read(handle, min(left, 262_144))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(handle)
    if not left:
        raise ValueError(f"is larger than {limit} bytes")
    return b"".join(parts)


def text_of(data: bytes) -> str:
    """The text, by UTF-8 or the UTF-16 that a byte order mark tells.

    Raises:
        ValueError: it is no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    if b"\0" in data:
        raise ValueError("is no text")
    return data.decode("utf-8-sig")
