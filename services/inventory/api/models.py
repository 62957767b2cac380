"""Bodies and views of the asset resource."""

from __future__ import annotations

from datetime import UTC, date, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, Strict, StringConstraints

from services.inventory.domain.address import address
from services.inventory.domain.asset import (
    DECLARABLE,
    AttributeSource,
    Digest,
    ReviewOutcome,
    SourceKind,
)
from services.inventory.store.assets import Known
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    NetworkExposure,
    RegulatoryScope,
)
from shared.contracts.risk import RiskLevel
from shared.models import In, Name, Out, Visible


def _text(length: int) -> Any:
    return StringConstraints(strip_whitespace=True, max_length=length)


def _iso_day(value: Any) -> Any:
    # pydantic would also take seconds since 1970 and times of midnight.
    if not isinstance(value, str) or len(value) != 10:
        raise ValueError("a day is written YYYY-MM-DD")
    return value


Label = Annotated[str, _text(200), Visible]
Address = Annotated[str, _text(2_048), AfterValidator(address)]
ModelName = Annotated[str, _text(2_048), Visible]
Prose = Annotated[str, _text(8_000)]
Email = Annotated[str, StringConstraints(strip_whitespace=True, max_length=320, pattern=r"^(?:[^@\s]+@[^@\s]+)?$")]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000), Visible]
Tool = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Visible]


def _iso_instant(value: Any) -> Any:
    # pydantic would also take seconds since 1970.
    if isinstance(value, str) and value[4:5] != "-":
        raise ValueError("an instant is written YYYY-MM-DDThh:mm:ssZ")
    return value


def _in_calendar(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this instant lies outside the calendar") from error


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_iso_instant, json_schema_input_type=AwareDatetime),
    AfterValidator(_in_calendar),
]

Flag = Annotated[bool, Strict()]
Day = Annotated[date, BeforeValidator(_iso_day, json_schema_input_type=date)]


class DigestIn(In):
    """Digest of one file of the asset's weights or data, or of a credential (its fingerprint)."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
    algorithm: Literal["sha256", "sha384", "sha512", "sha1", "md5"]
    digest: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{32,128}$")]


class SourceIn(In):
    """Where one attribute's value comes from."""

    attribute: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    kind: SourceKind
    locator: Annotated[str, StringConstraints(max_length=2_048)] = ""


Upstream = Annotated[
    tuple[UUID, ...], Field(max_length=1_000, description="Ids of the assets that this one depends on.")
]
Downstream = Annotated[
    tuple[UUID, ...], Field(max_length=1_000, description="Ids of the assets that depend on this one.")
]
Scopes = Annotated[tuple[RegulatoryScope, ...], Field(max_length=32)]
Tools = Annotated[tuple[Tool, ...], Field(max_length=256, description="What an agent may call.")]
Digests = Annotated[tuple[DigestIn, ...], Field(max_length=1_000)]
Sources = Annotated[tuple[SourceIn, ...], Field(max_length=200)]


class NewAsset(In):
    """An AI asset to register. Only a name and a type are required; blank is the same as absent."""

    name: Name
    asset_type: AssetType
    description: Prose = ""
    owner_team: Label = ""
    owner_email: Email = ""
    data_classification: DataClassification = DataClassification.INTERNAL
    deployment_env: DeploymentEnvironment = DeploymentEnvironment.DEVELOPMENT
    regulatory_scope: Scopes = ()
    model_provider: Label | None = None
    model_name: ModelName | None = None
    model_version: Label | None = None
    is_self_hosted: Flag = False
    parameter_count: Label | None = None
    source_url: Address | None = None
    license_type: Label | None = None
    last_security_review: Day | None = None
    sbom_available: Flag = False
    api_endpoint: Address | None = None
    cloud_provider: Label | None = None
    cloud_region: Label | None = None
    network_exposure: NetworkExposure = NetworkExposure.INTERNAL
    upstream_assets: Upstream = ()
    downstream_assets: Downstream = ()
    purpose: Prose = ""
    authorized_tools: Tools = ()
    integrity: Digests = ()
    sources: Sources = ()

    def declared(self) -> dict[str, Any]:
        """What domain.asset.register takes."""
        return _declared(dict(self.__dict__))


