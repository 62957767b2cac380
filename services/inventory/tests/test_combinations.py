"""Toxic combinations: each kind where it is, and not where one of its facts is missing."""

from __future__ import annotations

import re
import string
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inventory.domain.combinations import MEANINGS, WORDS, Combination, Power, pattern_of, powers_of
from services.inventory.store import combinations as store
from services.inventory.tests.factories import NOW
from services.inventory.tests.test_api_assets import created
from services.inventory.tests.test_gate import a_control
from shared.contracts.governance import ControlDeployed
from shared.testing import Harness


async def _relate(client: httpx.AsyncClient, subject: str, relation: str, to: str) -> str:
    response = await client.post(
        f"/v1/assets/{subject}/edges", json={"relation": relation, "to": to, "locator": f"{relation}.py:1"}
    )
    assert response.status_code == 201, response.text
    return str(response.json()["edge_id"])


async def _found(client: httpx.AsyncClient, asset_id: str | None = None, **params: Any) -> list[dict[str, Any]]:
    url = "/v1/toxic-combinations" if asset_id is None else f"/v1/assets/{asset_id}/toxic-combinations"
    response = await client.get(url, params=params)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def _kinds(client: httpx.AsyncClient, asset_id: str) -> list[str]:
    return [item["kind"] for item in await _found(client, asset_id)]


async def _add(client: httpx.AsyncClient, asset_type: str, **fields: Any) -> str:
    return str((await created(client, asset_type=asset_type, **fields))["asset_id"])


def test_every_kind_means_something() -> None:
    assert set(MEANINGS) == set(Combination)
    for meaning in MEANINGS.values():
        assert meaning.why
        assert meaning.mend
        assert all(re.fullmatch(r"(LLM|ASI)\d\d:2026", risk) for risk in meaning.owasp)


@pytest.mark.parametrize(
    ("tool", "powers"),
    [
        ("send_email", {Power.EGRESS}),
        ("sendEmail", {Power.EGRESS}),
        ("mail.SEND", {Power.EGRESS}),
        ("runShell", {Power.EXECUTION}),
        ("sender_name", set()),
        ("search documents", set()),
        ("sql-query", {Power.CHANGE}),
        ("pay & execute", {Power.CHANGE, Power.EXECUTION}),
        ("", set()),
    ],
)
def test_a_tools_name_tells_what_it_can_do(tool: str, powers: set[Power]) -> None:
    assert powers_of([tool]) == powers


_WORD = st.one_of(
    st.sampled_from([word for words in WORDS.values() for word in words]),
    st.text(string.ascii_letters + string.digits + "_- .", max_size=8),
)


@given(st.lists(st.lists(_WORD, max_size=3).map("".join), max_size=4), st.sampled_from(Power))
def test_the_pattern_says_what_the_rule_says(tools: list[str], power: Power) -> None:
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", " ".join(tools)).lower()
    assert bool(re.search(pattern_of([power]), text)) == (power in powers_of(tools))


async def test_a_public_agent_with_data_and_a_tool_is_named_with_the_way_to_both(inventory: Harness) -> None:
    client = inventory.client()
    agent = await _add(client, "ai_agent", network_exposure="public", owner_team="claims")
    documents = await _add(client, "vector_database", data_classification="restricted", owner_team="data")
    mailer = await _add(client, "mcp_server", authorized_tools=["send_email"], owner_team="platform")
    edges = [await _relate(client, agent, "retrieves_from", documents)]
    assert await _kinds(client, agent) == []
    edges.append(await _relate(client, agent, "calls_tool", mailer))
    (finding,) = await _found(client, agent)
    assert finding["kind"] == "public_agent_with_sensitive_data_and_powerful_tool"
    assert (finding["severity"], finding["owners"]) == ("critical", ["claims", "data", "platform"])
    assert [edge["edge_id"] for edge in finding["path"]] == edges
    assert {edge["from"]["id"] for edge in finding["path"]} == {agent}
    assert [edge["locator"] for edge in finding["path"]] == ["retrieves_from.py:1", "calls_tool.py:1"]
    assert (await _found(client, team="claims")) == [finding]
    assert await _found(client, team="data") == []
    assert await _found(client, kind="unguarded_public_endpoint") == []
    await client.patch(f"/v1/assets/{agent}", json={"network_exposure": "vpc"}, headers={"If-Match": "*"})
    assert await _kinds(client, agent) == []


async def test_data_behind_a_tool_and_tools_of_the_agents_own_count_too(inventory: Harness) -> None:
    client = inventory.client()
    agent = await _add(client, "ai_agent", network_exposure="public", authorized_tools=["runShell"])
    server = await _add(client, "mcp_server")
    documents = await _add(client, "vector_database", data_classification="regulated")
    await _relate(client, agent, "calls_tool", server)
    await _relate(client, server, "retrieves_from", documents)
    (finding,) = await _found(client, agent)
    assert [edge["relation"] for edge in finding["path"]] == ["calls_tool", "retrieves_from"]


async def test_a_credential_in_reach_of_an_agent_that_can_send(inventory: Harness) -> None:
    client = inventory.client()
    agent = await _add(client, "ai_agent", authorized_tools=["http_post"])
    server = await _add(client, "mcp_server")
    credential = await _add(client, "api_credential")
    await _relate(client, agent, "calls_tool", server)
    await _relate(client, server, "exposes_credential", credential)
    assert await _kinds(client, agent) == ["agent_with_exposed_credential_and_egress_tool"]
    await client.patch(f"/v1/assets/{agent}", json={"authorized_tools": ["search"]}, headers={"If-Match": "*"})
    assert await _kinds(client, agent) == []


