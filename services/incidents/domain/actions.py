"""What each automated action does: the requests it sends, worked out from the incident alone.

The list is closed and typed. Values from an attack (session, actor, excerpt) are only ever placed as JSON values or,
for an emergency rule, as an escaped literal; nothing of them is interpreted.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.incidents.domain.evidence import instant
from services.incidents.domain.playbooks import ActionName
from shared.contracts.incidents import IncidentCategory


@dataclass(frozen=True, slots=True)
class Request:
    """One request to another service, under that service's own API.

    `evidence` names what the answer is kept as; None keeps only that it happened.
    """

    service: str
    method: str
    path: str
    body: Mapping[str, Any] | None
    scope: str
    purpose: str
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """There is nothing for the action to act on, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What an action may know of its incident.

    Attributes:
        teams: whose traffic blocks of sessions and actors hold for, as `Incident.reach` has it.
        session_id: the one to act on, the incident's first by default.
        reporters: the subjects whose requests named that session. It is revoked for them, for whoever else names a
            session of that name means another.
    """

    incident_id: UUID
    category: IncidentCategory
    title: str
    teams: tuple[str | None, ...]
    step_number: int
    session_id: str | None
    reporters: tuple[str, ...]
    actor: str | None
    assets: tuple[UUID, ...]
    excerpt: str
    direction: str | None
    at: datetime
    block_for: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests to send, in any order: none depends on another's answer. `summary` says what will have been done."""

    summary: str
    requests: tuple[Request, ...] = field(default=())


LITERAL_LIMIT = 300
LITERAL_MINIMUM_CHARACTERS = 16
LITERAL_MINIMUM_WORDS = 3

# How detection masks a secret or personal data in an excerpt: [EMAIL], <SECRET>, or runs of * and bullets; and where
# it cut the text.
_MASK = re.compile(r"\[[A-Z][A-Z0-9_:-]*\]|<[A-Z][A-Z0-9_:-]*>|[*\u2022\u2588]{2,}|\u2026|\.{3,}")
_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def literal_of(excerpt: str) -> str | None:
    """The longest stretch of the excerpt that the attacker wrote, its white space made single spaces.

    Masks are ours and not the attacker's, so it holds none. Compatibility forms and invisible characters are folded,
    as detection does with the text that it matches. None when the stretch is too short to tell an attack from
    ordinary text.
    """
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKC", excerpt)
        if unicodedata.category(character) not in ("Cf", "Cc") or character.isspace()
    )
    words = max(_stretches(plain), key=lambda stretch: len(" ".join(stretch)), default=[])
    while words and len(" ".join(words)) > LITERAL_LIMIT:
        words = words[:-1]
    literal = " ".join(words)
    if len(literal) < LITERAL_MINIMUM_CHARACTERS or len(_WORD.findall(literal)) < LITERAL_MINIMUM_WORDS:
        return None
    return literal


def _stretches(text: str) -> Iterator[list[str]]:
    """The words between masks and cuts. One that touches a mask or a cut is only part of a word, and left out."""
    start = 0
    for mask in (*_MASK.finditer(text), None):
        stretch = text[start : mask.start() if mask else len(text)]
        words = stretch.split()
        if start and stretch and not stretch[0].isspace():
            words = words[1:]
        if mask and stretch and not stretch[-1].isspace():
            words = words[:-1]
        yield words
        start = mask.end() if mask else len(text)


def pattern_of(literal: str) -> str:
    """A regular expression for the words of `literal` in their order, whatever punctuation or space lies between.

    Words hold letters and digits only, so that nothing of them means anything to RE2 or Hyperscan.
    """
    return r"\W+".join(_WORD.findall(literal))


def plan(action: ActionName, situation: Situation) -> Plan | NotApplicable:
    """What an action of PLANNED does in this situation."""
    return PLANNED[action](situation)


def _because(situation: Situation) -> str:
    return f"incident {situation.incident_id}, step {situation.step_number}: {situation.title}"[:280]


def _containment(situation: Situation, target_kind: str, target: str, team: str | None = None) -> Request:
    body: dict[str, Any] = {
        "target_kind": target_kind,
        "target": target,
        "team": team,
        "reason": _because(situation),
        "expires_at": instant(situation.at + situation.block_for),
    }
    return Request(
        "detection",
        "POST",
        "/v1/containments",
        body,
        "detection:respond",
        f"block {target_kind} {target}",
        evidence=f"containment of {target_kind}",
    )


