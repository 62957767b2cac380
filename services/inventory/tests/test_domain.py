"""An asset's rules: what registration takes, when two are one, what may happen to it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.inventory.domain.asset import (
    Asset,
    Change,
    Digest,
    ReviewInFuture,
    ReviewOutcome,
    SecretInRecord,
    SelfDependency,
    WrongState,
    as_json,
    key_of,
)
from services.inventory.domain.gaps import Gap, gaps_of
from services.inventory.tests.factories import NOW, TODAY, an_asset
from shared.contracts.inventory import (
    AssetSnapshot,
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    Lifecycle,
    NetworkExposure,
    RegulatoryScope,
)

LATER = NOW + timedelta(minutes=5)


def test_a_new_asset_is_version_one_active_and_unreviewed() -> None:
    asset = an_asset()
    assert (asset.version, asset.lifecycle, asset.compliance_status) == (
        1,
        Lifecycle.ACTIVE,
        "unreviewed",
    )
    assert asset.data_classification is DataClassification.INTERNAL
    assert asset.deployment_env is DeploymentEnvironment.DEVELOPMENT
    assert asset.network_exposure is NetworkExposure.INTERNAL


def test_the_snapshot_says_all_that_the_contract_asks() -> None:
    asset = an_asset(
        regulatory_scope=(RegulatoryScope.GDPR,),
        upstream_assets=(uuid4(),),
        authorized_tools=("search",),
    )
    snapshot = asset.snapshot()
    for name in AssetSnapshot.model_fields:
        assert getattr(snapshot, name) == getattr(asset, name), name


MODEL = {
    "model_name": "gpt-4o",
    "model_provider": "openai",
    "api_endpoint": "https://api.openai.com/v1",
}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (MODEL, MODEL, True),
        (
            MODEL | {"name": "a", "owner_team": "x"},
            MODEL | {"name": "b", "owner_team": "y"},
            True,
        ),
        (MODEL, MODEL | {"model_name": "gpt-5"}, False),
        (MODEL, MODEL | {"model_provider": "azure_openai"}, False),
        (MODEL, MODEL | {"api_endpoint": None}, False),
        (MODEL, MODEL | {"deployment_env": DeploymentEnvironment.PRODUCTION}, False),
        (MODEL, MODEL | {"model_name": "GPT-4o"}, False),
        ({"model_name": "m"}, {"model_provider": "m"}, False),
        (
            {"model_name": "m", "api_endpoint": ""},
            {"model_name": "m", "api_endpoint": None},
            True,
        ),
        ({"name": "prompts"}, {"name": "prompts"}, True),
        ({"name": "prompts"}, {"name": "other prompts"}, False),
        ({"name": "p", "asset_type": AssetType.PROMPT_TEMPLATE}, {"name": "p"}, False),
        ({"name": "p", "owner_team": "x"}, {"name": "p", "owner_team": "y"}, False),
        ({"name": "caf\u00e9"}, {"name": "cafe\u0301"}, True),
        ({"name": "model", "owner_team": "m"}, {"model_name": "m"}, False),
    ],
)
def test_two_assets_are_one_by_their_key(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert (key_of(an_asset(**one)) == key_of(an_asset(**other))) is same


def test_an_asset_cannot_depend_on_itself() -> None:
    own = uuid4()
    for field in ("upstream_assets", "downstream_assets"):
        declared: dict[str, Any] = {field: (uuid4(), own)}
        with pytest.raises(SelfDependency):
            an_asset(own, **declared)
        with pytest.raises(SelfDependency):
            an_asset(own).amended({field: (own,)}, LATER)


def test_a_review_before_it_happened_is_refused() -> None:
    tomorrow = TODAY + timedelta(days=1)
    with pytest.raises(ReviewInFuture):
        an_asset(last_security_review=tomorrow)
    with pytest.raises(ReviewInFuture):
        an_asset().reviewed(ReviewOutcome.APPROVED, tomorrow, NOW)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (ReviewOutcome.APPROVED, "compliant"),
        (ReviewOutcome.CONDITIONAL, "conditional"),
        (ReviewOutcome.REJECTED, "non_compliant"),
    ],
)
def test_a_review_sets_the_date_and_the_status(outcome: ReviewOutcome, status: str) -> None:
    asset, changes = an_asset().reviewed(outcome, TODAY, LATER)
    assert (asset.last_security_review, asset.compliance_status, asset.version) == (
        TODAY,
        status,
        2,
    )
    assert {change.field for change in changes} == {
        "last_security_review",
        "compliance_status",
    }


def test_a_review_found_late_does_not_set_the_date_back() -> None:
    asset, _ = an_asset().reviewed(ReviewOutcome.APPROVED, TODAY, NOW)
    older, changes = asset.reviewed(ReviewOutcome.REJECTED, TODAY - timedelta(days=30), LATER)
    assert (older.last_security_review, older.compliance_status, changes) == (
        TODAY,
        "compliant",
        (),
    )
    assert older.version == asset.version + 1


def test_an_amendment_says_each_field_from_old_to_new() -> None:
    asset, changes = an_asset(description="old", model_version="1").amended(
        {"description": "new", "model_version": None, "is_self_hosted": False}, LATER
    )
    assert changes == (
        Change("description", "old", "new"),
        Change("model_version", "1", None),
    )
    assert (asset.version, asset.last_updated) == (2, LATER)


def test_an_amendment_that_changes_nothing_is_none() -> None:
    asset = an_asset(description="same")
    assert asset.amended({"description": "same"}, LATER) == (asset, ())


def _quarantined() -> Asset:
    return an_asset().quarantined(NOW)[0]


def _retired() -> Asset:
    return an_asset().retired(NOW)[0]


@pytest.mark.parametrize(
    ("start", "step", "end"),
    [
        (an_asset, Asset.quarantined, Lifecycle.QUARANTINED),
        (an_asset, Asset.retired, Lifecycle.RETIRED),
        (an_asset, Asset.released, None),
        (_quarantined, Asset.quarantined, None),
        (_quarantined, Asset.released, Lifecycle.ACTIVE),
        (_quarantined, Asset.retired, Lifecycle.RETIRED),
        (_retired, Asset.quarantined, None),
        (_retired, Asset.released, None),
        (_retired, Asset.retired, None),
    ],
)
def test_the_lifecycle_allows_these_steps_only(start: Any, step: Any, end: Lifecycle | None) -> None:
    asset = start()
    if end is None:
        with pytest.raises(WrongState):
            step(asset, LATER)
        return
    after, changes = step(asset, LATER)
    assert (after.lifecycle, after.version) == (end, asset.version + 1)
    assert changes == (Change("lifecycle", asset.lifecycle.value, end.value),)


def test_a_retired_asset_stays_as_it_was() -> None:
    with pytest.raises(WrongState):
        _retired().amended({"description": "x"}, LATER)
    with pytest.raises(WrongState):
        _retired().reviewed(ReviewOutcome.APPROVED, TODAY, LATER)


@pytest.mark.parametrize("value", ["sk-proj-" + "a1" * 20, "key=hf_" + "b" * 34, '"AKIA' + "C" * 16 + '"'])
def test_a_credential_is_registered_by_reference(value: str) -> None:
    with pytest.raises(SecretInRecord):
        an_asset(asset_type=AssetType.API_CREDENTIAL, description=f"the key is {value}")
    an_asset(asset_type=AssetType.API_CREDENTIAL, source_url="vault://ai/openai#sk-prod")
    an_asset(asset_type=AssetType.PROMPT_TEMPLATE, description=f"never say {value}")


def test_history_values_are_json() -> None:
    other = uuid4()
    assert as_json((other, AssetType.AI_AGENT, TODAY, NOW, Digest("a", "sha256", "00"), None, 1.5)) == [
        str(other),
        "ai_agent",
        "2026-11-22",
        NOW.isoformat(),
        {"path": "a", "algorithm": "sha256", "digest": "00"},
        None,
        1.5,
    ]


NINETY_DAYS_AGO = TODAY - timedelta(days=90)


@pytest.mark.parametrize(
    ("fields", "gaps"),
    [
        ({"last_security_review": TODAY}, set()),
        ({}, {Gap.NO_SECURITY_REVIEW}),
        ({"last_security_review": NINETY_DAYS_AGO}, set()),
        (
            {"last_security_review": NINETY_DAYS_AGO - timedelta(days=1)},
            {Gap.STALE_REVIEW},
        ),
        ({"last_security_review": TODAY, "is_self_hosted": True}, {Gap.MISSING_SBOM}),
        (
            {
                "last_security_review": TODAY,
                "is_self_hosted": True,
                "sbom_available": True,
            },
            set(),
        ),
        (
            {
                "last_security_review": TODAY,
                "regulatory_scope": (RegulatoryScope.GDPR,),
            },
            {Gap.UNCLASSIFIED_DATA},
        ),
        (
            {
                "last_security_review": TODAY,
                "regulatory_scope": (RegulatoryScope.NONE,),
            },
            set(),
        ),
        (
            {
                "last_security_review": TODAY,
                "regulatory_scope": (RegulatoryScope.GDPR,),
                "data_classification": DataClassification.REGULATED,
            },
            set(),
        ),
        ({"last_security_review": TODAY, "owner_team": ""}, {Gap.NO_OWNER}),
        *(
            (
                {
                    "last_security_review": TODAY,
                    "network_exposure": NetworkExposure.PUBLIC,
                    "data_classification": classification,
                },
                {Gap.PUBLIC_EXPOSURE_HIGH_SENSITIVITY} if high else set(),
            )
            for classification, high in [
                (DataClassification.PUBLIC, False),
                (DataClassification.INTERNAL, False),
                (DataClassification.CONFIDENTIAL, True),
                (DataClassification.RESTRICTED, True),
                (DataClassification.REGULATED, True),
            ]
        ),
        (
            {
                "last_security_review": TODAY,
                "network_exposure": NetworkExposure.VPC,
                "data_classification": DataClassification.REGULATED,
            },
            set(),
        ),
    ],
)
def test_each_gap_is_found_where_it_is(fields: dict[str, Any], gaps: set[Gap]) -> None:
    assert gaps_of(an_asset(**fields), TODAY) == gaps


def test_a_retired_asset_has_no_gaps() -> None:
    assert gaps_of(an_asset(owner_team="").retired(NOW)[0], date(2030, 1, 1)) == frozenset()
