"""Ordinary texts that no rule may take for an attack, read from their files once a process.

Written for this purpose, in many languages and for each channel: customers' questions, code, mail, logs, fiction, and
prose about security that quotes attacks. Rules are put to them before they may decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from services.detection.domain.rules import Example, Rule
from shared.contracts.detection import Direction, FindingKind

DIRECTORY = Path(__file__).parent / "regression" / "benign"


@dataclass(frozen=True, slots=True)
class Benign:
    """One text. `contains` are kinds that are really in it, such as the address in a letter."""

    id: str
    direction: Direction
    language: str
    text: str
    contains: frozenset[FindingKind] = frozenset()

    def for_rule(self, rule: Rule) -> Example:
        """The text as such a rule may meet it: where its channel is none of the rule's, it comes by the rule's first.

        A rule for a rare channel would otherwise be tried on so few texts that nothing could be said of it.
        """
        scope = rule.scope
        direction = self.direction if self.direction in scope.directions else scope.directions[0]
        asset = {"asset_type": scope.asset_types[0].value} if scope.asset_types else None
        return Example(content=self.text, direction=direction, asset=asset)


@lru_cache(maxsize=1)
def texts() -> tuple[Benign, ...]:
    """All of them.

    Raises:
        ValueError: two have one id.
    """
    found: dict[str, Benign] = {}
    for path in sorted(DIRECTORY.glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for one in document["texts"]:
            benign = Benign(
                id=one["id"],
                direction=Direction(one.get("channel", document["channel"])),
                language=one.get("language", document.get("language", "en")),
                text=one["text"],
                contains=frozenset(FindingKind(kind) for kind in one.get("contains", ())),
            )
            if benign.id in found:
                raise ValueError(f"{path}: there is another text {benign.id}")
            found[benign.id] = benign
    return tuple(found.values())
