"""Vector stores: Qdrant, Weaviate, Chroma and Milvus over HTTP, pgvector over SQL.

What answers is found out by asking: each product has a path of its own that the others lack.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg

from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.connectors.web import (
    TIMEOUT_SECONDS,
    Api,
    PlatformError,
    Target,
    Targets,
    ask_each,
    check_targets,
    listed,
    text,
)
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.contracts.inventory import AssetType, DeploymentEnvironment, Relation

CHROMA_PAGE = 100
_SCHEMES = ("http", "https", "postgresql", "postgres")


# The last four are what an answer of another form than the product's own makes of the reading of it.
_FAILURES = (PlatformError, KeyError, TypeError, AttributeError, ValueError)


class Options(Targets):
    """Which stores to ask; an address is the server's root, or postgresql://host/database for pgvector."""


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection, class or table of vectors.

    Attributes:
        path: where it is below the store's address.
        described: its dimensions and distance, for people; no counts, which differ at every look.
        model: provider and name of the model that makes its vectors, where the store says so.
    """

    name: str
    path: str
    described: str
    model: tuple[str, str] | None = None


def store_found(product: str, version: str | None, base: str, *, open_to_all: bool) -> Found:
    """The store itself."""
    observations = []
    if open_to_all:
        observations.append(
            Observation(ObservationKind.NO_AUTHENTICATION, Severity.HIGH, "it shows its collections to anybody", base)
        )
    if base.startswith("http://"):
        observations.append(
            Observation(ObservationKind.PLAIN_HTTP, Severity.MEDIUM, "vectors and keys travel unencrypted", base)
        )
    made = found(
        base,
        name=f"{product} at {urlsplit(base).netloc}",
        asset_type=AssetType.VECTOR_DATABASE,
        model_provider=product.lower(),
        model_version=version,
        api_endpoint=base,
        is_self_hosted=True,
        deployment_env=DeploymentEnvironment.PRODUCTION,
    )
    address = identity.endpoint(base)
    return replace(made, identities=(address,) if address else (), observations=tuple(observations))


def collection_found(product: str, collection: Collection, base: str) -> list[Found]:
    """A collection, and the model that embeds into it where that is known."""
    at = f"{base}{collection.path}"
    links = [Link(Relation.DEPLOYED_IN, base, at)]
    made = []
    if collection.model is not None:
        provider, model = collection.model
        key = identity.hosted_model(provider, model)
        embeds = found(
            key,
            name=f"{provider}/{model}",
            asset_type=AssetType.EMBEDDING_MODEL,
            model_provider=provider,
            model_name=model,
            deployment_env=DeploymentEnvironment.PRODUCTION,
        )
        made.append(replace(embeds, identities=(key,)))
        links.append(Link(Relation.EMBEDS_INTO, key, at, reverse=True))
    shown = found(
        at,
        name=f"{collection.name} ({product})",
        asset_type=AssetType.VECTOR_DATABASE,
        description=collection.described,
        api_endpoint=at,
        is_self_hosted=True,
        deployment_env=DeploymentEnvironment.PRODUCTION,
    )
    address = identity.endpoint(at)
    return [*made, replace(shown, identities=(address,) if address else (), links=tuple(links))]


# -- the products -----------------------------------------------------------------------------------------------------


async def _qdrant(api: Api) -> AsyncIterator[Collection]:
    for entry in listed(await api.get("/collections"), "result", "collections"):
        name = str(entry["name"])
        path = f"/collections/{quote(name, safe='')}"
        answer = await api.get(path)
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict):
            raise PlatformError(f"{path}: its answer has no result")
        vectors = _at(result, "config", "params", "vectors") or {}
        # One vector a point is {size, distance}; several are that by name.
        kinds = [vectors] if "size" in vectors else [one for one in vectors.values() if isinstance(one, dict)]
        sizes = ", ".join(f"{one.get('size')} dimensions, {one.get('distance')}" for one in kinds)
        yield Collection(name, path, sizes or "no vectors")


async def _weaviate(api: Api) -> AsyncIterator[Collection]:
    for entry in listed(await api.get("/v1/schema"), "classes"):
        name = str(entry["class"])
        vectorizer = text(entry, "vectorizer") or "none"
        settings = _at(entry, "moduleConfig", vectorizer) or {}
        model = text(settings, "model", "modelVersion", "deploymentId") if isinstance(settings, dict) else None
        provider = vectorizer.removeprefix("text2vec-").removeprefix("multi2vec-")
        yield Collection(
            name,
            f"/v1/schema/{quote(name, safe='')}",
            f"vectorizer {vectorizer}; {len(entry.get('properties') or ())} properties",
            (provider, model) if model and vectorizer != "none" else None,
        )


async def _chroma(api: Api) -> AsyncIterator[Collection]:
    who = await api.get("/api/v2/auth/identity")
    tenant = (text(who, "tenant") if isinstance(who, dict) else None) or "default_tenant"
    tenant = "default_tenant" if tenant == "*" else tenant
    for database in listed(await api.get(f"/api/v2/tenants/{quote(tenant, safe='')}/databases")):
        below = (
            f"/api/v2/tenants/{quote(tenant, safe='')}/databases/{quote(str(database['name']), safe='')}/collections"
        )
        start = 0
        shown: set[str] = set()
        while True:
            entries = listed(await api.get(below, {"limit": CHROMA_PAGE, "offset": start}))
            before = len(shown)
            shown.update(str(entry["id"]) for entry in entries)
            if entries and len(shown) == before:
                raise PlatformError("it shows the same page again, so its listing has no end")
            for entry in entries:
                function = _at(entry, "configuration_json", "embedding_function") or {}
                chosen: dict[str, Any] = function["config"] if isinstance(function.get("config"), dict) else {}
                model = text(chosen, "model_name", "model")
                provider = text(function, "name") or "chroma"
                yield Collection(
                    str(entry["name"]),
                    f"{below}/{entry['id']}",
                    f"{entry.get('dimension') or 'unknown'} dimensions; database {database['name']}",
                    (provider, model) if model else None,
                )
            if len(entries) < CHROMA_PAGE:
                break
            start += len(entries)


async def _milvus(api: Api) -> AsyncIterator[Collection]:
    answer = await api.post("/v2/vectordb/collections/list", {})
    if not isinstance(answer, dict) or answer.get("code") not in (0, 200) or not isinstance(answer.get("data"), list):
        raise PlatformError(f"collections/list: {_words(answer)}")
    for name in answer["data"]:
        told = await api.post("/v2/vectordb/collections/describe", {"collectionName": name})
        data = told.get("data") if isinstance(told, dict) else None
        if not isinstance(data, dict):
            raise PlatformError(f"collections/describe {name}: {_words(told)}")
        vectors = [
            str(next((p["value"] for p in one.get("params") or () if p.get("key") == "dim"), "?"))
            for one in data.get("fields") or ()
            if isinstance(one, dict) and "Vector" in str(one.get("type"))
        ]
        yield Collection(str(name), f"/collections/{quote(str(name), safe='')}", f"vectors of {', '.join(vectors)}")


def _words(answer: Any) -> str:
    return str(answer.get("message", "its answer makes no sense")) if isinstance(answer, dict) else "no object"


def _at(entry: Any, *keys: str) -> Any:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry


# Each product by a path that only it answers in this form, asked in this order.
async def _product_of(api: Api) -> tuple[str, str | None, AsyncIterator[Collection]]:
    failures = []
    for product, path, version_at, read in (
        ("Chroma", "/api/v2/heartbeat", None, _chroma),
        ("Weaviate", "/v1/meta", ("version",), _weaviate),
        ("Qdrant", "/collections", None, _qdrant),
        ("Milvus", None, None, _milvus),
    ):
        try:
            if path is None:
                answer = await api.post("/v2/vectordb/collections/list", {})
                fits = isinstance(answer, dict) and "code" in answer
            else:
                answer = await api.get(path)
                fits = isinstance(answer, dict) and _fits(product, answer)
        except PlatformError as error:
            failures.append(f"{product}: {error}")
            continue
        if fits:
            version = _at(answer, *version_at) if version_at else await _version(product, api)
            return product, version if isinstance(version, str) else None, read(api)
        failures.append(f"{product}: another answer than its own")
    raise PlatformError("it is none of the vector stores that are known; " + "; ".join(failures))


def _fits(product: str, answer: Mapping[str, Any]) -> bool:
    match product:
        case "Chroma":
            return any("heartbeat" in key for key in answer)
        case "Weaviate":
            return "version" in answer and "modules" in answer
        case _:
            return isinstance(_at(answer, "result", "collections"), list)


async def _version(product: str, api: Api) -> str | None:
    path = {"Qdrant": "/", "Chroma": "/api/v2/version"}.get(product)
    if path is None:
        return None
    try:
        answer = await api.get(path)
    except PlatformError:
        return None
    return answer if isinstance(answer, str) else text(answer, "version") if isinstance(answer, dict) else None


_COLUMNS = """
    SELECT n.nspname AS schema, c.relname AS relation, a.attname AS attribute, a.atttypmod AS dimensions
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typname IN ('vector', 'halfvec', 'sparsevec') AND c.relkind IN ('r', 'p', 'm') AND NOT a.attisdropped
    ORDER BY 1, 2, 3
