"""Bedrock and Azure OpenAI through their real SDKs: against moto's server where it has the call, else against small
servers that answer as the platforms' API descriptions say."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken, AccessTokenInfo
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from services.inventory.connectors import aws_bedrock, azure_openai
from services.inventory.domain.discovery import RunStatus
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from shared.testing import TestServer, harness

REGION = "eu-west-1"
ACCOUNT = "123456789012"


@pytest.fixture
def settings() -> InventorySettings:
    return InventorySettings(
        database_url=SecretStr("postgresql://nowhere/x"),
        trust_file=Path("trust.json"),
        cursor_secret=SecretStr("a secret of tests only"),
        discovery_endpoint_urls=True,
    )


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def moto() -> Iterator[str]:
    port = _free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    # Its state is the process's, not the server's.
    urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/reset", b"").close()
    yield f"http://127.0.0.1:{port}"
    server.stop()


async def _tune_a_model(url: str) -> None:
    import aioboto3

    async with aioboto3.Session(region_name=REGION).client("bedrock", endpoint_url=url) as bedrock:
        await bedrock.create_model_customization_job(
            jobName="job",
            customModelName="support-tuned",
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/tuner",
            baseModelIdentifier="amazon.titan-text-express-v1",
            trainingDataConfig={"s3Uri": "s3://bucket/train"},
            outputDataConfig={"s3Uri": "s3://bucket/out"},
            hyperParameters={"epochCount": "1"},
        )


async def test_moto_shows_its_custom_models_and_what_it_lacks_is_a_problem(
    moto: str, settings: InventorySettings
) -> None:
    await _tune_a_model(moto)
    found = await aws_bedrock.discover(aws_bedrock.Options(region=REGION, endpoint_url=moto), settings)
    assert [item.declared["name"] for _, item in found.found] == ["support-tuned"]
    assert found.status is RunStatus.PARTIAL
    assert [problem.where for problem in found.problems] == ["bedrock list_provisioned_model_throughputs"]
    assert found.complete == [f"aws:{ACCOUNT}:{REGION}:list_custom_models"]
    assert "not-a-real-secret" not in str(found)


async def test_a_run_over_the_api_registers_what_moto_shows(moto: str, postgres: TestServer) -> None:
    await _tune_a_model(moto)
    async with harness(SERVICE, InventorySettings, postgres, discovery_endpoint_urls=True) as inventory:
        client = inventory.client("engineer")
        body = {"source": "aws_bedrock", "options": {"region": REGION, "endpoint_url": moto}}
        asked = await client.post("/v1/discovery/runs", json=body)
        assert asked.status_code == 202
        await inventory.do_tasks()
        run = (await client.get(asked.headers["Location"])).json()
        assert (run["status"], run["counts"]["new"], len(run["problems"])) == ("partial", 1, 1)
        (asset,) = (await client.get("/v1/assets")).json()["items"]
        assert (asset["asset_type"], asset["cloud_provider"], asset["cloud_region"]) == (
            "fine_tuned_model",
            "aws",
            REGION,
        )


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def _paged(items: list[dict[str, Any]], key: str, request: web.Request, size: int = 2) -> web.Response:
    start = int(request.query.get("nextToken", "0"))
    body: dict[str, Any] = {key: items[start : start + size]}
    if start + size < len(items):
        body["nextToken"] = str(start + size)
    return web.json_response(body)


def bedrock(*, models: int, throughputs: int, denied: frozenset[str] = frozenset()) -> web.Application:
    """GET /custom-models and /provisioned-model-throughputs, paged two by two; POST / is STS GetCallerIdentity."""
    arn = f"arn:aws:bedrock:{REGION}:{ACCOUNT}"
    when = "2026-01-01T00:00:00Z"

    def refuse(call: str) -> web.Response | None:
        if call not in denied:
            return None
        return web.json_response(
            {"message": f"not authorized to perform bedrock:{call}"},
            status=403,
            headers={"x-amzn-ErrorType": "AccessDeniedException"},
        )

    async def custom_models(request: web.Request) -> web.Response:
        items = [
            {
                "modelArn": f"{arn}:custom-model/{n}",
                "modelName": f"tuned-{n}",
                "creationTime": when,
                "baseModelArn": f"arn:aws:bedrock:{REGION}::foundation-model/titan",
                "baseModelName": "Titan",
            }
            for n in range(models)
        ]
        return refuse("ListCustomModels") or _paged(items, "modelSummaries", request)

    async def provisioned(request: web.Request) -> web.Response:
        items = [
            {
                "provisionedModelName": f"capacity-{n}",
                "provisionedModelArn": f"{arn}:provisioned-model/{n}",
                "modelArn": f"arn:aws:bedrock:{REGION}::foundation-model/titan",
                "desiredModelArn": f"arn:aws:bedrock:{REGION}::foundation-model/titan",
                "foundationModelArn": f"arn:aws:bedrock:{REGION}::foundation-model/titan",
                "modelUnits": 1,
                "desiredModelUnits": 1,
                "status": "InService",
                "creationTime": when,
                "lastModifiedTime": when,
            }
            for n in range(throughputs)
        ]
        return refuse("ListProvisionedModelThroughputs") or _paged(items, "provisionedModelSummaries", request)

    async def identity(_: web.Request) -> web.Response:
        body = (
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
            f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/x/y</Arn><UserId>x</UserId><Account>{ACCOUNT}</Account>"
            "</GetCallerIdentityResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
            "</GetCallerIdentityResponse>"
        )
        return web.Response(text=body, content_type="text/xml")

    app = web.Application()
    app.router.add_get("/custom-models", custom_models)
    app.router.add_get("/provisioned-model-throughputs", provisioned)
    app.router.add_post("/", identity)
    return app


async def test_all_pages_of_both_bedrock_listings_are_read(settings: InventorySettings) -> None:
    async with serving(bedrock(models=5, throughputs=3)) as url:
        found = await aws_bedrock.discover(aws_bedrock.Options(region=REGION, endpoint_url=url), settings)
    names = [item.declared["name"] for _, item in found.found]
    assert names == [f"tuned-{n}" for n in range(5)] + [f"Provisioned: capacity-{n}" for n in range(3)]
    assert (found.status, len(found.complete)) == (RunStatus.SUCCEEDED, 2)


async def test_a_refused_bedrock_call_is_a_problem_and_the_other_goes_on(settings: InventorySettings) -> None:
    async with serving(bedrock(models=1, throughputs=1, denied=frozenset({"ListCustomModels"}))) as url:
        found = await aws_bedrock.discover(aws_bedrock.Options(region=REGION, endpoint_url=url), settings)
    assert [item.declared["name"] for _, item in found.found] == ["Provisioned: capacity-0"]
    assert found.status is RunStatus.PARTIAL
    assert "AccessDenied" in found.problems[0].message


async def test_an_unreachable_cloud_is_a_failed_run(settings: InventorySettings) -> None:
    url = f"http://127.0.0.1:{_free_port()}"
    found = await aws_bedrock.discover(aws_bedrock.Options(region=REGION, endpoint_url=url), settings)
    assert (found.status, found.found, found.complete) == (RunStatus.FAILED, [], [])
    assert len(found.problems) == 3


class Identity:
    """A credential that has a token without asking anybody."""

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken("a-token-of-tests", 4_000_000_000)

    async def get_token_info(self, *scopes: str, **_: Any) -> AccessTokenInfo:
        return AccessTokenInfo("a-token-of-tests", 4_000_000_000)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Nothing is open."""


SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"


def azure(*, denied: str = "") -> web.Application:
    """The two listings of Microsoft.CognitiveServices, accounts on two pages, one account of another kind."""
    base = f"/subscriptions/{SUBSCRIPTION}"
    provider = "providers/Microsoft.CognitiveServices/accounts"

    def account(name: str, kind: str) -> dict[str, Any]:
        return {
            "id": f"{base}/resourceGroups/ai/{provider}/{name}",
            "name": name,
            "kind": kind,
            "location": "swedencentral",
            "properties": {"endpoint": f"https://{name}.openai.azure.com/"},
        }

    async def accounts(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer a-token-of-tests"
        if request.query.get("page") == "2":
            return web.json_response({"value": [account("speech", "SpeechServices"), account("two", "AIServices")]})
        more = f"{request.url.origin()}{request.path}?page=2"
        return web.json_response({"value": [account("one", "OpenAI")], "nextLink": more})

    async def deployments(request: web.Request) -> web.Response:
        name = request.match_info["account"]
        if name == denied:
            return web.json_response({"error": {"code": "AuthorizationFailed", "message": "no"}}, status=403)
        value = [
            {
                "id": f"{base}/resourceGroups/ai/{provider}/{name}/deployments/{deployment}",
                "name": deployment,
                "properties": {"model": {"format": "OpenAI", "name": "gpt-4o", "version": "2024-11-20"}},
            }
            for deployment in ("chat", "batch")
        ]
        return web.json_response({"value": value})

    app = web.Application()
    app.router.add_get(f"{base}/{provider}", accounts)
    app.router.add_get(f"{base}/resourceGroups/ai/{provider}/{{account}}/deployments", deployments)
    return app


async def test_the_deployments_of_all_openai_accounts_are_found(settings: InventorySettings) -> None:
    async with serving(azure()) as url:
        options = azure_openai.Options(subscription_id=SUBSCRIPTION, endpoint_url=url)
        found = await azure_openai.discover(options, settings, Identity())
    assert found.problems == []
    shown = [(item.declared["name"], item.declared["api_endpoint"]) for _, item in found.found]
    assert shown == [
        (f"Azure OpenAI: {deployment}", f"https://{account}.openai.azure.com/openai/deployments/{deployment}")
        for account in ("one", "two")
        for deployment in ("chat", "batch")
    ]
    first = found.found[0][1].declared
    assert (first["model_name"], first["model_version"], first["cloud_region"]) == (
        "gpt-4o",
        "2024-11-20",
        "swedencentral",
    )
    assert (found.status, found.complete) == (RunStatus.SUCCEEDED, [f"azure:{SUBSCRIPTION}"])


async def test_an_account_that_refuses_is_a_problem_and_nothing_counts_as_gone(settings: InventorySettings) -> None:
    async with serving(azure(denied="one")) as url:
        options = azure_openai.Options(subscription_id=SUBSCRIPTION, endpoint_url=url)
        found = await azure_openai.discover(options, settings, Identity())
    assert [item.declared["name"] for _, item in found.found] == ["Azure OpenAI: chat", "Azure OpenAI: batch"]
    assert (found.status, found.complete) == (RunStatus.PARTIAL, [])
    assert found.problems[0].where == "deployments of one"
