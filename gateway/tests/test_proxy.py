"""What reaches a service, what reaches the client, and what happens when either goes away."""

from __future__ import annotations

from gateway.tests.conftest import Gateway, Service


async def test_a_request_reaches_its_service_with_a_token_that_says_who_asks(
    gateway: Gateway, service: Service
) -> None:
    key = await gateway.key("viewer", teams=["payments"])
    response = await gateway.get("/v1/assets?limit=5", key)
    assert response.status == 200, await response.text()
    seen = service.seen[-1]
    assert (seen.path, seen.query) == ("/v1/assets", "limit=5")
    caller = gateway.stand.verifiers["inventory"].verify((seen.header("authorization") or "").removeprefix("Bearer "))
    assert caller.teams == frozenset({"payments"})
    assert caller.roles == frozenset({"viewer"})
    assert caller.subject == f"key:{key.split('_')[1]}"
    assert response.headers["RateLimit-Policy"] == '"key";q=60000;w=60'
