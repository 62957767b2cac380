"""Every knob of this service: GOVERNANCE_* in the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class GovernanceSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="GOVERNANCE_", extra="ignore", frozen=True)

    bind_port: int = Field(default=8085, ge=0, le=65_535)
    review_notice_days: int = Field(default=30, ge=0, le=365)
    """How long before its day a security review of an asset is put on the list of reviews that are owed."""
    review_stretch: int = Field(default=1_000, ge=1, le=10_000)
    """Assets looked at in one step of the search for reviews that fall due; there is a step every ten seconds."""
    asset_wait_seconds: float = Field(default=0.5, ge=0, le=10)
    """How long a request waits for an asset that inventory may have registered a moment ago and not announced yet."""
