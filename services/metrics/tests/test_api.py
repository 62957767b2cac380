"""HTTP: figures, maturity, coverage, series and the report, to whom, and what is refused."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import httpx
import psutil
import pytest
from pypdf import PdfReader

from services.metrics.domain.figures import FIGURES
from services.metrics.main import SERVICE
from services.metrics.settings import MetricsSettings
from services.metrics.tests.factories import (
    a_deployment,
    a_policy,
    a_registration,
    a_retirement,
    an_assessment,
    an_estate,
    an_id,
    an_opening,
    an_update,
)
from services.metrics.tests.test_events import BY_HAND
from shared.testing import Harness, TestServer, harness

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ESTATE_AT = "2026-07-01T15:00:00Z"


def now() -> datetime:
    return datetime.now(UTC)


async def fetched(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(client: httpx.AsyncClient, path: str, **params: Any) -> tuple[int, str]:
    """(status, field named) of a problem."""
    response = await client.get(path, params=params)
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == response.status_code
    return response.status_code, (problem.get("errors") or [{"field": ""}])[0]["field"]


async def test_before_anything_happened_counts_are_zero_and_rates_null(metrics: Harness) -> None:
    found = await fetched(metrics.client("viewer"), "/v1/metrics/program")
    assert found["total_ai_assets"] == 0
    assert found["incidents_by_category"] == {}
    assert found["recorded_since"] is None
    for name in (
        "asset_coverage_rate",
        "mean_residual_risk",
        "mean_time_to_detect_hours",
        "mean_time_to_contain_hours",
        "mean_time_to_resolve_hours",
        "control_coverage_rate",
        "remediation_rate",
    ):
        assert found[name] is None


async def test_the_program_as_counted_by_hand(metrics: Harness) -> None:
    await metrics.deliver(*an_estate(), together=True)
    found = await fetched(metrics.client("viewer"), "/v1/metrics/program", as_of=ESTATE_AT)
    by_category = {name.partition(".")[2]: count for name, count in BY_HAND.items() if "." in name}
    plain = {name: value for name, value in BY_HAND.items() if "." not in name}
    assert {name: found[name] for name in plain} == plain
    assert found["incidents_by_category"] == by_category
    assert found["as_of"] == "2026-07-01T15:00:00Z"
    assert found["recorded_since"] == "2026-07-01T12:00:00Z"
    assert found["compliance_gaps"] == {
        "no_security_review": 1,
        "stale_review": 1,
        "missing_sbom": 0,
        "unclassified_data": 0,
        "no_owner": 1,
        "public_exposure_high_sensitivity": 1,
    }


async def test_numbers_move_with_what_happens(metrics: Harness) -> None:
    client = metrics.client("viewer")
    today = now()
    await metrics.deliver(a_registration(at=today, last_security_review=None))
    first = await fetched(client, "/v1/metrics/program")
    await metrics.deliver(
        an_assessment(score=80.0, at=today),
        an_opening(at=today, occurred_at=today - HOUR, detected_at=today),
        an_update(at=today, last_security_review=today.date()),
    )
    second = await fetched(client, "/v1/metrics/program")
    assert (first["asset_coverage_rate"], second["asset_coverage_rate"]) == (0.0, 1.0)
    assert (first["critical_risk_assets"], second["critical_risk_assets"]) == (None, 1)
    assert (first["mean_time_to_detect_hours"], second["mean_time_to_detect_hours"]) == (None, 1.0)
    assert second["incidents_last_30_days"] == 1


async def test_a_past_moment_shows_what_was_then_and_nothing_before_recording(metrics: Harness) -> None:
    start = (now() - 10 * DAY).replace(second=0, microsecond=0)
    await metrics.deliver(
        a_registration(at=start, last_security_review=start.date()),
        a_retirement(at=start + 5 * DAY, last_security_review=start.date()),
    )
    client = metrics.client("viewer")
    for at, total, coverage in ((start - DAY, None, None), (start, 1, 1.0), (start + 5 * DAY, 0, None)):
        found = await fetched(client, "/v1/metrics/program", as_of=at.isoformat())
        assert (found["total_ai_assets"], found["asset_coverage_rate"]) == (total, coverage)


async def test_a_team_sees_its_own_figures_and_not_those_of_the_organisation(metrics: Harness) -> None:
    today = now()
    await metrics.deliver(
        a_registration("ours", at=today),
        a_registration("theirs", at=today, owner_team="ads"),
        an_assessment("ours", 60.0, at=today),
        an_assessment("theirs", 10.0, at=today),
        a_policy(at=today),
    )
    ours = metrics.client("viewer", teams=["search"])
    found = await fetched(ours, "/v1/metrics/program")
    assert (found["total_ai_assets"], found["mean_residual_risk"], found["policies_in_force"]) == (1, 60.0, None)
    both = await fetched(metrics.client("viewer", teams=["search", "ads"]), "/v1/metrics/program")
    assert (both["total_ai_assets"], both["mean_residual_risk"]) == (2, 35.0)
    none = await fetched(metrics.client("viewer", teams=[]), "/v1/metrics/program")
    assert none["total_ai_assets"] == 0
    covered = await fetched(ours, "/v1/metrics/coverage")
    assert [team["key"] for team in covered["by_team"]] == ["search"]
    assert covered["total"]["assets"] == 1
    whole = metrics.client("viewer")
    assert (await fetched(whole, "/v1/metrics/program", team="ads"))["mean_residual_risk"] == 10.0
    assert (await fetched(whole, "/v1/metrics/program"))["policies_in_force"] == 1
    for path in ("/v1/metrics/program", "/v1/metrics/coverage"):
        assert (await refused(ours, path, team="ads"))[0] == 404
    assert (await refused(ours, "/v1/metrics/timeseries", name="total_ai_assets", team="ads"))[0] == 404


async def test_what_belongs_to_the_organisation_is_not_for_a_team(metrics: Harness) -> None:
    ours = metrics.client("viewer", teams=["search"])
    for path, params in (
        ("/v1/metrics/maturity", {}),
        ("/v1/reports/board", {}),
        ("/v1/metrics/timeseries", {"name": "policies_in_force"}),
    ):
        assert (await refused(ours, path, **params))[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/v1/metrics/program",
        "/v1/metrics/maturity",
        "/v1/metrics/coverage",
        "/v1/metrics/figures",
        "/v1/metrics/timeseries?name=total_ai_assets",
        "/v1/reports/board",
    ],
)
async def test_reading_needs_a_key_with_the_scope(metrics: Harness, path: str) -> None:
    assert (await refused(metrics.anonymous(), path))[0] == 401
    assert (await refused(metrics.client("ingest"), path))[0] == 403
    assert (await refused(metrics.client("viewer", audience="risk"), path))[0] == 401
    assert (await metrics.client("viewer").get(path)).status_code == 200


async def test_maturity_says_level_evidence_and_gaps(metrics: Harness) -> None:
    today = now()
    for number in range(10):
        reviewed = today.date() if number < 8 else None
        await metrics.deliver(a_registration(f"asset {number}", at=today, last_security_review=reviewed))
    found = await fetched(metrics.client("viewer"), "/v1/metrics/maturity")
    levels = {level["dimension"]: level for level in found["items"]}
    assert list(levels) == [
        "Asset Management",
        "Incident Response",
        "Red Teaming",
        "Risk Management",
        "Technical Controls",
        "Governance",
        "Compliance",
    ]
    assets = levels["Asset Management"]
    assert (assets["level"], assets["level_name"], assets["score"], assets["has_data"]) == (3, "Defined", 80.0, True)
    assert assets["gaps_to_next_level"] == [
        "Review the security of 2 more assets: 80.00% are security-reviewed, 95% are needed."
    ]
    for dimension in ("Incident Response", "Risk Management", "Technical Controls", "Governance"):
        level = levels[dimension]
        assert (level["level"], level["score"], level["has_data"]) == (1, None, False)


async def test_level_5_is_shown_by_a_year_of_level_4(metrics: Harness) -> None:
    start = now() - 400 * DAY
    await metrics.deliver(a_registration(at=start, last_security_review=start.date()))
    levels = (await fetched(metrics.client("viewer"), "/v1/metrics/maturity"))["items"]
    by_dimension = {level["dimension"]: (level["level"], level["gaps_to_next_level"]) for level in levels}
    assert by_dimension["Asset Management"] == (5, [])
    assert by_dimension["Compliance"][0] == 1


async def test_coverage_by_type_team_and_control(metrics: Harness) -> None:
    today = now()
    await metrics.deliver(
        a_registration("one", at=today),
        a_registration("two", at=today, last_security_review=None, owner_team=""),
        a_registration("store", at=today, asset_type="vector_database", owner_team="data"),
        an_assessment("one", at=today),
        a_deployment("one", "monitoring", at=today),
    )
    found = await fetched(metrics.client("viewer"), "/v1/metrics/coverage")
    types = {group["key"]: group for group in found["by_asset_type"]}
    assert len(types) == 13
    agents = types["ai_agent"]
    assert (agents["assets"], agents["reviewed"], agents["assessed"], agents["controlled"]) == (2, 1, 1, 1)
    assert (agents["reviewed_rate"], types["mcp_server"]["reviewed_rate"]) == (0.5, None)
    assert [(team["key"], team["assets"]) for team in found["by_team"]] == [("", 1), ("data", 1), ("search", 1)]
    assert found["teams"] == 3
    controls = {group["control_type"]: group for group in found["by_control_type"]}
    assert len(controls) == 10
    assert (controls["monitoring"]["controlled"], controls["monitoring"]["controlled_rate"]) == (
        1,
        pytest.approx(1 / 3),
    )
    assert controls["guardrails"]["controlled_rate"] == 0.0


async def test_coverage_of_nothing_is_null(metrics: Harness) -> None:
    found = await fetched(metrics.client("viewer"), "/v1/metrics/coverage")
    assert found["total"]["reviewed_rate"] is None
    assert {group["controlled_rate"] for group in found["by_control_type"]} == {None}
    assert found["by_team"] == []


async def test_a_series_has_the_figure_at_each_point_and_null_in_the_gaps(metrics: Harness) -> None:
    start = (now() - 5 * DAY).replace(second=0, microsecond=0)
    await metrics.deliver(
        a_registration("one", at=start),
        an_assessment("one", 50.0, at=start + DAY),
        a_registration("two", at=start + 2 * DAY),
        an_assessment("two", 25.0, at=start + 2 * DAY),
    )
    client = metrics.client("viewer")
    params = {"from": (start - DAY).isoformat(), "to": (start + 7 * DAY).isoformat(), "step": "1d"}
    found = await fetched(client, "/v1/metrics/timeseries", name="mean_residual_risk", **params)
    assert [point["value"] for point in found["points"]] == [None, None, 50.0, 37.5, 37.5, 37.5, 37.5, None, None]
    assert (found["name"], found["unit"], found["step"]) == ("mean_residual_risk", "points", "1d")
    assert (found["from"], found["to"]) == (found["points"][0]["at"], found["points"][-1]["at"])
    assert found["points"][1]["at"] == start.isoformat().replace("+00:00", "Z")
    counted = await fetched(client, "/v1/metrics/timeseries", name="total_ai_assets", **params)
    assert [point["value"] for point in counted["points"]] == [None, 1, 1, 2, 2, 2, 2, None, None]


async def test_every_figure_has_a_definition_and_a_series(metrics: Harness) -> None:
    await metrics.deliver(*an_estate(), together=True)
    client = metrics.client("viewer")
    listed = (await fetched(client, "/v1/metrics/figures"))["items"]
    assert {figure["name"] for figure in listed} == set(FIGURES)
    for figure in listed:
        found = await fetched(
            client, "/v1/metrics/timeseries", **{"name": figure["name"], "to": ESTATE_AT, "from": ESTATE_AT}
        )
        assert found["points"] == [{"at": ESTATE_AT, "value": BY_HAND.get(figure["name"], 0)}]
        assert found["definition"] == figure["definition"]


async def test_a_series_covers_thirty_days_by_days_unless_told(metrics: Harness) -> None:
    found = await fetched(metrics.client("viewer"), "/v1/metrics/timeseries", name="total_ai_assets")
    assert len(found["points"]) == 31
    assert {point["value"] for point in found["points"]} == {None}


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("/v1/metrics/program", {"as_of": "yesterday"}, "as_of"),
        ("/v1/metrics/program", {"as_of": "2026-07-01T12:00:00"}, "as_of"),
        ("/v1/metrics/program", {"as_of": "2026"}, "as_of"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "from": "0.5"}, "from"),
        ("/v1/metrics/program", {"as_of": "2999-01-01T00:00:00Z"}, "as_of"),
        ("/v1/metrics/maturity", {"as_of": "2999-01-01T00:00:00Z"}, "as_of"),
        ("/v1/reports/board", {"as_of": "2999-01-01T00:00:00Z"}, "as_of"),
        ("/v1/metrics/program", {"asof": "2026-07-01T12:00:00Z"}, "asof"),
        ("/v1/metrics/program", {"team": "a\0b"}, "team"),
        ("/v1/metrics/program", {"team": "a" * 301}, "team"),
        ("/v1/metrics/timeseries", {}, "name"),
        ("/v1/metrics/timeseries", {"name": "vibes"}, "name"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "step": "soon"}, "step"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "step": "0d"}, "step"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "step": "1m"}, "step"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "from": "2999-01-01T00:00:00Z"}, "from"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "from": "0001-01-01T00:00:00+14:00"}, "step"),
        ("/v1/metrics/timeseries", {"name": "total_ai_assets", "to": "soon"}, "to"),
        ("/v1/reports/board", {"format": "docx"}, "format"),
    ],
)
async def test_bad_input_is_a_problem_that_names_the_field(
    metrics: Harness, path: str, params: dict[str, str], field: str
) -> None:
    assert await refused(metrics.client("viewer"), path, **params) == (422, field)


async def test_an_unknown_figure_names_those_allowed(metrics: Harness) -> None:
    response = await metrics.client("viewer").get("/v1/metrics/timeseries", params={"name": "vibes"})
    assert response.json()["allowed"] == sorted(FIGURES)


async def test_the_oldest_moment_there_is_can_be_asked_about(metrics: Harness) -> None:
    await metrics.deliver(a_registration())
    found = await fetched(metrics.client("viewer"), "/v1/metrics/program", as_of="0001-01-01T00:00:00+14:00")
    assert found["total_ai_assets"] is None
    levels = await fetched(metrics.client("viewer"), "/v1/metrics/maturity", as_of="0001-01-01T00:00:00+14:00")
    assert {(level["level"], level["has_data"]) for level in levels["items"]} == {(1, False)}


async def test_the_boards_report_holds_the_same_figures(metrics: Harness) -> None:
    await metrics.deliver(*an_estate(), together=True)
    client = metrics.client("viewer")
    report = await fetched(client, "/v1/reports/board", as_of=ESTATE_AT)
    program = await fetched(client, "/v1/metrics/program", as_of=ESTATE_AT)
    assert report["program"] == program
    assert len(report["maturity"]) == 7
    assert report["coverage"] == await fetched(client, "/v1/metrics/coverage")
    assert len(report["trends"][0]["points"]) == 13
    assert report["trends"][0]["points"][-1]["value"] == program["total_ai_assets"]
    assert report["trends"][0]["points"][0]["value"] is None


async def test_the_printed_report_is_inert(metrics: Harness) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    today = now()
    await metrics.deliver(a_registration("one", at=today, owner_team=hostile), a_registration("two", at=today))
    response = await metrics.client("viewer").get("/v1/reports/board", params={"format": "html"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    page = response.text
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" in page
    assert "no data" in page
    assert str(an_id("one")) not in page


async def test_the_document_holds_the_figures_and_what_people_wrote_as_they_wrote_it(metrics: Harness) -> None:
    hostile = '#panic("x") *b* $x$ `raw` <a> @b ]['
    await metrics.deliver(*an_estate(), together=True)
    await metrics.deliver(a_registration("one", at=now(), owner_team=hostile))
    client = metrics.client("viewer")
    report = await fetched(client, "/v1/reports/board", as_of=ESTATE_AT)
    response = await client.get("/v1/reports/board", params={"format": "pdf", "as_of": ESTATE_AT})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/pdf"), response.text
    assert response.headers["content-disposition"] == 'inline; filename="board-report-2026-07-01.pdf"'
    document = PdfReader(BytesIO(response.content))
    assert document.metadata is not None
    assert document.metadata.title == "AI security program"
    text = " ".join(" ".join(page.extract_text() for page in document.pages).split())
    assert "as of 2026-07-01 15:00 UTC" in text
    program = report["program"]
    assert f"total ai assets {program['total_ai_assets']} Assets in the inventory" in text
    assert f"asset coverage rate {100 * program['asset_coverage_rate']:.2f}%" in text
    for level in report["maturity"]:
        assert (
            f"{level['dimension']} {level['level']} {level['level_name'] if level['has_data'] else '(no data)'}" in text
        )
    assert hostile in text
    assert "The last quarter, week by week" in text
    assert "typst" not in sys.modules  # it would stay in this process's memory for good


async def test_a_document_that_takes_too_long_is_given_up_and_its_process_ended(postgres: TestServer) -> None:
    async with harness(SERVICE, MetricsSettings, postgres, pdf_seconds=0.01) as metrics:
        response = await metrics.client("viewer").get("/v1/reports/board", params={"format": "pdf"})
    assert (response.status_code, "Retry-After" in response.headers) == (503, True)
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if any("typeset.py" in part for part in child.cmdline())]


async def test_the_documents_describe_every_figure(metrics: Harness) -> None:
    document = (await metrics.anonymous().get("/openapi.json")).json()
    program = document["components"]["schemas"]["ProgramView"]["properties"]
    assert program["asset_coverage_rate"]["description"] == FIGURES["asset_coverage_rate"].definition
    names = {name for name in FIGURES if "." not in name}
    assert names <= set(program)
    board = document["paths"]["/v1/reports/board"]["get"]
    assert set(board["responses"]["200"]["content"]) == {"application/json", "text/html", "application/pdf"}
    name = next(p for p in document["paths"]["/v1/metrics/timeseries"]["get"]["parameters"] if p["name"] == "name")
    assert set(name["schema"]["enum"]) == set(FIGURES)


async def test_readiness_and_liveness_answer(metrics: Harness) -> None:
    assert (await metrics.anonymous().get("/livez")).status_code == 200
