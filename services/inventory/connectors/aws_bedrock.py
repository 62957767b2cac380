"""Amazon Bedrock: custom models and provisioned throughputs of one account and region.

Credentials are those that boto finds in the service's environment (a role in a cluster). Each call fails for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import StringConstraints

from services.inventory.connectors.endpoints import check_endpoint
from services.inventory.domain.discovery import (
    Findings,
    Found,
    bedrock_custom_model,
    bedrock_provisioned_throughput,
)
from services.inventory.settings import InventorySettings
from shared.models import In

PAGE_SIZE = 100

_LISTINGS: tuple[tuple[str, str, Callable[[Mapping[str, Any], str], Found]], ...] = (
    ("list_custom_models", "modelSummaries", bedrock_custom_model),
    ("list_provisioned_model_throughputs", "provisionedModelSummaries", bedrock_provisioned_throughput),
)


class Options(In):
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
    endpoint_url: Annotated[str, StringConstraints(max_length=2_048)] | None = None


def check(options: Options, settings: InventorySettings) -> None:
    check_endpoint(options.endpoint_url, settings)


async def discover(options: Options, settings: InventorySettings) -> Findings:
    """All custom models and provisioned throughputs."""
    # Imported here: boto and its API descriptions hold 60 MB that a service which never looks at AWS should not.
    import aioboto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    findings = Findings()
    session = aioboto3.Session(region_name=options.region)
    reach = {
        "endpoint_url": options.endpoint_url,
        "config": Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 2}),
    }
    try:
        async with session.client("sts", **reach) as sts:
            account = (await sts.get_caller_identity())["Account"]
    except (BotoCoreError, ClientError) as error:
        # Whose models these are is then unknown, so none can be said to be gone; listing them may work all the same.
        findings.fail("sts get_caller_identity", error)
        account = None
    async with session.client("bedrock", **reach) as bedrock:
        for call, key, mapped in _LISTINGS:
            scope = f"aws:{account}:{options.region}:{call}"
            try:
                pages = bedrock.get_paginator(call).paginate(PaginationConfig={"PageSize": PAGE_SIZE})
                async for page in pages:
                    _take(findings, scope, page.get(key, []), mapped, options.region)
                    if len(findings.found) >= settings.discovery_entries_limit:
                        findings.fail(f"bedrock {call}", f"stopped at {settings.discovery_entries_limit} entries")
                        return findings
            except (BotoCoreError, ClientError) as error:
                findings.fail(f"bedrock {call}", error)
            else:
                if account is not None:
                    findings.complete.append(scope)
    return findings


def _take(
    findings: Findings,
    scope: str,
    entries: list[Mapping[str, Any]],
    mapped: Callable[[Mapping[str, Any], str], Found],
    region: str,
) -> None:
    for entry in entries:
        try:
            findings.add(scope, mapped(entry, region))
        except KeyError as error:
            findings.fail(scope, f"an entry lacks {error}")
