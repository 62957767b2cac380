"""What callers see. A figure's description in the OpenAPI document is its definition."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from services.metrics.domain import figures
from services.metrics.domain.coverage import Coverage
from services.metrics.domain.figures import FIGURES, Figure, Unit, Value
from services.metrics.domain.ledger import Totals
from services.metrics.domain.maturity import MaturityLevel
from shared.models import Out


def _figure(name: str) -> Any:
    return Field(description=FIGURES[name].definition)


class ProgramView(Out):
    """The program's figures at one moment. Null is unknown: nobody measured it, or it is not told for a team."""

    as_of: datetime = Field(description="The minute that the figures include to its end.")
    recorded_since: datetime | None = Field(description="When recording began; before it every figure is null.")
    total_ai_assets: int | None = _figure("total_ai_assets")
    assets_with_security_review: int | None = _figure("assets_with_security_review")
    assets_with_stale_review: int | None = _figure("assets_with_stale_review")
    asset_coverage_rate: float | None = _figure("asset_coverage_rate")
    critical_risk_assets: int | None = _figure("critical_risk_assets")
    high_risk_assets: int | None = _figure("high_risk_assets")
    mean_residual_risk: float | None = _figure("mean_residual_risk")
    risk_acceptance_count: int | None = _figure("risk_acceptance_count")
    incidents_last_30_days: int | None = _figure("incidents_last_30_days")
    mean_time_to_detect_hours: float | None = _figure("mean_time_to_detect_hours")
    mean_time_to_contain_hours: float | None = _figure("mean_time_to_contain_hours")
    mean_time_to_resolve_hours: float | None = _figure("mean_time_to_resolve_hours")
    incidents_by_category: dict[str, int] | None = Field(
        description="Incidents detected in the last 365 days, by category; a category without any is absent."
    )
    controls_deployed: int | None = _figure("controls_deployed")
    controls_operational: int | None = _figure("controls_operational")
    control_coverage_rate: float | None = _figure("control_coverage_rate")
    red_team_engagements_ytd: int | None = _figure("red_team_engagements_ytd")
    findings_from_red_team: int | None = _figure("findings_from_red_team")
    findings_remediated: int | None = _figure("findings_remediated")
    remediation_rate: float | None = _figure("remediation_rate")
    compliance_gap_count: int | None = _figure("compliance_gap_count")
    overdue_actions: int | None = _figure("overdue_actions")
    compliance_gaps: dict[str, int] | None = Field(description="compliance_gap_count by gap list.")
    assets_assessed: int | None = _figure("assets_assessed")
    assets_controlled: int | None = _figure("assets_controlled")
    assets_gap_free: int | None = _figure("assets_gap_free")
    current_review_rate: float | None = _figure("current_review_rate")
    assessed_rate: float | None = _figure("assessed_rate")
    gap_free_rate: float | None = _figure("gap_free_rate")
    control_operational_rate: float | None = _figure("control_operational_rate")
    policy_exceptions_in_force: int | None = _figure("policy_exceptions_in_force")
    actions_tracked: int | None = _figure("actions_tracked")
    alerts_last_30_days: int | None = _figure("alerts_last_30_days")
    alert_precision: float | None = _figure("alert_precision")
    policies_in_force: int | None = _figure("policies_in_force")
    risk_appetite_set: int | None = _figure("risk_appetite_set")
    board_decisions: int | None = _figure("board_decisions")

    @classmethod
    def of(cls, totals: Totals | None, *, as_of: datetime, recorded_since: datetime | None, whole: bool) -> ProgramView:
        """From the totals of the organisation (`whole`) or of teams; None is a moment before recording began."""
        values: dict[str, Any] = {}
        for figure in (*figures.PROGRAM, *figures.BESIDE):
            values[figure.name] = figure.of(totals) if totals is not None and (whole or figure.by_team) else None
        categories = None if totals is None else {key.value: n for key, n in figures.by_category(totals).items()}
        return cls(
            as_of=as_of,
            recorded_since=recorded_since,
            incidents_by_category=categories,
            compliance_gaps=None if totals is None else figures.gaps_of(totals),
            **values,
        )


class MaturityLevelView(Out):
    """How mature one dimension of the program is."""

    dimension: str
    level: int = Field(ge=1, le=5)
    level_name: str = Field(description="Initial, Managed, Defined, Quantitatively Managed or Optimizing.")
    score: float | None = Field(description="0 to 100; null where nothing was measured.")
    has_data: bool = Field(description="False where nothing was measured: the level is 1 for want of evidence.")
    evidence: list[str] = Field(description="The figures that the level rests on.")
    gaps_to_next_level: list[str] = Field(description="What the next level still asks for; empty at level 5.")

    @classmethod
    def of(cls, found: MaturityLevel) -> MaturityLevelView:
        return cls.model_validate(found)


class MaturityView(Out):
    """The maturity of every dimension at one moment."""

    as_of: datetime
    recorded_since: datetime | None
    items: list[MaturityLevelView]


class FigureView(Out):
    """What a figure means."""

    name: str
    unit: Unit = Field(description="count; share (0 to 1); points (0 to 100, of the risk scale); hours.")
    definition: str
    by_team: bool = Field(description="Whether it is told for a team; the rest belongs to the organisation.")

    @classmethod
    def of(cls, figure: Figure) -> FigureView:
        return cls.model_validate(figure)


class FiguresView(Out):
    items: list[FigureView]


class PointView(Out):
    at: datetime
    value: float | None = Field(description="Null where the figure is unknown, and before recording began.")

    @classmethod
    def of(cls, at: datetime, value: Value) -> PointView:
        return cls(at=at, value=value)


class SeriesView(Out):
    """A figure over time: what it was at each of the points."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: str
    unit: Unit
    definition: str
    start: datetime = Field(serialization_alias="from")
    end: datetime = Field(serialization_alias="to")
    step: str
    points: list[PointView]


class CoverageView(Out):
    """How many of a group's assets are reviewed, assessed and controlled; a share of no assets is null."""

    key: str
    assets: int
    reviewed: int = Field(description="With a recorded security review.")
    reviewed_rate: float | None
    assessed: int = Field(description="With a residual risk score.")
    assessed_rate: float | None
    controlled: int = Field(description="With at least one operational control of a scored type.")
    controlled_rate: float | None

    @classmethod
    def of(cls, found: Coverage) -> CoverageView:
        return cls(
            key=found.key,
            assets=found.assets,
            reviewed=found.reviewed,
            reviewed_rate=found.share(found.reviewed),
            assessed=found.assessed,
            assessed_rate=found.share(found.assessed),
            controlled=found.controlled,
            controlled_rate=found.share(found.controlled),
        )


class ControlCoverageView(Out):
    """How many assets have an operational control of one type."""

    control_type: str
    assets: int
    controlled: int
    controlled_rate: float | None


class ProgramCoverageView(Out):
    """How far reviews, assessments and controls reach today."""

    total: CoverageView
    by_asset_type: list[CoverageView] = Field(description="Every asset type, also those without assets.")
    by_control_type: list[ControlCoverageView]
    by_team: list[CoverageView] = Field(description="The 200 teams with the most assets; `team` asks for any one.")
    teams: int = Field(description="How many teams own an asset; the empty name is of assets without an owner.")


class BoardTrendView(Out):
    name: str
    points: list[PointView]


class BoardReportView(Out):
    """What the board reads: figures, maturity, coverage and the last quarter's trend, at one moment."""

    as_of: datetime
    program: ProgramView
    maturity: list[MaturityLevelView]
    coverage: ProgramCoverageView
    trends: list[BoardTrendView]
