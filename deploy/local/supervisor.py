"""Keeping one program running: start it, wait until it is ready, start it again when it dies, stop it when told."""

from __future__ import annotations

import asyncio
import logging
import os
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable

from deploy.local.nursery import Adopted
from deploy.local.process import Command, Pids, StartError, describe_exit, last_words

log = logging.getLogger("colonnade.stack")

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
SETTLED_SECONDS = 30.0
"""A program that ran for this long failed for a new reason: its delay starts again at the first."""
ATTEMPTS_TO_START = 3
"""A program that was never ready and ended this often will not be helped by a fourth attempt."""


async def spawn(command: Command) -> Process:
    """Start the command with its output in its log.

    Raises:
        StartError: there is no such program, or we may not run it.
    """
    output = command.open_log()
    try:
        return await asyncio.create_subprocess_exec(
            *command.argv, stdout=output, stderr=output, **command.popen_arguments()
        )
    except OSError as error:
        raise StartError(f"{command.name} cannot be started: {error}") from error
    finally:
        os.close(output)


class Child:
    """One program of the stack.

    Args:
        prepare: says how to start it, and clears what its last run left; called in a thread before every start.
        is_ready: given the pid, whether it does its work now; asked until it holds after every start.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[], Command],
        is_ready: Callable[[int], Awaitable[bool]],
        pids: Pids,
    ) -> None:
        self.name = name
        self._prepare = prepare
        self._is_ready = is_ready
        self._pids = pids
        self._ready = asyncio.Event()
        self._ever_ready = False
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, born: Adopted | None = None) -> None:
        """Begin to keep it running; `born` is its first process, if that was started already."""
        self._task = asyncio.create_task(self._keep_running(born), name=self.name)

    async def wait_ready(self, timeout_seconds: float) -> None:
        """Wait until it is ready for the first time.

        Raises:
            StartError: it keeps ending, or the time is up.
        """
        if self._task is None:
            raise StartError(f"{self.name} was not started")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._task}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._task.done():
            self._task.result()  # raises why it gave up
        if not self._ready.is_set():
            raise StartError(f"{self.name} was not ready after {timeout_seconds:.0f} s; its log tells why")

    async def stop(self) -> None:
        """Stop it and wait for its end; does nothing when it was not started."""
        self._stop.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self, born: Adopted | None) -> None:
        delay, attempts = FIRST_DELAY_SECONDS, 0
        clock = asyncio.get_running_loop()
        while not self._stop.is_set():
            started = clock.time()
            try:
                command = await asyncio.to_thread(self._prepare)
                process = born or await spawn(command)
                born = None
                self._pids.record(self.name, process.pid, command.stop_signal)
                ended = await self._run(process, command)
                if ended is None:
                    return
                reason, details = f"ended with {describe_exit(ended)}", last_words(command.log)
            except StartError as error:
                reason, details = f"did not start: {error}", ""
            attempts += 1
            if not self._ever_ready and attempts >= ATTEMPTS_TO_START:
                raise StartError(f"{self.name} {reason}, {attempts} times{details}")
            if clock.time() - started > SETTLED_SECONDS:
                delay = FIRST_DELAY_SECONDS
            log.warning("%s %s; starting it again in %.1f s", self.name, reason, delay)
            await self._sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _run(self, process: Process | Adopted, command: Command) -> int | None:
        """Until the process ends by itself (its exit code) or was stopped by us (None)."""
        ended = asyncio.create_task(process.wait())
        told_to_stop = asyncio.create_task(self._stop.wait())
        ready = asyncio.create_task(self._watch_ready(process))
        try:
            await asyncio.wait({ended, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                await self._end(process, command)
                return None
            return await ended
        finally:
            for task in (ended, told_to_stop, ready):
                task.cancel()
            self._ready.clear()
            self._pids.forget(self.name)

    async def _watch_ready(self, process: Process | Adopted) -> None:
        began = asyncio.get_running_loop().time()
        while not await self._is_ready(process.pid):  # noqa: ASYNC110  # another process: there is nothing to await
            await asyncio.sleep(0.05)
        log.info("%s is ready after %.1f s", self.name, asyncio.get_running_loop().time() - began)
        self._ever_ready = True
        self._ready.set()

    async def _end(self, process: Process | Adopted, command: Command) -> None:
        if process.returncode is None:
            process.send_signal(command.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), command.stop_timeout_seconds)
        except TimeoutError:
            log.warning("%s did not stop within %.0f s and is killed", self.name, command.stop_timeout_seconds)
            process.kill()
            await process.wait()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
