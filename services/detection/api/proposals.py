"""`/v1/rules/proposals`: a confirmed attack becomes a regression case and a rule in shadow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, model_validator
from starlette.responses import Response

from services.detection.api.inspections import Memory
from services.detection.api.rules import CaseView, Room, RuleView, TextRecordView
from services.detection.application import proposals as application
from services.detection.application.proposals import Attack, Proposal
from services.detection.domain.rules import Level
from services.detection.store.rules import StoredRule
from shared.auth import requires
from shared.contracts.detection import Direction, FindingKind
from shared.http import reply
from shared.models import In, Out
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/rules/proposals", "rules")


class NewProposal(In):
    """An attack: an alert that was judged a true positive, or a text that no alert was raised for."""

    alert_id: UUID | None = None
    text: Annotated[str, Field(min_length=1, max_length=65_536)] | None = Field(
        default=None,
        description="The attack itself. With an alert it must be the text that this was raised for; left out, the "
        "alert's masked excerpt is used. Secrets and personal data in it are masked before it is kept.",
    )
    kind: FindingKind | None = Field(default=None, description="Of a text without an alert.")
    direction: Direction = Field(default=Direction.INPUT, description="Of a text without an alert.")
    asset_id: UUID | None = Field(default=None, description="Of a text without an alert: where it was met.")
    team: Annotated[str, Field(max_length=200)] = Field(
        default="", description="Of a text without an alert: whose it is."
    )
    everywhere: bool = Field(
        default=False, description="For all traffic, not only for the asset it came through. The pattern tells of it."
    )
    title: Annotated[str, Field(min_length=3, max_length=256)] | None = None
    level: Level = Level.HIGH

    @model_validator(mode="after")
    def _an_attack(self) -> NewProposal:
        if self.alert_id is None and (self.text is None or self.kind is None):
            raise ValueError("give alert_id, or text and kind")
        return self


class ProposalView(Out):
    """The rule as it is in shadow now, and what trying it showed."""

    rule: RuleView
    case: CaseView
    mutations: dict[str, bool] = Field(description="Disguises of the attack, and whether the rule sees through them.")
    benign_texts: TextRecordView = Field(description="The benign texts on which it fires; with any it is not promoted.")


@router.post("", status_code=201, response_model=ProposalView)
@requires("detection:write")
async def propose_rule(body: NewProposal, work: Work, memory: Memory, room: Room) -> Response:
    """Make a rule of an attack. It is in shadow, and promoted like any other.

    The attack is kept, masked, as a regression case of the rule: a later change that no longer matches it is refused.
    """
    now = datetime.now(UTC)
    alert_id = body.alert_id
    alert = None
    if alert_id is not None:
        alert = await work.read(lambda tx: application.alert_of(tx, work.caller, alert_id))
    detector = memory.detector

    def attack() -> Attack:
        if alert is not None:
            return application.attack_of_alert(alert, body.text, memory.key, detector)
        assert body.text is not None
        assert body.kind is not None
        return application.attack_of_text(body.text, body.kind, body.direction, body.team, body.asset_id, detector)

    def made() -> Proposal:
        return application.propose(attack(), body.everywhere, body.title, body.level, work.caller, now)

    proposal = await room.run(made)

    def answer(stored: StoredRule) -> Response:
        view = ProposalView(
            rule=RuleView.of(stored),
            case=CaseView.of(proposal.case),
            mutations=dict(proposal.mutations),
            benign_texts=TextRecordView(**proposal.texts.figures()),
        )
        return reply(view, status=201, etag=stored.version, location=f"/v1/rules/{stored.rule.id}")

    return await work.run(lambda tx: application.keep(tx, work.caller, proposal, now), answer)
