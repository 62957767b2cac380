"""`/v1/rules`: detection rules, those that ship and one's own."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from services.detection.api.judgements import FindingView
from services.detection.application import rules as application
from services.detection.application import trials
from services.detection.application.promotion import Limits
from services.detection.application.rules import NoSuchRule, Tested
from services.detection.application.trials import TextRecord, Trials
from services.detection.domain import sigma
from services.detection.domain.rules import Example, Rule, Status
from services.detection.domain.sigma import NotExpressible
from services.detection.domain.trial import Trial
from services.detection.store import cases
from services.detection.store import rules as store
from services.detection.store.cases import Case
from services.detection.store.rules import StoredRule
from shared.auth import requires
from shared.contracts.detection import Direction, FindingKind
from shared.contracts.incidents import IncidentCategory
from shared.errors import Conflict
from shared.http import IfMatch, reply
from shared.models import In, Out, PageOf
from shared.paging import Page
from shared.service import router as make_router
from shared.work import Work

router = make_router("/v1/rules", "rules")

Format = Annotated[
    Literal["colonnade", "sigma"],
    Query(description="`sigma` answers YAML documents of Sigma 2.1; what has no such form is named with the reason."),
]
_SIGMA: dict[int | str, dict[str, Any]] = {200: {"content": {"application/yaml": {"schema": {"type": "string"}}}}}


async def _trials(request: Request) -> Trials:
    found: Trials = request.app.state.runtime.resources["trials"]
    return found


Room = Annotated[Trials, Depends(_trials)]
"""Where rules are tried."""


class NoSigma(Conflict):
    """Sigma cannot say what this rule says."""


class StatusReason(Out):
    """What last changed a rule's status by its record: promoted or demoted, why, and the figures that did."""

    change: str
    reason: str
    figures: dict[str, Any]
    by: str
    at: datetime


class RuleView(Rule):
    """A rule and how it is kept."""

    version: int
    origin: str = Field(description="builtin or custom")
    enabled: bool
    updated_at: datetime
    updated_by: str
    on_trial: bool = Field(description="It decides only after a promotion.")
    stated_rate: float | None = Field(default=None, description="False-positive rate that its promotion stated.")
    status_reason: StatusReason | None = None

    @classmethod
    def of(cls, stored: StoredRule) -> RuleView:
        return cls(**_fields(stored))


class CaseView(Out):
    """A confirmed attack that a rule was made for, masked; one that is released need not be matched any more."""

    case_id: UUID
    alert_id: UUID | None
    owner_team: str
    direction: Direction
    text: str
    created_at: datetime
    created_by: str
    released_at: datetime | None
    released_by: str | None
    released_because: str | None

    @classmethod
    def of(cls, case: Case) -> CaseView:
        return cls.model_validate({name: getattr(case, name) for name in cls.model_fields})


class OneRuleView(RuleView):
    """A rule with the attacks it was made for, as far as the caller may see them."""

    cases: list[CaseView]


def _fields(stored: StoredRule) -> dict[str, Any]:
    reason = stored.status_reason
    return dict(
        **dict(stored.rule),
        version=stored.version,
        origin=stored.origin,
        enabled=stored.rule.status is not Status.DEPRECATED,
        updated_at=stored.updated_at,
        updated_by=stored.updated_by,
        on_trial=stored.on_trial,
        stated_rate=stored.stated_rate,
        status_reason=None if reason is None else StatusReason.model_validate(reason),
    )


class TextRecordView(Out):
    """What a rule made of the benign regression texts; `upper_95` bounds its false-positive rate on such texts."""

    texts: int
    fired: list[str] = Field(description="Ids of those on which it fired.")
    rate: float | None
    upper_95: float


class RuleTrial(In):
    """A rule to be tried, and texts or whole interactions to try it on; without any, its own examples."""

    rule: Rule
    texts: list[str] = Field(default=[], max_length=100)
    examples: list[Example] = Field(default=[], max_length=100)
    benign: bool = Field(default=False, description="Put it to the benign regression texts too.")


class TrialResult(Out):
    fired: bool
    finding: FindingView | None = None


