"""Calls to other services, on a real socket."""

from __future__ import annotations

import time

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.peers import Peers
from shared.tokens import LIFETIME_SECONDS, Issuer, Signer, Verifier


async def test_a_token_serves_several_calls_of_the_same_scopes_and_never_outlives_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = Ed25519PrivateKey.generate()
    shown: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        shown.append(request.headers["Authorization"].removeprefix("Bearer "))
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    peers = Peers("incidents", {"detection": url, "gateway": url}, Signer("incidents", key))
    try:
        for service, scope, later in (
            ("detection", "detection:respond", 0.0),
            ("detection", "detection:respond", LIFETIME_SECONDS / 2 - 2),
            ("detection", "detection:write", 0.0),
            ("gateway", "detection:respond", 0.0),
            ("detection", "detection:respond", LIFETIME_SECONDS / 2 + 1),
        ):
            with monkeypatch.context() as patch:
                patch.setattr("shared.peers.monotonic", lambda later=later: time.monotonic() + later)
                assert (await peers.call(service, "GET", "/x", scopes=[scope])).ok
    finally:
        await peers.close()
        await runner.cleanup()
    first, again, other_scope, other_service, after_half_its_life = shown
    assert first == again
    assert len({first, other_scope, other_service, after_half_its_life}) == 4
    trust = {"incidents": Issuer(key.public_key(), frozenset({"*"}))}
    assert Verifier("detection", trust).verify(other_scope).scopes == {"detection:write"}
    assert Verifier("gateway", trust).verify(other_service).scopes == {"detection:respond"}
