"""Google Vertex AI by REST: models, endpoints, tuning jobs and agents (reasoning engines).

The credential is what google-auth finds in the service's environment (workload identity, a service account). The REST
API is called directly: the SDK would bring a hundred times as much for four listings.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import aiohttp
from pydantic import Field, StringConstraints

from services.inventory.connectors.addresses import check_endpoint
from services.inventory.connectors.clouds import PAGES_LIMIT, Unintelligible, abandon, parsed, side_by_side, tagged
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest
from services.inventory.domain import identity
from services.inventory.domain.asset import SourceKind
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.discovery import Source
from services.inventory.domain.secrets import secrets_in
from services.inventory.settings import InventorySettings
from shared.contracts.inventory import AssetType, NetworkExposure, Relation
from shared.models import In

PROVIDER = "google_vertex"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PAGE_SIZE = 100
CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0
TRIES = 4
"""Of a call that is throttled or meets a fault of the platform's; then it failed."""
RETRY_AFTER_LIMIT_SECONDS = 30.0
"""Longest that a throttled call is waited for before it is tried again."""
ANSWER_LIMIT_BYTES = 33_554_432
CALLS_AT_ONCE = 8
PLACES_AT_ONCE = 4
_AGAIN = frozenset({429, 500, 502, 503, 504})

Project = Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{4,28}[a-z0-9]$|^\d{6,20}$")]
Location = Annotated[str, StringConstraints(pattern=r"^(global|us|eu|[a-z]+-[a-z]+\d{1,2})$")]


class Options(In):
    locations: Annotated[list[Location], Field(min_length=1, max_length=60)] = Field(
        description="Locations to look in, e.g. europe-west4."
    )
    projects: Annotated[list[Project], Field(max_length=1_000)] = Field(
        default_factory=list, description="Projects to look in; none named looks in the credential's own."
    )
    endpoint_url: Annotated[str, StringConstraints(max_length=2_048)] | None = Field(
        default=None, description="Another address of the Vertex AI API, where the service allows it."
    )


def check(options: Options, settings: InventorySettings) -> None:
    check_endpoint(options.endpoint_url, settings)


@dataclass(frozen=True, slots=True)
class Place:
    """A location of a project."""

    project: str
    location: str

    def scope(self, listing: str) -> str:
        return f"gcp:{self.project}:{self.location}:{listing}"

    @property
    def address(self) -> str:
        host = "aiplatform" if self.location == "global" else f"{self.location}-aiplatform"
        return f"https://{host}.googleapis.com"


# -- what entries mean: names are the API's ----------------------------------------------------------------------------


def model(entry: Mapping[str, Any], place: Place) -> list[Found]:
    """An entry of projects.locations.models."""
    name = str(entry["name"])
    kind = str((entry.get("modelSourceInfo") or {}).get("sourceType") or "")
    garden = str(((entry.get("baseModelSource") or {}).get("modelGardenSource") or {}).get("publicModelName") or "")
    base = garden or str(((entry.get("baseModelSource") or {}).get("genieSource") or {}).get("baseModelUri") or "")
    container = entry.get("containerSpec") or {}
    image = str(container.get("imageUri") or "")
    types = {"CUSTOM_TEXT_EMBEDDING": AssetType.EMBEDDING_MODEL, "MODEL_GARDEN": AssetType.FOUNDATION_MODEL}
    one = _found(
        name,
        place,
        name=str(entry.get("displayName") or name),
        asset_type=types.get(kind, AssetType.FINE_TUNED_MODEL),
        description=str(entry.get("description") or f"Vertex AI model ({kind or 'source not told'})")[:500],
        model_provider=PROVIDER,
        model_name=name,
        model_version=entry.get("versionId"),
        is_self_hosted=bool(image),
        source_url=entry.get("artifactUri"),
    )
    links: list[Link] = []
    beside: list[Found] = []
    if base:
        known = _publisher_model(base)
        relation = Relation.USES_MODEL if kind == "MODEL_GARDEN" else Relation.FINE_TUNED_FROM
        links.append(Link(relation, known, f"{name}#baseModelSource"))
        beside.append(_base_model(known, f"{name}#baseModelSource", place))
    if image:
        links.append(Link(Relation.DEPENDS_ON, identity.image(image), f"{name}#containerSpec.imageUri"))
    told = [*_key(entry, name), *_secrets(container.get("env"), f"{name}#containerSpec.env")]
    if image and "@sha256:" not in image:
        what = f"The image {image} is named by a tag, which may come to mean another."
        told.append(Observation(ObservationKind.MUTABLE_IMAGE, Severity.LOW, what, f"{name}#containerSpec.imageUri"))
    whole = replace(
        one,
        identities=(identity.resource(name),),
        links=tuple(links),
        observations=tuple(told),
        card=_card(source=kind, aliases=entry.get("versionAliases"), image=image, base=base),
    )
    return [tagged(whole, entry.get("labels"), name), *beside]


