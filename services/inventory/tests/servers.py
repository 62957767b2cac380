"""Small servers for connectors' tests: real sockets, real HTTP, answers as the platforms document them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.domain.claims import Found
from services.inventory.domain.discovery import Problem
from services.inventory.settings import DiscoveryTarget, InventorySettings
from services.inventory.tests.apart import taken_for_one


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The application's address while the block lasts."""
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answering(answers: Mapping[str, Any], *, token: str | None = None) -> web.Application:
    """Answers by "METHOD /path"; 404 for others, 401 without the token where one is asked for. A handler is called."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if token is not None and request.headers.get("Authorization") != f"Bearer {token}":
            return web.json_response({"error": "unauthorized"}, status=401)
        answer = answers.get(f"{request.method} {request.path}")
        if answer is None:
            return web.json_response({"error": "not found"}, status=404)
        if callable(answer):
            made: web.StreamResponse = await answer(request)
            return made
        return web.json_response(answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def settings_for(**targets: tuple[str, dict[str, str]]) -> InventorySettings:
    """Settings with these discovery targets (address, headers); addresses in runs are allowed too."""
    return InventorySettings(
        database_url=SecretStr("postgresql://nowhere/x"),
        trust_file=Path("trust.json"),
        cursor_secret=SecretStr("a secret of tests only"),
        discovery_endpoint_urls=True,
        discovery_targets={
            name: DiscoveryTarget(url=SecretStr(url), headers={key: SecretStr(value) for key, value in headers.items()})
            for name, (url, headers) in targets.items()
        },
    )


class Looked(InMemory):
    """What a look brought home."""

    problems: list[Problem]

    def by_name(self) -> dict[str, Found]:
        return {str(one.value("name")): one for one in self.found}


async def look(connector: Connector, settings: InventorySettings, **options: Any) -> Looked:
    """One look by a connector, as a run would do it."""
    chosen = connector.options.model_validate(options)
    connector.check(chosen, settings)
    sink = Looked()
    harvest = Harvest(sink)
    await connector.discover(chosen, settings, harvest)
    sink.problems = harvest.problems
    assert not taken_for_one(sink.found)
    return sink
