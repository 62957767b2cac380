"""From a confirmed attack to a rule in shadow: the text is kept as a regression case, its telling words the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import re2
import uuid_utils.compat as uuid_utils

from services.detection import benign
from services.detection.application import rules, trials
from services.detection.application.alerts import NoSuchAlert
from services.detection.application.trials import TextRecord
from services.detection.domain import folding, generalise
from services.detection.domain.detector import Detector
from services.detection.domain.evidence import digest, redact
from services.detection.domain.interaction import Interaction, Segment, check_size
from services.detection.domain.rules import Level, RegexDetection, Response, Rule, Scope, Status
from services.detection.store import alerts, cases
from services.detection.store import rules as store
from services.detection.store.cases import Case
from services.detection.store.rules import StoredRule
from shared.auth import Caller, demand_organization
from shared.contracts.detection import AlertSnapshot, Direction, Disposition, FindingKind
from shared.contracts.incidents import IncidentCategory
from shared.database import Tx
from shared.errors import Conflict, Invalid

_WAYS = {
    Direction.INPUT: (Direction.INPUT,),
    Direction.OUTPUT: (Direction.OUTPUT,),
    Direction.TOOL_CALL: (Direction.TOOL_CALL,),
    Direction.TOOL_RESULT: (Direction.TOOL_RESULT, Direction.DOCUMENT),
    Direction.DOCUMENT: (Direction.TOOL_RESULT, Direction.DOCUMENT),
}
_CATEGORIES = {
    FindingKind.JAILBREAK: IncidentCategory.JAILBREAK_BYPASS,
    FindingKind.EXFILTRATION: IncidentCategory.DATA_EXFILTRATION_VIA_MODEL,
    FindingKind.PROMPT_LEAK: IncidentCategory.DATA_EXFILTRATION_VIA_MODEL,
    FindingKind.SECRET: IncidentCategory.DATA_EXFILTRATION_VIA_MODEL,
    FindingKind.PII: IncidentCategory.PII_LEAKAGE_IN_OUTPUT,
    FindingKind.TOOL_MISUSE: IncidentCategory.AGENT_UNAUTHORIZED_ACTIONS,
    FindingKind.COST_ABUSE: IncidentCategory.MODEL_DENIAL_OF_SERVICE,
}


class NotConfirmed(Conflict):
    """Nobody has said that the alert was an attack."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A confirmed attack. `text` is masked; what it came from says whose it is and where a rule against it belongs."""

    text: str
    kind: FindingKind
    category: IncidentCategory
    direction: Direction
    owner_team: str
    asset_id: UUID | None
    alert_id: UUID | None
    owasp: tuple[str, ...] = ()
    atlas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule made of an attack, with what trying it showed.

    Attributes:
        mutations: name of a disguise -> whether the rule sees through it.
        texts: its record on the benign regression texts.
    """

    rule: Rule
    case: Case
    mutations: Mapping[str, bool]
    texts: TextRecord


async def alert_of(tx: Tx, caller: Caller, alert_id: UUID) -> AlertSnapshot:
    """A confirmed alert.

    Raises:
        NoSuchAlert
        NotConfirmed: it was not judged a true positive.
    """
    row = await alerts.get(tx, caller, alert_id)
    if row is None:
        raise NoSuchAlert(f"there is no alert {alert_id}")
    alert = alerts.snapshot(row)
    if alert.disposition is not Disposition.TRUE_POSITIVE:
        raise NotConfirmed("judge the alert a true positive first")
    return alert


def attack_of_alert(alert: AlertSnapshot, text: str | None, key: bytes, detector: Detector) -> Attack:
    """What an alert was raised for.

    Args:
        text: the text itself, which is not kept here; without it the alert's excerpt has to do.

    Raises:
        Invalid: the text is not the alert's, or there is neither text nor excerpt.
    """
    if text is not None and digest(key, text) != alert.digest:
        raise Invalid("this is not the text that the alert was raised for: its digest differs", field="/text")
    given = text if text is not None else alert.excerpt.strip("…")
    return Attack(
        text=_masked(given, alert.asset_id, detector),
        kind=alert.kind,
        category=IncidentCategory(alert.category),
        direction=alert.direction,
        owner_team=alert.owner_team,
        asset_id=alert.asset_id,
        alert_id=alert.alert_id,
        owasp=alert.owasp,
        atlas=alert.atlas,
    )


def attack_of_text(
    text: str, kind: FindingKind, direction: Direction, team: str, asset_id: UUID | None, detector: Detector
) -> Attack:
    """An attack that no alert was raised for."""
    category = _CATEGORIES.get(kind, IncidentCategory.PROMPT_INJECTION_EXPLOITATION)
    return Attack(_masked(text, asset_id, detector), kind, category, direction, team, asset_id, None)


def _masked(text: str, asset_id: UUID | None, detector: Detector) -> str:
    """Kept for good, so without secrets and personal data."""
    check_size(Interaction(Direction.INPUT, (Segment("/text", Direction.INPUT, text),)))
    return redact(text, detector.sensitive(text, asset_id))


def propose(
    attack: Attack, everywhere: bool, title: str | None, level: Level, caller: Caller, now: datetime
) -> Proposal:
    """A rule in shadow against an attack. Takes CPU time: call it off the event loop.

    Args:
        everywhere: for all traffic; otherwise for the asset that it came through, since the pattern tells of it.

    Raises:
        Invalid: nothing in the text tells it from ordinary text, so that no rule can be made of it.
        InvalidRule: the rule cannot run.
    """
    ordinary = [one.text for one in benign.texts()]
    folded = [folding.fold(one) for one in ordinary]

    def is_quiet(pattern: str) -> bool:
        compiled = re2.compile(pattern)
        return not any(compiled.search(one) for one in folded)

    patterns = generalise.patterns_for(attack.text, ordinary, is_quiet)
    if not patterns:
        raise Invalid("there are too few words in it to make a rule of", field="/text")
    case_id = uuid_utils.uuid7()
    scoped = (attack.asset_id,) if attack.asset_id is not None and not everywhere else ()
    source = f"alert {attack.alert_id}" if attack.alert_id is not None else "a reported attack"
    rule = Rule(
        id=f"proposal_{case_id.hex}",
        title=title or f"Like {source} ({attack.kind.value})",
        description=f"Made of {source}. Read its pattern, and promote it when its record in shadow allows.",
        status=Status.SHADOW,
        level=level,
        kind=attack.kind,
        category=attack.category,
        owasp=attack.owasp,
        atlas=attack.atlas,
        scope=Scope(directions=_WAYS[attack.direction], asset_ids=scoped),
        detection=RegexDetection(any=tuple(patterns)),
        response=Response.BLOCK,
    )
    case = Case(
        case_id, rule.id, attack.owner_team, attack.alert_id, attack.direction, attack.text, now, caller.subject
    )
    detector = trials.tried(rule)
    if not trials.matches(detector, rule, attack.text, case):
        raise Invalid("no rule made of its words matches the text itself", field="/text")
    seen = {
        name: trials.matches(detector, rule, text, case) for name, text in generalise.mutations(attack.text).items()
    }
    return Proposal(rule, case, seen, trials.on_benign_texts(rule))


async def keep(tx: Tx, caller: Caller, proposal: Proposal, now: datetime) -> StoredRule:
    """Put a proposal's rule in shadow and keep its case.

    Raises:
        Forbidden, NoSuchAsset: it reaches further than what the caller's teams own.
    """
    await rules.demand_reach(tx, caller, proposal.rule)
    if not caller.sees(proposal.case.owner_team):
        demand_organization(caller, "an attack on another team")
    stored = StoredRule(proposal.rule, 1, "custom", "", now, caller.subject, on_trial=True)
    if not await store.add(tx, stored):
        raise rules.RuleExists(f"there is another rule {proposal.rule.id}")
    await cases.add(tx, proposal.case)
    detail: dict[str, Any] = {
        "alert_id": proposal.case.alert_id and str(proposal.case.alert_id),
        "case_id": str(proposal.case.case_id),
        "benign_texts": proposal.texts.figures(),
    }
    await rules.announce(tx, caller, stored, "proposed", now, reason=proposal.rule.description, detail=detail)
    return stored
