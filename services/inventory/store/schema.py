"""The tables. What a query needs at a million assets decides the indexes; bench/ holds the measurements.

Ids are UUIDv7, so the order of ids is the order of registration, and (filter, asset_id) is an index that gives a page
of any one filter in that order without sorting. A risk score changes far more often than its asset, so it lies in a
table of its own: in the asset's row each new score would write every one of these indexes again.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, DOUBLE_PRECISION, JSONB, TIMESTAMP

from services.inventory.domain.gaps import HIGH_SENSITIVITY, Gap
from shared.contracts.inventory import RegulatoryScope

metadata = sa.MetaData()

_INSTANT = TIMESTAMP(timezone=True)

asset_table = sa.Table(
    "asset",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("asset_type", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("owner_email", sa.Text, nullable=False),
    sa.Column("data_classification", sa.Text, nullable=False),
    sa.Column("deployment_env", sa.Text, nullable=False),
    sa.Column("regulatory_scope", ARRAY(sa.Text), nullable=False),
    sa.Column("model_provider", sa.Text),
    sa.Column("model_name", sa.Text),
    sa.Column("model_version", sa.Text),
    sa.Column("is_self_hosted", sa.Boolean, nullable=False),
    sa.Column("parameter_count", sa.Text),
    sa.Column("source_url", sa.Text),
    sa.Column("license_type", sa.Text),
    sa.Column("last_security_review", sa.Date),
    sa.Column("sbom_available", sa.Boolean, nullable=False),
    sa.Column("api_endpoint", sa.Text),
    sa.Column("cloud_provider", sa.Text),
    sa.Column("cloud_region", sa.Text),
    sa.Column("network_exposure", sa.Text, nullable=False),
    sa.Column("upstream_assets", ARRAY(sa.Uuid), nullable=False),
    sa.Column("downstream_assets", ARRAY(sa.Uuid), nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("authorized_tools", ARRAY(sa.Text), nullable=False),
    sa.Column("integrity", JSONB, nullable=False),
    sa.Column("sources", JSONB, nullable=False),
    sa.Column("lifecycle", sa.Text, nullable=False),
    sa.Column("compliance_status", sa.Text, nullable=False),
    sa.Column("registered_date", _INSTANT, nullable=False),
    sa.Column("registered_by", sa.Text, nullable=False),
    sa.Column("last_updated", _INSTANT, nullable=False),
    sa.Column("duplicate_key", BYTEA, nullable=False),
)


def among(column: sa.ColumnElement[UUID], ids: Iterable[UUID]) -> sa.ColumnElement[bool]:
    """The column is one of `ids`; one array parameter, however many they are."""
    return column == sa.any_(sa.literal(list(ids), ARRAY(sa.Uuid)))


LIVING = sa.text("lifecycle <> 'retired'")
UNREVIEWED = sa.text("compliance_status = 'unreviewed'")


def scope_includes(scope: RegulatoryScope) -> sa.TextClause:
    """The condition on regulatory_scope in the words of its partial index."""
    return sa.text(f"regulatory_scope @> '{{{scope.value}}}'::text[]")


SENSITIVE_CLASSES = ", ".join(f"'{classification.value}'" for classification in HIGH_SENSITIVITY)
UNPROVEN_MODEL = (
    "asset_type IN ('foundation_model', 'fine_tuned_model', 'embedding_model') AND deployment_env = 'production' "
    "AND model_provider IS NULL AND source_url IS NULL AND integrity = '[]'::jsonb"
)
"""A production model of which nobody said where it comes from."""

GAP_CONDITIONS: dict[Gap, sa.TextClause] = {
    Gap.NO_SECURITY_REVIEW: sa.text("last_security_review IS NULL"),
    Gap.STALE_REVIEW: sa.text("last_security_review < :stale_before"),
    Gap.MISSING_SBOM: sa.text("is_self_hosted AND NOT sbom_available"),
    Gap.UNCLASSIFIED_DATA: sa.text(
        "data_classification = 'internal' AND regulatory_scope <> '{}'::text[] AND regulatory_scope <> '{none}'::text[]"
    ),
    Gap.NO_OWNER: sa.text("owner_team = ''"),
    Gap.PUBLIC_EXPOSURE_HIGH_SENSITIVITY: sa.text(
        f"network_exposure = 'public' AND data_classification IN ({SENSITIVE_CLASSES})"
    ),
}
"""domain.gaps.gaps_of, set-wise; all of them hold for living assets only."""

_asset = asset_table.c
sa.Index("asset_duplicate_key", _asset.duplicate_key, unique=True, postgresql_where=LIVING)
for _column in ("asset_type", "data_classification", "owner_team", "deployment_env", "network_exposure"):
    sa.Index(f"asset_by_{_column}", _asset[_column], _asset.asset_id)
for _column in ("model_provider", "cloud_provider"):
    sa.Index(f"asset_by_{_column}", _asset[_column], _asset.asset_id, postgresql_where=_asset[_column].is_not(None))
sa.Index("asset_by_lifecycle", _asset.lifecycle, _asset.asset_id, postgresql_where=sa.text("lifecycle <> 'active'"))
sa.Index("asset_unreviewed", _asset.asset_id, postgresql_where=UNREVIEWED)
sa.Index("asset_by_last_updated", _asset.last_updated, _asset.asset_id)
sa.Index(
    "asset_by_name_prefix",
    sa.func.lower(_asset.name).label("lower_name"),
    _asset.asset_id,
    postgresql_ops={"lower_name": "text_pattern_ops"},
)
sa.Index(
    "asset_by_name_part",
    sa.func.lower(_asset.name).label("lower_name"),
    postgresql_using="gin",
    postgresql_ops={"lower_name": "gin_trgm_ops"},
)
for _scope in RegulatoryScope:
    sa.Index(f"asset_scope_{_scope.value}", _asset.asset_id, postgresql_where=scope_includes(_scope))
sa.Index(
    "asset_by_review",
    _asset.last_security_review,
    _asset.asset_id,
    postgresql_where=sa.text("last_security_review IS NOT NULL"),
)
for _gap in (Gap.MISSING_SBOM, Gap.UNCLASSIFIED_DATA, Gap.PUBLIC_EXPOSURE_HIGH_SENSITIVITY):
    sa.Index(f"asset_gap_{_gap.value}", _asset.asset_id, postgresql_where=GAP_CONDITIONS[_gap])

sa.Index(
    "asset_public",
    _asset.asset_id,
    postgresql_include=["asset_type"],
    postgresql_where=sa.text("network_exposure = 'public' AND lifecycle = 'active'"),
)
sa.Index("asset_unproven_model", _asset.asset_id, postgresql_where=sa.text(UNPROVEN_MODEL))
sa.Index("asset_by_registered", _asset.registered_date, _asset.asset_id)
sa.Index(
    "asset_by_retired",
    _asset.last_updated,
    _asset.asset_id,
    postgresql_where=sa.text("lifecycle = 'retired'"),
)

risk_table = sa.Table(
    "asset_risk",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False, comment="of the assessments, risk's own count"),
    sa.Column("risk_score", DOUBLE_PRECISION, nullable=False),
    sa.Column("risk_level", sa.Text, nullable=False),
    sa.Column("assessed_at", _INSTANT, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False, comment="always the asset's, so that a team's riskiest are found"),
    sa.Index("asset_risk_by_score", "risk_score", "asset_id"),
    sa.Index("asset_risk_by_team", "owner_team", "risk_score", "asset_id"),
    sa.Index("asset_risk_by_level", "risk_level", "asset_id"),
)

HOLDS = sa.text("valid_to IS NULL")
CLOSED = sa.text("valid_to IS NOT NULL")

dependency_table = sa.Table(
    "dependency",
    metadata,
    sa.Column("edge_id", sa.Uuid, primary_key=True, server_default=sa.text("uuidv7()")),
    sa.Column("upstream_id", sa.Uuid, nullable=False, comment="harm comes from it"),
    sa.Column("downstream_id", sa.Uuid, nullable=False, comment="harm reaches it"),
    sa.Column("relation", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False, comment="the record, person or discovery source that says so"),
    sa.Column("locator", sa.Text, nullable=False),
    sa.Column("valid_from", _INSTANT, nullable=False),
    sa.Column("valid_to", _INSTANT, comment="null while it holds"),
)
# What holds is walked through two covering indexes, one a direction; what held lies in small ones of its own.
_edge = dependency_table.c
sa.Index(
    "dependency_now",
    _edge.downstream_id,
    _edge.upstream_id,
    _edge.relation,
    _edge.source,
    unique=True,
    postgresql_where=HOLDS,
)
sa.Index("dependency_by_upstream", _edge.upstream_id, _edge.downstream_id, _edge.relation, postgresql_where=HOLDS)
sa.Index("dependency_closed_by_upstream", _edge.upstream_id, postgresql_where=CLOSED)
sa.Index("dependency_closed_by_downstream", _edge.downstream_id, postgresql_where=CLOSED)
sa.Index("dependency_opened", _edge.valid_from, _edge.edge_id)
sa.Index("dependency_closed", _edge.valid_to, _edge.edge_id, postgresql_where=CLOSED)

sa.Index(
    "dependency_exposing",
    _edge.upstream_id,
    postgresql_where=sa.text("relation = 'exposes_credential' AND valid_to IS NULL"),
)

control_table = sa.Table(
    "control_copy",
    metadata,
    sa.Column("deployment_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("control_id", sa.Text, nullable=False),
    sa.Column("control_type", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("operational", sa.Boolean, nullable=False),
    sa.Column("evidence_valid_until", sa.Date),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Index("control_copy_by_asset", "asset_id"),
)
acceptance_table = sa.Table(
    "acceptance_copy",
    metadata,
    sa.Column("acceptance_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("in_force", sa.Boolean, nullable=False),
    sa.Column("expires_at", _INSTANT, nullable=False),
    sa.Index("acceptance_copy_by_asset", "asset_id"),
)
incident_table = sa.Table(
    "incident_copy",
    metadata,
    sa.Column("incident_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("affected_assets", ARRAY(sa.Uuid), nullable=False),
)
sa.Index(
    "incident_copy_unresolved",
    incident_table.c.affected_assets,
    postgresql_using="gin",
    postgresql_where=sa.text("status NOT IN ('resolved', 'closed')"),
)
appetite_table = sa.Table(
    "appetite_copy",
    metadata,
    sa.Column("appetite", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("ceilings", JSONB, nullable=False, comment="class -> environment -> highest residual score"),
)
PROJECTIONS = (control_table, acceptance_table, incident_table, appetite_table)
"""What governance and incidents say, as far as a deployment check needs it; rebuilt by replay."""

change_table = sa.Table(
    "asset_change",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, comment="the version that this change made"),
    sa.Column("at", _INSTANT, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("detail", JSONB, nullable=False),
    sa.Column("changes", JSONB, nullable=False),
)

bom_table = sa.Table(
    "asset_bom",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("document", BYTEA, nullable=False, comment="as it was sent, byte for byte"),
    sa.Column("digest", sa.Text, nullable=False, comment="SHA-256 of document, hex"),
    sa.Column("spec_version", sa.Text, nullable=False),
    sa.Column("components", sa.Integer, nullable=False),
    sa.Column("stored_at", _INSTANT, nullable=False),
    sa.Column("stored_by", sa.Text, nullable=False),
)

model_card_table = sa.Table(
    "asset_model_card",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("declared", JSONB, nullable=False, comment="what a person said; wins"),
    sa.Column("inferred", JSONB, nullable=False, comment="what sources say"),
    sa.Column("sources", JSONB, nullable=False, comment="field -> kind, locator and time"),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)

bom_document_table = sa.Table(
    "bom_document",
    metadata,
    sa.Column("bom_id", sa.Uuid, primary_key=True),
    sa.Column("asset_id", sa.Uuid, comment="whose bill it is; null when it is of nothing that we keep"),
    sa.Column("number", sa.Integer, nullable=False, comment="counts the bills of that asset, from 1"),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False, comment="of the import; an asset's bill is seen by who sees it"),
    sa.Column("digest", sa.Text, nullable=False, comment="SHA-256 of document, hex"),
    sa.Column("spec_version", sa.Text, nullable=False),
    sa.Column("components", sa.Integer, nullable=False),
    sa.Column("document", BYTEA, comment="as it was sent, byte for byte; null of one that we wrote"),
    sa.Column("parts", JSONB, nullable=False, comment="its components as far as they are compared"),
    sa.Column("stored_at", _INSTANT, nullable=False),
    sa.Column("stored_by", sa.Text, nullable=False),
)
_bill = bom_document_table.c
sa.Index(
    "bom_document_by_asset",
    _bill.asset_id,
    _bill.number,
    unique=True,
    postgresql_where=sa.text("asset_id IS NOT NULL"),
)

bom_score_table = sa.Table(
    "bom_score",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("score", sa.SmallInteger, nullable=False, comment="0 to 100"),
    sa.Column("missing", ARRAY(sa.Text), nullable=False, comment="fields, the most rewarding first"),
    sa.Column("scored_at", _INSTANT, nullable=False, comment="last_updated of the asset that was scored"),
    sa.Index("bom_score_lowest", "score", "asset_id"),
    sa.Index("bom_score_newest", "scored_at"),
    sa.Index("bom_score_of_team", "owner_team", "score", "asset_id"),
)

artifact_digest_table = sa.Table(
    "artifact_digest",
    metadata,
    sa.Column("algorithm", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("expires_at", _INSTANT),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
    sa.Index("artifact_digest_expiring", "expires_at", postgresql_where=sa.text("expires_at IS NOT NULL")),
)

asset_digest_table = sa.Table(
    "asset_digest",
    metadata,
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column(
        "origin", sa.Text, primary_key=True, comment="asset: its integrity; bom: its supplied bill; bom:...: another's"
    ),
    sa.Column("algorithm", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("place", sa.Text, nullable=False, comment="the file or component"),
    sa.Index("asset_digest_by_digest", "digest", "algorithm", "asset_id"),
)
"""Triggers keep it: on asset for what its integrity says, and on this table itself, so that whichever way a denied
digest comes in, the task that follows it is owed in the same transaction. The migration has them."""

artifact_hit_table = sa.Table(
    "artifact_hit",
    metadata,
    sa.Column("algorithm", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("asset_id", sa.Uuid, primary_key=True),
    sa.Column("holder_id", sa.Uuid, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("path", ARRAY(sa.Uuid), nullable=False, comment="from the holder to the asset"),
    sa.Column("followed", sa.Boolean, nullable=False, comment="its dependents are hits too"),
    sa.Column("found_at", _INSTANT, nullable=False),
    sa.Index("artifact_hit_by_asset", "asset_id"),
    sa.Index("artifact_hit_by_holder", "holder_id"),
    sa.Index("artifact_hit_to_follow", "algorithm", "digest", postgresql_where=sa.text("NOT followed")),
)

artifact_policy_table = sa.Table(
    "artifact_policy",
    metadata,
    sa.Column("team", sa.Text, primary_key=True, comment="empty is the whole organisation"),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)

run_table = sa.Table(
    "discovery_run",
    metadata,
    sa.Column("run_id", sa.Uuid, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("options", JSONB, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("counts", JSONB, nullable=False),
    sa.Column("problems", JSONB, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("requested_at", _INSTANT, nullable=False),
    sa.Column("finished_at", _INSTANT),
)

scope_table = sa.Table(
    "discovery_scope",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True, comment="one listing, folder or repository"),
    sa.Column("run_id", sa.Uuid, nullable=False, comment="the last run that read it or tried to"),
    sa.Column("complete", sa.Boolean, nullable=False, comment="that run read it to its end"),
    sa.Column("entries", sa.Integer, nullable=False, comment="when it was last read to its end"),
    sa.Column("seconds", DOUBLE_PRECISION, nullable=False),
    sa.Column("read_at", _INSTANT, comment="when it was last read to its end"),
    sa.Column("stale_since", _INSTANT, comment="since when it cannot be read to its end"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("discovery_scope_by_run", "run_id"),
)

sighting_table = sa.Table(
    "discovery_sighting",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("locator", sa.Text, primary_key=True),
    sa.Column("sighting_id", sa.Uuid, nullable=False, unique=True),
    sa.Column("asset_id", sa.Uuid, nullable=False),
    sa.Column("document", JSONB, nullable=False, comment="claims, links, observations, identities, model card"),
    sa.Column("fingerprint", BYTEA, nullable=False, comment="of the document: equal means nothing to write"),
    sa.Column("observed", ARRAY(sa.Text), nullable=False, comment="kinds of its observations"),
    sa.Column("matched_by", sa.Text, nullable=False, comment="why it is this asset"),
    sa.Column("pinned", sa.Boolean, nullable=False, comment="a person said which asset it is"),
    sa.Column("first_seen", _INSTANT, nullable=False),
    sa.Column("changed_at", _INSTANT, nullable=False),
    sa.Column("missing_since", _INSTANT, comment="first complete reading of its scope that lacks it"),
    sa.Column("gone_at", _INSTANT),
    sa.Index("discovery_sighting_by_asset", "asset_id"),
    sa.Index(
        "discovery_sighting_observed",
        "observed",
        postgresql_using="gin",
        postgresql_where=sa.text("observed <> '{}'::text[]"),
    ),
)

name_table = sa.Table(
    "discovery_name",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="a locator or an identity"),
    sa.Column("sighting_id", sa.Uuid, primary_key=True),
    sa.Index("discovery_name_by_sighting", "sighting_id"),
)

link_table = sa.Table(
    "discovery_link",
    metadata,
    sa.Column("sighting_id", sa.Uuid, primary_key=True),
    sa.Column("relation", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True, comment="the other entry's locator or identity"),
    sa.Column("reverse", sa.Boolean, primary_key=True, comment="the other entry is the subject"),
    sa.Column("at_locator", sa.Text, nullable=False),
    sa.Column("own_id", sa.Uuid, nullable=False, comment="asset of the sighting"),
    sa.Column("other_id", sa.Uuid, comment="asset that the target turned out to be; null until something has its name"),
    sa.Index("discovery_link_by_asset", "own_id"),
    sa.Index("discovery_link_by_target", "target"),
)

schedule_table = sa.Table(
    "discovery_schedule",
    metadata,
    sa.Column("schedule_id", sa.Uuid, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("options", JSONB, nullable=False),
    sa.Column("owner_team", sa.Text, nullable=False),
    sa.Column("every_seconds", sa.Integer, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("next_at", _INSTANT, nullable=False),
    sa.Column("last_run_id", sa.Uuid),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Index("discovery_schedule_due", "next_at", postgresql_where=sa.text("enabled")),
)
