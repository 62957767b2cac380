"""What each process of the stack is told: addresses, logins, keys. The same for `serve`, `migrate` and the commands."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import deploy
from deploy.local.credentials import write_private
from deploy.local.databases import address, service_database
from deploy.local.home import Home
from deploy.local.ports import SERVICES, Ports
from deploy.local.settings import StackSettings

MODULES: Mapping[str, str] = {**{name: f"services.{name}" for name in SERVICES}, "gateway": "gateway"}
"""Component -> the module behind `python -m`."""

ROOT = Path(deploy.__file__).resolve().parents[1]
"""Where `services` and `gateway` are importable from, whatever folder the stack was started in."""

CEILINGS: Mapping[str, tuple[str, ...]] = {
    "gateway": ("*",),
    # Playbook steps act: an emergency rule and a block in detection, quarantine in inventory, a session revoked.
    "incidents": ("detection:write", "detection:respond", "inventory:respond", "inventory:read", "access:respond"),
}
"""Issuer -> the most that its tokens may carry. Who is not named signs nothing that anyone believes."""


class Environment:
    """The environment of every component of one stack."""

    def __init__(self, home: Home, settings: StackSettings) -> None:
        self._home = home
        self._settings = settings
        self.ports = Ports(settings.port)

    @property
    def server_url(self) -> str:
        """PostgreSQL as the role that makes databases and roles."""
        if self._settings.database_url is not None:
            return self._settings.database_url.get_secret_value()
        password = self._home.credentials.text("postgres.password")
        return address(f"postgresql://127.0.0.1:{self.ports.postgres}", "postgres", "postgres", password)

    @property
    def nats_url(self) -> str:
        return self._settings.nats_url or f"nats://127.0.0.1:{self.ports.nats}"

    def seed_file(self, user: str) -> Path:
        """With which nkey a NATS user connects."""
        if self._settings.nats_url is not None and self._settings.nats_seeds is not None:
            return self._settings.nats_seeds / f"{user}.nk"
        return self._home.credentials.nkey(user)

    def port(self, name: str) -> int:
        return self.ports.gateway if name == "gateway" else self.ports.service(name)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    def of(self, name: str) -> dict[str, str]:
        """The variables of one service or the gateway, each with its prefix."""
        credentials = self._home.credentials
        database = service_database(self.server_url, name, credentials)
        values = {
            "DATABASE_URL": database.runtime_url,
            "MIGRATION_DATABASE_URL": database.migration_url,
            "NATS_URL": self.nats_url,
            "NATS_SEED_FILE": str(self.seed_file(name)),
            "BIND_HOST": "127.0.0.1",
            "BIND_PORT": str(self.port(name)),
            "TRUST_FILE": str(self._home.trust_file),
            "SIGNING_KEY_FILE": str(credentials.signing_key(name)),
            "CURSOR_SECRET": credentials.text(f"{name}.cursor-secret"),
            "SERVICE_URLS": json.dumps({other: self.url(other) for other in MODULES if other != name}),
            "OTLP_ENDPOINT": self._settings.otlp_endpoint,
            "LOG_LEVEL": self._settings.log_level,
        }
        if name == "inventory":
            # What a person on this machine may want looked through, and nothing else.
            values["DISCOVERY_ROOTS"] = json.dumps([str(Path.home()), tempfile.gettempdir()])
            values["DISCOVERY_ENDPOINT_URLS"] = "true"
            # Not the key of internal tokens: what is signed with this one is handed to anybody.
            values["BOM_SIGNING_KEY_FILE"] = str(credentials.signing_key("inventory.bom"))
        if name == "incidents":
            # A subscriber on this machine is what one has here, but never the stack itself.
            values["WEBHOOK_ALLOW_LOOPBACK"] = "true"
            values["WEBHOOK_REFUSED_PORTS"] = json.dumps([self.ports.nats_monitoring, self.ports.gateway_metrics])
        if name == "gateway":
            values["KEY_PEPPER"] = credentials.text("gateway.key-pepper")
            values["METRICS_PORT"] = str(self.ports.gateway_metrics)
        return {f"{name.upper()}_{key}": value for key, value in values.items()} | self.of_python()

    def of_python(self) -> dict[str, str]:
        """What every Python process of the stack is told.

        A killed process must not take the last lines of its log along. Where Python may keep no bytecode, ours goes to
        the home: compiling costs each service 1.5 s of CPU.
        """
        told = {"PYTHONUNBUFFERED": "1"}
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            told |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self._home.path / "bytecode")}
        return told

    def write_trust(self) -> None:
        """Write the trust file: issuer -> public key and ceiling."""
        trust = {
            issuer: {"public_key": self._home.credentials.signing_key_public(issuer), "scopes": list(scopes)}
            for issuer, scopes in CEILINGS.items()
        }
        text = json.dumps(trust, indent=2) + "\n"
        path = self._home.trust_file
        if not path.exists() or path.read_text() != text:
            write_private(path, text)
