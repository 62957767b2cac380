"""The supervisor, as a process of its own with small stand-ins for the services on the real servers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.local.databases import address
from deploy.local.home import Home
from deploy.local.nats import Nats
from deploy.local.ports import is_taken
from deploy.local.postgres import Postgres
from deploy.local.probe import http_status
from deploy.local.process import is_alive
from deploy.local.throwaway import free_block

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """`standin stack` in a home."""

    def __init__(self, path: Path, port: int, *preload: str, **environment: str) -> None:
        self.home = Home(path)
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.local.standin", "stack", *preload],
            cwd=ROOT,
            env={**os.environ, "COLONNADE_HOME": str(path), "COLONNADE_PORT": str(port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == f"ready http://127.0.0.1:{self.port}\n", self.process.communicate()[1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, and what else was written to standard output and error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def end_by_itself(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def pid(self, name: str) -> int | None:
        """The recorded process of that name, if one runs."""
        process = self.home.pids.running().get(name)
        return process.pid if process else None

    def query(self, sql: str) -> Any:
        password = self.home.credentials.text("postgres.password")
        url = address(f"postgresql://127.0.0.1:{self.port + 7}", "postgres", "postgres", password)

        async def work() -> Any:
            connection = await asyncpg.connect(url, timeout=5)
            try:
                return await connection.fetchval(sql)
            finally:
                await connection.close()

        return asyncio.run(work())


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def begin(
        home: Path = tmp_path / "home", port: int | None = None, preload: str = "colorsys", **environment: str
    ) -> Running:
        started.append(Running(home, port or free_block(), preload, **environment))
        return started[-1]

    yield begin
    for stack in started:
        if stack.process.poll() is None:
            stack.end()
        for stream in (stack.process.stdout, stack.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that several tests may disturb."""
    running = Running(tmp_path_factory.mktemp("stack") / "home", free_block(), "colorsys")
    running.ready()
    yield running
    assert running.end()[0] == 0


