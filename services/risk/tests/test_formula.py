"""The specification's formula: every table entry, both goldens, and its own float code as a second opinion."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.risk.domain.formula import Control, Formula, Subject, apply_formula, level_of, rounded
from services.risk.domain.model import DEFAULT_MODEL, DIMENSIONS
from shared.contracts.governance import ControlType
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    NetworkExposure,
    RegulatoryScope,
)

TODAY = date(2026, 11, 22)
GOLDEN = Subject(
    asset_type="ai_agent",
    data_classification="restricted",
    deployment_env="production",
    network_exposure="public",
    regulatory_scope=("gdpr",),
    model_provider="openai",
)


def assess(subject: Subject, *controls: str, on: date = TODAY) -> Formula:
    return apply_formula(DEFAULT_MODEL, subject, [Control(control, operational=True) for control in controls], on=on)


def score(dimension: str, **changes: Any) -> float:
    formula = assess(replace(GOLDEN, **changes))
    return float(formula.factors[DIMENSIONS.index(dimension)].score)


def test_golden_an_exposed_agent_without_controls_is_71_25_high() -> None:
    formula = assess(GOLDEN)
    assert rounded(formula.inherent) == Decimal("71.25")
    assert formula.effectiveness == 0
    assert rounded(formula.residual) == Decimal("71.25")
    assert level_of(DEFAULT_MODEL.thresholds, formula.residual) == "HIGH"


def test_golden_two_operational_controls_bring_it_to_53_44_high() -> None:
    formula = assess(GOLDEN, "input_filtering", "monitoring")
    assert formula.effectiveness == Decimal("0.25")
    assert rounded(formula.residual) == Decimal("53.44")
    assert level_of(DEFAULT_MODEL.thresholds, formula.residual) == "HIGH"


@pytest.mark.parametrize(
    ("classification", "points"),
    [("public", 10), ("internal", 30), ("confidential", 60), ("restricted", 85), ("regulated", 95), ("secret", 50)],
)
def test_data_sensitivity(classification: str, points: int) -> None:
    assert score("data_sensitivity", data_classification=classification) == points


@pytest.mark.parametrize(("network", "base"), [("internal", 20), ("vpc", 40), ("public", 90), ("carrier pigeon", 50)])
@pytest.mark.parametrize(
    ("environment", "factor"),
    [("development", 0.4), ("staging", 0.6), ("production", 1), ("research", 0.3), ("elsewhere", 0.5)],
)
def test_deployment_exposure(network: str, base: float, environment: str, factor: float) -> None:
    assert score("deployment_exposure", network_exposure=network, deployment_env=environment) == pytest.approx(
        base * factor, abs=1e-12
    )


def test_deployment_exposure_is_capped_at_100() -> None:
    exposure = DEFAULT_MODEL.tables.deployment_exposure
    steep = replace(exposure, environment=dict(exposure.environment) | {"production": Decimal(2)})
    model = replace(DEFAULT_MODEL, tables=replace(DEFAULT_MODEL.tables, deployment_exposure=steep))
    assert apply_formula(model, GOLDEN, (), on=TODAY).factors[1].score == 100


@pytest.mark.parametrize(
    ("provider", "self_hosted", "points"),
    [
        *[(provider, hosted, 20) for provider in ("openai", "anthropic", "google") for hosted in (False, True)],
        *[
            (provider, hosted, 15)
            for provider in ("azure_openai", "aws_bedrock", "gcp_vertex")
            for hosted in (False, True)
        ],
        ("mistral", True, 60),
        (None, True, 60),
        ("mistral", False, 50),
        ("OpenAI", False, 50),
        (None, False, 50),
    ],
)
@pytest.mark.parametrize(("review_age_days", "surcharge"), [(None, 20), (91, 10), (90, 0), (0, 0), (-1, 0)])
def test_model_provenance(
    provider: str | None, self_hosted: bool, points: int, review_age_days: int | None, surcharge: int
) -> None:
    reviewed = None if review_age_days is None else TODAY - timedelta(days=review_age_days)
    assert (
        score("model_provenance", model_provider=provider, is_self_hosted=self_hosted, last_security_review=reviewed)
        == points + surcharge
    )


@pytest.mark.parametrize(
    ("scopes", "points"),
    [
        ((), 10),
        (("none",), 10),
        (("gdpr",), 50),
        (("ccpa",), 50),
        (("eu_ai_act_limited_risk",), 50),
        (("eu_ai_act_high_risk",), 90),
        (("hipaa",), 90),
        (("sox",), 90),
        (("pci_dss",), 90),
        (("gdpr", "ccpa"), 50),
        (("gdpr", "hipaa"), 90),
        (("none", "gdpr"), 50),
    ],
)
def test_regulatory_impact(scopes: tuple[str, ...], points: int) -> None:
    assert score("regulatory_impact", regulatory_scope=scopes) == points


@pytest.mark.parametrize(
    ("asset_type", "points"),
    [
        ("ai_agent", 90),
        ("fine_tuned_model", 70),
        ("api_endpoint", 60),
        ("vector_database", 55),
        ("foundation_model", 50),
        ("training_dataset", 45),
        ("embedding_model", 30),
        ("prompt_template", 25),
        ("guardrail_config", 20),
        ("evaluation_dataset", 15),
        ("mcp_server", 80),
        ("api_credential", 65),
        ("integration", 50),
        ("something_new", 50),
    ],
)
def test_capability_risk(asset_type: str, points: int) -> None:
    assert score("capability_risk", asset_type=asset_type) == points


def test_every_asset_type_has_its_own_score() -> None:
    assert set(DEFAULT_MODEL.tables.capability_risk) == set(AssetType)


@pytest.mark.parametrize(("sbom", "less_sbom"), [(False, 0), (True, 20)])
@pytest.mark.parametrize(("licence", "less_licence"), [(None, 0), ("", 0), ("unknown", 0), ("apache-2.0", 10)])
@pytest.mark.parametrize(
    ("source", "hub"),
    [(None, 0), ("https://example.org/m", 0), ("https://huggingface.co/org/model", 10), ("hf://huggingface.co/m", 10)],
)
def test_supply_chain(
    sbom: bool, less_sbom: int, licence: str | None, less_licence: int, source: str | None, hub: int
) -> None:
    assert score("supply_chain", sbom_available=sbom, license_type=licence, source_url=source) == (
        50 - less_sbom - less_licence + hub
    )


CONTROL_SHARES = {
    "input_filtering": 15,
    "output_filtering": 15,
    "rate_limiting": 10,
    "authentication": 10,
    "encryption_at_rest": 10,
    "encryption_in_transit": 10,
    "monitoring": 10,
    "guardrails": 10,
    "access_logging": 5,
    "network_isolation": 5,
}


@pytest.mark.parametrize(("control", "percent"), CONTROL_SHARES.items())
def test_an_operational_control_counts_and_another_does_not(control: str, percent: int) -> None:
    assert assess(GOLDEN, control).effectiveness * 100 == percent
    planned = apply_formula(DEFAULT_MODEL, GOLDEN, [Control(control, operational=False)], on=TODAY)
    assert planned.effectiveness == 0


def test_all_controls_remove_everything_and_more_do_not_remove_more() -> None:
    assert set(CONTROL_SHARES) == set(ControlType)
    assert assess(GOLDEN, *CONTROL_SHARES).residual == 0
    assert assess(GOLDEN, *CONTROL_SHARES, "monitoring").effectiveness == 1
    assert assess(GOLDEN, "crystal_ball").effectiveness == 0


@pytest.mark.parametrize(
    ("residual", "level"),
    [
        ("100", "CRITICAL"),
        ("75", "CRITICAL"),
        ("74.999", "HIGH"),
        ("50", "HIGH"),
        ("49.9999", "MEDIUM"),
        ("25", "MEDIUM"),
        ("24.996", "LOW"),
        ("0", "LOW"),
    ],
)
def test_the_level_is_judged_before_rounding(residual: str, level: str) -> None:
    assert level_of(DEFAULT_MODEL.thresholds, Decimal(residual)) == level


def test_recommendations_come_from_the_three_largest_contributions() -> None:
    dimensions = [factor.dimension for factor in sorted(assess(GOLDEN).factors, key=lambda f: -f.contribution)[:3]]
    assert dimensions == ["data_sensitivity", "deployment_exposure", "capability_risk"]
    advice = assess(GOLDEN).recommendations
    assert [word in text for word, text in zip(("loss prevention", "VPC", "fewest"), advice, strict=True)] == [True] * 3


def test_a_large_contribution_below_its_threshold_gives_no_recommendation() -> None:
    calm = replace(
        GOLDEN,
        data_classification="confidential",
        network_exposure="vpc",
        asset_type="api_endpoint",
        last_security_review=TODAY,
    )
    assert assess(calm).recommendations == ()


def test_factors_say_why() -> None:
    old = replace(
        GOLDEN, last_security_review=date(2026, 8, 1), source_url="https://huggingface.co/x", license_type="mit"
    )
    assert [factor.details for factor in assess(old).factors] == [
        "Reads data classified restricted.",
        "Network exposure public (90) in production (x 1).",
        "Provider openai (20), last review 2026-08-01 older than 90 days (+10).",
        "In scope of gdpr.",
        "Asset type ai_agent.",
        "No SBOM, licence mit (-10), from huggingface.co (+10).",
    ]


def test_a_review_grows_old_on_its_ninety_first_day() -> None:
    subject = replace(GOLDEN, last_security_review=TODAY)
    day = subject.stale_from(DEFAULT_MODEL, after=TODAY)
    assert day == TODAY + timedelta(days=91)
    assert not subject.review_is_stale(DEFAULT_MODEL, day - timedelta(days=1))
    assert subject.review_is_stale(DEFAULT_MODEL, day)
    assert subject.stale_from(DEFAULT_MODEL, after=day) is None
    assert GOLDEN.stale_from(DEFAULT_MODEL, after=TODAY) is None


subjects = st.builds(
    Subject,
    asset_type=st.sampled_from([*map(str, AssetType), "other"]),
    data_classification=st.sampled_from([*map(str, DataClassification)]),
    deployment_env=st.sampled_from([*map(str, DeploymentEnvironment)]),
    network_exposure=st.sampled_from([*map(str, NetworkExposure)]),
    regulatory_scope=st.lists(st.sampled_from([*map(str, RegulatoryScope)]), max_size=4, unique=True).map(tuple),
    model_provider=st.sampled_from([None, "openai", "aws_bedrock", "mistral"]),
    is_self_hosted=st.booleans(),
    last_security_review=st.none() | st.dates(date(2026, 1, 1), date(2026, 12, 31)),
    sbom_available=st.booleans(),
    license_type=st.sampled_from([None, "unknown", "mit"]),
    source_url=st.sampled_from([None, "https://huggingface.co/a/b"]),
)
control_lists = st.lists(
    st.builds(Control, type=st.sampled_from([*map(str, ControlType), "unheard_of"]), operational=st.booleans()),
    max_size=12,
)


def specification_in_floats(subject: Subject, controls: list[Control], today: date) -> tuple[float, float]:
    """The specification's arithmetic, in its own floats: (inherent, residual), not rounded."""
    data = {"public": 10, "internal": 30, "confidential": 60, "restricted": 85, "regulated": 95}
    network = {"internal": 20, "vpc": 40, "public": 90}
    environment = {"development": 0.4, "staging": 0.6, "production": 1.0, "research": 0.3}
    kind = {
        "ai_agent": 90,
        "fine_tuned_model": 70,
        "foundation_model": 50,
        "api_endpoint": 60,
        "vector_database": 55,
        "embedding_model": 30,
        "training_dataset": 45,
        "prompt_template": 25,
        "guardrail_config": 20,
        "evaluation_dataset": 15,
        "mcp_server": 80,
        "api_credential": 65,
    }
    if subject.model_provider in ("openai", "anthropic", "google"):
        provenance = 20
    elif subject.model_provider in ("azure_openai", "aws_bedrock", "gcp_vertex"):
        provenance = 15
    else:
        provenance = 60 if subject.is_self_hosted else 50
    if not subject.last_security_review:
        provenance += 20
    elif (today - subject.last_security_review).days > 90:
        provenance += 10
    scopes = set(subject.regulatory_scope) - {"none"}
    regulatory = 10 if not scopes else 90 if scopes & {"eu_ai_act_high_risk", "hipaa", "sox", "pci_dss"} else 50
    supply = 50 - (20 if subject.sbom_available else 0)
    supply -= 10 if subject.license_type and subject.license_type != "unknown" else 0
    supply += 10 if subject.source_url and "huggingface.co" in subject.source_url else 0
    scores = (
        data[subject.data_classification],
        min(100, network[subject.network_exposure] * environment[subject.deployment_env]),
        min(100, provenance),
        regulatory,
        kind.get(subject.asset_type, 50),
        max(0, min(100, supply)),
    )
    inherent = sum(s * w for s, w in zip(scores, (0.25, 0.20, 0.15, 0.15, 0.15, 0.10), strict=True))
    effect = min(1.0, sum(CONTROL_SHARES.get(c.type, 0) / 100 for c in controls if c.operational))
    return inherent, inherent * (1 - effect)


