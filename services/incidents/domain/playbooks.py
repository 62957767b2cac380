"""Playbooks as data: one per incident category, checked completely before anything runs by it.

A step may name an automated action, and only one of a closed list (`ActionName`): each is a typed function of this
service (domain/actions.py). A playbook holds no template, no expression and no script, so whoever may write one
gains nothing but the order and the wording of actions that exist anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from shared.contracts.incidents import IncidentCategory, IncidentSeverity, Phase
from shared.errors import Conflict, Invalid, NotFound

PHASES: tuple[Phase, ...] = tuple(Phase)
SEVERITIES: tuple[IncidentSeverity, ...] = tuple(IncidentSeverity)

_SEVERITY_IN_WORDS = re.compile(r"\bsev(?:erity)?[ -]?([1-4])\b", re.IGNORECASE)


class UnknownPlaybook(NotFound):
    """There is no playbook of that category."""


class PlaybookRefused(Invalid):
    """The playbook is not valid."""


class PlaybookChanged(Conflict):
    """The playbook has another version by now."""


class ActionName(StrEnum):
    """Everything that a playbook can have done without a person."""

    REVOKE_SESSION = "revoke_session"
    """Ends the session: no request under it is answered, and the credential behind it is revoked at the gateway."""
    BLOCK_SESSION = "block_session"
    BLOCK_ACTOR = "block_actor"
    BLOCK_ASSET = "block_asset"
    DISABLE_AGENT = "disable_agent"
    """Takes an agent out of use: its traffic and tool calls are blocked, and the inventory quarantines it."""
    DEPLOY_EMERGENCY_RULE = "deploy_emergency_rule"
    QUARANTINE_ASSET = "quarantine_asset"
    COLLECT_EVIDENCE = "collect_evidence"
    NOTIFY = "notify"


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Sentences = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlaybookStep(_Part):
    """One step. `timeout_minutes` counts from the moment the step can be worked, not from the incident's opening.

    `escalation_trigger` says in words when to escalate; `escalate_to_severity` and `escalate_to_role` are what the
    engine then does. A severity named in the words is taken as the former, so the two cannot contradict each other.
    """

    step_number: Annotated[int, Field(ge=1, le=100)]
    phase: Phase
    action: Sentences
    responsible_role: Name
    automated: bool = Field(default=False, strict=True)
    automation_script: ActionName | None = None
    requires_approval: bool = Field(default=False, strict=True)
    timeout_minutes: Annotated[int, Field(ge=1, le=525_600)] = 30
    escalation_trigger: Line | None = None
    escalate_to_severity: IncidentSeverity | None = None
    escalate_to_role: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _severity_from_words(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        words = data.get("escalation_trigger")
        named = _SEVERITY_IN_WORDS.findall(words) if isinstance(words, str) else []
        if named and data.get("escalate_to_severity") is None:
            return {**data, "escalate_to_severity": f"sev{min(named)}"}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> PlaybookStep:
        if self.automated and self.automation_script is None:
            raise ValueError("an automated step names its action in automation_script")
        if not self.automated and self.automation_script is not None:
            raise ValueError("automation_script is set, but the step is not automated")
        if self.requires_approval and not self.automated:
            raise ValueError("requires_approval is for automated steps; a person approves a manual one by doing it")
        named = _SEVERITY_IN_WORDS.findall(self.escalation_trigger or "")
        if named and self.escalate_to_severity not in {f"sev{number}" for number in named}:
            raise ValueError(f"escalation_trigger speaks of SEV{min(named)}, escalate_to_severity does not")
        if self.escalation_trigger is None and (self.escalate_to_severity or self.escalate_to_role):
            raise ValueError("an escalation needs its escalation_trigger in words")
        return self


class DetectionRule(_Part):
    """What to watch for in this kind of incident. Descriptive: the rules that run are detection's own."""

    name: Name
    description: Line
    type: Literal["regex", "similarity", "statistical", "policy", "rate", "sequence"]
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1_000)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    reference: Line | None = None
    metric: Line | None = None
    check: Line | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"does not compile: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _has_its_parts(self) -> DetectionRule:
        needed = {
            "regex": ("pattern",),
            "similarity": ("threshold", "reference"),
            "statistical": ("metric", "threshold"),
            "rate": ("metric", "threshold"),
            "policy": ("check",),
            "sequence": ("check",),
        }[self.type]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"a {self.type} rule needs {' and '.join(missing)}")
        return self


class Playbook(_Part):
    """The response to one category of incident."""

    category: IncidentCategory
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    description: Sentences
    severity_default: IncidentSeverity
    steps: Annotated[tuple[PlaybookStep, ...], Field(min_length=1, max_length=100)]
    detection_rules: Annotated[tuple[DetectionRule, ...], Field(max_length=100)] = ()
    containment_actions: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    evidence_to_collect: Annotated[tuple[Line, ...], Field(max_length=100)] = ()
    notification_requirements: Annotated[tuple[Line, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Playbook:
        for expected, step in enumerate(self.steps, start=1):
            if step.step_number != expected:
                raise ValueError(f"steps are numbered 1, 2, 3 ...: expected {expected}, found {step.step_number}")
        for before, after in pairwise(self.steps):
            if PHASES.index(after.phase) < PHASES.index(before.phase):
                raise ValueError(f"step {after.step_number} goes back from {before.phase} to {after.phase}")
        if not any(step.phase is Phase.CONTAINMENT for step in self.steps):
            raise ValueError("a playbook contains: at least one step is of the phase containment")
        names = [rule.name for rule in self.detection_rules]
        if len(names) != len(set(names)):
            raise ValueError("two detection rules have the same name")
        return self

    def document(self) -> dict[str, Any]:
        """The playbook as JSON-ready data, in the specification's field names."""
        return self.model_dump(mode="json")


def parse(document: object) -> Playbook:
    """A playbook from a YAML or JSON document.

    Raises:
        PlaybookRefused: with a JSON Pointer and a message for each thing that is wrong.
    """
    try:
        return Playbook.model_validate(document)
    except ValidationError as error:
        errors = [
            {"field": "".join(f"/{part}" for part in entry["loc"]), "message": _message(entry["type"], entry["msg"])}
            for entry in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        first = errors[0]
        raise PlaybookRefused(f"{first['field'] or '/'}: {first['message']}", errors=errors) from error


def _message(kind: str, message: str) -> str:
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    return message


def more_severe(one: IncidentSeverity, other: IncidentSeverity) -> IncidentSeverity:
    return min(one, other, key=SEVERITIES.index)


def less_severe(one: IncidentSeverity, other: IncidentSeverity) -> IncidentSeverity:
    return max(one, other, key=SEVERITIES.index)
