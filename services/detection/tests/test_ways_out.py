"""Ways out: OCSF findings and Sigma rules, each read by somebody else's library."""

from __future__ import annotations

import asyncio
import json
import warnings
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import yaml
from sigma.collection import SigmaCollection

from services.detection import pack
from services.detection.domain import ocsf, sigma
from services.detection.domain.rules import RegexDetection, Rule
from services.detection.tests.factories import ASSET, ATTACK, NOW, a_rule, an_asset_registered, an_input
from shared.contracts.detection import AlertSnapshot, Decision, Direction, Disposition, FindingKind, Severity, Verdict
from shared.testing import Harness

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the oracle's own deprecations
    from py_ocsf_models.events.findings.detection_finding import DetectionFinding

ANY = {"If-Match": "*"}


def an_alert(**fields: Any) -> AlertSnapshot:
    given: dict[str, Any] = {
        "alert_id": ASSET,
        "version": 1,
        "title": "Words of an attack",
        "kind": FindingKind.INJECTION,
        "category": "prompt_injection_exploitation",
        "severity": Severity.HIGH,
        "verdict": Verdict.BLOCK,
        "decision": Decision.BLOCK,
        "score": 0.8,
        "rule_id": "quokka_phrase",
        "rule_version": 3,
        "owasp": ("LLM01:2026",),
        "atlas": ("AML.T0051.000",),
        "asset_id": ASSET,
        "owner_team": "shop",
        "session_id": "s",
        "actor": "mallory",
        "model": "gpt-x",
        "direction": Direction.INPUT,
        "excerpt": "the purple quokka",
        "digest": "0" * 32,
        "inspection_id": ASSET,
        "first_seen": NOW,
        "last_seen": NOW,
        "reported_by": "gateway",
    }
    return AlertSnapshot(**(given | fields))


def required(finding: dict[str, Any]) -> None:
    """What OCSF 1.8 demands of a Detection Finding and of the objects that ours holds."""
    for name in (
        "activity_id",
        "category_uid",
        "class_uid",
        "finding_info",
        "metadata",
        "severity_id",
        "time",
        "type_uid",
    ):
        assert name in finding
    assert finding["type_uid"] == finding["class_uid"] * 100 + finding["activity_id"]
    assert {"product", "version"} <= finding["metadata"].keys()
    assert finding["metadata"]["version"] == "1.8.0"
    assert {"ai_operation", "security_control"} <= set(finding["metadata"]["profiles"])
    assert ("verdict_id" in finding) == ("incident" in finding["metadata"]["profiles"])
    assert ("trace" in finding) == ("trace" in finding["metadata"]["profiles"])
    assert "uid" in finding["finding_info"]
    assert "type_id" in finding["finding_info"]["analytic"]
    assert finding["attacks"] == finding["finding_info"]["attacks"]
    for evidence in finding["evidences"]:
        assert evidence.keys() & {"actor", "data"}
    assert finding["message_context"].keys() & {"service", "application"}
    if "ai_model" in finding:
        assert {"ai_provider", "name"} <= finding["ai_model"].keys()
    for tag in finding["finding_info"]["tags"]:
        assert "name" in tag


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"asset_id": None, "owner_team": "", "session_id": None, "actor": None, "model": None, "excerpt": ""},
        {"owasp": (), "atlas": ()},
        {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"},
        {"trace_id": None},
        {"decision": Decision.REDACT, "score": 0.55, "version": 4, "count": 9},
        *({"direction": one} for one in Direction),
        *({"severity": one} for one in Severity),
        *({"disposition": one, "version": 2} for one in Disposition),
        *({"kind": one} for one in FindingKind),
    ],
)
def test_an_alert_is_a_detection_finding_to_others_too(fields: dict[str, Any]) -> None:
    alert = an_alert(**fields)
    finding = ocsf.detection_finding(alert, "disposed" if alert.disposition else "open", "said so")
    required(finding)
    assert finding.get("trace", {}).get("uid") == alert.trace_id
    read = DetectionFinding.model_validate(json.loads(json.dumps(finding)))
    assert (read.class_uid, read.finding_info.uid) == (2004, str(ASSET))
    assert read.severity_id.name.lower() in (alert.severity.value, "informational")
    assert read.status_id is not None
    assert read.status_id.value == finding["status_id"]
    assert finding["is_alert"] is (alert.disposition is None)


def test_an_alert_that_was_no_matter_is_a_suppressed_finding() -> None:
    states = {one: ocsf.detection_finding(an_alert(disposition=one), "disposed")["status_id"] for one in Disposition}
    assert states == {
        Disposition.TRUE_POSITIVE: 4,
        Disposition.FALSE_POSITIVE: 3,
        Disposition.BENIGN: 3,
        Disposition.DUPLICATE: 4,
    }


