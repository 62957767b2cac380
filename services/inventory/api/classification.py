"""What an asset's data class and EU AI Act tier probably are, confirmed by a person; an intake before registration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints
from starlette.responses import Response

from services.inventory.api.models import AssetView, Label, Prose
from services.inventory.application.assets import state_of_asset
from services.inventory.domain.asset import Asset, duplicate_key
from services.inventory.domain.classification import QUESTIONS, Question, Subject, Suggestion, Tier, suggest
from services.inventory.domain.graph import Direction
from services.inventory.store import assets as store
from services.inventory.store.assets import Known
from services.inventory.store.graph import neighbourhood
from services.inventory.store.search import alike
from shared import audit
from shared.auth import requires
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, RegulatoryScope
from shared.database import Tx
from shared.errors import Invalid
from shared.http import IfMatch, reply
from shared.models import In, Name, Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1", "classification")

_UPSTREAM_DEPTH = 5
_SCOPES: dict[Tier, RegulatoryScope] = {
    Tier.HIGH_RISK: RegulatoryScope.EU_AI_ACT_HIGH_RISK,
    Tier.LIMITED_RISK: RegulatoryScope.EU_AI_ACT_LIMITED_RISK,
}
Answers = Annotated[
    dict[Question, bool], Field(max_length=len(Question), description="What the questions were answered.")
]


class GroundView(Out):
    says: str
    article: str = Field(description="The rule that makes it matter; empty where none does.")
    where: str = Field(description="The field, the answer or the asset that says so.")


class QuestionView(Out):
    question: Question
    words: str
    matters_by: str


class SuggestionView(Out):
    """Suggestions with their grounds, the strictest first. Nothing changes until a person confirms. No legal advice."""

    data_classification: DataClassification | None = Field(description="Null where nothing speaks for any.")
    data_grounds: list[GroundView]
    eu_ai_act_tier: Tier
    tier_grounds: list[GroundView]
    questions: list[QuestionView] = Field(description="What was not answered and would make this surer.")


class ClassificationView(SuggestionView):
    """The same beside what the asset's record says."""

    asset_id: UUID
    recorded_data_classification: DataClassification
    recorded_regulatory_scope: list[RegulatoryScope]


class SimilarView(Out):
    asset_id: UUID
    name: str
    asset_type: AssetType
    owner_team: str
    same_key: bool = Field(description="Registering would answer with this asset.")
    similarity: float = Field(description="Of the names, 0 to 1.")


class IntakeIn(In):
    """What somebody means to register, and answers to what an intake asks."""

    name: Name
    asset_type: AssetType
    purpose: Prose
    description: Prose = ""
    owner_team: Label = ""
    deployment_env: DeploymentEnvironment = DeploymentEnvironment.DEVELOPMENT
    model_provider: Label | None = None
    model_name: Label | None = None
    api_endpoint: Label | None = None
    answers: Answers = Field(default_factory=dict)


class IntakeView(SuggestionView):
    similar: list[SimilarView] = Field(description="Assets that it may already be, the likest first; yours to see.")


class ConfirmationIn(In):
    """A person's decision; what is left out stays."""

    data_classification: DataClassification | None = None
    eu_ai_act_tier: Literal[Tier.HIGH_RISK, Tier.LIMITED_RISK, Tier.MINIMAL_RISK] | None = None
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


@router.get("/assets/{asset_id:uuid}/classification", response_model=ClassificationView)
@requires("inventory:read")
async def read_classification(asset_id: UUID, work: Work) -> Response:
    """What its words, and the data of what it depends on, suggest of its data class and its tier."""

    async def read(tx: Tx) -> ClassificationView:
        asset = (await store.get(tx, work.caller, asset_id)).asset
        graph = await neighbourhood(tx, work.caller, asset_id, Direction.UPSTREAM, _UPSTREAM_DEPTH)
        upstream = [
            (node.name, node.data_classification)
            for node in graph.nodes.values()
            if node.asset_id != asset_id and node.data_classification is not DataClassification.INTERNAL
        ]
        found = suggest(Subject(asset.asset_type, _texts(asset), {}, upstream))
        return ClassificationView(
            **_shown(found, {}),
            asset_id=asset_id,
            recorded_data_classification=asset.data_classification,
            recorded_regulatory_scope=list(asset.regulatory_scope),
        )

    return reply(await work.read(read))


@router.put("/assets/{asset_id:uuid}/classification", response_model=AssetView)
@requires("inventory:write")
async def confirm_classification(asset_id: UUID, body: ConfirmationIn, work: Work, if_match: IfMatch) -> Response:
    """Decide the data class or the tier, with the reason; both are then a person's word, which no discovery changes."""
    if body.data_classification is None and body.eu_ai_act_tier is None:
        raise Invalid("say a data_classification, an eu_ai_act_tier or both", field="/data_classification")

    async def confirm(tx: Tx) -> Known:
        asset = (await store.get(tx, work.caller, asset_id, lock=True)).asset
        values: dict[str, Any] = {}
        if body.data_classification is not None:
            values["data_classification"] = body.data_classification
        if body.eu_ai_act_tier is not None:
            others = [scope for scope in asset.regulatory_scope if scope not in _SCOPES.values()]
            own = _SCOPES.get(body.eu_ai_act_tier)
            values["regulatory_scope"] = tuple(others + ([own] if own else []))
        known = await state_of_asset(tx, work.caller, asset_id, if_match, values, datetime.now(UTC))
        await audit.record(
            tx,
            work.caller,
            action="asset.classified",
            target=str(asset_id),
            detail={
                "data_classification": body.data_classification,
                "eu_ai_act_tier": body.eu_ai_act_tier,
                "reason": body.reason,
            },
            owner_team=known.asset.owner_team,
        )
        return known

    return await work.run(confirm, lambda known: reply(AssetView.of(known), etag=known.asset.version))


@router.post("/assets/intake", response_model=IntakeView)
@requires("inventory:read")
async def intake(body: IntakeIn, work: Work) -> Response:
    """Before registering: what it may already be, and what its purpose and the answers suggest. Stores nothing."""
    key = duplicate_key(
        model_name=body.model_name,
        model_provider=body.model_provider,
        api_endpoint=body.api_endpoint,
        deployment_env=body.deployment_env,
        name=body.name,
        asset_type=body.asset_type,
        owner_team=body.owner_team,
    )
    texts = {"name": body.name, "purpose": body.purpose, "description": body.description}
    found = suggest(Subject(body.asset_type, texts, body.answers))
    similar = await work.read(lambda tx: alike(tx, work.caller, body.name, key))
    return reply(IntakeView(**_shown(found, body.answers), similar=[SimilarView(**one) for one in similar]))


def _texts(asset: Asset) -> dict[str, str]:
    return {"name": asset.name, "purpose": asset.purpose, "description": asset.description}


def _shown(found: Suggestion, answers: dict[Question, bool]) -> dict[str, Any]:
    return {
        "data_classification": found.data_classification,
        "data_grounds": [GroundView.model_validate(ground) for ground in found.data_grounds],
        "eu_ai_act_tier": found.tier,
        "tier_grounds": [GroundView.model_validate(ground) for ground in found.tier_grounds],
        "questions": [
            QuestionView(question=question, words=words, matters_by=matters)
            for question, (words, matters) in QUESTIONS.items()
            if question not in answers
        ],
    }
