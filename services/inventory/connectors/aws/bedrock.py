"""Amazon Bedrock: models, the ways to call them, guardrails, agents and knowledge bases.

Of foundation models, which Bedrock offers by the hundred, only those are found that something refers to, or that the
account has been given access to. What listings leave out (an agent's tools, a tuned model's data) is asked for entry by
entry; where that is refused, the entry is told as far as the listing goes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import Field

from services.inventory.connectors.aws import access, agents, models
from services.inventory.connectors.aws.access import REMEMBERED, Api, Reach, everywhere, failures, is_denied
from services.inventory.connectors.clouds import answers, tagged, without_credentials
from services.inventory.connectors.connector import Connector
from services.inventory.connectors.harvest import Harvest, Scope
from services.inventory.domain.claims import Found
from services.inventory.domain.discovery import Source
from services.inventory.domain.identity import resource
from services.inventory.settings import InventorySettings
from shared.models import Flag

PAGE_SIZE = 100
_LISTINGS = (
    "list_custom_models",
    "list_imported_models",
    "list_provisioned_model_throughputs",
    "list_custom_model_deployments",
    "list_guardrails",
    "list_knowledge_bases",
    "list_agents",
    "list_inference_profiles",
    "foundation_models",
    "invocation_logging",
)
_SHARED = re.compile(r":(?:foundation-model|inference-profile)/")
"""What every account has, and is found where something refers to it."""


class Options(access.Options):
    enabled_models: Flag = Field(
        default=True,
        description="Whether foundation models that the account has access to are found though nothing refers to them; "
        "a call a model. Where access is given to all by default, these are all.",
    )


async def discover(options: Options, settings: InventorySettings, harvest: Harvest) -> None:
    """Everything of Bedrock in all accounts and regions."""

    async def look(reach: Reach) -> None:
        tags = await reach.tags(harvest, ["bedrock"])
        async with reach.api("bedrock") as bedrock, reach.api("bedrock-agent") as builder:
            await _Region(reach, harvest, bedrock, builder, tags).read(enabled=options.enabled_models)

    await everywhere(options, harvest, _LISTINGS, look)


@dataclass(slots=True)
class _Region:
    """One region of one account while it is read."""

    reach: Reach
    harvest: Harvest
    bedrock: Api
    builder: Api
    tags: Mapping[str, Mapping[str, str]]
    referred: set[str] = field(default_factory=set)
    entries: int = 0
    untold: list[str] = field(default_factory=list)

    async def read(self, *, enabled: bool) -> None:
        place = self.reach.place
        await self._models()
        await self._listing(
            self.bedrock,
            "list_provisioned_model_throughputs",
            "provisionedModelSummaries",
            lambda entry: [models.provisioned_throughput(entry, place)],
        )
        await self._listing(
            self.bedrock,
            "list_custom_model_deployments",
            "modelDeploymentSummaries",
            lambda entry: [models.custom_model_deployment(entry, place)],
        )
        await self._listing(
            self.bedrock, "list_guardrails", "guardrails", lambda entry: [models.guardrail(entry, place)]
        )
        await self._detailed(
            self.builder, "list_knowledge_bases", "knowledgeBaseSummaries", self._knowledge_base, agents.knowledge_base
        )
        await self._detailed(self.builder, "list_agents", "agentSummaries", self._agent, agents.agent)
        await self._profiles()
        await self._foundation_models(enabled=enabled)
        await self._logging()

    # -- listings --------------------------------------------------------------------------------------------------

    def _scope(self, listing: str) -> Any:
        place = self.reach.place
        name = place.scope(listing)
        return self.harvest.scope(
            name, failures=failures(), where=f"bedrock {listing} in {place.account} {place.region}"
        )

    async def _listing(
        self, api: Api, operation: str, key: str, mapped: Callable[[Mapping[str, Any]], Iterable[Found]]
    ) -> None:
        async with self._scope(operation) as scope:
            async for page in api.pages(operation, key, maxResults=PAGE_SIZE):
                for entry in page:
                    await self._add(scope, mapped, entry)
        self._close(scope)

    async def _detailed(
        self,
        api: Api,
        operation: str,
        key: str,
        ask: Callable[[Scope, Mapping[str, Any]], Awaitable[dict[str, Any]]],
        mapped: Callable[..., Iterable[Found]],
    ) -> None:
        """A listing whose entries are asked for one by one. `ask` gives what `mapped` takes beside entry and place."""
        place = self.reach.place
        async with self._scope(operation) as scope:
            async for page in api.pages(operation, key, maxResults=PAGE_SIZE):
                for entry, more, error in await answers(page, partial(ask, scope), failures(KeyError)):
                    if error is not None and not is_denied(error):
                        # What is known of it stays as it was, rather than losing what was not told this time.
                        scope.fail(f"{operation}: {_name(entry)}", _words(error))
                        continue
                    if error is not None:
                        scope.fail(f"details of {_name(entry)}", error)
                    await self._add(scope, partial(mapped, place=place, **(more or {"detail": None})), entry)
        self._close(scope)

    async def _add(
        self, scope: Scope, mapped: Callable[[Mapping[str, Any]], Iterable[Found]], entry: Mapping[str, Any]
    ) -> None:
        try:
            made = list(mapped(entry))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            scope.fail(f"{scope.name}: {_name(entry)}", _words(error))
            return
        for position, one in enumerate(made):
            self.referred.update(link.target for link in one.links if _SHARED.search(link.target))
            self.entries += 1
            arn = one.identities[0].removeprefix("id:") if position == 0 and one.identities else ""
            await scope.add(tagged(one, self.tags.get(arn), arn))

    def _close(self, scope: Scope) -> None:
        if scope.failure is not None:
            self.untold.append(scope.name)

    # -- models and the ways to call them --------------------------------------------------------------------------

    async def _models(self) -> None:
        def tuned(entry: Mapping[str, Any], *, detail: Mapping[str, Any] | None, place: Any) -> list[Found]:
            model = models.custom_model(entry, detail, place)
            return [model, *models.training_data(model, place)]

        async def custom(_: Scope, entry: Mapping[str, Any]) -> dict[str, Any]:
            return {"detail": await self._once("get_custom_model", entry["modelArn"], _made(entry), models.described)}

        async def imported(_: Scope, entry: Mapping[str, Any]) -> dict[str, Any]:
            return {"detail": await self._once("get_imported_model", entry["modelArn"], _made(entry), models.described)}

        await self._detailed(self.bedrock, "list_custom_models", "modelSummaries", custom, tuned)
        await self._detailed(
            self.bedrock,
            "list_imported_models",
            "modelSummaries",
            imported,
            lambda entry, *, detail, place: [models.imported_model(entry, detail, place)],
        )

    async def _profiles(self) -> None:
        """Profiles made here, and of those that every account has the ones that are referred to."""
        place = self.reach.place
        async with self._scope("list_inference_profiles") as scope:
            others: list[Mapping[str, Any]] = []
            async for page in self.bedrock.pages(
                "list_inference_profiles", "inferenceProfileSummaries", maxResults=PAGE_SIZE
            ):
                for entry in page:
                    if models.is_own_profile(entry):
                        await self._add(scope, lambda e: [models.inference_profile(e, place)], entry)
                    else:
                        others.append(entry)
            for entry in others:
                if resource(str(entry.get("inferenceProfileArn"))) in self.referred:
                    await self._add(scope, lambda e: [models.inference_profile(e, place)], entry)
            self._depends_on_all(scope)
        self._close(scope)

    async def _foundation_models(self, *, enabled: bool) -> None:
        place = self.reach.place
        async with self._scope("foundation_models") as scope:
            # First what is referred to, which is known though the catalogue should fail.
            used: dict[str, list[str]] = {}
            for target in sorted(self.referred):
                if model_id := models.foundation_model_id(target):
                    used.setdefault(model_id, []).append(target.removeprefix("id:"))
            catalogue: dict[str, Mapping[str, Any]] = {}
            try:
                answer = await self.bedrock.ask("list_foundation_models")
                catalogue = {str(entry["modelId"]): entry for entry in answer.get("modelSummaries") or ()}
            except failures(KeyError) as error:
                scope.fail("bedrock list_foundation_models", _words(error))
            for model_id, arns in used.items():
                await scope.add(models.foundation_model(model_id, arns, catalogue.get(model_id), place, "in use here"))
            if enabled:
                await self._enabled(scope, [entry for name, entry in catalogue.items() if name not in used])
            self._depends_on_all(scope)

    async def _enabled(self, scope: Scope, entries: Sequence[Mapping[str, Any]]) -> None:
        """Foundation models that may be called though nothing here refers to them: agreement, authorisation,
        entitlement and region are all given."""

        async def available(entry: Mapping[str, Any]) -> Mapping[str, Any]:
            return await self.bedrock.ask("get_foundation_model_availability", modelId=entry["modelId"])

        # One first: where it is refused, all are, and hundreds of calls are saved.
        for some in (entries[:1], entries[1:]):
            for entry, answer, error in await answers(some, available, failures()):
                if error is not None:
                    scope.fail(f"bedrock get_foundation_model_availability {entry['modelId']}", error)
                    if is_denied(error):
                        return
                elif _is_available(answer):
                    how = "where the account has been given access to it; nothing found here refers to it"
                    place = self.reach.place
                    await scope.add(models.foundation_model(str(entry["modelId"]), (), entry, place, how))

    async def _logging(self) -> None:
        """Bedrock itself, where there is anything of it: a region that nobody uses needs no log."""
        async with self._scope("invocation_logging") as scope:
            answer = await self.bedrock.ask("get_model_invocation_logging_configuration")
            if self.entries or answer.get("loggingConfig"):
                await scope.add(models.bedrock_itself(self.reach.place, answer))
            else:
                self._depends_on_all(scope)

    def _depends_on_all(self, scope: Scope) -> None:
        """What a scope holds depends on what refers to it: where that is not all known, it is not complete."""
        if self.untold and scope.failure is None:
            scope.failure = f"what refers to it was not all read: {self.untold[0]}"

    # -- agents and knowledge bases --------------------------------------------------------------------------------

    async def _knowledge_base(self, scope: Scope, entry: Mapping[str, Any]) -> dict[str, Any]:
        base_id = entry["knowledgeBaseId"]
        detail = await self._once_of(
            "get_knowledge_base", base_id, entry, _of("knowledgeBase"), knowledgeBaseId=base_id
        )
        listed = await self._all("list_data_sources", "dataSourceSummaries", knowledgeBaseId=base_id)

        async def source(summary: Mapping[str, Any]) -> Any:
            source_id = summary["dataSourceId"]
            of_base = {"knowledgeBaseId": base_id, "dataSourceId": source_id}
            return await self._once_of(
                "get_data_source", f"{base_id}/{source_id}", summary, _of("dataSource"), **of_base
            )

        return {
            "detail": detail,
            "sources": await self._or_summaries(scope, listed, source, "get_data_source"),
        }

    async def _agent(self, scope: Scope, entry: Mapping[str, Any]) -> dict[str, Any]:
        agent_id = entry["agentId"]
        detail = await self._once_of("get_agent", agent_id, entry, agents.described_agent, agentId=agent_id)
        of_draft = {"agentId": agent_id, "agentVersion": agents.DRAFT}
        listed = await self._all("list_agent_action_groups", "actionGroupSummaries", **of_draft)

        async def group(summary: Mapping[str, Any]) -> Any:
            group_id = summary["actionGroupId"]
            return await self._once_of(
                "get_agent_action_group",
                f"{agent_id}/{group_id}",
                summary,
                agents.described_group,
                **of_draft,
                actionGroupId=group_id,
            )

        together = detail.get("agentCollaboration") in {"SUPERVISOR", "SUPERVISOR_ROUTER"}
        return {
            "detail": detail,
            "groups": await self._or_summaries(scope, listed, group, "get_agent_action_group"),
            "bases": await self._all("list_agent_knowledge_bases", "agentKnowledgeBaseSummaries", **of_draft),
            "aliases": await self._all("list_agent_aliases", "agentAliasSummaries", agentId=agent_id),
            "collaborators": await self._all("list_agent_collaborators", "agentCollaboratorSummaries", **of_draft)
            if together
            else (),
        }

    async def _once(
        self, operation: str, arn: str, marker: Hashable, kept: Callable[[Mapping[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """What is kept of a model's details: of one that has not changed they are not asked for again."""
        return await self._recalled(self.bedrock, operation, arn, marker, kept, {"modelIdentifier": arn})

    async def _once_of(
        self,
        operation: str,
        name: str,
        summary: Mapping[str, Any],
        kept: Callable[[Mapping[str, Any]], dict[str, Any]],
        **parameters: Any,
    ) -> dict[str, Any]:
        """The same of a part of an agent or a knowledge base, by the moment of change that its summary gives."""
        return await self._recalled(self.builder, operation, name, summary.get("updatedAt"), kept, parameters)

    async def _recalled(
        self,
        api: Api,
        operation: str,
        name: str,
        marker: Hashable,
        kept: Callable[[Mapping[str, Any]], dict[str, Any]],
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        key = self.reach.key(operation, name)
        known: dict[str, Any] | None = REMEMBERED.recall(key, marker) if marker else None
        if known is None:
            known = without_credentials(kept(await api.ask(operation, **parameters)))
            REMEMBERED.keep(key, marker, known)
        return known

    async def _all(self, operation: str, key: str, **parameters: Any) -> list[Mapping[str, Any]]:
        return [
            entry
            async for page in self.builder.pages(operation, key, maxResults=PAGE_SIZE, **parameters)
            for entry in page
        ]

    async def _or_summaries(
        self,
        scope: Scope,
        listed: Sequence[Mapping[str, Any]],
        ask: Callable[[Mapping[str, Any]], Awaitable[Any]],
        operation: str,
    ) -> list[Mapping[str, Any]]:
        """The details of each, or the summary where those are refused; another failure is the caller's."""
        told: list[Mapping[str, Any]] = []
        for summary, detail, error in await answers(listed, ask, failures(KeyError)):
            if error is not None:
                if not is_denied(error):
                    raise error
                scope.fail(operation, error)
            told.append(detail if error is None else summary)
        return told


def _made(entry: Mapping[str, Any]) -> Hashable:
    """A model never changes once it is made; what is being made does."""
    return entry.get("creationTime"), entry.get("modelStatus")


def _of(name: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda answer: dict(answer[name])


def _is_available(answer: Mapping[str, Any]) -> bool:
    return (
        (answer.get("agreementAvailability") or {}).get("status") == "AVAILABLE"
        and answer.get("authorizationStatus") == "AUTHORIZED"
        and answer.get("entitlementAvailability") == "AVAILABLE"
        and answer.get("regionAvailability") == "AVAILABLE"
    )


def _name(entry: Mapping[str, Any]) -> str:
    """What an entry is called, for a problem."""
    for key in ("modelArn", "agentName", "name", "provisionedModelName", "inferenceProfileName", "modelId"):
        if entry.get(key):
            return str(entry[key])
    return "an entry without a name"


def _words(error: BaseException) -> str:
    return f"an entry lacks {error}" if isinstance(error, KeyError) else str(error)


CONNECTOR = Connector(
    source=Source.AWS_BEDROCK,
    title="Amazon Bedrock",
    looks_for="Custom and imported models, foundation models in use or enabled, throughputs, inference profiles, "
    "guardrails, agents with tools and instructions, knowledge bases with their stores, whether calls are logged.",
    permissions=(
        "sts:AssumeRole (on the roles a run names)",
        "tag:GetResources",
        "bedrock:ListCustomModels",
        "bedrock:GetCustomModel",
        "bedrock:ListImportedModels",
        "bedrock:GetImportedModel",
        "bedrock:ListProvisionedModelThroughputs",
        "bedrock:ListCustomModelDeployments",
        "bedrock:ListInferenceProfiles",
        "bedrock:ListGuardrails",
        "bedrock:ListFoundationModels",
        "bedrock:GetFoundationModelAvailability",
        "bedrock:GetModelInvocationLoggingConfiguration",
        "bedrock:ListAgents",
        "bedrock:GetAgent",
        "bedrock:ListAgentActionGroups",
        "bedrock:GetAgentActionGroup",
        "bedrock:ListAgentKnowledgeBases",
        "bedrock:ListAgentAliases",
        "bedrock:ListAgentCollaborators",
        "bedrock:ListKnowledgeBases",
        "bedrock:GetKnowledgeBase",
        "bedrock:ListDataSources",
        "bedrock:GetDataSource",
    ),
    options=Options,
    check=access.check,
    discover=discover,
)