@given(subjects, control_lists)
def test_it_agrees_with_the_specifications_floats(subject: Subject, controls: list[Control]) -> None:
    """Within float noise before rounding; the level only where that noise does not straddle a threshold."""
    formula = apply_formula(DEFAULT_MODEL, subject, controls, on=TODAY)
    inherent, residual = specification_in_floats(subject, controls, TODAY)
    assert float(formula.inherent) == pytest.approx(inherent, abs=1e-9)
    assert float(formula.residual) == pytest.approx(residual, abs=1e-9)
    if min(abs(residual - threshold) for threshold in (75, 50, 25)) > 1e-9:
        expected = "CRITICAL" if residual >= 75 else "HIGH" if residual >= 50 else "MEDIUM" if residual >= 25 else "LOW"
        assert level_of(DEFAULT_MODEL.thresholds, formula.residual) == expected


@given(subjects, control_lists)
def test_scores_stay_within_the_scale(subject: Subject, controls: list[Control]) -> None:
    formula = apply_formula(DEFAULT_MODEL, subject, controls, on=TODAY)
    assert all(0 <= factor.score <= 100 for factor in formula.factors)
    assert 0 <= formula.residual <= formula.inherent <= 100
    assert 0 <= formula.effectiveness <= 1


@given(subjects, control_lists, st.sampled_from(list(ControlType)))
def test_one_more_operational_control_never_raises_the_residual(
    subject: Subject, controls: list[Control], added: ControlType
) -> None:
    before = apply_formula(DEFAULT_MODEL, subject, controls, on=TODAY)
    after = apply_formula(DEFAULT_MODEL, subject, [*controls, Control(added, operational=True)], on=TODAY)
    assert after.residual <= before.residual


