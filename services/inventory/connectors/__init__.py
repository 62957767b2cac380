"""Where discovery looks: one module a source, each ending in its CONNECTOR. A connector says what it finds as claims;
what the inventory makes of them is domain/evidence.py's to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.inventory.connectors import (
    filesystem,
    gcp_vertex,
    kubernetes,
    mlflow,
    openai_compatible,
    repository,
    vector_store,
)
from services.inventory.connectors.aws import bedrock, sagemaker
from services.inventory.connectors.azure import openai
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest
from services.inventory.domain.discovery import Source, SourceNotAvailable
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import In
from shared.problems import field_errors

_ALL: tuple[Connector, ...] = (
    bedrock.CONNECTOR,
    sagemaker.CONNECTOR,
    openai.CONNECTOR,
    gcp_vertex.CONNECTOR,
    filesystem.CONNECTOR,
    kubernetes.CONNECTOR,
    repository.CONNECTOR,
    mlflow.CONNECTOR,
    vector_store.CONNECTOR,
    openai_compatible.CONNECTOR,
)
CONNECTORS: Mapping[Source, Connector] = {connector.source: connector for connector in _ALL}


def options_of(source: Source, given: dict[str, Any], settings: InventorySettings) -> In:
    """The options as the source understands them.

    Raises:
        SourceNotAvailable: there is no connector for it.
        Invalid: an option is unknown, missing or not allowed here.
    """
    connector = CONNECTORS.get(source)
    if connector is None:
        raise SourceNotAvailable(f"{source.value} is not available yet", field="/source")
    try:
        options = connector.options.model_validate(given)
    except ValidationError as error:
        fields = field_errors(error.errors())
        errors = [{**entry, "field": f"/options{entry['field']}".rstrip("/")} for entry in fields]
        raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors) from None
    connector.check(options, settings)
    return options


async def discover(source: Source, given: dict[str, Any], settings: InventorySettings, harvest: Harvest) -> None:
    """Look there. Raises what `options_of` raises, should the settings have changed since the run was asked for."""
    options = options_of(source, given, settings)
    await CONNECTORS[source].discover(options, settings, harvest)
