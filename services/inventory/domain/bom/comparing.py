"""What differs between two bills of materials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.inventory import ComponentChange

Parts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """Components that came, went and changed, each list by key."""

    added: tuple[ComponentChange, ...]
    removed: tuple[ComponentChange, ...]
    changed: tuple[ComponentChange, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(before: Parts, after: Parts) -> Difference:
    """From one bill's parts (reading.parts_of) to another's."""
    changed = [
        _change(
            key, after[key], tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))
        )
        for key in sorted(before.keys() & after.keys())
        if (old := before[key]) != (new := after[key])
    ]
    return Difference(
        added=tuple(_change(key, after[key]) for key in sorted(after.keys() - before.keys())),
        removed=tuple(_change(key, before[key]) for key in sorted(before.keys() - after.keys())),
        changed=tuple(changed),
    )


def _change(key: str, part: Mapping[str, str], fields: tuple[str, ...] = ()) -> ComponentChange:
    return ComponentChange(key=key, name=part.get("name", ""), component_type=part.get("type", ""), fields=fields)