async def test_what_uses_a_quarantined_asset(inventory: Harness) -> None:
    client = inventory.client()
    model = await _add(client, "foundation_model")
    user = await _add(client, "ai_agent", upstream_assets=[model])
    await client.post(f"/v1/assets/{model}/quarantine", json={"reason": "backdoor"})
    assert await _kinds(client, user) == ["quarantined_upstream_in_use"]
    assert await _kinds(client, model) == []
    await client.post(f"/v1/assets/{model}/release", json={"reason": "clean"})
    assert await _kinds(client, user) == []


async def test_a_model_of_unknown_origin_beside_sensitive_data(inventory: Harness) -> None:
    client = inventory.client()
    model = await _add(client, "fine_tuned_model", deployment_env="production")
    user = await _add(client, "ai_agent", deployment_env="production", data_classification="confidential")
    await _relate(client, user, "uses_model", model)
    assert await _kinds(client, model) == ["unproven_production_model_with_sensitive_data"]
    base = await _add(client, "foundation_model", model_provider="openai")
    await _relate(client, model, "fine_tuned_from", base)
    assert await _kinds(client, model) == []


@pytest.mark.parametrize("how", ["own", "behind", "control"])
async def test_a_public_endpoint_without_a_guard(inventory: Harness, how: str) -> None:
    client = inventory.client()
    model = await _add(client, "foundation_model", model_provider="openai")
    endpoint = await _add(client, "api_endpoint", network_exposure="public")
    served = await _relate(client, model, "served_by", endpoint)
    (finding,) = await _found(client, endpoint)
    assert finding["kind"] == "unguarded_public_endpoint"
    assert [edge["edge_id"] for edge in finding["path"]] == [served]
    if how == "control":
        deployment = a_control(UUID(endpoint), control_type="guardrails")
        await inventory.deliver(ControlDeployed(version=1, occurred_at=NOW, deployment=deployment))
    else:
        guard = await _add(client, "guardrail_config")
        await _relate(client, endpoint if how == "own" else model, "guarded_by", guard)
    assert await _kinds(client, endpoint) == []


async def test_a_public_model_trained_on_sensitive_data(inventory: Harness) -> None:
    client = inventory.client()
    data = await _add(client, "training_dataset", data_classification="regulated")
    model = await _add(client, "fine_tuned_model", model_provider="openai")
    await _relate(client, model, "trained_on", data)
    assert await _kinds(client, model) == []
    endpoint = await _add(client, "api_endpoint", network_exposure="public")
    await _relate(client, model, "served_by", endpoint)
    assert "public_model_trained_on_sensitive_data" in await _kinds(client, endpoint)


async def test_walls_and_pages(inventory: Harness) -> None:
    client = inventory.client()
    documents = await _add(
        client, "vector_database", data_classification="restricted", owner_team="secret", name="gold"
    )
    agents = []
    for number in range(5):
        agent = await _add(
            client,
            "ai_agent",
            network_exposure="public",
            authorized_tools=["shell"],
            owner_team="red" if number % 2 else "blue",
        )
        await _relate(client, agent, "retrieves_from", documents)
        agents.append(agent)
    seen: list[str] = []
    cursor = None
    while True:
        page = (
            await client.get("/v1/toxic-combinations", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += [item["asset"]["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(agents)
    red = inventory.client("viewer", teams=["red"])
    mine = await _found(red)
    assert {item["asset"]["id"] for item in mine} == {agents[1], agents[3]}
    assert all(item["owners"] == ["red"] for item in mine)
    assert {(item["path"][0]["to"]["restricted"], item["path"][0]["locator"]) for item in mine} == {(True, "")}
    assert "gold" not in str(mine)
    assert "secret" not in str(mine)
    assert await _found(red, team="blue") == []
    assert (await red.get(f"/v1/assets/{agents[0]}/toxic-combinations")).status_code == 404
    assert (await client.get(f"/v1/assets/{uuid4()}/toxic-combinations")).status_code == 404


async def test_a_call_looks_at_so_many_assets_and_the_next_goes_on(
    inventory: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = inventory.client()
    endpoints = [await _add(client, "api_endpoint", network_exposure="public") for _ in range(7)]
    few = {kind: text.replace(f"LIMIT {store.SUBJECTS}", "LIMIT 3") for kind, text in store._STATEMENTS.items()}
    ends = {
        kind: text.replace(f"LIMIT {store.SUBJECTS}", "LIMIT 3").replace(f"OFFSET {store.SUBJECTS - 1}", "OFFSET 2")
        for kind, text in store._SUBJECT_BEFORE_END.items()
    }
    monkeypatch.setattr(store, "_STATEMENTS", few)
    monkeypatch.setattr(store, "_SUBJECT_BEFORE_END", ends)
    seen: list[str] = []
    cursor = None
    pages = 0
    while True:
        params = {"limit": 50} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/toxic-combinations", params=params)).json()
        seen += [item["asset"]["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        pages += 1
        if cursor is None:
            break
    assert (seen, pages > 2) == (sorted(endpoints), True)
