"""Amazon SageMaker AI: models (image, weights, network) and the endpoints that serve them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.inventory.connectors.aws import access
from services.inventory.connectors.aws.access import (
    REMEMBERED,
    Api,
    Options,
    Place,
    Reach,
    everywhere,
    failures,
    is_denied,
)
from services.inventory.connectors.clouds import answers, tagged
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.discovery import Source
from services.inventory.domain.secrets import secrets_in
from services.inventory.settings import InventorySettings
from shared.contracts.inventory import AssetType, Relation

PAGE_SIZE = 100
PROVIDER = "aws_sagemaker"
_LISTINGS = ("list_models", "list_endpoints")
_HUB_VARIABLES = ("HF_MODEL_ID", "MODEL_ID", "HF_MODEL")


# -- what entries mean -------------------------------------------------------------------------------------------------


def model(summary: Mapping[str, Any], detail: Mapping[str, Any] | None, place: Place) -> list[Found]:
    """A model with, where its environment names one, the Hugging Face repository that it serves.

    Args:
        summary: the model in ListModels.
        detail: DescribeModel's answer; without it only the summary is told.
    """
    arn, name = str(summary["ModelArn"]), str(summary["ModelName"])
    detail = detail or {}
    containers = (
        [detail["PrimaryContainer"]] if detail.get("PrimaryContainer") else list(detail.get("Containers") or ())
    )
    weights = [uri for container in containers for uri in _weights(container)]
    repositories = [repo for container in containers if (repo := _repository(container))]
    images = [str(container["Image"]) for container in containers if container.get("Image")]
    one = found(
        arn,
        name=name,
        asset_type=AssetType.FOUNDATION_MODEL if repositories and not weights else AssetType.FINE_TUNED_MODEL,
        description=f"Amazon SageMaker model of {len(containers)} container(s)" if detail else "Amazon SageMaker model",
        model_provider=PROVIDER,
        model_name=name,
        # Told from models of the same name in other accounts and regions.
        api_endpoint=arn,
        is_self_hosted=True,
        source_url=next(iter(weights), None),
        cloud_provider="aws",
        cloud_region=place.region,
    )
    links = [Link(Relation.USES_MODEL, identity.huggingface(repo), f"{arn}#Environment") for repo in repositories]
    links += [Link(Relation.DEPENDS_ON, identity.image(image), f"{arn}#Image") for image in images]
    for container in containers:
        if package := container.get("ModelPackageName"):
            target = (
                str(package) if str(package).startswith("arn:") else place.arn("sagemaker", f"model-package/{package}")
            )
            links.append(Link(Relation.DEPENDS_ON, identity.resource(target), f"{arn}#ModelPackageName"))
    network = detail.get("VpcConfig") or {}
    whole = replace(
        one,
        # SageMaker writes names in ARNs in lower case, and others copy them as they were given.
        identities=tuple(dict.fromkeys((identity.resource(arn), identity.resource(arn.lower())))),
        links=tuple(dict.fromkeys(links)),
        observations=tuple(_model_weaknesses(arn, detail, containers, images)),
        card={
            "images": images,
            "artifacts": weights,
            "vpc_subnets": list(network.get("Subnets") or ()),
            "network_isolation": detail.get("EnableNetworkIsolation"),
            "execution_role": detail.get("ExecutionRoleArn"),
        }
        if detail
        else None,
    )
    return [whole, *(_hub_model(repo, arn, place) for repo in dict.fromkeys(repositories))]


def _weights(container: Mapping[str, Any]) -> list[str]:
    sources = [container.get("ModelDataSource") or {}, *(container.get("AdditionalModelDataSources") or ())]
    uris = [container.get("ModelDataUrl"), *((source.get("S3DataSource") or {}).get("S3Uri") for source in sources)]
    return list(dict.fromkeys(str(uri) for uri in uris if uri))


def _repository(container: Mapping[str, Any]) -> str | None:
    environment = container.get("Environment") or {}
    named = next((str(environment[key]) for key in _HUB_VARIABLES if environment.get(key)), "")
    # A path within the container is no repository.
    return named if named.count("/") == 1 and not named.startswith(("/", ".", "s3:")) else None


def _hub_model(repository: str, arn: str, place: Place) -> Found:
    one = found(
        f"{arn}#Environment",
        name=repository,
        asset_type=AssetType.FOUNDATION_MODEL,
        model_provider="huggingface",
        model_name=repository,
        source_url=f"https://huggingface.co/{repository}",
    )
    locator = f"{place.scope('huggingface')}/{repository}"
    return replace(one, locator=locator, identities=(identity.huggingface(repository),))


def _model_weaknesses(
    arn: str, detail: Mapping[str, Any], containers: Sequence[Mapping[str, Any]], images: Sequence[str]
) -> Iterable[Observation]:
    if detail.get("EnableNetworkIsolation") is False:
        inside = bool(detail.get("VpcConfig"))
        what = "Containers may open connections" + (" within the VPC." if inside else " to the internet.")
        severity = Severity.LOW if inside else Severity.MEDIUM
        yield Observation(ObservationKind.NETWORK_ISOLATION_OFF, severity, what, f"{arn}#EnableNetworkIsolation")
    for image in images:
        if "@sha256:" not in image:
            what = f"The image {image} is named by a tag, which may come to mean another."
            yield Observation(ObservationKind.MUTABLE_IMAGE, Severity.LOW, what, f"{arn}#Image")
    for container in containers:
        for key, value in sorted((container.get("Environment") or {}).items()):
            for _, _, reference in secrets_in(f"{key}={value}"):
                what = f"The environment variable {key} holds a credential: {reference}"
                yield Observation(ObservationKind.INLINE_SECRET, Severity.HIGH, what, f"{arn}#Environment/{key}")


def endpoint(
    summary: Mapping[str, Any],
    detail: Mapping[str, Any] | None,
    place: Place,
    configuration: Mapping[str, Any] | None = None,
    components: Sequence[Mapping[str, Any]] = (),
) -> list[Found]:
    """An endpoint by its description and that of its configuration.

    Args:
        summary: the endpoint in ListEndpoints.
        detail: DescribeEndpoint's answer; without it only the summary is told.
        configuration: DescribeEndpointConfig's answer.
        components: DescribeInferenceComponent's answers, for an endpoint whose models are components.
    """
    arn, name = str(summary["EndpointArn"]), str(summary["EndpointName"])
    domain = "amazonaws.com.cn" if place.partition == "aws-cn" else "amazonaws.com"
    address = f"https://runtime.sagemaker.{place.region}.{domain}/endpoints/{name}/invocations"
    one = found(
        arn,
        name=f"SageMaker: {name}",
        asset_type=AssetType.API_ENDPOINT,
        description="Amazon SageMaker endpoint",
        model_provider=PROVIDER,
        # The address is the region's and the name the account's; in two accounts it may be the same.
        api_endpoint=arn,
        is_self_hosted=True,
        cloud_provider="aws",
        cloud_region=place.region,
    )
    detail, settings = detail or {}, configuration or {}
    variants = [*(settings.get("ProductionVariants") or ()), *(settings.get("ShadowProductionVariants") or ())]
    served = [str(variant["ModelName"]) for variant in variants if variant.get("ModelName")]
    served += [str(m) for part in components if (m := (part.get("Specification") or {}).get("ModelName"))]
    links = [
        Link(
            Relation.USES_MODEL,
            identity.resource(place.arn("sagemaker", f"model/{model_name.lower()}")),
            f"{arn}#model",
        )
        for model_name in dict.fromkeys(served)
    ]
    return [
        replace(
            one,
            identities=(identity.resource(arn),),
            links=tuple(links),
            observations=tuple(_endpoint_weaknesses(arn, detail, settings)),
            card={
                "status": summary.get("EndpointStatus"),
                "address": address,
                "configuration": detail.get("EndpointConfigName"),
                "variants": [str(variant.get("VariantName")) for variant in variants],
            },
        )
    ]


def _endpoint_weaknesses(
    arn: str, detail: Mapping[str, Any], configuration: Mapping[str, Any]
) -> Iterable[Observation]:
    capture = detail.get("DataCaptureConfig") or {}
    if detail and not capture.get("EnableCapture"):
        what = "Data capture is off: what is asked and answered is not kept."
        yield Observation(ObservationKind.INVOCATION_LOGGING_OFF, Severity.LOW, what, f"{arn}#DataCaptureConfig")
    if configuration and not configuration.get("KmsKeyId"):
        at = f"{configuration.get('EndpointConfigArn') or arn}#KmsKeyId"
        what = "The volumes that hold the weights are not encrypted by a key of the account's own."
        yield Observation(ObservationKind.NO_CUSTOMER_KEY, Severity.LOW, what, at)


# -- how they are asked for --------------------------------------------------------------------------------------------


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """All models and endpoints in all accounts and regions."""

    async def look(reach: Reach) -> None:
        tags = await reach.tags(harvest, ["sagemaker:model", "sagemaker:endpoint"])
        async with reach.api("sagemaker") as api:
            region = _Region(reach, harvest, api, tags)
            await region.listing("list_models", "Models", region.describe_model, model)
            await region.listing("list_endpoints", "Endpoints", region.describe_endpoint, endpoint)

    await everywhere(options, harvest, _LISTINGS, look)


@dataclass(slots=True)
class _Region:
    """One region of one account while it is read."""

    reach: Reach
    harvest: Harvest
    api: Api
    tags: Mapping[str, Mapping[str, str]]

    async def listing(self, operation: str, key: str, ask: Any, mapped: Any) -> None:
        place = self.reach.place
        async with self.harvest.scope(
            place.scope(operation),
            failures=failures(),
            where=f"sagemaker {operation} in {place.account} {place.region}",
        ) as scope:
            async for page in self.api.pages(operation, key, "NextToken", MaxResults=PAGE_SIZE):
                unknown = []
                for entry in page:
                    if known := REMEMBERED.recall(*self._memory(operation, entry)):
                        await self._take(scope, known)
                    else:
                        unknown.append(entry)
                for entry, more, error in await answers(unknown, ask, failures(KeyError)):
                    if error is not None:
                        name = entry.get("ModelName") or entry.get("EndpointName")
                        scope.fail(f"{operation}: details of {name}", error)
                        if not is_denied(error):
                            continue  # what is known of it stays as it was
                    try:
                        made = mapped(entry, place=place, **(more or {"detail": None}))
                    except (LookupError, TypeError, AttributeError, ValueError) as wrong:
                        scope.fail(scope.name, f"an entry lacks {wrong}" if isinstance(wrong, KeyError) else wrong)
                        continue
                    # Its parts change without it.
                    if error is None and not more.get("components"):
                        kept = [one.without_secrets() for one in made]
                        REMEMBERED.keep(*self._memory(operation, entry), kept)
                    await self._take(scope, made)

    def _memory(self, operation: str, entry: Mapping[str, Any]) -> tuple[Hashable, Hashable]:
        """By what an entry is remembered, and what tells that it is still the same: a model never changes once it is
        made, an endpoint says when it did."""
        arn = str(entry.get("ModelArn") or entry.get("EndpointArn"))
        changed = entry.get("LastModifiedTime") or entry.get("CreationTime")
        return self.reach.key(operation, arn), (changed, entry.get("EndpointStatus"))

    async def _take(self, scope: Scope, made: Sequence[Found]) -> None:
        for one in made:
            await scope.add(tagged(one, self.tags.get(one.locator), one.locator))

    async def describe_model(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {"detail": await self.api.ask("describe_model", ModelName=entry["ModelName"])}

    async def describe_endpoint(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        detail = await self.api.ask("describe_endpoint", EndpointName=entry["EndpointName"])
        configuration: Mapping[str, Any] = {}
        if name := detail.get("EndpointConfigName"):
            configuration = await self.api.ask("describe_endpoint_config", EndpointConfigName=name)
        variants = configuration.get("ProductionVariants") or ()
        components: list[Any] = []
        if variants and not any(variant.get("ModelName") for variant in variants):
            pages = self.api.pages(
                "list_inference_components",
                "InferenceComponents",
                "NextToken",
                MaxResults=PAGE_SIZE,
                EndpointNameEquals=entry["EndpointName"],
            )
            async for page in pages:
                for part in page:
                    name = part["InferenceComponentName"]
                    components.append(await self.api.ask("describe_inference_component", InferenceComponentName=name))
        return {"detail": detail, "configuration": configuration, "components": components}


CONNECTOR = Connector(
    source=Source.AWS_SAGEMAKER,
    title="Amazon SageMaker",
    looks_for="Models with image, weights, network and credentials in their environment; endpoints with the models "
    "that they serve, data capture and encryption.",
    permissions=(
        "sts:AssumeRole (on the roles a run names)",
        "tag:GetResources",
        "sagemaker:ListModels",
        "sagemaker:DescribeModel",
        "sagemaker:ListEndpoints",
        "sagemaker:DescribeEndpoint",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:ListInferenceComponents",
        "sagemaker:DescribeInferenceComponent",
    ),
    options=Options,
    check=access.check,
    discover=discover,
)
