"""A service's command line: `python -m services.<name> serve | migrate | dlq ... | replay | audit ...`."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import orjson
import sqlalchemy as sa
import typer
import uvicorn
from fastapi import FastAPI

from shared import audit
from shared.auth import Caller
from shared.consumer import dead_letter_table
from shared.database import Tx
from shared.feed import StreamTape
from shared.runtime import Runtime
from shared.service import Service, create_app, running, runtime_of
from shared.settings import ServiceSettings
from shared.tasks import retry, task_table

OPERATOR = Caller("operator:command-line", "service")


class _Server(uvicorn.Server):
    """uvicorn that tells endless responses (server-sent events) to end when it is told to stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What start-up made stays; the collector need not look at it again. And a batch of a thousand events is not
        # a reason to look at all: with Python's default of 700 new objects it took half of the time (206 against 117
        # microseconds an assessment).
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._colonnade = app

    def handle_exit(self, sig: int, frame: Any) -> None:
        runtime = getattr(self._colonnade.state, "runtime", None)
        if runtime is not None:
            runtime.stopping.set()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, settings: ServiceSettings) -> None:
    """Answer HTTP until SIGTERM or SIGINT; then finish what is being answered, at most ten seconds."""
    config = uvicorn.Config(
        app,
        host=settings.bind_host,
        port=settings.bind_port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    _Server(config, app).run()


def _print(document: Any) -> None:
    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str).decode())


def command_line(service: Service, settings_of: Callable[[], ServiceSettings]) -> typer.Typer:
    """The commands of one service; settings are read from the environment only when a command runs."""
    app = typer.Typer(help=f"Colonnade {service.title}: {service.description}", no_args_is_help=True)
    migrations = service.directory / "migrations"

    def with_runtime(work: Callable[[Runtime], Any], *, bus: bool = False) -> Any:
        async def run() -> Any:
            runtime = runtime_of(service, settings_of(), statement_seconds=None)
            async with running(service, runtime, background=False, resources=False):
                if bus:
                    await runtime.bus.open()
                return await work(runtime)

        return asyncio.run(run())

    @app.command("serve")
    def serve_command() -> None:
        """Serve the API and do the background work."""
        settings = settings_of()
        serve(create_app(service, settings), settings)

    @app.command("migrate")
    def migrate_command(
        check: Annotated[bool, typer.Option(help="Only fail if code and migrations differ.")] = False,
        new: Annotated[str | None, typer.Option(help="Write a new revision with this title.")] = None,
    ) -> None:
        """Bring the database to the newest revision, with the owner role."""
        from shared import migrate  # with it comes Alembic, 6 MB that a process that serves has no use for

        settings = settings_of()
        secret = settings.migration_database_url or settings.database_url
        url = secret.get_secret_value()
        if check:
            asyncio.run(migrate.check(migrations, url))
        elif new is not None:
            asyncio.run(migrate.new_revision(migrations, url, new))
        else:
            typer.echo(f"{service.name} is at {asyncio.run(migrate.upgrade(migrations, url))}")

    _add_dead_letters(app, service, with_runtime)
    _add_replay(app, service, with_runtime)
    _add_audit(app, with_runtime)
    return app


