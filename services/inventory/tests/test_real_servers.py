"""Connectors against the products themselves, started from their packages: `make test-servers`.

They stand in an environment of their own, because what they pin is not what we pin; it takes a gigabyte, so the suite
that runs at every change leaves them out.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.inventory.connectors import mlflow, vector_store
from services.inventory.tests.servers import look, settings_for

pytestmark = pytest.mark.servers
BIN = Path(__file__).resolve().parents[3] / ".venv-servers" / "bin"
START_SECONDS = 180.0


def _started(folder: Path, health: str, *command: str) -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:], "--port", str(port)], stdout=log, stderr=log, cwd=folder
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(base + health, timeout=2).raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "log").read_text()[-2_000:])
                time.sleep(0.5)
        yield base
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[str]:
    yield from _started(
        tmp_path, "/api/v2/heartbeat", "chroma", "run", "--path", str(tmp_path / "data"), "--host", "127.0.0.1"
    )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    yield from _started(
        tmp_path, "/health", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--backend-store-uri", store
    )


def _post(url: str, body: dict[str, object]) -> Any:
    answer = httpx.post(url, json=body)
    answer.raise_for_status()
    return answer.json()


async def test_chroma_shows_its_collections_and_what_embeds_into_them(chroma: str) -> None:
    below = f"{chroma}/api/v2/tenants/default_tenant/databases/default_database/collections"
    settings = {"model_name": "text-embedding-3-small", "api_key_env_var": "K"}
    function = {"type": "known", "name": "openai", "config": settings}
    for number in range(3):
        _post(below, {"name": f"docs-{number}", "configuration": {"embedding_function": function}})
    looked = await look(vector_store.CONNECTOR, settings_for(), urls=[chroma])
    assert looked.problems == []
    names = set(looked.by_name())
    assert {"docs-0 (Chroma)", "docs-1 (Chroma)", "docs-2 (Chroma)", "openai/text-embedding-3-small"} <= names
    assert list(looked.complete_scopes) == [f"{chroma} collections"]


async def test_mlflow_shows_the_version_in_use_its_base_and_its_datasets(registry: str) -> None:
    api = f"{registry}/api/2.0/mlflow"

    def post(path: str, **body: object) -> Any:
        return _post(f"{api}/{path}", body)

    run = post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    dataset = {"name": "claims-2025", "digest": "abc", "source_type": "local", "source": "{}"}
    post("runs/log-inputs", run_id=run, datasets=[{"dataset": dataset, "tags": []}])
    post("runs/log-metric", run_id=run, key="f1", value=0.9, timestamp=1)
    for name in ("fraud", "triage"):
        post("registered-models/create", name=name, tags=[{"key": "team", "value": "claims"}])
        tags = [{"key": "base_model", "value": "acme/tiny"}]
        post("model-versions/create", name=name, source="s3://b/1", run_id=run, tags=tags)
        post("model-versions/create", name=name, source="s3://b/2")
        post("registered-models/alias", name=name, alias="champion", version="1")
    looked = await look(mlflow.CONNECTOR, settings_for(), urls=[registry])
    assert looked.problems == []
    model = looked.by_name()["MLflow: fraud"]
    assert (model.value("model_version"), model.value("owner_team")) == ("1", "claims")
    assert {link.target for link in model.links} == {"hf:acme/tiny", "dataset:mlflow://claims-2025@abc"}
    assert "MLflow: triage" in looked.by_name()
