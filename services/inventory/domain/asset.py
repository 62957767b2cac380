"""An asset: what may be said of it, when two are the same one, and what may happen to it.

An `Asset` never changes; a change makes the next one and the list of what differs. Everything that a caller may set is
named in DECLARABLE, everything else is the service's own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from hashlib import blake2b
from operator import attrgetter
from typing import Any
from uuid import UUID

from shared.contracts.inventory import (
    AssetSnapshot,
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    NetworkExposure,
    RegulatoryScope,
)
from shared.errors import Conflict, Forbidden, Invalid, NotFound

UNREVIEWED = "unreviewed"


class AssetNotFound(NotFound):
    """No such asset."""


class KeyTaken(Conflict):
    """An asset with the same registration key exists already."""


class WrongState(Conflict):
    """The asset's lifecycle does not allow this."""


class OwnerOutsideTeams(Forbidden):
    """You may only own assets in your own teams."""


class SelfDependency(Invalid):
    """An asset cannot depend on itself."""


class ForeignDownstream(Invalid):
    """You may not make another team's asset depend on yours."""


class ReviewInFuture(Invalid):
    """A review cannot lie in the future."""


class SecretInRecord(Invalid):
    """A credential is registered by reference, never by value."""


class SourceKind(StrEnum):
    """How the inventory came to know an attribute."""

    DECLARED = "declared"
    INFERRED = "inferred"
    UNRESOLVED = "unresolved"


class ReviewOutcome(StrEnum):
    """What a security review decided."""

    APPROVED = "approved"
    CONDITIONAL = "conditional"
    REJECTED = "rejected"


COMPLIANCE_AFTER: Mapping[ReviewOutcome, str] = {
    ReviewOutcome.APPROVED: "compliant",
    ReviewOutcome.CONDITIONAL: "conditional",
    ReviewOutcome.REJECTED: "non_compliant",
}
COMPLIANCE_STATUSES: tuple[str, ...] = (UNREVIEWED, *COMPLIANCE_AFTER.values())


@dataclass(frozen=True, slots=True)
class Digest:
    """Digest of one file of the asset's weights or data."""

    path: str
    algorithm: str
    digest: str


