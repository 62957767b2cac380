"""Gateways, registries and vector stores: what they show, and what they answer when something is wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from services.inventory.connectors import mlflow, openai_compatible, vector_store
from services.inventory.connectors import web as asking_web
from services.inventory.domain.claims import Link, ObservationKind
from services.inventory.main import SERVICE
from services.inventory.tests.servers import answering, look, serving, settings_for
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, Relation
from shared.errors import Invalid
from shared.testing import TestServer

TOKEN = "tok-4fJ9q2Lm8Xz7Rv1Bn6Kc"
VLLM = {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "vllm", "root": "acme/tiny-7b"}]}


async def test_a_vllm_server_shows_an_endpoint_and_the_model_behind_it() -> None:
    async with serving(answering({"GET /v1/models": VLLM}, token=TOKEN)) as url:
        settings = settings_for(gpu=(f"{url}/v1", {"Authorization": f"Bearer {TOKEN}"}))
        looked = await look(openai_compatible.CONNECTOR, settings, targets=["gpu"])
    model, endpoint = looked.found
    assert (model.locator, model.value("model_name")) == ("hf:acme/tiny-7b", "acme/tiny-7b")
    assert (endpoint.value("asset_type"), endpoint.value("model_provider")) == (AssetType.API_ENDPOINT, "vllm")
    assert endpoint.links == (Link(Relation.SERVED_BY, "hf:acme/tiny-7b", f"{url}/v1/models#tiny", reverse=True),)
    assert [one.kind for one in endpoint.observations] == [ObservationKind.PLAIN_HTTP]
    assert list(looked.complete_scopes) == [f"gpu: {url}/v1/models"]
    assert TOKEN not in repr((looked.found, looked.problems))


async def test_a_server_that_asks_for_no_key_is_noticed() -> None:
    async with serving(answering({"GET /v1/models": VLLM})) as url:
        looked = await look(openai_compatible.CONNECTOR, settings_for(), urls=[f"{url}/v1"])
    kinds = {one.kind for found in looked.found for one in found.observations}
    assert ObservationKind.NO_AUTHENTICATION in kinds


async def test_litellm_names_stand_for_providers_models() -> None:
    answers = {
        "GET /models": {"data": [{"id": "fast", "owned_by": "openai"}, {"id": "smart", "owned_by": "openai"}]},
        "GET /model/info": {
            "data": [
                {"model_name": "fast", "litellm_params": {"model": "anthropic/claude-3-haiku"}},
                {"model_name": "smart", "litellm_params": {"model": "openai/gpt-4o", "api_key": f"sk-{TOKEN}"}},
            ]
        },
    }
    async with serving(answering(answers)) as url:
        looked = await look(openai_compatible.CONNECTOR, settings_for(), urls=[url])
    assert {"model:anthropic/claude-3-haiku", "model:openai/gpt-4o"} <= {one.locator for one in looked.found}
    assert {one.value("model_provider") for one in looked.found if one.links} == {"litellm"}
    assert TOKEN not in repr(looked.found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"data": "soon"}, "no list of objects"),
        ({"models": []}, "no list of objects"),
        (["x"], "no list of objects"),
        (None, "404"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_no_empty_list(answer: Any, said: str) -> None:
    async with serving(answering({} if answer is None else {"GET /models": answer})) as url:
        looked = await look(openai_compatible.CONNECTOR, settings_for(), urls=[url])
    assert not looked.complete_scopes
    assert said in looked.problems[0].message


async def test_a_wrong_key_a_redirect_and_a_server_that_is_away_are_told() -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    async with serving(answering({"GET /models": VLLM}, token=TOKEN)) as url:
        settings = settings_for(x=(url, {"Authorization": "Bearer expired-Zk3Rv9Qm2Xw8"}))
        refused = await look(openai_compatible.CONNECTOR, settings, targets=["x"])
    assert "401" in refused.problems[0].message
    assert "expired-Zk3Rv9Qm2Xw8" not in repr(refused.problems)
    async with serving(answering({"GET /models": elsewhere})) as url:
        led_away = await look(openai_compatible.CONNECTOR, settings_for(), urls=[url])
    assert "redirects" in led_away.problems[0].message
    away = await look(openai_compatible.CONNECTOR, settings_for(), urls=[url])
    assert "Connect" in away.problems[0].message
    assert not (refused.complete_scopes or led_away.complete_scopes or away.complete_scopes)


async def test_a_server_that_is_busy_is_asked_again() -> None:
    calls = 0

    async def busy(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls < 3:
            return web.json_response({}, status=429, headers={"Retry-After": "0.01"})
        return web.json_response(VLLM)

    async with serving(answering({"GET /models": busy})) as url:
        looked = await look(openai_compatible.CONNECTOR, settings_for(), urls=[url])
    assert (calls, len(looked.found), looked.problems) == (3, 2, [])


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_web, "ANSWER_LIMIT_BYTES", 100_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"[" * 10_000)
        except (ConnectionResetError, asyncio.CancelledError):
            return response

    async with serving(answering({"GET /models": endless})) as url:
        looked = await look(openai_compatible.CONNECTOR, settings_for(), urls=[url])
    assert "larger than" in looked.problems[0].message


def test_a_run_names_targets_and_addresses_only_where_that_is_allowed() -> None:
    options = openai_compatible.Options(targets=("nowhere",))
    with pytest.raises(Invalid) as unknown:
        openai_compatible.CONNECTOR.check(options, settings_for())
    assert unknown.value.extra["errors"][0]["field"] == "/options/targets/0"
    closed = settings_for().model_copy(update={"discovery_endpoint_urls": False})
    with pytest.raises(Invalid) as refused:
        openai_compatible.CONNECTOR.check(openai_compatible.Options(urls=("http://x.example",)), closed)
    assert refused.value.extra["errors"][0]["field"] == "/options/urls/0"
    with pytest.raises(Invalid):
        openai_compatible.CONNECTOR.check(openai_compatible.Options(), settings_for())
    for url in ("file:///etc/passwd", "http://[::1", "http://h:99999999", "http://u:secret@h/v1", "http://h/v1?key=x"):
        with pytest.raises(Invalid):
            openai_compatible.CONNECTOR.check(openai_compatible.Options(urls=(url,)), settings_for())


# -- MLflow -----------------------------------------------------------------------------------------------------------


def _mlflow(**changed: Any) -> dict[str, Any]:
    async def models(request: web.Request) -> web.StreamResponse:
        page = request.query.get("page_token")
        shown = {"registered_models": [{"name": f"m{page or ''}", "tags": [{"key": "team", "value": "claims"}]}]}
        return web.json_response(shown if page else shown | {"next_page_token": "2"})

    async def versions(request: web.Request) -> web.StreamResponse:
        name = request.query["filter"].removeprefix("name='").rstrip("'")
        shown = [
            {"name": name, "version": "1", "current_stage": "Production", "source": "s3://b/1", "run_id": "r1"},
            {
                "name": name,
                "version": "2",
                "source": "s3://b/2",
                "tags": [
                    {"key": "base_model", "value": "acme/tiny"},
                    {"key": "license", "value": "apache-2.0"},
                    {"key": "data_classification", "value": "Restricted"},
                ],
            },
        ]
        return web.json_response({"model_versions": shown})

    base = "GET /api/2.0/mlflow"
    return {
        f"{base}/registered-models/search": models,
        f"{base}/model-versions/search": versions,
        f"{base}/runs/get": {
            "run": {
                "inputs": {"dataset_inputs": [{"dataset": {"name": "claims-2025", "digest": "abc"}}]},
                "data": {"metrics": [{"key": "f1", "value": 0.9}]},
            }
        },
    } | changed


async def test_a_registry_is_read_page_by_page_with_what_models_were_made_from() -> None:
    async with serving(answering(_mlflow())) as url:
        looked = await look(mlflow.CONNECTOR, settings_for(), urls=[url])
    assert looked.problems == []
    shown = looked.by_name()
    assert set(shown) == {"MLflow: m", "MLflow: m2", "claims-2025"}
    model = shown["MLflow: m"]
    assert (model.value("model_version"), model.value("owner_team")) == ("1", "claims")
    assert model.value("deployment_env") is DeploymentEnvironment.PRODUCTION
    assert [(link.relation, link.target) for link in model.links] == [
        (Relation.TRAINED_ON, "dataset:mlflow://claims-2025@abc")
    ]
    assert model.card == {"metrics": [{"name": "f1", "value": 0.9}], "tags": {"team": "claims"}}


def test_the_version_that_counts_is_the_serving_alias_then_production_then_the_newest() -> None:
    versions = [{"version": "1", "current_stage": "Production"}, {"version": "2"}, {"version": "10"}]
    assert mlflow.chosen({"aliases": [{"alias": "Champion", "version": "2"}]}, versions) == versions[1]
    assert mlflow.chosen({}, versions) == versions[0]
    assert mlflow.chosen({}, versions[1:]) == versions[2]
    assert mlflow.chosen({}, []) is None
    (made,) = mlflow.registered_model(
        {"name": "m"},
        [
            {
                "version": "3",
                "tags": [{"key": "base_model", "value": "a/b"}, {"key": "data_classification", "value": "PUBLIC"}],
            }
        ],
        None,
        "http://x",
    )
    assert made.value("asset_type") is AssetType.FINE_TUNED_MODEL
    assert made.value("data_classification") is DataClassification.PUBLIC
    assert [(link.relation, link.target) for link in made.links] == [(Relation.FINE_TUNED_FROM, "hf:a/b")]


async def test_a_registry_that_breaks_off_is_partial() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        return web.json_response({"registered_models": [{"name": "again"}], "next_page_token": "x"})

    async with serving(answering(_mlflow(**{"GET /api/2.0/mlflow/registered-models/search": endless}))) as url:
        looked = await look(mlflow.CONNECTOR, settings_for(), urls=[url])
    assert "no end" in looked.problems[0].message
    assert not looked.complete_scopes
    no_versions = _mlflow()
    del no_versions["GET /api/2.0/mlflow/model-versions/search"]
    async with serving(answering(no_versions)) as url:
        looked = await look(mlflow.CONNECTOR, settings_for(), urls=[url])
    assert {str(one.value("name")) for one in looked.found} == {"MLflow: m", "MLflow: m2"}
    assert not looked.complete_scopes
    assert "versions of m" in looked.problems[0].where


async def test_a_page_without_models_is_no_registry_and_nonsense_costs_only_itself() -> None:
    search = "GET /api/2.0/mlflow/registered-models/search"
    async with serving(answering(_mlflow(**{search: {"message": "please log in"}}))) as url:
        looked = await look(mlflow.CONNECTOR, settings_for(), urls=[url])
    assert not looked.complete_scopes
    odd = {"registered_models": [{"name": "odd", "tags": 5}, {"name": "good"}]}
    async with serving(answering(_mlflow(**{search: odd}))) as url:
        looked = await look(mlflow.CONNECTOR, settings_for(), urls=[url])
    assert "MLflow: good" in looked.by_name()
    assert "makes no sense" in looked.problems[0].message
    assert not looked.complete_scopes


# -- vector stores ----------------------------------------------------------------------------------------------------

QDRANT = {
    "GET /": {"title": "qdrant", "version": "1.15.0"},
    "GET /collections": {"result": {"collections": [{"name": "docs"}, {"name": "many"}]}, "status": "ok"},
    "GET /collections/docs": {
        "result": {"points_count": 7, "config": {"params": {"vectors": {"size": 384, "distance": "Cosine"}}}}
    },
    "GET /collections/many": {
        "result": {"points_count": 1, "config": {"params": {"vectors": {"a": {"size": 4, "distance": "Dot"}}}}}
    },
}
WEAVIATE = {
    "GET /v1/meta": {"version": "1.31.0", "modules": {}},
    "GET /v1/schema": {
        "classes": [
            {
                "class": "Claim",
                "vectorizer": "text2vec-openai",
                "moduleConfig": {"text2vec-openai": {"model": "text-embedding-3-small"}},
                "properties": [{}],
            }
        ]
    },
}


async def _milvus_describe(request: web.Request) -> web.StreamResponse:
    assert (await request.json())["collectionName"] == "docs"
    fields = [{"name": "v", "type": "FloatVector", "params": [{"key": "dim", "value": "768"}]}]
    return web.json_response({"code": 0, "data": {"fields": fields}})


MILVUS = {
    "POST /v2/vectordb/collections/list": {"code": 0, "data": ["docs"]},
    "POST /v2/vectordb/collections/describe": _milvus_describe,
}


@pytest.mark.parametrize(
    ("answers", "product", "names"),
    [
        (QDRANT, "Qdrant", {"docs (Qdrant)", "many (Qdrant)"}),
        (WEAVIATE, "Weaviate", {"Claim (Weaviate)", "openai/text-embedding-3-small"}),
        (MILVUS, "Milvus", {"docs (Milvus)"}),
    ],
)
async def test_each_store_is_recognised_and_read(answers: dict[str, Any], product: str, names: set[str]) -> None:
    async with serving(answering(answers, token=TOKEN)) as url:
        settings = settings_for(x=(url, {"Authorization": f"Bearer {TOKEN}"}))
        looked = await look(vector_store.CONNECTOR, settings, targets=["x"])
    assert looked.problems == []
    host = url.removeprefix("http://")
    assert set(looked.by_name()) == {f"{product} at {host}"} | names
    for one in looked.found:
        if one.value("name") in names and one.value("asset_type") is AssetType.VECTOR_DATABASE:
            assert one.links[0] == Link(Relation.DEPLOYED_IN, url, one.locator)


async def test_what_is_no_vector_store_says_what_each_answered() -> None:
    async with serving(answering({"GET /": {"hello": "world"}})) as url:
        looked = await look(vector_store.CONNECTOR, settings_for(), urls=[url])
    assert not looked.found
    assert "none of the vector stores" in looked.problems[0].message


async def test_pgvector_is_read_from_the_catalogue_and_a_database_without_it_says_so(postgres: TestServer) -> None:
    settings = settings_for(pg=(await postgres.database("inventory", SERVICE.directory / "migrations"), {}))
    looked = await look(vector_store.CONNECTOR, settings, targets=["pg"])
    assert not looked.found
    assert looked.problems[0].message == "this database has no pgvector"
    password = "Zk3Rv9Qm2Xw8Tn5"
    wrong = settings_for(pg=(f"postgresql://nobody:{password}@127.0.0.1:1/none", {}))
    refused = await look(vector_store.CONNECTOR, wrong, targets=["pg"])
    assert refused.problems
    assert password not in repr((refused.problems, refused.stale_scopes))
