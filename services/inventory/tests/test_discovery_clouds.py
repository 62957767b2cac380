"""A run over the API looks at a cloud through the real SDK: here against moto's server."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from shared.testing import TestServer, harness

REGION = "eu-west-1"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def moto(unused_tcp_port_here: int) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", unused_tcp_port_here, verbose=False)
    server.start()
    # Its state is the process's, not the server's.
    urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port_here}/moto-api/reset", b"").close()
    yield f"http://127.0.0.1:{unused_tcp_port_here}"
    server.stop()


async def test_a_run_over_the_api_registers_what_moto_shows(moto: str, postgres: TestServer) -> None:
    import aioboto3

    async with aioboto3.Session(region_name=REGION).client("sagemaker", endpoint_url=moto) as sagemaker:
        await sagemaker.create_model(
            ModelName="fraud",
            ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
            PrimaryContainer={"Image": "acme/fraud:1", "ModelDataUrl": "s3://weights/fraud.tar.gz"},
        )
    async with harness(SERVICE, InventorySettings, postgres, discovery_endpoint_urls=True) as inventory:
        client = inventory.client("engineer")
        body = {"source": "aws_sagemaker", "options": {"regions": [REGION], "endpoint_url": moto}}
        asked = await client.post("/v1/discovery/runs", json=body)
        assert asked.status_code == 202
        await inventory.do_tasks()
        run = (await client.get(asked.headers["Location"])).json()
        assert (run["status"], run["counts"]["new"]) == ("succeeded", 1)
        (asset,) = (await client.get("/v1/assets")).json()["items"]
        assert (asset["asset_type"], asset["cloud_provider"], asset["cloud_region"]) == (
            "fine_tuned_model",
            "aws",
            REGION,
        )
