"""What an asset usually does: which tools it calls, with what kind of arguments, and how its answers look.

Sums and sets, so that the profiles of several replicas merge by addition and union; each replica keeps what it has
learned since it last shared. Only interactions that were not flagged are learned from. Sets are bounded: a tool that
knows many hosts is open, and a new host says nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from services.detection.domain.assets import tool_key
from services.detection.domain.trackers.outputs import Usual

MAX_TOOLS = 100
MAX_HOSTS = 64
MAX_ROOTS = 32
MATURE_DAYS = 3
MATURE_CALLS = 200
TOOL_CALLS = 50
"""Calls of a tool from which its arguments are known well enough."""
TRIES = 3
"""Calls of a new tool that are remarkable; after that it is known."""
_DAYS = 14


@dataclass(slots=True)
class Sums:
    """Count, sum and sum of squares."""

    samples: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def learn(self, value: float) -> None:
        self.samples += 1
        self.total += value
        self.squares += value * value

    def merge(self, other: Sums) -> None:
        self.samples += other.samples
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        return self.total / self.samples if self.samples else 0.0

    @property
    def deviation(self) -> float:
        return math.sqrt(max(0.0, self.squares / self.samples - self.mean**2)) if self.samples else 0.0


@dataclass(slots=True)
class ToolUse:
    """How one tool is called. `late_hosts` are those met after its first TOOL_CALLS calls."""

    length: Sums = field(default_factory=Sums)
    hosts: set[int] = field(default_factory=set)
    roots: set[int] = field(default_factory=set)
    late_hosts: int = 0
    late_roots: int = 0

    @property
    def calls(self) -> float:
        return self.length.samples

    def learn(self, length: int, hosts: Iterable[int], roots: Iterable[int], known: ToolUse | None) -> None:
        """`known`: what the whole fleet of replicas knows, when this is only the part not shared yet."""
        late = (known.calls if known is not None else self.calls) >= TOOL_CALLS
        self.length.learn(math.log1p(length))
        before = known if known is not None else self
        for host in hosts:
            if host not in self.hosts and len(self.hosts) < MAX_HOSTS:
                self.late_hosts += late and host not in before.hosts
                self.hosts.add(host)
        for root in roots:
            if root not in self.roots and len(self.roots) < MAX_ROOTS:
                self.late_roots += late and root not in before.roots
                self.roots.add(root)

    def merge(self, other: ToolUse) -> None:
        self.length.merge(other.length)
        self.hosts = set(sorted(self.hosts | other.hosts)[:MAX_HOSTS])
        self.roots = set(sorted(self.roots | other.roots)[:MAX_ROOTS])
        self.late_hosts += other.late_hosts
        self.late_roots += other.late_roots

    @property
    def knows_hosts(self) -> bool:
        """Whether a host that it has not met is remarkable: it has met few since its first calls."""
        settled = self.calls >= TOOL_CALLS and len(self.hosts) < MAX_HOSTS
        return settled and len(self.hosts) > 0 and self.late_hosts <= 0.02 * self.calls

    @property
    def knows_roots(self) -> bool:
        settled = self.calls >= TOOL_CALLS and len(self.roots) < MAX_ROOTS
        return settled and len(self.roots) > 0 and self.late_roots <= 0.02 * self.calls


@dataclass(slots=True)
class Profile:
    """One asset's. `tools` is by `tool_key`; `days` are those with calls, the latest _DAYS."""

    tools: dict[str, ToolUse] = field(default_factory=dict)
    days: set[int] = field(default_factory=set)
    entropy: Sums = field(default_factory=Sums)
    length: Sums = field(default_factory=Sums)
    scripts: dict[str, int] = field(default_factory=dict)

    def use_of(self, tool: str) -> ToolUse | None:
        """How a tool is called, if it is known."""
        return self.tools.get(tool_key(tool))

    @property
    def mature(self) -> bool:
        """Enough days and calls that a tool never called before is remarkable."""
        return len(self.days) >= MATURE_DAYS and sum(one.calls for one in self.tools.values()) >= MATURE_CALLS

    def usual(self) -> Usual:
        scripts = frozenset(name for name, count in self.scripts.items() if count >= 3)
        return Usual(
            int(self.entropy.samples),
            self.entropy.mean,
            self.entropy.deviation,
            self.length.mean,
            self.length.deviation,
            scripts,
        )

    def called(
        self,
        tool: str,
        at: float,
        length: int,
        hosts: Iterable[int],
        roots: Iterable[int],
        known: Profile | None = None,
    ) -> None:
        use = self.use_of(tool)
        if use is None:
            if len(self.tools) >= MAX_TOOLS:
                return
            use = self.tools[tool_key(tool)] = ToolUse()
        use.learn(length, hosts, roots, known.use_of(tool) if known is not None else None)
        self.days.add(int(at // 86_400))
        if len(self.days) > _DAYS:
            self.days.remove(min(self.days))

    def answered(self, entropy: float, length: float, script: str) -> None:
        self.entropy.learn(entropy)
        self.length.learn(length)
        if script and (script in self.scripts or len(self.scripts) < 12):
            self.scripts[script] = self.scripts.get(script, 0) + 1

    def merge(self, other: Profile) -> None:
        for tool, use in other.tools.items():
            if tool in self.tools or len(self.tools) < MAX_TOOLS:
                self.tools.setdefault(tool, ToolUse()).merge(use)
        self.days = set(sorted(self.days | other.days)[-_DAYS:])
        self.entropy.merge(other.entropy)
        self.length.merge(other.length)
        for script, count in other.scripts.items():
            self.scripts[script] = self.scripts.get(script, 0) + count

    def parts(self) -> list[Any]:
        """What `of` makes it again from; for storage."""
        tools = [
            [name, one.length.samples, one.length.total, one.length.squares, sorted(one.hosts), sorted(one.roots),
             one.late_hosts, one.late_roots]
            for name, one in self.tools.items()
        ]  # fmt: skip
        sums = [[one.samples, one.total, one.squares] for one in (self.entropy, self.length)]
        return [tools, sorted(self.days), *sums, self.scripts]

    @classmethod
    def of(cls, parts: list[Any]) -> Profile:
        tools, days, entropy, length, scripts = parts
        uses: dict[str, ToolUse] = {}
        for name, count, total, squares, hosts, roots, late_hosts, late_roots in tools:
            use = ToolUse(Sums(count, total, squares), set(hosts), set(roots), late_hosts, late_roots)
            # Releases before kept names as they were spelt, so that one tool may be there twice.
            known = uses.setdefault(tool_key(name), use)
            if known is not use:
                known.merge(use)
        return cls(uses, set(days), Sums(*entropy), Sums(*length), dict(scripts))