class AssetChange(In):
    """Fields to set (JSON Merge Patch, RFC 7396): what is absent stays, null clears, a list is replaced as a whole."""

    name: Name = Field(default_factory=str)  # no default in the schema: the empty one is not a name
    asset_type: AssetType = AssetType.FOUNDATION_MODEL
    description: Prose | None = None
    owner_team: Label | None = None
    owner_email: Email | None = None
    data_classification: DataClassification | None = None
    deployment_env: DeploymentEnvironment | None = None
    regulatory_scope: Scopes | None = None
    model_provider: Label | None = None
    model_name: ModelName | None = None
    model_version: Label | None = None
    is_self_hosted: Flag | None = None
    parameter_count: Label | None = None
    source_url: Address | None = None
    license_type: Label | None = None
    last_security_review: Day | None = None
    sbom_available: Flag | None = None
    api_endpoint: Address | None = None
    cloud_provider: Label | None = None
    cloud_region: Label | None = None
    network_exposure: NetworkExposure | None = None
    upstream_assets: Upstream | None = None
    downstream_assets: Downstream | None = None
    purpose: Prose | None = None
    authorized_tools: Tools | None = None
    integrity: Digests | None = None
    sources: Sources | None = None

    def values(self) -> dict[str, Any]:
        """What Asset.amended takes: only what was sent, null as the field's empty value."""
        sent = {name: getattr(self, name) for name in AssetChange.model_fields if name in self.model_fields_set}
        return _declared({name: DECLARABLE[name] if value is None else value for name, value in sent.items()})


_OPTIONAL_TEXTS = tuple(
    name for name, empty in DECLARABLE.items() if empty is None and name not in ("name", "asset_type")
)
_LISTS = ("regulatory_scope", "upstream_assets", "downstream_assets", "authorized_tools")


def _declared(values: dict[str, Any]) -> dict[str, Any]:
    """In place: blank texts as None, lists as tuples without repetitions, parts as the domain's."""
    for name in _OPTIONAL_TEXTS:
        if values.get(name) == "":
            values[name] = None
    for name in _LISTS:
        if name in values:
            values[name] = tuple(dict.fromkeys(values[name])) if values[name] else ()
    if "integrity" in values:
        values["integrity"] = tuple(Digest(**part.__dict__) for part in values["integrity"])
    if "sources" in values:
        values["sources"] = tuple(AttributeSource(**part.__dict__) for part in values["sources"])
    return values


class DigestView(Out):
    path: str
    algorithm: str
    digest: str


class SourceView(Out):
    attribute: str
    kind: SourceKind
    locator: str
    source: str = Field(description="The discovery source that says so; empty where a person does.")


class AssetView(Out):
    """An AI asset. `risk_score` and `risk_level` are the last that the risk service told; null before the first."""

    asset_id: UUID
    name: str
    asset_type: AssetType
    description: str
    owner_team: str
    owner_email: str
    data_classification: DataClassification
    deployment_env: DeploymentEnvironment
    regulatory_scope: list[RegulatoryScope]
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
    upstream_assets: list[UUID]
    downstream_assets: list[UUID]
    registered_date: datetime
    last_updated: datetime
    risk_score: float | None
    risk_level: RiskLevel | None
    compliance_status: str = Field(description="unreviewed, compliant, conditional or non_compliant.")
    version: int = Field(description="Grows by one a change; the ETag.")
    lifecycle: Lifecycle
    purpose: str
    authorized_tools: list[str]
    integrity: list[DigestView]
    sources: list[SourceView]

    @classmethod
    def of(cls, item: Known) -> AssetView:
        shown: dict[str, Any] = dict(zip(_SHOWN, _shown_values(item.asset), strict=True))
        shown["risk_score"] = item.risk_score
        shown["risk_level"] = item.risk_level
        return cls.model_validate(shown)


_SHOWN = tuple(name for name in AssetView.model_fields if name not in ("risk_score", "risk_level"))
_shown_values = attrgetter(*_SHOWN)


class ReviewIn(In):
    """A security review that took place."""

    outcome: ReviewOutcome
    reviewer: Label = Field(default="", description="Who reviewed; the caller when left out.")
    reviewed_on: Day | None = Field(default=None, description="Today (UTC) when left out; never in the future.")
    notes: Prose = ""


class ReasonIn(In):
    """Why."""

    reason: Reason


class ChangeView(Out):
    field: str
    old: Any
    new: Any


class HistoryEntry(Out):
    """One step in an asset's life; `version` is the one that it made."""

    version: int
    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]
    changes: list[ChangeView]
