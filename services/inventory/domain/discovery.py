"""What discovery finds, as assets: the pure half of the connectors.

Each mapping takes one entry as its platform's API gives it (field names are the platform's) and says which asset it is,
by which locator it is found again, and where each attribute came from. Nothing here calls anything. What the platform
does not say stays unsaid: an owner, a data classification and a purpose are for people to declare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any

from services.inventory.domain.asset import Asset, AttributeSource, Digest, SourceKind
from shared.contracts.inventory import AssetType, DeploymentEnvironment
from shared.errors import Invalid, NotFound


class RunNotFound(NotFound):
    """No such discovery run."""


class SourceNotAvailable(Invalid):
    """This discovery source is not available."""


class Source(StrEnum):
    """Where assets can be looked for; AVAILABLE names those that exist."""

    AWS_BEDROCK = "aws_bedrock"
    AWS_SAGEMAKER = "aws_sagemaker"
    AZURE_OPENAI = "azure_openai"
    GCP_VERTEX = "gcp_vertex"
    KUBERNETES = "kubernetes"
    FILESYSTEM = "filesystem"
    REPOSITORY = "repository"
    MLFLOW = "mlflow"
    VECTOR_STORE = "vector_store"
    OPENAI_COMPATIBLE = "openai_compatible"
    TRAFFIC = "traffic"


AVAILABLE = frozenset({Source.AWS_BEDROCK, Source.AZURE_OPENAI, Source.FILESYSTEM})


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(slots=True)
class Counts:
    """What a run did: entries seen, assets that were new, known ones that differed, ones no longer there, and entries
    that turned out to be an asset which something else had registered."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    merged: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A call or an entry that failed; the run went on without it."""

    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """One entry as an asset: `locator` finds it again in the next run, `declared` is what register() takes."""

    locator: str
    declared: Mapping[str, Any]


@dataclass(slots=True)
class Findings:
    """What a connector brought home.

    A scope is what one listing covers: a call in one account and region, or one folder. `complete` holds those that
    were read to the end: only there does "not seen" mean "gone".
    """

    found: list[tuple[str, Found]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    complete: list[str] = field(default_factory=list)

    def add(self, scope: str, found: Found) -> None:
        self.found.append((scope, found))

    def fail(self, where: str, error: object) -> None:
        """Note what failed; the platform's own words, cut short, never what was sent to it."""
        self.problems.append(Problem(where[:300], str(error).strip()[:500] or type(error).__name__))

    @property
    def status(self) -> RunStatus:
        """failed when no scope could be read, partial when something could not, else succeeded."""
        if not self.problems:
            return RunStatus.SUCCEEDED
        return RunStatus.PARTIAL if self.complete or self.found else RunStatus.FAILED


def _found(locator: str, **declared: Any) -> Found:
    inferred = tuple(
        AttributeSource(attribute, SourceKind.INFERRED, locator)
        for attribute, value in declared.items()
        if value not in (None, "", ())
    )
    unresolved = tuple(
        AttributeSource(attribute, SourceKind.UNRESOLVED, locator)
        for attribute in ("owner_team", "data_classification")
        if not declared.get(attribute)
    )
    return Found(locator, {**declared, "sources": inferred + unresolved})


_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
_CACHE_FOLDER = re.compile(r"models--(?P<repo>.+)")


def is_model_config(config: Any) -> bool:
    """Whether a parsed config.json is a Hugging Face model's."""
    return isinstance(config, dict) and ("model_type" in config or "architectures" in config)


def huggingface_folder(folder: PurePath, config: Mapping[str, Any], weights: Sequence[Digest] = ()) -> Found:
    """A folder that holds a Hugging Face model, by its config.json.

    The name is `_name_or_path` where that is a repository id (training scripts leave local paths there), else the
    repository of the hub cache's folder (`models--org--name/snapshots/<commit>`), else the folder's own name.
    """
    repository, revision = _cached_repository(folder)
    stated = config.get("_name_or_path")
    name = repository or folder.name
    if isinstance(stated, str) and _REPO_ID.fullmatch(stated):
        name = stated
    return _found(
        str(folder),
        name=f"Local HF: {name}",
        asset_type=AssetType.FOUNDATION_MODEL,
        model_provider="huggingface",
        model_name=name,
        model_version=revision,
        is_self_hosted=True,
        source_url=f"https://huggingface.co/{name}" if _REPO_ID.fullmatch(name) else None,
        deployment_env=DeploymentEnvironment.PRODUCTION,
        integrity=tuple(weights),
    )


def _cached_repository(folder: PurePath) -> tuple[str | None, str | None]:
    """Repository id and commit from a folder of the hub cache, else (None, None)."""
    if folder.parent.name == "snapshots" and (match := _CACHE_FOLDER.fullmatch(folder.parent.parent.name)):
        return match["repo"].replace("--", "/", 1), folder.name
    return None, None


def refreshed(asset: Asset, found: Found) -> Mapping[str, Any]:
    """What a finding changes about the asset that it is: attributes that were inferred or never known.

    What a person declared stands, also where the platform says something else; so does what another locator said,
    or two listings of the same asset would overwrite one another for ever.
    """
    by_attribute = {source.attribute: source for source in asset.sources}
    changes: dict[str, Any] = {}
    sources = dict(by_attribute)
    for attribute, value in found.declared.items():
        if attribute == "sources" or value in (None, "", ()):
            continue
        known = by_attribute.get(attribute)
        current = getattr(asset, attribute)
        mine = known is not None and known.kind is SourceKind.INFERRED and known.locator == found.locator
        unknown = current in (None, "", ()) and (known is None or known.kind is not SourceKind.DECLARED)
        if (mine or unknown) and current != value:
            changes[attribute] = value
            sources[attribute] = AttributeSource(attribute, SourceKind.INFERRED, found.locator)
    if changes:
        changes["sources"] = tuple(sources.values())
    return changes