def _containments(situation: Situation, target_kind: str, target: str) -> tuple[Request, ...]:
    """One a team: a session or an actor passes wherever none holds."""
    return tuple(_containment(situation, target_kind, target, team) for team in situation.teams)


def _where(situation: Situation) -> str:
    if situation.teams == (None,):
        return "for everybody"
    if situation.teams == ("",):
        return "in traffic that belongs to no team"
    return f"in the traffic of {', '.join(map(str, situation.teams))}"


def _revocation(situation: Situation, session: str, subject: str) -> Request:
    return Request(
        "gateway",
        "POST",
        "/v1/access/revocations",
        {
            "kind": "session",
            "value": session,
            "subject": subject,
            "reason": _because(situation),
            "expires_at": instant(situation.at + situation.block_for),
        },
        "access:respond",
        f"revoke session {session} of {subject}",
        evidence="revocation of session",
    )


def _quarantine(situation: Situation, asset: UUID) -> Request:
    return Request(
        "inventory",
        "POST",
        f"/v1/assets/{asset}/quarantine",
        {"reason": _because(situation)},
        "inventory:respond",
        f"quarantine asset {asset}",
        evidence="quarantine",
    )


_KNOWN_TO_THE_GATEWAY = re.compile(r"[^\x00-\x1f\x7f]{1,300}")


def _revoke_session(situation: Situation) -> Plan | NotApplicable:
    session = situation.session_id
    if not session:
        return NotApplicable("no session in the alert")
    # Detection stops the session wherever the team's traffic enters. The gateway refuses it, too, where it can be one
    # of its own: it has none with control characters.
    blocks = _containments(situation, "session", session)
    blocked = f"session {session} blocked {_where(situation)}"
    if not _KNOWN_TO_THE_GATEWAY.fullmatch(session):
        return Plan(f"{blocked}; it is none of the gateway's", blocks)
    if not situation.reporters:
        return Plan(f"{blocked}; not revoked, since no alert says whose requests named it", blocks)
    revocations = (_revocation(situation, session, subject) for subject in situation.reporters)
    return Plan(f"{blocked}; revoked for {', '.join(situation.reporters)}", (*blocks, *revocations))


def _block_session(situation: Situation) -> Plan | NotApplicable:
    session = situation.session_id
    if not session:
        return NotApplicable("no session in the alert")
    return Plan(f"session {session} blocked {_where(situation)}", _containments(situation, "session", session))


def _block_actor(situation: Situation) -> Plan | NotApplicable:
    actor = situation.actor
    if not actor:
        return NotApplicable("no actor in the alert")
    return Plan(f"actor {actor} blocked {_where(situation)}", _containments(situation, "actor", actor))


def _block_asset(situation: Situation) -> Plan | NotApplicable:
    if not situation.assets:
        return NotApplicable("no asset in the incident")
    blocks = tuple(_containment(situation, "asset", str(asset)) for asset in situation.assets)
    return Plan(f"{len(blocks)} asset(s) blocked", blocks)


def _quarantine_asset(situation: Situation) -> Plan | NotApplicable:
    if not situation.assets:
        return NotApplicable("no asset in the incident")
    requests = tuple(_quarantine(situation, asset) for asset in situation.assets)
    return Plan(f"{len(requests)} asset(s) quarantined", requests)


def _disable_agent(situation: Situation) -> Plan | NotApplicable:
    if not situation.assets:
        return NotApplicable("no agent in the incident")
    blocks = tuple(_containment(situation, "asset", str(asset)) for asset in situation.assets)
    quarantines = tuple(_quarantine(situation, asset) for asset in situation.assets)
    return Plan(f"{len(blocks)} agent(s) blocked and quarantined", blocks + quarantines)


