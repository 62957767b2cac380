"""What Bedrock's listings say of models and of the ways to call them, as entries. Nothing here calls anything.

Field names are the API's. What a listing does not say (an owner, a purpose, a deployment stage) stays unsaid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from services.inventory.connectors.aws.access import Place
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.identity import dataset, hosted_model, resource
from shared.contracts.inventory import AssetType, Relation

PROVIDER = "aws_bedrock"
_SOLD_BY = "aws.bedrock"
"""The provider's name in identities, as OpenTelemetry's GenAI conventions have it: what traffic and code say too."""
_FOUNDATION_MODEL = re.compile(r"arn:[\w-]+:bedrock:[\w-]*::foundation-model/(?P<id>[^/\s]+)")
_PROFILE_ID = re.compile(r"(?:global|us|us-gov|eu|apac|au|jp|ca|sa|me|af|il)\.[a-z0-9]+\..+")
_OF_BEDROCK = re.compile(r"-v\d+(?::\d+)?(?::\w+)?$|:\d+(?::\w+)?$")


def service_locator(place: Place) -> str:
    """Locator of Bedrock itself in a place."""
    return place.scope("bedrock")


def model_target(reference: str, place: Place) -> str:
    """The identity of what an id or ARN names where Bedrock takes a model: a model, a throughput or a profile."""
    if reference.startswith("arn:"):
        return resource(reference)
    if _PROFILE_ID.fullmatch(reference):
        return resource(place.arn("bedrock", f"inference-profile/{reference}"))
    return resource(f"arn:{place.partition}:bedrock:{place.region}::foundation-model/{reference}")


def foundation_model_id(target: str) -> str | None:
    """The foundation model's id within a link's target; None when it is something else."""
    match = _FOUNDATION_MODEL.fullmatch(target.removeprefix("id:"))
    return match["id"] if match else None


def foundation_model(
    model_id: str, arns: Iterable[str], entry: Mapping[str, Any] | None, place: Place, how_known: str
) -> Found:
    """A foundation model that is used or may be used here.

    Args:
        arns: its ARNs as others refer to it: a profile names it in several regions.
        entry: the model in ListFoundationModels, if this region has it.
        how_known: why it belongs to the estate.
    """
    entry = entry or {}
    own = str(entry.get("modelArn") or f"arn:{place.partition}:bedrock:{place.region}::foundation-model/{model_id}")
    known = (own, *arns) if entry else tuple(arns) or (own,)
    maker, _, rest = model_id.partition(".")
    embeds = list(entry.get("outputModalities") or ()) == ["EMBEDDING"] or "embed" in rest
    one = found(
        own,
        name=str(entry.get("modelName") or model_id),
        asset_type=AssetType.EMBEDDING_MODEL if embeds else AssetType.FOUNDATION_MODEL,
        description=f"Foundation model in Amazon Bedrock, {how_known}",
        model_provider=PROVIDER,
        model_name=model_id,
        cloud_provider="aws",
        is_self_hosted=False,
    )
    told: list[Observation] = []
    if (entry.get("modelLifecycle") or {}).get("status") == "LEGACY":
        told.append(
            Observation(
                ObservationKind.DEPRECATED_MODEL,
                Severity.LOW,
                "Bedrock calls this model LEGACY: it will be withdrawn.",
                f"{own}#modelLifecycle",
            )
        )
    links: list[Link] = []
    if rest:
        # The maker's own model under the maker's own name is another thing (another host takes the data), and related.
        links.append(Link(Relation.USES_MODEL, hosted_model(maker, _OF_BEDROCK.sub("", rest)), own))
    return replace(
        one,
        locator=f"{place.scope('foundation-model')}/{model_id}",
        identities=(*dict.fromkeys(resource(arn) for arn in known), hosted_model(_SOLD_BY, model_id)),
        links=tuple(links),
        observations=tuple(told),
        card=_card(
            provider=entry.get("providerName") or maker,
            input_modalities=entry.get("inputModalities"),
            output_modalities=entry.get("outputModalities"),
        ),
    )


_OF_MODEL = (
    "baseModelArn",
    "customizationConfig",
    "hyperParameters",
    "jobArn",
    "modelDataSource",
    "modelKmsKeyArn",
    "trainingDataConfig",
)


def described(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of GetCustomModel's and GetImportedModel's answers."""
    return {"described": True, **{name: answer[name] for name in _OF_MODEL if answer.get(name)}}


