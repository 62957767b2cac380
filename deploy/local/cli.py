"""`colonnade`: run the one-machine stack, look at it, and reach the services' own commands with its settings."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import psutil
import typer

from deploy.local import settings as stack_settings
from deploy.local.environment import MODULES, ROOT, Environment
from deploy.local.home import Home, Running
from deploy.local.ports import SERVICES
from deploy.local.process import StartError
from deploy.local.settings import StackSettings

app = typer.Typer(
    help="Colonnade on one machine: state in COLONNADE_HOME (./.colonnade), gateway on COLONNADE_PORT (8080).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dlq = typer.Typer(help="Dead letters: events and tasks that a service could not process.", no_args_is_help=True)
audit = typer.Typer(help="The hash-chained record of who did what.", no_args_is_help=True)
app.add_typer(dlq, name="dlq")
app.add_typer(audit, name="audit")

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Where data, secrets and logs are; COLONNADE_HOME.", show_default=False)
]
PortOption = Annotated[
    int | None, typer.Option("--port", help="The gateway's; the ten after it are taken too. COLONNADE_PORT.")
]
ServiceOption = Annotated[str | None, typer.Option("--service", help=f"One of {', '.join(MODULES)}; all if not given.")]
ConsumerOption = Annotated[str, typer.Option("--consumer", help=f"One of {', '.join(SERVICES)}.")]


def _fail(error: StartError) -> NoReturn:
    print(f"colonnade: {error}", file=sys.stderr)
    raise typer.Exit(1)


@app.command()
def run(home: HomeOption = None, port: PortOption = None) -> None:
    """Start everything and keep it running until Ctrl-C.

    Prints one line, `ready http://...`, once every part is ready. PostgreSQL and NATS come with the installation;
    COLONNADE_DATABASE_URL and COLONNADE_NATS_URL point at your own instead.
    """
    from deploy.local import stack  # the servers' and drivers' modules, which the other commands do without

    try:
        settings = stack_settings.load(home=home, port=port)
        log_to(settings.home / "logs" / "stack.log")
        stack.run(settings)
    except StartError as error:
        _fail(error)


@app.command()
def demo(home: HomeOption = None, port: PortOption = None) -> None:
    """Play the whole loop with real input, on the running stack or on one started for it, and print what happens."""
    try:
        code = import_module("deploy.local.demo").main(_settings(home, port))
    except StartError as error:
        _fail(error)
    raise typer.Exit(code)


@app.command()
def status(home: HomeOption = None) -> None:
    """What runs, whether it is ready, and how much memory it takes. Exits with 1 unless all is ready."""
    from rich.console import Console
    from rich.table import Table

    settings = _settings(home)
    folder = Home(settings.home)
    running = folder.announced()
    if running is None and folder.is_owned():
        _fail(StartError(f"the stack in {folder.path} is starting for the first time"))
    if running is None or not folder.is_owned():
        _fail(StartError(f"no stack runs in {folder.path}"))
    table = Table("part", "port", "pid", "ready", "memory", title=f"{running.url}  ({folder.path})")
    processes = folder.pids.running()
    ready = asyncio.run(_readiness(running))
    for name in sorted({*running.components, *processes}, key=[*MODULES, "postgres", "nats"].index):
        process = processes.get(name)
        is_ready = ready.get(name, process is not None)
        table.add_row(
            name,
            str(running.components.get(name, "")),
            str(process.pid) if process else "-",
            "yes" if is_ready else "no",
            _memory(process),
        )
    Console().print(table)
    raise typer.Exit(0 if all(ready.values()) else 1)


@dlq.command("list")
def dlq_list(
    service: ServiceOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those replayed or dropped.")] = False,
    home: HomeOption = None,
) -> None:
    """List the dead letters."""
    _each(service, home, "dlq", "list", *(["--all"] if everything else []), among=SERVICES)


@dlq.command("show")
def dlq_show(letter: str, service: Annotated[str, typer.Option("--service")], home: HomeOption = None) -> None:
    """Show one dead letter: the event, the error, how often it was tried."""
    _each(service, home, "dlq", "show", letter, among=SERVICES)


@dlq.command("replay")
def dlq_replay(
    letter: str,
    service: Annotated[str, typer.Option("--service")],
    do: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")] = False,
    home: HomeOption = None,
) -> None:
    """Process one dead letter again, after the cause was removed."""
    _each(service, home, "dlq", "replay", letter, *(["--yes"] if do else []), among=SERVICES)


@dlq.command("drop")
def dlq_drop(
    letter: str,
    service: Annotated[str, typer.Option("--service")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes to the audit.")],
    home: HomeOption = None,
) -> None:
    """Give one dead letter up."""
    _each(service, home, "dlq", "drop", letter, "--reason", reason, among=SERVICES)


@app.command()
def replay(
    consumer: ConsumerOption,
    from_outbox: Annotated[
        bool, typer.Option(help="Fill the service's own stream again from its outbox, after the stream was lost.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Rebuild a service's tables from the events, from the first one on, and compare them with what was there."""
    _each(consumer, home, "replay", *(["--from-outbox"] if from_outbox else []), among=SERVICES)


