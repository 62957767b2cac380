"""What tests of connectors share: look, and keep what came of it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.domain.claims import Found, ObservationKind
from services.inventory.settings import InventorySettings
from services.inventory.tests.apart import taken_for_one
from shared.contracts.inventory import Relation

SETTINGS = InventorySettings(
    database_url=SecretStr("postgresql://nowhere/x"),
    trust_file=Path("trust.json"),
    cursor_secret=SecretStr("a secret of tests only"),
    discovery_endpoint_urls=True,
)


class Look:
    """One run of a connector without the inventory behind it."""

    def __init__(self, *, entries_limit: int = 100_000, read: Collection[str] = ()) -> None:
        self.sink = InMemory()
        self.harvest = Harvest(self.sink, entries_limit=entries_limit, read=read)

    async def at(self, connector: Connector, *more: Any, **options: Any) -> Look:
        given = connector.options.model_validate(options)
        connector.check(given, SETTINGS)
        await connector.discover(given, SETTINGS, self.harvest, *more)
        assert not taken_for_one(self.sink.found)
        return self

    @property
    def found(self) -> dict[str, Found]:
        return {str(one.value("name")): one for one in self.sink.found}

    @property
    def stale(self) -> set[str]:
        return set(self.sink.stale_scopes)

    @property
    def complete(self) -> set[str]:
        return set(self.sink.complete_scopes)

    def everything(self) -> str:
        """All that left the connector, as text."""
        return repr((self.sink.found, self.sink.complete_scopes, self.sink.stale_scopes, self.harvest.problems))


def links(one: Found) -> set[tuple[Relation, str]]:
    return {(link.relation, link.target) for link in one.links}


def noticed(one: Found) -> set[ObservationKind]:
    return {observation.kind for observation in one.observations}
