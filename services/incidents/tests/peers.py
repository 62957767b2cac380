"""Neighbouring services for tests: aiohttp servers that verify our token and keep what they were asked.

They answer as the real ones do where it matters here: by token, scope, Idempotency-Key and status; what they do with
a containment or a rule is theirs to test.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from shared.errors import Unauthenticated
from shared.tokens import Verifier, load_trust

SCOPES = {
    ("POST", "/v1/containments"): "detection:respond",
    ("POST", "/v1/rules"): "detection:write",
    ("POST", "/v1/access/revocations"): "access:respond",
}


@dataclass
class Asked:
    """A request that a neighbour got."""

    service: str
    method: str
    path: str
    body: Any
    key: str | None
    subject: str


@dataclass
class Neighbours:
    """Detection, inventory and gateway."""

    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Path -> what to answer instead of 201."""
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Services that drop every connection."""
    slow: dict[str, float] = field(default_factory=dict)
    """Service -> seconds before it answers."""
    _done: dict[tuple[str, str], Any] = field(default_factory=dict)
    _runners: dict[str, web.AppRunner] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)
    _verifiers: dict[str, Verifier] = field(default_factory=dict)

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}

    def trust(self, trust_file: Path) -> None:
        """Believe the tokens of the service under test."""
        self._verifiers = {name: Verifier(name, load_trust(trust_file)) for name in self._ports}

    async def __aenter__(self) -> Self:
        for name in ("detection", "inventory", "gateway"):
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._handler(name))
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._runners[name] = runner
            self._ports[name] = runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in self._runners.values():
            await runner.cleanup()

    def _handler(self, name: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            if name in self.down:
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=500)
            await asyncio.sleep(self.slow.get(name, 0))
            try:
                caller = self._verifiers[name].verify(request.headers["Authorization"].removeprefix("Bearer "))
            except (Unauthenticated, KeyError):
                return web.json_response({"title": "Who you are could not be established."}, status=401)
            body = await request.json() if request.can_read_body else None
            key = request.headers.get("Idempotency-Key")
            self.asked.append(Asked(name, request.method, request.path, body, key, caller.subject))
            wanted = SCOPES.get((request.method, request.path)) or (
                "inventory:respond" if request.path.endswith("/quarantine") else "inventory:read"
            )
            if caller.scopes != {wanted}:
                return web.json_response({"detail": f"this needs {wanted} and nothing else"}, status=403)
            if request.path in self.answers:
                status, answer = self.answers[request.path]
                return web.json_response(answer, status=status)
            if request.method == "GET":
                asset = self.assets.get(request.path.rsplit("/", 1)[1])
                return web.json_response(asset or {"detail": "no such asset"}, status=200 if asset else 404)
            if key is not None and (name, key) in self._done:
                return web.json_response(self._done[name, key], status=201)
            answer = {"id": f"{name}-{len(self._done) + 1}"}
            if key is not None:
                self._done[name, key] = answer
            return web.json_response(answer, status=201)

        return handle

    def of(self, service: str, path: str | None = None) -> list[Asked]:
        return [one for one in self.asked if one.service == service and (path is None or one.path == path)]

    @property
    def effects(self) -> int:
        """How many things were done, however often they were asked for."""
        return len(self._done)