def endpoint(entry: Mapping[str, Any], place: Place) -> list[Found]:
    """An entry of projects.locations.endpoints: where models are called, from which network, and whether it is kept."""
    name = str(entry["name"])
    dedicated = str(entry.get("dedicatedEndpointDns") or "") if entry.get("dedicatedEndpointEnabled") else ""
    # Without a network of its own an endpoint answers at Google's public address, to whoever has the permission.
    private = (entry.get("privateServiceConnectConfig") or entry).get("enablePrivateServiceConnect")
    if entry.get("network"):
        reach, why = NetworkExposure.VPC, "network"
    elif private:
        reach, why = NetworkExposure.VPC, "privateServiceConnectConfig"
    else:
        reach, why = NetworkExposure.PUBLIC, "network"
    one = _found(
        name,
        place,
        name=f"Vertex AI: {entry.get('displayName') or name}",
        asset_type=AssetType.API_ENDPOINT,
        description=str(entry.get("description") or "Vertex AI endpoint")[:500],
        model_provider=PROVIDER,
        api_endpoint=f"https://{dedicated}/v1/{name}" if dedicated else f"{place.address}/v1/{name}",
        is_self_hosted=False,
    )
    told_so = SourceKind.INFERRED if reach is NetworkExposure.PUBLIC else SourceKind.DECLARED
    one = one.with_claims(told_so, f"{name}#{why}", network_exposure=reach)
    deployed = list(entry.get("deployedModels") or ())
    served = dict.fromkeys(str(part["model"]).partition("@")[0] for part in deployed if part.get("model"))
    links = [Link(Relation.USES_MODEL, identity.resource(target), f"{name}#deployedModels") for target in served]
    told = [*_key(entry, name)]
    if not (entry.get("predictRequestResponseLoggingConfig") or {}).get("enabled"):
        what = "Request-response logging is off: what is asked and answered is not kept."
        at = f"{name}#predictRequestResponseLoggingConfig"
        told.append(Observation(ObservationKind.INVOCATION_LOGGING_OFF, Severity.LOW, what, at))
    for part in deployed:
        if part.get("disableContainerLogging"):
            what = "The container's own log is turned off."
            at = f"{name}#deployedModels/{part.get('id')}"
            told.append(Observation(ObservationKind.INVOCATION_LOGGING_OFF, Severity.LOW, what, at))
    known = identity.endpoint(f"https://{dedicated}") if dedicated else None
    whole = replace(
        one,
        identities=(
            identity.resource(name),
            *filter(None, (known, identity.endpoint(f"{place.address}/v1/{name}"))),
        ),
        links=tuple(links),
        observations=tuple(told),
        card=_card(
            network=entry.get("network"),
            access_logging=any(part.get("enableAccessLogging") for part in deployed),
            service_accounts=sorted({str(part["serviceAccount"]) for part in deployed if part.get("serviceAccount")}),
        ),
    )
    return [tagged(whole, entry.get("labels"), name)]


