"""Child processes that do not outlive us, and those of a killed predecessor that did.

A child asks the kernel for its stop signal when its parent dies (PR_SET_PDEATHSIG), so that `kill -9` of the
supervisor still stops the servers in order of their own. That request is forgotten by programs that change their
credentials and does not exist outside Linux, therefore every child is also recorded in the home by pid and start
time, and `reap` ends what the previous owner of the home left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Loaded here and not between fork and exec, where nothing that takes a lock may run.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

LOG_LIMIT_BYTES = 16 * 1024 * 1024


class StartError(Exception):
    """A part of the stack did not start; the text is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Command:
    """One program of the stack and how to stop it."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)  # added to ours
    cwd: Path | None = None
    uid: int | None = None  # run as this user; None: as ourselves
    gid: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_seconds: float = 20.0

    def popen_arguments(self) -> dict[str, Any]:
        """Keyword arguments for subprocess.Popen and asyncio.create_subprocess_exec alike, without the output.

        The thread that spawns must live as long as the child: the kernel counts the end of that thread as the
        parent's death.
        """
        arguments: dict[str, Any] = {
            "cwd": self.cwd,
            "env": {**os.environ, **self.env},
            "stdin": subprocess.DEVNULL,
            # Ctrl-C goes to the whole foreground group; we stop the children ourselves, in order.
            "start_new_session": True,
        }
        if self.uid is not None:
            # The child changes to its working directory before it drops its rights, see postgres.py.
            arguments |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        if _prctl is not None:
            # Two system calls; no argument of Popen asks for the death signal.
            arguments["preexec_fn"] = _die_with_parent(os.getpid(), self.stop_signal)
        return arguments

    def open_log(self) -> int:
        """A descriptor appending to the log."""
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _die_with_parent(parent: int, stop_signal: signal.Signals) -> Callable[[], None]:
    def in_child() -> None:
        assert _prctl is not None
        _prctl(_PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before we asked
            os._exit(1)

    return in_child


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start the command with its output in its log."""
    log = command.open_log()
    try:
        return subprocess.Popen(command.argv, stdout=log, stderr=log, **command.popen_arguments())
    except OSError as error:
        raise StartError(f"{command.name} cannot be started: {error}") from error
    finally:
        os.close(log)


def stop(child: subprocess.Popen[bytes], command: Command) -> int:
    """Ask the child to stop, wait, and kill it when it does not.

    Returns:
        The exit code, negative for a signal.
    """
    if child.poll() is None:
        child.send_signal(command.stop_signal)
        try:
            child.wait(command.stop_timeout_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def wait_until_ready(
    child: subprocess.Popen[bytes], command: Command, is_ready: Callable[[], bool], timeout_seconds: float
) -> None:
    """Poll `is_ready` until it holds.

    Raises:
        StartError: the child ended or the time was up; the child is stopped, the text ends with its last words.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if child.poll() is not None:
            raise StartError(f"{command.name} ended with {describe_exit(child.returncode)}{last_words(command.log)}")
        if time.monotonic() > deadline:
            stop(child, command)
            raise StartError(f"{command.name} was not ready after {timeout_seconds:.0f} s{last_words(command.log)}")
        time.sleep(0.01)


def describe_exit(code: int) -> str:
    """An exit code in words: `exit code 3`, `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def last_words(log: Path, lines: int = 20) -> str:
    """The end of a log to append to a message, or nothing when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            tail = file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except FileNotFoundError:
        return ""
    return "".join(f"\n    {line}" for line in tail) + f"\n  (log: {log})"


def trim_logs(folder: Path) -> None:
    """Put what a log over the limit holds aside as `<name>.log.1`, in place of what was there, and empty it.

    The programs keep the file open; they append, so they go on at its new end. A line written between the copy and the
    cut is lost.
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


class Pids:
    """The children of one home, on disk, so that the next owner of the home can end what a killed one left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def record(self, name: str, pid: int, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return  # already gone; whoever waits for it will see that
        path = self._folder / f"{name}.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"pid": pid, "started": started, "stop_signal": int(stop_signal)}))
        temporary.replace(path)

    def forget(self, name: str) -> None:
        (self._folder / f"{name}.json").unlink(missing_ok=True)

    def running(self) -> dict[str, psutil.Process]:
        """The recorded children that still run, by name. A pid that the system gave to another is not among them."""
        return {name: process for name, (process, _stop_signal) in self._entries().items()}

    def reap(self, timeout_seconds: float = 20.0) -> list[str]:
        """End every recorded child that still runs: each by its own signal, then by force.

        Returns:
            The names of those that had to be ended.
        """
        orphans = self._entries()
        for process, stop_signal in orphans.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(stop_signal)
        end([process for process, _stop_signal in orphans.values()], timeout_seconds)
        for path in self._folder.glob("*.json"):
            path.unlink(missing_ok=True)
        return list(orphans)

    def _entries(self) -> dict[str, tuple[psutil.Process, int]]:
        found: dict[str, tuple[psutil.Process, int]] = {}
        for path in sorted(self._folder.glob("*.json")):
            # The supervisor forgets the dead while others look: a file that was listed may be gone when it is read.
            with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess, ValueError, KeyError):
                entry = json.loads(path.read_text())
                process = psutil.Process(entry["pid"])
                if abs(process.create_time() - entry["started"]) < 1 and is_alive(process):
                    found[path.stem] = (process, int(entry["stop_signal"]))
        return found


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs. A zombie does not: in containers often nobody collects the children of the dead."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end(processes: list[psutil.Process], timeout_seconds: float) -> None:
    """Wait for signalled processes that are not our children; kill those that remain and wait again."""
    alive = _wait(processes, timeout_seconds)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(alive, 5)


def _wait(processes: list[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Those that still run when the time is up."""
    deadline = time.monotonic() + timeout_seconds
    while (alive := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive
