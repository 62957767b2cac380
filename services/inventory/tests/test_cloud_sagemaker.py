"""SageMaker through the real SDK, and what moto's server has of both of AWS's connectors."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from services.inventory.connectors.aws import access, bedrock
from services.inventory.connectors.aws.sagemaker import CONNECTOR
from services.inventory.domain.claims import ObservationKind
from services.inventory.domain.identity import huggingface, image, resource
from services.inventory.tests.estates_aws import HUGGINGFACE_TOKEN, sagemaker_estate
from services.inventory.tests.fakes import after, always, serving, text
from services.inventory.tests.fakes_aws import OWN, REGION, WHEN, FakeAws, broken, denied
from services.inventory.tests.looking import Look, links, noticed
from shared.contracts.inventory import AssetType, DeploymentEnvironment, Relation

ARN = f"arn:aws:sagemaker:{REGION}:{OWN}"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    access.REMEMBERED.forget()
    monkeypatch.setattr(access, "TRIES", 2)


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    fake = FakeAws(estate={(OWN, REGION): sagemaker_estate()})
    yield fake
    assert not fake.drifted, "the fake answered what the API's description does not allow"


async def look(aws: FakeAws) -> Look:
    async with serving(aws.app()) as url:
        return await Look().at(CONNECTOR, regions=[REGION], endpoint_url=url)


def scope(listing: str) -> str:
    return f"aws:{OWN}:{REGION}:{listing}"


async def test_models_and_endpoints_are_found_with_what_they_use(aws: FakeAws) -> None:
    run = await look(aws)
    assert not run.stale
    found = run.found
    assert {name: one.value("asset_type") for name, one in found.items()} == {
        "tgi": AssetType.FOUNDATION_MODEL,
        "acme/tiny-chat": AssetType.FOUNDATION_MODEL,
        "Fraud": AssetType.FINE_TUNED_MODEL,
        "SageMaker: chat": AssetType.API_ENDPOINT,
    }
    assert (Relation.USES_MODEL, huggingface("acme/tiny-chat")) in links(found["tgi"])
    assert found["acme/tiny-chat"].identities == (huggingface("acme/tiny-chat"),)
    assert found["Fraud"].value("source_url") == "s3://weights/fraud.tar.gz"
    (uses,) = links(found["Fraud"])
    assert uses[0] is Relation.DEPENDS_ON
    assert uses[1].startswith(image(OWN))
    served = {target for relation, target in links(found["SageMaker: chat"]) if relation is Relation.USES_MODEL}
    assert served == {resource(f"{ARN}:model/tgi"), resource(f"{ARN}:model/fraud")}
    assert served <= {*found["tgi"].identities, *found["Fraud"].identities}
    assert found["Fraud"].value("owner_team") == "risk"
    assert found["SageMaker: chat"].value("deployment_env") is DeploymentEnvironment.STAGING


async def test_weaknesses_are_noticed_and_a_credential_is_a_reference(aws: FakeAws) -> None:
    run = await look(aws)
    assert noticed(run.found["tgi"]) == {
        ObservationKind.NETWORK_ISOLATION_OFF,
        ObservationKind.MUTABLE_IMAGE,
        ObservationKind.INLINE_SECRET,
    }
    assert not noticed(run.found["Fraud"])
    assert noticed(run.found["SageMaker: chat"]) == {
        ObservationKind.INVOCATION_LOGGING_OFF,
        ObservationKind.NO_CUSTOMER_KEY,
    }
    (secret,) = [one for one in run.found["tgi"].observations if one.kind is ObservationKind.INLINE_SECRET]
    assert "HF_TOKEN" in secret.detail
    assert HUGGINGFACE_TOKEN[-4:] in secret.detail
    assert HUGGINGFACE_TOKEN not in run.everything()


async def test_an_endpoint_of_components_leads_to_their_models(aws: FakeAws) -> None:
    estate = aws.estate[OWN, REGION]
    answer = estate["DescribeEndpointConfig"]
    assert isinstance(answer, dict)
    answer["ProductionVariants"] = [{"VariantName": "all"}]
    part = {
        "InferenceComponentName": "part",
        "InferenceComponentArn": f"{ARN}:inference-component/part",
        "EndpointArn": f"{ARN}:endpoint/chat",
        "EndpointName": "chat",
        "CreationTime": WHEN,
        "LastModifiedTime": WHEN,
    }
    estate["ListInferenceComponents"] = [{**part, "VariantName": "all"}]
    estate["DescribeInferenceComponent"] = {**part, "Specification": {"ModelName": "tgi"}}
    found = (await look(aws)).found
    assert links(found["SageMaker: chat"]) == {(Relation.USES_MODEL, resource(f"{ARN}:model/tgi"))}


async def test_a_refused_description_is_told_from_the_listing(aws: FakeAws) -> None:
    aws.faults.planned["DescribeModel"] = always(denied)
    run = await look(aws)
    assert {"tgi", "Fraud"} <= set(run.found)
    assert not noticed(run.found["tgi"])
    assert run.stale == {scope("list_models")}


async def test_half_of_the_pages_is_stale(aws: FakeAws) -> None:
    aws.page_size = 1
    aws.faults.planned["ListModels"] = after(1, broken)
    run = await look(aws)
    assert "tgi" in run.found
    assert "Fraud" not in run.found
    assert run.stale == {scope("list_models")}


@pytest.mark.parametrize(
    "nonsense", ["nothing", "{}", "[" * 200_000, '{"Models": 5}', '{"Models": [{}]}', '{"models": []}']
)
async def test_a_200_with_nonsense_is_a_problem(aws: FakeAws, nonsense: str) -> None:
    aws.faults.planned["ListModels"] = always(text(nonsense))
    run = await look(aws)
    assert run.stale == {scope("list_models")}


# -- moto --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def moto(unused_tcp_port_here: int) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", unused_tcp_port_here, verbose=False)
    server.start()
    # Its state is the process's, not the server's.
    urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port_here}/moto-api/reset", b"").close()
    yield f"http://127.0.0.1:{unused_tcp_port_here}"
    server.stop()


def client(service: str, url: str) -> Any:
    import aioboto3

    return aioboto3.Session(region_name=REGION).client(service, endpoint_url=url)


async def test_moto_shows_its_sagemaker(moto: str) -> None:
    async with client("sagemaker", moto) as sagemaker:
        await sagemaker.create_model(
            ModelName="fraud",
            ExecutionRoleArn=f"arn:aws:iam::{OWN}:role/sagemaker",
            PrimaryContainer={"Image": "acme/fraud:1", "ModelDataUrl": "s3://weights/fraud.tar.gz"},
            Tags=[{"Key": "team", "Value": "risk"}],
        )
        variant = {"VariantName": "v", "ModelName": "fraud", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        await sagemaker.create_endpoint_config(EndpointConfigName="fraud-1", ProductionVariants=[variant])
        await sagemaker.create_endpoint(EndpointName="fraud", EndpointConfigName="fraud-1")
    run = await Look().at(CONNECTOR, regions=[REGION], endpoint_url=moto)
    assert set(run.found) == {"fraud", "SageMaker: fraud"}
    served = {target for relation, target in links(run.found["SageMaker: fraud"]) if relation is Relation.USES_MODEL}
    assert served <= set(run.found["fraud"].identities)
    assert {scope("list_models"), scope("list_endpoints")} <= run.complete


async def test_moto_shows_its_bedrock_and_what_it_lacks_is_a_problem(moto: str) -> None:
    async with client("bedrock", moto) as made:
        await made.create_model_customization_job(
            jobName="job",
            customModelName="support-tuned",
            roleArn=f"arn:aws:iam::{OWN}:role/tuner",
            baseModelIdentifier="amazon.titan-text-express-v1",
            trainingDataConfig={"s3Uri": "s3://bucket/train"},
            outputDataConfig={"s3Uri": "s3://bucket/out"},
            hyperParameters={"epochCount": "1"},
        )
    async with client("bedrock-agent", moto) as made:
        await made.create_agent(agentName="support", agentResourceRoleArn=f"arn:aws:iam::{OWN}:role/agent")
    run = await Look().at(bedrock.CONNECTOR, regions=[REGION], endpoint_url=moto)
    assert (Relation.TRAINED_ON, "dataset:s3://bucket/train") in links(run.found["support-tuned"])
    assert scope("list_custom_models") in run.complete
    # moto lists agents and describes them, and knows nothing of their tools: so nothing is said of them this time.
    assert scope("list_agents") in run.stale
    assert {scope("list_guardrails"), scope("list_imported_models"), scope("foundation_models")} <= run.stale