def tuning_job(entry: Mapping[str, Any], place: Place) -> list[Found]:
    """An entry of projects.locations.tuningJobs: the model it made, from what and on what. One that made none (it runs
    yet, or failed) is no asset."""
    name = str(entry["name"])
    made = str((entry.get("tunedModel") or {}).get("model") or "").partition("@")[0]
    if not made:
        return []
    base = str(entry.get("baseModel") or (entry.get("preTunedModel") or {}).get("baseModel") or "")
    specs = [spec for key, spec in entry.items() if key.endswith("Spec") and isinstance(spec, Mapping)]
    data = {
        str(spec[key]): key for spec in specs for key in ("trainingDatasetUri", "promptDatasetUri") if spec.get(key)
    }
    one = _found(
        name,
        place,
        name=str(entry.get("tunedModelDisplayName") or made),
        asset_type=AssetType.FINE_TUNED_MODEL,
        description=str(entry.get("description") or f"Model tuned in Vertex AI from {base or 'a model'}")[:500],
        model_provider=PROVIDER,
        model_name=made,
        is_self_hosted=False,
    )
    links: list[Link] = []
    beside: list[Found] = []
    if base:
        known = _publisher_model(base)
        links.append(Link(Relation.FINE_TUNED_FROM, known, f"{name}#baseModel"))
        beside.append(_base_model(known, f"{name}#baseModel", place))
    for uri, key in data.items():
        target = identity.dataset(uri)
        links.append(Link(Relation.TRAINED_ON, target, f"{name}#{key}"))
        dataset = found(f"{name}#{key}", name=uri, asset_type=AssetType.TRAINING_DATASET, source_url=uri)
        beside.append(replace(dataset, locator=place.scope(target), identities=(target,)))
    whole = replace(
        one,
        identities=(identity.resource(made),),
        links=tuple(links),
        observations=tuple(_key(entry, name)),
        card=_card(state=entry.get("state"), experiment=entry.get("experiment")),
    )
    return [tagged(whole, entry.get("labels"), name), *beside]


def reasoning_engine(entry: Mapping[str, Any], place: Place) -> list[Found]:
    """An entry of projects.locations.reasoningEngines: an agent that Vertex AI runs."""
    name = str(entry["name"])
    spec = entry.get("spec") or {}
    package, deployment = spec.get("packageSpec") or {}, spec.get("deploymentSpec") or {}
    shown = str(entry.get("displayName") or name)
    one = _found(
        name,
        place,
        name=shown,
        asset_type=AssetType.AI_AGENT,
        description=str(entry.get("description") or "Agent in Vertex AI Agent Engine")[:500],
        model_provider=PROVIDER,
        api_endpoint=f"{place.address}/v1/{name}",
        is_self_hosted=False,
        source_url=package.get("pickleObjectGcsUri"),
    )
    whole = replace(
        one,
        identities=(
            identity.resource(name),
            identity.agent(shown, f"gcp/{place.project}/{place.location}"),
            *filter(None, (identity.endpoint(f"{place.address}/v1/{name}"),)),
        ),
        observations=(*_key(entry, name), *_secrets(deployment.get("env"), f"{name}#spec.deploymentSpec.env")),
        card=_card(
            framework=spec.get("agentFramework"),
            identity=spec.get("effectiveIdentity") or spec.get("serviceAccount"),
            image=(spec.get("containerSpec") or {}).get("imageUri"),
            python=package.get("pythonVersion"),
            methods=[str(one["name"]) for one in spec.get("classMethods") or () if one.get("name")],
        ),
    )
    return [tagged(whole, entry.get("labels"), name)]


def _found(locator: str, place: Place, **values: Any) -> Found:
    return found(locator, cloud_provider="gcp", cloud_region=place.location, **values)


def _publisher_model(base: str) -> str:
    """The identity of a base model: `publishers/google/models/x`, or only its name where Google made it."""
    parts = base.partition("@")[0].split("/")
    maker = parts[parts.index("publishers") + 1] if "publishers" in parts[:-1] else "google"
    return identity.hosted_model(maker, parts[-1])


def _base_model(known: str, at: str, place: Place) -> Found:
    maker, _, name = known.removeprefix("model:").partition("/")
    one = found(at, name=name, asset_type=AssetType.FOUNDATION_MODEL, model_provider=maker, model_name=name)
    return replace(one, locator=place.scope(known), identities=(known,))


