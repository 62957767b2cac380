"""Azure OpenAI and Azure AI Services (Foundry): accounts, deployments, content-filter policies, projects, connections.

The credential is what azure-identity finds in the service's environment (workload identity, managed identity); unless a
run names subscriptions, all that it sees are looked into. Nothing is ever written: the SDK's policy that registers a
resource provider where it is missing is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from services.inventory.connectors.addresses import check_endpoint
from services.inventory.connectors.azure.entries import (
    account_entry,
    connection_entry,
    deployment_entry,
    model_entries,
    policy_entry,
    project_entry,
    resource_group_of,
)
from services.inventory.connectors.clouds import PAGES_LIMIT, Unintelligible, abandon, answers, side_by_side, tagged
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.models import In

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

ARM = "https://management.azure.com"
ACCOUNT_KINDS = frozenset({"OpenAI", "AIServices"})
SUBSCRIPTIONS_VERSION = "2022-12-01"
CALLS_AT_ONCE = 12
SUBSCRIPTIONS_AT_ONCE = 3
CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0
TRIES = 4
"""Of a call that is throttled or meets a fault of the platform's; then it failed."""
RETRY_AFTER_LIMIT_SECONDS = 30.0
"""Longest that a throttled call is waited for before it is tried again."""
_LISTINGS = ("accounts", "deployments", "policies", "projects", "connections", "models")
_LIVING = frozenset({"Enabled", "Warned", "PastDue"})

Subscription = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class Options(In):
    subscription_ids: Annotated[list[Subscription], Field(max_length=1_000)] = Field(
        default_factory=list, description="Subscriptions to look in; none named looks in all that the credential sees."
    )
    endpoint_url: Annotated[str, StringConstraints(max_length=2_048)] | None = Field(
        default=None, description="Another address of Azure Resource Manager, where the service allows it."
    )


def check(options: Options, settings: InventorySettings) -> None:
    check_endpoint(options.endpoint_url, settings)


async def discover(
    options: Options, settings: InventorySettings, harvest: Harvest, credential: AsyncTokenCredential | None = None
) -> None:
    """All accounts of all subscriptions, and what they hold.

    Args:
        credential: another than the environment's.
    """
    # Imported here: the SDK holds 40 MB that a service which never looks at Azure should not.
    from azure.identity.aio import DefaultAzureCredential

    # It warns at length, over many lines, of every credential that is not there; the problems say what came of it.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    try:
        credential = credential or DefaultAzureCredential()
    except ValueError as error:
        # The environment asks for a kind of credential that does not exist.
        await abandon(harvest, ["azure:subscriptions"], "azure-identity", error)
        return
    async with credential as identity:
        cloud = _Cloud(identity, options.endpoint_url, asyncio.Semaphore(CALLS_AT_ONCE))
        subscriptions = list(dict.fromkeys(name.lower() for name in options.subscription_ids))
        if not subscriptions:
            async with harvest.scope("azure:subscriptions", failures=_failures(), where="GET /subscriptions"):
                subscriptions = [name async for name in cloud.subscriptions()]
        works = [
            partial(_read, cloud, harvest, name)
            for name in subscriptions
            if not all(harvest.is_read(f"azure:{name}:{listing}") for listing in _LISTINGS)
        ]
        await side_by_side(works, SUBSCRIPTIONS_AT_ONCE)


def _failures() -> tuple[type[BaseException], ...]:
    from azure.core.exceptions import AzureError

    return AzureError, Unintelligible, TimeoutError, OSError


def _is_denied(error: BaseException | None) -> bool:
    return getattr(error, "status_code", None) == 403


