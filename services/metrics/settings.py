"""What the metrics service can be told from outside: METRICS_* in the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class MetricsSettings(ServiceSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="METRICS_")

    bind_port: int = Field(default=8086, ge=0, le=65_535)
    pdf_seconds: float = Field(default=20.0, gt=0)
    """For one report as PDF; under a busy machine's load it takes about one."""
