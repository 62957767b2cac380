"""The model's own consistency, and version 1 number by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from services.risk.domain.model import DEFAULT_MODEL, DIMENSIONS, ModelInvalid, ScoringModel

WEIGHTS = {
    "data_sensitivity": 0.25,
    "deployment_exposure": 0.20,
    "model_provenance": 0.15,
    "regulatory_impact": 0.15,
    "capability_risk": 0.15,
    "supply_chain": 0.10,
}


def fields_of(model: ScoringModel) -> list[str]:
    with pytest.raises(ModelInvalid) as refused:
        model.check()
    return [error["field"] for error in refused.value.extra["errors"]]


def with_weights(**changes: str) -> ScoringModel:
    weights = dict(DEFAULT_MODEL.weights) | {name: Decimal(value) for name, value in changes.items()}
    return replace(DEFAULT_MODEL, weights=weights)


def with_table(name: str, table: Any) -> ScoringModel:
    return replace(DEFAULT_MODEL, tables=replace(DEFAULT_MODEL.tables, **{name: table}))


def without(table: Mapping[str, Decimal], key: str) -> dict[str, Decimal]:
    return {name: value for name, value in table.items() if name != key}


def test_version_1_is_consistent_and_weighs_as_the_specification() -> None:
    DEFAULT_MODEL.check()
    assert DEFAULT_MODEL.version == 1
    assert {name: float(weight) for name, weight in DEFAULT_MODEL.weights.items()} == WEIGHTS
    assert tuple(DEFAULT_MODEL.weights) == DIMENSIONS


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (with_weights(supply_chain="0.11"), "/weights"),
        (with_weights(supply_chain="0.1000001"), "/weights"),
        (with_weights(supply_chain="-0.10", data_sensitivity="0.45"), "/weights/supply_chain"),
        (with_weights(supply_chain="NaN"), "/weights/supply_chain"),
        (replace(DEFAULT_MODEL, weights=without(DEFAULT_MODEL.weights, "supply_chain")), "/weights/supply_chain"),
        (with_weights(luck="0"), "/weights/luck"),
        (
            with_table("data_sensitivity", without(DEFAULT_MODEL.tables.data_sensitivity, "public")),
            "/tables/data_sensitivity/public",
        ),
        (
            with_table("capability_risk", dict(DEFAULT_MODEL.tables.capability_risk) | {"ai_agent": Decimal(101)}),
            "/tables/capability_risk/ai_agent",
        ),
        (
            with_table("capability_risk", dict(DEFAULT_MODEL.tables.capability_risk) | {"a/b": Decimal(1)}),
            "/tables/capability_risk/a~1b",
        ),
        (
            with_table("controls", dict(DEFAULT_MODEL.tables.controls) | {"monitoring": Decimal("1.01")}),
            "/tables/controls/monitoring",
        ),
        (
            with_table("supply_chain", replace(DEFAULT_MODEL.tables.supply_chain, sbom=Decimal(-1))),
            "/tables/supply_chain/sbom",
        ),
        (
            with_table("model_provenance", replace(DEFAULT_MODEL.tables.model_provenance, stale_after_days=0)),
            "/tables/model_provenance/stale_after_days",
        ),
        (
            replace(DEFAULT_MODEL, thresholds=replace(DEFAULT_MODEL.thresholds, high=Decimal(75))),
            "/thresholds",
        ),
        (
            replace(
                DEFAULT_MODEL,
                activity=replace(
                    DEFAULT_MODEL.activity,
                    threat_activity=replace(DEFAULT_MODEL.activity.threat_activity, half_life_days=Decimal(0)),
                ),
            ),
            "/activity/threat_activity/half_life_days",
        ),
        (
            replace(
                DEFAULT_MODEL,
                activity=replace(
                    DEFAULT_MODEL.activity,
                    incident_activity=replace(
                        DEFAULT_MODEL.activity.incident_activity,
                        points=dict(DEFAULT_MODEL.activity.incident_activity.points) | {"sev4": Decimal(50)},
                    ),
                ),
            ),
            "/activity/incident_activity/points/sev4",
        ),
    ],
)
def test_what_could_not_score_every_asset_is_refused_by_name(model: ScoringModel, field: str) -> None:
    assert field in fields_of(model)


def test_weights_need_no_tolerance() -> None:
    """Thirds and sevenths are written with six places, and six numbers with six places can sum to exactly 1."""
    sixths = dict.fromkeys(DIMENSIONS, Decimal("0.166667")) | {"supply_chain": Decimal("0.166665")}
    replace(DEFAULT_MODEL, weights=sixths).check()
    assert fields_of(replace(DEFAULT_MODEL, weights=dict.fromkeys(DIMENSIONS, Decimal("0.166667")))) == ["/weights"]


def test_every_problem_is_named_at_once() -> None:
    broken = replace(
        with_weights(supply_chain="0.2"),
        thresholds=replace(DEFAULT_MODEL.thresholds, critical=Decimal(10)),
    )
    assert fields_of(broken) == ["/weights", "/thresholds"]
