"""Bedrock through the real SDK: what is found, in which accounts, and what becomes of a platform that fails."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from services.inventory.connectors.aws import access
from services.inventory.connectors.aws.bedrock import CONNECTOR
from services.inventory.connectors.aws.models import foundation_model_id, model_target
from services.inventory.domain.asset import SourceKind
from services.inventory.domain.claims import ObservationKind
from services.inventory.domain.identity import hosted_model, resource
from services.inventory.tests.estates_aws import (
    CLAUDE,
    EMBED,
    INSTRUCTION,
    LEGACY,
    TITAN,
    UNUSED,
    bedrock_estate,
    foundation,
)
from services.inventory.tests.fakes import after, always, first, serving, text
from services.inventory.tests.fakes_aws import OTHER, OWN, REGION, WHEN, FakeAws, broken, denied, expired, throttled
from services.inventory.tests.looking import SETTINGS, Look, links, noticed
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, Relation
from shared.errors import Invalid

ARN = f"arn:aws:bedrock:{REGION}:{OWN}"
SECRET = "not-a-real-secret-but-one-to-look-for"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    access.REMEMBERED.forget()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "TRIES", 2)
    monkeypatch.setattr(access, "READ_SECONDS", 0.4)


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    fake = FakeAws(estate={(OWN, REGION): bedrock_estate()})
    yield fake
    assert not fake.drifted, "the fake answered what the API's description does not allow"


async def look(aws: FakeAws, run: Look | None = None, **options: Any) -> Look:
    async with serving(aws.app()) as url:
        return await (run or Look()).at(CONNECTOR, **{"regions": [REGION], "endpoint_url": url, **options})


def scope(listing: str, account: str = OWN, region: str = REGION) -> str:
    return f"aws:{account}:{region}:{listing}"


def tuned(count: int) -> list[dict[str, Any]]:
    return [
        {
            "modelArn": f"{ARN}:custom-model/t/{n}",
            "modelName": f"tuned-{n}",
            "creationTime": WHEN,
            "baseModelArn": foundation(TITAN),
            "baseModelName": "Titan",
        }
        for n in range(count)
    ]


async def test_everything_of_bedrock_is_found_and_all_that_was_read_is_complete(aws: FakeAws) -> None:
    run = await look(aws)
    assert not run.harvest.problems
    assert not run.stale
    assert {name: one.value("asset_type") for name, one in run.found.items()} == {
        "support-tuned": AssetType.FINE_TUNED_MODEL,
        "s3://training/tickets.jsonl": AssetType.TRAINING_DATASET,
        "brought-along": AssetType.FINE_TUNED_MODEL,
        "Provisioned: capacity": AssetType.API_ENDPOINT,
        "Deployment: on-demand": AssetType.API_ENDPOINT,
        "Profile: EU Claude": AssetType.API_ENDPOINT,
        "Profile: billing": AssetType.API_ENDPOINT,
        "no-advice": AssetType.GUARDRAIL_CONFIG,
        "handbook": AssetType.INTEGRATION,
        "handbook: OPENSEARCH_SERVERLESS": AssetType.VECTOR_DATABASE,
        "pages of KB1": AssetType.INTEGRATION,
        "support": AssetType.AI_AGENT,
        "orders of AGENT1": AssetType.INTEGRATION,
        "Instruction of support (AGENT1)": AssetType.PROMPT_TEMPLATE,
        "Claude 3.5 Sonnet": AssetType.FOUNDATION_MODEL,
        "Titan Text G1 - Express": AssetType.FOUNDATION_MODEL,
        "Titan Text Embeddings V2": AssetType.EMBEDDING_MODEL,
        "Llama 3.1 8B Instruct": AssetType.FOUNDATION_MODEL,
        "Command": AssetType.FOUNDATION_MODEL,
        f"Amazon Bedrock in {OWN} {REGION}": AssetType.INTEGRATION,
    }
    assert run.sink.complete_scopes[scope("list_agents")] == {
        f"{ARN}:agent/AGENT1",
        f"{ARN}:agent/AGENT1/action-group/GROUP1",
        f"{ARN}:agent/AGENT1#instruction",
    }
    # Nothing is asked of what nobody uses, and nothing but reading is ever asked.
    assert all(operation.startswith(("List", "Get")) for _, operation in aws.calls)


async def test_an_agent_leads_to_its_model_guardrail_tools_knowledge_and_prompt(aws: FakeAws) -> None:
    found = (await look(aws)).found
    agent = found["support"]
    assert links(agent) == {
        (Relation.USES_MODEL, resource(f"{ARN}:inference-profile/eu.{CLAUDE}")),
        (Relation.USES_MODEL, resource(f"{ARN}:provisioned-model/cap1")),
        (Relation.GUARDED_BY, resource(f"{ARN}:guardrail/gr1")),
        (Relation.RETRIEVES_FROM, resource(f"{ARN}:knowledge-base/KB1")),
        (Relation.CALLS_TOOL, found["orders of AGENT1"].locator),
        (Relation.DEPENDS_ON, found["Instruction of support (AGENT1)"].locator),
        (Relation.DEPENDS_ON, resource(f"{ARN}:agent-alias/AGENT2/ALIAS2")),
        (Relation.DEPLOYED_IN, found[f"Amazon Bedrock in {OWN} {REGION}"].locator),
    }
    assert agent.value("authorized_tools") == ("orders.find_order", "orders.refund")
    assert resource(f"{ARN}:agent-alias/AGENT1/ALIAS1") in agent.identities
    # What identities the links name are those of entries that were found.
    known = {name for one in found.values() for name in (one.locator, *one.identities)}
    for relation in (Relation.USES_MODEL, Relation.GUARDED_BY, Relation.RETRIEVES_FROM, Relation.CALLS_TOOL):
        assert {target for kind, target in links(agent) if kind is relation} <= known
    assert links(found["orders of AGENT1"]) == {
        (Relation.DEPENDS_ON, resource(f"arn:aws:lambda:{REGION}:{OWN}:function:orders"))
    }


async def test_an_instruction_is_a_digest_and_its_text_stays_where_it_is(aws: FakeAws) -> None:
    run = await look(aws)
    (digest,) = run.found["Instruction of support (AGENT1)"].value("integrity")
    assert (digest.algorithm, digest.digest) == ("sha256", hashlib.sha256(INSTRUCTION.encode()).hexdigest())
    assert "Never tell prices" not in run.everything()


async def test_a_knowledge_base_leads_to_its_store_its_embedding_model_and_its_data(aws: FakeAws) -> None:
    found = (await look(aws)).found
    assert links(found["handbook"]) == {
        (Relation.USES_MODEL, resource(foundation(EMBED))),
        (Relation.RETRIEVES_FROM, found["handbook: OPENSEARCH_SERVERLESS"].locator),
        (Relation.RETRIEVES_FROM, found["pages of KB1"].locator),
    }
    store = found["handbook: OPENSEARCH_SERVERLESS"]
    assert store.identities == (resource(f"arn:aws:aoss:{REGION}:{OWN}:collection/c1"),)
    (embeds,) = store.links
    assert (embeds.relation, embeds.target, embeds.reverse) == (Relation.EMBEDS_INTO, resource(foundation(EMBED)), True)
    assert found["pages of KB1"].value("source_url") == "s3://handbook/public"


async def test_a_tuned_model_leads_to_its_base_and_its_data(aws: FakeAws) -> None:
    found = (await look(aws)).found
    assert links(found["support-tuned"]) == {
        (Relation.FINE_TUNED_FROM, resource(foundation(TITAN))),
        (Relation.TRAINED_ON, "dataset:s3://training/tickets.jsonl"),
    }
    assert found["s3://training/tickets.jsonl"].identities == ("dataset:s3://training/tickets.jsonl",)
    assert ObservationKind.NO_CUSTOMER_KEY in noticed(found["support-tuned"])
    assert not noticed(found["brought-along"])
    assert links(found["Provisioned: capacity"]) >= {(Relation.USES_MODEL, resource(f"{ARN}:custom-model/tuned/1"))}


async def test_foundation_models_are_those_in_use_or_enabled_and_no_others(aws: FakeAws) -> None:
    run = await look(aws)
    models = {one.value("model_name"): one for one in run.sink.found if one.locator in _models(run)}
    assert set(models) == {CLAUDE, TITAN, EMBED, LEGACY, UNUSED}
    assert "in use here" in models[CLAUDE].value("description")
    assert "given access" in models[UNUSED].value("description")
    assert ObservationKind.DEPRECATED_MODEL in noticed(models[LEGACY])
    # One model, whichever region's ARN a profile names, and the name that code and traffic have for it.
    assert set(models[CLAUDE].identities) == {
        resource(foundation(CLAUDE)),
        resource(foundation(CLAUDE, "eu-central-1")),
        hosted_model("aws.bedrock", CLAUDE),
    }
    assert links(models[CLAUDE]) == {(Relation.USES_MODEL, hosted_model("anthropic", "claude-3-5-sonnet-20240620"))}

    without = await look(aws, enabled_models=False)
    assert {one.value("model_name") for one in without.sink.found if one.locator in _models(without)} == {
        CLAUDE,
        TITAN,
        EMBED,
        LEGACY,
    }


def _models(run: Look) -> set[str]:
    return run.sink.complete_scopes[scope("foundation_models")]


async def test_tags_declare_owner_class_and_stage_and_other_words_state_nothing(aws: FakeAws) -> None:
    found = (await look(aws)).found
    agent = found["support"]
    assert agent.value("owner_team") == "support-team"
    assert agent.value("owner_email") == "support@example.com"
    assert agent.value("data_classification") is DataClassification.CONFIDENTIAL
    assert agent.value("deployment_env") is DeploymentEnvironment.PRODUCTION
    (claim,) = [claim for claim in agent.claims if claim.attribute == "owner_team"]
    assert (claim.kind, claim.locator) == (SourceKind.DECLARED, f"{ARN}:agent/AGENT1#tags/Owner")
    assert found["no-advice"].value("owner_team") == "security"
    assert found["support-tuned"].value("data_classification") is None
    # What nothing says is not said, a stage least of all.
    assert found["brought-along"].value("owner_team") is None
    assert found["brought-along"].value("deployment_env") is None


@pytest.mark.parametrize(
    ("configuration", "noticed_"),
    [
        ({}, {ObservationKind.INVOCATION_LOGGING_OFF}),
        ({"loggingConfig": {"s3Config": {"bucketName": "logs"}, "textDataDeliveryEnabled": True}}, set()),
        (
            {"loggingConfig": {"s3Config": {"bucketName": "logs"}, "textDataDeliveryEnabled": False}},
            {ObservationKind.INVOCATION_LOGGING_OFF},
        ),
    ],
)
async def test_whether_calls_are_logged_is_noticed(
    aws: FakeAws, configuration: dict[str, Any], noticed_: set[ObservationKind]
) -> None:
    aws.estate[OWN, REGION]["GetModelInvocationLoggingConfiguration"] = configuration
    assert noticed((await look(aws)).found[f"Amazon Bedrock in {OWN} {REGION}"]) == noticed_


async def test_a_region_that_nobody_uses_is_complete_and_empty(aws: FakeAws) -> None:
    aws.estate[OWN, REGION] = {"GetModelInvocationLoggingConfiguration": {}}
    run = await look(aws)
    assert not run.sink.found
    assert not run.stale
    assert scope("invocation_logging") in run.complete


async def test_an_agent_without_a_guardrail_is_noticed(aws: FakeAws) -> None:
    answer = bedrock_estate()["GetAgent"]
    assert isinstance(answer, dict)
    del answer["agent"]["guardrailConfiguration"]
    aws.estate[OWN, REGION]["GetAgent"] = answer
    agent = (await look(aws)).found["support"]
    assert ObservationKind.NO_GUARDRAIL in noticed(agent)
    assert not [target for relation, target in links(agent) if relation is Relation.GUARDED_BY]


# -- accounts and regions ----------------------------------------------------------------------------------------------

ROLE = f"arn:aws:iam::{OTHER}:role/inventory"


async def test_roles_lead_to_other_accounts_and_regions_are_told_apart(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_EXTERNAL_ID_SHARED", "external-4711")
    aws.roles = {ROLE: "external-4711"}
    aws.estate[OTHER, "us-east-1"] = {"ListGuardrails": bedrock_estate(OTHER, "us-east-1")["ListGuardrails"]}
    run = await look(
        aws,
        regions=[REGION, "us-east-1"],
        role_arns=[ROLE],
        external_id_variable="INVENTORY_EXTERNAL_ID_SHARED",
    )
    assert not run.stale
    guards = {one.locator for one in run.sink.found if one.value("asset_type") is AssetType.GUARDRAIL_CONFIG}
    assert guards == {f"{ARN}:guardrail/gr1", f"arn:aws:bedrock:us-east-1:{OTHER}:guardrail/gr1"}
    for account, region in itertools.product((OWN, OTHER), (REGION, "us-east-1")):
        assert scope("list_agents", account, region) in run.complete
    assert "external-4711" not in run.everything()


async def test_a_role_that_cannot_be_assumed_makes_its_accounts_scopes_stale_and_no_other(aws: FakeAws) -> None:
    run = await look(aws, role_arns=[ROLE])
    assert {name.split(":")[1] for name in run.stale} == {OTHER}
    assert scope("list_agents", OTHER) in run.stale
    assert scope("list_agents") in run.complete
    assert [problem.where for problem in run.harvest.problems] == [f"sts AssumeRole {ROLE}"]


async def test_only_roles_without_the_own_account(aws: FakeAws) -> None:
    aws.roles = {ROLE: ""}
    run = await look(aws, role_arns=[ROLE], own_account=False)
    assert {account for account, operation in aws.calls if operation != "AssumeRole"} == {OTHER}
    assert not run.harvest.problems


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"own_account": False}, "/options/role_arns"),
        ({"role_arns": [ROLE, ROLE + "2"]}, "/options/role_arns"),
        ({"external_id_variable": "INVENTORY_EXTERNAL_ID_NONE"}, "/options/external_id_variable"),
        ({"endpoint_url": "ftp://x"}, "/options/endpoint_url"),
    ],
)
def test_options_that_lead_nowhere_are_refused(options: dict[str, Any], field: str) -> None:
    given = CONNECTOR.options.model_validate({"regions": [REGION], **options})
    with pytest.raises(Invalid) as refusal:
        CONNECTOR.check(given, SETTINGS)
    assert refusal.value.extra["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "options",
    [
        {"regions": []},
        {"regions": ["eu-west-1/../x"]},
        {"regions": [REGION], "role_arns": ["arn:aws:iam::1:role/x"]},
        # The environment holds more than external ids.
        {"regions": [REGION], "external_id_variable": "INVENTORY_DATABASE_URL"},
        {"regions": [REGION], "secret": "x"},
    ],
)
def test_options_that_are_malformed_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        CONNECTOR.options.model_validate(options)


# -- a platform that fails ---------------------------------------------------------------------------------------------


async def test_a_refused_listing_is_stale_and_the_others_go_on(aws: FakeAws) -> None:
    aws.faults.planned["ListGuardrails"] = always(denied)
    run = await look(aws)
    assert scope("list_guardrails") in run.stale
    # What depends on knowing all that refers to it is not complete either, and nothing else suffers.
    assert run.stale == {scope(name) for name in ("list_guardrails", "list_inference_profiles", "foundation_models")}
    assert "support" in run.found
    (problem,) = run.harvest.problems
    assert "AccessDeniedException" in problem.message


async def test_where_details_are_refused_the_listing_is_told(aws: FakeAws) -> None:
    aws.faults.planned["GetAgent"] = always(denied)
    aws.faults.planned["GetCustomModel"] = always(denied)
    run = await look(aws)
    assert {"support", "support-tuned"} <= set(run.found)
    # That no guardrail is set is not said of an agent that nobody could look at.
    assert not noticed(run.found["support"])
    assert {scope("list_agents"), scope("list_custom_models")} <= run.stale


@pytest.mark.usefixtures("impatient")
async def test_an_entry_whose_details_fail_stays_as_it_was_known(aws: FakeAws) -> None:
    aws.faults.planned["GetAgent"] = always(broken)
    run = await look(aws)
    assert "support" not in run.found
    assert scope("list_agents") in run.stale


async def test_a_throttled_call_is_tried_again(aws: FakeAws) -> None:
    aws.faults.planned["ListCustomModels"] = first(2, throttled)
    run = await look(aws)
    assert scope("list_custom_models") in run.complete
    assert aws.faults.made["ListCustomModels"] == 3


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_stays_throttled_is_given_up(aws: FakeAws) -> None:
    aws.faults.planned["ListCustomModels"] = always(throttled)
    run = await look(aws)
    assert scope("list_custom_models") in run.stale
    assert "ThrottlingException" in run.sink.stale_scopes[scope("list_custom_models")]
    assert aws.faults.made["ListCustomModels"] == 2


@pytest.mark.usefixtures("impatient")
async def test_half_of_the_pages_and_then_an_error_is_stale_with_what_was_read(aws: FakeAws) -> None:
    aws.estate[OWN, REGION]["ListCustomModels"] = tuned(5)
    aws.faults.planned["ListCustomModels"] = after(1, broken)
    run = await look(aws)
    assert {name for name in run.found if name.startswith("tuned-")} == {"tuned-0", "tuned-1"}
    assert scope("list_custom_models") in run.stale


async def test_an_expired_credential_leaves_everything_as_it_was(aws: FakeAws) -> None:
    for operation in bedrock_estate():
        aws.faults.planned[operation] = always(expired)
    run = await look(aws)
    assert not run.sink.found
    assert run.complete == {"aws:own-account"}
    assert all("ExpiredToken" in problem.message for problem in run.harvest.problems)
    assert SECRET not in run.everything()


async def test_a_credential_that_expires_half_way_changes_nothing_of_what_it_did_not_read(aws: FakeAws) -> None:
    for operation in ("ListKnowledgeBases", "ListAgents", "ListInferenceProfiles", "ListFoundationModels"):
        aws.faults.planned[operation] = always(expired)
    run = await look(aws)
    assert scope("list_custom_models") in run.complete
    assert {scope("list_agents"), scope("foundation_models"), scope("list_inference_profiles")} <= run.stale
    # The catalogue is not known; what is referred to is.
    assert TITAN in {one.value("model_name") for one in run.sink.found}


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param('{"value": ' + "[" * 200_000, id="deep"),
        "not json",
        "[]",
        '"text"',
        '{"modelSummaries": "text"}',
        '{"modelSummaries": [5]}',
        '{"modelSummaries": [{"modelName": "no arn"}]}',
        '{"modelSummaries": [{"modelArn": {"a": 1}, "modelName": [], "creationTime": "yesterday"}]}',
        '{"unheard": "of"}',
        "<html>Welcome to the hotel</html>",
        '{"modelSummaries": [',
    ],
)
async def test_a_200_with_nonsense_is_a_problem(aws: FakeAws, nonsense: str) -> None:
    aws.faults.planned["ListCustomModels"] = always(text(nonsense))
    run = await look(aws)
    assert scope("list_custom_models") in run.stale
    assert scope("list_agents") in run.complete


async def test_a_page_token_that_comes_again_ends_the_listing(aws: FakeAws) -> None:
    page = text(json.dumps({"modelSummaries": [], "nextToken": "again"}))
    aws.faults.planned["ListCustomModels"] = always(page)
    run = await look(aws)
    assert "same page token" in run.sink.stale_scopes[scope("list_custom_models")]
    assert aws.faults.made["ListCustomModels"] == 2


async def test_pages_that_never_end_are_given_up(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PAGES_LIMIT", 7)

    def endless(number: int) -> web.StreamResponse:
        return web.json_response({"modelSummaries": [], "nextToken": f"token-{number}"})

    aws.faults.planned["ListCustomModels"] = endless
    run = await look(aws)
    assert "more than 7 pages" in run.sink.stale_scopes[scope("list_custom_models")]
    assert aws.faults.made["ListCustomModels"] == 7


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_does_not_answer_is_given_up(aws: FakeAws) -> None:
    aws.faults.hung = {"ListCustomModels"}
    run = await look(aws)
    assert "timeout" in run.sink.stale_scopes[scope("list_custom_models")].lower()
    assert scope("list_agents") in run.complete


@pytest.mark.usefixtures("impatient")
async def test_an_unreachable_cloud_is_a_problem(unused_tcp_port_here: int) -> None:
    run = await Look().at(CONNECTOR, regions=[REGION], endpoint_url=f"http://127.0.0.1:{unused_tcp_port_here}")
    assert not run.sink.found
    assert not run.complete
    assert [problem.where for problem in run.harvest.problems] == ["sts GetCallerIdentity"]


async def test_without_a_credential_nothing_is_read(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    run = await look(aws)
    assert (run.stale, run.complete) == ({"aws:own-account"}, set())


async def test_more_than_a_run_may_bring_is_stale(aws: FakeAws) -> None:
    aws.estate[OWN, REGION]["ListCustomModels"] = tuned(20)
    run = await look(aws, Look(entries_limit=5))
    assert len(run.sink.found) == 5
    assert scope("list_custom_models") in run.stale


async def test_tags_that_are_refused_take_only_owners_away(aws: FakeAws) -> None:
    aws.faults.planned["GetResources"] = always(denied)
    run = await look(aws)
    assert run.stale == {scope("tags:bedrock")}
    assert run.found["support"].value("owner_team") is None


async def test_a_run_goes_on_where_it_was_interrupted(aws: FakeAws) -> None:
    done = await look(aws)
    again = await look(aws, Look(read=done.complete))
    assert not again.sink.found
    # A place of which something is missing is read whole, for foundation models are those that the rest refers to.
    rest = await look(aws, Look(read=done.complete - {scope("foundation_models")}))
    assert set(rest.found) == set(done.found)


async def test_planted_credentials_go_nowhere(aws: FakeAws) -> None:
    key = "AKIA" + "Z7QRSTUVWX234567"
    password = "correct-horse-battery-staple"
    answers = bedrock_estate()
    guard, agent, base = answers["ListGuardrails"], answers["GetAgent"], answers["GetKnowledgeBase"]
    assert isinstance(guard, list)
    assert isinstance(agent, dict)
    assert isinstance(base, dict)
    guard[0]["description"] = f"call us with {key}"
    agent["agent"]["instruction"] += f" The database is postgresql://bot:{password}@db/x"
    agent["agent"]["description"] = f"password={password}"
    base["knowledgeBase"]["storageConfiguration"] = {
        "type": "PINECONE",
        "pineconeConfiguration": {
            "connectionString": f"https://user:{password}@index.pinecone.io",
            "credentialsSecretArn": f"arn:aws:secretsmanager:{REGION}:{OWN}:secret:pinecone",
            "fieldMapping": {"textField": "t", "metadataField": "m"},
        },
    }
    aws.estate[OWN, REGION] = answers
    aws.faults.planned["ListImportedModels"] = always(text(json.dumps({"message": f"token={password}"}), 403))
    run = await look(aws)
    assert {"no-advice", "support", "handbook: PINECONE"} <= set(run.found)
    for planted in (key, password, SECRET):
        assert planted not in run.everything()


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        (CLAUDE, foundation(CLAUDE)),
        (f"eu.{CLAUDE}", f"{ARN}:inference-profile/eu.{CLAUDE}"),
        ("global.anthropic.claude-sonnet-4-v1:0", f"{ARN}:inference-profile/global.anthropic.claude-sonnet-4-v1:0"),
        (f"{ARN}:provisioned-model/x", f"{ARN}:provisioned-model/x"),
    ],
)
def test_a_model_is_named_by_id_profile_or_arn(reference: str, target: str) -> None:
    assert model_target(reference, access.Place(OWN, REGION)) == resource(target)


def test_only_foundation_models_are_foundation_models() -> None:
    assert foundation_model_id(resource(foundation(CLAUDE))) == CLAUDE
    assert foundation_model_id(resource(f"{ARN}:custom-model/x")) is None
