"""A platform of its own for a test or a benchmark: started in a temporary home, stopped and removed afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.environment import Environment
from deploy.local.home import Home
from deploy.local.settings import StackSettings

PORTS = 11


@dataclass(frozen=True)
class Stack:
    """A running platform.

    Attributes:
        seconds_to_ready: from the command to its `ready` line.
    """

    url: str
    port: int
    home: Path
    key: str
    process: subprocess.Popen[str]
    seconds_to_ready: float

    def database(self, service: str) -> str:
        """URL of a service's database, as its runtime role: to see what is stored without asking the service."""
        environment = Environment(Home(self.home), StackSettings(home=self.home, port=self.port))
        return environment.of(service)[f"{service.upper()}_DATABASE_URL"]

    def service_url(self, service: str) -> str:
        return Environment(Home(self.home), StackSettings(home=self.home, port=self.port)).url(service)


def free_block() -> int:
    """A port with those above it free that a stack takes; below those that the system gives to outgoing connections.

    Looked for from anywhere: two that look at one moment would else find the same.
    """
    bases = list(range(18_000, 32_000, 20))
    random.shuffle(bases)
    for base in bases:
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + PORTS):
                    probe = stack.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports in a row")


def start(home: Path, port: int, **settings: str) -> Stack:
    """Start a platform on `home` and wait until it is ready.

    Raises:
        RuntimeError: it did not come up; its output is in the message.
    """
    environment = {**os.environ, "COLONNADE_HOME": str(home), "COLONNADE_PORT": str(port), **settings}
    started = time.perf_counter()
    log = home.parent / f"{home.name}.log"
    with log.open("w") as progress:
        command = [sys.executable, "-m", "deploy.local", "run"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=progress, env=environment, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        line = output.readline()
    if not line.startswith("ready"):
        process.wait(30)
        raise RuntimeError(f"the platform did not start:\n{log.read_text()[-4_000:]}")
    key = (home / "admin.key").read_text().strip()
    return Stack(line.split()[1], port, home, key, process, time.perf_counter() - started)


def stop(stack: Stack) -> None:
    """Stop it as Ctrl-C does."""
    stack.process.send_signal(signal.SIGINT)
    try:
        stack.process.wait(60)
    except subprocess.TimeoutExpired:
        stack.process.kill()
        raise


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Stack]:
    """A platform in a temporary home for the length of the block."""
    folder = Path(tempfile.mkdtemp(prefix="colonnade-bench-"))
    try:
        stack = start(folder / "home", free_block(), **settings)
        try:
            yield stack
        finally:
            stop(stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def superuser(stack: Stack, service: str) -> str:
    """URL of a service's database as PostgreSQL's superuser, to fill it in bulk."""
    environment = Environment(Home(stack.home), StackSettings(home=stack.home, port=stack.port))
    return environment.server_url.rsplit("/", 1)[0] + "/" + service