def custom_model(entry: Mapping[str, Any], detail: Mapping[str, Any] | None, place: Place) -> Found:
    """An entry of ListCustomModels, `described` by GetCustomModel: a model tuned in the account."""
    arn, name = str(entry["modelArn"]), str(entry["modelName"])
    detail = detail or {}
    base = str(entry.get("baseModelArn") or detail.get("baseModelArn") or "")
    base_name = entry.get("baseModelName") or base
    one = found(
        arn,
        name=name,
        asset_type=AssetType.FINE_TUNED_MODEL,
        description=f"Amazon Bedrock custom model {name}" + (f", tuned from {base_name}" if base_name else ""),
        model_provider=PROVIDER,
        model_name=name,
        # By the ARN it is called, and told from models of the same name in other accounts and regions.
        api_endpoint=arn,
        is_self_hosted=False,
        cloud_provider="aws",
        cloud_region=place.region,
    )
    links = [Link(Relation.FINE_TUNED_FROM, model_target(base, place), f"{arn}#baseModelArn")] if base else []
    training = detail.get("trainingDataConfig") or {}
    teacher = ((detail.get("customizationConfig") or {}).get("distillationConfig") or {}).get("teacherModelConfig")
    if teacher and teacher.get("teacherModelIdentifier"):
        target = model_target(str(teacher["teacherModelIdentifier"]), place)
        links.append(Link(Relation.DEPENDS_ON, target, f"{arn}#customizationConfig"))
    logs = ((training.get("invocationLogsConfig") or {}).get("invocationLogSource") or {}).get("s3Uri")
    for where, uri in (("trainingDataConfig.s3Uri", training.get("s3Uri")), ("invocationLogSource.s3Uri", logs)):
        if uri:
            links.append(Link(Relation.TRAINED_ON, dataset(str(uri)), f"{arn}#{where}"))
    told = () if not detail or detail.get("modelKmsKeyArn") else (_no_customer_key(arn, "modelKmsKeyArn"),)
    return replace(
        one,
        identities=(resource(arn),),
        links=tuple(links),
        observations=told,
        card=_card(
            customization=entry.get("customizationType"),
            status=entry.get("modelStatus"),
            hyperparameters=detail.get("hyperParameters"),
            job=detail.get("jobArn"),
        ),
    )


def training_data(model: Found, place: Place) -> list[Found]:
    """What a custom model was trained on, as entries: nothing else may ever report them."""
    made: list[Found] = []
    for link in model.links:
        if link.relation is Relation.TRAINED_ON:
            uri = link.target.removeprefix("dataset:")
            one = found(
                link.locator,
                name=uri,
                asset_type=AssetType.TRAINING_DATASET,
                source_url=uri,
                cloud_provider="aws",
            )
            made.append(replace(one, locator=f"{place.scope('training-data')}/{uri}", identities=(link.target,)))
    return made


def imported_model(entry: Mapping[str, Any], detail: Mapping[str, Any] | None, place: Place) -> Found:
    """An entry of ListImportedModels, `described` by GetImportedModel: weights brought along from elsewhere."""
    arn, name = str(entry["modelArn"]), str(entry["modelName"])
    detail = detail or {}
    source = ((detail.get("modelDataSource") or {}).get("s3DataSource") or {}).get("s3Uri")
    one = found(
        arn,
        name=name,
        asset_type=AssetType.FINE_TUNED_MODEL,
        description=f"Model imported into Amazon Bedrock, architecture {entry.get('modelArchitecture') or 'unknown'}",
        model_provider=PROVIDER,
        model_name=name,
        # By the ARN it is called, and told from models of the same name in other accounts and regions.
        api_endpoint=arn,
        is_self_hosted=False,
        source_url=source,
        cloud_provider="aws",
        cloud_region=place.region,
    )
    told = () if not detail or detail.get("modelKmsKeyArn") else (_no_customer_key(arn, "modelKmsKeyArn"),)
    return replace(
        one,
        identities=(resource(arn),),
        observations=told,
        card=_card(architecture=entry.get("modelArchitecture"), instruct=entry.get("instructSupported")),
    )


def provisioned_throughput(entry: Mapping[str, Any], place: Place) -> Found:
    """An entry of ListProvisionedModelThroughputs: capacity through which a model is called.

    Its ARN is what callers invoke, so it is the endpoint; without it two throughputs of one foundation model would have
    the same registration key and be one asset.
    """
    arn = str(entry["provisionedModelArn"])
    model = str(entry.get("modelArn") or entry.get("foundationModelArn") or "")
    base = str(entry.get("foundationModelArn") or "")
    one = _way_to_call(
        arn,
        place,
        name=f"Provisioned: {entry['provisionedModelName']}",
        description=f"Amazon Bedrock provisioned throughput of {model or 'a model'}",
        model_name=foundation_model_id(base) or base or None,
    )
    links = [Link(Relation.USES_MODEL, model_target(model, place), f"{arn}#modelArn")] if model else []
    return replace(
        one,
        links=(*one.links, *links),
        card=_card(status=entry.get("status"), model_units=entry.get("modelUnits")),
    )


