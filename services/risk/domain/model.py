"""The scoring model: every weight, table and threshold of an assessment, as data with a version.

Data and not code, so that an organisation can change what it holds important and still say afterwards with which
numbers any score was made. All numbers are decimals: weights must sum to 1 exactly and adjustments to the change
exactly, which binary floats cannot promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Final

from shared.contracts.detection import Severity
from shared.contracts.governance import ControlType
from shared.contracts.incidents import IncidentSeverity
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    NetworkExposure,
    RegulatoryScope,
)
from shared.errors import Invalid

DIMENSIONS: Final = (
    "data_sensitivity",
    "deployment_exposure",
    "model_provenance",
    "regulatory_impact",
    "capability_risk",
    "supply_chain",
)
DECIMAL_PLACES: Final = 6
"""Most decimal places of any number of a model. It keeps products exact within the default 28 digits of precision,
and it is why weights need no tolerance: six of them with six places can always be made to sum to exactly 1."""

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
HUNDRED: Final = Decimal(100)

MOST_FACTOR: Final = Decimal(10)
"""Largest environment factor: exposure is capped at 100 anyway."""


class ModelInvalid(Invalid):
    """The scoring model is not consistent."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Network exposure (0-100) times a factor of the environment, capped at 100. `other` stands for unlisted values."""

    network: Mapping[str, Decimal]
    network_other: Decimal
    environment: Mapping[str, Decimal]
    environment_other: Decimal


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who stands behind the model: a named provider's score, else self_hosted or other, plus a missing or old review.

    A review is old when more than `stale_after_days` whole days passed since.
    """

    providers: Mapping[str, Decimal]
    self_hosted: Decimal
    other: Decimal
    never_reviewed: Decimal
    stale_review: Decimal
    stale_after_days: int


@dataclass(frozen=True, slots=True)
class Regulation:
    """The highest score among the scopes that apply; `unregulated` when none does."""

    scopes: Mapping[str, Decimal]
    unregulated: Decimal


@dataclass(frozen=True, slots=True)
class SupplyChain:
    """`base`, less `sbom` and `known_license` where they exist, plus `model_hub` for sources on one of `hubs`."""

    base: Decimal
    sbom: Decimal
    known_license: Decimal
    model_hub: Decimal
    hubs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """The score tables: each gives 0-100 points for what an asset is; `controls` gives shares of the risk removed."""

    data_sensitivity: Mapping[str, Decimal]
    deployment_exposure: Exposure
    model_provenance: Provenance
    regulatory_impact: Regulation
    capability_risk: Mapping[str, Decimal]
    supply_chain: SupplyChain
    controls: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on a level begins; below `medium` it is LOW."""

    critical: Decimal
    high: Decimal
    medium: Decimal


@dataclass(frozen=True, slots=True)
class ThreatActivity:
    """Points of alerts: by severity, times 1 + log10(count), halving every `half_life_days`; their sum is capped."""

    points: Mapping[str, Decimal]
    half_life_days: Decimal
    cap: Decimal


@dataclass(frozen=True, slots=True)
class IncidentActivity:
    """Points of incidents: by severity while worked, times `contained_share` from containment on, halving every
    `half_life_days` from resolution on; their sum is capped."""

    points: Mapping[str, Decimal]
    contained_share: Decimal
    half_life_days: Decimal
    cap: Decimal


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """Points for what depends on an asset that something happens to.

    `points_per_doubling` x log2(1 + dependents), capped; in full on a quarantined asset or from `full_at_points` of
    activity on, in proportion below, so that it fades with the activity and does not drop at its end.
    """

    points_per_doubling: Decimal
    full_at_points: Decimal
    cap: Decimal


@dataclass(frozen=True, slots=True)
class Activity:
    """What happens to an asset, in points on top of the formula's residual."""

    threat_activity: ThreatActivity
    incident_activity: IncidentActivity
    blast_radius: BlastRadius


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """One version of everything that turns an asset into a score.

    `recommend_above` holds, for each dimension, the factor score above which a recommendation is given.
    """

    version: int
    weights: Mapping[str, Decimal]
    tables: Tables
    thresholds: Thresholds
    recommend_above: Mapping[str, Decimal]
    activity: Activity = field(repr=False)

    def check(self) -> None:
        """Refuse what could not score every asset between 0 and 100.

        Weights must sum to 1 exactly, as decimals; there is no tolerance (see DECIMAL_PLACES).

        Raises:
            ModelInvalid: names each offending field as a JSON Pointer.
        """
        problems = list(_problems(self))
        if problems:
            where, what = problems[0]
            raise ModelInvalid(
                f"{where}: {what}",
                errors=[{"field": where, "message": message} for where, message in problems],
            )


