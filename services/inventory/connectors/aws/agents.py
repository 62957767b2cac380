"""What Bedrock says of agents and knowledge bases, as entries. Nothing here calls anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.inventory.connectors.aws.access import Place
from services.inventory.connectors.aws.models import PROVIDER, model_target, service_locator
from services.inventory.domain import identity
from services.inventory.domain.asset import Digest
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from shared.contracts.inventory import AssetType, Relation

DRAFT = "DRAFT"
"""The version of an agent that is being worked on: what GetAgent describes."""


_OF_AGENT = (
    "agentArn",
    "agentCollaboration",
    "agentResourceRoleArn",
    "agentVersion",
    "customerEncryptionKeyArn",
    "description",
    "foundationModel",
    "guardrailConfiguration",
)
_OF_GROUP = ("actionGroupExecutor", "actionGroupId", "actionGroupName", "actionGroupState", "description")


def described_agent(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of GetAgent's answer: of the instruction its digest and length, for its text stays where it is."""
    detail = answer["agent"]
    kept = {name: detail[name] for name in _OF_AGENT if detail.get(name)}
    if text := detail.get("instruction"):
        digest = hashlib.sha256(str(text).encode(errors="surrogatepass")).hexdigest()
        kept["instruction"] = {"sha256": digest, "characters": len(text)}
    return kept