def custom_model_deployment(entry: Mapping[str, Any], place: Place) -> Found:
    """An entry of ListCustomModelDeployments: a custom model that can be called on demand."""
    arn = str(entry["customModelDeploymentArn"])
    one = _way_to_call(
        arn,
        place,
        name=f"Deployment: {entry['customModelDeploymentName']}",
        description="Amazon Bedrock custom model deployment",
    )
    link = Link(Relation.USES_MODEL, model_target(str(entry["modelArn"]), place), f"{arn}#modelArn")
    return replace(one, links=(*one.links, link), card=_card(status=entry.get("status")))


def inference_profile(entry: Mapping[str, Any], place: Place) -> Found:
    """An entry of ListInferenceProfiles: a name by which a model is called, across regions or for one application."""
    arn = str(entry["inferenceProfileArn"])
    one = _way_to_call(
        arn,
        place,
        name=f"Profile: {entry['inferenceProfileName']}",
        description=str(entry.get("description") or "Amazon Bedrock inference profile")[:500],
    )
    models = [str(model["modelArn"]) for model in entry.get("models") or () if model.get("modelArn")]
    links = [Link(Relation.USES_MODEL, model_target(model, place), f"{arn}#models") for model in dict.fromkeys(models)]
    return replace(
        one,
        links=(*one.links, *links),
        card=_card(
            type=entry.get("type"), regions=sorted({model.split(":")[3] for model in models if model.count(":") > 3})
        ),
    )


def is_own_profile(entry: Mapping[str, Any]) -> bool:
    """Whether somebody made the profile here; the others are every account's."""
    return entry.get("type") == "APPLICATION"


def guardrail(entry: Mapping[str, Any], place: Place) -> Found:
    """An entry of ListGuardrails."""
    arn = str(entry["arn"])
    one = found(
        arn,
        name=str(entry["name"]),
        asset_type=AssetType.GUARDRAIL_CONFIG,
        description=str(entry.get("description") or "Amazon Bedrock guardrail")[:500],
        model_version=entry.get("version"),
        api_endpoint=arn,
        cloud_provider="aws",
        cloud_region=place.region,
    )
    return replace(one, identities=(resource(arn),), card=_card(status=entry.get("status")))


def bedrock_itself(place: Place, answer: Mapping[str, Any]) -> Found:
    """Bedrock in a region of an account, by GetModelInvocationLoggingConfiguration: whether what is asked and answered
    is kept anywhere."""
    locator = service_locator(place)
    one = found(
        locator,
        name=f"Amazon Bedrock in {place.account} {place.region}",
        asset_type=AssetType.INTEGRATION,
        description="The account's access to Amazon Bedrock in this region",
        cloud_provider="aws",
        cloud_region=place.region,
        is_self_hosted=False,
    )
    configured = answer.get("loggingConfig") or {}
    kept = [name for name in ("cloudWatchConfig", "s3Config") if configured.get(name)]
    at = f"{locator}#loggingConfig"
    told: list[Observation] = []
    if not kept:
        detail = "Model invocation logging is off: no prompt or answer of this account and region is kept."
        told.append(Observation(ObservationKind.INVOCATION_LOGGING_OFF, Severity.HIGH, detail, at))
    elif configured.get("textDataDeliveryEnabled") is False:
        detail = "Model invocation logging leaves out texts."
        told.append(Observation(ObservationKind.INVOCATION_LOGGING_OFF, Severity.MEDIUM, detail, at))
    return replace(one, observations=tuple(told), card=_card(invocation_logging=kept or None))


def _way_to_call(arn: str, place: Place, **values: Any) -> Found:
    one = found(
        arn,
        asset_type=AssetType.API_ENDPOINT,
        model_provider=PROVIDER,
        api_endpoint=arn,
        is_self_hosted=False,
        cloud_provider="aws",
        cloud_region=place.region,
        **values,
    )
    where = Link(Relation.DEPLOYED_IN, service_locator(place), arn)
    return replace(one, identities=(resource(arn),), links=(where,))


def _no_customer_key(arn: str, field: str) -> Observation:
    detail = "It is encrypted with a key of AWS's, not one of the account's own."
    return Observation(ObservationKind.NO_CUSTOMER_KEY, Severity.LOW, detail, f"{arn}#{field}")


def _card(**values: Any) -> dict[str, Any] | None:
    """What was told; None when that is nothing."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})} or None
