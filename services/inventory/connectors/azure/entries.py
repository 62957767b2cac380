"""What Azure Resource Manager says of AI accounts and what they hold, as entries. Nothing here calls anything.

Names of fields are the SDK's, as its models give them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from shared.contracts.inventory import AssetType, NetworkExposure, Relation

PROVIDER = "azure_openai"


def resource_group_of(azure_id: str) -> str:
    """The resource group within an Azure resource id.

    Raises:
        ValueError: the id names none.
    """
    parts = azure_id.split("/")
    for position, part in enumerate(parts[:-1]):
        if part.lower() == "resourcegroups" and parts[position + 1]:
            return parts[position + 1]
    raise ValueError(f"no resource group in {azure_id!r}")


def exposure(account: Mapping[str, Any]) -> tuple[NetworkExposure, str] | None:
    """From where an account can be reached, and the field that says so; None when it says nothing."""
    properties = account.get("properties") or {}
    access = properties.get("public_network_access")
    if access == "Disabled":
        return NetworkExposure.VPC, "publicNetworkAccess"
    rules = properties.get("network_acls") or {}
    if rules.get("default_action") == "Deny":
        return NetworkExposure.VPC, "networkAcls.defaultAction"
    if access == "Enabled" or rules.get("default_action") == "Allow":
        return NetworkExposure.PUBLIC, "publicNetworkAccess" if access else "networkAcls.defaultAction"
    return None


def own_addresses(account: Mapping[str, Any]) -> list[str]:
    """Addresses that are the account's alone. One without a subdomain of its own answers at its region's address, which
    it shares with others."""
    properties = account.get("properties") or {}
    subdomain = str(properties.get("custom_sub_domain_name") or "").lower()
    told = [properties.get("endpoint"), *(properties.get("endpoints") or {}).values()]
    own = [str(url) for url in told if url and subdomain and f"//{subdomain}." in str(url).lower()]
    return list(dict.fromkeys(own))


def account_entry(account: Mapping[str, Any]) -> Found:
    """An account of kind OpenAI or AIServices: where its deployments are called, by whom and how guarded."""
    azure_id, name = str(account["id"]), str(account["name"])
    properties = account.get("properties") or {}
    one = found(
        azure_id,
        name=f"Azure AI account: {name}",
        asset_type=AssetType.INTEGRATION,
        description=f"Azure account of kind {account.get('kind')}",
        api_endpoint=next(iter(own_addresses(account)), None),
        is_self_hosted=False,
        cloud_provider="azure",
        cloud_region=account.get("location"),
    )
    known = [identity.endpoint(url) for url in own_addresses(account)]
    key = (properties.get("encryption") or {}).get("key_source")
    managed = account.get("identity") or {}
    return replace(
        _exposed(one, account),
        identities=(identity.resource(azure_id), *(url for url in dict.fromkeys(known) if url)),
        observations=tuple(_account_weaknesses(azure_id, properties, key)),
        card={
            "kind": account.get("kind"),
            "sku": (account.get("sku") or {}).get("name"),
            "identity": managed.get("type"),
            "key_based_access": properties.get("disable_local_auth") is not True,
            "encryption_key_source": key or "Microsoft.CognitiveServices",
            "outbound_restricted": properties.get("restrict_outbound_network_access"),
        },
    )


def _exposed(one: Found, account: Mapping[str, Any]) -> Found:
    told = exposure(account)
    return one.declared(f"{account['id']}#{told[1]}", network_exposure=told[0]) if told else one


def _account_weaknesses(azure_id: str, properties: Mapping[str, Any], key: str | None) -> Iterable[Observation]:
    if properties.get("disable_local_auth") is not True:
        what = "Keys are accepted: whoever holds one calls without an identity of their own."
        yield Observation(ObservationKind.KEY_ACCESS_ENABLED, Severity.MEDIUM, what, f"{azure_id}#disableLocalAuth")
    told = exposure({"properties": properties})
    if told and told[0] is NetworkExposure.PUBLIC:
        what = "It can be called from any network."
        yield Observation(ObservationKind.PUBLIC_NETWORK, Severity.MEDIUM, what, f"{azure_id}#{told[1]}")
    if key != "Microsoft.KeyVault":
        what = "It is encrypted with a key of Microsoft's, not one of the organisation's own."
        yield Observation(ObservationKind.NO_CUSTOMER_KEY, Severity.LOW, what, f"{azure_id}#encryption.keySource")


def policy_weaknesses(policy: Mapping[str, Any]) -> list[Observation]:
    """Where a content-filter policy lets through what the platform would stop by default."""
    azure_id, name = str(policy["id"]), str(policy["name"])
    properties = policy.get("properties") or {}
    told: list[Observation] = []

    def note(severity: Severity, what: str, at: str) -> None:
        told.append(
            Observation(ObservationKind.CONTENT_FILTER_RELAXED, severity, f"{name}: {what}", f"{azure_id}#{at}")
        )

    for rule in properties.get("content_filters") or ():
        which = f"{rule.get('name')} in {str(rule.get('source') or 'all').lower()}s"
        at = f"contentFilters/{rule.get('name')}/{rule.get('source')}"
        if rule.get("enabled") is False:
            note(Severity.HIGH, f"the filter for {which} is off.", at)
        elif rule.get("blocking") is False:
            note(Severity.HIGH, f"the filter for {which} marks and does not block.", at)
        elif rule.get("severity_threshold") == "High":
            note(Severity.MEDIUM, f"the filter for {which} stops the worst only.", at)
    if properties.get("mode") in {"Deferred", "Asynchronous_filter"}:
        note(Severity.LOW, "answers are streamed before they are filtered.", "mode")
    return told


def policy_entry(policy: Mapping[str, Any], account: Mapping[str, Any]) -> Found:
    """A content-filter policy (raiPolicies) of an account."""
    azure_id = str(policy["id"])
    properties = policy.get("properties") or {}
    one = found(
        azure_id,
        name=f"Content filter: {policy['name']} of {account['name']}",
        asset_type=AssetType.GUARDRAIL_CONFIG,
        description=f"Azure content-filter policy, {properties.get('type') or 'of unknown origin'}",
        cloud_provider="azure",
        cloud_region=account.get("location"),
    )
    return replace(
        one,
        identities=(identity.resource(azure_id),),
        links=(Link(Relation.DEPLOYED_IN, identity.resource(str(account["id"])), azure_id),),
        observations=tuple(policy_weaknesses(policy)),
        card={
            "mode": properties.get("mode"),
            "base": properties.get("base_policy_name"),
            "filters": sorted({str(rule.get("name")) for rule in properties.get("content_filters") or ()}),
            "blocklists": [rule.get("blocklist_name") for rule in properties.get("custom_blocklists") or ()],
        },
    )


def deployment_entry(
    account: Mapping[str, Any], deployment: Mapping[str, Any], policy: Mapping[str, Any] | None = None
) -> Found:
    """A deployment within an account.

    The endpoint is the deployment's own path below the account's address, because that is what is called and because
    an account may hold several deployments of one model.

    Args:
        policy: the content-filter policy that it names, if that could be read.
    """
    name = str(deployment["name"])
    properties = deployment.get("properties") or {}
    model = properties.get("model") or {}
    azure_id = str(deployment.get("id") or f"{account['id']}/deployments/{name}")
    base = str((account.get("properties") or {}).get("endpoint") or "").rstrip("/")
    address = f"{base}/openai/deployments/{name}" if base else None
    one = found(
        azure_id,
        name=f"Azure OpenAI: {name}",
        asset_type=AssetType.API_ENDPOINT,
        model_provider=PROVIDER,
        model_name=model.get("name"),
        model_version=model.get("version"),
        api_endpoint=address,
        is_self_hosted=False,
        cloud_provider="azure",
        cloud_region=account.get("location"),
    )
    links = [Link(Relation.DEPLOYED_IN, identity.resource(str(account["id"])), azure_id)]
    if model.get("name"):
        links.append(Link(Relation.USES_MODEL, _model_identity(model), f"{azure_id}#model"))
    if policy_name := properties.get("rai_policy_name"):
        target = identity.resource(f"{account['id']}/raiPolicies/{policy_name}")
        links.append(Link(Relation.GUARDED_BY, target, f"{azure_id}#raiPolicyName"))
    if spills := properties.get("spillover_deployment_name"):
        target = identity.resource(f"{account['id']}/deployments/{spills}")
        links.append(Link(Relation.DEPENDS_ON, target, f"{azure_id}#spilloverDeploymentName"))
    known = identity.endpoint(address) if address and own_addresses(account) else None
    return replace(
        _exposed(one, account),
        identities=(identity.resource(azure_id), *((known,) if known else ())),
        links=tuple(links),
        observations=tuple(policy_weaknesses(policy)) if policy else (),
        card={
            "state": properties.get("provisioning_state"),
            "sku": (deployment.get("sku") or {}).get("name"),
            "version_upgrade": properties.get("version_upgrade_option"),
            "model_format": model.get("format"),
        },
    )


def _model_identity(model: Mapping[str, Any]) -> str:
    """Who made a model is its format: OpenAI, Meta, Mistral AI."""
    maker = str(model.get("format") or model.get("publisher") or "openai").lower().replace(" ", "-")
    return identity.hosted_model(maker, str(model["name"]))


def model_entries(deployment: Mapping[str, Any], subscription: str) -> list[Found]:
    """The model that is deployed, and what it was tuned from, as entries: nothing else may ever report them."""
    model = (deployment.get("properties") or {}).get("model") or {}
    if not model.get("name"):
        return []
    name = str(model["name"])
    at = f"{deployment.get('id')}#model"
    base, tuned, _ = name.partition(".ft-")
    embeds = "embed" in name.lower()
    kind = AssetType.EMBEDDING_MODEL if embeds else AssetType.FOUNDATION_MODEL
    made: list[Found] = []
    for each in dict.fromkeys((name, base)):
        known = _model_identity({**model, "name": each})
        own = each == name and bool(tuned)
        one = found(
            at,
            name=each,
            asset_type=AssetType.FINE_TUNED_MODEL if own else kind,
            model_provider=str(model.get("format") or "OpenAI"),
            model_name=each,
            is_self_hosted=False,
        )
        links = [Link(Relation.FINE_TUNED_FROM, _model_identity({**model, "name": base}), at)] if own else []
        locator = f"azure:{subscription}:{known}"
        made.append(replace(one, locator=locator, identities=(known,), links=tuple(links)))
    return made


def project_entry(project: Mapping[str, Any], account: Mapping[str, Any]) -> Found:
    """A Foundry project within an account: where agents are built."""
    azure_id = str(project["id"])
    properties = project.get("properties") or {}
    own = [url for url in (properties.get("endpoints") or {}).values() if url] if own_addresses(account) else []
    one = found(
        azure_id,
        name=f"Azure AI project: {project['name']}",
        asset_type=AssetType.INTEGRATION,
        description=str(properties.get("description") or properties.get("display_name") or "")[:500],
        api_endpoint=next(iter(own), None),
        is_self_hosted=False,
        cloud_provider="azure",
        cloud_region=project.get("location") or account.get("location"),
    )
    known = [identity.endpoint(str(url)) for url in own]
    return replace(
        _exposed(one, account),
        identities=(identity.resource(azure_id), *(url for url in dict.fromkeys(known) if url)),
        links=(Link(Relation.DEPLOYED_IN, identity.resource(str(account["id"])), azure_id),),
    )


_SEARCH = frozenset(
    {"CognitiveSearch", "CosmosDb", "CosmosDbMongoDbApi", "AzurePostgresDb", "Pinecone", "Elasticsearch"}
)
_BY_KEY = frozenset(
    {"ApiKey", "AccountKey", "AccessKey", "CustomKeys", "SAS", "PAT", "UsernamePassword", "ServicePrincipal"}
)


def connection_entry(connection: Mapping[str, Any], owner: Mapping[str, Any], account: Mapping[str, Any]) -> Found:
    """What an account or a project is connected to. Its credentials are not read.

    Args:
        owner: the account or the project that holds the connection.
    """
    azure_id = str(connection["id"])
    properties = connection.get("properties") or {}
    category, way = str(properties.get("category") or "unknown"), str(properties.get("auth_type") or "")
    target = str(properties.get("target") or "")
    one = found(
        azure_id,
        name=f"Connection: {connection['name']} of {owner['name']}",
        asset_type=AssetType.INTEGRATION,
        description=f"Connection of an Azure AI account to {category}",
        source_url=target if target.startswith("https://") else None,
        cloud_provider="azure",
        cloud_region=account.get("location"),
    )
    links = [Link(Relation.DEPLOYED_IN, identity.resource(str(owner["id"])), azure_id)]
    if known := identity.endpoint(target):
        relation = Relation.RETRIEVES_FROM if category in _SEARCH else Relation.DEPENDS_ON
        links.append(Link(relation, known, f"{azure_id}#target"))
    told: list[Observation] = []
    if way in _BY_KEY:
        what = f"The connection holds a credential ({way}) rather than using an identity."
        told.append(Observation(ObservationKind.KEY_ACCESS_ENABLED, Severity.LOW, what, f"{azure_id}#authType"))
    return replace(
        one,
        identities=(identity.resource(azure_id),),
        links=tuple(links),
        observations=tuple(told),
        card={"category": category, "authentication": way, "shared": properties.get("is_shared_to_all")},
    )
