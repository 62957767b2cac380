"""An Azure Resource Manager that lists what it is told to, over HTTP.

Its entries are held against the SDK's own models (`drifted`), so that it cannot say what the real one could not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.mgmt.cognitiveservices import models

from services.inventory.tests.fakes import Faults

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
SECOND = "00000000-0000-0000-0000-000000000002"
TOKEN = "a-token-of-tests-4711"
_PROVIDER = "providers/Microsoft.CognitiveServices/accounts"
_LISTINGS = {
    "accounts": "Account",
    "deployments": "Deployment",
    "raiPolicies": "RaiPolicy",
    "projects": "Project",
    "connections": "ConnectionPropertiesV2BasicResource",
}


class Identity:
    """A credential that has a token without asking anybody."""

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(TOKEN, 4_000_000_000)

    async def get_token_info(self, *scopes: str, **_: Any) -> AccessTokenInfo:
        return AccessTokenInfo(TOKEN, 4_000_000_000)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Nothing is open."""


def drift(model: str, value: Any, at: str) -> list[str]:
    """Where a value is not what the SDK's model of that name (`[Name]`, `{Name}`, a plain type) says."""
    if model[0] == "[":
        if not isinstance(value, list):
            return [f"{at}: no list"]
        return [wrong for n, item in enumerate(value) for wrong in drift(model[1:-1], item, f"{at}[{n}]")]
    if model[0] == "{":
        return [wrong for key, item in value.items() for wrong in drift(model[1:-1], item, f"{at}.{key}")]
    plain = {"str": str, "bool": bool, "int": int, "object": object, "iso-8601": str}.get(model)
    if plain is not None:
        return [] if isinstance(value, plain) else [f"{at}: {value!r} is no {model}"]
    described = getattr(models, model)
    if kinds := getattr(described, "_subtype_map", None):
        ((discriminator, by_value),) = kinds.items()
        key = described._attribute_map[discriminator]["key"]
        if not hasattr(models, by_value.get(value.get(key), "")):
            return [f"{at}.{key}: {value.get(key)!r} is no kind of {model}"]
        described = getattr(models, by_value[value[key]])
    fields = {entry["key"]: entry["type"] for entry in described._attribute_map.values()}
    wrong = [f"{at}.{key}: unknown" for key in value if key not in fields]
    return wrong + [w for key, item in value.items() if key in fields for w in drift(fields[key], item, f"{at}.{key}")]


@dataclass
class FakeAzure:
    """Subscriptions with what they hold.

    Attributes:
        held: path below /subscriptions/{id}/ of a listing, in lower case -> its entries.
        methods: HTTP methods that were asked for.
    """

    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    page_size: int = 1
    drifted: list[str] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.methods.add(request.method)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refused("InvalidAuthenticationToken", "no token", 401)()
        path = request.path.strip("/").lower()
        listing = path.rpartition("/")[2]
        if (fault := await self.faults.of(listing)) is not None:
            return fault
        if (fault := await self.faults.of(path)) is not None:
            return fault
        entries = self.subscriptions if path == "subscriptions" else self.held.get(path, [])
        for name, model in _LISTINGS.items():
            if listing == name.lower():
                self.drifted += [wrong for entry in entries for wrong in drift(model, entry, name)]
        start = int(request.query.get("$skiptoken", "0"))
        answer: dict[str, Any] = {"value": entries[start : start + self.page_size]}
        if start + self.page_size < len(entries):
            version = request.query["api-version"]
            answer["nextLink"] = (
                f"{request.url.origin()}{request.path}?api-version={version}&$skiptoken={start + self.page_size}"
            )
        return web.json_response(answer)

    def hold(self, owner: str, listing: str, *entries: dict[str, Any]) -> None:
        """Put entries into a listing of an owner (an account's or a project's id, or a subscription's)."""
        inner = f"/{_PROVIDER}" if listing == "accounts" else f"/{listing}"
        self.held.setdefault(re.sub("/+", "/", f"{owner}{inner}").strip("/").lower(), []).extend(entries)


def refused(code: str, message: str, status: int, **headers: str) -> Callable[[], web.StreamResponse]:
    """An error as Azure Resource Manager gives it."""
    return lambda: web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)


