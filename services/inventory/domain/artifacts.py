"""Digests that are known: denied ones, whose artifacts nobody should run, and allowed ones, which somebody vouches for.

A digest says what a file is whatever it is called and wherever it lies, so a denial reaches every copy. It is held by
assets whose weights or whose supplied bill of materials has it, and touches everything that depends on these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.contracts.inventory import ArtifactDenied, AssetType
from shared.errors import Invalid, NotFound

DIGEST_LENGTHS: Mapping[str, int] = {
    "md5": 32,
    "sha1": 40,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "sha3-256": 64,
    "sha3-384": 96,
    "sha3-512": 128,
    "blake2b-256": 64,
    "blake2b-384": 96,
    "blake2b-512": 128,
    "blake3": 64,
}
"""Algorithm -> length of its digest in hexadecimal digits; the algorithms of CycloneDX."""

MODEL_TYPES = (AssetType.FOUNDATION_MODEL, AssetType.FINE_TUNED_MODEL, AssetType.EMBEDDING_MODEL)


class DigestNotListed(NotFound):
    """This digest is on no list."""


class NotThatLong(Invalid):
    """The digest has not the length of its algorithm's."""


class Verdict(StrEnum):
    """What is held of an artifact."""

    DENIED = "denied"
    ALLOWED = "allowed"


class Mode(StrEnum):
    """Whether production models have to be on the allow-list."""

    OFF = "off"
    ALLOW_LIST = "allow_list"


@dataclass(frozen=True, slots=True)
class Entry:
    """One digest on the list; `version` grows by one each time that what is said of it changes."""

    algorithm: str
    digest: str
    verdict: Verdict
    reason: str
    reference: str
    expires_at: datetime | None
    version: int
    updated_at: datetime
    updated_by: str

    def denies(self, at: datetime) -> bool:
        """Whether nobody should have the artifact at that time."""
        return self.verdict is Verdict.DENIED and (self.expires_at is None or self.expires_at > at)


@dataclass(frozen=True, slots=True)
class Hit:
    """An asset that a denial reaches, by the shortest way that was found."""

    algorithm: str
    digest: str
    asset_id: UUID
    asset_name: str
    asset_type: AssetType
    owner_team: str
    holder_id: UUID
    place: str
    path: tuple[UUID, ...]
    found_at: datetime

    def event(self, denial: Entry) -> ArtifactDenied:
        """The announcement of it."""
        return ArtifactDenied(
            version=denial.version,
            occurred_at=self.found_at,
            asset_id=self.asset_id,
            asset_name=self.asset_name,
            asset_type=self.asset_type,
            owner_team=self.owner_team,
            algorithm=self.algorithm,
            digest=self.digest,
            reason=denial.reason,
            reference=denial.reference,
            holder_id=self.holder_id,
            place=self.place,
            path=self.path,
        )


def checked(algorithm: str, digest: str) -> str:
    """The digest in lower case. Raises NotThatLong."""
    if len(digest) != DIGEST_LENGTHS[algorithm]:
        raise NotThatLong(f"a {algorithm} digest has {DIGEST_LENGTHS[algorithm]} hexadecimal digits", field="/digest")
    return digest.lower()


def from_cyclonedx(name: str) -> str:
    """CycloneDX's name of a hash algorithm as ours: SHA-256 is sha256, SHA3-256 sha3-256."""
    lower = name.lower()
    return lower.replace("-", "") if lower.startswith("sha-") else lower
