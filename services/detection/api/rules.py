"""`/v1/rules`: detection rules, those that ship and one's own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from services.detection.api.judgements import FindingView
from services.detection.application import rules as application
from services.detection.application.rules import NoSuchRule
from services.detection.domain.rules import Example, Rule, Status
from services.detection.store import rules as store
from services.detection.store.rules import StoredRule
from shared.auth import requires
from shared.contracts.detection import FindingKind
from shared.contracts.incidents import IncidentCategory
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/rules", "rules")


class RuleView(Rule):
    """A rule and how it is kept."""

    version: int
    origin: str = Field(description="builtin or custom")
    enabled: bool
    updated_at: datetime
    updated_by: str

    @classmethod
    def of(cls, stored: StoredRule) -> RuleView:
        return cls(
            **dict(stored.rule),
            version=stored.version,
            origin=stored.origin,
            enabled=stored.rule.status is not Status.DEPRECATED,
            updated_at=stored.updated_at,
            updated_by=stored.updated_by,
        )


class RuleTrial(In):
    """A rule to be tried, and texts or whole interactions to try it on; without any, its own examples."""

    rule: Rule
    texts: list[str] = Field(default=[], max_length=100)
    examples: list[Example] = Field(default=[], max_length=100)


class TrialResult(Out):
    fired: bool
    finding: FindingView | None = None


class TrialView(Out):
    """Results in the order of `texts`, then `examples`."""

    results: list[TrialResult]


@router.get("", response_model=PageOf[RuleView])
@requires("detection:read")
async def list_rules(
    page: Page,
    work: Work,
    kind: Annotated[FindingKind | None, Query()] = None,
    category: Annotated[IncidentCategory | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    origin: Annotated[str | None, Query(pattern="^(builtin|custom)$")] = None,
) -> Response:
    """List rules by id; those for certain assets only to callers who see all of these."""
    wanted: dict[str, Any] = {"kind": kind, "category": category, "status": status, "origin": origin}
    filters = {name: str(value) for name, value in wanted.items() if value is not None}
    after = str(page.after[0]) if page.after is not None else None
    rows = await work.read(lambda tx: store.page(tx, work.caller, filters, after, page.limit))
    shown = [RuleView.of(stored) for stored in rows[: page.limit]]
    cursor = page.cursor(shown[-1].id) if len(rows) > page.limit else None
    return reply(PageOf[RuleView](items=shown, next_cursor=cursor))


@router.post(
    "",
    status_code=201,
    response_model=RuleView,
    responses={200: {"model": RuleView, "description": "The same rule is there already."}},
)
@requires("detection:write")
async def create_rule(body: Rule, work: Work) -> Response:
    """Add a rule; it is in force everywhere within a second. The same rule again is answered with 200.

    A caller who is bound to teams names assets of theirs in its scope.
    """
    now = datetime.now(UTC)
    await asyncio.to_thread(application.check_examples, body)
    return await work.run(
        lambda tx: application.create(tx, work.caller, body, now),
        lambda made: reply(
            RuleView.of(made[0]), status=201 if made[1] else 200, etag=made[0].version, location=f"/v1/rules/{body.id}"
        ),
    )


@router.post("/test", response_model=TrialView)
@requires("detection:read")
async def test_rule(body: RuleTrial, work: Work) -> Response:
    """Try a rule on texts; nothing is kept."""
    examples = [Example(content=text) for text in body.texts] + body.examples
    if not examples:
        examples = [*body.rule.examples.match, *body.rule.examples.near_miss]
    trials = await asyncio.to_thread(application.try_examples, body.rule, examples)
    results = [
        TrialResult(fired=trial.fired, finding=FindingView.of(trial.finding) if trial.finding else None)
        for trial in trials
    ]
    return reply(TrialView(results=results))


@router.get("/{rule_id}", response_model=RuleView)
@requires("detection:read")
async def get_rule(rule_id: str, work: Work) -> Response:
    """One rule."""
    stored = await work.read(lambda tx: store.get(tx, work.caller, rule_id))
    if stored is None:
        raise NoSuchRule(f"there is no rule {rule_id}")
    return reply(RuleView.of(stored), etag=stored.version)


@router.put("/{rule_id}", response_model=RuleView)
@requires("detection:write")
async def change_rule(rule_id: str, body: Rule, if_match: IfMatch, work: Work) -> Response:
    """Replace a rule."""
    now = datetime.now(UTC)
    await asyncio.to_thread(application.check_examples, body)
    return await work.run(
        lambda tx: application.change(tx, work.caller, rule_id, body, if_match, now),
        lambda stored: reply(RuleView.of(stored), etag=stored.version),
    )


@router.delete("/{rule_id}", response_model=RuleView)
@requires("detection:write")
async def disable_rule(rule_id: str, if_match: IfMatch, work: Work) -> Response:
    """Take a rule out of force. It stays on record; PUT with another status puts it back."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.disable(tx, work.caller, rule_id, if_match, now),
        lambda stored: reply(RuleView.of(stored), etag=stored.version),
    )