_KIND_OF_RULE: Mapping[IncidentCategory, str] = {
    IncidentCategory.PROMPT_INJECTION_EXPLOITATION: "injection",
    IncidentCategory.DATA_EXFILTRATION_VIA_MODEL: "exfiltration",
    IncidentCategory.MODEL_SUPPLY_CHAIN_COMPROMISE: "anomaly",
    IncidentCategory.AGENT_UNAUTHORIZED_ACTIONS: "tool_misuse",
    IncidentCategory.TRAINING_DATA_POISONING: "anomaly",
    IncidentCategory.MODEL_DENIAL_OF_SERVICE: "cost_abuse",
    IncidentCategory.PII_LEAKAGE_IN_OUTPUT: "pii",
    IncidentCategory.JAILBREAK_BYPASS: "jailbreak",
}


_INWARD = ("input", "document", "tool_result")


@dataclass(frozen=True, slots=True)
class EmergencyRule:
    """What an emergency rule stops, and where. The same attack there by another session or actor is the same rule.

    It is in force on the incident's assets alone: its words are the sender's, and with them nobody may stop the traffic
    of others. Detection has no rule for the traffic of a team, so without an asset there is none.
    """

    category: IncidentCategory
    literal: str
    directions: tuple[str, ...]
    assets: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        parts = (self.category.value, *self.directions, *self.assets, self.literal)
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def emergency_rule(situation: Situation) -> EmergencyRule | NotApplicable:
    """The rule that would stop this attack, made of the attack's own words."""
    if not situation.excerpt:
        return NotApplicable("no excerpt of the attack in the alert")
    literal = literal_of(situation.excerpt)
    if literal is None:
        return NotApplicable("the excerpt is too short to tell the attack from ordinary text")
    if not situation.assets:
        return NotApplicable("without an asset a rule would hold for everybody; a person decides")
    direction = situation.direction
    # What came in can come in by every way in; what went out or was called is looked for where it was.
    directions = _INWARD if direction is None or direction in _INWARD else (direction,)
    return EmergencyRule(situation.category, literal, directions, tuple(sorted(map(str, situation.assets))))


def deploy(rule: EmergencyRule, *, generation: int, expires_at: datetime) -> Plan:
    """Put a rule in force. Whoever does it again with the same values sends the same request."""
    body = {
        "id": f"emergency_{rule.fingerprint}_{generation}",
        "title": f"Emergency rule against {rule.category.value.replace('_', ' ')}",
        "description": "Made from the recorded words of an attack. It expires by itself; review it and replace it.",
        "status": "stable",
        "level": "critical",
        "kind": _KIND_OF_RULE[rule.category],
        "category": rule.category,
        "scope": {"directions": list(rule.directions), "asset_ids": list(rule.assets)},
        "detection": {"type": "regex", "phrases": [rule.literal], "any": [pattern_of(rule.literal)]},
        "response": "block",
        "examples": {"match": [rule.literal], "near_miss": ["What are your opening hours on Sunday?"]},
        "expires_at": instant(expires_at),
    }
    request = Request(
        "detection", "POST", "/v1/rules", body, "detection:write", "emergency rule", evidence="emergency rule"
    )
    return Plan(f"emergency rule {body['id']} in force until {instant(expires_at)}", (request,))


def _collect_evidence(situation: Situation) -> Plan | NotApplicable:
    if not situation.assets:
        return NotApplicable("no asset in the incident; its alerts are evidence already")
    requests = tuple(
        Request(
            "inventory",
            "GET",
            f"/v1/assets/{asset}",
            None,
            "inventory:read",
            f"configuration of asset {asset}",
            evidence="asset configuration",
        )
        for asset in situation.assets
    )
    return Plan(f"configuration of {len(requests)} asset(s) secured", requests)


PLANNED: Mapping[ActionName, Callable[[Situation], Plan | NotApplicable]] = {
    ActionName.REVOKE_SESSION: _revoke_session,
    ActionName.BLOCK_SESSION: _block_session,
    ActionName.BLOCK_ACTOR: _block_actor,
    ActionName.BLOCK_ASSET: _block_asset,
    ActionName.DISABLE_AGENT: _disable_agent,
    ActionName.QUARANTINE_ASSET: _quarantine_asset,
    ActionName.COLLECT_EVIDENCE: _collect_evidence,
}
"""Every action but two: `emergency_rule` depends on the rules of others, too, and notifying asks no other service."""

SESSION_SCOPED: frozenset[ActionName] = frozenset({ActionName.REVOKE_SESSION, ActionName.BLOCK_SESSION})
"""Actions that a further session of the same incident needs, too."""
