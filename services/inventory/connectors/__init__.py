"""Where discovery looks: one module a source, each with its options and a `discover` that never raises for a platform
that refuses, but says so in its findings. What entries mean is domain/discovery.py's to say."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from services.inventory.connectors import aws_bedrock, azure_openai, filesystem
from services.inventory.domain.discovery import Findings, Source, SourceNotAvailable
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import In
from shared.problems import field_errors

_MODULES: dict[Source, Any] = {
    Source.AWS_BEDROCK: aws_bedrock,
    Source.AZURE_OPENAI: azure_openai,
    Source.FILESYSTEM: filesystem,
}
OPTION_SCHEMAS: list[dict[str, Any]] = [module.Options.model_json_schema() for module in _MODULES.values()]
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
        options: In = module.Options.model_validate(given)
    except ValidationError as error:
        fields = field_errors(error.errors())
        errors = [{**entry, "field": f"/options{entry['field']}".rstrip("/")} for entry in fields]
        raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors) from None
    module.check(options, settings)
    return options


async def discover(source: Source, given: dict[str, Any], settings: InventorySettings) -> Findings:
    """Look there. Raises what `options_of` raises, should the settings have changed since the run was asked for."""
    options = options_of(source, given, settings)
    findings: Findings = await _MODULES[source].discover(options, settings)
    return findings