denied = refused("AuthorizationFailed", "does not have authorization to perform action", 403)
throttled = refused("TooManyRequests", "slow down", 429, **{"Retry-After": "1"})
expired = refused("ExpiredAuthenticationToken", "The access token expiry UTC time is in the past", 401)
broken = refused("InternalServerError", "try again later", 500)
unregistered = refused("MissingSubscriptionRegistration", "The subscription is not registered to use namespace", 409)


def an_account(name: str, subscription: str = SUBSCRIPTION, kind: str = "OpenAI", **properties: Any) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{subscription}/resourceGroups/ai/{_PROVIDER}/{name}",
        "name": name,
        "type": "Microsoft.CognitiveServices/accounts",
        "kind": kind,
        "location": "swedencentral",
        "sku": {"name": "S0"},
        "properties": {
            "endpoint": f"https://{name}.openai.azure.com/",
            "customSubDomainName": name,
            "publicNetworkAccess": "Enabled",
            **properties,
        },
    }


def a_deployment(account: Mapping[str, Any], name: str, model: str = "gpt-4o", **properties: Any) -> dict[str, Any]:
    return {
        "id": f"{account['id']}/deployments/{name}",
        "name": name,
        "properties": {
            "model": {"format": "OpenAI", "name": model, "version": "2024-11-20"},
            "provisioningState": "Succeeded",
            **properties,
        },
    }


def a_policy(account: Mapping[str, Any], name: str, *filters: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {
        "id": f"{account['id']}/raiPolicies/{name}",
        "name": name,
        "properties": {"type": "UserManaged", "mode": "Blocking", "contentFilters": list(filters), **properties},
    }


def an_estate() -> FakeAzure:
    """Two accounts: one open to all with a relaxed policy, one shut in with projects and connections."""
    fake = FakeAzure(
        subscriptions=[
            {"id": f"/subscriptions/{SUBSCRIPTION}", "subscriptionId": SUBSCRIPTION, "state": "Enabled"},
            {"id": f"/subscriptions/{SECOND}", "subscriptionId": SECOND, "state": "Disabled"},
        ]
    )
    one = an_account("open")
    one["tags"] = {"Owner": "support", "dataClassification": "restricted", "env": "prod"}
    two = an_account(
        "shut",
        kind="AIServices",
        publicNetworkAccess="Disabled",
        disableLocalAuth=True,
        allowProjectManagement=True,
        encryption={"keySource": "Microsoft.KeyVault", "keyVaultProperties": {"keyName": "k"}},
        endpoints={"AI Foundry API": "https://shut.services.ai.azure.com/"},
    )
    fake.hold(f"/subscriptions/{SUBSCRIPTION}", "accounts", one, an_account("speech", kind="SpeechServices"), two)
    fake.hold(
        one["id"],
        "deployments",
        a_deployment(one, "chat", raiPolicyName="lax", versionUpgradeOption="OnceNewDefaultVersionAvailable"),
        a_deployment(one, "tuned", model="gpt-4o-2024-08-06.ft-0a1b"),
    )
    fake.hold(
        one["id"],
        "raiPolicies",
        a_policy(
            one,
            "lax",
            {"name": "Hate", "enabled": False, "blocking": False, "severityThreshold": "High", "source": "Prompt"},
            {"name": "Violence", "enabled": True, "blocking": True, "severityThreshold": "High", "source": "Prompt"},
            {"name": "Sexual", "enabled": True, "blocking": True, "severityThreshold": "Medium", "source": "Prompt"},
            {"name": "Jailbreak", "enabled": True, "blocking": False, "source": "Prompt"},
        ),
        a_policy(one, "Microsoft.Default", type="SystemManaged"),
    )
    fake.hold(two["id"], "deployments", a_deployment(two, "embed", model="text-embedding-3-large"))
    project: dict[str, Any] = {
        "id": f"{two['id']}/projects/helpdesk",
        "name": "shut/helpdesk",
        "location": "swedencentral",
        "properties": {
            "displayName": "Helpdesk",
            "endpoints": {"AI Foundry API": "https://shut.services.ai.azure.com/api/projects/helpdesk"},
        },
    }
    fake.hold(two["id"], "projects", project)
    fake.hold(
        project["id"],
        "connections",
        {
            "id": f"{project['id']}/connections/search",
            "name": "search",
            "properties": {
                "category": "CognitiveSearch",
                "authType": "ApiKey",
                "target": "https://handbook.search.windows.net/",
                "credentials": {"key": "planted-search-key-0815-0815"},
            },
        },
    )
    return fake