def _key(entry: Mapping[str, Any], name: str) -> Iterable[Observation]:
    if not (entry.get("encryptionSpec") or {}).get("kmsKeyName"):
        what = "It is encrypted with a key of Google's, not one of the organisation's own."
        yield Observation(ObservationKind.NO_CUSTOMER_KEY, Severity.LOW, what, f"{name}#encryptionSpec")


def _secrets(variables: Any, at: str) -> Iterable[Observation]:
    for variable in variables or ():
        key = str(variable.get("name"))
        for _, _, reference in secrets_in(f"{key}={variable.get('value') or ''}"):
            what = f"The environment variable {key} holds a credential: {reference}"
            yield Observation(ObservationKind.INLINE_SECRET, Severity.HIGH, what, f"{at}/{key}")


def _card(**values: Any) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})} or None


# -- how they are asked for --------------------------------------------------------------------------------------------

_LISTINGS: Mapping[str, Callable[[Mapping[str, Any], Place], list[Found]]] = {
    "models": model,
    "endpoints": endpoint,
    "tuningJobs": tuning_job,
    "reasoningEngines": reasoning_engine,
}


class Refused(Exception):
    """Vertex AI answered with an error."""


class NoCredential(Exception):
    """google-auth has no credential, or could not make a token of it."""


_FAILURES = (Refused, NoCredential, Unintelligible, aiohttp.ClientError, TimeoutError, OSError)


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """Everything of Vertex AI in all projects and locations."""
    token = _Token()
    projects = list(dict.fromkeys(options.projects))
    try:
        async with asyncio.timeout(60):
            own = await token.open()
    except _FAILURES as error:
        places = [Place(project, location) for project in projects for location in options.locations]
        scopes = [place.scope(listing) for place in places for listing in _LISTINGS] or ["gcp:credential"]
        await abandon(harvest, scopes, "google-auth", error)
        return
    if not projects and own is None:
        await abandon(harvest, ["gcp:credential"], "google-auth", "the credential has no project; name some")
        return
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=2 * READ_SECONDS, connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
                connector=aiohttp.TCPConnector(limit=CALLS_AT_ONCE),
            )
        )
        api = _Api(session, token, options.endpoint_url, asyncio.Semaphore(CALLS_AT_ONCE))
        places = [Place(name, where) for name in projects or [str(own)] for where in dict.fromkeys(options.locations)]
        works = [
            partial(_read, api, harvest, place, listing)
            for place in places
            for listing in _LISTINGS
            if not harvest.is_read(place.scope(listing))
        ]
        await side_by_side(works, PLACES_AT_ONCE)


async def _read(api: _Api, harvest: Harvest, place: Place, listing: str) -> None:
    where = f"{listing} of {place.project} in {place.location}"
    async with harvest.scope(place.scope(listing), failures=_FAILURES, where=where) as scope:
        async for page in api.pages(place, listing):
            for entry in page:
                try:
                    made = _LISTINGS[listing](entry, place)
                except KeyError as error:
                    scope.fail(where, f"an entry lacks {error}")
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    scope.fail(where, f"an entry cannot be read ({type(error).__name__})")
                else:
                    for one in made:
                        await scope.add(one)


@dataclass(slots=True)
class _Token:
    """The credential's token. google-auth waits for its answers, so it is asked in a thread."""

    credentials: Any = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self) -> str | None:
        """Find the credential; its own project if it has one.

        Raises:
            NoCredential: there is none.
        """
        import google.auth
        from google.auth.exceptions import GoogleAuthError

        try:
            self.credentials, project = await asyncio.to_thread(google.auth.default, scopes=[SCOPE])
        except (GoogleAuthError, ValueError) as error:
            raise NoCredential(str(error)) from error
        return str(project) if project else None

    async def value(self, *, not_this: str | None = None) -> str:
        """A token that is valid.

        Args:
            not_this: a token that was refused though it had not run out.

        Raises:
            NoCredential: the credential was refused, or its issuer could not be reached.
        """
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        async with self.lock:
            if not self.credentials.valid or self.credentials.token == not_this:
                try:
                    async with asyncio.timeout(30):
                        await asyncio.to_thread(self.credentials.refresh, Request())
                except (GoogleAuthError, ValueError) as error:
                    raise NoCredential(str(error)) from error
            return str(self.credentials.token)


