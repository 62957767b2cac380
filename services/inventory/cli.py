"""Discovery from a shell: `python -m services.inventory discover ...` asks the platform's API and shows how it goes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

if TYPE_CHECKING:
    import httpx
    from rich.console import Console

POLL_SECONDS = 0.5
PROBLEMS_SHOWN = 20

Url = Annotated[str, typer.Option(envvar="COLONNADE_URL", help="The gateway's address.")]
Key = Annotated[
    str,
    typer.Option(envvar="COLONNADE_API_KEY", help="An organisation-wide key with inventory:write.", show_default=False),
]


def _console() -> Console:
    from rich.console import Console  # a service that serves has no use for it, nor for the client below

    return Console(highlight=False, stderr=True)


def add_discovery(app: typer.Typer) -> None:
    """Let the command line have `discover` and `sources`."""

    @app.command("sources")
    def sources_command(url: Url = "http://127.0.0.1:8080", key: Key = "") -> None:
        """Where assets can be looked for, what that finds, and what each needs."""
        with _api(url, key) as api:
            for source in _asked(api.get("/v1/discovery/sources"))["items"]:
                typer.echo(f"{source['source']:<20} {source['title']}")
                typer.echo(f"{'':<20} finds: {source['looks_for']}")
                typer.echo(f"{'':<20} needs: {'; '.join(source['permissions'])}")
                typer.echo(f"{'':<20} options: {', '.join(_options(source['options']))}\n")

    @app.command("discover")
    def discover_command(
        source: Annotated[str, typer.Argument(help="A name that `sources` lists, e.g. filesystem.")],
        option: Annotated[
            list[str] | None,
            typer.Option("--option", "-o", help="name=value, the value as JSON or as plain text; repeat for more."),
        ] = None,
        owner_team: Annotated[str, typer.Option(help="Who owns what is found.")] = "",
        url: Url = "http://127.0.0.1:8080",
        key: Key = "",
        wait: Annotated[bool, typer.Option(help="Show progress until it is done.")] = True,
    ) -> None:
        """Look for assets and show what comes of it; exit 1 when nothing could be read, 3 when something could not.

        Example: discover filesystem -o 'paths=["/srv/models"]'
        """
        body = {"source": source, "options": _given(option or []), "owner_team": owner_team}
        with _api(url, key) as api:
            run = _asked(api.post("/v1/discovery/runs", json=body))
            if wait:
                run = _followed(api, run["run_id"])
        typer.echo(orjson.dumps(run, option=orjson.OPT_INDENT_2).decode())
        sys.exit({"failed": 1, "partial": 3}.get(run["status"], 0))


def _api(url: str, key: str) -> httpx.Client:
    if not key:
        raise typer.BadParameter("set COLONNADE_API_KEY or give --key")
    import httpx

    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30.0)


def _asked(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    from rich.markup import escape

    try:
        problem = answer.json()
        told = "; ".join(f"{one['field']}: {one['message']}" for one in problem.get("errors") or [])
        words = told or problem.get("detail") or problem.get("title")
    except (ValueError, AttributeError):
        words = answer.text[:300]
    _console().print(f"[red]{answer.status_code}[/red] {escape(str(words))}")
    sys.exit(2)


def _given(options: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for one in options:
        name, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"{one!r} is not name=value")
        try:
            given[name] = orjson.loads(value)
        except ValueError:
            given[name] = value
    return given


def _options(schema: dict[str, Any]) -> list[str]:
    required = set(schema.get("required", ()))
    return [f"{name}{'' if name in required else '?'}" for name in schema.get("properties", {})]


def _followed(api: httpx.Client, run_id: str) -> Any:
    from rich.markup import escape

    told: set[str] = set()
    console = _console()
    with console.status("looking") as status:
        while True:
            run = _asked(api.get(f"/v1/discovery/runs/{run_id}"))
            for scope in run.pop("scopes"):
                if scope["scope"] not in told:
                    told.add(scope["scope"])
                    state = (
                        f"{scope['entries']} entries"
                        if scope["complete"]
                        else f"[yellow]{escape(scope['reason'])}[/yellow]"
                    )
                    console.print(f"  {escape(scope['scope'])}: {state}, {scope['seconds']:.1f} s")
            counts = run["counts"]
            status.update(f"looking: {counts['seen']} seen, {counts['new']} new, {counts['merged']} merged")
            if run["finished_at"] is not None:
                for problem in run["problems"][:PROBLEMS_SHOWN]:
                    console.print(f"  [yellow]{escape(problem['where'])}[/yellow]: {escape(problem['message'])}")
                return run
            time.sleep(POLL_SECONDS)
