"""Every knob of the gateway; environment variables start with GATEWAY_."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.framing import EdgeLimits
from gateway.limits import Policy
from gateway.oidc import IssuerSettings
from shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What the gateway can be told from outside."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="GATEWAY_")

    bind_port: int = Field(default=8080, ge=0, le=65_535)
    tls_certificate_file: Path | None = None
    """PEM chain; with `tls_key_file` the gateway speaks TLS itself."""
    tls_key_file: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where Prometheus finds the metrics, without credentials: never the public address. None: nowhere."""

    key_pepper: SecretStr
    """Keys the digests of API keys; losing it makes every key useless."""
    previous_key_pepper: SecretStr | None = None
    """The pepper before, while keys made under it are still in use."""
    issuers: tuple[IssuerSettings, ...] = ()
    """OIDC/JWT issuers whose tokens are believed, as a JSON list; see oidc.IssuerSettings."""
    access_stale_seconds: float = Field(default=60.0, ge=2.0)
    """With the database away, keys in memory count this long; then everybody gets 503, for nobody knows who was
    revoked."""

    key_limit: int = Field(default=60_000, ge=1)
    """Requests a window for an API key that has no limit of its own."""
    user_limit: int = Field(default=6_000, ge=1)
    """The same for a caller with an issuer's token."""
    ingest_limit: int = Field(default=600_000, ge=1)
    """The same for a key whose only role is `ingest`."""
    service_limit: int = Field(default=600_000, ge=1)
    """The same for another service of ours."""
    limit_window_seconds: int = Field(default=60, ge=1, le=86_400)
    limit_outage_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of each limit this replica admits by itself while the database is down; 0 answers 503 instead."""

    connect_seconds: float = Field(default=2.0, gt=0)
    first_byte_seconds: float = Field(default=30.0, gt=0)
    """From a request passed on in full to the head of the service's answer."""
    answer_idle_seconds: float = Field(default=30.0, gt=0)
    """Between two parts of a service's answer."""
    stream_idle_seconds: float = Field(default=120.0, gt=0)
    """The same for event streams; services send a comment at least every 15 s."""
    total_seconds: float = Field(default=120.0, gt=0)
    """For a whole exchange, imports and event streams excepted."""
    upstream_idle_seconds: float = Field(default=30.0, gt=0)
    """Unused connections to a service are closed after this; must stay below the services' keep-alive time (75 s)."""
    upstream_connections: int = Field(default=1024, ge=1)
    """To one service; requests above it are answered with 503 at once."""

    head_seconds: float = Field(default=10.0, gt=0)
    """For the request line and headers to arrive."""
    body_idle_seconds: float = Field(default=30.0, gt=0)
    body_total_seconds: float = Field(default=60.0, gt=0)
    keep_alive_seconds: float = Field(default=60.0, gt=0)
    max_connections: int = Field(default=4096, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.key_pepper.get_secret_value()) < 16:
            raise ValueError("key_pepper is too short; give at least 16 random bytes")
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        names = [issuer.name for issuer in self.issuers] + [issuer.issuer for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("two issuers share a name or an address")
        return self

    @property
    def peppers(self) -> tuple[bytes, ...]:
        given = (self.key_pepper, self.previous_key_pepper)
        return tuple(pepper.get_secret_value().encode() for pepper in given if pepper is not None)

    def policies(self) -> dict[str, Policy]:
        """Rate limits by class of caller."""
        quotas = {
            "key": self.key_limit,
            "user": self.user_limit,
            "ingest": self.ingest_limit,
            "service": self.service_limit,
        }
        return {name: Policy(name, quota, self.limit_window_seconds) for name, quota in quotas.items()}

    def edge_limits(self) -> EdgeLimits:
        return EdgeLimits(
            head_seconds=self.head_seconds,
            body_idle_seconds=self.body_idle_seconds,
            body_total_seconds=self.body_total_seconds,
            keep_alive_seconds=self.keep_alive_seconds,
            max_connections=self.max_connections,
        )
