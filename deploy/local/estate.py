"""An estate to find: folders with models and code, and small servers that answer as a cluster, a registry, a vector
store and a gateway do. The demo plants it; what discovery makes of it is the platform's own work.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

COMMIT = "5f0c3a9d" * 5
_CARD = """---
license: apache-2.0
pipeline_tag: text-generation
datasets:
- acme/support-tickets
---
# Triage 7B
Sorts support tickets.
"""
_AGENT = """name: refund-agent
owner: payments
model: {model}
description: Decides about refunds up to 50 EUR and writes to the customer.
tools:
  - lookup_order
  - issue_refund
  - send_email
"""
_CODE = """from qdrant_client import QdrantClient
from transformers import AutoModelForCausalLM

store = QdrantClient(url="{store}")
model = AutoModelForCausalLM.from_pretrained("{model}")
"""


@dataclass(frozen=True, slots=True)
class Estate:
    """What was planted: the options of a discovery run by source, and the model that all of it turns around."""

    folder: str
    runs: Mapping[str, dict[str, Any]]
    model: str
    secret: str


@asynccontextmanager
async def planted(folder: Path, mark: str) -> AsyncIterator[Estate]:
    """The estate below `folder`, its servers answering while the block lasts; `mark` tells it from another's."""
    model = f"acme/triage-7b-{mark}"
    # Made up, in the form of a real key, so that it can be looked for in everything that discovery leaves behind.
    secret = "sk-proj-" + (mark * 8)[:40]
    answers: dict[str, Any] = {}
    runner = web.AppRunner(_application(answers))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        answers.update(_answers(model, mark))
        _write_models(folder / "models", model)
        _write_repository(folder / "refunds", model, f"{base}/vectors", secret)
        yield Estate(
            folder=str(folder),
            runs={
                "filesystem": {"paths": [str(folder / "models")]},
                "repository": {"paths": [str(folder / "refunds")]},
                "kubernetes": {"cluster": f"demo-{mark}", "endpoint_url": f"{base}/cluster"},
                "openai_compatible": {"urls": [f"{base}/gateway/v1"]},
                "mlflow": {"urls": [f"{base}/mlflow"]},
                "vector_store": {"urls": [f"{base}/vectors"]},
            },
            model=model,
            secret=secret,
        )
    finally:
        await runner.cleanup()


def _application(answers: Mapping[str, Any]) -> web.Application:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path not in answers:
            return web.json_response({"kind": "Status", "status": "Failure", "code": 404}, status=404)
        return web.json_response(answers[request.path])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def _answers(model: str, mark: str) -> dict[str, Any]:
    labels = {"app": "triage", "team": "support-platform"}
    container = {"name": "vllm", "image": "vllm/vllm-openai:latest", "args": ["--model", model, "--trust-remote-code"]}
    workload = {
        "metadata": {"name": f"triage-{mark}", "namespace": "prod-support", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    service = {
        "metadata": {"name": f"triage-{mark}", "namespace": "prod-support"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "triage"}, "ports": [{"port": 8000}]},
    }

    def listing(kind: str, version: str, *items: dict[str, Any]) -> dict[str, Any]:
        shown = [{"apiVersion": version, "kind": kind, **item} for item in items]
        return {"apiVersion": version, "kind": f"{kind}List", "metadata": {}, "items": shown}

    registry = "/mlflow/api/2.0/mlflow"
    return {
        "/cluster/apis/apps/v1/deployments": listing("Deployment", "apps/v1", workload),
        "/cluster/apis/apps/v1/statefulsets": listing("StatefulSet", "apps/v1"),
        "/cluster/apis/apps/v1/daemonsets": listing("DaemonSet", "apps/v1"),
        "/cluster/api/v1/services": listing("Service", "v1", service),
        "/cluster/apis/networking.k8s.io/v1/ingresses": listing("Ingress", "networking.k8s.io/v1"),
        "/gateway/v1/models": {
            "object": "list",
            "data": [{"id": "triage", "object": "model", "owned_by": "vllm", "root": model}],
        },
        f"{registry}/registered-models/search": {
            "registered_models": [{"name": f"ticket-router-{mark}", "tags": [{"key": "team", "value": "data-science"}]}]
        },
        f"{registry}/model-versions/search": {
            "model_versions": [
                {
                    "name": f"ticket-router-{mark}",
                    "version": "3",
                    "source": f"s3://acme-models/ticket-router-{mark}/3",
                    "tags": [{"key": "base_model", "value": model}, {"key": "license", "value": "proprietary"}],
                }
            ]
        },
        "/vectors/collections": {"result": {"collections": [{"name": f"tickets-{mark}"}]}, "status": "ok"},
        f"/vectors/collections/tickets-{mark}": {
            "result": {"points_count": 48_210, "config": {"params": {"vectors": {"size": 384, "distance": "Cosine"}}}}
        },
    }


def _write_models(folder: Path, model: str) -> None:
    """A Hugging Face cache with one snapshot, its weights a safetensors file of four numbers."""
    repository = folder / "hub" / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    (snapshot / "README.md").write_text(_CARD)
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (snapshot / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


def _write_repository(folder: Path, model: str, store: str, secret: str) -> None:
    """A repository with an agent's definition, its code, and a client configuration that holds a key."""
    (folder / ".git").mkdir(parents=True, exist_ok=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents" / "refund_agent.yaml").write_text(_AGENT.format(model=model))
    (folder / "app.py").write_text(_CODE.format(store=store, model=model))
    server = {"command": "npx", "args": ["-y", "mcp-orders"], "env": {"ORDERS_API_KEY": secret}}
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": {"orders": server}}, indent=2))
