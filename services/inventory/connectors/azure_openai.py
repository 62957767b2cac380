"""Azure OpenAI: the model deployments of all OpenAI accounts in a subscription.

The credential is what azure-identity finds in the service's environment (workload identity, managed identity).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import StringConstraints

from services.inventory.connectors.endpoints import check_endpoint
from services.inventory.domain.discovery import (
    AZURE_ACCOUNT_KINDS,
    Findings,
    azure_openai_deployment,
    resource_group_of,
)
from services.inventory.settings import InventorySettings
from shared.models import In

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential


class Options(In):
    subscription_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
    endpoint_url: Annotated[str, StringConstraints(max_length=2_048)] | None = None


def check(options: Options, settings: InventorySettings) -> None:
    check_endpoint(options.endpoint_url, settings)


async def discover(
    options: Options, settings: InventorySettings, credential: AsyncTokenCredential | None = None
) -> Findings:
    """All deployments of all accounts; an account that refuses is a problem, the others are read."""
    # Imported here: the SDK holds 40 MB that a service which never looks at Azure should not.
    from azure.core.exceptions import AzureError
    from azure.identity.aio import DefaultAzureCredential
    from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

    # It warns at length, over many lines, of every credential that is not there; the findings say what came of it.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    findings = Findings()
    scope = f"azure:{options.subscription_id}"
    endpoint = options.endpoint_url
    # The SDK sends no token over plain http unless told to at each call; only a named address can be plain http.
    plain: dict[str, Any] = {"enforce_https": False} if endpoint and endpoint.startswith("http://") else {}
    audience: dict[str, Any] = {"credential_scopes": [endpoint.rstrip("/") + "/.default"]} if endpoint else {}
    async with (
        credential or DefaultAzureCredential() as identity,
        CognitiveServicesManagementClient(
            identity,
            options.subscription_id,
            base_url=endpoint,
            **audience,
            connection_timeout=5,
            read_timeout=20,
            retry_total=2,
        ) as client,
    ):
        try:
            accounts = [account.as_dict() async for account in client.accounts.list(**plain)]
        except AzureError as error:
            findings.fail("accounts", error)
            return findings
        for account in accounts:
            if account.get("kind") not in AZURE_ACCOUNT_KINDS:
                continue
            try:
                group = resource_group_of(str(account["id"]))
                async for deployment in client.deployments.list(group, account["name"], **plain):
                    findings.add(scope, azure_openai_deployment(account, deployment.as_dict()))
                    if len(findings.found) >= settings.discovery_entries_limit:
                        findings.fail("deployments", f"stopped at {settings.discovery_entries_limit} entries")
                        return findings
            except (AzureError, KeyError, ValueError) as error:
                findings.fail(f"deployments of {account.get('name')}", error)
        if not findings.problems:
            findings.complete.append(scope)
    return findings
