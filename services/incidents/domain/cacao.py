"""A playbook in the words of others: CACAO Security Playbooks 2.0 (OASIS, CS01 of 27 November 2023).

The workflow says what this engine does: the automated steps that start with the incident run beside the people's
work, so both are branches of one parallel step; the phases after containment follow in order. CACAO wants UUIDs of
version 4 for steps; ours are cut from a hash, so that an export of the same version is the same document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.incidents.domain.playbooks import ActionName, Playbook, PlaybookStep
from shared.contracts.incidents import IncidentSeverity, Phase

_SEVERITY: dict[IncidentSeverity, int] = {
    IncidentSeverity.SEV1: 90,
    IncidentSeverity.SEV2: 70,
    IncidentSeverity.SEV3: 40,
    IncidentSeverity.SEV4: 10,
}
_ACTIVITY: dict[Phase, str] = {
    Phase.DETECTION: "analyze-collected-data",
    Phase.CONTAINMENT: "restrict-access",
    Phase.ERADICATION: "eliminate-risk",
    Phase.RECOVERY: "restore-capabilities",
    Phase.LESSONS_LEARNED: "compose-content",
}
_TYPE: dict[Phase, str] = {
    Phase.DETECTION: "investigation",
    Phase.CONTAINMENT: "mitigation",
    Phase.ERADICATION: "remediation",
    Phase.RECOVERY: "remediation",
    Phase.LESSONS_LEARNED: "prevention",
}
_CALLS: dict[ActionName, tuple[str, ...]] = {
    ActionName.REVOKE_SESSION: ("POST /v1/containments HTTP/1.1", "POST /v1/access/revocations HTTP/1.1"),
    ActionName.BLOCK_SESSION: ("POST /v1/containments HTTP/1.1",),
    ActionName.BLOCK_ACTOR: ("POST /v1/containments HTTP/1.1",),
    ActionName.BLOCK_ASSET: ("POST /v1/containments HTTP/1.1",),
    ActionName.DISABLE_AGENT: (
        "POST /v1/containments HTTP/1.1",
        "POST /v1/assets/__asset_id__:value/quarantine HTTP/1.1",
    ),
    ActionName.DEPLOY_EMERGENCY_RULE: ("POST /v1/rules HTTP/1.1",),
    ActionName.QUARANTINE_ASSET: ("POST /v1/assets/__asset_id__:value/quarantine HTTP/1.1",),
    ActionName.COLLECT_EVIDENCE: ("GET /v1/assets/__asset_id__:value HTTP/1.1",),
    ActionName.NOTIFY: (),
}
_STARTS_AT_ONCE: frozenset[Phase] = frozenset({Phase.DETECTION, Phase.CONTAINMENT})


def _id(kind: str, *name: object) -> str:
    digest = hashlib.sha256("\x1f".join(map(str, ("colonnade", kind, *name))).encode()).digest()
    return f"{kind}--{UUID(bytes=digest[:16], version=4)}"


def _moment(moment: datetime) -> str:
    """RFC 3339 with exactly three digits, as CACAO has it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def export(playbook: Playbook, *, created: datetime, modified: datetime) -> dict[str, Any]:
    """The playbook as a CACAO 2.0 document."""
    category = playbook.category
    at_once = [step for step in playbook.steps if step.automated and step.phase in _STARTS_AT_ONCE]
    by_people = [step for step in playbook.steps if not step.automated and step.phase in _STARTS_AT_ONCE]
    later = [step for step in playbook.steps if step.phase not in _STARTS_AT_ONCE]
    branches: list[Sequence[PlaybookStep]] = [[step] for step in at_once]
    if by_people:
        branches.append(by_people)

    workflow: dict[str, Any] = {}
    end = _id("end", category)
    after = _chain(workflow, playbook, later, end)
    workflow[end] = {"type": "end", "name": "Playbook finished"}
    if len(branches) == 1:
        first = _chain(workflow, playbook, branches[0], after)
    else:
        first = _id("parallel", category)
        heads = []
        for number, branch in enumerate(branches, start=1):
            branch_end = _id("end", category, number)
            heads.append(_chain(workflow, playbook, branch, branch_end))
            workflow[branch_end] = {"type": "end", "name": f"Branch {number} finished"}
        workflow[first] = {
            "type": "parallel",
            "name": "Detect and contain",
            "description": "Automated containment does not wait for people's analysis.",
            "next_steps": heads,
            "on_completion": after,
        }
    start = _id("start", category)
    workflow[start] = {"type": "start", "name": "Incident opened", "on_completion": first}

    document: dict[str, Any] = {
        "type": "playbook",
        "spec_version": "cacao-2.0",
        "id": _id("playbook", category),
        "name": playbook.title,
        "description": playbook.description,
        "playbook_types": list(dict.fromkeys(_TYPE[step.phase] for step in playbook.steps)),
        "playbook_activities": list(dict.fromkeys(_ACTIVITY[step.phase] for step in playbook.steps)),
        "created_by": _id("identity", "incidents"),
        "created": _moment(created),
        "modified": _moment(modified),
        "severity": _SEVERITY[playbook.severity_default],
        "labels": [str(category)],
        "workflow_start": start,
        "workflow": workflow,
        "agent_definitions": _agents(playbook),
    }
    if any("__asset_id__" in call for step in playbook.steps for call in _calls(step)):
        document["playbook_variables"] = {
            "__asset_id__": {
                "type": "uuid",
                "description": "Asset that the incident affects",
                "external": True,
                "value": None,
            }
        }
    return document


def _chain(workflow: dict[str, Any], playbook: Playbook, steps: Sequence[PlaybookStep], after: str) -> str:
    """Add `steps`, one after the other, in front of `after`; gives the id of the first."""
    following = after
    for step in reversed(steps):
        step_id = _id("action", playbook.category, step.step_number)
        workflow[step_id] = _action(step, following)
        following = step_id
    return following


def _calls(step: PlaybookStep) -> tuple[str, ...]:
    return _CALLS[step.automation_script] if step.automation_script else ()


def _action(step: PlaybookStep, following: str) -> dict[str, Any]:
    activity = _ACTIVITY[step.phase]
    calls = _calls(step)
    commands: list[dict[str, Any]] = [
        {"type": "http-api", "command": call, "description": step.action, "playbook_activity": activity}
        for call in calls
    ] or [{"type": "manual", "command": step.action, "playbook_activity": activity}]
    action: dict[str, Any] = {
        "type": "action",
        "name": f"Step {step.step_number} ({step.phase})",
        "description": step.action,
        "timeout": step.timeout_minutes * 60_000,
        "on_completion": following,
        "commands": commands,
        "agent": _id("http-api", "colonnade") if calls else _id("group", step.responsible_role),
    }
    if any("__asset_id__" in call for call in calls):
        action["in_args"] = ["__asset_id__"]
    return action


def _agents(playbook: Playbook) -> dict[str, Any]:
    agents: dict[str, Any] = {
        _id("group", step.responsible_role): {"type": "group", "name": step.responsible_role.replace("_", " ")}
        for step in playbook.steps
        if not _calls(step)
    }
    if any(_calls(step) for step in playbook.steps):
        agents[_id("http-api", "colonnade")] = {
            "type": "http-api",
            "name": "Colonnade API",
            "address": {"dname": ["colonnade.invalid"]},
            "category": ["orchestrator"],
        }
    return agents