@dataclass(frozen=True, slots=True)
class AttributeSource:
    """Where one attribute's value comes from; `locator` is an ARN, a resource id, a file, a person. `source` is the
    discovery source that says so, empty where a person does."""

    attribute: str
    kind: SourceKind
    locator: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One field's step in an asset's history, both sides as JSON values."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Asset:
    """An AI asset as the organisation knows it. The risk shown beside it is risk's, not part of it."""

    asset_id: UUID
    version: int
    name: str
    asset_type: AssetType
    description: str
    owner_team: str
    owner_email: str
    data_classification: DataClassification
    deployment_env: DeploymentEnvironment
    regulatory_scope: tuple[RegulatoryScope, ...]
    model_provider: str | None
    model_name: str | None
    model_version: str | None
    is_self_hosted: bool
    parameter_count: str | None
    source_url: str | None
    license_type: str | None
    last_security_review: date | None
    sbom_available: bool
    api_endpoint: str | None
    cloud_provider: str | None
    cloud_region: str | None
    network_exposure: NetworkExposure
    upstream_assets: tuple[UUID, ...]
    downstream_assets: tuple[UUID, ...]
    purpose: str
    authorized_tools: tuple[str, ...]
    integrity: tuple[Digest, ...]
    sources: tuple[AttributeSource, ...]
    lifecycle: Lifecycle
    compliance_status: str
    registered_date: datetime
    registered_by: str
    last_updated: datetime

    def snapshot(self) -> AssetSnapshot:
        """The asset in the published language."""
        return AssetSnapshot.model_validate(dict(zip(SNAPSHOT_FIELDS, _snapshot_values(self), strict=True)))

    def amended(self, values: Mapping[str, Any], at: datetime) -> tuple[Asset, tuple[Change, ...]]:
        """The asset with those declarable fields set, and what that changed; itself when nothing differs.

        Raises:
            WrongState: a retired asset is history and stays as it was.
            SelfDependency: it would name itself upstream or downstream.
        """
        self._not_retired("changed")
        return self._next(at, **values)

    def stated(self, values: Mapping[str, Any], by: str) -> Mapping[str, Any]:
        """The values with `sources` saying that a person stated them: from then on no discovery overwrites them.

        Of an asset that no discovery has touched only values need that which it would have without anybody's word.
        """
        if "sources" in values:
            return values
        discovered = any(one.source or one.kind is not SourceKind.DECLARED for one in self.sources)
        # A value of one's own says by itself that a person gave it; one that is the default has to be noted.
        noted = sorted(name for name, value in values.items() if discovered or (value == DECLARABLE[name] and value))
        if not noted:
            return values
        kept = tuple(one for one in self.sources if one.attribute not in noted)
        told = tuple(AttributeSource(name, SourceKind.DECLARED, f"person:{by}") for name in noted)
        return {**values, "sources": kept + told}

    def reviewed(self, outcome: ReviewOutcome, on: date, at: datetime) -> tuple[Asset, tuple[Change, ...]]:
        """The asset after a security review; an older review than the recorded one never sets its date back.

        Raises:
            ReviewInFuture: `on` lies after the day of `at`.
        """
        self._not_retired("reviewed")
        if on > at.date():
            raise ReviewInFuture(f"{on} has not come yet", field="/reviewed_on")
        latest = on if self.last_security_review is None else max(on, self.last_security_review)
        status = COMPLIANCE_AFTER[outcome] if latest == on else self.compliance_status
        after, changes = self._next(at, last_security_review=latest, compliance_status=status)
        # A second review with the same result is still a fact that others want to hear of, so the version grows.
        return (after if changes else replace(self, version=self.version + 1, last_updated=at)), changes

    def quarantined(self, at: datetime) -> tuple[Asset, tuple[Change, ...]]:
        """The asset taken out of use. Raises WrongState unless it is active."""
        if self.lifecycle is not Lifecycle.ACTIVE:
            raise WrongState(f"only an active asset can be quarantined, this one is {self.lifecycle}")
        return self._next(at, lifecycle=Lifecycle.QUARANTINED)

    def released(self, at: datetime) -> tuple[Asset, tuple[Change, ...]]:
        """The asset back in use. Raises WrongState unless it is quarantined."""
        if self.lifecycle is not Lifecycle.QUARANTINED:
            raise WrongState(f"only a quarantined asset can be released, this one is {self.lifecycle}")
        return self._next(at, lifecycle=Lifecycle.ACTIVE)

    def retired(self, at: datetime) -> tuple[Asset, tuple[Change, ...]]:
        """The asset gone for good; its key is free again. Raises WrongState when it is gone already."""
        self._not_retired("retired")
        return self._next(at, lifecycle=Lifecycle.RETIRED)

    def _not_retired(self, verb: str) -> None:
        if self.lifecycle is Lifecycle.RETIRED:
            raise WrongState(f"a retired asset cannot be {verb}")

    def _next(self, at: datetime, **values: Any) -> tuple[Asset, tuple[Change, ...]]:
        differing = {name: new for name, new in values.items() if getattr(self, name) != new}
        if not differing:
            return self, ()
        after = replace(self, **differing, version=self.version + 1, last_updated=at)
        refuse_self_dependency(after.asset_id, after.upstream_assets, after.downstream_assets)
        refuse_secret(after)
        changes = tuple(Change(name, as_json(getattr(self, name)), as_json(new)) for name, new in differing.items())
        return after, changes


DECLARABLE: Mapping[str, Any] = {
    "name": None,
    "asset_type": None,
    "description": "",
    "owner_team": "",
    "owner_email": "",
    "data_classification": DataClassification.INTERNAL,
    "deployment_env": DeploymentEnvironment.DEVELOPMENT,
    "regulatory_scope": (),
    "model_provider": None,
    "model_name": None,
    "model_version": None,
    "is_self_hosted": False,
    "parameter_count": None,
    "source_url": None,
    "license_type": None,
    "last_security_review": None,
    "sbom_available": False,
    "api_endpoint": None,
    "cloud_provider": None,
    "cloud_region": None,
    "network_exposure": NetworkExposure.INTERNAL,
    "upstream_assets": (),
    "downstream_assets": (),
    "purpose": "",
    "authorized_tools": (),
    "integrity": (),
    "sources": (),
}
"""What a caller may set, with the value that it has when not set and to which null returns it."""

SNAPSHOT_FIELDS: tuple[str, ...] = tuple(AssetSnapshot.model_fields)
_snapshot_values = attrgetter(*SNAPSHOT_FIELDS)


