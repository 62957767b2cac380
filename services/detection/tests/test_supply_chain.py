"""A denied artifact in the inventory is an alert here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from shared.contracts.inventory import ArtifactDenied, AssetType
from shared.testing import Harness

NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)


def a_denial(asset_id: UUID, holder_id: UUID, **fields: Any) -> ArtifactDenied:
    values: dict[str, Any] = {
        "version": 1,
        "occurred_at": NOW,
        "asset_id": asset_id,
        "asset_name": "triage",
        "asset_type": AssetType.FINE_TUNED_MODEL,
        "owner_team": "search",
        "algorithm": "sha256",
        "digest": "ab" * 32,
        "reason": "carries a backdoor",
        "holder_id": holder_id,
        "place": "model.bin",
        "path": (holder_id,) if asset_id == holder_id else (holder_id, asset_id),
        **fields,
    }
    return ArtifactDenied(**values)


async def test_each_asset_that_a_denial_reaches_has_an_alert_of_its_own(detection: Harness) -> None:
    holder, descendant = uuid4(), uuid4()
    events = [a_denial(holder, holder), a_denial(descendant, holder)]
    await detection.deliver(*events, together=True)
    alerts = {item["asset_id"]: item for item in (await detection.client().get("/v1/alerts")).json()["items"]}
    assert set(alerts) == {str(holder), str(descendant)}
    own, inherited = alerts[str(holder)], alerts[str(descendant)]
    assert own["category"] == inherited["category"] == "model_supply_chain_compromise"
    assert (own["severity"], inherited["severity"]) == ("critical", "high")
    assert own["rule_id"] == "denied_model_artifact"
    assert "LLM03:2025" in own["owasp"] and "AML.T0010" in own["atlas"]
    assert "model.bin has the denied sha256 abababababababab" in own["excerpt"]
    assert "What it depends on, 1 steps up, has the denied sha256" in inherited["excerpt"]
    assert str(holder) not in str(inherited) and "model.bin" not in str(inherited)
    assert len(await detection.published("ev.detection.alert.raised.v1")) == 2


async def test_a_second_denied_file_of_an_asset_is_counted_in_its_alert(detection: Harness) -> None:
    asset_id = uuid4()
    await detection.deliver(a_denial(asset_id, asset_id), a_denial(asset_id, asset_id, digest="cd" * 32))
    (alert,) = (await detection.client().get("/v1/alerts")).json()["items"]
    assert alert["count"] == 2
