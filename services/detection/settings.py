"""Every knob of detection; environment variables start with DETECTION_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class DetectionSettings(ServiceSettings):
    """What detection can be told from outside."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="DETECTION_")

    bind_port: int = Field(default=8083, ge=0, le=65_535)
    body_limit_bytes: int = Field(default=8_388_608, ge=1)
    """Batches are larger than other requests."""
    folding_minutes: int = Field(default=60, ge=1)
    """Identical findings fold into one alert until this long after the last of them."""
    asset_wait_seconds: float = Field(default=0.5, ge=0, le=10)
    """How long an inspection waits for an asset that may have been registered a moment ago and not announced yet."""
    remembered_subjects: int = Field(default=20_000, ge=100)
    """Sessions, actors and assets whose recent activity a replica keeps in memory."""
    remembered_assets: int = Field(default=20_000, ge=100)
    stream_worker: bool = True
    """Whether this process reads the telemetry stream too; where `worker` processes do, the API need not."""
    tracked_sessions: int = Field(default=5_000, ge=100)
    """Sessions of the stream whose state is kept in memory; others are read again when they go on."""
    telemetry_unpacked_bytes: int = Field(default=16_777_216, ge=1)
    """How much a packed OTLP request may hold."""