@dataclass(slots=True)
class _Cloud:
    """Azure Resource Manager, as one credential sees it."""

    credential: AsyncTokenCredential
    endpoint_url: str | None
    gate: asyncio.Semaphore

    @property
    def base(self) -> str:
        return (self.endpoint_url or ARM).rstrip("/")

    @property
    def plain(self) -> dict[str, Any]:
        """The SDK sends no token over plain http unless told to at each call; only a named address can be plain."""
        return {"enforce_https": False} if self.base.startswith("http://") else {}

    def policies(self) -> list[Any]:
        """What each request goes through: as the SDK does it, without registering providers, which would be a write."""
        from azure.core.pipeline import policies
        from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

        class Patience(policies.AsyncRetryPolicy):  # type: ignore[type-arg]
            def get_retry_after(self, response: Any) -> float | None:
                after = super().get_retry_after(response)
                return None if after is None else min(after, RETRY_AFTER_LIMIT_SECONDS)

        home = urlsplit(self.base).hostname

        class Home(policies.SansIOHTTPPolicy):  # type: ignore[type-arg]
            def on_request(self, request: Any) -> None:
                """A next page's link comes from outside: a token goes where it was meant to go and nowhere else."""
                if urlsplit(request.http_request.url).hostname != home:
                    raise Unintelligible("the next page is said to be at another address")

        return [
            Home(),
            policies.RequestIdPolicy(),
            policies.HeadersPolicy(),
            policies.UserAgentPolicy("colonnade-inventory"),
            policies.ProxyPolicy(),
            policies.ContentDecodePolicy(),
            Patience(retry_total=TRIES - 1, retry_backoff_factor=0.5, retry_backoff_max=20),
            AsyncARMChallengeAuthenticationPolicy(self.credential, f"{self.base}/.default"),
        ]

    @asynccontextmanager
    async def client(self, subscription: str) -> AsyncIterator[Any]:
        from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

        made: Any = CognitiveServicesManagementClient(
            self.credential,
            subscription,
            base_url=self.base,
            credential_scopes=[f"{self.base}/.default"],
            policies=self.policies(),
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
        )
        async with made as client:
            yield client

    async def entries(self, listing: Callable[..., Any], *of: str) -> AsyncIterator[Mapping[str, Any]]:
        """All entries of one of the SDK's listings. Raises one of `_failures`."""
        pages = listing(*of, **self.plain).by_page()
        seen: set[str] = set()
        for _ in range(PAGES_LIMIT):
            # Only one page is asked for at a time, and the way there is free while what it holds is taken in.
            async with self.gate:
                try:
                    page = [item.as_dict() async for item in await anext(pages)]
                except StopAsyncIteration:
                    return
                except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
                    raise Unintelligible(f"the answer cannot be read ({type(error).__name__})") from error
            for entry in page:
                yield entry
            after = pages.continuation_token
            if after and after in seen:
                raise Unintelligible("the same next page was given twice")
            seen.add(after)
        raise Unintelligible(f"more than {PAGES_LIMIT} pages")

    async def subscriptions(self) -> AsyncIterator[str]:
        """Ids of all living subscriptions. Raises one of `_failures`."""
        from azure.core.exceptions import HttpResponseError
        from azure.core.rest import HttpRequest
        from azure.mgmt.core import AsyncARMPipelineClient

        made: Any = AsyncARMPipelineClient(
            base_url=self.base, policies=self.policies(), connection_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS
        )
        async with made as client:
            url = f"{self.base}/subscriptions?api-version={SUBSCRIPTIONS_VERSION}"
            seen: set[str] = set()
            while url:
                if url in seen or len(seen) >= PAGES_LIMIT:
                    raise Unintelligible("the pages of /subscriptions do not end")
                seen.add(url)
                try:
                    response = await client.send_request(HttpRequest("GET", url), **self.plain)
                    if response.status_code != 200:
                        raise HttpResponseError(response=response)
                    document = response.json()
                    living = [one["subscriptionId"] for one in document["value"] if one["state"] in _LIVING]
                    url = document.get("nextLink")
                except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
                    raise Unintelligible(f"the answer cannot be read ({type(error).__name__})") from error
                for name in living:
                    yield str(name).lower()


@dataclass(slots=True)
class _Account:
    """An account and what was read of it for others to use."""

    entry: Mapping[str, Any]
    group: str
    deployments: list[Mapping[str, Any]] = field(default_factory=list)
    policies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    projects: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def has_projects(self) -> bool:
        return (self.entry.get("properties") or {}).get("allow_project_management") is True


async def _read(cloud: _Cloud, harvest: Harvest, subscription: str) -> None:
    """One subscription: its accounts, then what each of them holds, one kind after another."""
    async with cloud.client(subscription) as client:
        accounts: list[_Account] = []
        async with _scope(harvest, subscription, "accounts") as scope:
            async for entry in cloud.entries(client.accounts.list):
                if entry.get("kind") not in ACCOUNT_KINDS:
                    continue
                async with _entry(scope, entry):
                    accounts.append(_Account(entry, resource_group_of(str(entry["id"]))))
                    await scope.add(tagged(account_entry(entry), entry.get("tags"), str(entry["id"])))
        # An account that was not listed keeps what is known of its parts: then none of the other listings is complete.
        untold = scope.failure

        async with _scope(harvest, subscription, "deployments", untold) as listed:
            await _of_each(cloud, listed, accounts, client.deployments.list, lambda one: one.deployments.append)
            async with _scope(harvest, subscription, "policies", untold) as guards:
                read: list[tuple[_Account, Mapping[str, Any]]] = []
                await _of_each(cloud, guards, accounts, client.rai_policies.list, lambda one: partial(_keep, read, one))
                for account, policy in read:
                    async with _entry(guards, policy):
                        account.policies[str(policy["name"]).lower()] = policy
                for account in accounts:
                    used = {_policy_name(deployment) for deployment in account.deployments}
                    for name, policy in account.policies.items():
                        # Those of the platform's own that nothing uses are no decision of anybody.
                        if name in used or (policy.get("properties") or {}).get("type") != "SystemManaged":
                            async with _entry(guards, policy):
                                await guards.add(policy_entry(policy, account.entry))
            for account in accounts:
                for deployment in account.deployments:
                    async with _entry(listed, deployment):
                        guard = account.policies.get(_policy_name(deployment))
                        made = deployment_entry(account.entry, deployment, guard)
                        made = tagged(made, account.entry.get("tags"), str(account.entry["id"]))
                        await listed.add(tagged(made, deployment.get("tags"), made.locator))
        async with _scope(harvest, subscription, "models", listed.failure) as models:
            for account in accounts:
                for deployment in account.deployments:
                    async with _entry(models, deployment):
                        for model in model_entries(deployment, subscription):
                            await models.add(model)
        await _projects(cloud, client, harvest, subscription, accounts, untold)


