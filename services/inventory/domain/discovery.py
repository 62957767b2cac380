"""Looking for assets: where, how a run stands, and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.errors import Conflict, Invalid, NotFound


class RunNotFound(NotFound):
    """No such discovery run."""


class SightingNotFound(NotFound):
    """No such sighting."""


class ScheduleNotFound(NotFound):
    """No such discovery schedule."""


class SourceNotAvailable(Invalid):
    """This discovery source is not available."""


class AlreadyItself(Conflict):
    """The sighting is that asset already."""


class Source(StrEnum):
    """Where assets can be looked for."""

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


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(slots=True)
class Counts:
    """What a run did: entries seen, assets that were new, known ones that differed, entries that a complete scope shows
    no longer (missing), those of them that are gone for good after the grace period, and entries that turned out to be
    an asset which something else had registered (merged)."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    missing: int = 0
    gone: int = 0
    merged: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A call or an entry that failed; the run went on without it."""

    where: str
    message: str


def status_of(*, problems: bool, complete: bool, found: bool) -> RunStatus:
    """How a run ended: failed when nothing could be read, partial when something could not, else succeeded."""
    if not problems:
        return RunStatus.SUCCEEDED
    return RunStatus.PARTIAL if complete or found else RunStatus.FAILED
