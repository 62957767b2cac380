"""Every knob of this service."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class RiskSettings(ServiceSettings):
    """What all services have; risk has no knob of its own: what it counts is the scoring model's, set over the API."""

    model_config = SettingsConfigDict(env_prefix="RISK_", extra="ignore", frozen=True)

    bind_port: int = Field(default=8082, ge=0, le=65_535)
