"""Every knob of detection; environment variables start with DETECTION_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.detection.domain.assets import FailMode, Profile
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
    default_profile: Profile = Profile.BALANCED
    """How readily findings become verdicts where nobody set it: of other assets, and of traffic without an asset."""
    default_fail_mode: FailMode = FailMode.OPEN
    """What becomes of interactions that could not be looked at in full, where nobody set it."""
    deadline_seconds: float = Field(default=2.0, gt=0, le=60)
    """How long an inspection of a long text may take, waiting for a free thread included. Short ones do not wait."""
    suppression_days: int = Field(default=365, ge=1, le=366)
    """The longest that a suppression may last."""
    emergency_days: int = Field(default=30, ge=1, le=366)
    """A rule that ends within this long is an emergency rule: in force at once, without a trial."""
    promotion_text_rate: float = Field(default=0.01, gt=0, le=1)
    """Greatest false-positive rate on the benign regression texts with which a rule may decide: the upper 95 % bound.
    No hit in n texts proves 3.84 / (n + 3.84), so this cannot be less than the number of texts allows."""
    promotion_live_rate: float = Field(default=0.005, gt=0, le=1)
    """The same for the harmless live traffic that a rule saw while it was in shadow."""
    promotion_least_inspected: int = Field(default=1_000, ge=1)
    """Harmless interactions that a rule must have seen in shadow before its live rate says anything."""
    demotion_false_share: float = Field(default=0.5, gt=0, lt=1)
    """A rule goes back to shadow when the lower 95 % bound of the false share of its judged alerts exceeds this, or of
    its false findings per inspected interaction what `promotion_live_rate` or its promotion states."""
    demotion_least_judged: int = Field(default=5, ge=1)
    """Alerts that must have been judged true or false before they demote a rule."""
