"""MLflow's model registry over its REST API: registered models, their versions and what these were made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.connectors.web import (
    Api,
    PlatformError,
    Targets,
    ask_each,
    check_targets,
    listed,
    pages,
    text,
)
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, found
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, Relation

PAGE_SIZE = 200
_OWNER_TAGS = ("owner_team", "owner", "team")
_BASE_TAGS = ("base_model", "base_model_name", "parent_model", "finetuned_from")
_LICENSE_TAGS = ("license", "licence")
_SERVING = ("champion", "production", "prod", "live")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Options(Targets):
    """Which MLflow servers to ask; their address is the server's root."""

    read_runs: Annotated[
        bool, Field(description="Also read each version's run, for the datasets it was trained on.")
    ] = True


def registered_model(
    model: Mapping[str, Any], versions: Sequence[Mapping[str, Any]], run: Mapping[str, Any] | None, base: str
) -> list[Found]:
    """A registered model with the version that counts: the one with a serving alias, else one in Production, else the
    newest.

    Args:
        run: of that version, as GET /runs/get gives it.
    """
    name = str(model["name"])
    at = f"{base}/#/models/{quote(name)}"
    version = chosen(model, versions)
    where = f"{at}/versions/{version['version']}" if version else at
    tags = {**_tags(model), **(_tags(version) if version else {})}
    base_model = next((tags[tag] for tag in _BASE_TAGS if tags.get(tag)), None)
    made = found(
        at,
        name=f"MLflow: {name}",
        asset_type=AssetType.FINE_TUNED_MODEL if base_model else AssetType.FOUNDATION_MODEL,
        description=text(model, "description") or "",
        model_provider="mlflow",
        model_name=name,
        api_endpoint=at,
        is_self_hosted=True,
        deployment_env=_environment(model, version),
    )
    if version:
        made = made.declared(where, model_version=str(version["version"]), source_url=text(version, "source"))
    owner = next((tags[tag] for tag in _OWNER_TAGS if tags.get(tag)), None)
    licence = next((tags[tag] for tag in _LICENSE_TAGS if tags.get(tag)), None)
    classification = tags.get("data_classification", "").lower()
    made = made.declared(
        f"{where} tags",
        owner_team=owner,
        license_type=licence,
        purpose=tags.get("purpose", ""),
        data_classification=(DataClassification(classification) if classification in set(DataClassification) else None),
    )
    links = []
    others = []
    if base_model:
        target = (
            identity.huggingface(base_model)
            if _HUB.fullmatch(base_model)
            else identity.hosted_model("mlflow", base_model)
        )
        links.append(Link(Relation.FINE_TUNED_FROM, target, f"{where} tag"))
    for dataset in _datasets(run):
        others.append(dataset)
        links.append(Link(Relation.TRAINED_ON, dataset.locator, f"{where} run"))
    card = {
        "metrics": _metrics(run),
        "tags": {key: value for key, value in tags.items() if not key.startswith("mlflow.")},
    }
    named = (f"mlflow:{base}/{name}",)
    return [
        *others,
        replace(made, identities=named, links=tuple(links), card={k: v for k, v in card.items() if v} or None),
    ]