async def _projects(
    cloud: _Cloud, client: Any, harvest: Harvest, subscription: str, accounts: list[_Account], untold: str | None
) -> None:
    some = [account for account in accounts if account.has_projects]
    async with _scope(harvest, subscription, "projects", untold) as scope:
        await _of_each(cloud, scope, some, client.projects.list, lambda one: one.projects.append)
        for account in some:
            for project in account.projects:
                async with _entry(scope, project):
                    made = tagged(project_entry(project, account.entry), project.get("tags"), str(project["id"]))
                    await scope.add(made)
    async with _scope(harvest, subscription, "connections", scope.failure) as connections:
        read: list[tuple[_Account, Mapping[str, Any]]] = []
        await _of_each(cloud, connections, some, client.account_connections.list, lambda one: partial(_keep, read, one))
        owners = [(account, account.entry, entry) for account, entry in read]
        for account in some:
            for project in account.projects:
                name = str(project.get("name") or "").rpartition("/")[2]
                try:
                    listing = cloud.entries(client.project_connections.list, account.group, account.name, name)
                    owners += [(account, project, entry) async for entry in listing]
                except _failures() as error:
                    connections.fail(f"connections of {project.get('id')}", error)
        for account, owner, entry in owners:
            async with _entry(connections, entry):
                await connections.add(connection_entry(entry, owner, account.entry))


def _scope(harvest: Harvest, subscription: str, listing: str, untold: str | None = None) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Scope]:
        name = f"azure:{subscription}:{listing}"
        async with harvest.scope(name, failures=_failures(), where=f"{listing} of {subscription}") as scope:
            scope.failure = untold
            yield scope

    return opened()


@asynccontextmanager
async def _entry(scope: Scope, entry: Mapping[str, Any]) -> AsyncIterator[None]:
    """One entry: what it lacks or has wrong is a problem of its own."""
    try:
        yield
    except KeyError as error:
        scope.fail(str(entry.get("id") or scope.name), f"an entry lacks {error}")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        scope.fail(str(entry.get("id") or scope.name), error)


def _keep(into: list[tuple[_Account, Mapping[str, Any]]], account: _Account, entry: Mapping[str, Any]) -> None:
    into.append((account, entry))


def _policy_name(deployment: Mapping[str, Any]) -> str:
    return str((deployment.get("properties") or {}).get("rai_policy_name") or "").lower()


async def _of_each(
    cloud: _Cloud,
    scope: Scope,
    accounts: list[_Account],
    listing: Callable[..., Any],
    into: Callable[[_Account], Callable[[Mapping[str, Any]], None]],
) -> None:
    """One listing of each account, side by side; an account that refuses is a problem, the others are read."""

    async def one(account: _Account) -> None:
        async for entry in cloud.entries(listing, account.group, account.name):
            into(account)(entry)

    for account, _, error in await answers(accounts, one, _failures()):
        if error is not None:
            scope.fail(f"{scope.name.rpartition(':')[2]} of {account.name}", error)


CONNECTOR = Connector(
    source=Source.AZURE_OPENAI,
    title="Azure OpenAI and Azure AI Services",
    looks_for="Accounts with network exposure, key access and encryption; deployments with model and version; "
    "content-filter policies; Foundry projects and what they are connected to.",
    permissions=(
        "Microsoft.Resources/subscriptions/read",
        "Microsoft.CognitiveServices/accounts/read",
        "Microsoft.CognitiveServices/accounts/deployments/read",
        "Microsoft.CognitiveServices/accounts/raiPolicies/read",
        "Microsoft.CognitiveServices/accounts/projects/read",
        "Microsoft.CognitiveServices/accounts/connections/read",
        "Microsoft.CognitiveServices/accounts/projects/connections/read",
    ),
    options=Options,
    check=check,
    discover=discover,
)