def _problems(model: ScoringModel) -> Iterator[tuple[str, str]]:
    """Each inconsistency as (JSON Pointer, what is wrong)."""
    yield from _complete("/weights", model.weights, DIMENSIONS, upper=ONE)
    total = sum(model.weights.values(), ZERO)
    if total != ONE:
        yield "/weights", f"must sum to 1, these sum to {total.normalize():f}"

    tables = model.tables
    yield from _complete("/tables/data_sensitivity", tables.data_sensitivity, DataClassification)
    exposure = tables.deployment_exposure
    yield from _complete("/tables/deployment_exposure/network", exposure.network, NetworkExposure)
    yield from _within("/tables/deployment_exposure/network_other", exposure.network_other)
    yield from _complete(
        "/tables/deployment_exposure/environment", exposure.environment, DeploymentEnvironment, upper=MOST_FACTOR
    )
    yield from _within("/tables/deployment_exposure/environment_other", exposure.environment_other, upper=MOST_FACTOR)
    provenance = tables.model_provenance
    yield from _each("/tables/model_provenance/providers", provenance.providers)
    for name in ("self_hosted", "other", "never_reviewed", "stale_review"):
        yield from _within(f"/tables/model_provenance/{name}", getattr(provenance, name))
    if provenance.stale_after_days < 1:
        yield "/tables/model_provenance/stale_after_days", "must be at least 1"
    regulation = tables.regulatory_impact
    # `none` is how an asset says that nothing applies: it has no score of its own.
    yield from _complete(
        "/tables/regulatory_impact/scopes", regulation.scopes, [s for s in RegulatoryScope if s != RegulatoryScope.NONE]
    )
    yield from _within("/tables/regulatory_impact/unregulated", regulation.unregulated)
    yield from _complete("/tables/capability_risk", tables.capability_risk, AssetType)
    supply = tables.supply_chain
    for name in ("base", "sbom", "known_license", "model_hub"):
        yield from _within(f"/tables/supply_chain/{name}", getattr(supply, name))
    yield from _complete("/tables/controls", tables.controls, ControlType, upper=ONE)

    thresholds = model.thresholds
    for name in ("critical", "high", "medium"):
        yield from _within(f"/thresholds/{name}", getattr(thresholds, name))
    if not thresholds.critical > thresholds.high > thresholds.medium > 0:
        yield "/thresholds", "must be ordered: critical > high > medium > 0"
    yield from _complete("/recommend_above", model.recommend_above, DIMENSIONS)

    threat = model.activity.threat_activity
    yield from _complete("/activity/threat_activity/points", threat.points, Severity)
    yield from _ordered("/activity/threat_activity/points", threat.points, tuple(Severity))
    incident = model.activity.incident_activity
    yield from _complete("/activity/incident_activity/points", incident.points, IncidentSeverity)
    yield from _ordered("/activity/incident_activity/points", incident.points, tuple(reversed(IncidentSeverity)))
    yield from _within("/activity/incident_activity/contained_share", incident.contained_share, upper=ONE)
    for name, days, cap in (
        ("threat_activity", threat.half_life_days, threat.cap),
        ("incident_activity", incident.half_life_days, incident.cap),
    ):
        yield from _within(f"/activity/{name}/cap", cap)
        if not Decimal("0.01") <= days <= 365:
            yield f"/activity/{name}/half_life_days", "must be between 0.01 and 365"
    blast = model.activity.blast_radius
    yield from _within("/activity/blast_radius/points_per_doubling", blast.points_per_doubling)
    yield from _within("/activity/blast_radius/cap", blast.cap)
    yield from _within("/activity/blast_radius/full_at_points", blast.full_at_points)
    if blast.full_at_points == 0:
        yield "/activity/blast_radius/full_at_points", "must be above 0"


def _within(where: str, value: Decimal, *, upper: Decimal = HUNDRED) -> Iterator[tuple[str, str]]:
    if not value.is_finite() or not ZERO <= value <= upper:
        yield where, f"must be between 0 and {upper}"
    elif -int(value.normalize().as_tuple().exponent) > DECIMAL_PLACES:
        yield where, f"has more than {DECIMAL_PLACES} decimal places"


def _each(where: str, table: Mapping[str, Decimal], *, upper: Decimal = HUNDRED) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        yield from _within(f"{where}/{_escaped(key)}", value, upper=upper)


