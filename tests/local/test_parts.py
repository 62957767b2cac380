"""The small parts of the one-machine stack that need no server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from deploy.local import migrations, process
from deploy.local.credentials import Credentials
from deploy.local.databases import address
from deploy.local.environment import MODULES, Environment
from deploy.local.home import Home
from deploy.local.process import Pids, StartError, trim_logs
from deploy.local.settings import StackSettings, load
from deploy.local.throwaway import PORTS
from services.incidents.settings import IncidentsSettings


def test_the_heads_of_a_migrations_folder_are_what_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = tmp_path / "some_service" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "some_service" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for revision, follows in (("a", None), ("b", "a"), ("c", "a"), ("d", ("b", "c"))):
        (versions / f"{revision}.py").write_text(f'revision: str = "{revision}"\ndown_revision = {follows!r}\n')
    assert migrations.heads("some_service") == {"d"}
    (versions / "d.py").unlink()
    assert migrations.heads("some_service") == {"b", "c"}
    assert migrations.heads("deploy.local") == frozenset()


def test_a_recorded_pid_that_now_is_another_process_is_left_alone(tmp_path: Path) -> None:
    pids = Pids(tmp_path)
    pids.record("ours", os.getpid())
    assert pids.running()["ours"].pid == os.getpid()
    entry = json.loads((tmp_path / "ours.json").read_text())
    (tmp_path / "ours.json").write_text(json.dumps(entry | {"started": psutil.boot_time()}))
    assert pids.running() == {}
    assert pids.reap() == []


def test_a_large_log_is_put_aside_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 10)
    with (tmp_path / "risk.log").open("a") as log:
        log.write("twelve bytes")
        log.flush()
        trim_logs(tmp_path)
        log.write("more")
    assert (tmp_path / "risk.log.1").read_text() == "twelve bytes"
    assert (tmp_path / "risk.log").read_text() == "more"


def test_a_login_is_quoted_into_an_address_and_options_stay() -> None:
    url = address("postgres://old:x@db.example:5433/postgres?sslmode=require", "risk", "risk_app", "a/b@c")
    assert url == "postgresql://risk_app:a%2Fb%40c@db.example:5433/risk?sslmode=require"


def test_settings_that_cannot_be_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLONNADE_PORT", "many")
    with pytest.raises(StartError, match="COLONNADE_PORT"):
        load()


def test_the_trust_file_names_who_may_sign_and_up_to_what(tmp_path: Path) -> None:
    home = Home(tmp_path)
    Environment(home, StackSettings(home=tmp_path)).write_trust()
    trust = json.loads(home.trust_file.read_text())
    assert trust["gateway"]["scopes"] == ["*"]
    assert "*" not in trust["incidents"]["scopes"]
    for issuer in trust.values():
        load_pem_public_key(issuer["public_key"].encode())


def test_webhooks_reach_no_port_of_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(Home(tmp_path), StackSettings(home=tmp_path, port=20_000))
    for name, value in environment.of("incidents").items():
        monkeypatch.setenv(name, value)
    assert set(range(20_000, 20_000 + PORTS)) <= IncidentsSettings().own_ports


def test_secrets_are_made_once_for_their_owner_only_and_differ(tmp_path: Path) -> None:
    home = Home(tmp_path)
    told = {name: Environment(home, StackSettings(home=tmp_path)).of(name) for name in MODULES}
    again = {name: Environment(home, StackSettings(home=tmp_path)).of(name) for name in MODULES}
    assert told == again
    secrets = [told[name][f"{name.upper()}_{key}"] for name in MODULES for key in ("CURSOR_SECRET", "DATABASE_URL")]
    assert len(set(secrets)) == len(secrets)
    for file in (tmp_path / "secrets").iterdir():
        assert file.stat().st_mode & 0o077 == 0
    assert Credentials(tmp_path / "secrets").nkey_public("risk") != Credentials(tmp_path / "secrets").nkey_public(
        "admin"
    )
