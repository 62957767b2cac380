"""What a check may know besides the value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Around:
    """The text before and after a value, and the name that its pattern gave it."""

    before: str = ""
    after: str = ""
    label: str = ""


NOWHERE = Around()
