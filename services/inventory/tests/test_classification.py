"""Suggestions of data class and AI Act tier say why, decide nothing by themselves, and become a person's word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.inventory.domain.classification import Question, Subject, Tier, suggest
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from services.inventory.tests.test_api_assets import created
from shared.contracts.inventory import AssetType, DataClassification
from shared.testing import Harness, TestServer, harness


@pytest.fixture
async def inventory(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres) as made:
        yield made


def subject(purpose: str, asset_type: AssetType = AssetType.FOUNDATION_MODEL, **answers: bool) -> Subject:
    return Subject(asset_type, {"purpose": purpose}, {Question(name): value for name, value in answers.items()})


@pytest.mark.parametrize(
    ("purpose", "tier", "article"),
    [
        ("Ranks applicants for hiring", Tier.HIGH_RISK, "Art. 6(2), Annex III 4"),
        ("Computes the credit score of consumers", Tier.HIGH_RISK, "Art. 6(2), Annex III 5"),
        ("Grades exams of students", Tier.HIGH_RISK, "Art. 6(2), Annex III 3"),
        ("Balances load on the power grid", Tier.HIGH_RISK, "Art. 6(2), Annex III 2"),
        ("Facial recognition at the gate", Tier.HIGH_RISK, "Art. 6(2), Annex III 1"),
        ("Triage of visa applications", Tier.HIGH_RISK, "Art. 6(2), Annex III 7"),
        ("Reads emotions of employees at work", Tier.PROHIBITED_PRACTICE, "Art. 5(1)(f)"),
        ("Social scoring of citizens", Tier.PROHIBITED_PRACTICE, "Art. 5(1)(c)"),
        ("Chatbot that answers customers", Tier.LIMITED_RISK, "Art. 50(1)"),
        ("Generates marketing images", Tier.LIMITED_RISK, "Art. 50(2), 50(4)"),
        ("Translates our release notes", Tier.MINIMAL_RISK, "Art. 95"),
        ("Forecasts the demand for spare parts", Tier.MINIMAL_RISK, "Art. 95"),
        ("Finds bugs in code reviews", Tier.MINIMAL_RISK, "Art. 95"),
    ],
)
def test_the_purpose_suggests_a_tier_and_the_article_that_says_so(purpose: str, tier: Tier, article: str) -> None:
    found = suggest(subject(purpose))
    assert (found.tier, found.tier_grounds[0].article) == (tier, article)
    assert found.tier_grounds[0].says


def test_answers_count_as_words_do_and_a_no_silences_a_presumption() -> None:
    assert suggest(subject("Does things", decides_about_people=True)).tier is Tier.HIGH_RISK
    assert suggest(subject("Runs at night", AssetType.AI_AGENT)).tier is Tier.LIMITED_RISK
    assert suggest(subject("Runs at night", AssetType.AI_AGENT, talks_to_people=False)).tier is Tier.MINIMAL_RISK
    assert suggest(subject("x", holds_payment_data=True)).data_classification is DataClassification.REGULATED


def test_the_strictest_data_decides_and_what_it_stands_on_counts() -> None:
    own = Subject(
        AssetType.AI_AGENT,
        {"purpose": "Answers questions on publicly available documentation"},
        {},
        [("patient files", DataClassification.REGULATED)],
    )
    found = suggest(own)
    assert found.data_classification is DataClassification.REGULATED
    assert [ground.where for ground in found.data_grounds] == ["patient files", "purpose"]
    assert suggest(subject("Sorts bolts")).data_classification is None


@pytest.mark.parametrize(
    "words", ["emotion " * 20_000, "generate " * 20_000, "a" * 100_000, "life insurance " * 10_000]
)
def test_long_texts_are_judged_too(words: str) -> None:
    assert suggest(subject(words)).tier in Tier


async def test_a_suggestion_changes_nothing_until_a_person_confirms_it(inventory: Harness) -> None:
    client = inventory.client(subject="anna")
    data = await created(client, name="files", asset_type="training_dataset", data_classification="regulated")
    asset = await created(
        client, name="Screener", purpose="Screens applicants for hiring", upstream_assets=[data["asset_id"]],
        regulatory_scope=["gdpr"],
    )  # fmt: skip
    url = f"/v1/assets/{asset['asset_id']}"
    shown = (await client.get(f"{url}/classification")).json()
    assert (shown["eu_ai_act_tier"], shown["data_classification"]) == ("high_risk", "regulated")
    assert (shown["recorded_data_classification"], shown["recorded_regulatory_scope"]) == ("internal", ["gdpr"])
    assert shown["data_grounds"][0]["where"] == "files"
    assert len(shown["questions"]) == len(Question)
    assert (await client.get(url)).json()["version"] == 1
    decision = {"data_classification": "internal", "eu_ai_act_tier": "high_risk", "reason": "Annex III 4; no raw files"}
    confirmed = await client.put(f"{url}/classification", json=decision, headers={"If-Match": '"1"'})
    assert confirmed.status_code == 200, confirmed.text
    after = confirmed.json()
    assert (after["data_classification"], after["regulatory_scope"]) == ("internal", ["gdpr", "eu_ai_act_high_risk"])
    assert {"attribute": "data_classification", "kind": "declared", "locator": "person:anna", "source": ""} in after[
        "sources"
    ]
    lowered = {"eu_ai_act_tier": "minimal_risk", "reason": "Art. 6(3) assessed: a narrow procedural task"}
    again = await client.put(f"{url}/classification", json=lowered, headers={"If-Match": "*"})
    assert again.json()["regulatory_scope"] == ["gdpr"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "x"}, "data_classification"),
        ({"eu_ai_act_tier": "prohibited_practice", "reason": "x"}, "eu_ai_act_tier"),
        ({"eu_ai_act_tier": "high_risk"}, "reason"),
        ({"data_classification": "secret", "reason": "x"}, "data_classification"),
    ],
)
async def test_a_decision_that_is_none_is_refused(inventory: Harness, body: dict[str, Any], field: str) -> None:
    asset = await created(inventory.client())
    answer = await inventory.client().put(
        f"/v1/assets/{asset['asset_id']}/classification", json=body, headers={"If-Match": "*"}
    )
    assert (answer.status_code, field in answer.text) == (422, True), answer.text


async def test_an_intake_shows_what_it_may_already_be_and_only_to_whom_it_concerns(inventory: Harness) -> None:
    client = inventory.client()
    same = await created(client, name="Refund assistant", asset_type="ai_agent", owner_team="claims")
    like = await created(client, name="Refund assistant v2", asset_type="ai_agent", owner_team="claims")
    await created(client, name="Warehouse forecast", owner_team="logistics")
    body = {
        "name": "Refund assistant",
        "asset_type": "ai_agent",
        "owner_team": "claims",
        "purpose": "Answers customers about refunds",
        "answers": {"holds_payment_data": True, "talks_to_people": True},
    }
    shown = (await client.post("/v1/assets/intake", json=body)).json()
    assert [(one["asset_id"], one["same_key"]) for one in shown["similar"]] == [
        (same["asset_id"], True),
        (like["asset_id"], False),
    ]
    assert (shown["data_classification"], shown["eu_ai_act_tier"]) == ("regulated", "limited_risk")
    assert len(shown["questions"]) == len(Question) - 2
    other = await inventory.client(teams=["logistics"]).post("/v1/assets/intake", json=body)
    assert other.json()["similar"] == []
    assert len((await client.get("/v1/assets")).json()["items"]) == 3, "an intake registers nothing"
    assert (await client.post("/v1/assets/intake", json=body | {"answers": {"likes_tea": True}})).status_code == 422
