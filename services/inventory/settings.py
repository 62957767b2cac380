"""What the inventory can be told from outside: the environment, prefix INVENTORY_."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class DiscoveryTarget(BaseModel):
    """A server that discovery may ask, and what it shows there of itself.

    Attributes:
        url: where it is: http, https, or postgresql for pgvector.
        headers: sent with every request, e.g. {"Authorization": "Bearer ..."}.
        ca_file: certificates to trust instead of the system's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    ca_file: Path | None = None


class InventorySettings(ServiceSettings):
    """Every knob of the inventory."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="INVENTORY_")

    bind_port: int = Field(default=8081, ge=0, le=65_535)
    import_limit_bytes: int = Field(default=4_294_967_296, ge=1)
    """Most that one import may send; what lies beyond is not read. Lines, not the whole, are what costs memory."""
    import_refused_limit: int = Field(default=10_000, ge=1)
    """Refused lines after which an import is ended: what is told of a bad line is many times longer than the line."""
    import_spool_limit_bytes: int = Field(default=1_073_741_824, ge=1)
    """Room on disk that the results of one import may take while the client does not read them; beyond, it is ended."""
    discovery_roots: tuple[Path, ...] = ()
    """Folders below which filesystem discovery may read; none allows no filesystem discovery."""
    discovery_targets: dict[str, DiscoveryTarget] = Field(default_factory=dict)
    """Servers that runs may ask, by the name that runs use: gateways, registries, vector stores. Their credentials are
    here and never in a run (JSON object)."""
    discovery_endpoint_urls: bool = False
    """Whether a run may name another address of a cloud's API. Only for tests and private clouds: whoever starts a run
    then decides where the service's cloud credentials are presented."""
    discovery_timeout_seconds: float = Field(default=3_600.0, gt=0)
    """Longest that one run may look; what it has not read by then stays as it is, and the run is partial."""
    discovery_grace_seconds: float = Field(default=86_400.0, ge=0)
    """How long an entry that its source no longer shows counts as missing before it is gone."""
    discovery_entries_limit: int = Field(default=100_000, ge=1)
    """Most entries (models, deployments, folders) that one run takes home; beyond, the run is partial."""
    bom_spool_limit_bytes: int = Field(default=8_589_934_592, ge=1)
    """Room on disk that the organisation's bill of materials may take while its client does not read it."""
    bom_signing_key_file: Path | None = None
    """Ed25519 private key (PKCS #8 PEM) with which bills of materials are signed on request; none signs none."""
