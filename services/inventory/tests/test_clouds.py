"""What the connectors of clouds have in common: tags, details that are remembered, and works side by side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inventory.connectors import gcp_vertex
from services.inventory.connectors.aws import access, agents, bedrock, models, sagemaker
from services.inventory.connectors.azure import entries
from services.inventory.connectors.azure import openai as azure
from services.inventory.connectors.clouds import Remembered, answers, side_by_side, tagged
from services.inventory.connectors.connector import Connector
from services.inventory.domain.claims import ObservationKind, found
from services.inventory.tests import fakes_vertex
from services.inventory.tests.estates_aws import HUGGINGFACE_TOKEN, INSTRUCTION, bedrock_estate, sagemaker_estate
from services.inventory.tests.fakes import serving
from services.inventory.tests.fakes_aws import OWN, REGION, WHEN, FakeAws
from services.inventory.tests.looking import SETTINGS, Look, noticed
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment
from shared.errors import Invalid


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    access.REMEMBERED.forget()
    fake = FakeAws()
    yield fake
    assert not fake.drifted, "the fake answered what the API's description does not allow"


def said(run: Look) -> dict[str, object]:
    return {one.locator: one for one in run.sink.found}


@pytest.mark.parametrize(
    ("connector", "details"),
    [
        (
            bedrock.CONNECTOR,
            {
                "GetCustomModel",
                "GetImportedModel",
                "GetAgent",
                "GetAgentActionGroup",
                "GetKnowledgeBase",
                "GetDataSource",
            },
        ),
        (sagemaker.CONNECTOR, {"DescribeModel", "DescribeEndpoint", "DescribeEndpointConfig"}),
    ],
)
async def test_a_second_run_asks_for_no_detail_that_cannot_have_changed(
    aws: FakeAws, connector: Connector, details: set[str]
) -> None:
    aws.estate[OWN, REGION] = {**sagemaker_estate(), **bedrock_estate()}
    async with serving(aws.app()) as url:
        first = await Look().at(connector, regions=[REGION], endpoint_url=url)
        assert details <= {operation for _, operation in aws.calls}
        aws.calls.clear()
        second = await Look().at(connector, regions=[REGION], endpoint_url=url)
    assert not details & {operation for _, operation in aws.calls}
    assert said(second) == said(first)
    assert second.sink.complete_scopes == first.sink.complete_scopes


async def test_what_has_changed_is_asked_for_again(aws: FakeAws) -> None:
    estate = aws.estate[OWN, REGION] = bedrock_estate()
    async with serving(aws.app()) as url:
        await Look().at(bedrock.CONNECTOR, regions=[REGION], endpoint_url=url)
        summaries, answer = estate["ListAgents"], estate["GetAgent"]
        assert isinstance(summaries, list)
        assert isinstance(answer, dict)
        summaries[0]["updatedAt"] = answer["agent"]["updatedAt"] = WHEN + 60
        del answer["agent"]["guardrailConfiguration"]
        second = await Look().at(bedrock.CONNECTOR, regions=[REGION], endpoint_url=url)
    assert ObservationKind.NO_GUARDRAIL in noticed(second.found["support"])


async def test_what_is_remembered_holds_neither_credentials_nor_instructions(aws: FakeAws) -> None:
    estate = aws.estate[OWN, REGION] = {**sagemaker_estate(), **bedrock_estate()}
    answer = estate["GetAgent"]
    assert isinstance(answer, dict)
    answer["agent"]["description"] = "password=correct-horse-battery-staple"
    async with serving(aws.app()) as url:
        await Look().at(bedrock.CONNECTOR, regions=[REGION], endpoint_url=url)
        await Look().at(sagemaker.CONNECTOR, regions=[REGION], endpoint_url=url)
    kept = repr(vars(access.REMEMBERED))
    assert "s3://weights/llama/" in kept
    assert "acme/tiny-chat" in kept
    assert HUGGINGFACE_TOKEN not in kept
    assert INSTRUCTION not in kept
    assert "correct-horse" not in kept


def test_what_is_remembered_is_bounded_and_ends() -> None:
    remembered = Remembered(2)
    for name in "abc":
        remembered.keep(name, 1, name.upper())
    assert [remembered.recall(name, 1) for name in "abc"] == [None, "B", "C"]
    assert remembered.recall("b", 2) is None
    remembered.recall("b", 1)
    remembered.keep("d", 1, "D")
    assert [remembered.recall(name, 1) for name in "bcd"] == ["B", None, "D"]
    over = Remembered(2, seconds=-1.0)
    over.keep("a", 1, "A")
    assert over.recall("a", 1) is None


ENTRY = found("at/1", name="x", asset_type=AssetType.AI_AGENT)


@pytest.mark.parametrize(
    ("key", "value", "attribute", "claimed"),
    [
        ("owner", "team-a", "owner_team", "team-a"),
        ("Owner_Team", " team-a ", "owner_team", "team-a"),
        ("OwningTeam", "team-a", "owner_team", "team-a"),
        ("owner", "a@example.com", "owner_email", "a@example.com"),
        ("contact", "a@example.com", "owner_email", "a@example.com"),
        ("contact", "ask at the desk", "owner_email", None),
        ("dataClassification", "Restricted", "data_classification", DataClassification.RESTRICTED),
        ("data:classification", "secret!", "data_classification", None),
        ("ENV", "PROD", "deployment_env", DeploymentEnvironment.PRODUCTION),
        ("environment", "blue", "deployment_env", None),
        ("aws:cloudformation:stack-name", "team", "owner_team", None),
        ("owner", "", "owner_team", None),
        ("owner", "a\x00b", "owner_team", None),
    ],
)
def test_tags_state_what_the_inventory_has_a_word_for(key: str, value: str, attribute: str, claimed: object) -> None:
    assert tagged(ENTRY, {key: value}, "at/1").value(attribute) == claimed


def test_no_tags_state_nothing() -> None:
    assert tagged(ENTRY, None, "at/1") is ENTRY


async def test_a_failure_of_the_platform_is_an_answer_and_a_mistake_of_ours_is_not() -> None:
    async def ask(entry: int) -> int:
        if entry == 2:
            raise ConnectionError("reset")
        return entry * 10

    told = await answers([1, 2], ask, (ConnectionError,))
    assert [(entry, answer, type(error)) for entry, answer, error in told] == [
        (1, 10, type(None)),
        (2, None, ConnectionError),
    ]
    with pytest.raises(ConnectionError):
        await answers([1, 2], ask, (KeyError,))


async def test_works_side_by_side_are_bounded_and_end_together() -> None:
    running, most, ended = 0, 0, 0

    async def work() -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        ended += 1

    await side_by_side([work] * 9, 3)
    assert (most, ended) == (3, 9)

    async def waits() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            nonlocal ended
            ended += 1

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("typo")

    with pytest.raises(KeyError):
        await side_by_side([waits, fails], 2)
    assert ended == 10


PLACE = access.Place(OWN, REGION)
VERTEX = gcp_vertex.Place(fakes_vertex.PROJECT, fakes_vertex.LOCATION)
_AWS: dict[str, Any] = bedrock_estate()
_GOOGLE = fakes_vertex.an_estate()
_ACCOUNT = {"id": "/subscriptions/s/resourceGroups/g/a", "name": "a", "properties": {"endpoint": "https://a.b/"}}
MAPPINGS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda given: models.custom_model(given, given, PLACE), {**_AWS["ListCustomModels"][0], **_AWS["GetCustomModel"]}),
    (lambda given: models.provisioned_throughput(given, PLACE), _AWS["ListProvisionedModelThroughputs"][0]),
    (lambda given: models.inference_profile(given, PLACE), _AWS["ListInferenceProfiles"][0]),
    (lambda given: models.foundation_model("a.b", (), given, PLACE, "in use"), _AWS["ListFoundationModels"][0]),
    (lambda given: agents.described_agent({"agent": given}), _AWS["GetAgent"]["agent"]),
    (
        lambda given: agents.described_group({"agentActionGroup": given}),
        _AWS["GetAgentActionGroup"]["agentActionGroup"],
    ),
    (lambda given: agents.agent(given, given, PLACE, groups=[given]), _AWS["GetAgent"]["agent"]),
    (lambda given: agents.knowledge_base(given, given, PLACE, [given]), _AWS["GetKnowledgeBase"]["knowledgeBase"]),
    *((lambda given: gcp_vertex.model(given, VERTEX), entry) for entry in _GOOGLE.held["models"]),
    *((lambda given: gcp_vertex.endpoint(given, VERTEX), entry) for entry in _GOOGLE.held["endpoints"]),
    *((lambda given: gcp_vertex.tuning_job(given, VERTEX), entry) for entry in _GOOGLE.held["tuningJobs"]),
    *((lambda given: gcp_vertex.reasoning_engine(given, VERTEX), entry) for entry in _GOOGLE.held["reasoningEngines"]),
    (entries.account_entry, {**_ACCOUNT, "identity": {"type": "x"}, "sku": {"name": "S0"}}),
    (lambda given: entries.deployment_entry(given, given, given), _ACCOUNT),
]


@given(
    which=st.sampled_from(MAPPINGS),
    other=st.sampled_from([None, 5, True, "", "x", "a:b", "arn:aws:", "publishers", "https://[", [], {}, [None], [[]]]),
    path=st.lists(st.integers(0, 30), min_size=1, max_size=4),
)
@settings(max_examples=600, deadline=None)
def test_an_entry_with_anything_in_it_is_read_or_is_a_problem_of_its_own(
    which: tuple[Callable[[Any], Any], Any], other: Any, path: list[int]
) -> None:
    mapped, entry = which
    broken = node = json.loads(json.dumps(entry))
    for step in path:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = keys[step % len(keys)]
        if step is path[-1] or not isinstance(node[key], dict | list):
            node[key] = other
            break
        node = node[key]
    # What the connectors take for an entry's own fault; anything else would end the run.
    with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):
        mapped(broken)


@pytest.mark.parametrize(
    "url", ["", "http://", "http://[", "http://a b/", "http://127.0.0.1:99999", "http://a\n.b", "ftp://a.b", "a.b"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    asked = sagemaker.CONNECTOR.options.model_validate({"regions": [REGION], "endpoint_url": url})
    with pytest.raises(Invalid, match="URL is needed"):
        sagemaker.CONNECTOR.check(asked, SETTINGS)


PAGE = Path(__file__).parents[3] / "docs" / "discovery" / "clouds.md"
CONNECTORS = (bedrock.CONNECTOR, sagemaker.CONNECTOR, azure.CONNECTOR, gcp_vertex.CONNECTOR)


def documented(what: str) -> Any:
    match = re.search(rf"^```json {what}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert match is not None, f"the page shows no {what}"
    return json.loads(match[1])


def test_the_documented_permissions_are_those_that_the_connectors_name() -> None:
    aws = {name for one in CONNECTORS[:2] for name in one.permissions if not name.startswith("sts:")}
    assert set(documented("iam")["Statement"][0]["Action"]) == aws
    assert set(documented("azure")) == set(azure.CONNECTOR.permissions)
    assert set(documented("gcp")) == set(gcp_vertex.CONNECTOR.permissions)


@pytest.mark.parametrize("connector", [bedrock.CONNECTOR, azure.CONNECTOR, gcp_vertex.CONNECTOR])
def test_the_documented_options_are_taken_and_all_are_documented(connector: Connector) -> None:
    connector.check(connector.options.model_validate(documented(connector.source.value)), SETTINGS)
    for name, field in connector.options.model_fields.items():
        assert f"| `{name}` |" in PAGE.read_text()
        assert field.description


async def test_every_call_that_is_made_is_a_permission_that_is_named(aws: FakeAws) -> None:
    aws.estate[OWN, REGION] = {**sagemaker_estate(), **bedrock_estate()}
    named = {name.rpartition(":")[2] for one in CONNECTORS[:2] for name in one.permissions}
    async with serving(aws.app()) as url:
        for connector in CONNECTORS[:2]:
            await Look().at(connector, regions=[REGION], endpoint_url=url)
    assert {operation for _, operation in aws.calls} - {"GetCallerIdentity"} <= named
