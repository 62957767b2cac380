"""Every route: nobody without a key, nobody without the scope, and an audit entry for what was written."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute

from services.governance.api import ROUTERS
from services.governance.tests.factories import an_asset, made
from shared.audit import audit_entry
from shared.auth import scope_of
from shared.testing import Harness

_SEVEN = str(UUID(int=7))
_PLACES = {
    "{deployment_id}": _SEVEN,
    "{acceptance_id}": _SEVEN,
    "{decision_id}": _SEVEN,
    "{engagement_id}": _SEVEN,
    "{finding_id}": _SEVEN,
    "{review_id}": _SEVEN,
    "{asset_id}": _SEVEN,
    "{number}": "1",
    "{control_id}": "CLN-INP-01",
    "{policy_id}": "acceptable-use",
    "{framework_id}": "mitre_atlas",
}


def routes() -> list[tuple[str, str, str | None]]:
    """Method, path and scope of every route."""
    found = []
    for route in (route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)):
        path = route.path
        for place, value in _PLACES.items():
            path = path.replace(place, value)
        assert "{" not in path
        found += [(method, path, scope_of(route.endpoint)) for method in route.methods or ()]
    return found


async def test_a_route_is_closed_to_those_without_its_scope(governance: Harness) -> None:
    everything_else = ["inventory:read", "risk:write", "metrics:read", "access:write", "telemetry:write"]
    anonymous, reader = governance.anonymous(), governance.client("viewer")
    outsider = governance.client("viewer", scopes=everything_else)
    assert len(routes()) >= 45
    for method, path, scope in routes():
        assert scope in {"governance:read", "governance:write", "governance:approve"}
        assert (scope == "governance:read") == (method == "GET"), path
        asked: dict[str, Any] = {"json": {}, "headers": {"If-Match": "*"}} if method != "GET" else {}
        assert (await anonymous.request(method, path, **asked)).status_code == 401, path
        assert (await outsider.request(method, path, **asked)).status_code == 403, path
        if method != "GET":
            assert (await reader.request(method, path, **asked)).status_code == 403, path


async def test_what_is_written_is_audited_with_who_and_whose(governance: Harness) -> None:
    asset_id = await an_asset(governance)
    body = {"control_id": "CLN-INP-01", "asset_id": str(asset_id)}
    await made(await governance.client(subject="dora").post("/v1/governance/control-deployments", json=body))
    async with governance.runtime.db.read() as tx:
        stmt = sa.select(audit_entry).where(audit_entry.c.action == "control.deployed")
        (entry,) = (await tx.execute(stmt)).all()
    assert (entry.actor, entry.owner_team, entry.detail["asset_id"]) == ("dora", "support", str(asset_id))


@pytest.mark.parametrize(
    "body",
    [
        b'{"title":"x","title":"y"}',
        b'{"title":NaN}',
        b'{"title":"\\ud800"}',
        b'{"title":"a\\u0000b"}',
        b"[" * 40 + b"]" * 40,
        b"not json",
        b'["a list"]',
    ],
)
async def test_what_two_parsers_could_read_differently_is_refused(governance: Harness, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await governance.client().post("/v1/governance/red-team/engagements", content=body, headers=headers)
    assert answer.status_code == 422


async def test_a_body_that_is_too_large_is_refused(governance: Harness) -> None:
    body = json.dumps({"title": "x", "summary": "y" * 2_000_000}).encode()
    headers = {"Content-Type": "application/json"}
    answer = await governance.client().post("/v1/governance/red-team/engagements", content=body, headers=headers)
    assert answer.status_code == 413


async def test_the_description_names_every_framework_entry_and_scope(governance: Harness) -> None:
    document = (await governance.anonymous().get("/openapi.json")).json()
    mappings = document["components"]["schemas"]["MappingsIn"]["properties"]
    assert "LLM01:2026" in mappings["owasp_llm_2026"]["items"]["enum"]
    assert document["paths"]["/v1/governance/raci"]["put"]["x-scope"] == "governance:approve"
