"""Where discovery looks: one module a source, each with its options and a `discover` that never raises for a platform
that refuses, but says so in its findings. What entries mean is domain/discovery.py's to say."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from services.inventory.connectors import filesystem, gcp_vertex
from services.inventory.connectors.aws import bedrock, sagemaker
from services.inventory.connectors.azure import openai
from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.domain.discovery import Findings, Source, SourceNotAvailable
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import In
from shared.problems import field_errors

_MODULES: dict[Source, Any] = {
    Source.AWS_BEDROCK: bedrock.CONNECTOR,
    Source.AWS_SAGEMAKER: sagemaker.CONNECTOR,
    Source.AZURE_OPENAI: openai.CONNECTOR,
    Source.GCP_VERTEX: gcp_vertex.CONNECTOR,
    Source.FILESYSTEM: filesystem,
}


def _options(module: Any) -> Any:
    return getattr(module, "options", None) or module.Options


OPTION_SCHEMAS: list[dict[str, Any]] = [_options(module).model_json_schema() for module in _MODULES.values()]
"""What the options of each source look like, for the API's description."""


def options_of(source: Source, given: dict[str, Any], settings: InventorySettings) -> In:
    """The options as the source understands them.

    Raises:
        SourceNotAvailable: there is no connector for it.
        Invalid: an option is unknown, missing or not allowed here.
    """
    module = _MODULES.get(source)
    if module is None:
        raise SourceNotAvailable(f"{source.value} is not available yet", field="/source")
    try:
        options: In = _options(module).model_validate(given)
    except ValidationError as error:
        fields = field_errors(error.errors())
        errors = [{**entry, "field": f"/options{entry['field']}".rstrip("/")} for entry in fields]
        raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors) from None
    module.check(options, settings)
    return options


async def discover(source: Source, given: dict[str, Any], settings: InventorySettings) -> Findings:
    """Look there. Raises what `options_of` raises, should the settings have changed since the run was asked for."""
    options = options_of(source, given, settings)
    if source is Source.FILESYSTEM:
        findings: Findings = await filesystem.discover(options, settings)  # type: ignore[arg-type]
        return findings
    harvest = Harvest(InMemory(), entries_limit=settings.discovery_entries_limit)
    await _MODULES[source].discover(options, settings, harvest)
    return Findings(problems=harvest.problems, complete=harvest.completed)
