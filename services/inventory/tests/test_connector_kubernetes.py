"""A cluster through lightkube against a small API server: what serves models, what is reached from where, and what a
refusal leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from services.inventory.connectors import kubernetes
from services.inventory.connectors.kubernetes import Exposure, models_of, product_of
from services.inventory.domain.claims import Found, ObservationKind
from services.inventory.tests.servers import Looked, look, serving, settings_for
from shared.contracts.inventory import AssetType, DeploymentEnvironment, NetworkExposure, Relation

TOKEN = "hf_" + "Zk3Rv9Qm2Xw8Tn5Lp7Ys4Bd6Hf1Jc0GaEu"
LISTS = {
    "/apis/apps/v1/deployments": ("Deployment", "apps/v1"),
    "/apis/apps/v1/statefulsets": ("StatefulSet", "apps/v1"),
    "/apis/apps/v1/daemonsets": ("DaemonSet", "apps/v1"),
    "/api/v1/services": ("Service", "v1"),
    "/apis/networking.k8s.io/v1/ingresses": ("Ingress", "networking.k8s.io/v1"),
    "/apis/serving.kserve.io/v1beta1/inferenceservices": ("InferenceService", "serving.kserve.io/v1beta1"),
    "/apis/ray.io/v1/rayservices": ("RayService", "ray.io/v1"),
    "/apis/apps.nvidia.com/v1alpha1/nimservices": ("NIMService", "apps.nvidia.com/v1alpha1"),
}


def deployment(name: str, image: str, namespace: str = "prod-ai", **container: Any) -> dict[str, Any]:
    labels = {"app": name, "team": "search"}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image, **container}]},
            },
        },
    }


def service(name: str, of: str, kind: str = "ClusterIP", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "prod-ai", **metadata},
        "spec": {"type": kind, "selector": {"app": of}, "ports": [{"port": 8000}]},
    }


INGRESS = {
    "metadata": {"name": "edge", "namespace": "prod-ai"},
    "spec": {
        "tls": [{"hosts": ["llm.acme.example"]}],
        "rules": [
            {
                "host": "llm.acme.example",
                "http": {
                    "paths": [
                        {
                            "path": "/v1",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "vllm", "port": {"number": 8000}}},
                        }
                    ]
                },
            }
        ],
    },
}
ESTATE: dict[str, list[dict[str, Any]]] = {
    "Deployment": [
        deployment(
            "vllm",
            "registry.acme.example/mirror/vllm/vllm-openai:latest",
            args=["--model", "acme/tiny-7b", "--trust-remote-code"],
            env=[{"name": "HF_TOKEN", "value": TOKEN}],
        ),
        deployment("web", "nginx:1.27"),
        deployment("ollama", "ollama/ollama@sha256:" + "ab" * 32, env=[{"name": "OLLAMA_MODEL", "value": "llama3"}]),
    ],
    "StatefulSet": [deployment("qdrant", "docker.io/qdrant/qdrant:v1.15")],
    "DaemonSet": [],
    "Service": [service("vllm", "vllm"), service("qdrant", "qdrant", "LoadBalancer")],
    "Ingress": [INGRESS],
    "InferenceService": [
        {
            "metadata": {"name": "sklearn", "namespace": "research"},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "x"}, "storageUri": "s3://models/iris"}}},
            "status": {"url": "https://sklearn.research.acme.example"},
        }
    ],
    "RayService": [
        {
            "metadata": {"name": "ray", "namespace": "prod-ai"},
            "spec": {
                "serveConfigV2": json.dumps(
                    {"applications": [{"args": {"llm_configs": [{"model_loading_config": {"model_id": "acme/big"}}]}}]}
                )
            },
        }
    ],
    "NIMService": [],
}


def _failure(code: int, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return web.json_response(status, status=code)


def cluster(
    estate: dict[str, list[dict[str, Any]]], *, refused: tuple[str, ...] = (), nonsense: tuple[str, ...] = ()
) -> web.Application:
    """GET of whole lists, two entries at a time; 404 for kinds that the estate lacks."""
    page = 2

    async def listed(request: web.Request) -> web.StreamResponse:
        kind, version = LISTS.get(request.path, ("", ""))
        if kind in refused:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": 403,
                "message": f"may not list {kind}",
            }
            return web.json_response(status, status=403)
        if kind in nonsense:
            return web.json_response({"kind": "Nonsense", "items": "none"})
        if kind not in estate:
            return _failure(404, "no such kind")
        start = int(request.query.get("continue") or 0)
        entries = [{"kind": kind, "apiVersion": version, **one} for one in estate[kind][start : start + page]]
        metadata = {"continue": str(start + page)} if start + page < len(estate[kind]) else {}
        return web.json_response({"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": entries})

    app = web.Application()
    app.router.add_get("/{path:.*}", listed)
    return app


async def looked_at(app: web.Application) -> Looked:
    async with serving(app) as url:
        return await look(kubernetes.CONNECTOR, settings_for(), cluster="c1", endpoint_url=url)


def _values(one: Found, *names: str) -> tuple[Any, ...]:
    return tuple(one.value(name) for name in names)


async def test_what_serves_models_and_keeps_vectors_is_found_with_how_it_is_reached() -> None:
    looked = await looked_at(cluster(ESTATE))
    assert looked.problems == []
    shown = looked.by_name()
    assert "web (prod-ai)" not in shown
    vllm = shown["vllm (prod-ai)"]
    assert _values(vllm, "asset_type", "model_provider", "model_name", "api_endpoint", "network_exposure") == (
        AssetType.API_ENDPOINT,
        "vllm",
        "acme/tiny-7b",
        "https://llm.acme.example/v1",
        NetworkExposure.PUBLIC,
    )
    assert vllm.identities == ("url:web://llm.acme.example/v1",)
    owner = next(claim for claim in vllm.claims if claim.attribute == "owner_team")
    assert (owner.value, owner.locator) == ("search", "k8s://c1/prod-ai/deployment/vllm labels team")
    served = {link.relation: link.target for link in vllm.links}
    assert served[Relation.SERVED_BY] == "hf:acme/tiny-7b"
    assert served[Relation.EXPOSES_CREDENTIAL].startswith("key:")
    assert {one.kind for one in vllm.observations} == {
        ObservationKind.MUTABLE_IMAGE,
        ObservationKind.REMOTE_CODE,
        ObservationKind.INLINE_SECRET,
    }
    assert _values(shown["qdrant (prod-ai)"], "asset_type", "network_exposure") == (
        AssetType.VECTOR_DATABASE,
        NetworkExposure.PUBLIC,
    )
    assert shown["ollama (prod-ai)"].value("network_exposure") is NetworkExposure.INTERNAL
    assert not shown["ollama (prod-ai)"].observations, "its image is named by digest"
    assert shown["sklearn (research)"].value("deployment_env") is DeploymentEnvironment.RESEARCH
    assert "hf:acme/big" in {one.locator for one in looked.found}
    assert TOKEN not in repr((looked.found, looked.problems))
    assert len(looked.complete_scopes) == 7


async def test_a_refused_listing_is_stale_and_the_others_are_read() -> None:
    looked = await looked_at(cluster(ESTATE, refused=("Deployment",)))
    assert set(looked.stale_scopes) == {"k8s:c1:*:Deployment"}
    assert "may not list Deployment" in looked.problems[0].message
    assert "qdrant (prod-ai)" in looked.by_name()


@pytest.mark.parametrize("refused", ["Service", "Ingress"])
async def test_where_it_is_not_known_what_leads_to_workloads_they_stay_as_they_are(refused: str) -> None:
    looked = await looked_at(cluster(ESTATE, refused=(refused,)))
    assert {name.rpartition(":")[2] for name in looked.stale_scopes} == {"Deployment", "StatefulSet", "DaemonSet"}
    assert "ollama (prod-ai)" not in looked.by_name()
    assert "sklearn (research)" in looked.by_name()


async def test_names_within_a_cluster_are_no_identity_and_paths_are_no_model() -> None:
    estate: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ESTATE}
    estate["Deployment"] = [
        deployment("a", "vllm/vllm-openai:v1", args=["--model", "/mnt/models"]),
        deployment("b", "vllm/vllm-openai:v1", args=["--model", "/mnt/models"]),
        deployment("c", "vllm/vllm-openai:v1"),
        deployment("d", "vllm/vllm-openai:v1"),
    ]
    estate["Service"] = [service("a", "a")]
    looked = await looked_at(cluster(estate))
    assert not any(one.identities for one in looked.found)
    assert len(looked.found) == 6  # that none is taken for another, `look` sees to


async def test_a_listing_that_repeats_itself_ends() -> None:
    async def again(request: web.Request) -> web.StreamResponse:
        kind, version = LISTS.get(request.path, ("Deployment", "apps/v1"))
        items = [{"kind": kind, "apiVersion": version, **deployment("a", "nginx")}]
        body = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"continue": "x"}, "items": items}
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/{path:.*}", again)
    looked = await looked_at(app)
    assert not looked.complete_scopes
    assert any("no end" in problem.message for problem in looked.problems)


async def test_a_cluster_without_a_kind_holds_none_of_it() -> None:
    estate = {kind: entries for kind, entries in ESTATE.items() if kind != "RayService"}
    looked = await looked_at(cluster(estate))
    assert looked.problems == []
    assert looked.complete_scopes["k8s:c1:*:RayService"] == set()


async def test_an_answer_that_is_no_list_is_a_problem() -> None:
    looked = await looked_at(cluster(ESTATE, nonsense=("StatefulSet",)))
    assert "k8s:c1:*:StatefulSet" in looked.stale_scopes
    assert "vllm (prod-ai)" in looked.by_name()


async def test_an_entry_that_makes_no_sense_costs_only_itself() -> None:
    broken = {"metadata": {"name": "odd", "namespace": "prod-ai"}, "spec": {"serveConfigV2": "{unclosed: ["}}
    looked = await looked_at(cluster(ESTATE | {"RayService": [broken, *ESTATE["RayService"]]}))
    assert "hf:acme/big" in {one.locator for one in looked.found}


async def test_a_cluster_that_is_away_is_an_explained_partial_result() -> None:
    looked = await look(kubernetes.CONNECTOR, settings_for(), cluster="c1", endpoint_url="http://127.0.0.1:1")
    assert len(looked.stale_scopes) == 7
    assert all(problem.message for problem in looked.problems)


@pytest.mark.parametrize(
    ("image", "product"),
    [
        ("vllm/vllm-openai:v0.11", "vllm"),
        ("eu.gcr.io/acme/vllm/vllm-openai@sha256:" + "0" * 64, "vllm"),
        ("ghcr.io/huggingface/text-generation-inference:3", "text-generation-inference"),
        ("nvcr.io/nim/meta/llama-3.1-8b-instruct:latest", "nim"),
        ("localhost:5000/ollama/ollama", "ollama"),
        ("pgvector/pgvector:pg18", "pgvector"),
        ("acme/nim-game:1", None),
        ("nginx", None),
        ("", None),
    ],
)
def test_images_are_told_by_repository(image: str, product: str | None) -> None:
    assert product_of(image)[0] == product


@pytest.mark.parametrize(
    ("container", "models"),
    [
        ({"args": ["--model", "a/b"]}, ["a/b"]),
        ({"args": ["--model=a/b", "--port=1"]}, ["a/b"]),
        ({"command": ["vllm", "serve", "a/b"]}, ["a/b"]),
        ({"command": ["sh", "-c", "vllm serve a/b --max-model-len 4096"]}, ["a/b"]),
        ({"env": [{"name": "MODEL_ID", "value": "a/b"}]}, ["a/b"]),
        ({"args": ["--model"]}, []),
        ({"args": ["it's"]}, []),
        ({}, []),
    ],
)
def test_models_are_read_from_arguments_and_variables(container: dict[str, Any], models: list[str]) -> None:
    assert [name for name, _ in models_of(container, "vllm")] == models


def test_an_internal_load_balancer_is_not_public() -> None:
    notes = {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"}
    exposure = Exposure([service("x", "x", "LoadBalancer", annotations=notes)])
    assert exposure.of("prod-ai", {"app": "x"})[0] is NetworkExposure.VPC
    assert exposure.of("other", {"app": "x"})[0] is NetworkExposure.INTERNAL
