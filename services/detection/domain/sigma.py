"""Rules as Sigma 2.1, for a SIEM that receives GenAI telemetry.

Sigma has no log source for language models; ours are product `genai` with category `llm_inference` (prompts, documents
and answers) or `agent_tool` (calls of tools and what they give). Fields are those of OpenTelemetry's GenAI conventions,
see FIELDS. Sigma matches the text as it was logged: what hides there by encoding or look-alikes is found here alone.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import yaml

from services.detection.domain.rules import Metric, RateDetection, RegexDetection, Rule, Status, patterns_of
from shared.contracts.detection import Direction

_NAMESPACE = UUID("6f0c1d0e-52d4-5f0b-9a52-6d1f3f1c7a10")
FIELDS = {
    Direction.INPUT: "gen_ai.input.messages",
    Direction.DOCUMENT: "gen_ai.input.messages",
    Direction.OUTPUT: "gen_ai.output.messages",
    Direction.TOOL_CALL: "gen_ai.tool.call.arguments",
    Direction.TOOL_RESULT: "gen_ai.tool.call.result",
}
"""Where each direction's text is in telemetry. A document reaches the model as part of its input."""
_TOOLS = frozenset({Direction.TOOL_CALL, Direction.TOOL_RESULT})
_WHOM = {"session": "gen_ai.conversation.id", "actor": "user.id", "asset": "service.name"}
_COUNTED = {
    Metric.TOOL_CALLS_PER_MINUTE: ("agent_tool", ["execute_tool"]),
    Metric.REQUESTS_PER_MINUTE: ("llm_inference", ["chat", "generate_content", "text_completion"]),
}


class NotExpressible(Exception):
    """Sigma cannot say what the rule says; the message says why."""


def id_of(rule_id: str) -> UUID:
    """The Sigma id of a rule: the same in every export."""
    return uuid5(_NAMESPACE, rule_id)


def document(rule: Rule, version: int, updated_at: datetime) -> str:
    """A rule as Sigma, a YAML document, or two where events are counted.

    Raises:
        NotExpressible
    """
    scope = rule.scope
    if scope.asset_ids or scope.asset_types:
        raise NotExpressible("it is for certain assets, whose records Sigma does not see")
    if rule.expires_at is not None:
        raise NotExpressible("it ends by itself, which Sigma cannot")
    if isinstance(rule.detection, RegexDetection):
        documents = [_of_patterns(rule, rule.detection)]
    elif isinstance(rule.detection, RateDetection):
        documents = _of_rate(rule, rule.detection)
    else:
        reasons = {
            "similarity": "it compares with prompts that are registered here",
            "statistical": "it measures a text or compares it with what its session did before",
            "policy": "it needs the asset's record",
            "classifier": "it asks a trained model",
            "tracker": "it follows a session over its turns",
            "sequence": "it follows what tools of a session did, and where their values came from",
            "usage": "it compares with what the asset or actor used before",
            "budget": "it needs the budget that was set here",
        }
        raise NotExpressible(reasons[rule.detection.type])
    documents[-1] |= {"custom": {"colonnade": {"rule_id": rule.id, "version": version, "kind": rule.kind.value}}}
    for one in documents:
        one["modified"] = updated_at.date().isoformat()
    return "---\n".join(
        yaml.safe_dump(one, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)
        for one in documents
    )


def _head(rule: Rule) -> dict[str, Any]:
    status = {Status.SHADOW: "experimental"}.get(rule.status, rule.status.value)
    head: dict[str, Any] = {
        "title": rule.title,
        "id": str(id_of(rule.id)),
        "status": status,
        "description": rule.description or rule.title,
        "author": "Colonnade",
    }
    tags = [f"owasp.{one.lower().replace(':', '-')}" for one in rule.owasp]
    tags += [f"atlas.{one.lower()}" for one in rule.atlas]
    return head | ({"tags": tags} if tags else {})


def _tail(rule: Rule) -> dict[str, Any]:
    noise = list(rule.falsepositives)
    if isinstance(rule.detection, RegexDetection) and rule.detection.quotable:
        noise.append("Texts that quote such words; Colonnade tells quotations from use, Sigma does not.")
    return {"falsepositives": noise or ["Unknown"], "level": rule.level.value}


def _of_patterns(rule: Rule, detection: RegexDetection) -> dict[str, Any]:
    if detection.validator is not None:
        raise NotExpressible(f"what matches is checked by {detection.validator.value}, which Sigma cannot")
    if detection.min_entropy is not None:
        raise NotExpressible("the entropy of what matches is measured, which Sigma cannot")
    by_role: dict[str, list[str]] = {"any": [], "all": [], "unless": []}
    for role, field, pattern in patterns_of(rule):
        try:
            re.compile(pattern)
        except re.error as error:
            raise NotExpressible(f"{field} is in RE2 syntax that others do not read: {error}") from error
        by_role[role].append(pattern)
    modifiers = "|re" if detection.case_sensitive else "|re|i"
    selections: dict[str, Any] = {}
    conditions = []
    for at, field in enumerate(dict.fromkeys(FIELDS[one] for one in rule.scope.directions)):
        parts = []
        if by_role["any"]:
            selections[f"any_{at}"] = {field + modifiers: list(by_role["any"])}
            parts.append(f"any_{at}")
        if by_role["all"]:
            selections[f"all_{at}"] = {f"{field}{modifiers}|all": list(by_role["all"])}
            parts.append(f"all_{at}")
        if by_role["unless"]:
            selections[f"unless_{at}"] = {field + modifiers: list(by_role["unless"])}
            parts.append(f"not unless_{at}")
        conditions.append("(" + " and ".join(parts) + ")")
    category = "agent_tool" if _TOOLS.issuperset(rule.scope.directions) else "llm_inference"
    return {
        **_head(rule),
        "logsource": {"product": "genai", "category": category},
        "detection": selections | {"condition": " or ".join(conditions)},
        **_tail(rule),
    }


def _of_rate(rule: Rule, detection: RateDetection) -> list[dict[str, Any]]:
    counted = _COUNTED.get(detection.metric)
    if counted is None:
        raise NotExpressible(f"it sums {detection.metric.value}, of which telemetry has no one field")
    category, operations = counted
    base = {
        "title": f"Counted for: {rule.title}"[:256],
        "id": str(id_of(f"{rule.id}.counted")),
        "name": f"{rule.id}_counted",
        "status": "stable",
        "description": "Every such event; on its own it is no matter.",
        "author": "Colonnade",
        "logsource": {"product": "genai", "category": category},
        "detection": {"counted": {"gen_ai.operation.name": operations}, "condition": "counted"},
        "level": "informational",
    }
    window = detection.metric.window_seconds
    correlation = {
        "type": "event_count",
        "rules": [base["name"]],
        "group-by": [_WHOM[detection.by]],
        "timespan": f"{window}s",
        "condition": {"gt": int(detection.threshold)},
    }
    return [base, {**_head(rule), "correlation": correlation, **_tail(rule)}]
