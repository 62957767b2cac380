"""A quick start for all services at once: what they have in common is imported by one process, which then forks.

Six services and the gateway import the same frameworks, 0.8 s of CPU each; on two cores that is most of a start. The
nursery imports them while PostgreSQL and NATS still start, is then told what to become, forks once a service and ends.
The supervisor is the "subreaper" (prctl(2)) in that moment: the kernel gives it the orphans, and they are its children
like any it had started itself. Later starts, after a service died, are ordinary ones; so are all of them if the
nursery fails, because nothing depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import runpy
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from deploy.local.process import Command, describe_exit

PRELOAD = (
    "shared.commands",
    # Chosen by name when a server or an engine is made, so that importing the above leaves them out:
    "sqlalchemy.dialects.postgresql.asyncpg",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
)
FORK_TIMEOUT_SECONDS = 60.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class NurseryFailed(Exception):
    """No quick start; the services can still be started one by one."""


class Adopted:
    """A child that the nursery started: what the supervisor uses of asyncio's Process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait() -> None:
            _pid, status = os.waitpid(pid, 0)
            loop.call_soon_threadsafe(self._on_end, os.waitstatus_to_exitcode(status))

        threading.Thread(target=wait, name=f"wait for {pid}", daemon=True).start()

    def _on_end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The supervisor's side."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._process: Process | None = None

    @classmethod
    def of(cls, log: Path, env: Mapping[str, str], cwd: Path, preload: Sequence[str]) -> Self:
        # Longer than any service's command line, which a child writes over it.
        argv = (sys.executable, "-m", __name__, "a-quick-start-for-all-services", *preload)
        return cls(Command("nursery", argv, log, env, cwd))

    async def open(self) -> None:
        """Begin to import."""
        output = self._command.open_log()
        try:
            arguments = self._command.popen_arguments() | {"stdin": PIPE, "stdout": PIPE, "stderr": output}
            self._process = await asyncio.create_subprocess_exec(*self._command.argv, **arguments)
        finally:
            os.close(output)

    async def fork(self, commands: Sequence[Command]) -> dict[str, Adopted]:
        """One running child a command, by name. The commands run `python -m <module> <arguments>`.

        Raises:
            NurseryFailed: none of them runs.
        """
        pids: dict[str, int] = {}
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            async with asyncio.timeout(FORK_TIMEOUT_SECONDS):
                await self._order(commands, pids)
            return {name: Adopted(pid) for name, pid in pids.items()}
        except BaseException as error:
            await self.close()
            for pid in pids.values():
                child = Adopted(pid)
                child.kill()
                await child.wait()
            if isinstance(error, OSError | ValueError):  # TimeoutError is an OSError
                raise NurseryFailed(f"{error!r}; see {self._command.log}") from error
            raise
        finally:
            # Only for that moment: otherwise the children of a PostgreSQL that was killed would come to us as well.
            _prctl(_PR_SET_CHILD_SUBREAPER, 0)

    async def _order(self, commands: Sequence[Command], pids: dict[str, int]) -> None:
        """Say what is wanted, note each child as it is born, and wait for the nursery's end, which gives them to us."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise NurseryFailed("it was not opened")
        order = [
            {"name": c.name, "argv": c.argv[2:], "log": str(c.log), "env": dict(c.env), "signal": int(c.stop_signal)}
            for c in commands
        ]
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
        async for line in process.stdout:
            name, pid = line.split()
            pids[name.decode()] = int(pid)
        code = await process.wait()
        if code != 0 or len(pids) != len(order):
            raise ValueError(f"the nursery ended with {describe_exit(code)}")

    async def close(self) -> None:
        """End it; does nothing when it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def main(modules: Sequence[str]) -> None:
    """The nursery itself: import, read what is wanted, fork, tell the pids."""
    supervisor = os.getppid()
    for module in modules:
        import_module(module)
    if threading.active_count() > 1:
        raise RuntimeError("an import started a thread; threads do not survive a fork")
    order = json.load(sys.stdin)
    gc.collect()
    gc.freeze()  # what is shared stays shared: the collector does not touch it again
    for wanted in order:
        pid = os.fork()
        if pid == 0:
            _become(wanted, supervisor)
            return
        print(wanted["name"], pid, flush=True)


def _become(wanted: dict[str, Any], supervisor: int) -> None:
    """In the child: go on as `python -m <module> <arguments>` would have begun."""
    nursery = os.getppid()
    os.setsid()
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, descriptor in ((0, nothing), (1, log), (2, log)):
        os.dup2(descriptor, target)
    os.closerange(3, max(nothing, log) + 1)
    os.environ.update(wanted["env"])
    with contextlib.suppress(OSError):  # for people only
        _retitle([sys.executable, "-m", *wanted["argv"]])
    while (parent := os.getppid()) == nursery:
        time.sleep(0.001)  # until the nursery has ended and the supervisor has taken us over
    _prctl(_PR_SET_PDEATHSIG, wanted["signal"])
    if parent != supervisor or os.getppid() != supervisor:
        os._exit(1)
    module, *arguments = wanted["argv"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _retitle(argv: Sequence[str]) -> None:
    """Let ps show what this process is now, by writing over the arguments that the kernel shows."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[45]), int(stat[46])  # arg_start, arg_end: fields 48 and 49 of proc_pid_stat(5)
    title = b"\0".join(part.encode() for part in argv)[: end - start - 1]
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(title.ljust(end - start, b"\0"))


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main(sys.argv[2:])
