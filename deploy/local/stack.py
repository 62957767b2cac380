"""The whole of Colonnade on one machine: servers, databases, streams, services and gateway, in order, kept running.

Up: PostgreSQL and NATS beside each other, then databases, roles and streams, then the migrations that are missing, then
all services at once. Down: the gateway first, so that nothing new comes in, then the services, then NATS, then
PostgreSQL, each asked politely. A start that finds everything done does none of it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import nats.errors
import psutil

from deploy.local import migrations
from deploy.local.databases import create_databases, service_database
from deploy.local.environment import MODULES, ROOT, Environment
from deploy.local.home import Home, Running
from deploy.local.nats import ADMIN, Nats, create_streams
from deploy.local.nursery import PRELOAD, Adopted, Nursery, NurseryFailed
from deploy.local.ports import is_taken
from deploy.local.postgres import Postgres
from deploy.local.probe import http_status
from deploy.local.process import Command, StartError, describe_exit, last_words, trim_logs
from deploy.local.settings import StackSettings
from deploy.local.supervisor import Child, spawn

log = logging.getLogger("colonnade.stack")

SERVER_TIMEOUT_SECONDS = 120.0  # PostgreSQL may have a long crash recovery before it
SERVICE_TIMEOUT_SECONDS = 90.0


class Stack:
    """One stack in one home.

    Args:
        modules: component -> module behind `python -m`; the gateway is the component of that name.
        preload: what those modules have in common, imported once for all of them.
    """

    def __init__(
        self, settings: StackSettings, modules: Mapping[str, str] = MODULES, preload: Sequence[str] = PRELOAD
    ) -> None:
        self.home = Home(settings.home)
        self.environment = Environment(self.home, settings)
        self._settings = settings
        self._modules = modules
        self._nursery = Nursery.of(self.home.logs / "nursery.log", self.environment.of_python(), ROOT, preload)
        self._servers: list[Child] = []
        self._services: list[Child] = []
        self._gateway: Child | None = None

    async def run(self, stop: asyncio.Event, announce: Callable[[str], None]) -> None:
        """Bring everything up, call `announce` with the gateway's URL, keep it up until `stop` is set, take it down.

        Raises:
            StartError: it did not come up; what had started is stopped again.
        """
        self.home.take()
        try:
            stopped = asyncio.create_task(stop.wait())
            trimming = asyncio.create_task(self._trim_logs())
            up = asyncio.create_task(self._up())
            try:
                await asyncio.wait({stopped, up}, return_when=asyncio.FIRST_COMPLETED)
                if up.done():
                    up.result()
                    announce(self.environment.url("gateway"))
                    await stopped
            finally:
                for task in (up, trimming, stopped):
                    task.cancel()
                await asyncio.gather(up, return_exceptions=True)
                await self._down()
        finally:
            self.home.release()

    async def _up(self) -> None:
        began = time.monotonic()
        for name in await asyncio.to_thread(self.home.pids.reap):
            log.warning("ended %s, left over from a stack that was killed", name)
        self._check_ports()
        await self._nursery.open()  # imports while the servers start
        self.environment.write_trust()
        fresh, _ = await _all([self._databases(), self._streams()])
        await self._migrate()
        await self._admin_key("gateway" in fresh)
        self._services = [self._service(name) for name in self._modules if name != "gateway"]
        self._gateway = self._service("gateway")
        children = [*self._services, self._gateway]
        born = await self._born()
        for child in children:
            child.start(born.get(child.name))
        await _all(child.wait_ready(SERVICE_TIMEOUT_SECONDS) for child in children)
        self.home.announce(
            Running(
                pid=os.getpid(),
                port=self._settings.port,
                url=self.environment.url("gateway"),
                components={name: self.environment.port(name) for name in self._modules},
            )
        )
        url = self.environment.url("gateway")
        log.info("up after %.1f s; API description %s/docs", time.monotonic() - began, url)
        log.info("the first admin key is in %s", self.home.admin_key)

    async def _born(self) -> dict[str, Adopted]:
        """A first process of each component from the nursery; none where that fails, and each is started by itself."""
        try:
            return await self._nursery.fork([self._command(name, "serve") for name in self._modules])
        except NurseryFailed as error:
            log.warning("the quick start failed: %s", error)
            return {}

    async def _down(self) -> None:
        began = time.monotonic()
        await self._nursery.close()
        if self._gateway is not None:
            await self._gateway.stop()
        await asyncio.gather(*(service.stop() for service in self._services))
        for server in reversed(self._servers):
            await server.stop()
        if self._servers or self._services:
            log.info("stopped after %.1f s", time.monotonic() - began)

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(60)
            await asyncio.to_thread(trim_logs, self.home.logs)

    def _check_ports(self) -> None:
        """Refuse to start anything while another program holds one of our ports."""
        wanted = {name: self.environment.port(name) for name in self._modules}
        ports = self.environment.ports
        wanted["gateway metrics"] = ports.gateway_metrics
        if self._settings.database_url is None:
            wanted["postgres"] = ports.postgres
        if self._settings.nats_url is None:
            wanted |= {"nats": ports.nats, "nats monitoring": ports.nats_monitoring}
        taken = {name: port for name, port in wanted.items() if is_taken(port)}
        if taken:
            told = ", ".join(f"{port} ({name}){_holder(port)}" for name, port in taken.items())
            raise StartError(f"port in use: {told}; stop what holds it, or set COLONNADE_PORT to another number")

    async def _databases(self) -> list[str]:
        """PostgreSQL up, with a database and roles for each component; returns those that are new."""
        if self._settings.database_url is None:
            server = Postgres(self.home.path, self.environment.ports.postgres)

            async def is_ready(pid: int) -> bool:
                return server.is_ready(pid)

            await self._server(Child("postgres", server.prepare, is_ready, self.home.pids))
        return await create_databases(self.environment.server_url, list(self._modules), self.home.credentials)

    async def _streams(self) -> None:
        """NATS up, with the domain streams."""
        if self._settings.nats_url is None:
            ports = self.environment.ports
            server = Nats(self.home.path, ports.nats, ports.nats_monitoring)

            async def is_ready(_pid: int) -> bool:
                return await asyncio.to_thread(server.is_ready)

            await self._server(Child("nats", server.prepare, is_ready, self.home.pids))
        try:
            await create_streams(self.environment.nats_url, self.environment.seed_file(ADMIN))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise StartError(f"the streams cannot be made at {self.environment.nats_url}: {error!r}") from error

    async def _server(self, child: Child) -> None:
        # PostgreSQL is to be the last to stop; NATS and it start beside each other, in either order.
        self._servers.insert(0 if child.name == "postgres" else len(self._servers), child)
        child.start()
        await child.wait_ready(SERVER_TIMEOUT_SECONDS)

    async def _migrate(self) -> None:
        """Bring every database to its service's newest revision; those that are there cost one query each."""

        async def is_behind(name: str, module: str) -> bool:
            wanted = migrations.heads(module)
            url = service_database(self.environment.server_url, name, self.home.credentials).migration_url
            return bool(wanted) and wanted != await migrations.applied(url)

        behind = await _all(is_behind(name, module) for name, module in self._modules.items())
        todo = [name for name, is_behind in zip(self._modules, behind, strict=True) if is_behind]
        if not todo:
            return
        began = time.monotonic()
        env: dict[str, str] = {}
        for name in todo:
            env |= self.environment.of(name)
        argv = (sys.executable, "-m", migrations.__name__, *(f"{name}={self._modules[name]}" for name in todo))
        await _run_once("migrating", Command("migrate", argv, self.home.logs / "migrate.log", env, ROOT))
        log.info("migrated %s after %.1f s", ", ".join(todo), time.monotonic() - began)

    async def _admin_key(self, database_is_new: bool) -> None:
        """The first key, written once; again only when the database that knew it is gone."""
        if self.home.admin_key.exists() and not database_is_new:
            return
        self.home.admin_key.unlink(missing_ok=True)
        out = str(self.home.admin_key)
        command = self._command("gateway", "create-key", "--name", "admin", "--role", "admin", "--out", out)
        await _run_once("making the admin key", command)

    def _command(self, name: str, *arguments: str) -> Command:
        return Command(
            name=name,
            argv=(sys.executable, "-m", self._modules[name], *arguments),
            log=self.home.logs / f"{name}.log",
            env=self.environment.of(name),
            cwd=ROOT,
        )

    def _service(self, name: str) -> Child:
        port = self.environment.port(name)

        async def is_ready(_pid: int) -> bool:
            return await http_status(port, "/readyz") == 200

        return Child(name, lambda: self._command(name, "serve"), is_ready, self.home.pids)


def run(settings: StackSettings, modules: Mapping[str, str] = MODULES, preload: Sequence[str] = PRELOAD) -> None:
    """Run the stack until SIGINT, SIGTERM or the end of its terminal.

    Standard output carries one line, when everything is ready; progress and trouble go to standard error and to
    logs/stack.log.

    Raises:
        StartError: it did not come up.
    """
    asyncio.run(_run_until_signalled(Stack(settings, modules, preload)))


async def _run_until_signalled(stack: Stack) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stack.run(stop, lambda url: print(f"ready {url}", flush=True))


async def _run_once(what: str, command: Command) -> None:
    """Run a command to its end.

    Raises:
        StartError: it failed; with its last words.
    """
    process = await spawn(command)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code != 0:
        raise StartError(f"{what} ended with {describe_exit(code)}{last_words(command.log)}")


async def _all(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results in order; the first failure cancels the rest and is raised as it is, not in a group."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _holder(port: int) -> str:
    """Who listens on a port, as far as we may know: ` by python3, pid 4711`."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                return f" by {psutil.Process(connection.pid).name()}, pid {connection.pid}" if connection.pid else ""
    except psutil.Error:
        return ""
    return ""
