"""What inventory publishes: AI assets and their life."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from shared.contracts.envelope import Contract, Event


class AssetType(StrEnum):
    FOUNDATION_MODEL = "foundation_model"
    FINE_TUNED_MODEL = "fine_tuned_model"
    EMBEDDING_MODEL = "embedding_model"
    VECTOR_DATABASE = "vector_database"
    TRAINING_DATASET = "training_dataset"
    EVALUATION_DATASET = "evaluation_dataset"
    AI_AGENT = "ai_agent"
    API_ENDPOINT = "api_endpoint"
    GUARDRAIL_CONFIG = "guardrail_config"
    PROMPT_TEMPLATE = "prompt_template"
    MCP_SERVER = "mcp_server"
    API_CREDENTIAL = "api_credential"
    INTEGRATION = "integration"


class DataClassification(StrEnum):
    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"
    REGULATED = "regulated"


class DeploymentEnvironment(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    RESEARCH = "research"


class RegulatoryScope(StrEnum):
    NONE = "none"
    GDPR = "gdpr"
    HIPAA = "hipaa"
    SOX = "sox"
    EU_AI_ACT_HIGH_RISK = "eu_ai_act_high_risk"
    EU_AI_ACT_LIMITED_RISK = "eu_ai_act_limited_risk"
    PCI_DSS = "pci_dss"
    CCPA = "ccpa"


class NetworkExposure(StrEnum):
    INTERNAL = "internal"
    VPC = "vpc"
    PUBLIC = "public"


class Lifecycle(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class Relation(StrEnum):
    """What one asset is to another, read as subject, relation, object: an agent `uses_model` a model.

    `depends_on` is what plain upstream_assets and downstream_assets say.
    """

    USES_MODEL = "uses_model"
    FINE_TUNED_FROM = "fine_tuned_from"
    TRAINED_ON = "trained_on"
    EMBEDS_INTO = "embeds_into"
    RETRIEVES_FROM = "retrieves_from"
    CALLS_TOOL = "calls_tool"
    EXPOSES_CREDENTIAL = "exposes_credential"
    GUARDED_BY = "guarded_by"
    SERVED_BY = "served_by"
    DEPLOYED_IN = "deployed_in"
    DEPENDS_ON = "depends_on"


class AssetSnapshot(Contract):
    """An asset as it stands after a change. `version` grows by one a change; projections do not touch it."""

    asset_id: UUID
    version: int
    name: str
    asset_type: AssetType
    description: str = ""
    owner_team: str = ""
    owner_email: str = ""
    data_classification: DataClassification = DataClassification.INTERNAL
    deployment_env: DeploymentEnvironment = DeploymentEnvironment.DEVELOPMENT
    regulatory_scope: tuple[RegulatoryScope, ...] = ()
    model_provider: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    is_self_hosted: bool = False
    parameter_count: str | None = None
    source_url: str | None = None
    license_type: str | None = None
    last_security_review: date | None = None
    sbom_available: bool = False
    api_endpoint: str | None = None
    cloud_provider: str | None = None
    cloud_region: str | None = None
    network_exposure: NetworkExposure = NetworkExposure.INTERNAL
    upstream_assets: tuple[UUID, ...] = ()
    downstream_assets: tuple[UUID, ...] = ()
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    compliance_status: str = "unreviewed"
    purpose: str = ""
    authorized_tools: tuple[str, ...] = ()
    registered_date: datetime


class AssetEvent(Event):
    """Something happened to an asset; the snapshot says how it stands now."""

    SUBJECT: ClassVar[str] = "asset.asset_id"

    asset: AssetSnapshot


class AssetRegistered(AssetEvent):
    """An AI asset entered the inventory. Exactly one per asset_id."""

    TYPE: ClassVar[str] = "ev.inventory.asset.registered.v1"


class AssetUpdated(AssetEvent):
    """Fields of an asset changed; `changed` names them."""

    TYPE: ClassVar[str] = "ev.inventory.asset.updated.v1"

    changed: tuple[str, ...] = ()


class AssetReviewed(AssetEvent):
    """A security review of an asset was recorded."""

    TYPE: ClassVar[str] = "ev.inventory.asset.reviewed.v1"

    reviewer: str
    outcome: str


class AssetQuarantined(AssetEvent):
    """An asset was taken out of use until released."""

    TYPE: ClassVar[str] = "ev.inventory.asset.quarantined.v1"

    reason: str
    actor: str


class AssetReleased(AssetEvent):
    """A quarantined asset may be used again."""

    TYPE: ClassVar[str] = "ev.inventory.asset.released.v1"

    reason: str
    actor: str


class AssetRetired(AssetEvent):
    """An asset left the estate for good; its registration key is free again."""

    TYPE: ClassVar[str] = "ev.inventory.asset.retired.v1"

    reason: str
    actor: str


ASSET_EVENTS: tuple[type[AssetEvent], ...] = (
    AssetRegistered,
    AssetUpdated,
    AssetReviewed,
    AssetQuarantined,
    AssetReleased,
    AssetRetired,
)


class EdgeSnapshot(Contract):
    """A relation between two assets that stands on its own: somebody stated it, or discovery found it.

    `from_id` and `to_id` are its subject and object; harm flows from `upstream_id` to `downstream_id`, which are the
    same two assets. `source` is `declared` or the discovery source that says so; null `valid_to` means that it holds.
    """

    edge_id: UUID
    from_id: UUID
    to_id: UUID
    relation: Relation
    upstream_id: UUID
    downstream_id: UUID
    source: str
    locator: str = ""
    valid_from: datetime
    valid_to: datetime | None = None


class EdgeEvent(Event):
    """An edge began or ceased to hold. What an asset's own upstream_assets and downstream_assets say is announced
    with the asset and is no edge event. `version` is 1 when opened, 2 when closed."""

    SUBJECT: ClassVar[str] = "edge.edge_id"

    edge: EdgeSnapshot


class EdgeOpened(EdgeEvent):
    """A relation between two assets holds from now on. Exactly one per edge_id."""

    TYPE: ClassVar[str] = "ev.inventory.edge.opened.v1"


class EdgeClosed(EdgeEvent):
    """The relation holds no more; should it hold again, that is another edge."""

    TYPE: ClassVar[str] = "ev.inventory.edge.closed.v1"


EDGE_EVENTS: tuple[type[EdgeEvent], ...] = (EdgeOpened, EdgeClosed)


class ComponentChange(Contract):
    """One component of a bill of materials that came, went or changed; `fields` names what differs."""

    key: str
    name: str
    component_type: str
    fields: tuple[str, ...] = ()


class BomChanged(Event):
    """An asset's bill of materials changed: another was supplied, or what the made one is written from changed.

    `version` counts the asset's kept bills. Of each list at most the first 200 are carried; the counts are of all.
    """

    TYPE: ClassVar[str] = "ev.inventory.bom.changed.v1"
    SUBJECT: ClassVar[str] = "asset_id"

    asset_id: UUID
    owner_team: str = ""
    origin: str
    added: tuple[ComponentChange, ...] = ()
    removed: tuple[ComponentChange, ...] = ()
    changed: tuple[ComponentChange, ...] = ()
    added_count: int = 0
    removed_count: int = 0
    changed_count: int = 0


class ArtifactDenied(Event):
    """An asset holds an artifact whose digest is denied, or descends from one that does. Once an asset and denial.

    `version` is that of the denial. `path` runs from the holder to the asset, both included; of a very long one the
    middle is left out. `place` is the file or component that has the digest.
    """

    TYPE: ClassVar[str] = "ev.inventory.artifact.denied.v1"
    SUBJECT: ClassVar[str] = "asset_id"

    asset_id: UUID
    asset_name: str
    asset_type: AssetType
    owner_team: str = ""
    algorithm: str
    digest: str
    reason: str
    reference: str = ""
    holder_id: UUID
    place: str = ""
    path: tuple[UUID, ...] = ()