def register(asset_id: UUID, declared: Mapping[str, Any], *, by: str, at: datetime) -> Asset:
    """A new asset, version 1, active and unreviewed.

    Args:
        declared: name and asset_type at least, and any other of DECLARABLE.

    Raises:
        SelfDependency: it names its own id.
        ReviewInFuture: it claims a review that has not happened yet.
        SecretInRecord: a credential's value was given where a reference belongs.
    """
    values = {**DECLARABLE, **declared}
    review = values["last_security_review"]
    if review is not None and review > at.date():
        raise ReviewInFuture(f"{review} has not come yet", field="/last_security_review")
    asset = Asset(
        asset_id=asset_id,
        version=1,
        lifecycle=Lifecycle.ACTIVE,
        compliance_status=UNREVIEWED,
        registered_date=at,
        registered_by=by,
        last_updated=at,
        **values,
    )
    if asset.upstream_assets or asset.downstream_assets:
        refuse_self_dependency(asset_id, asset.upstream_assets, asset.downstream_assets)
    refuse_secret(asset)
    return asset


def refuse_self_dependency(asset_id: UUID, upstream: Sequence[UUID], downstream: Sequence[UUID]) -> None:
    """Raises SelfDependency when the asset is its own neighbour."""
    for field, neighbours in (
        ("/upstream_assets", upstream),
        ("/downstream_assets", downstream),
    ):
        if asset_id in neighbours:
            raise SelfDependency(f"{asset_id} names itself", field=field)


# Prefixes that the large providers give their keys; each is followed by a long random part without spaces.
_KEY_PREFIXES = (
    "sk-",
    "hf_",
    "api_org_",
    "AIza",
    "AKIA",
    "ASIA",
    "pplx-",
    "dapi",
    "ghp_",
    "xoxb-",
    "cln_",
)
_KEY_MIN_LENGTH = 20


def refuse_secret(asset: Asset) -> None:
    """Raises SecretInRecord when a credential's record carries what looks like the credential itself."""
    if asset.asset_type is not AssetType.API_CREDENTIAL:
        return
    for field in (
        "name",
        "description",
        "purpose",
        "model_name",
        "source_url",
        "api_endpoint",
    ):
        for word in (getattr(asset, field) or "").split():
            bare = word.strip("\"'`,;()[]").rpartition("=")[2]
            if bare.startswith(_KEY_PREFIXES) and len(bare) >= _KEY_MIN_LENGTH:
                raise SecretInRecord(
                    "this looks like a key; register a reference in source_url and a fingerprint in integrity",
                    field=f"/{field}",
                )


def duplicate_key(
    *,
    model_name: str | None,
    model_provider: str | None,
    api_endpoint: str | None,
    deployment_env: str,
    name: str,
    asset_type: str,
    owner_team: str,
) -> bytes:
    """Two living assets with the same 16 bytes are one asset.

    The specification's key is (model_name, model_provider, api_endpoint, deployment_env). Where the first three are all
    empty it would make one asset of every dataset and prompt, so there the key is (name, asset_type, owner_team,
    deployment_env). Absent and blank are the same, so are canonically equivalent Unicode spellings; letter case counts,
    because it does in model names and paths. A digest rather than the text keeps the unique index small; NUL separates
    the parts because no accepted text contains it.
    """
    if model_name or model_provider or api_endpoint:
        parts = (
            "model",
            model_name or "",
            model_provider or "",
            api_endpoint or "",
            deployment_env,
        )
    else:
        parts = ("named", name, asset_type, owner_team, deployment_env)
    text = "\0".join(parts)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return blake2b(text.encode(), digest_size=16).digest()


def key_of(asset: Asset) -> bytes:
    """The asset's `duplicate_key`."""
    return duplicate_key(
        model_name=asset.model_name,
        model_provider=asset.model_provider,
        api_endpoint=asset.api_endpoint,
        deployment_env=asset.deployment_env,
        name=asset.name,
        asset_type=asset.asset_type,
        owner_team=asset.owner_team,
    )


def as_json(value: Any) -> Any:
    """A field's value as JSON would carry it, for histories."""
    match value:
        case StrEnum():
            return value.value
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
        case Digest():
            return {
                "path": value.path,
                "algorithm": value.algorithm,
                "digest": value.digest,
            }
        case AttributeSource():
            return {
                "attribute": value.attribute,
                "kind": value.kind.value,
                "locator": value.locator,
                "source": value.source,
            }
        case tuple() | list():
            return [as_json(item) for item in value]
        case _:
            return value
