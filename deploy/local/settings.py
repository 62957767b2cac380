"""What the one-machine stack can be told, all of it in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local.process import StartError


class StackSettings(BaseSettings):
    """COLONNADE_HOME, COLONNADE_PORT and the rest; the defaults start everything on this machine."""

    model_config = SettingsConfigDict(env_prefix="COLONNADE_", extra="ignore", frozen=True)

    home: Path = Path(".colonnade")
    """Everything that lasts: data, secrets, logs."""
    port: int = Field(default=8080, ge=1024, le=65_525)
    """The gateway's; the services and servers take the ten after it."""
    database_url: SecretStr | None = None
    """A PostgreSQL (16 or newer) of your own: a role that may create databases and roles. Unset: one from the wheel."""
    nats_url: str | None = None
    """A NATS with JetStream of your own. Unset: one from the wheel."""
    nats_seeds: Path | None = None
    """Folder of `<user>.nk` seeds for it. Unset: those in the home; `colonnade nats-accounts` prints their accounts."""
    otlp_endpoint: str = ""
    """OTLP/HTTP collector for traces of every service; empty sends none."""
    log_level: str = "INFO"


def load(**overrides: Any) -> StackSettings:
    """The settings of this environment, with absolute paths.

    Raises:
        StartError: a setting is not valid; the text names it.
    """
    try:
        settings = StackSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        told = "; ".join(f"COLONNADE_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise StartError(f"the settings are not valid: {told}") from error
    return settings.model_copy(update={"home": settings.home.expanduser().absolute()})
