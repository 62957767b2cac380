"""Azure through the real management SDK: what is found, and what becomes of a platform that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from services.inventory.connectors.azure import openai
from services.inventory.connectors.azure.entries import exposure, own_addresses, resource_group_of
from services.inventory.connectors.azure.openai import CONNECTOR
from services.inventory.domain.claims import ObservationKind, Severity
from services.inventory.domain.identity import endpoint, hosted_model, resource
from services.inventory.tests.fakes import after, always, first, serving, text
from services.inventory.tests.fakes_azure import (
    SECOND,
    SUBSCRIPTION,
    TOKEN,
    FakeAzure,
    Identity,
    a_deployment,
    an_account,
    an_estate,
    broken,
    denied,
    expired,
    throttled,
    unregistered,
)
from services.inventory.tests.looking import Look, links, noticed
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    NetworkExposure,
    Relation,
)

LISTINGS = {"accounts", "deployments", "policies", "projects", "connections", "models"}


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    fake = an_estate()
    yield fake
    assert not fake.drifted, "the fake answered what the SDK's models do not have"
    assert fake.methods == {"GET"}, "discovery reads and does nothing else"


async def look(azure: FakeAzure, run: Look | None = None, **options: Any) -> Look:
    async with serving(azure.app()) as url:
        given = openai.Options.model_validate({"endpoint_url": url, **options})
        run = run or Look()
        # The connector's own `discover`, with a credential that needs no Entra ID.
        await openai.discover(given, None, run.harvest, Identity())  # type: ignore[arg-type]
        return run


def scope(listing: str, subscription: str = SUBSCRIPTION) -> str:
    return f"azure:{subscription}:{listing}"


async def test_everything_in_all_living_subscriptions_is_found(azure: FakeAzure) -> None:
    run = await look(azure)
    assert not run.harvest.problems
    assert run.complete == {"azure:subscriptions", *map(scope, LISTINGS)}
    assert {name: one.value("asset_type") for name, one in run.found.items()} == {
        "Azure AI account: open": AssetType.INTEGRATION,
        "Azure AI account: shut": AssetType.INTEGRATION,
        "Azure OpenAI: chat": AssetType.API_ENDPOINT,
        "Azure OpenAI: tuned": AssetType.API_ENDPOINT,
        "Azure OpenAI: embed": AssetType.API_ENDPOINT,
        "Content filter: lax of open": AssetType.GUARDRAIL_CONFIG,
        "gpt-4o": AssetType.FOUNDATION_MODEL,
        "gpt-4o-2024-08-06": AssetType.FOUNDATION_MODEL,
        "gpt-4o-2024-08-06.ft-0a1b": AssetType.FINE_TUNED_MODEL,
        "text-embedding-3-large": AssetType.EMBEDDING_MODEL,
        "Azure AI project: shut/helpdesk": AssetType.INTEGRATION,
        "Connection: search of shut/helpdesk": AssetType.INTEGRATION,
    }


async def test_a_deployment_leads_to_its_account_its_model_and_its_filter(azure: FakeAzure) -> None:
    found = (await look(azure)).found
    chat, account = found["Azure OpenAI: chat"], found["Azure AI account: open"]
    assert links(chat) == {
        (Relation.DEPLOYED_IN, account.identities[0]),
        (Relation.USES_MODEL, hosted_model("openai", "gpt-4o")),
        (Relation.GUARDED_BY, found["Content filter: lax of open"].identities[0]),
    }
    assert found["gpt-4o"].identities == (hosted_model("openai", "gpt-4o"),)
    assert (chat.value("model_name"), chat.value("model_version")) == ("gpt-4o", "2024-11-20")
    assert chat.value("api_endpoint") == "https://open.openai.azure.com/openai/deployments/chat"
    assert endpoint("https://open.openai.azure.com/openai/deployments/chat") in chat.identities
    assert links(found["gpt-4o-2024-08-06.ft-0a1b"]) == {
        (Relation.FINE_TUNED_FROM, hosted_model("openai", "gpt-4o-2024-08-06"))
    }


async def test_exposure_keys_encryption_and_filters_are_noticed(azure: FakeAzure) -> None:
    found = (await look(azure)).found
    assert found["Azure AI account: open"].value("network_exposure") is NetworkExposure.PUBLIC
    assert found["Azure OpenAI: chat"].value("network_exposure") is NetworkExposure.PUBLIC
    assert found["Azure AI account: shut"].value("network_exposure") is NetworkExposure.VPC
    assert noticed(found["Azure AI account: open"]) == {
        ObservationKind.KEY_ACCESS_ENABLED,
        ObservationKind.PUBLIC_NETWORK,
        ObservationKind.NO_CUSTOMER_KEY,
    }
    assert not noticed(found["Azure AI account: shut"])
    relaxed = {(one.severity, one.detail) for one in found["Content filter: lax of open"].observations}
    assert relaxed == {
        (Severity.HIGH, "lax: the filter for Hate in prompts is off."),
        (Severity.MEDIUM, "lax: the filter for Violence in prompts stops the worst only."),
        (Severity.HIGH, "lax: the filter for Jailbreak in prompts marks and does not block."),
    }
    assert noticed(found["Azure OpenAI: chat"]) == {ObservationKind.CONTENT_FILTER_RELAXED}
    assert not noticed(found["Azure OpenAI: tuned"])


async def test_tags_of_an_account_hold_for_its_deployments(azure: FakeAzure) -> None:
    chat = (await look(azure)).found["Azure OpenAI: chat"]
    assert chat.value("owner_team") == "support"
    assert chat.value("data_classification") is DataClassification.RESTRICTED
    assert chat.value("deployment_env") is DeploymentEnvironment.PRODUCTION
    (claim,) = [claim for claim in chat.claims if claim.attribute == "owner_team"]
    assert claim.locator.endswith("/accounts/open#tags/Owner")


async def test_a_connection_says_where_to_and_never_with_what(azure: FakeAzure) -> None:
    # Its credentials are no part of what the SDK's listing gives, and are not asked for.
    azure.held = {path: _bare(entries) for path, entries in azure.held.items()}
    run = await look(azure)
    connection = run.found["Connection: search of shut/helpdesk"]
    assert (Relation.RETRIEVES_FROM, endpoint("https://handbook.search.windows.net")) in links(connection)
    assert noticed(connection) == {ObservationKind.KEY_ACCESS_ENABLED}


def _bare(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for entry in entries:
        entry["properties"].pop("credentials", None)
    return entries


async def test_planted_credentials_go_nowhere(azure: FakeAzure) -> None:
    run = await look(azure)
    for planted in ("planted-search-key-0815-0815", TOKEN):
        assert planted not in run.everything()


async def test_named_subscriptions_are_looked_into_and_no_others(azure: FakeAzure) -> None:
    azure.hold(f"/subscriptions/{SECOND}", "accounts", an_account("other", SECOND))
    run = await look(azure, subscription_ids=[SECOND])
    assert set(run.found) == {"Azure AI account: other"}
    assert "subscriptions" not in azure.faults.made


# -- a platform that fails ---------------------------------------------------------------------------------------------


async def test_an_account_that_refuses_is_a_problem_and_the_other_is_read(azure: FakeAzure) -> None:
    path = f"subscriptions/{SUBSCRIPTION}/resourcegroups/ai/providers/microsoft.cognitiveservices/accounts/open"
    azure.faults.planned[f"{path}/deployments"] = always(denied)
    run = await look(azure)
    assert "Azure OpenAI: embed" in run.found
    assert "Azure OpenAI: chat" not in run.found
    assert run.stale == {scope("deployments"), scope("models")}
    assert [problem.where for problem in run.harvest.problems] == ["deployments of open"]


async def test_a_refused_listing_of_accounts_makes_all_they_hold_stale(azure: FakeAzure) -> None:
    azure.faults.planned["accounts"] = always(denied)
    run = await look(azure)
    assert not run.sink.found
    assert run.stale == set(map(scope, LISTINGS))
    assert len(run.harvest.problems) == 1


async def test_subscriptions_that_cannot_be_listed_change_nothing(azure: FakeAzure) -> None:
    azure.faults.planned["subscriptions"] = always(denied)
    run = await look(azure)
    assert (run.stale, run.complete) == ({"azure:subscriptions"}, set())
    assert "AuthorizationFailed" in run.harvest.problems[0].message


async def test_a_throttled_call_waits_as_long_as_it_is_told(azure: FakeAzure) -> None:
    azure.faults.planned["accounts"] = first(1, throttled)
    run = await look(azure)
    assert not run.stale
    assert azure.faults.made["accounts"] == 4  # three pages, and the first of them twice


async def test_no_platform_decides_how_long_a_run_waits(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "RETRY_AFTER_LIMIT_SECONDS", 0.01)
    azure.faults.planned["raipolicies"] = always(
        lambda: web.json_response({}, status=429, headers={"Retry-After": "86400"})
    )
    run = await look(azure)
    assert run.stale == {scope("policies")}


async def test_half_of_the_pages_and_then_an_error_is_stale_with_what_was_read(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "TRIES", 1)
    azure.faults.planned["accounts"] = after(1, broken)
    run = await look(azure)
    assert "Azure AI account: open" in run.found
    assert "Azure AI account: shut" not in run.found
    assert run.stale == set(map(scope, LISTINGS))


async def test_an_expired_token_leaves_everything_as_it_was(azure: FakeAzure) -> None:
    azure.faults.planned["accounts"] = always(expired)
    run = await look(azure)
    assert not run.sink.found
    assert run.complete == {"azure:subscriptions"}


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param('{"value": ' + "[" * 200_000, id="deep"),
        "no json",
        "[]",
        "{}",
        '{"value": "text"}',
        '{"value": 5}',
        '{"value": [5]}',
        '{"value": null}',
        '{"value": [{"kind": "OpenAI"}]}',
        '{"value": [{"kind": "OpenAI", "id": "/x", "name": "x"}]}',
        '{"value": [',
    ],
)
@pytest.mark.parametrize("listing", ["accounts", "subscriptions"])
async def test_a_200_with_nonsense_is_a_problem(azure: FakeAzure, listing: str, nonsense: str) -> None:
    azure.faults.planned[listing] = always(text(nonsense))
    run = await look(azure)
    wrong = scope("accounts") if listing == "accounts" else "azure:subscriptions"
    assert wrong in run.stale


async def test_a_next_page_that_comes_again_ends_the_listing(azure: FakeAzure) -> None:
    def circle(number: int) -> web.StreamResponse:
        return web.json_response({"value": [], "nextLink": f"{base}/subscriptions/{SUBSCRIPTION}{path}?page=again"})

    path = "/providers/Microsoft.CognitiveServices/accounts"
    azure.faults.planned["accounts"] = circle
    async with serving(azure.app()) as base:
        run = Look()
        given = openai.Options(endpoint_url=base)
        await openai.discover(given, None, run.harvest, Identity())  # type: ignore[arg-type]
    assert "given twice" in run.sink.stale_scopes[scope("accounts")]
    assert azure.faults.made["accounts"] == 2


async def test_pages_that_never_end_are_given_up(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "PAGES_LIMIT", 5)
    azure.subscriptions = azure.subscriptions[:1]

    def endless(number: int) -> web.StreamResponse:
        link = f"{base}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CognitiveServices/accounts?page={number}"
        return web.json_response({"value": [], "nextLink": link})

    azure.faults.planned["accounts"] = endless
    async with serving(azure.app()) as base:
        run = Look()
        await openai.discover(openai.Options(endpoint_url=base), None, run.harvest, Identity())  # type: ignore[arg-type]
    assert "more than 5 pages" in run.sink.stale_scopes[scope("accounts")]


@pytest.mark.parametrize("listing", ["subscriptions", "accounts"])
async def test_a_token_does_not_follow_to_another_address(azure: FakeAzure, listing: str) -> None:
    away = FakeAzure()
    async with serving(away.app()) as elsewhere:
        link = f"{elsewhere.replace('127.0.0.1', 'localhost')}/{listing}?api-version=1"
        azure.faults.planned[listing] = always(lambda: web.json_response({"value": [], "nextLink": link}))
        run = await look(azure)
    assert any("another address" in reason for reason in run.sink.stale_scopes.values())
    assert not away.methods


async def test_a_server_that_does_not_answer_is_given_up(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "READ_SECONDS", 0.3)
    monkeypatch.setattr(openai, "TRIES", 1)
    azure.faults.hung = {"raipolicies"}
    run = await look(azure)
    assert run.stale == {scope("policies")}
    assert "Azure OpenAI: chat" in run.found


async def test_an_unreachable_cloud_is_a_problem(unused_tcp_port_here: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "TRIES", 1)
    run = Look()
    given = openai.Options(endpoint_url=f"http://127.0.0.1:{unused_tcp_port_here}")
    await openai.discover(given, None, run.harvest, Identity())  # type: ignore[arg-type]
    assert run.stale == {"azure:subscriptions"}


async def test_a_provider_that_is_not_registered_is_not_registered_by_us(azure: FakeAzure) -> None:
    azure.faults.planned["accounts"] = always(unregistered)
    run = await look(azure)
    assert scope("accounts") in run.stale


async def test_without_a_credential_nothing_is_read(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unavailable(Identity):
        async def get_token_info(self, *scopes: str, **_: Any) -> Any:
            from azure.identity import CredentialUnavailableError

            raise CredentialUnavailableError(message="no managed identity here")

    async with serving(azure.app()) as url:
        run = Look()
        await openai.discover(openai.Options(endpoint_url=url), None, run.harvest, Unavailable())  # type: ignore[arg-type]
    assert run.stale == {"azure:subscriptions"}
    assert "no managed identity here" in run.harvest.problems[0].message
    azure.methods.add("GET")


async def test_a_run_goes_on_where_it_was_interrupted(azure: FakeAzure) -> None:
    done = await look(azure)
    again = await look(azure, Look(read=done.complete))
    assert not again.sink.found


async def test_more_than_a_run_may_bring_is_stale(azure: FakeAzure) -> None:
    account = an_account("many")
    azure.hold(f"/subscriptions/{SUBSCRIPTION}", "accounts", account)
    azure.hold(account["id"], "deployments", *(a_deployment(account, f"d{n}") for n in range(30)))
    azure.page_size = 10
    run = await look(azure, Look(entries_limit=20))
    assert len(run.sink.found) == 20
    assert scope("deployments") in run.stale


# -- rules -------------------------------------------------------------------------------------------------------------


def _account(**properties: Any) -> dict[str, Any]:
    return {"id": "/subscriptions/s/resourceGroups/g/x", "name": "a", "properties": properties}


@pytest.mark.parametrize(
    ("properties", "where"),
    [
        ({"public_network_access": "Enabled"}, NetworkExposure.PUBLIC),
        ({"public_network_access": "Enabled", "network_acls": {"default_action": "Allow"}}, NetworkExposure.PUBLIC),
        ({"public_network_access": "Enabled", "network_acls": {"default_action": "Deny"}}, NetworkExposure.VPC),
        ({"public_network_access": "Disabled", "network_acls": {"default_action": "Allow"}}, NetworkExposure.VPC),
        ({"network_acls": {"default_action": "Allow"}}, NetworkExposure.PUBLIC),
        ({}, None),
    ],
)
def test_exposure_is_what_the_account_says(properties: dict[str, Any], where: NetworkExposure | None) -> None:
    told = exposure(_account(**properties))
    assert (told[0] if told else None) is where


def test_a_regional_address_is_no_accounts_own() -> None:
    shared = "https://westeurope.api.cognitive.microsoft.com/"
    assert own_addresses(_account(endpoint=shared)) == []
    assert own_addresses(_account(endpoint=shared, custom_sub_domain_name="acme")) == []
    mine = "https://acme.openai.azure.com/"
    assert own_addresses(_account(endpoint=mine, custom_sub_domain_name="Acme")) == [mine]


def test_the_resource_group_is_found_whatever_its_case() -> None:
    assert resource_group_of("/subscriptions/s/resourceGroups/ai-prod/providers/y") == "ai-prod"
    assert resource_group_of("/subscriptions/s/RESOURCEGROUPS/x/providers/y") == "x"
    with pytest.raises(ValueError, match="no resource group"):
        resource_group_of("/subscriptions/s")


def test_ids_are_one_thing_whatever_their_case() -> None:
    assert resource("/subscriptions/S/x") == resource("/SUBSCRIPTIONS/s/X")


def test_options_are_described_and_checked() -> None:
    assert CONNECTOR.options.model_json_schema()["properties"]["subscription_ids"]["description"]
    with pytest.raises(ValueError, match="validation error"):
        CONNECTOR.options.model_validate(json.loads('{"subscription_ids": ["../x"]}'))