def _complete(
    where: str, table: Mapping[str, Decimal], keys: Iterable[str], *, upper: Decimal = HUNDRED
) -> Iterator[tuple[str, str]]:
    """Exactly these keys, each value within bounds."""
    wanted = [str(key) for key in keys]
    for key in wanted:
        if key not in table:
            yield f"{where}/{key}", "is missing"
    for key in table:
        if key not in wanted:
            yield f"{where}/{_escaped(key)}", f"is not known; known are {', '.join(wanted)}"
    yield from _each(where, {key: table[key] for key in wanted if key in table}, upper=upper)


def _ordered(where: str, points: Mapping[str, Decimal], rising: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for lower, higher in pairwise(rising):
        if lower in points and higher in points and points[lower] > points[higher]:
            yield f"{where}/{lower}", f"must not exceed the points of {higher}"


def _escaped(key: str) -> str:
    """A JSON Pointer token (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")


def _table(**scores: str | int) -> Mapping[str, Decimal]:
    return {name: Decimal(score) for name, score in scores.items()}


DEFAULT_MODEL: Final = ScoringModel(
    version=1,
    weights=_table(
        data_sensitivity="0.25",
        deployment_exposure="0.20",
        model_provenance="0.15",
        regulatory_impact="0.15",
        capability_risk="0.15",
        supply_chain="0.10",
    ),
    tables=Tables(
        data_sensitivity=_table(public=10, internal=30, confidential=60, restricted=85, regulated=95),
        deployment_exposure=Exposure(
            network=_table(internal=20, vpc=40, public=90),
            network_other=Decimal(50),
            environment=_table(development="0.4", staging="0.6", production=1, research="0.3"),
            environment_other=Decimal("0.5"),
        ),
        model_provenance=Provenance(
            # Vendors with a security program of their own; a cloud's managed service adds its own layers.
            providers=_table(openai=20, anthropic=20, google=20, azure_openai=15, aws_bedrock=15, gcp_vertex=15),
            self_hosted=Decimal(60),
            other=Decimal(50),
            never_reviewed=Decimal(20),
            stale_review=Decimal(10),
            stale_after_days=90,
        ),
        regulatory_impact=Regulation(
            scopes=_table(
                gdpr=50, hipaa=90, sox=90, eu_ai_act_high_risk=90, eu_ai_act_limited_risk=50, pci_dss=90, ccpa=50
            ),
            unregulated=Decimal(10),
        ),
        capability_risk=_table(
            ai_agent=90,
            fine_tuned_model=70,
            api_endpoint=60,
            vector_database=55,
            foundation_model=50,
            training_dataset=45,
            embedding_model=30,
            prompt_template=25,
            guardrail_config=20,
            evaluation_dataset=15,
            # Ours: an MCP server acts nearly as an agent does; a credential is as good as what it opens.
            mcp_server=80,
            api_credential=65,
            integration=50,
        ),
        supply_chain=SupplyChain(
            base=Decimal(50),
            sbom=Decimal(20),
            known_license=Decimal(10),
            model_hub=Decimal(10),
            hubs=("huggingface.co",),
        ),
        controls=_table(
            input_filtering="0.15",
            output_filtering="0.15",
            rate_limiting="0.10",
            authentication="0.10",
            encryption_at_rest="0.10",
            encryption_in_transit="0.10",
            monitoring="0.10",
            guardrails="0.10",
            access_logging="0.05",
            network_isolation="0.05",
        ),
    ),
    thresholds=Thresholds(critical=Decimal(75), high=Decimal(50), medium=Decimal(25)),
    recommend_above=_table(
        data_sensitivity=60,
        deployment_exposure=50,
        model_provenance=40,
        regulatory_impact=60,
        capability_risk=60,
        supply_chain=40,
    ),
    # Ours. Sized so that one critical alert can lift an asset within its level but only sustained attack or an open
    # incident lifts it by one (levels are 25 points apart), and everything at once by little more than two.
    activity=Activity(
        threat_activity=ThreatActivity(
            points=_table(info=0, low=1, medium=3, high=6, critical=12), half_life_days=Decimal(7), cap=Decimal(20)
        ),
        incident_activity=IncidentActivity(
            points=_table(sev1=30, sev2=18, sev3=8, sev4=2),
            contained_share=Decimal("0.5"),
            half_life_days=Decimal(7),
            cap=Decimal(35),
        ),
        blast_radius=BlastRadius(points_per_doubling=Decimal(2), full_at_points=Decimal(20), cap=Decimal(10)),
    ),
)
"""Version 1: the specification's numbers, and our own for what it does not know (asset types, activity)."""
