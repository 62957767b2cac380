"""The folder of one stack: who owns it at the moment, and what the others may know of it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.credentials import Credentials, write_private
from deploy.local.process import Pids, StartError


@dataclass(frozen=True, slots=True)
class Running:
    """What a supervisor writes down for `colonnade status`, `demo` and the other commands."""

    pid: int
    port: int
    url: str
    components: dict[str, int]  # name -> port


class Home:
    """$COLONNADE_HOME: postgres/, nats/, secrets/, logs/, pids/, admin.key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.admin_key = path / "admin.key"
        self.trust_file = path / "secrets" / "trust.json"
        self.credentials = Credentials(path / "secrets")
        self.pids = Pids(path / "pids")
        self._lock: int | None = None

    def take(self) -> None:
        """Own the home until this process ends, however it ends.

        Raises:
            StartError: another supervisor owns it (named by pid), or the folder cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"COLONNADE_HOME {self.path} cannot be used: {error}") from error
        if not _locked(descriptor):
            owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            os.close(descriptor)
            advice = "stop it, or set COLONNADE_HOME and COLONNADE_PORT"
            raise StartError(f"{self.path} is in use by another stack (pid {owner}); {advice}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def release(self) -> None:
        """Give the home back."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def is_owned(self) -> bool:
        """Whether a supervisor owns the home now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not _locked(descriptor, attempts=1)
        finally:
            os.close(descriptor)

    def announce(self, running: Running) -> None:
        write_private(self.path / "stack.json", json.dumps(asdict(running), indent=2) + "\n")

    def announced(self) -> Running | None:
        """What the last supervisor wrote, whether or not it still runs."""
        try:
            return Running(**json.loads((self.path / "stack.json").read_text()))
        except FileNotFoundError:
            return None


def _locked(descriptor: int, attempts: int = 5) -> bool:
    """Take the lock; several attempts, because `is_owned` holds it for an instant to look."""
    for _attempt in range(attempts):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False