def chosen(model: Mapping[str, Any], versions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The version that stands for the model."""
    aliases = {
        str(one.get("alias", "")).lower(): str(one.get("version"))
        for one in model.get("aliases") or ()
        if isinstance(one, dict)
    }
    by_number = {str(version["version"]): version for version in versions if version.get("version") is not None}
    for alias in _SERVING:
        if aliases.get(alias) in by_number:
            return by_number[aliases[alias]]
    staged = [one for one in by_number.values() if str(one.get("current_stage", "")).lower() == "production"]
    candidates = staged or list(by_number.values())
    return max(candidates, key=lambda one: _number(one["version"]), default=None)


def _number(value: Any) -> int:
    return int(value) if str(value).isdigit() else 0


def _tags(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(tag["key"]): str(tag["value"])
        for tag in entry.get("tags") or ()
        if isinstance(tag, dict) and "key" in tag and "value" in tag
    }


def _environment(model: Mapping[str, Any], version: Mapping[str, Any] | None) -> DeploymentEnvironment:
    aliases = {str(one.get("alias", "")).lower() for one in model.get("aliases") or () if isinstance(one, dict)}
    stage = str((version or {}).get("current_stage", "")).lower()
    if aliases.intersection(_SERVING) or stage == "production":
        return DeploymentEnvironment.PRODUCTION
    return DeploymentEnvironment.STAGING if stage == "staging" else DeploymentEnvironment.RESEARCH


def _datasets(run: Mapping[str, Any] | None) -> list[Found]:
    inputs = ((run or {}).get("inputs") or {}).get("dataset_inputs") or ()
    made = []
    for one in inputs:
        dataset = one.get("dataset") if isinstance(one, dict) else None
        if not isinstance(dataset, dict) or not text(dataset, "name"):
            continue
        contexts = {str(tag.get("value")) for tag in one.get("tags") or () if isinstance(tag, dict)}
        kind = AssetType.EVALUATION_DATASET if "evaluation" in contexts else AssetType.TRAINING_DATASET
        key = identity.dataset(f"mlflow://{dataset['name']}@{dataset.get('digest', '')}")
        made.append(
            replace(
                found(
                    key,
                    name=str(dataset["name"]),
                    asset_type=kind,
                    model_version=text(dataset, "digest"),
                    deployment_env=DeploymentEnvironment.RESEARCH,
                ),
                identities=(key,),
            )
        )
    return made


def _metrics(run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    found_metrics = ((run or {}).get("data") or {}).get("metrics") or ()
    return [
        {"name": str(one["key"]), "value": one["value"]}
        for one in found_metrics
        if isinstance(one, dict) and "key" in one and isinstance(one.get("value"), int | float)
    ][:50]


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """The registered models of each server."""

    async def read(api: Api, scope: Scope) -> None:
        async for model in pages(partial(_search, api, "registered-models", "registered_models")):
            if text(model, "name"):
                await _read_model(api, model, options, scope)
            else:
                scope.fail(scope.name, "an entry has no name")

    await ask_each(options, settings, harvest, " registered models", read)


async def _search(
    api: Api, what: str, key: str, token: str | None, where: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    params: dict[str, Any] = {"max_results": PAGE_SIZE}
    if token:
        params["page_token"] = token
    if where:
        params["filter"] = where
    answer = await api.get(f"/api/2.0/mlflow/{what}/search", params)
    # An empty list is left out of the answer, which may then hold nothing else that we do not know.
    if not isinstance(answer, dict) or (key not in answer and not answer.keys() <= {"next_page_token"}):
        raise PlatformError(f"its answer has no {key}")
    return listed(answer, key) if key in answer else [], text(answer, "next_page_token")


async def _read_model(api: Api, model: Mapping[str, Any], options: Options, scope: Scope) -> None:
    name = str(model["name"])
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    versions: list[dict[str, Any]] = []
    run = None
    try:
        versions = [
            version
            async for version in pages(
                partial(_search, api, "model-versions", "model_versions", where=f"name='{quoted}'")
            )
        ]
        version = chosen(model, versions)
        if options.read_runs and version and text(version, "run_id"):
            answer = await api.get("/api/2.0/mlflow/runs/get", {"run_id": version["run_id"]})
            run = answer.get("run") if isinstance(answer, dict) else None
    except (PlatformError, KeyError, TypeError, AttributeError, ValueError) as error:
        scope.fail(f"versions of {name}", error)
    try:
        made = registered_model(model, versions, run if isinstance(run, dict) else None, api.target.shown)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        scope.fail(f"model {name}", f"makes no sense: {error!r}")
        return
    for one in made:
        await scope.add(one)


CONNECTOR = Connector(
    source=Source.MLFLOW,
    title="MLflow model registry",
    looks_for="Registered models with the version in use, its licence, owner and base model, and datasets of its run.",
    permissions=("registered-models/search", "model-versions/search", "runs/get"),
    options=Options,
    check=check_targets,
    discover=discover,
)
