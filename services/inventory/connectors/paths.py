"""Which folders a run may read: those below the configured roots, by resolved paths, so that no link leads out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from services.inventory.settings import InventorySettings
from shared.errors import Invalid

Paths = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=4_096)]], Field(min_length=1, max_length=50)
]


def check_paths(paths: Sequence[str], settings: InventorySettings) -> None:
    """Raises Invalid for a path that is not absolute or not below a configured root."""
    for position, path in enumerate(paths):
        if not Path(path).is_absolute() or allowed(path, settings) is None:
            raise Invalid(
                "only absolute paths below the configured discovery roots are read",
                field=f"/options/paths/{position}",
            )


def allowed(path: str, settings: InventorySettings) -> tuple[Path, Path] | None:
    """The path and the root it lies below, both free of links; None when it lies below none."""
    try:
        resolved = Path(path).resolve()
        roots = [root.resolve() for root in settings.discovery_roots]
    except (OSError, RuntimeError, ValueError):
        return None
    return next(((resolved, root) for root in roots if resolved.is_relative_to(root)), None)