def _add_dead_letters(app: typer.Typer, service: Service, with_runtime: Callable[..., Any]) -> None:
    dlq = typer.Typer(help="Events and side effects that were given up.", no_args_is_help=True)
    app.add_typer(dlq, name="dlq")

    async def find(tx: Tx, letter_id: UUID) -> tuple[str, Any]:
        letter = (await tx.execute(sa.select(dead_letter_table).filter_by(id=letter_id))).first()
        if letter is not None:
            return "event", letter
        task = (await tx.execute(sa.select(task_table).filter_by(id=letter_id))).first()
        if task is not None:
            return "task", task
        raise typer.BadParameter(f"there is no dead letter {letter_id}")

    @dlq.command("list")
    def list_command(
        everything: Annotated[bool, typer.Option("--all", help="Also those replayed or dropped.")] = False,
    ) -> None:
        """List what was given up, oldest first, one JSON line each."""

        async def work(runtime: Runtime) -> None:
            letters = sa.select(dead_letter_table).order_by(dead_letter_table.c.died_at)
            tasks = sa.select(task_table).filter_by(status="dead").order_by(task_table.c.finished_at)
            if not everything:
                letters = letters.filter_by(status="dead")
            async with runtime.db.read() as tx:
                for letter in await tx.execute(letters):
                    shown = {"id": letter.id, "kind": "event", "type": letter.type, "status": letter.status}
                    shown |= {"place": f"{letter.stream}/{letter.seq}/{letter.position}", "died_at": letter.died_at}
                    typer.echo(orjson.dumps(shown | {"error": f"{letter.error_class}: {letter.error[:200]}"}).decode())
                for task in await tx.execute(tasks):
                    shown = {"id": task.id, "kind": "task", "type": task.kind, "status": task.status, "key": task.key}
                    shown |= {"died_at": task.finished_at, "error": task.error}
                    typer.echo(orjson.dumps(shown).decode())

        with_runtime(work)

    @dlq.command("show")
    def show_command(letter_id: UUID) -> None:
        """Show one with its payload and error."""

        async def work(runtime: Runtime) -> None:
            async with runtime.db.read() as tx:
                kind, row = await find(tx, letter_id)
            shown = {"kind": kind, **row._mapping}
            if isinstance(shown.get("payload"), bytes):
                shown["payload"] = shown["payload"].decode("utf-8", "backslashreplace")
            _print(shown)

        with_runtime(work)

    @dlq.command("replay")
    def replay_command(
        letter_id: UUID,
        do: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")] = False,
    ) -> None:
        """Apply it again, now that its cause is mended."""

        async def work(runtime: Runtime) -> None:
            async with runtime.db.begin() as tx:
                kind, row = await find(tx, letter_id)
                if row.status != "dead":
                    raise typer.BadParameter(f"{letter_id} is {row.status}, not dead")
                if not do:
                    typer.echo(f"would replay {kind} {letter_id}; add --yes to do it")
                    return
                if kind == "task":
                    await retry(tx, letter_id)
                else:
                    assert service.consumers is not None
                    await service.consumers.replay_dead_letter(tx, row)
                await audit.record(tx, OPERATOR, action="dead_letter.replayed", target=str(letter_id))
            typer.echo(f"replayed {kind} {letter_id}")

        with_runtime(work)

    @dlq.command("drop")
    def drop_command(
        letter_id: UUID, reason: Annotated[str, typer.Option(help="Why it needs no replay; kept in the audit.")]
    ) -> None:
        """Give it up for good."""

        async def work(runtime: Runtime) -> None:
            async with runtime.db.begin() as tx:
                kind, row = await find(tx, letter_id)
                if row.status != "dead":
                    raise typer.BadParameter(f"{letter_id} is {row.status}, not dead")
                if kind == "task":
                    await tx.execute(task_table.update().filter_by(id=letter_id).values(status="dropped"))
                else:
                    dropped = {"status": "dropped", "reason": reason, "resolved_at": sa.func.now()}
                    await tx.execute(dead_letter_table.update().filter_by(id=letter_id).values(**dropped))
                await audit.record(
                    tx, OPERATOR, action="dead_letter.dropped", target=str(letter_id), detail={"reason": reason}
                )
            typer.echo(f"dropped {kind} {letter_id}")

        with_runtime(work)


def _add_replay(app: typer.Typer, service: Service, with_runtime: Callable[..., Any]) -> None:
    @app.command("replay")
    def replay_command(
        from_outbox: Annotated[
            bool, typer.Option(help="Fill this service's wiped stream again from its outbox, instead.")
        ] = False,
    ) -> None:
        """Rebuild this service's tables from the events, and compare them with what was there."""

        async def refill(runtime: Runtime) -> None:
            if runtime.relay is None:
                raise typer.BadParameter(f"{service.name} publishes nothing")
            typer.echo(f"{await runtime.relay.adopt_stream()} events will be published again")

        async def rebuild(runtime: Runtime) -> None:
            if service.consumers is None or not service.consumers.rebuilt:
                raise typer.BadParameter(f"{service.name} builds no tables from events alone")

            def progress(done: int, total: int) -> None:
                if done % 500 == 0 or done == total:
                    typer.echo(f"\r{done} of {total} transactions", nl=done == total, err=True)

            async with StreamTape(runtime.bus, service.consumers.subjects) as tape:
                tables = await service.consumers.rebuild(runtime.db, tape, progress)
            for name, table in tables.items():
                typer.echo(
                    f"{name}: {table.after} {'identical' if table.identical else f'DIFFERS, was {table.before}'}"
                )
            if not all(table.identical for table in tables.values()):
                sys.exit(1)

        with_runtime(refill if from_outbox else rebuild, bus=True)


def _add_audit(app: typer.Typer, with_runtime: Callable[..., Any]) -> None:
    trail = typer.Typer(help="The hash-chained audit trail.", no_args_is_help=True)
    app.add_typer(trail, name="audit")

    @trail.command("verify")
    def verify_command(
        anchor: Annotated[
            str | None, typer.Option(help="LENGTH:HEAD that an earlier verification printed, or a file holding it.")
        ] = None,
    ) -> None:
        """Check every link; exits 1 and names the first bad one when the chain is broken."""
        kept: tuple[int, str] | None = None
        if anchor is not None:
            text = Path(anchor).read_text().strip() if Path(anchor).exists() else anchor
            length, _, head = text.partition(":")
            if not length.isdigit() or not head:
                raise typer.BadParameter("an anchor is LENGTH:HEAD")
            kept = (int(length), head)

        async def work(runtime: Runtime) -> audit.Verdict:
            return await audit.verify(runtime.db, runtime.audit_key, kept)

        verdict: audit.Verdict = with_runtime(work)
        if not verdict.intact:
            typer.echo(f"BROKEN at {verdict.broken_at}: {verdict.reason}", err=True)
            sys.exit(1)
        typer.echo(f"intact, {verdict.length} entries, {verdict.unsealed} not chained yet")
        typer.echo(f"anchor {verdict.length}:{verdict.head}")
