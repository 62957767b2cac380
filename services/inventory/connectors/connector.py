"""What every connector is to the rest: one value of this class in its module, named CONNECTOR."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.inventory.connectors.harvest import Harvest
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.models import In


@dataclass(frozen=True, slots=True)
class Connector:
    """A place where assets can be looked for.

    Attributes:
        title: its name for people.
        looks_for: what it finds, in a line or two.
        permissions: what the service's credential must be allowed to read, in the platform's own names.
        options: what a run must and may say.
        check: raises Invalid (its field below /options) for what this service does not allow.
        discover: looks there; reports to the harvest and raises nothing that the platform can cause.
    """

    source: Source
    title: str
    looks_for: str
    permissions: tuple[str, ...]
    options: type[In]
    check: Callable[[Any, InventorySettings], None]
    discover: Callable[[Any, InventorySettings, Harvest], Awaitable[None]]
