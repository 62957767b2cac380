"""Gateways and servers that speak OpenAI's API (vLLM, Ollama, LiteLLM, llama.cpp, TGI...), by their /v1/models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.connectors.web import (
    Api,
    PlatformError,
    Targets,
    ask_each,
    check_targets,
    listed,
    text,
)
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.contracts.inventory import AssetType, DeploymentEnvironment, Relation

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SERVERS = {"vllm": "vllm", "library": "ollama", "ollama": "ollama", "llamacpp": "llama.cpp", "sglang": "sglang"}


class Options(Targets):
    """Which servers to ask; their address ends where `/models` begins, most often in /v1."""


def served_model(
    entry: Mapping[str, Any], base: str, *, server: str, alone: bool, open_to_all: bool
) -> tuple[Found, ...]:
    """One entry of GET /v1/models: what is called, and the model behind it.

    Args:
        base: the server's address.
        server: what answers, as far as it says.
        alone: it serves nothing else, so its address means this model.
        open_to_all: it answered without credentials.
    """
    name = str(entry["id"])
    at = f"{base}/models#{name}"
    behind = _model_behind(entry, name, server, at)
    answered = found(
        at,
        name=f"{name} at {base.partition('://')[2]}",
        asset_type=AssetType.API_ENDPOINT,
        model_provider=server,
        model_name=name,
        api_endpoint=base,
        deployment_env=DeploymentEnvironment.PRODUCTION,
        is_self_hosted=server in set(_SERVERS.values()) or None,
        description=f"Served by {server} at {base}",
    )
    observations = []
    if open_to_all:
        observations.append(
            Observation(ObservationKind.NO_AUTHENTICATION, Severity.HIGH, "it lists its models to anybody", base)
        )
    if base.startswith("http://"):
        observations.append(
            Observation(ObservationKind.PLAIN_HTTP, Severity.MEDIUM, "prompts and keys travel unencrypted", base)
        )
    address = identity.endpoint(base) if alone else None
    answered = replace(
        answered,
        identities=(address,) if address else (),
        links=(Link(Relation.SERVED_BY, behind.locator, at, reverse=True),),
        observations=tuple(observations),
    )
    return behind, answered


def _model_behind(entry: Mapping[str, Any], name: str, server: str, at: str) -> Found:
    root = text(entry, "root", "parent") or name
    if root.startswith(("/", "./", "pvc://")):
        # A path means another model on each server that has it.
        return found(
            f"{at}/weights",
            name=f"{root} at {at}",
            asset_type=AssetType.FOUNDATION_MODEL,
            deployment_env=DeploymentEnvironment.PRODUCTION,
        )
    if _REPOSITORY.fullmatch(root) and server != "litellm":
        key = identity.huggingface(root)
        made = found(
            key,
            name=root,
            asset_type=AssetType.FOUNDATION_MODEL,
            model_provider="huggingface",
            model_name=root,
            source_url=f"https://huggingface.co/{root}",
            deployment_env=DeploymentEnvironment.PRODUCTION,
        )
        return replace(made, identities=(key,))
    provider, _, model = root.partition("/") if server == "litellm" and "/" in root else (server, "", root)
    owner = text(entry, "owned_by")
    if server == "openai_compatible" and owner and re.fullmatch(r"[\w-]{2,40}", owner):
        provider = {"system": "openai", "openai-internal": "openai"}.get(owner, owner)
    key = identity.hosted_model(provider, model)
    made = found(
        key,
        name=f"{provider}/{model}",
        asset_type=AssetType.EMBEDDING_MODEL if "embed" in model.lower() else AssetType.FOUNDATION_MODEL,
        model_provider=provider,
        model_name=model,
        deployment_env=DeploymentEnvironment.PRODUCTION,
    )
    return replace(made, identities=(key,))


def server_of(entries: list[dict[str, Any]]) -> str:
    """What answers, by whom it says its models are owned by."""
    owners = {str(entry.get("owned_by", "")).lower() for entry in entries}
    return next((_SERVERS[owner] for owner in sorted(owners) if owner in _SERVERS), "openai_compatible")


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """The models of each server."""
    await ask_each(options, settings, harvest, "/models", _read)


async def _read(api: Api, scope: Scope) -> None:
    entries = listed(await api.get("/models"), "data")
    server = await _server(api, entries)
    for entry in entries:
        if not text(entry, "id"):
            scope.fail(scope.name, "an entry has no id")
            continue
        shown = served_model(
            entry,
            api.target.shown,
            server=server,
            alone=len(entries) == 1,
            open_to_all=not api.target.headers,
        )
        for one in shown:
            await scope.add(one)


async def _server(api: Api, entries: list[dict[str, Any]]) -> str:
    known = server_of(entries)
    if known != "openai_compatible":
        return known
    try:
        answer = await api.get("/model/info")
    except PlatformError:
        return known
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        return known
    # LiteLLM says which provider's model each of its names stands for.
    behind = {
        one["model_name"]: one["litellm_params"].get("model")
        for one in answer["data"]
        if isinstance(one, dict) and text(one, "model_name") and isinstance(one.get("litellm_params"), dict)
    }
    for entry in entries:
        if isinstance(meant := behind.get(str(entry.get("id"))), str):
            entry["root"] = meant
    return "litellm"


CONNECTOR = Connector(
    source=Source.OPENAI_COMPATIBLE,
    title="OpenAI-compatible servers and gateways",
    looks_for="What vLLM, Ollama, LiteLLM and others serve, the model behind each name, and whether anybody may ask.",
    permissions=("GET /v1/models", "GET /model/info (LiteLLM, optional)"),
    options=Options,
    check=check_targets,
    discover=discover,
)