@dataclass(slots=True)
class _Api:
    """Vertex AI's REST API."""

    session: aiohttp.ClientSession
    token: _Token
    endpoint_url: str | None
    gate: asyncio.Semaphore

    async def pages(self, place: Place, listing: str) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Each page's entries. Raises one of _FAILURES, Unintelligible also where pages do not end."""
        base = (self.endpoint_url or place.address).rstrip("/")
        url = f"{base}/v1/projects/{place.project}/locations/{place.location}/{listing}"
        seen: set[str] = set()
        following: dict[str, str] = {}
        for _ in range(PAGES_LIMIT):
            document = await self._get(url, {"pageSize": str(PAGE_SIZE), **following})
            # An empty listing is an empty document; one of other fields is none of this API's.
            if document and not document.keys() & {listing, "nextPageToken"}:
                raise Unintelligible("the answer is not what the API's description says")
            entries, after = document.get(listing) or [], document.get("nextPageToken")
            if not isinstance(entries, list):
                raise Unintelligible(f"{listing} is no list")
            yield entries
            if not after:
                return
            if after in seen:
                raise Unintelligible("the same page token was given twice")
            seen.add(str(after))
            following = {"pageToken": str(after)}
        raise Unintelligible(f"more than {PAGES_LIMIT} pages")

    async def _get(self, url: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        """A document; what may pass by is tried again a few times, after as long as the platform asks for."""
        refused: str | None = None
        for turn in range(TRIES):
            last = turn == TRIES - 1
            token = await self.token.value(not_this=refused)
            wait = random.uniform(0.5, 1.0) * 2**turn
            try:
                async with (
                    self.gate,
                    # A token goes where it was meant to go and nowhere else.
                    self.session.get(
                        url, params=query, headers={"Authorization": f"Bearer {token}"}, allow_redirects=False
                    ) as response,
                ):
                    body = await _body(response)
                    if response.status == 200:
                        return _document(body)
                    if response.status == 401 and refused is None:
                        refused, wait = token, 0.0
                    elif response.status not in _AGAIN or last:
                        raise Refused(_error(response.status, body))
                    else:
                        wait = _retry_after(response.headers.get("Retry-After"), wait)
            except (aiohttp.ClientError, TimeoutError, OSError):
                if last:
                    raise
            await asyncio.sleep(wait)
        raise Refused("HTTP 401 again and again")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            raise Unintelligible(f"an answer of more than {ANSWER_LIMIT_BYTES} bytes")
    return bytes(body)


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = parsed(body)
    except ValueError as error:
        raise Unintelligible("the answer is no JSON") from error
    if not isinstance(document, dict):
        raise Unintelligible("the answer is no object")
    return document


def _error(status: int, body: bytes) -> str:
    """Google's own words of an error."""
    try:
        told = parsed(body)["error"]
        return f"HTTP {status} {told.get('status') or ''}: {told.get('message') or ''}"[:500]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"HTTP {status}"


def _retry_after(header: str | None, otherwise: float) -> float:
    if header is None or not header.strip().isdigit():
        return otherwise
    return min(float(header), RETRY_AFTER_LIMIT_SECONDS)


CONNECTOR = Connector(
    source=Source.GCP_VERTEX,
    title="Google Vertex AI",
    looks_for="Models with image, weights and encryption; endpoints with network and logging; models made by tuning "
    "jobs with base model and training data; agents.",
    permissions=(
        "aiplatform.models.list",
        "aiplatform.endpoints.list",
        "aiplatform.tuningJobs.list",
        "aiplatform.reasoningEngines.list",
    ),
    options=Options,
    check=check,
    discover=discover,
)