async def test_the_stream_speaks_ocsf_too(detection: Harness) -> None:
    await detection.deliver(an_asset_registered())
    client = detection.client()
    await client.post("/v1/inspections", json=an_input(ATTACK, asset_id=str(ASSET), session_id="s"))

    async def stop() -> None:
        await asyncio.sleep(0.3)
        detection.runtime.stopping.set()

    stopping = asyncio.create_task(stop())
    response = await client.get("/v1/alerts/stream?format=ocsf", headers={"Last-Event-ID": "0"})
    await stopping
    [line] = [line for line in response.text.splitlines() if line.startswith("data: ")]
    finding = json.loads(line.removeprefix("data: "))
    required(finding)
    DetectionFinding.model_validate(finding)
    assert finding["resources"][0]["uid"] == str(ASSET)
    assert (await client.get("/v1/alerts/stream?format=cef")).status_code == 422


# -- Sigma -----------------------------------------------------------------------------------------------------------


def parsed(text: str) -> list[Any]:
    """The rules as pySigma reads them, conditions included."""
    collection = SigmaCollection.from_yaml(text)
    collection.resolve_rule_references()
    for rule in collection.rules:
        assert rule.errors == []
        for condition in getattr(getattr(rule, "detection", None), "parsed_condition", ()):
            assert condition.parsed is not None
    return list(collection.rules)


def test_every_shipped_rule_is_sigma_or_says_why_not() -> None:
    refused = {}
    exported = set()
    for rule in (one.rule for one in pack.shipped().values()):
        try:
            text = sigma.document(rule, 1, datetime.now(UTC))
        except sigma.NotExpressible as error:
            refused[rule.id] = str(error)
            continue
        rules = parsed(text)
        assert str(rules[-1].id) == str(sigma.id_of(rule.id))
        assert "&id" not in text
        exported.add(rule.id)
    assert exported | refused.keys() == pack.shipped().keys()
    assert len(exported) >= 60
    assert all(refused.values())
    plain = {
        one.rule.id
        for one in pack.shipped().values()
        if isinstance(one.rule.detection, RegexDetection)
        and one.rule.detection.validator is None
        and one.rule.detection.min_entropy is None
    }
    assert plain - exported == {rule_id for rule_id in plain if "RE2 syntax" in refused.get(rule_id, "")}


def test_conditions_say_what_the_rule_says() -> None:
    rule = Rule.model_validate(
        a_rule(
            scope={"directions": ["output", "tool_call"]},
            detection={"type": "regex", "any": ["purple quokka"], "all": ["please"], "unless": ["wombat"]},
            examples={},
            owasp=["LLM01:2026"],
            atlas=["AML.T0051.000"],
        )
    )
    document = yaml.safe_load(sigma.document(rule, 7, NOW))
    assert document["logsource"] == {"product": "genai", "category": "llm_inference"}
    assert document["detection"] == {
        "any_0": {"gen_ai.output.messages|re|i": ["purple quokka"]},
        "all_0": {"gen_ai.output.messages|re|i|all": ["please"]},
        "unless_0": {"gen_ai.output.messages|re|i": ["wombat"]},
        "any_1": {"gen_ai.tool.call.arguments|re|i": ["purple quokka"]},
        "all_1": {"gen_ai.tool.call.arguments|re|i|all": ["please"]},
        "unless_1": {"gen_ai.tool.call.arguments|re|i": ["wombat"]},
        "condition": "(any_0 and all_0 and not unless_0) or (any_1 and all_1 and not unless_1)",
    }
    assert document["tags"] == ["owasp.llm01-2026", "atlas.aml.t0051.000"]
    assert (document["level"], document["status"], document["modified"]) == ("high", "stable", "2026-11-22")
    parsed(sigma.document(rule, 7, NOW))


async def test_rules_are_exported_over_http(detection: Harness) -> None:
    client = detection.client("viewer")
    one = await client.get("/v1/rules/injection_keyword_match?format=sigma")
    assert one.headers["content-type"].startswith("application/yaml")
    assert [rule.title for rule in parsed(one.text)] == [pack.shipped()["injection_keyword_match"].rule.title]
    counted = parsed((await client.get("/v1/rules/excessive_tool_calls?format=sigma")).text)
    assert [type(rule).__name__ for rule in counted] == ["SigmaRule", "SigmaCorrelationRule"]
    refused = await client.get("/v1/rules/payment_card?format=sigma")
    assert (refused.status_code, "luhn" in refused.json()["detail"]) == (409, True)
    texts, cursor = [], ""
    while True:
        page: httpx.Response = await client.get(f"/v1/rules?format=sigma&limit=50{cursor}")
        texts.append(page.text)
        if "Next-Cursor" not in page.headers:
            break
        cursor = f"&cursor={page.headers['Next-Cursor']}"
    assert len(texts) == (len(pack.shipped()) + 49) // 50
    ids = {rule.id for text in texts for rule in parsed(text)}
    everything = "\n".join(texts)
    for rule_id in pack.shipped():
        assert (sigma.id_of(rule_id) in ids) != (f"# {rule_id}: " in everything), rule_id