@app.command()
def migrate(home: HomeOption = None) -> None:
    """Bring the running stack's databases to the newest revision; `run` does it too when it starts."""
    _each(None, home, "migrate")


@app.command("new-migration")
def new_migration(service: str, title: str) -> None:
    """Write a revision with what differs between a service's tables in code and its migrations.

    The migrations are run on a PostgreSQL that is made for it and thrown away.
    """
    from deploy.local.migrations import write_revision  # SQLAlchemy and alembic

    if service not in MODULES:
        _fail(StartError(f"there is no service {service!r}; there are {', '.join(MODULES)}"))
    try:
        print(write_revision(MODULES[service], title))
    except StartError as error:
        _fail(error)


@audit.command("verify")
def audit_verify(
    service: ServiceOption = None,
    anchor: Annotated[
        str | None, typer.Option(help="LENGTH:HEAD that an earlier verification printed, or a file that holds it.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Check the chain of each service's audit; exits with 1 when an entry was changed, removed or added."""
    if anchor is not None and service is None:
        _fail(StartError("an anchor belongs to one service's chain; name it with --service"))
    if anchor is not None and Path(anchor).exists():
        anchor = str(Path(anchor).absolute())  # the command runs in another folder
    _each(service, home, "audit", "verify", *(["--anchor", anchor] if anchor else []))


@app.command("nats-accounts")
def nats_accounts(home: HomeOption = None) -> None:
    """Print the accounts block that a NATS of your own needs: the services' public keys and permissions."""
    from deploy.local.nats import accounts

    print(accounts(Home(_settings(home).home).credentials))


def _settings(home: Path | None, port: int | None = None) -> StackSettings:
    """The settings of the stack in that home: its port is the one it was last started with, unless one is given."""
    try:
        settings = stack_settings.load(home=home, port=port)
    except StartError as error:
        _fail(error)
    if port is None and "COLONNADE_PORT" not in os.environ:
        announced = Home(settings.home).announced()
        if announced is not None:
            settings = settings.model_copy(update={"port": announced.port})
    return settings


def _each(service: str | None, home: Path | None, *arguments: str, among: Collection[str] = tuple(MODULES)) -> None:
    """Run a command of one component, or of all one after the other, and exit with the worst of their codes."""
    if service is not None and service not in among:
        _fail(StartError(f"there is no such service as {service!r} here; there are {', '.join(among)}"))
    settings = _settings(home)
    folder = Home(settings.home)
    if settings.database_url is None and not folder.is_owned():
        _fail(StartError(f"no stack runs in {folder.path}, and its databases with it; start one with `colonnade run`"))
    environment = Environment(folder, settings)
    worst = 0
    for name in [service] if service else among:
        if service is None:
            print(f"{name}:", flush=True)
        argv = [sys.executable, "-m", MODULES[name], *arguments]
        done = subprocess.run(argv, env={**os.environ, **environment.of(name)}, cwd=ROOT, check=False)
        worst = max(worst, abs(done.returncode))
    raise typer.Exit(min(worst, 125))


async def _readiness(running: Running) -> dict[str, bool]:
    from deploy.local.probe import http_status

    answers = await asyncio.gather(*(http_status(port, "/readyz") for port in running.components.values()))
    return {name: answer == 200 for name, answer in zip(running.components, answers, strict=True)}


def _memory(process: psutil.Process | None) -> str:
    if process is None:
        return "-"
    try:
        return f"{process.memory_info().rss / 1_048_576:.0f} MB"
    except psutil.Error:
        return "-"


def log_to(path: Path) -> None:
    """Progress to standard error, briefly, and to the log with dates."""
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    file = logging.FileHandler(path)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("colonnade.stack")
    logger.setLevel(logging.INFO)
    logger.handlers = [terminal, file]
