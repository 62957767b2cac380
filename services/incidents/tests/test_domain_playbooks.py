"""The eight playbooks say what the specification says, and nothing that the engine does not understand passes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.incidents.domain import cacao
from services.incidents.domain.playbooks import ActionName, Playbook, PlaybookRefused, parse
from services.incidents.tests.factories import playbook
from shared.contracts.incidents import IncidentCategory, Phase

CATEGORIES = [category.value for category in IncidentCategory]
SPELLED_OUT = {"prompt_injection_exploitation", "agent_unauthorized_actions"}


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_has_a_complete_playbook(category: str) -> None:
    book = playbook(category)
    assert book.category == category
    assert book.detection_rules and book.containment_actions and book.evidence_to_collect
    assert any(re.search(r"\d+ (minutes|hours?|days)", line) for line in book.notification_requirements)
    assert any(step.automated and step.phase is Phase.CONTAINMENT for step in book.steps)
    assert any(step.escalation_trigger for step in book.steps)
    if category not in SPELLED_OUT:
        assert [phase for phase in Phase if any(step.phase is phase for step in book.steps)] == list(Phase)
        assert len(book.steps) >= 8


STEPS: dict[str, list[tuple[str, str, bool, int]]] = {
    "prompt_injection_exploitation": [
        ("detection", "ai_security_analyst", False, 15),
        ("detection", "ai_security_analyst", False, 30),
        ("containment", "ai_security_engineer", True, 5),
        ("containment", "ai_security_engineer", True, 15),
        ("eradication", "ai_security_analyst", False, 60),
        ("eradication", "ai_red_team", False, 120),
        ("recovery", "ai_security_engineer", False, 60),
        ("lessons_learned", "ai_security_analyst", False, 240),
    ],
    "agent_unauthorized_actions": [
        ("containment", "on_call_engineer", True, 5),
        ("containment", "ai_security_analyst", False, 30),
        ("eradication", "ai_security_engineer", False, 120),
        ("recovery", "ai_security_engineer", False, 240),
    ],
}


@pytest.mark.parametrize("category", sorted(STEPS))
def test_the_steps_are_those_of_the_specification(category: str) -> None:
    book = playbook(category)
    found = [(step.phase.value, step.responsible_role, step.automated, step.timeout_minutes) for step in book.steps]
    assert found == STEPS[category]


def test_severities_and_escalations_are_those_of_the_specification() -> None:
    injection, agent = playbook("prompt_injection_exploitation"), playbook("agent_unauthorized_actions")
    assert (injection.severity_default, agent.severity_default) == ("sev2", "sev1")
    assert injection.steps[2].escalate_to_severity == "sev1"
    assert "5 minutes" in (agent.steps[0].escalation_trigger or "")
    assert agent.steps[0].escalate_to_role == "infrastructure_team"


def test_the_detection_rules_are_those_of_the_specification() -> None:
    rules = {
        rule.name: (rule.type, rule.pattern, rule.threshold, rule.reference, rule.metric, rule.check)
        for category in sorted(STEPS)
        for rule in playbook(category).detection_rules
    }
    pattern = r"(ignore|disregard|forget)\s+(all\s+)?(previous|prior|above)\s+(instructions|prompts|rules)"
    assert rules == {
        "injection_keyword_match": ("regex", pattern, None, None, None, None),
        "output_anomaly": ("similarity", None, 0.85, "system_prompt_embeddings", None, None),
        "behavioral_shift": ("statistical", None, 2.0, None, "output_entropy_delta", None),
        "unauthorized_tool_call": ("policy", None, None, None, None, "tool_name NOT IN agent.authorized_tools"),
        "excessive_tool_calls": ("statistical", None, 20.0, None, "tool_calls_per_minute", None),
    }


def _document(**changed: Any) -> dict[str, Any]:
    return playbook().document() | changed


def _with_step(**changed: Any) -> dict[str, Any]:
    document = _document()
    document["steps"][2] |= changed
    return document


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        (_document(colour="red"), "/colour", "not permitted"),
        (_document(category="meteor_strike"), "/category", "model_denial_of_service"),
        (_document(title=" "), "/title", "at least 1"),
        (_document(steps=[]), "/steps", "at least 1"),
        (_with_step(automation_script="os.system"), "/steps/2/automation_script", "quarantine_asset"),
        (_with_step(automation_script="{{ 7 * 7 }}"), "/steps/2/automation_script", "revoke_session"),
        (_with_step(automation_script=None), "/steps/2", "names its action"),
        (_with_step(automated=False), "/steps/2", "not automated"),
        (_with_step(phase="recovery"), "", "goes back from recovery to containment"),
        (_with_step(step_number=7), "", "expected 3, found 7"),
        (_with_step(timeout_minutes=0), "/steps/2/timeout_minutes", "greater than or equal to 1"),
        (_with_step(escalate_to_severity="sev3"), "/steps/2", "speaks of SEV1"),
        (_with_step(responsible_role="Not A Role"), "/steps/2/responsible_role", "pattern"),
        (
            _document(detection_rules=[{"name": "a", "description": "b", "type": "regex"}]),
            "/detection_rules/0",
            "pattern",
        ),
        (
            _document(detection_rules=[{"name": "a", "description": "b", "type": "regex", "pattern": "(a"}]),
            "/detection_rules/0/pattern",
            "does not compile",
        ),
        (_document(steps=[_document()["steps"][0]]), "", "at least one step is of the phase containment"),
        ("not a mapping", "", "valid dictionary"),
    ],
)
def test_what_the_engine_does_not_understand_is_refused_by_name(document: Any, field: str, says: str) -> None:
    with pytest.raises(PlaybookRefused) as refused:
        parse(document)
    matching = [error for error in refused.value.extra["errors"] if error["field"] == field]
    assert any(says in error["message"] for error in matching), refused.value.extra["errors"]


def test_a_severity_in_the_words_of_a_trigger_is_taken_at_its_word() -> None:
    document = _with_step(escalation_trigger="If nobody answers, escalate to SEV 1", escalate_to_severity=None)
    assert parse(document).steps[2].escalate_to_severity == "sev1"


def test_a_playbook_survives_its_own_document() -> None:
    assert parse(playbook().document()) == playbook()


CREATED = datetime(2026, 11, 22, tzinfo=UTC)


def _cacao(book: Playbook) -> dict[str, Any]:
    return cacao.export(book, created=CREATED, modified=CREATED)


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_cacao_export_is_a_well_formed_workflow(category: str) -> None:
    """By the rules of CACAO 2.0 sections 3.1, 4 and 10.10 (required properties, references, identifiers)."""
    document = _cacao(playbook(category))
    required = {"type", "spec_version", "id", "name", "created_by", "created", "modified", "workflow_start", "workflow"}
    assert required <= document.keys()
    assert (document["type"], document["spec_version"]) == ("playbook", "cacao-2.0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["created"])
    workflow, agents = document["workflow"], document["agent_definitions"]
    identifiers = [document["id"], document["created_by"], *workflow, *agents]
    assert len({identifier.partition("--")[2] for identifier in identifiers}) == len(identifiers)
    for identifier in identifiers:
        assert UUID(identifier.partition("--")[2]).version == 4
    referenced = {document["workflow_start"]}
    for identifier, step in workflow.items():
        assert identifier.startswith(f"{step['type']}--")
        following = [*step.get("next_steps", []), *([step["on_completion"]] if "on_completion" in step else [])]
        assert bool(following) == (step["type"] != "end")
        assert set(following) <= workflow.keys()
        referenced.update(following)
        if step["type"] == "action":
            assert step["agent"] in agents
            assert step["commands"] and all(command["type"] in {"manual", "http-api"} for command in step["commands"])
        if step["type"] == "parallel":
            assert len(step["next_steps"]) >= 2
    assert referenced == workflow.keys()
    actions = [step for step in workflow.values() if step["type"] == "action"]
    assert len(actions) == len(playbook(category).steps)


def test_a_cacao_export_of_the_same_version_is_the_same_document() -> None:
    assert _cacao(playbook()) == _cacao(playbook())


def test_the_cacao_export_knows_every_action() -> None:
    for action in ActionName:
        document = _document()
        document["steps"][2]["automation_script"] = action.value
        assert _cacao(parse(document))["workflow"]
