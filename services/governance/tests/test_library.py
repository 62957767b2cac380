"""The shipped library is complete and names nothing that does not exist."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.governance.domain.controls import ControlFunction
from services.governance.domain.library import BrokenLibrary, InPlace, assemble, coverage
from services.governance.shipped import FOLDER, library
from shared.contracts.governance import ControlType
from shared.contracts.inventory import AssetType
from shared.errors import Invalid

CONTROLS = sorted(library().controls)


@pytest.fixture
def documents() -> dict[str, Any]:
    """The library's files, parsed, for a test to break."""
    paths = Path(FOLDER).rglob("*.yaml")
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): yaml.safe_load(path.read_text()) for path in paths}


def test_there_are_enough_controls_of_each_function() -> None:
    functions = [control.function for control in library().controls.values()]
    assert len(functions) >= 48
    assert all(functions.count(function) >= 10 for function in ControlFunction)


def test_every_type_that_risk_counts_has_a_control_for_agents_and_models() -> None:
    for asset_type in (AssetType.AI_AGENT, AssetType.FOUNDATION_MODEL, AssetType.API_ENDPOINT):
        available = {c.control_type for c in library().controls.values() if asset_type in c.applies_to}
        assert available >= set(ControlType)


@pytest.mark.parametrize("framework_id", ["owasp_llm_2025", "owasp_llm_2026", "owasp_agentic_2026"])
def test_every_owasp_entry_is_covered_by_preventive_and_other_controls(framework_id: str) -> None:
    framework = library().frameworks[framework_id]
    for found in coverage(framework, library().controls.values(), {}):
        functions = {library().controls[control_id].function for control_id in found.controls}
        assert ControlFunction.PREVENTIVE in functions, found.entry.id
        assert len(functions) >= 2, found.entry.id


def test_the_other_frameworks_are_mapped_in_breadth() -> None:
    def mapped(framework_id: str, kinds: set[str]) -> tuple[int, int]:
        found = coverage(library().frameworks[framework_id], library().controls.values(), {})
        of_kind = [entry for entry in found if entry.entry.kind in kinds]
        return sum(bool(entry.controls) for entry in of_kind), len(of_kind)

    assert mapped("mitre_atlas", {"mitigation"})[0] >= 30
    assert mapped("mitre_atlas", {"technique", "subtechnique"})[0] >= 90
    assert mapped("nist_ai_rmf", {"subcategory"})[0] >= 40
    assert mapped("iso_42001", {"control"})[0] >= 28
    assert mapped("eu_ai_act", {"article"})[0] >= 18


@pytest.mark.parametrize("control_id", CONTROLS)
def test_a_control_can_be_carried_out_from_what_it_says(control_id: str) -> None:
    control = library().controls[control_id]
    made = control.implementation
    assert len(made.steps) >= 3
    assert made.configuration
    assert made.verification
    assert made.evidence
    assert made.common_failures
    assert control.mappings.owasp_llm_2025
    assert control.mappings.owasp_llm_2026
    assert control.mappings.atlas
    assert control.mappings.nist_ai_rmf
    assert control.mappings.iso_42001


def test_titles_and_objectives_are_not_repeated() -> None:
    controls = library().controls.values()
    assert len({control.title for control in controls}) == len(CONTROLS)
    assert len({control.objective for control in controls}) == len(CONTROLS)


def test_the_five_policies_are_complete() -> None:
    assert set(library().policies) == {
        "acceptable-use",
        "model-procurement",
        "data-handling",
        "red-teaming",
        "incident-classification",
    }
    for policy in library().policies.values():
        assert len(policy.statements) >= 10
        assert len(policy.roles) >= 4
        assert policy.mappings.nist_ai_rmf
        assert policy.mappings.iso_42001
        assert policy.mappings.eu_ai_act


def test_every_role_answers_for_or_does_something() -> None:
    matrix = library().raci
    busy = {role for activity in matrix.activities for role in (*activity.accountable, *activity.responsible)}
    assert busy == {role.id for role in matrix.roles}


def test_frameworks_name_their_source_and_licence() -> None:
    for framework in library().frameworks.values():
        assert framework.source.startswith("https://")
        assert framework.licence
        ids = [entry.id for entry in framework.entries]
        assert len(ids) == len(set(ids))
        assert all(entry.parent in ids for entry in framework.entries if entry.parent)


def _a_control(documents: dict[str, Any]) -> dict[str, Any]:
    control: dict[str, Any] = documents["controls/CLN-INP-01"]
    return control


@pytest.mark.parametrize(
    ("breaking", "complaint"),
    [
        (lambda d: _a_control(d)["mappings"]["atlas"].append("AML.M9999"), "AML.M9999"),
        (lambda d: _a_control(d).update(id="CLN-INP-99"), "named differently"),
        (lambda d: _a_control(d).update(owner_role="wizard"), "wizard"),
        (lambda d: _a_control(d).update(colour="red"), "colour"),
        (lambda d: _a_control(d)["implementation"].update(steps=[]), "steps"),
        (lambda d: d["policies/red-teaming"]["statements"][0].update(id="RT-2"), "RT-2"),
        (lambda d: d["raci"]["activities"][0]["assignments"].update(ciso="A"), "accountable"),
        (lambda d: d["appetite"]["ceilings"]["public"].pop("staging"), "staging"),
    ],
)
def test_a_broken_file_is_refused_by_name(documents: dict[str, Any], breaking: Any, complaint: str) -> None:
    broken = copy.deepcopy(documents)
    breaking(broken)
    with pytest.raises(BrokenLibrary, match=complaint):
        assemble(broken)


def test_unknown_ids_are_named_with_their_place() -> None:
    with pytest.raises(Invalid) as refused:
        library().check_ids(["LLM01:2026", "LLM99:2026"], ["owasp_llm_2026"], "/owasp")
    assert refused.value.extra["errors"][0]["field"] == "/owasp/1"


def test_coverage_counts_a_mapping_for_the_entry_it_names_only() -> None:
    framework = library().frameworks["mitre_atlas"]
    found = {
        entry.entry.id: entry
        for entry in coverage(framework, [library().controls["CLN-INP-01"]], {"CLN-INP-01": InPlace(3, 2)})
    }
    assert found["AML.T0051.000"].status == "operational"
    assert (found["AML.T0051.000"].deployments, found["AML.T0051.000"].operational) == (3, 2)
    assert found["AML.T0051"].status == "none"
