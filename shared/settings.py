"""What every service can be told from outside; a service's own settings subclass this with its prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_WEAK = {"", "secret", "changeme", "change-me", "placeholder", "password"}


class ServiceSettings(BaseSettings):
    """Read from the environment once, in main.py, and passed down."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: SecretStr
    """postgresql://user:password@host:port/database of the runtime role: data, no schema changes."""
    migration_database_url: SecretStr | None = None
    """The same for the owner role; only `migrate` uses it."""
    database_pool_size: int = Field(default=8, ge=1, le=200)
    nats_url: str = "nats://127.0.0.1:8088"
    nats_seed_file: Path | None = None
    """nkey seed of this service; none connects without authentication (tests)."""
    bind_host: str = "127.0.0.1"
    bind_port: int = Field(default=8081, ge=0, le=65_535)
    trust_file: Path
    """JSON object: issuer -> {"public_key": PEM, "scopes": [ceiling]}. Who may sign tokens that we believe."""
    signing_key_file: Path | None = None
    """Ed25519 private key (PEM) for tokens of our own, to call other services."""
    cursor_secret: SecretStr
    """Keys the signatures of page cursors and the audit chain."""
    service_urls: dict[str, str] = {}
    """Name -> base URL of the services that this one calls."""
    otlp_endpoint: str = ""
    """OTLP/HTTP collector, e.g. http://collector:4318; empty exports nothing."""
    log_level: str = "INFO"
    body_limit_bytes: int = Field(default=1_048_576, ge=1)

    @model_validator(mode="after")
    def _refuse_weak_secrets(self) -> Self:
        if self.cursor_secret.get_secret_value().lower() in _WEAK:
            raise ValueError("cursor_secret is a placeholder; give at least 16 random bytes")
        return self