class TrialView(Out):
    """Results in the order of `texts`, then `examples`."""

    results: list[TrialResult]
    benign_texts: TextRecordView | None = None


class Promotion(In):
    """Why a rule may decide from now on, and under which false-positive rate."""

    reason: Annotated[str, Field(min_length=3, max_length=2_000)]
    max_false_positive_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="On harmless live traffic, at most the installation's; the rule is demoted by it later.",
    )
    status: Literal["stable", "test", "experimental"] | None = Field(
        default=None, description="Left out, `test`, or what a shipped rule ships with."
    )


@router.get("", response_model=PageOf[RuleView], responses=_SIGMA)
@requires("detection:read")
async def list_rules(
    page: Page,
    work: Work,
    kind: Annotated[FindingKind | None, Query()] = None,
    category: Annotated[IncidentCategory | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    origin: Annotated[str | None, Query(pattern="^(builtin|custom)$")] = None,
    format: Format = "colonnade",
) -> Response:
    """List rules by id; those for certain assets only to callers who see all of these.

    While a newer release is being rolled out, rules of its that this replica cannot read are left out.

    As Sigma, a page is one YAML stream; the next page's cursor is in its last comment and in the header Next-Cursor.
    """
    wanted: dict[str, Any] = {"kind": kind, "category": category, "status": status, "origin": origin}
    filters = {name: str(value) for name, value in wanted.items() if value is not None}
    after = str(page.after[0]) if page.after is not None else None
    shown, last = await work.read(lambda tx: store.page(tx, work.caller, filters, after, page.limit))
    cursor = page.cursor(last) if last is not None else None
    if format == "sigma":
        return _sigma_stream(shown, cursor)
    return reply(PageOf[RuleView](items=[RuleView.of(stored) for stored in shown], next_cursor=cursor))


def _sigma_stream(shown: list[StoredRule], cursor: str | None) -> Response:
    documents, comments = [], []
    for stored in shown:
        try:
            documents.append(sigma.document(stored.rule, stored.version, stored.updated_at))
        except NotExpressible as error:
            comments.append(f"# {stored.rule.id}: {error}\n")
    if cursor is not None:
        comments.append(f"# next_cursor: {cursor}\n")
    text = "---\n".join(documents) + (
        "".join(["# Not expressible in Sigma, and so left out:\n", *comments]) * bool(comments)
    )
    headers = {"Next-Cursor": cursor} if cursor is not None else {}
    return Response(text, media_type="application/yaml", headers=headers)


@router.post(
    "",
    status_code=201,
    response_model=RuleView,
    responses={200: {"model": RuleView, "description": "The same rule is there already."}},
)
@requires("detection:write")
async def create_rule(body: Rule, work: Work, room: Room) -> Response:
    """Add a rule; it is in force everywhere within a second. The same rule again is answered with 200.

    One that is to decide for good must be quiet on the benign regression texts (409 names those on which it is not);
    with status shadow it is on trial first, and with an end within days it is an emergency rule and in force at once.
    A caller who is bound to teams names assets of theirs in its scope.
    """
    now = datetime.now(UTC)
    limits = Limits.of(work.runtime.settings)
    tested = await room.run(partial(application.test, body, (), limits, now))
    return await work.run(
        lambda tx: application.create(tx, work.caller, tested, limits, now),
        lambda made: reply(
            RuleView.of(made[0]), status=201 if made[1] else 200, etag=made[0].version, location=f"/v1/rules/{body.id}"
        ),
    )


@router.post("/test", response_model=TrialView)
@requires("detection:read")
async def test_rule(body: RuleTrial, room: Room) -> Response:
    """Try a rule on texts; nothing is kept."""
    examples = [Example(content=text) for text in body.texts] + body.examples
    if not examples:
        examples = [*body.rule.examples.match, *body.rule.examples.near_miss]

    def both() -> tuple[list[Trial], TextRecord | None]:
        return trials.try_examples(body.rule, examples), trials.on_benign_texts(body.rule) if body.benign else None

    tried, on_texts = await room.run(both)
    results = [
        TrialResult(fired=trial.fired, finding=FindingView.of(trial.finding) if trial.finding else None)
        for trial in tried
    ]
    texts = TextRecordView(**on_texts.figures()) if on_texts is not None else None
    return reply(TrialView(results=results, benign_texts=texts))


@router.get(
    "/{rule_id}",
    response_model=OneRuleView,
    responses=_SIGMA | {409: {"description": "It has no form in Sigma, or is of a newer release."}},
)
@requires("detection:read")
async def get_rule(rule_id: str, work: Work, format: Format = "colonnade") -> Response:
    """One rule, with the attacks it was made for.

    409 when Sigma cannot say it, or a newer release wrote it and this replica cannot read it.
    """
    stored = await work.read(lambda tx: store.get(tx, work.caller, rule_id))
    if stored is None:
        raise NoSuchRule(f"there is no rule {rule_id}")
    if format == "sigma":
        try:
            text = sigma.document(stored.rule, stored.version, stored.updated_at)
        except NotExpressible as error:
            raise NoSigma(str(error)) from error
        return Response(text, media_type="application/yaml", headers={"ETag": f'"{stored.version}"'})
    kept = await work.read(lambda tx: cases.of_rule(tx, rule_id, work.caller))
    view = OneRuleView(**_fields(stored), cases=[CaseView.of(case) for case in kept])
    return reply(view, etag=stored.version)


@router.put("/{rule_id}", response_model=RuleView)
@requires("detection:write")
async def change_rule(
    rule_id: str,
    body: Rule,
    if_match: IfMatch,
    work: Work,
    room: Room,
    force_reason: Annotated[
        str | None,
        Query(
            min_length=3, max_length=500, description="Why attacks that it was made for need not be matched any more."
        ),
    ] = None,
) -> Response:
    """Replace a rule.

    One that comes out of shadow, or is to fire differently, goes through the same gate as by promotion: 409 says which
    figure failed. So does one that no longer matches an attack that it was made for, unless `force_reason` releases it.
    """
    now = datetime.now(UTC)
    limits = Limits.of(work.runtime.settings)
    kept = await work.read(lambda tx: cases.of_rule(tx, rule_id))
    tested = await room.run(partial(application.test, body, kept, limits, now))
    return await work.run(
        lambda tx: application.change(tx, work.caller, rule_id, tested, if_match, limits, now, force_reason),
        lambda stored: reply(RuleView.of(stored), etag=stored.version),
    )


@router.post("/{rule_id}/promote", response_model=RuleView)
@requires("detection:write")
async def promote_rule(rule_id: str, body: Promotion, work: Work, room: Room) -> Response:
    """Let a rule decide that was in shadow, if its record allows.

    Its false-positive rate, as the upper 95 % bound, must be low enough on the benign regression texts and on the
    harmless live traffic that it saw in shadow, of which there must be enough; 409 says which figure failed.
    """
    now = datetime.now(UTC)
    limits = Limits.of(work.runtime.settings)
    stored = await work.read(lambda tx: store.get(tx, work.caller, rule_id))
    if stored is None:
        raise NoSuchRule(f"there is no rule {rule_id}")
    kept = await work.read(lambda tx: cases.of_rule(tx, rule_id))
    tested = await room.run(partial(_tested, stored.rule, kept))
    status = Status(body.status) if body.status is not None else None
    return await work.run(
        lambda tx: application.promote(
            tx, work.caller, rule_id, tested, status, body.max_false_positive_rate, body.reason, limits, now
        ),
        lambda done: reply(RuleView.of(done), etag=done.version),
    )


def _tested(rule: Rule, kept: list[Case]) -> Tested:
    return Tested(rule, trials.on_benign_texts(rule), tuple(trials.missed(rule, kept)))


@router.delete("/{rule_id}", response_model=RuleView)
@requires("detection:write")
async def disable_rule(rule_id: str, if_match: IfMatch, work: Work) -> Response:
    """Take a rule out of force. It stays on record; PUT with another status puts it back."""
    now = datetime.now(UTC)
    return await work.run(
        lambda tx: application.disable(tx, work.caller, rule_id, if_match, now),
        lambda stored: reply(RuleView.of(stored), etag=stored.version),
    )
