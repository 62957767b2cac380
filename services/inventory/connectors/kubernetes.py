"""Kubernetes: workloads that serve models or keep vectors, and KServe, Ray and NIM resources, through lightkube.

The cluster is the one that the service runs in, or the kubeconfig's current context. Workloads are recognised by the
repository of their image, whatever registry mirrors it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import orjson
import yaml
from pydantic import Field, StringConstraints

from services.inventory.connectors.addresses import check_endpoint
from services.inventory.connectors.clouds import STAGES
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest
from services.inventory.domain import identity, secrets
from services.inventory.domain.asset import SourceKind
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.discovery import Source
from services.inventory.settings import InventorySettings
from shared.contracts.inventory import AssetType, DeploymentEnvironment, NetworkExposure, Relation
from shared.models import In

PAGE_SIZE = 250
_SERVERS = (
    ("vllm/vllm-openai", "vllm"),
    ("huggingface/text-generation-inference", "text-generation-inference"),
    ("huggingface/text-embeddings-inference", "text-embeddings-inference"),
    ("ollama/ollama", "ollama"),
    ("nvidia/tritonserver", "triton"),
    ("lmsysorg/sglang", "sglang"),
    ("ggml-org/llama.cpp", "llama.cpp"),
    ("berriai/litellm", "litellm"),
    ("rayproject/ray-llm", "ray"),
    ("rayproject/ray", "ray"),
    ("nim/", "nim"),
)
_STORES = (
    ("qdrant/qdrant", "qdrant"),
    ("milvusdb/milvus", "milvus"),
    ("semitechnologies/weaviate", "weaviate"),
    ("chromadb/chroma", "chroma"),
    ("chroma-core/chroma", "chroma"),
    ("pgvector/pgvector", "pgvector"),
)
_MODEL_FLAGS = ("--model", "--model-id", "--model-path", "--model_name", "--hf-model-id", "-m")
_MODEL_VARIABLES = ("MODEL_ID", "MODEL_NAME", "HF_MODEL_ID", "NIM_MODEL_NAME", "OLLAMA_MODEL", "SERVED_MODEL")
_OWNER_KEYS = ("team", "owner", "owner-team", "app.kubernetes.io/managed-by-team", "backstage.io/owner")
_INTERNAL_BALANCER = re.compile(r"internal|intranet|private", re.IGNORECASE)
_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
CUSTOM = (
    ("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"),
    ("serving.kserve.io", "v1alpha1", "LLMInferenceService", "llminferenceservices"),
    ("ray.io", "v1", "RayService", "rayservices"),
    ("apps.nvidia.com", "v1alpha1", "NIMService", "nimservices"),
)


class Options(In):
    """Which cluster, under which name; the credential is the service account's or the kubeconfig's."""

    cluster: Annotated[
        str, StringConstraints(min_length=1, max_length=200), Field(description="A name for the cluster, in locators.")
    ]
    namespaces: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")], ...],
        Field(max_length=200, description="Only these namespaces; empty for all."),
    ] = ()
    endpoint_url: Annotated[str, StringConstraints(max_length=2_048)] | None = None


@dataclass(slots=True)
class Exposure:
    """Through what workloads are reached, by namespace and name of the service."""

    services: list[Mapping[str, Any]] = field(default_factory=list)
    hosts: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    known: bool = True
    taken: set[str] = field(default_factory=set)

    def identity_of(self, url: str | None, by: str) -> str | None:
        """The identity that a host gives to the first workload behind it. Names within a cluster are other things in
        another cluster, so they give none."""
        made = identity.endpoint(url) if url and by.startswith("ingress ") else None
        if made is None or made in self.taken:
            return None
        self.taken.add(made)
        return made

    def add_ingress(self, ingress: Mapping[str, Any]) -> None:
        """An Ingress: hosts and paths that lead to services."""
        namespace = _name(ingress)[0]
        encrypted = {host for tls in _list(ingress, "spec", "tls") for host in tls.get("hosts") or ()}
        for rule in _list(ingress, "spec", "rules"):
            host = rule.get("host") or ""
            for path in _list(rule, "http", "paths"):
                service = _at(path, "backend", "service", "name")
                if isinstance(service, str) and host:
                    scheme = "https" if host in encrypted else "http"
                    url = f"{scheme}://{host}{str(path.get('path') or '').rstrip('/*')}"
                    self.hosts.setdefault((namespace, service), (url, f"ingress {_name(ingress)[1]}"))

    def of(self, namespace: str, labels: Mapping[str, str]) -> tuple[NetworkExposure, str | None, str]:
        """How pods with these labels are reached: exposure, address, and what says so."""
        found_exposure: tuple[NetworkExposure, str | None, str] = (
            NetworkExposure.INTERNAL,
            None,
            "no service selects it",
        )
        for service in self.services:
            selector = _at(service, "spec", "selector") or {}
            if _name(service)[0] != namespace or not selector or not selector.items() <= labels.items():
                continue
            name = _name(service)[1]
            if (namespace, name) in self.hosts:
                url, by = self.hosts[namespace, name]
                return NetworkExposure.PUBLIC, url, by
            kind = _at(service, "spec", "type")
            port = next((one.get("port") for one in _list(service, "spec", "ports")), None)
            url = f"http://{name}.{namespace}.svc" + (f":{port}" if port not in (None, 80) else "")
            if kind == "LoadBalancer":
                notes = _at(service, "metadata", "annotations") or {}
                inner = any(_INTERNAL_BALANCER.search(f"{key}={value}") for key, value in notes.items())
                return NetworkExposure.VPC if inner else NetworkExposure.PUBLIC, url, f"service {name} LoadBalancer"
            if kind == "NodePort":
                found_exposure = (NetworkExposure.VPC, url, f"service {name} NodePort")
            elif found_exposure[1] is None:
                found_exposure = (NetworkExposure.INTERNAL, url, f"service {name}")
        return found_exposure


# -- what entries mean ------------------------------------------------------------------------------------------------


def workload(entry: Mapping[str, Any], kind: str, cluster: str, exposure: Exposure) -> list[Found]:
    """A Deployment, StatefulSet or DaemonSet: what its containers serve or keep; nothing when that is no model and no
    vectors."""
    namespace, name = _name(entry)
    at = f"k8s://{cluster}/{namespace}/{kind.lower()}/{name}"
    template = _at(entry, "spec", "template") or {}
    labels = _at(template, "metadata", "labels") or {}
    made: list[Found] = []
    for position, container in enumerate(_list(template, "spec", "containers")):
        image = str(container.get("image") or "")
        product, store = product_of(image)
        if product is None:
            continue
        where = f"{at}/spec/containers/{position}"
        models = [] if store else models_of(container, product)
        level, url, by = exposure.of(namespace, labels)
        shown = found(
            at if position == 0 or not made else where,
            name=f"{name} ({namespace})",
            asset_type=AssetType.VECTOR_DATABASE if store else AssetType.API_ENDPOINT,
            model_provider=product,
            model_name=models[0][0] if models else None,
            api_endpoint=url or at,
            is_self_hosted=True,
            deployment_env=_environment(namespace, labels),
            description=f"{kind} {namespace}/{name} runs {image.partition('@')[0]}",
        )
        shown = shown.with_claims(SourceKind.INFERRED, f"{at} {by}", network_exposure=level)
        shown = _with_owner(shown, entry, at)
        observations, credentials = _observed(container, template, where, shown)
        served = [_model_found(model, at, name) for model, _ in models]
        address = exposure.identity_of(url, by)
        made += [
            *served,
            *credentials,
            replace(
                shown,
                identities=(address,) if address else (),
                links=tuple(Link(Relation.SERVED_BY, model.locator, where, reverse=True) for model in served)
                + tuple(Link(Relation.EXPOSES_CREDENTIAL, key.locator, where) for key in credentials),
                observations=tuple(observations),
            ),
        ]
    return made


def product_of(image: str) -> tuple[str | None, bool]:
    """What an image runs, and whether that keeps vectors; (None, False) for anything else."""
    repository = re.sub(r"(@sha256:[0-9a-f]+|:[\w][\w.-]*)+$", "", image.lower())
    for names, store in ((_SERVERS, False), (_STORES, True)):
        for part, product in names:
            if part in repository + ("/" if part.endswith("/") else ""):
                return product, store
    return None, False


def models_of(container: Mapping[str, Any], product: str) -> list[tuple[str, str]]:
    """(model, where it is named) by the arguments and variables of a container, each once."""
    words: list[str] = []
    for part in ("command", "args"):
        for value in container.get(part) or ():
            try:
                words += shlex.split(str(value)) if " " in str(value) else [str(value)]
            except ValueError:
                words += str(value).split()
    named: dict[str, str] = {}
    for position, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in _MODEL_FLAGS:
            following = value if equals else words[position + 1] if position + 1 < len(words) else ""
            if following and not following.startswith("-"):
                named.setdefault(following, f"args {flag}")
        elif word == "serve" and product in {"vllm", "sglang"}:
            following = words[position + 1] if position + 1 < len(words) else ""
            if following and not following.startswith("-"):
                named.setdefault(following, "args serve")
    for variable in container.get("env") or ():
        if variable.get("name") in _MODEL_VARIABLES and variable.get("value"):
            named.setdefault(str(variable["value"]), f"env {variable['name']}")
    return list(named.items())


def _model_found(model: str, at: str, workload_name: str) -> Found:
    if model.startswith(("/", "./", "pvc://")):
        # A path means another model in each workload that has it.
        return found(
            f"{at}#{model}",
            name=f"{model} of {workload_name}",
            asset_type=AssetType.FOUNDATION_MODEL,
            is_self_hosted=True,
            deployment_env=DeploymentEnvironment.PRODUCTION,
        )
    if _HUB.fullmatch(model):
        key = identity.huggingface(model)
        provider = "huggingface"
    else:
        key = identity.hosted_model("self_hosted", model)
        provider = "self_hosted"
    made = found(
        key,
        name=model,
        asset_type=AssetType.EMBEDDING_MODEL
        if re.search(r"embed|bge-|/e5-|gte-", model.lower())
        else AssetType.FOUNDATION_MODEL,
        model_provider=provider,
        model_name=model,
        is_self_hosted=True,
        source_url=f"https://huggingface.co/{model}" if provider == "huggingface" else None,
        deployment_env=DeploymentEnvironment.PRODUCTION,
    )
    return replace(made, identities=(key,))


def custom_resource(entry: Mapping[str, Any], kind: str, cluster: str) -> list[Found]:
    """A KServe InferenceService or LLMInferenceService, a RayService or a NIMService."""
    namespace, name = _name(entry)
    at = f"k8s://{cluster}/{namespace}/{kind.lower()}/{name}"
    models, provider = _CUSTOM_MODELS[kind](entry)
    url = _at(entry, "status", "url") or _at(entry, "status", "model", "externalEndpoint")
    shown = found(
        at,
        name=f"{name} ({namespace})",
        asset_type=AssetType.API_ENDPOINT,
        model_provider=provider,
        model_name=models[0][0] if models else None,
        api_endpoint=url if isinstance(url, str) else at,
        is_self_hosted=True,
        deployment_env=_environment(namespace, _at(entry, "metadata", "labels") or {}),
        description=f"{kind} {namespace}/{name}",
    )
    served = [_model_found(model, at, name) for model, _ in models]
    address = identity.endpoint(url) if isinstance(url, str) else None
    shown = replace(
        _with_owner(shown, entry, at),
        identities=(address,) if address else (),
        links=tuple(Link(Relation.SERVED_BY, model.locator, at, reverse=True) for model in served),
    )
    return [*served, shown]


def _kserve(entry: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    model = _at(entry, "spec", "predictor", "model") or {}
    named = models_of(model, "vllm")
    storage = model.get("storageUri")
    if isinstance(storage, str):
        named.append((storage.removeprefix("hf://"), "spec.predictor.model.storageUri"))
    return named, "kserve"


def _kserve_llm(entry: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    uri = _at(entry, "spec", "model", "uri")
    return ([(uri.removeprefix("hf://"), "spec.model.uri")] if isinstance(uri, str) else []), "kserve"


def _ray(entry: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    written = _at(entry, "spec", "serveConfigV2")
    try:
        config = yaml.safe_load(written) if isinstance(written, str) and len(written) <= 1_048_576 else None
    except yaml.YAMLError:
        config = None
    named = []
    for application in _list(config, "applications"):
        for one in _list(application, "args", "llm_configs"):
            loading = one.get("model_loading_config") or {}
            model = loading.get("model_source") or loading.get("model_id")
            if isinstance(model, str):
                named.append((model, "spec.serveConfigV2"))
    return named, "ray"


def _nim(entry: Mapping[str, Any]) -> tuple[list[tuple[str, str]], str]:
    repository = _at(entry, "spec", "image", "repository")
    return ([("/".join(repository.split("/")[-2:]), "spec.image")] if isinstance(repository, str) else []), "nim"


_CUSTOM_MODELS = {
    "InferenceService": _kserve,
    "LLMInferenceService": _kserve_llm,
    "RayService": _ray,
    "NIMService": _nim,
}


def _observed(
    container: Mapping[str, Any], template: Mapping[str, Any], where: str, of: Found
) -> tuple[list[Observation], list[Found]]:
    seen: list[Observation] = []
    credentials: list[Found] = []
    image = str(container.get("image") or "")
    if "@sha256:" not in image:
        tag = image.rpartition("/")[2].partition(":")[2] or "latest"
        severity = Severity.MEDIUM if tag == "latest" else Severity.LOW
        seen.append(Observation(ObservationKind.MUTABLE_IMAGE, severity, f"the image's tag {tag} may be moved", where))
    words = " ".join(str(word) for part in ("command", "args") for word in container.get(part) or ())
    if re.search(r"--trust[-_]remote[-_]code(?!=false)", words, re.IGNORECASE):
        seen.append(
            Observation(
                ObservationKind.REMOTE_CODE, Severity.HIGH, "the model's repository may run its own code", where
            )
        )
    security = container.get("securityContext") or {}
    pod = _at(template, "spec") or {}
    if security.get("privileged") or pod.get("hostNetwork") or pod.get("hostPID"):
        seen.append(
            Observation(
                ObservationKind.PRIVILEGED_WORKLOAD,
                Severity.HIGH,
                "it is privileged or shares the host's namespaces",
                where,
            )
        )
    texts = [
        (f"env {one.get('name')}", f"{one.get('name')}={one['value']}")
        for one in container.get("env") or ()
        if one.get("value")
    ]
    for place, written in [*texts, ("args", words)]:
        for _, _, reference in secrets.secrets_in(written):
            seen.append(
                Observation(
                    ObservationKind.INLINE_SECRET, Severity.HIGH, f"{place} holds {reference}", f"{where} {place}"
                )
            )
            key = identity.credential(reference.fingerprint)
            made = found(
                key,
                name=f"{reference.issuer} credential ...{reference.last_four}",
                asset_type=AssetType.API_CREDENTIAL,
                deployment_env=of.value("deployment_env"),
            )
            credentials.append(replace(made, identities=(key,)))
    return seen, credentials


def _with_owner(shown: Found, entry: Mapping[str, Any], at: str) -> Found:
    for part in ("labels", "annotations"):
        notes = _at(entry, "metadata", part) or {}
        for key in _OWNER_KEYS:
            if isinstance(notes.get(key), str) and notes[key]:
                return shown.declared(f"{at} {part} {key}", owner_team=notes[key])
    return shown


def _environment(namespace: str, labels: Mapping[str, str]) -> DeploymentEnvironment:
    for key in ("environment", "env", "app.kubernetes.io/environment"):
        if str(labels.get(key, "")).lower() in STAGES:
            return STAGES[str(labels[key]).lower()]
    for word in re.split(r"[-_.]", namespace.lower()):
        if word in STAGES:
            return STAGES[word]
    return DeploymentEnvironment.PRODUCTION


def _name(entry: Mapping[str, Any]) -> tuple[str, str]:
    metadata = entry.get("metadata") or {}
    return str(metadata.get("namespace") or "default"), str(metadata["name"])


def _at(entry: Any, *keys: str) -> Any:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return entry


def _list(entry: Any, *keys: str) -> list[Mapping[str, Any]]:
    value = _at(entry, *keys)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


# -- the calls --------------------------------------------------------------------------------------------------------


def check(options: Options, settings: InventorySettings) -> None:
    check_endpoint(options.endpoint_url, settings)


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """Workloads and serving resources of the cluster; each listing fails for itself."""
    # Imported here: it brings the models of all of Kubernetes, which a service that looks at no cluster need not hold.
    import httpx2
    from lightkube import AsyncClient, KubeConfig
    from lightkube.core.exceptions import ConfigError
    from lightkube.generic_resource import create_namespaced_resource
    from lightkube.resources.apps_v1 import DaemonSet, Deployment, StatefulSet
    from lightkube.resources.core_v1 import Service
    from lightkube.resources.networking_v1 import Ingress

    # The last four are what lightkube makes of an answer that is no Kubernetes object.
    failures = (Refused, httpx2.HTTPError, ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError)
    try:
        config = (
            KubeConfig.from_dict(_anonymous(options.endpoint_url)) if options.endpoint_url else KubeConfig.from_env()
        )
        client = AsyncClient(config=config, timeout=httpx2.Timeout(20.0, connect=5.0), trust_env=False)
    except (ConfigError, OSError, ValueError) as error:
        harvest.fail("kubeconfig", error)
        return
    spaces: Sequence[str] = options.namespaces or ("*",)

    async def listed(resource: Any) -> AsyncIterator[Mapping[str, Any]]:
        try:
            shown: set[tuple[str, str]] = set()
            for space in spaces:
                async for one in client.list(resource, namespace=space, chunk_size=PAGE_SIZE):
                    entry = one.to_dict()
                    if _name(entry) in shown:
                        raise ValueError("its listing repeats itself, so it has no end")
                    shown.add(_name(entry))
                    yield entry
        except httpx2.HTTPStatusError as error:
            raise Refused(error.response.status_code, error.response.text) from error

    try:
        exposure = Exposure()
        for resource, take in ((Service, exposure.services.append), (Ingress, exposure.add_ingress)):
            try:
                async for entry in listed(resource):
                    take(entry)
            except failures as error:
                exposure.known = False
                harvest.fail(f"{options.cluster} {resource.__name__}", _words(error))
        readings: list[tuple[str, Any, Any]] = [
            (resource.__name__, resource, lambda entry, kind: workload(entry, kind, options.cluster, exposure))
            for resource in (Deployment, StatefulSet, DaemonSet)
        ]
        readings += [
            (
                kind,
                create_namespaced_resource(group, version, kind, plural),
                lambda entry, kind: custom_resource(entry, kind, options.cluster),
            )
            for group, version, kind, plural in CUSTOM
        ]
        for kind, resource, mapped in readings:
            name = f"k8s:{options.cluster}:{','.join(spaces)}:{kind}"
            if harvest.is_read(name):
                continue
            async with harvest.scope(name, failures=failures, where=f"{options.cluster} {kind}") as scope:
                if not exposure.known and kind not in _CUSTOM_MODELS:
                    # Taken in without, each workload would look as if nothing led to it any longer.
                    scope.fail(f"{options.cluster} {kind}", "through what it is reached could not be read")
                    continue
                try:
                    async for entry in listed(resource):
                        for one in _mapped(mapped, entry, kind, scope.fail):
                            await scope.add(one)
                except Refused as error:
                    # A cluster without that kind of resource holds none of it.
                    if error.status != 404 or kind not in _CUSTOM_MODELS:
                        raise
    finally:
        await client.close()


class Refused(Exception):
    """The API server refused a listing; what it says about it."""

    def __init__(self, status: int, body: str) -> None:
        try:
            words = str(orjson.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            words = body[:300]
        super().__init__(f"HTTP {status}: {words}".rstrip(": "))
        self.status = status


def _anonymous(url: str) -> dict[str, Any]:
    """A kubeconfig for an API server at that address without a credential."""
    return {
        "clusters": [{"name": "given", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "given", "context": {"cluster": "given", "user": "nobody"}}],
        "current-context": "given",
    }


def _mapped(mapped: Any, entry: Mapping[str, Any], kind: str, fail: Any) -> Iterable[Found]:
    try:
        return list(mapped(entry, kind))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        metadata = entry.get("metadata") or {}
        fail(f"{kind} {metadata.get('namespace')}/{metadata.get('name')}", f"makes no sense: {error!r}")
        return []


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


CONNECTOR = Connector(
    source=Source.KUBERNETES,
    title="Kubernetes",
    looks_for="Workloads that serve models or keep vectors, KServe, Ray and NIM resources, with models and exposure.",
    permissions=(
        "list: deployments, statefulsets, daemonsets (apps)",
        "list: services; ingresses (networking.k8s.io)",
        "list: inferenceservices, llminferenceservices (serving.kserve.io), rayservices (ray.io), nimservices",
    ),
    options=Options,
    check=check,
    discover=discover,
)