WORSE: list[tuple[str, list[Any]]] = [
    ("data_classification", ["public", "internal", "confidential", "restricted", "regulated"]),
    ("network_exposure", ["internal", "vpc", "public"]),
    ("deployment_env", ["research", "development", "staging", "production"]),
    ("regulatory_scope", [(), ("gdpr",), ("gdpr", "hipaa")]),
    ("last_security_review", [TODAY, TODAY - timedelta(days=91), None]),
    ("sbom_available", [True, False]),
    ("license_type", ["mit", None]),
    ("source_url", [None, "https://huggingface.co/a"]),
    ("asset_type", sorted(DEFAULT_MODEL.tables.capability_risk, key=lambda t: DEFAULT_MODEL.tables.capability_risk[t])),
]


@given(subjects, control_lists, st.sampled_from(WORSE), st.data())
def test_worsening_one_factor_never_lowers_the_residual(
    subject: Subject, controls: list[Control], factor: tuple[str, list[Any]], data: st.DataObject
) -> None:
    name, rising = factor
    first = data.draw(st.integers(0, len(rising) - 2))
    second = data.draw(st.integers(first + 1, len(rising) - 1))
    better = apply_formula(DEFAULT_MODEL, replace(subject, **{name: rising[first]}), controls, on=TODAY)
    worse = apply_formula(DEFAULT_MODEL, replace(subject, **{name: rising[second]}), controls, on=TODAY)
    assert better.residual <= worse.residual