def described_group(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of GetAgentActionGroup's answer: of functions their names, of an API's description where it lies."""
    detail = answer["agentActionGroup"]
    functions = (detail.get("functionSchema") or {}).get("functions") or ()
    return {
        **{name: detail[name] for name in _OF_GROUP if detail.get(name)},
        "parentActionSignature": detail.get("parentActionSignature"),
        "apiSchema": {"s3": (detail.get("apiSchema") or {}).get("s3") or {}},
        "functionSchema": {"functions": [{"name": function.get("name")} for function in functions]},
    }


def agent(
    summary: Mapping[str, Any],
    detail: Mapping[str, Any] | None,
    place: Place,
    *,
    groups: Sequence[Mapping[str, Any]] = (),
    bases: Sequence[Mapping[str, Any]] = (),
    aliases: Sequence[Mapping[str, Any]] = (),
    collaborators: Sequence[Mapping[str, Any]] = (),
) -> list[Found]:
    """An agent with its instruction and its action groups as entries beside it.

    Args:
        summary: the agent in ListAgents.
        detail: `described_agent`; without it (it may be refused) only the summary is told.
        groups: `described_group`, or the summaries where those were refused.
        bases: what ListAgentKnowledgeBases says; aliases, collaborators: likewise.
    """
    agent_id, name = str(summary["agentId"]), str(summary["agentName"])
    arn = str((detail or {}).get("agentArn") or place.arn("bedrock", f"agent/{agent_id}"))
    told = detail or summary
    model = str(told.get("foundationModel") or "")
    active = [group for group in groups if group.get("actionGroupState") != "DISABLED"]
    one = found(
        arn,
        name=name,
        asset_type=AssetType.AI_AGENT,
        description=str(told.get("description") or "Amazon Bedrock agent")[:500],
        model_provider=PROVIDER,
        model_name=model or None,
        is_self_hosted=False,
        cloud_provider="aws",
        cloud_region=place.region,
        # Two agents of one model would otherwise have one registration key.
        api_endpoint=arn,
    ).declared(f"{arn}#actionGroups", authorized_tools=tuple(sorted({tool for g in active for tool in _tools(g)})))
    links = [Link(Relation.DEPLOYED_IN, service_locator(place), arn)]
    if model:
        links.append(Link(Relation.USES_MODEL, model_target(model, place), f"{arn}#foundationModel"))
    guard = str((told.get("guardrailConfiguration") or {}).get("guardrailIdentifier") or "")
    if guard:
        target = guard if guard.startswith("arn:") else place.arn("bedrock", f"guardrail/{guard}")
        links.append(Link(Relation.GUARDED_BY, identity.resource(target), f"{arn}#guardrailConfiguration"))
    for base in bases:
        if base.get("knowledgeBaseState") != "DISABLED":
            target = place.arn("bedrock", f"knowledge-base/{base['knowledgeBaseId']}")
            links.append(Link(Relation.RETRIEVES_FROM, identity.resource(target), f"{arn}#knowledgeBases"))
    called = [str(alias) for other in collaborators if (alias := (other.get("agentDescriptor") or {}).get("aliasArn"))]
    links += [Link(Relation.DEPENDS_ON, identity.resource(alias), f"{arn}#collaborators") for alias in called]
    for alias_entry in aliases:
        for route in alias_entry.get("routingConfiguration") or ():
            if throughput := route.get("provisionedThroughput"):
                target = model_target(str(throughput), place)
                links.append(Link(Relation.USES_MODEL, target, f"{arn}#aliases/{alias_entry['agentAliasName']}"))
    tools = [_action_group(arn, group, place) for group in active]
    links += [Link(Relation.CALLS_TOOL, tool.locator, f"{arn}#actionGroups") for tool in tools]
    beside = list(tools)
    if detail and (instruction := detail.get("instruction")):
        prompt = _instruction(arn, name, instruction, place)
        links.append(Link(Relation.DEPENDS_ON, prompt.locator, f"{arn}#instruction"))
        beside.append(prompt)
    weak: list[Observation] = []
    if detail and not guard:
        why = "No guardrail is set for this agent."
        weak.append(Observation(ObservationKind.NO_GUARDRAIL, Severity.MEDIUM, why, f"{arn}#guardrailConfiguration"))
    if detail and not detail.get("customerEncryptionKeyArn"):
        why = "The agent is encrypted with a key of AWS's, not one of the account's own."
        weak.append(Observation(ObservationKind.NO_CUSTOMER_KEY, Severity.LOW, why, f"{arn}#customerEncryptionKeyArn"))
    alias_ids = [f"{agent_id}/{entry['agentAliasId']}" for entry in aliases]
    whole = replace(
        one,
        identities=(
            identity.resource(arn),
            # An alias is a name by which the agent is called, also by other agents.
            *(identity.resource(place.arn("bedrock", f"agent-alias/{alias}")) for alias in alias_ids),
            identity.agent(name, f"aws/{place.account}/{place.region}"),
        ),
        links=tuple(dict.fromkeys(links)),
        observations=tuple(weak),
        card={
            "status": summary.get("agentStatus"),
            "version": told.get("agentVersion") or DRAFT,
            "execution_role": told.get("agentResourceRoleArn"),
            "aliases": [f"{entry['agentAliasName']} ({entry['agentAliasId']})" for entry in aliases],
        },
    )
    return [whole, *beside]


def _tools(group: Mapping[str, Any]) -> list[str]:
    """What an action group lets an agent do, by the functions' names where it tells them."""
    name = str(group["actionGroupName"])
    functions = (group.get("functionSchema") or {}).get("functions") or ()
    return [f"{name}.{function['name']}" for function in functions if function.get("name")] or [name]


def _action_group(agent_arn: str, group: Mapping[str, Any], place: Place) -> Found:
    locator = f"{agent_arn}/action-group/{group['actionGroupId']}"
    executor = group.get("actionGroupExecutor") or {}
    lets = group.get("parentActionSignature") or executor.get("lambda") or executor.get("customControl")
    schema = (group.get("apiSchema") or {}).get("s3") or {}
    one = found(
        locator,
        name=f"{group['actionGroupName']} of {agent_arn.rpartition('/')[2]}",
        asset_type=AssetType.INTEGRATION,
        description=str(group.get("description") or "Action group of an Amazon Bedrock agent")[:500],
        source_url=f"s3://{schema['s3BucketName']}/{schema.get('s3ObjectKey', '')}"
        if "s3BucketName" in schema
        else None,
        cloud_provider="aws",
        cloud_region=place.region,
    ).declared(f"{locator}#functionSchema", authorized_tools=tuple(_tools(group)))
    links: tuple[Link, ...] = ()
    if function := executor.get("lambda"):
        links = (Link(Relation.DEPENDS_ON, identity.resource(str(function)), f"{locator}#actionGroupExecutor"),)
    return replace(
        one, identities=(identity.resource(locator),), links=links, card={"executor": lets} if lets else None
    )


def _instruction(agent_arn: str, name: str, kept: Mapping[str, Any], place: Place) -> Found:
    """The instruction as a reference: its digest tells whether it changed."""
    locator = f"{agent_arn}#instruction"
    one = found(
        locator,
        name=f"Instruction of {name} ({agent_arn.rpartition('/')[2]})",
        asset_type=AssetType.PROMPT_TEMPLATE,
        description=f"Instruction of an Amazon Bedrock agent, {kept['characters']} characters",
        integrity=(Digest("instruction", "sha256", kept["sha256"]),),
        cloud_provider="aws",
        cloud_region=place.region,
    )
    return replace(one, identities=(identity.resource(locator),))


def knowledge_base(
    summary: Mapping[str, Any],
    detail: Mapping[str, Any] | None,
    place: Place,
    sources: Sequence[Mapping[str, Any]] = (),
) -> list[Found]:
    """A knowledge base with its vector store and its data sources as entries beside it.

    Args:
        summary: the knowledge base in ListKnowledgeBases.
        detail: GetKnowledgeBase's answer; without it only the summary is told.
        sources: GetDataSource's answers, or the summaries where those were refused.
    """
    base_id, name = str(summary["knowledgeBaseId"]), str(summary["name"])
    detail = detail or {}
    arn = str(detail.get("knowledgeBaseArn") or place.arn("bedrock", f"knowledge-base/{base_id}"))
    kind = (detail.get("knowledgeBaseConfiguration") or {}).get("type")
    one = found(
        arn,
        name=name,
        asset_type=AssetType.INTEGRATION,
        description=str(summary.get("description") or "Amazon Bedrock knowledge base")[:500],
        api_endpoint=arn,
        is_self_hosted=False,
        cloud_provider="aws",
        cloud_region=place.region,
    )
    vectors = (detail.get("knowledgeBaseConfiguration") or {}).get("vectorKnowledgeBaseConfiguration") or {}
    embedding = str(vectors.get("embeddingModelArn") or "")
    links: list[Link] = []
    if embedding:
        links.append(Link(Relation.USES_MODEL, model_target(embedding, place), f"{arn}#embeddingModelArn"))
    beside: list[Found] = []
    if store := _store(arn, name, detail.get("storageConfiguration") or {}, embedding, place):
        links.append(Link(Relation.RETRIEVES_FROM, store.locator, f"{arn}#storageConfiguration"))
        beside.append(store)
    for source in sources:
        entry = _data_source(arn, source, place)
        links.append(Link(Relation.RETRIEVES_FROM, entry.locator, f"{arn}#dataSources"))
        beside.append(entry)
    whole = replace(
        one,
        identities=(identity.resource(arn),),
        links=tuple(links),
        card={"status": summary.get("status"), "type": kind, "execution_role": detail.get("roleArn")},
    )
    return [whole, *beside]


_STORES: Mapping[str, tuple[str, str]] = {
    "opensearchServerlessConfiguration": ("collectionArn", "vectorIndexName"),
    "opensearchManagedClusterConfiguration": ("domainArn", "vectorIndexName"),
    "pineconeConfiguration": ("connectionString", "namespace"),
    "redisEnterpriseCloudConfiguration": ("endpoint", "vectorIndexName"),
    "rdsConfiguration": ("resourceArn", "tableName"),
    "mongoDbAtlasConfiguration": ("endpoint", "collectionName"),
    "neptuneAnalyticsConfiguration": ("graphArn", ""),
    "s3VectorsConfiguration": ("indexArn", "indexName"),
}
"""Of each kind of storage configuration, the field that says where the store is, and the one that names the part of it
which holds the vectors."""


def _store(arn: str, name: str, storage: Mapping[str, Any], embedding: str, place: Place) -> Found | None:
    for kind, (where, part) in _STORES.items():
        told = storage.get(kind) or {}
        address = str(told.get(where) or told.get("vectorBucketArn") or "")
        if not address:
            continue
        at = f"{arn}#storageConfiguration"
        shown = address if ":" in address else f"https://{address}"
        one = found(
            at,
            name=f"{name}: {storage.get('type', kind)}",
            asset_type=AssetType.VECTOR_DATABASE,
            description="Vector store of an Amazon Bedrock knowledge base",
            api_endpoint=shown,
            cloud_provider="aws" if address.startswith("arn:") else None,
            cloud_region=place.region if address.startswith("arn:") else None,
        )
        known = identity.resource(address) if address.startswith("arn:") else identity.endpoint(shown)
        links: tuple[Link, ...] = ()
        if embedding:
            link = Link(Relation.EMBEDS_INTO, model_target(embedding, place), f"{arn}#embeddingModelArn", reverse=True)
            links = (link,)
        return replace(
            one,
            identities=(known,) if known else (),
            links=links,
            card={"index": told.get(part)} if told.get(part) else None,
        )
    return None


def _data_source(base_arn: str, source: Mapping[str, Any], place: Place) -> Found:
    locator = f"{base_arn}/data-source/{source['dataSourceId']}"
    configuration = source.get("dataSourceConfiguration") or {}
    bucket = configuration.get("s3Configuration") or {}
    address, known = None, None
    if bucket.get("bucketArn"):
        prefixes = bucket.get("inclusionPrefixes") or [""]
        address = f"s3://{str(bucket['bucketArn']).rpartition(':')[2]}/{prefixes[0]}".rstrip("/")
        known = identity.dataset(address)
    for kind in ("confluenceConfiguration", "salesforceConfiguration", "sharePointConfiguration"):
        hosts = (configuration.get(kind) or {}).get("sourceConfiguration") or {}
        address = address or hosts.get("hostUrl") or next(iter(hosts.get("siteUrls") or ()), None)
    web = ((configuration.get("webConfiguration") or {}).get("sourceConfiguration") or {}).get("urlConfiguration") or {}
    seeds = [seed["url"] for seed in web.get("seedUrls") or () if seed.get("url")]
    address = address or (seeds[0] if seeds else None)
    one = found(
        locator,
        name=f"{source['name']} of {base_arn.rpartition('/')[2]}",
        asset_type=AssetType.INTEGRATION,
        description=f"Data source ({configuration.get('type') or 'unknown'}) of an Amazon Bedrock knowledge base",
        source_url=address,
        cloud_provider="aws",
        cloud_region=place.region,
    )
    # A bucket is named by all that read it; a knowledge base's view of a wiki is its own.
    links = (Link(Relation.DEPENDS_ON, known, f"{locator}#s3Configuration"),) if known else ()
    return replace(one, identities=(identity.resource(locator),), links=links, card={"type": configuration.get("type")})
