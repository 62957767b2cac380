"""What a scan says of a file, and what one scan may spend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.inventory.modelfiles.source import Source

REASONS_LIMIT = 50
"""Reasons that one report tells; the rest are counted."""


class Verdict(IntEnum):
    """What may be thought of a file; the worse, the higher.

    CLEAN is said only of what was read to its end and understood. UNREADABLE: nothing bad was seen, but not everything
    was. SUSPICIOUS: it names or does what cannot be judged, or is made as files are made that deceive scanners. UNSAFE:
    whoever loads it runs code, reads or writes files or calls addresses that the file's author chose.
    """

    CLEAN = 0
    UNREADABLE = 1
    SUSPICIOUS = 2
    UNSAFE = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks against a file.

    Attributes:
        what: a short constant word for it (`dangerous_global`, `path_traversal`), the same for the same thing.
        where: member and byte offset: `archive/data.pkl+0x1f`.
        why: for people; texts out of the file are cut and quoted.
    """

    verdict: Verdict
    what: str
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one scan may spend. What lies beyond is not read, and the file is then not clean."""

    read_bytes: int = 2 << 30
    """Bytes that are looked at one by one; raw tensors are passed over and do not count."""
    inflated_bytes: int = 1 << 30
    """Bytes that come out of compressed streams, together."""
    inflation_ratio: int = 200
    """Most that a compressed stream over a megabyte may grow."""
    opcodes: int = 10_000_000
    """Pickle opcodes."""
    members: int = 50_000
    """Members of one archive."""
    depth: int = 5
    """Files within files."""
    text_bytes: int = 32 << 20
    """Longest JSON, XML or script that is read."""


class Exhausted(Exception):
    """The scan has spent what it may."""


class Broken(ValueError):
    """The content is not what its format says it must be."""


class Stopped(Exception):
    """Whoever asked for the scan no longer wants it."""


@dataclass(slots=True)
class Report:
    """The outcome.

    Attributes:
        formats: what was recognised, in the order met: ("zip", "pickle").
        facts: what the file says of itself that a catalogue wants: parameter count, architecture, licence.
    """

    name: str
    verdict: Verdict = Verdict.CLEAN
    formats: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    reasons_untold: int = 0
    facts: dict[str, str | int] = field(default_factory=dict)


Look = Callable[["Scan", "Source", str], None]


@dataclass(slots=True)
class Scan:
    """One scan while it runs.

    Attributes:
        look: reads a file within the file; the scanner puts it here, so that formats need not know one another.
        stopped: asked now and then; True ends the scan by Stopped.
    """

    report: Report
    limits: Limits
    look: Look
    stopped: Callable[[], bool] = lambda: False
    read_bytes: int = 0
    inflated_bytes: int = 0
    opcodes: int = 0
    depth: int = 0
    _told: set[tuple[str, str]] = field(default_factory=set)

    def add(self, verdict: Verdict, what: str, where: str, why: str) -> None:
        report = self.report
        report.verdict = max(report.verdict, verdict)
        key = (what, f"{where.partition('+0x')[0]} {why}"[:400])
        if key in self._told:
            return
        if len(report.reasons) >= REASONS_LIMIT:
            report.reasons_untold += 1
            # What is worst is told, whenever it comes.
            mildest = min(range(len(report.reasons)), key=lambda at: report.reasons[at].verdict)
            if report.reasons[mildest].verdict >= verdict:
                return
            del report.reasons[mildest]
        self._told.add(key)
        report.reasons.append(Reason(verdict, what, where[:400], why[:500]))

    def unsafe(self, what: str, where: str, why: str) -> None:
        self.add(Verdict.UNSAFE, what, where, why)

    def suspicious(self, what: str, where: str, why: str) -> None:
        self.add(Verdict.SUSPICIOUS, what, where, why)

    def unreadable(self, what: str, where: str, why: str) -> None:
        self.add(Verdict.UNREADABLE, what, where, why)

    def format(self, name: str) -> None:
        if name not in self.report.formats and len(self.report.formats) < REASONS_LIMIT:
            self.report.formats.append(name)

    def spend(self, count: int) -> None:
        """Count bytes that are looked at. Raises Exhausted or Stopped."""
        self.read_bytes += count
        if self.read_bytes > self.limits.read_bytes:
            raise Exhausted(f"more than {self.limits.read_bytes} bytes to look at")
        if self.stopped():
            raise Stopped

    def spend_inflated(self, count: int) -> None:
        self.inflated_bytes += count
        if self.inflated_bytes > self.limits.inflated_bytes:
            raise Exhausted(f"more than {self.limits.inflated_bytes} bytes come out of compression")

    def within(self, source: Source, name: str) -> None:
        """Look at a file within the file."""
        if self.depth >= self.limits.depth:
            self.suspicious("nested_too_deep", name, f"files within files within files, {self.depth} deep: not read")
            return
        self.depth += 1
        try:
            self.look(self, source, name)
        finally:
            self.depth -= 1


def quoted(text: str | bytes, limit: int = 80) -> str:
    """A text out of a file as it may be shown: printable, short."""
    shown = ascii(text if isinstance(text, str) else text.decode("latin-1"))
    return shown if len(shown) <= limit else shown[: limit - 4] + "...'"
