"""Assets for tests: everything has a value that no test cares about, each test says the ones that it does."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

from services.inventory.domain.asset import Asset, register
from shared.contracts.inventory import AssetType

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TODAY = date(2026, 11, 22)

_numbers = itertools.count(1)


def an_asset(asset_id: UUID | None = None, *, at: datetime = NOW, **declared: Any) -> Asset:
    """A registered asset; its name is unlike every other's."""
    named = {
        "name": f"asset-{next(_numbers)}",
        "asset_type": AssetType.FOUNDATION_MODEL,
        "owner_team": "search",
    }
    return register(asset_id or uuid4(), {**named, **declared}, by="tests", at=at)


def a_body(**fields: Any) -> dict[str, Any]:
    """What a client posts to register an asset."""
    return {
        "name": f"asset-{next(_numbers)}",
        "asset_type": "foundation_model",
        "owner_team": "search",
        **fields,
    }
