"""Every knob of this service."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.incidents.application.policy import Policy
from services.incidents.domain.joining import AlertPolicy
from shared.contracts.detection import Severity
from shared.settings import ServiceSettings


class IncidentsSettings(ServiceSettings):
    """Read from INCIDENTS_*."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_prefix="INCIDENTS_")

    bind_port: int = Field(default=8084, ge=0, le=65_535)
    alert_opens_at: Severity = Severity.HIGH
    """Alerts of this severity and above open an incident."""
    alert_repeats_at: Severity = Severity.MEDIUM
    """Alerts of this severity and above open one when they repeat."""
    alert_repeats: int = Field(default=3, ge=2, le=1_000)
    """How often within the window."""
    join_window_minutes: int = Field(default=60, ge=1, le=10_080)
    """An alert joins an open incident of the same story whose latest alert is no further away than this."""
    block_minutes: int = Field(default=60, ge=1, le=43_200)
    """How long blocks and revocations of automated steps last."""
    emergency_rule_hours: int = Field(default=24, ge=1, le=720)
    """How long an emergency rule is in force."""
    emergency_rules_an_hour: int = Field(default=30, ge=1, le=10_000)
    """How many emergency rules automation makes for one team in any hour; a flood of attacks is no reason for more."""
    evidence_alerts: int = Field(default=20, ge=1, le=1_000)
    """Of how many alerts of one incident the snapshot is kept as evidence."""
    action_retry_seconds: float = Field(default=30.0, gt=0, le=3_600)
    """Longest pause between two tries of an automated action; the first is half a second."""
    action_give_up_hours: float = Field(default=24.0, gt=0, le=720)
    webhook_allow_loopback: bool = False
    """Let webhooks go to this machine, also over plain http; for one-machine stacks and tests."""
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks inside, e.g. ["10.20.0.0/16"], that webhooks may go to over https beside public addresses."""
    webhook_refused_ports: frozenset[int] = frozenset()
    """Ports at which no webhook may go to this machine or those networks, beside those that other settings name."""
    webhook_timeout_seconds: float = Field(default=10.0, gt=0, le=60)
    sealing_secret: SecretStr | None = None
    """Keys the encryption of webhook secrets at rest; unset, cursor_secret does. Changing it invalidates them all."""

    @property
    def own_ports(self) -> frozenset[int]:
        """Where the platform listens, as far as these settings tell."""
        ports = self.webhook_refused_ports | {self.bind_port}
        ports |= _ports(self.database_url.get_secret_value(), 5_432) | _ports(self.nats_url, 4_222)
        for url in self.service_urls.values():
            ports |= _ports(url, 443 if url.startswith("https:") else 80)
        return ports

    @property
    def policy(self) -> Policy:
        return Policy(
            alerts=AlertPolicy(
                opens_at=self.alert_opens_at,
                repeats_at=self.alert_repeats_at,
                repeats=self.alert_repeats,
                window=timedelta(minutes=self.join_window_minutes),
            ),
            block_for=timedelta(minutes=self.block_minutes),
            rule_for=timedelta(hours=self.emergency_rule_hours),
            rules_an_hour=self.emergency_rules_an_hour,
            evidence_alerts=self.evidence_alerts,
            retry_every=timedelta(seconds=self.action_retry_seconds),
            give_up_after=timedelta(hours=self.action_give_up_hours),
        )


def _ports(url: str, default: int) -> frozenset[int]:
    """The ports that a URL names, which may be of several hosts."""
    hosts = urlsplit(url).netloc.rpartition("@")[2]
    return frozenset(int(port) for port in re.findall(r":(\d+)(?=,|$)", hosts)) or frozenset({default})
