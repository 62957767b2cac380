"""What detection knows of an asset: its copy of the inventory's record, and how it is to be treated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from shared.contracts.inventory import AssetType, DataClassification, Lifecycle
from shared.errors import NotFound

_ORDER = tuple(DataClassification)


class NoSuchAsset(NotFound):
    """No such asset, or none that you may know of."""


class Mode(StrEnum):
    """Whether verdicts take effect: `observe` always allows (and still alerts), `enforce` redacts and blocks."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class Profile(StrEnum):
    """How readily findings become verdicts; what each stands for in figures is `verdict.THRESHOLDS`."""

    STRICT = "strict"
    BALANCED = "balanced"
    PERMISSIVE = "permissive"


class FailMode(StrEnum):
    """What becomes of an interaction that could not be looked at in full: `open` lets it pass, `closed` blocks it."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Handling:
    """How the traffic of an asset is treated."""

    mode: Mode = Mode.ENFORCE
    profile: Profile = Profile.BALANCED
    fail_mode: FailMode = FailMode.OPEN


@dataclass(frozen=True, slots=True)
class Asset:
    """The part of the inventory's record that decisions depend on."""

    asset_id: UUID
    version: int
    name: str
    owner_team: str
    asset_type: AssetType
    data_classification: DataClassification
    lifecycle: Lifecycle
    authorized_tools: frozenset[str] = frozenset()

    def authorizes(self, tool: str) -> bool:
        return tool_key(tool) in _keys(self.authorized_tools)


def exceeds(data: DataClassification, allowed: DataClassification) -> bool:
    """True when data of one class may not be where only the other is allowed."""
    return _ORDER.index(data) > _ORDER.index(allowed)


@lru_cache(maxsize=4_096)
def tool_key(name: str) -> str:
    """What is the same for `send_mail`, `sendMail` and `Send Mail`: registries and programs seldom spell alike."""
    return "".join(filter(str.isalnum, name.casefold())) or name


@lru_cache(maxsize=1_024)
def _keys(names: frozenset[str]) -> frozenset[str]:
    return frozenset(map(tool_key, names))
