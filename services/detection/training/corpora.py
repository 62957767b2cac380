"""Labelled texts from outside, given by a folder: for measuring, and where their licence allows it for training.

One JSON object a line: `id, source, text, label, license`, one file a source. Labels are injection, jailbreak,
indirect_injection, benign, benign_hard, pii and secret. None of these texts is part of the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.contracts.detection import Direction

TRAINABLE = frozenset({"MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-4.0"})
"""Licences under which a model that we ship may be trained on a text."""


EMPTY = "{INJECTION_MARKER}"
"""Stands in templates where a harness would put an attack: such a text holds none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text."""

    text: str
    label: str
    source: str
    sub: str
    trainable: bool

    @property
    def attack(self) -> bool:
        return self.label in ("injection", "jailbreak", "indirect_injection")

    @property
    def sensitive(self) -> bool:
        return self.label in ("pii", "secret")

    @property
    def direction(self) -> Direction:
        """The way it would have come: what stands in documents and code as a document, all else from a user."""
        document = self.label == "indirect_injection" or self.source.startswith(("bipia", "code"))
        return Direction.DOCUMENT if document else Direction.INPUT


def read(folder: Path) -> list[Row]:
    """Every text of every source in the folder, but for templates in which the place of the attack is empty.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no .jsonl files of labelled texts")
    rows = []
    for path in paths:
        for line in path.read_bytes().splitlines():
            one = orjson.loads(line)
            if EMPTY in one["text"]:
                continue
            rows.append(
                Row(one["text"], one["label"], one["source"], str(one.get("sub", "")), one["license"] in TRAINABLE)
            )
    return rows


_SHINGLE = 5


def _shingles(text: str) -> set[int]:
    words = text.lower().split()
    return {hash(tuple(words[at : at + _SHINGLE])) for at in range(max(1, len(words) - _SHINGLE + 1))}


def unlike(rows: Sequence[Row], others: Iterable[Row]) -> list[Row]:
    """Those rows that share less than a third of their five-word runs with any of the others.

    Jailbreaks travel: one prompt stands in several collections. A source is left out only when its texts are.
    """
    places: dict[int, list[int]] = {}
    sizes: list[int] = []
    for at, other in enumerate(others):
        found = _shingles(other.text)
        sizes.append(len(found))
        for one in found:
            places.setdefault(one, []).append(at)
    kept = []
    for row in rows:
        mine = _shingles(row.text)
        shared: dict[int, int] = {}
        for one in mine:
            for at in places.get(one, ()):
                shared[at] = shared.get(at, 0) + 1
        if all(count * 3 < min(len(mine), sizes[at]) for at, count in shared.items()):
            kept.append(row)
    return kept