"""


async def _pgvector(target: Target) -> tuple[str, str | None, AsyncIterator[Collection]]:
    """The same for pgvector: the extension's version, and columns of vectors. Only the catalogue is read.

    Raises:
        PlatformError: it cannot be reached, or has no pgvector.
    """
    try:
        connection = await asyncpg.connect(
            target.url,
            timeout=TIMEOUT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            server_settings={"application_name": "colonnade discovery"},
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, asyncio.TimeoutError) as error:
        raise PlatformError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    try:
        async with connection.transaction(readonly=True):
            version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            if version is None:
                raise PlatformError("this database has no pgvector")
            rows = await connection.fetch(_COLUMNS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError) as error:
        raise PlatformError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    finally:
        connection.terminate()
    return "pgvector", version, _columns(rows)


async def _columns(rows: Iterable[asyncpg.Record]) -> AsyncIterator[Collection]:
    for row in rows:
        place = (row["schema"], row["relation"], row["attribute"])
        size = row["dimensions"] if row["dimensions"] > 0 else "any"
        yield Collection(".".join(place), "/" + "/".join(place), f"{size} dimensions")


def check(options: Options, settings: InventorySettings) -> None:
    check_targets(options, settings, _SCHEMES)


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """The collections of each store."""
    await ask_each(options, settings, harvest, " collections", _read, _FAILURES)


async def _read(api: Api, scope: Scope) -> None:
    base = api.target.shown
    in_sql = api.target.url.startswith(("postgresql://", "postgres://"))
    product, version, reading = await (_pgvector(api.target) if in_sql else _product_of(api))
    await scope.add(store_found(product, version, base, open_to_all=not in_sql and not api.target.headers))
    async for collection in reading:
        for one in collection_found(product, collection, base):
            await scope.add(one)


CONNECTOR = Connector(
    source=Source.VECTOR_STORE,
    title="Vector stores",
    looks_for="Collections of Qdrant, Weaviate, Chroma, Milvus and pgvector, and the models that embed into them.",
    permissions=("read collections and their schema; for pgvector a role that may connect",),
    options=Options,
    check=check,
    discover=discover,
)
