"""What the inventory makes of what sources say: one asset for one thing, whose word counts, what is missing, what is
linked, and nothing written where nothing is different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
import uuid_utils.compat as uuid_utils

from services.inventory.application.discovery import Intake
from services.inventory.connectors.harvest import Harvest
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.discovery import Counts, RunStatus, Source
from services.inventory.main import SERVICE
from services.inventory.settings import InventorySettings
from services.inventory.store import discovery as store
from services.inventory.store.discovery import Run
from services.inventory.tests.test_api_assets import created
from shared.contracts.inventory import AssetType, DataClassification, NetworkExposure, Relation
from shared.testing import Harness, TestServer, harness

ENDPOINT = "https://llm.acme.example/v1"


@pytest.fixture
async def inventory(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, InventorySettings, postgres) as made:
        yield made


async def looked(
    inventory: Harness,
    source: Source,
    *scopes: tuple[str, Sequence[Found]],
    failing: str | None = None,
    grace: float = 0.0,
    team: str = "",
) -> Run:
    """A whole run of a source that shows these entries in these scopes; reading of `failing` breaks off at its end."""
    run = Run(
        run_id=uuid_utils.uuid7(),
        source=source,
        options={},
        owner_team=team,
        status=RunStatus.QUEUED,
        counts=Counts(),
        problems=(),
        requested_by="dora",
        requested_at=datetime.now(UTC),
        finished_at=None,
    )
    async with inventory.runtime.db.begin() as tx:
        await store.add_run(tx, run)
    intake = Intake(inventory.runtime.db, run, timedelta(seconds=grace))
    harvest = Harvest(intake)
    for name, entries in scopes:
        async with harvest.scope(name, failures=(ConnectionError,)) as scope:
            for entry in entries:
                await scope.add(entry)
            if name == failing:
                raise ConnectionError("reset by peer")
    return await intake.finish(harvest.problems, harvest.problems_untold, complete=bool(harvest.completed))


def model(locator: str = "arn:model", **said: Any) -> Found:
    values = {"name": "support", "asset_type": AssetType.FINE_TUNED_MODEL, "model_name": "support"} | said
    return found(locator, **values)


def agent(locator: str, *links: Link, **said: Any) -> Found:
    values = {"name": f"agent {locator}", "asset_type": AssetType.AI_AGENT} | said
    return replace(found(locator, **values), links=links)


async def assets(inventory: Harness) -> dict[str, Any]:
    items = (await inventory.client().get("/v1/assets?limit=200")).json()["items"]
    return {item["name"]: item for item in items}


async def evidence(inventory: Harness, asset_id: str) -> dict[str, Any]:
    answer = await inventory.client().get(f"/v1/assets/{asset_id}/evidence")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def edges(inventory: Harness) -> set[tuple[str, str, str]]:
    """(from, relation, to) by asset name, of edges that hold now."""
    names = {item["asset_id"]: name for name, item in (await assets(inventory)).items()}
    async with inventory.runtime.db.read() as tx:
        rows = await tx.execute(
            sa.text("SELECT downstream_id, relation, upstream_id FROM dependency WHERE valid_to IS NULL")
        )
        return {(names.get(str(row[0]), "?"), row[1], names.get(str(row[2]), "?")) for row in rows}


async def rows_written(inventory: Harness) -> list[int]:
    async with inventory.runtime.db.read() as tx:
        return [
            await tx.scalar(sa.text(f"SELECT count(*) FROM {table}"))
            for table in ("asset", "asset_change", "outbox", "audit_entry", "dependency", "discovery_name")
        ] + [await tx.scalar(sa.text("SELECT coalesce(max(xmin::text::bigint), 0) FROM discovery_sighting"))]


async def test_a_second_run_that_finds_the_same_writes_nothing(inventory: Harness) -> None:
    shown = [model(f"arn:{number}", name=f"m{number}", model_name=f"m{number}") for number in range(450)]
    first = await looked(inventory, Source.AWS_BEDROCK, ("models", shown))
    assert (first.status, first.counts) == (RunStatus.SUCCEEDED, Counts(seen=450, new=450))
    before = await rows_written(inventory)
    second = await looked(inventory, Source.AWS_BEDROCK, ("models", shown))
    assert (second.status, second.counts) == (RunStatus.SUCCEEDED, Counts(seen=450))
    assert await rows_written(inventory) == before


async def test_what_the_source_says_anew_is_taken_over_with_where_it_stands(inventory: Harness) -> None:
    await looked(inventory, Source.AWS_BEDROCK, ("models", [model()]))
    told = model().declared("arn:model tag Owner", owner_team="claims", network_exposure=NetworkExposure.VPC)
    run = await looked(inventory, Source.AWS_BEDROCK, ("models", [told]))
    assert run.counts == Counts(seen=1, changed=1)
    asset = (await assets(inventory))["support"]
    assert (asset["owner_team"], asset["network_exposure"], asset["version"]) == ("claims", "vpc", 2)
    sources = {one["attribute"]: one for one in asset["sources"]}
    assert sources["owner_team"] == {
        "attribute": "owner_team",
        "kind": "declared",
        "locator": "arn:model tag Owner",
        "source": "aws_bedrock",
    }
    assert sources["data_classification"]["kind"] == "unresolved"


async def test_a_persons_word_wins_and_the_contradiction_is_shown(inventory: Harness) -> None:
    await looked(inventory, Source.AWS_BEDROCK, ("models", [model(network_exposure=NetworkExposure.PUBLIC)]))
    asset = (await assets(inventory))["support"]
    client = inventory.client(subject="anna")
    changed = await client.patch(
        f"/v1/assets/{asset['asset_id']}", json={"network_exposure": "vpc"}, headers={"If-Match": "*"}
    )
    assert changed.status_code == 200, changed.text
    told = model(network_exposure=NetworkExposure.PUBLIC, model_version="2")
    run = await looked(inventory, Source.AWS_BEDROCK, ("models", [told]))
    assert run.counts.changed == 1
    after = (await assets(inventory))["support"]
    assert (after["network_exposure"], after["model_version"]) == ("vpc", "2")
    shown = {one["attribute"]: one for one in (await evidence(inventory, asset["asset_id"]))["attributes"]}
    words = [(word["source"], word["value"]) for word in shown["network_exposure"]["words"]]
    assert words == [("person", "vpc"), ("aws_bedrock", "public")]
    assert shown["network_exposure"]["conflicting"]
    assert shown["network_exposure"]["words"][0]["locator"] == "person:anna"
    assert not shown["model_version"]["conflicting"]


async def test_two_sources_that_share_an_identity_are_one_asset_and_the_platform_is_trusted_more(
    inventory: Harness,
) -> None:
    at_gateway = replace(
        found(
            "gw/m", name="gateway model", asset_type=AssetType.API_ENDPOINT, license_type="unknown", cloud_region="x"
        ),
        identities=(str(identity.endpoint(ENDPOINT)),),
    )
    in_cluster = replace(
        found("ns/vllm", name="vllm", asset_type=AssetType.API_ENDPOINT, cloud_region="eu-west-1"),
        identities=(str(identity.endpoint(ENDPOINT + "/")),),
    )
    await looked(inventory, Source.OPENAI_COMPATIBLE, ("gw", [at_gateway]))
    run = await looked(inventory, Source.KUBERNETES, ("ns", [in_cluster]))
    assert run.counts == Counts(seen=1, merged=1, changed=1)
    (asset,) = (await assets(inventory)).values()
    assert (asset["name"], asset["cloud_region"]) == ("gateway model", "eu-west-1")
    before = await rows_written(inventory)
    await looked(inventory, Source.OPENAI_COMPATIBLE, ("gw", [at_gateway]))
    await looked(inventory, Source.KUBERNETES, ("ns", [in_cluster]))
    assert await rows_written(inventory) == before, "two sources that differ do not take turns"
    why = [one["matched_by"] for one in (await evidence(inventory, asset["asset_id"]))["sightings"]]
    assert why[0] == "new"
    assert why[1] == f"shares {identity.endpoint(ENDPOINT)} with openai_compatible gw/m"


async def test_what_a_person_registered_is_found_by_its_key(inventory: Harness) -> None:
    body = {"name": "Ours", "model_provider": "aws_bedrock", "model_name": "support", "deployment_env": "production"}
    asset = await created(inventory.client(), **body, owner_team="claims")
    from shared.contracts.inventory import DeploymentEnvironment

    shown = model(
        model_provider="aws_bedrock", deployment_env=DeploymentEnvironment.PRODUCTION, cloud_region="eu-west-1"
    )
    run = await looked(inventory, Source.AWS_BEDROCK, ("models", [shown]), team="platform")
    assert run.counts == Counts(seen=1, merged=1, changed=1)
    (after,) = (await assets(inventory)).values()
    assert (after["asset_id"], after["name"], after["owner_team"]) == (asset["asset_id"], "Ours", "claims")
    assert after["cloud_region"] == "eu-west-1"


async def test_a_listing_that_broke_off_changes_nothing_but_is_called_stale(inventory: Harness) -> None:
    both = [model("arn:1", name="one", model_name="1"), model("arn:2", name="two", model_name="2")]
    await looked(inventory, Source.AWS_BEDROCK, ("models", both))
    run = await looked(inventory, Source.AWS_BEDROCK, ("models", both[:1]), failing="models")
    assert run.status is RunStatus.PARTIAL
    assert run.counts == Counts(seen=1)
    assert set(await assets(inventory)) == {"one", "two"}
    (stale,) = (await inventory.client().get("/v1/discovery/stale-scopes")).json()["items"]
    assert (stale["scope"], stale["complete"], stale["entries"]) == ("models", False, 2)
    assert "reset by peer" in stale["reason"]
    state = {
        one["locator"]: (one["state"], one["stale_since"] is not None)
        for one in (await inventory.client().get("/v1/discovery/sightings")).json()["items"]
    }
    assert state == {"arn:1": ("seen", True), "arn:2": ("seen", True)}
    await looked(inventory, Source.AWS_BEDROCK, ("models", both))
    assert not (await inventory.client().get("/v1/discovery/stale-scopes")).json()["items"]


async def test_what_is_no_longer_shown_is_missing_then_gone_and_may_come_back(inventory: Harness) -> None:
    target = replace(model("arn:1"), identities=("id:arn:1",))
    user = agent("a", Link(Relation.USES_MODEL, "id:arn:1", "a:7"))
    await looked(inventory, Source.AWS_BEDROCK, ("models", [target]), ("agents", [user]))
    assert await edges(inventory) == {("agent a", "uses_model", "support")}

    async def state() -> str:
        listed = (await inventory.client().get("/v1/discovery/sightings?source=aws_bedrock")).json()["items"]
        return next(str(one["state"]) for one in listed if one["locator"] == "a")

    run = await looked(inventory, Source.AWS_BEDROCK, ("agents", []), grace=3_600)
    assert (run.counts, await state()) == (Counts(missing=1), "missing")
    assert await edges(inventory), "within the grace period its edges hold"
    run = await looked(inventory, Source.AWS_BEDROCK, ("agents", []), grace=0)
    assert (run.counts, await state()) == (Counts(gone=1), "gone")
    assert not await edges(inventory)
    assert (await assets(inventory))["agent a"]["lifecycle"] == "active", "nothing is retired by a listing"
    run = await looked(inventory, Source.AWS_BEDROCK, ("agents", [user]))
    assert (run.counts.seen, run.counts.new, await state()) == (1, 0, "seen")
    assert await edges(inventory) == {("agent a", "uses_model", "support")}


async def test_a_link_waits_for_what_it_names(inventory: Harness) -> None:
    wanted = identity.huggingface("acme/tiny")
    await looked(inventory, Source.REPOSITORY, ("repo", [agent("a", Link(Relation.USES_MODEL, wanted, "app.py:3"))]))
    assert not await edges(inventory)
    on_disk = replace(model("/models/tiny", name="tiny", model_name="acme/tiny"), identities=(wanted,))
    await looked(inventory, Source.FILESYSTEM, ("/models", [on_disk]))
    assert await edges(inventory) == {("agent a", "uses_model", "tiny")}
    opened = [one for one in await inventory.published() if one.type == "ev.inventory.edge.opened.v1"]
    assert len(opened) == 1


async def test_an_edge_holds_as_long_as_any_entry_states_it(inventory: Harness) -> None:
    target = replace(model("arn:1"), identities=("id:arn:1",))
    first = replace(agent("a", Link(Relation.USES_MODEL, "id:arn:1", "x:1"), name="bot"), identities=("agent:bot",))
    again = replace(agent("b", Link(Relation.USES_MODEL, "id:arn:1", "y:1"), name="bot"), identities=("agent:bot",))
    await looked(inventory, Source.REPOSITORY, ("m", [target]), ("x", [first]), ("y", [again]))
    assert await edges(inventory) == {("bot", "uses_model", "support")}
    await looked(inventory, Source.REPOSITORY, ("x", [replace(first, links=())]))
    assert await edges(inventory) == {("bot", "uses_model", "support")}
    await looked(inventory, Source.REPOSITORY, ("y", []), grace=0)
    assert not await edges(inventory)


async def test_a_wrong_merge_is_parted_links_follow_and_no_run_merges_it_again(inventory: Harness) -> None:
    shared = "id:shared"
    one = replace(model("one", name="one", model_name="one"), identities=(shared,))
    two = replace(model("two", name="two", model_name="two"), identities=(shared, "id:two"))
    user = agent("a", Link(Relation.USES_MODEL, "id:two", "a:1"))
    await looked(inventory, Source.AWS_BEDROCK, ("models", [one]))
    await looked(inventory, Source.MLFLOW, ("models", [two]))
    await looked(inventory, Source.REPOSITORY, ("repo", [user]))
    assert await edges(inventory) == {("agent a", "uses_model", "one")}
    client = inventory.client()
    (sighting,) = (await client.get("/v1/discovery/sightings?source=mlflow")).json()["items"]
    parted = await client.post(
        f"/v1/discovery/sightings/{sighting['sighting_id']}/assignment", json={"reason": "another model"}
    )
    assert parted.status_code == 200, parted.text
    assert parted.json()["pinned"]
    assert "another model" in parted.json()["matched_by"]
    assert set(await assets(inventory)) == {"one", "two", "agent a"}
    assert await edges(inventory) == {("agent a", "uses_model", "two")}
    run = await looked(inventory, Source.MLFLOW, ("models", [replace(two, identities=(shared, "id:two", "id:3"))]))
    assert run.counts.merged == 0
    assert (await assets(inventory))["two"]["lifecycle"] == "active"
    back = await client.post(
        f"/v1/discovery/sightings/{sighting['sighting_id']}/assignment",
        json={"asset_id": (await assets(inventory))["one"]["asset_id"], "reason": "it is the same after all"},
    )
    assert back.status_code == 200, back.text
    assert (await assets(inventory))["two"]["lifecycle"] == "retired"
    assert await edges(inventory) == {("agent a", "uses_model", "one")}


async def test_assignments_that_cannot_be_say_why(inventory: Harness) -> None:
    await looked(inventory, Source.AWS_BEDROCK, ("models", [model("arn:1")]))
    client = inventory.client()
    (sighting,) = (await client.get("/v1/discovery/sightings")).json()["items"]
    path = f"/v1/discovery/sightings/{sighting['sighting_id']}/assignment"
    for body, status in (
        ({"reason": "x"}, 409),
        ({"reason": "x", "asset_id": sighting["asset_id"]}, 409),
        ({"reason": "x", "asset_id": str(uuid_utils.uuid7())}, 404),
        ({"reason": ""}, 422),
    ):
        answer = await client.post(path, json=body)
        assert answer.status_code == status, answer.text
    assert (
        await client.post(path.replace(sighting["sighting_id"], str(UUID(int=1))), json={"reason": "x"})
    ).status_code == 404
    red = inventory.client(teams=["red"])
    assert (await red.get("/v1/discovery/sightings")).json()["items"] == []
    assert (await red.get(f"/v1/assets/{sighting['asset_id']}/evidence")).status_code == 404


async def test_what_was_observed_can_be_asked_for(inventory: Harness) -> None:
    weak = replace(
        model("arn:1"),
        observations=(Observation(ObservationKind.PLAIN_HTTP, Severity.MEDIUM, "spoken to without TLS", "arn:1"),),
    )
    await looked(inventory, Source.AWS_BEDROCK, ("models", [weak, model("arn:2", name="b", model_name="b")]))
    client = inventory.client()
    (shown,) = (await client.get("/v1/discovery/sightings?observed=plain_http")).json()["items"]
    assert shown["observations"][0]["detail"] == "spoken to without TLS"
    assert not (await client.get("/v1/discovery/sightings?observed=inline_secret")).json()["items"]
    assert (await client.get("/v1/discovery/sightings?observed=nonsense")).status_code == 422


async def test_a_retired_asset_that_is_still_there_is_registered_anew(inventory: Harness) -> None:
    await looked(inventory, Source.AWS_BEDROCK, ("models", [model()]))
    asset = (await assets(inventory))["support"]
    await inventory.client().post(f"/v1/assets/{asset['asset_id']}/retire", json={"reason": "switched off"})
    run = await looked(inventory, Source.AWS_BEDROCK, ("models", [model()]))
    assert run.counts == Counts(seen=1, new=1)


async def test_no_credential_that_a_source_shows_is_stored(inventory: Harness) -> None:
    secret = "sk-proj-Zk3Rv9Qm2Xw8Tn5Lp7Ys4Bd6Hf1Jc0GaEuVi"
    entry = replace(
        agent("a", Link(Relation.CALLS_TOOL, f"https://x.example/?key={secret}", secret), description=secret),
        identities=(f"agent:{secret}",),
        observations=(Observation(ObservationKind.INLINE_SECRET, Severity.HIGH, secret, secret),),
        card={"limitations": [secret]},
    )
    await looked(inventory, Source.REPOSITORY, (f"repo {secret[:3]}", [entry]), failing=f"repo {secret[:3]}")
    async with inventory.runtime.db.read() as tx:
        tables = await tx.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables.all():
            dump = (await tx.scalars(sa.text(f'SELECT row_to_json(t)::text FROM "{table}" t'))).all()
            assert not any(secret in row for row in dump), table


async def test_what_an_earlier_try_read_is_not_read_again_and_counted_once(inventory: Harness) -> None:
    run = await looked(inventory, Source.AWS_BEDROCK, ("models", [model()]))
    async with inventory.runtime.db.read() as tx:
        (scope,) = await store.scopes_of_run(tx, run.run_id)
    assert (scope.complete, scope.entries) == (True, 1)
    intake = Intake(inventory.runtime.db, run, timedelta(0))
    intake.resume({scope.scope: scope.entries})
    harvest = Harvest(intake, read=[scope.scope])
    assert harvest.is_read("models")
    async with harvest.scope("more") as more:
        await more.add(model("arn:2", name="b", model_name="b"))
    again = await intake.finish(harvest.problems, 0, complete=True)
    assert again.counts == Counts(seen=2, new=2)


@pytest.mark.parametrize("kind", list(DataClassification))
async def test_every_value_of_an_attribute_survives_being_kept(inventory: Harness, kind: DataClassification) -> None:
    await looked(inventory, Source.AWS_BEDROCK, ("models", [model().declared("tag", data_classification=kind)]))
    assert (await assets(inventory))["support"]["data_classification"] == kind.value


async def test_links_follow_a_name_to_another_asset_and_end_with_the_last_that_bears_it(inventory: Harness) -> None:
    address = "url:web://llm.acme.example"
    first = replace(model("v1", name="v1", model_name="v1"), identities=(address,))
    second = replace(model("v2", name="v2", model_name="v2"), identities=(address,))
    user = agent("a", Link(Relation.USES_MODEL, address, "a:1"))
    await looked(inventory, Source.KUBERNETES, ("repo", [user]), ("c", [first]))
    assert await edges(inventory) == {("agent a", "uses_model", "v1")}
    moved = [replace(first, identities=()), model("v2", name="v2", model_name="v2")]
    await looked(inventory, Source.KUBERNETES, ("c", moved))
    assert not await edges(inventory), "nobody has that address any longer"
    await looked(inventory, Source.KUBERNETES, ("c", [moved[0], second]))
    assert await edges(inventory) == {("agent a", "uses_model", "v2")}
    v2 = (await assets(inventory))["v2"]["asset_id"]
    await inventory.client().post(f"/v1/assets/{v2}/retire", json={"reason": "switched off by hand"})
    await looked(inventory, Source.KUBERNETES, ("c", [moved[0], second]))
    living = (await inventory.client().get("/v1/assets?lifecycle=active")).json()["items"]
    (anew,) = [item for item in living if item["name"] == "v2"]
    async with inventory.runtime.db.read() as tx:
        ends = (await tx.scalars(sa.text("SELECT upstream_id FROM dependency WHERE valid_to IS NULL"))).all()
    assert [str(end) for end in ends] == [anew["asset_id"]]


async def test_another_kind_of_thing_is_not_the_same_thing(inventory: Harness) -> None:
    store_entry = replace(
        found("q", name="qdrant", asset_type=AssetType.VECTOR_DATABASE), identities=("url:web://rag.acme.example",)
    )
    server = replace(
        found("v", name="vllm", asset_type=AssetType.API_ENDPOINT), identities=("url:web://rag.acme.example",)
    )
    run = await looked(inventory, Source.KUBERNETES, ("c", [store_entry, server]))
    assert run.counts == Counts(seen=2, new=2)


async def test_a_name_that_no_index_takes_costs_only_its_entry(inventory: Harness) -> None:
    run = await looked(inventory, Source.MLFLOW, ("m", [model("x" * 5_000), model("arn:1")]))
    assert (run.status, run.counts) == (RunStatus.PARTIAL, Counts(seen=1, new=1))
    assert "over 2000 bytes" in run.problems[0].message


async def test_a_run_that_is_cut_short_is_stale_where_it_was(inventory: Harness) -> None:
    await looked(inventory, Source.MLFLOW, ("m", [model("arn:1"), model("arn:2", name="b", model_name="b")]))
    run = replace(await looked(inventory, Source.MLFLOW), run_id=uuid_utils.uuid7(), counts=Counts(), finished_at=None)
    async with inventory.runtime.db.begin() as tx:
        await store.add_run(tx, run)
    intake = Intake(inventory.runtime.db, run, timedelta(0))
    harvest = Harvest(intake)

    async def slow() -> None:
        async with harvest.scope("m") as scope:
            await scope.add(model("arn:3", name="c", model_name="c"))
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow(), 0.3)
    assert set(await assets(inventory)) == {"support", "b", "c"}
    (stale,) = (await inventory.client().get("/v1/discovery/stale-scopes")).json()["items"]
    assert (stale["scope"], stale["reason"]) == ("m", "it was cut short")


async def test_a_default_that_a_person_states_is_their_word(inventory: Harness) -> None:
    asset = await created(inventory.client(), name="Ours", model_name="support", asset_type="fine_tuned_model")
    changed = await inventory.client(subject="anna").patch(
        f"/v1/assets/{asset['asset_id']}", json={"network_exposure": "internal"}, headers={"If-Match": "*"}
    )
    assert changed.status_code == 200, changed.text
    told = model(network_exposure=NetworkExposure.PUBLIC)
    await looked(inventory, Source.AWS_BEDROCK, ("models", [told]))
    assert (await assets(inventory))["Ours"]["network_exposure"] == "internal"
