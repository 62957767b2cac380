"""The API: what callers see, what they may not, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.risk.api.views import AssessmentView
from services.risk.tests.factories import GOLDEN, NOW, acceptance, alert, control, now_is, registered, retired
from services.risk.tests.test_model import WEIGHTS
from shared.contracts.inventory import AssetUpdated
from shared.models import PageOf
from shared.testing import Harness

ASSET = UUID("018f5f6e-0000-7000-8000-00000000a55e")


async def test_an_assets_risk_explains_itself(risk: Harness) -> None:
    raised = alert(ASSET, "high")
    await risk.deliver(registered(ASSET), control(ASSET, "input_filtering"), control(ASSET, "monitoring"), raised)
    response = await risk.client("viewer").get(f"/v1/risk/assets/{ASSET}")
    assert response.status_code == 200
    assert response.headers["ETag"] == '"4"'
    found = response.json()
    assert found["inherent_risk_score"] == 71.25
    assert found["control_effectiveness"] == 0.25
    assert found["base_residual_risk_score"] == 53.44
    assert found["residual_risk_score"] == 59.44
    assert found["risk_reduction_percentage"] == 16.58
    assert found["risk_level"] == "HIGH"
    assert found["adjustments"] == [
        {
            "kind": "threat_activity",
            "points": 6.0,
            "reason": "1 alert, weighed by severity, count and age.",
            "source_ids": [str(raised.alert.alert_id)],
        }
    ]
    assert found["risk_factors"][0] == {
        "dimension": "data_sensitivity",
        "score": 85.0,
        "weight": 0.25,
        "contribution": 21.25,
        "details": "Reads data classified restricted.",
    }
    assert sum(factor["contribution"] for factor in found["risk_factors"]) == 71.25
    assert len(found["recommendations"]) == 3
    assert (found["asset_name"], found["owner_team"], found["lifecycle"]) == ("support agent", "support", "active")
    assert (found["model_version"], found["trigger"], found["number"]) == (1, "alert.raised", 4)
    assert (found["previous_risk_score"], found["previous_risk_level"]) == (53.44, "HIGH")
    assert (found["treatment"], found["accepted_until"]) == (None, None)
    assert (found["assessed_date"], found["assessed_at"]) == ("2026-11-22", "2026-11-22T12:00:00Z")


async def test_answers_are_what_the_description_says(risk: Harness) -> None:
    """They are assembled without the view that describes them, so it is held against them here."""
    await risk.deliver(registered(ASSET), acceptance(ASSET), alert(ASSET))
    client = risk.client("viewer")
    one = (await client.get(f"/v1/risk/assets/{ASSET}")).json()
    assert AssessmentView.model_validate(one).model_dump(mode="json") == one
    for path in ("/v1/risk/assessments", f"/v1/risk/assets/{ASSET}/history"):
        page = (await client.get(path)).json()
        assert PageOf[AssessmentView].model_validate(page).model_dump(mode="json") == page


async def test_history_pages_from_the_newest_back(risk: Harness) -> None:
    updates = [now_is(AssetUpdated, ASSET, version=version) for version in range(2, 6)]
    await risk.deliver(registered(ASSET), *updates)
    client = risk.client("viewer")
    seen: list[int] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/risk/assets/{ASSET}/history", params=params)).json()
        seen += [item["number"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]


async def test_an_accepted_asset_keeps_its_score_and_says_until_when(risk: Harness) -> None:
    await risk.deliver(registered(ASSET), acceptance(ASSET))
    found = (await risk.client("viewer").get(f"/v1/risk/assets/{ASSET}")).json()
    assert (found["residual_risk_score"], found["risk_level"], found["treatment"]) == (71.25, "HIGH", "accept")
    assert found["accepted_until"] == (NOW + timedelta(days=30)).isoformat().replace("+00:00", "Z")


async def all_of(client: Any, **params: str) -> list[Any]:
    items: list[Any] = []
    while True:
        page = (await client.get("/v1/risk/assessments", params=params)).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


async def estate(risk: Harness) -> dict[str, list[UUID]]:
    """Twelve assets of three teams; HIGH those that are public, LOW the others."""
    ids = {team: [uuid4() for _ in range(4)] for team in ("a", "b", "c")}
    events = []
    for team, assets in ids.items():
        for i, asset in enumerate(assets):
            low = {"network_exposure": "internal", "data_classification": "public", "asset_type": "prompt_template"}
            changes: dict[str, Any] = low | {"regulatory_scope": ()} if i % 2 else {}
            events.append(registered(asset, owner_team=team, **changes))
    await risk.deliver(*events, together=True)
    return ids


async def test_the_list_holds_the_newest_of_each_asset_once(risk: Harness) -> None:
    ids = await estate(risk)
    everything = sorted(asset for assets in ids.values() for asset in assets)
    await risk.deliver(now_is(AssetUpdated, everything[0], version=2, owner_team="a"), alert(everything[1]))
    found = await all_of(risk.client("viewer"), limit="5")
    assert [UUID(item["asset_id"]) for item in found] == everything
    assert [item["number"] for item in found[:3]] == [2, 2, 1]


async def test_the_list_filters_by_level_and_asset(risk: Harness) -> None:
    ids = await estate(risk)
    client = risk.client("viewer")
    high = await all_of(client, risk_level="HIGH", limit="4")
    assert {UUID(item["asset_id"]) for item in high} == {asset for assets in ids.values() for asset in assets[::2]}
    assert await all_of(client, risk_level="CRITICAL") == []
    [one] = await all_of(client, asset_id=str(ids["a"][1]))
    assert one["risk_level"] == "LOW"
    assert await all_of(client, asset_id=str(ids["a"][1]), risk_level="HIGH") == []
    assert await all_of(client, asset_id=str(uuid4())) == []


async def test_a_team_sees_its_own_assets_only(risk: Harness) -> None:
    ids = await estate(risk)
    client = risk.client("viewer", teams=["a", "c"])
    found = await all_of(client, limit="3")
    assert [UUID(item["asset_id"]) for item in found] == sorted(ids["a"] + ids["c"])
    assert len(await all_of(client, risk_level="LOW")) == 4
    assert await all_of(client, asset_id=str(ids["b"][0])) == []
    foreign = ids["b"][0]
    for path in (f"/v1/risk/assets/{foreign}", f"/v1/risk/assets/{foreign}/history", f"/v1/risk/assets/{uuid4()}"):
        response = await client.get(path)
        assert response.status_code == 404
        assert response.headers["Content-Type"] == "application/problem+json"
    portfolio = (await client.get("/v1/risk/portfolio")).json()
    assert portfolio["assets"] == 8
    assert {team["owner_team"] for team in portfolio["by_team"]} == {"a", "c"}
    assert {asset["owner_team"] for asset in portfolio["top_assets"]} == {"a", "c"}
    nobody = risk.client("viewer", teams=[])
    assert await all_of(nobody) == []
    assert (await nobody.get("/v1/risk/portfolio")).json()["assets"] == 0


async def test_retired_assets_leave_lists_but_keep_their_record(risk: Harness) -> None:
    await risk.deliver(registered(ASSET), registered(), retired(ASSET))
    client = risk.client("viewer")
    assert str(ASSET) not in {item["asset_id"] for item in await all_of(client)}
    assert (await client.get(f"/v1/risk/assets/{ASSET}")).json()["lifecycle"] == "retired"
    assert len((await client.get(f"/v1/risk/assets/{ASSET}/history")).json()["items"]) == 2


async def test_the_portfolio_counts_accepted_assets_apart(risk: Harness) -> None:
    ids = await estate(risk)
    worst = ids["b"][0]
    await risk.deliver(alert(worst), acceptance(ids["a"][0]), acceptance(worst))
    found = (await risk.client("viewer").get("/v1/risk/portfolio", params={"top": 2})).json()
    assert found["assets"] == 12
    assert found["by_level"] == {"CRITICAL": 0, "HIGH": 4, "MEDIUM": 0, "LOW": 6}
    assert found["accepted"] == {"assets": 2, "by_level": {"CRITICAL": 1, "HIGH": 1, "MEDIUM": 0, "LOW": 0}}
    low = (await all_of(risk.client("viewer"), risk_level="LOW"))[0]["residual_risk_score"]
    assert found["mean_residual_risk"] == round((5 * 71.25 + 83.25 + 6 * low) / 12, 2)
    team = next(team for team in found["by_team"] if team["owner_team"] == "b")
    assert (team["assets"], team["accepted"]["assets"], team["by_level"]["HIGH"]) == (4, 1, 1)
    assert [kind["asset_type"] for kind in found["by_asset_type"]] == ["ai_agent", "prompt_template"]
    assert found["top_assets"][0]["asset_id"] == str(worst)
    assert [asset["residual_risk_score"] for asset in found["top_assets"]] == [83.25, 71.25]


async def test_an_empty_portfolio_has_no_mean(risk: Harness) -> None:
    found = (await risk.client("viewer").get("/v1/risk/portfolio")).json()
    assert (found["assets"], found["mean_residual_risk"], found["top_assets"]) == (0, None, [])


# -- simulations -----------------------------------------------------------------------------------------------------


async def test_a_simulation_gives_the_goldens_and_keeps_nothing(risk: Harness) -> None:
    client = risk.client("viewer")
    found = (await client.post("/v1/risk/simulations", json={"asset": GOLDEN})).json()
    assert (found["inherent_risk_score"], found["residual_risk_score"], found["risk_level"]) == (71.25, 71.25, "HIGH")
    controls = [{"type": name, "operational": True} for name in ("input_filtering", "monitoring")]
    controls.append({"type": "guardrails", "operational": False})
    found = (await client.post("/v1/risk/simulations", json={"asset": GOLDEN, "controls": controls})).json()
    assert (found["control_effectiveness"], found["residual_risk_score"], found["risk_level"]) == (0.25, 53.44, "HIGH")
    assert (found["trigger"], found["assessment_id"], found["adjustments"]) == ("simulation", None, [])
    assert (await client.get("/v1/risk/portfolio")).json()["assets"] == 0
    assert await risk.published() == []


async def test_a_simulation_has_the_shape_of_an_assessment(risk: Harness) -> None:
    await risk.deliver(registered(ASSET))
    client = risk.client("viewer")
    stored = (await client.get(f"/v1/risk/assets/{ASSET}")).json()
    whole = {"asset_id": str(ASSET), "name": "support agent", "owner_team": "support", "purpose": "answers customers"}
    simulated = (await client.post("/v1/risk/simulations", json={"asset": GOLDEN | whole})).json()
    assert stored.keys() == simulated.keys()
    same = {"risk_factors", "recommendations", "inherent_risk_score", "asset_id", "asset_name", "model_version"}
    assert {key: stored[key] for key in same} == {key: simulated[key] for key in same}


async def test_a_simulation_may_weigh_differently(risk: Harness) -> None:
    weights = dict.fromkeys(WEIGHTS, 0.0) | {"capability_risk": 1}
    body = {"asset": GOLDEN, "weights": weights}
    found = (await risk.client("viewer").post("/v1/risk/simulations", json=body)).json()
    assert (found["inherent_risk_score"], found["risk_level"], found["model_version"]) == (90.0, "CRITICAL", None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda body: body["weights"].update(supply_chain=0.11), "/weights"),
        (lambda body: body["weights"].update(supply_chain=0.1000001), "/weights/supply_chain"),
        (lambda body: body["weights"].update(supply_chain=-0.1), "/weights/supply_chain"),
        (lambda body: body["weights"].update(supply_chain="0.1"), "/weights/supply_chain"),
        (lambda body: body["weights"].pop("supply_chain"), "/weights/supply_chain"),
        (lambda body: body["weights"].update(luck=0), "/weights/luck"),
        (lambda body: body["asset"].update(asset_type="toaster"), "/asset/asset_type"),
        (lambda body: body["asset"].pop("asset_type"), "/asset/asset_type"),
        (lambda body: body["asset"].update(colour="red"), "/asset/colour"),
        (lambda body: body["asset"].update(last_security_review=0), "/asset/last_security_review"),
        (lambda body: body["asset"].update(last_security_review="yesterday"), "/asset/last_security_review"),
        (lambda body: body["asset"].update(sbom_available="yes"), "/asset/sbom_available"),
        (lambda body: body["asset"].update(regulatory_scope=["gdpr", "moon"]), "/asset/regulatory_scope/1"),
        (lambda body: body["controls"].append({"type": "prayer", "operational": True}), "/controls/0/type"),
        (lambda body: body["controls"].append({"type": "monitoring", "operational": 1}), "/controls/0/operational"),
        (lambda body: body.update(colour="red"), "/colour"),
        (lambda body: body.pop("asset"), "/asset"),
    ],
)
async def test_bad_input_is_refused_by_name(risk: Harness, change: Callable[[Any], Any], field: str) -> None:
    body: dict[str, Any] = {"asset": dict(GOLDEN), "controls": [], "weights": dict(WEIGHTS)}
    change(body)
    response = await risk.client("viewer").post("/v1/risk/simulations", json=body)
    assert response.status_code == 422
    assert field in [error["field"] for error in response.json()["errors"]]


@pytest.mark.parametrize(
    "raw", ['{"asset": {}, "asset": {}}', '{"asset": {"asset_type": NaN}}', '{"a": "\\ud800"}', "["]
)
async def test_what_is_no_strict_json_is_refused(risk: Harness, raw: str) -> None:
    headers = {"Content-Type": "application/json"}
    response = await risk.client("viewer").post("/v1/risk/simulations", content=raw, headers=headers)
    assert 400 <= response.status_code < 500


# -- the model -------------------------------------------------------------------------------------------------------


async def test_the_first_model_is_the_specifications(risk: Harness) -> None:
    response = await risk.client("viewer").get("/v1/risk/model")
    found = response.json()
    assert response.headers["ETag"] == '"1"'
    assert (found["version"], found["weights"], found["rescore"]) == (1, WEIGHTS, None)
    assert found["tables"]["capability_risk"]["ai_agent"] == 90
    assert found["tables"]["controls"]["input_filtering"] == 0.15
    assert found["thresholds"] == {"critical": 75.0, "high": 50.0, "medium": 25.0}


async def test_a_model_that_was_read_can_be_changed_and_sent_back(risk: Harness) -> None:
    client = risk.client("engineer")
    model = (await client.get("/v1/risk/model")).json()
    model["tables"]["model_provenance"]["providers"]["mistral"] = 20
    model["thresholds"]["critical"] = 70
    model["note"] = "one more vendor with a program of its own"
    response = await client.put("/v1/risk/model", json=model, headers={"If-Match": '"1"'})
    assert response.status_code == 200, response.text
    assert response.headers["ETag"] == '"2"'
    changed = response.json()
    assert changed["tables"]["model_provenance"]["providers"]["mistral"] == 20
    assert changed["weights"] == WEIGHTS
    assert (changed["changed_by"], changed["note"]) == ("alice", model["note"])
    await risk.deliver(registered(ASSET, model_provider="mistral"))
    found = (await client.get(f"/v1/risk/assets/{ASSET}")).json()
    assert (found["residual_risk_score"], found["risk_level"], found["model_version"]) == (71.25, "CRITICAL", 2)


async def test_changing_the_model_needs_the_version_one_read(risk: Harness) -> None:
    client = risk.client("engineer")
    body = {"weights": WEIGHTS}
    assert (await client.put("/v1/risk/model", json=body)).status_code == 428
    assert (await client.put("/v1/risk/model", json=body, headers={"If-Match": '"7"'})).status_code == 412
    assert (await client.put("/v1/risk/model", json=body, headers={"If-Match": '"1"'})).status_code == 200
    assert (await client.put("/v1/risk/model", json=body, headers={"If-Match": '"1"'})).status_code == 412


async def test_of_two_changes_at_once_one_is_refused(risk: Harness) -> None:
    client = risk.client("engineer")
    puts = [client.put("/v1/risk/model", json={"note": str(i)}, headers={"If-Match": '"1"'}) for i in range(4)]
    answers = await asyncio.gather(*puts)
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    assert (await client.get("/v1/risk/model")).json()["version"] == 2


async def test_who_may_change_the_model(risk: Harness) -> None:
    body, headers = {"weights": WEIGHTS}, {"If-Match": "*"}
    assert (await risk.client("viewer").put("/v1/risk/model", json=body, headers=headers)).status_code == 403
    bound = risk.client("engineer", teams=["a"])
    assert (await bound.put("/v1/risk/model", json=body, headers=headers)).status_code == 403
    assert (await risk.anonymous().put("/v1/risk/model", json=body, headers=headers)).status_code == 401
    assert (await risk.client("viewer").get("/v1/risk/model")).json()["version"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"weights": WEIGHTS | {"supply_chain": 0.2}}, "/weights"),
        ({"weights": {"supply_chain": 1}}, "/weights/data_sensitivity"),
        ({"thresholds": {"critical": 50, "high": 75, "medium": 25}}, "/thresholds"),
        ({"thresholds": {"critical": 50, "high": 75}}, "/thresholds/medium"),
        ({"tables": {}}, "/tables/data_sensitivity"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_an_inconsistent_model_is_refused_by_name(risk: Harness, body: Any, field: str) -> None:
    client = risk.client("engineer")
    response = await client.put("/v1/risk/model", json=body, headers={"If-Match": "*"})
    assert response.status_code == 422
    assert field in [error["field"] for error in response.json()["errors"]]
    assert (await client.get("/v1/risk/model")).json()["version"] == 1


async def test_versions_page_from_the_newest_back(risk: Harness) -> None:
    client = risk.client("engineer")
    for _ in range(4):
        await client.put("/v1/risk/model", json={}, headers={"If-Match": "*"})
    seen: list[int] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/risk/model/versions", params=params)).json()
        seen += [item["version"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/v1/risk/assessments?risk_level=EXTREME", 422, "risk_level"),
        ("/v1/risk/assessments?asset_id=7", 422, "asset_id"),
        ("/v1/risk/assessments?cursor=abc", 422, "cursor"),
        ("/v1/risk/assessments?limit=201", 422, "limit"),
        ("/v1/risk/assessments?colour=red", 422, "colour"),
        ("/v1/risk/assets/7", 422, "asset_id"),
        ("/v1/risk/portfolio?top=101", 422, "top"),
    ],
)
async def test_bad_parameters_are_refused_by_name(risk: Harness, path: str, status: int, field: str) -> None:
    response = await risk.client("viewer").get(path)
    assert response.status_code == status
    assert field in [error["field"] for error in response.json()["errors"]]


async def test_a_cursor_of_another_list_is_unknown(risk: Harness) -> None:
    await estate(risk)
    client = risk.client("viewer")
    cursor = (await client.get("/v1/risk/assessments", params={"limit": 2})).json()["next_cursor"]
    response = await client.get("/v1/risk/assessments", params={"limit": 2, "cursor": cursor, "risk_level": "LOW"})
    assert response.status_code == 422