def eventually(holds: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def answers(port: int) -> bool:
    return asyncio.run(http_status(port, "/readyz")) == 200


def test_it_announces_itself_once_stops_cleanly_and_finds_its_data_again(start: Start) -> None:
    first = start()
    first.ready()
    assert first.home.admin_key.read_text() == "cln_standin\n"
    key_written = first.home.admin_key.stat().st_mtime_ns
    first.query("CREATE TABLE kept AS SELECT 7 AS n")
    children = list(first.home.pids.running().values())
    assert len(children) == 5
    code, out, err = first.end(signal.SIGINT)
    assert (code, out) == (0, "")
    assert "stopped after" in err
    assert not [child for child in children if is_alive(child)]
    assert "stopped" in (first.home.logs / "inventory.log").read_text()
    assert "database system is shut down" in (first.home.logs / "postgres.log").read_text()

    second = start(port=first.port)
    second.ready()
    assert second.query("SELECT n FROM kept") == 7
    assert second.home.admin_key.stat().st_mtime_ns == key_written
    assert second.end()[0] == 0
    assert (second.home.path.stat().st_mode & 0o077, second.home.admin_key.parent) == (0, second.home.path)


@pytest.mark.parametrize("name", ["inventory", "gateway", "postgres", "nats"])
def test_what_dies_is_started_again(stack: Running, name: str) -> None:
    before = stack.pid(name)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually(lambda: stack.pid(name) not in (None, before))
    ports = {"inventory": 1, "gateway": 0, "postgres": 7, "nats": 8}
    eventually(lambda: is_taken(stack.port + ports[name]))
    eventually(lambda: answers(stack.port))
    told = rf"{name} ended with signal SIGKILL; starting it again in 0.2 s"
    assert re.search(told, (stack.home.logs / "stack.log").read_text())


def test_a_port_in_use_is_named_before_anything_starts(start: Start, tmp_path: Path) -> None:
    base = free_block()
    with closing(socket.create_server(("127.0.0.1", base + 2))):
        stack = start(port=base)
        code, out, err = stack.end_by_itself()
    assert (code, out) == (1, "")
    assert f"port in use: {base + 2} (risk) by" in err
    assert f"pid {os.getpid()}" in err
    assert not (stack.home.path / "postgres").exists()


def test_a_home_has_one_stack_at_a_time(start: Start, stack: Running) -> None:
    code, out, err = start(stack.home.path).end_by_itself()
    assert (code, out) == (1, "")
    assert f"is in use by another stack (pid {stack.process.pid})" in err
    assert answers(stack.port)


def test_two_stacks_run_side_by_side(start: Start, stack: Running) -> None:
    second = start()
    second.ready()
    assert answers(stack.port)
    assert answers(second.port)
    assert stack.pid("postgres") != second.pid("postgres")


def test_a_killed_supervisor_takes_its_children_along_and_the_next_start_works(start: Start) -> None:
    first = start()
    first.ready()
    first.query("CREATE TABLE kept AS SELECT 7 AS n")
    children = list(first.home.pids.running().values())
    assert len(children) == 5
    os.kill(first.process.pid, signal.SIGKILL)
    second = start(port=first.port)  # at once, while the children still stop
    second.ready()
    assert not [child for child in children if is_alive(child)]
    assert second.query("SELECT n FROM kept") == 7


def test_the_services_are_born_together_as_what_they_would_be_alone(stack: Running) -> None:
    for name in ("inventory", "risk", "gateway"):
        process = stack.home.pids.running()[name]
        command_line = [part for part in process.cmdline() if part]
        assert command_line == [sys.executable, "-m", "tests.local.standin", "serve"]
        assert os.getsid(process.pid) == process.pid
        assert process.ppid() == stack.process.pid
        assert f"{name.upper()}_BIND_PORT" in (stack.home.logs / f"{name}.log").read_text()


def test_without_the_quick_start_each_is_started_by_itself(start: Start) -> None:
    stack = start(preload="no.such.module")
    stack.ready()
    assert sorted(stack.home.pids.running()) == ["gateway", "inventory", "nats", "postgres", "risk"]
    code, _out, err = stack.end()
    assert code == 0
    assert "the quick start failed" in err
    assert "No module named 'no'" in (stack.home.logs / "nursery.log").read_text()


def test_being_stopped_while_starting_is_no_failure_and_leaves_nothing(start: Start) -> None:
    stack = start()
    eventually(lambda: stack.pid("nats"))
    code, out, err = stack.end()
    assert (code, out) == (0, "")
    assert "stopped after" in err
    assert stack.home.pids.running() == {}


def test_servers_of_ones_own_are_used_instead_when_they_are_named(start: Start, tmp_path: Path) -> None:
    with Postgres(tmp_path / "theirs", durable=False) as postgres, Nats(tmp_path / "theirs") as nats:
        stack = start(
            COLONNADE_DATABASE_URL=postgres.url,
            COLONNADE_NATS_URL=nats.url,
            COLONNADE_NATS_SEEDS=str(nats.seed_file("admin").parent),
        )
        stack.ready()
        assert sorted(stack.home.pids.running()) == ["gateway", "inventory", "risk"]
        assert not is_taken(stack.port + 7)
        code, _out, _err = stack.end()
        assert code == 0


def test_a_server_of_ones_own_that_is_not_there_is_named(start: Start) -> None:
    stack = start(COLONNADE_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/postgres")
    code, out, err = stack.end_by_itself()
    assert (code, out) == (1, "")
    assert "PostgreSQL at 127.0.0.1:1/postgres does not let us in" in err
    assert "secret" not in err


def test_a_service_that_never_starts_ends_the_start_with_its_last_words(start: Start) -> None:
    stack = start(COLONNADE_LOG_LEVEL="standin-fails")
    code, out, err = stack.end_by_itself()
    assert (code, out) == (1, "")
    assert re.search(r"(inventory|risk|gateway) ended with exit code 3, 3 times\n +told to fail", err)
    assert stack.home.pids.running() == {}


def test_a_wrong_setting_is_named(start: Start) -> None:
    code, _out, err = start(COLONNADE_PORT="80").end_by_itself()
    assert code == 1
    assert "COLONNADE_PORT" in err
