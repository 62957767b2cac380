"""Vertex AI with the real google-auth and a service account's key: what is found, and a platform that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.inventory.connectors import gcp_vertex
from services.inventory.connectors.gcp_vertex import CONNECTOR
from services.inventory.domain.asset import SourceKind
from services.inventory.domain.claims import ObservationKind
from services.inventory.domain.identity import endpoint, hosted_model, image, resource
from services.inventory.tests.fakes import after, always, first, serving, text
from services.inventory.tests.fakes_vertex import (
    LOCATION,
    PARENT,
    PLANTED,
    PROJECT,
    FakeVertex,
    an_estate,
    broken,
    denied,
    refused,
    service_account,
    throttled,
)
from services.inventory.tests.looking import Look, links, noticed
from shared.contracts.inventory import AssetType, DataClassification, NetworkExposure, Relation

LISTINGS = ("models", "endpoints", "tuningJobs", "reasoningEngines")


class Google:
    """The fake with its address, and the credential that the service's environment holds."""

    def __init__(self, fake: FakeVertex, url: str, pem: str) -> None:
        self.fake, self.url, self.pem = fake, url, pem

    async def look(self, run: Look | None = None, **options: Any) -> Look:
        return await (run or Look()).at(CONNECTOR, **{"locations": [LOCATION], "endpoint_url": self.url, **options})


@pytest.fixture
async def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    fake = an_estate()
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    async with serving(fake.app()) as url:
        file, pem = service_account(tmp_path, f"{url}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        yield Google(fake, url, pem)
    assert not fake.drifted, "the fake answered what the API's description does not have"
    assert fake.methods <= {"GET"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_vertex, "TRIES", 1)
    monkeypatch.setattr(gcp_vertex, "READ_SECONDS", 0.3)


def scope(listing: str, project: str = PROJECT) -> str:
    return f"gcp:{project}:{LOCATION}:{listing}"


async def test_everything_of_vertex_is_found_in_the_credentials_own_project(google: Google) -> None:
    run = await google.look()
    assert not run.harvest.problems
    assert run.complete == set(map(scope, LISTINGS))
    assert {name: one.value("asset_type") for name, one in run.found.items()} == {
        "fraud": AssetType.FINE_TUNED_MODEL,
        "gemma": AssetType.FOUNDATION_MODEL,
        "gemma3": AssetType.FOUNDATION_MODEL,
        "support-tuned": AssetType.FINE_TUNED_MODEL,
        "gemini-2.5-flash": AssetType.FOUNDATION_MODEL,
        "gs://training/tickets.jsonl": AssetType.TRAINING_DATASET,
        "Vertex AI: open": AssetType.API_ENDPOINT,
        "Vertex AI: shut": AssetType.API_ENDPOINT,
        "helpdesk": AssetType.AI_AGENT,
    }


async def test_entries_lead_to_what_they_use(google: Google) -> None:
    run = await google.look()
    found = run.found
    assert links(found["Vertex AI: open"]) == {(Relation.USES_MODEL, resource(f"{PARENT}/models/1"))}
    assert resource(f"{PARENT}/models/1") in found["fraud"].identities
    assert links(found["gemma"]) == {(Relation.USES_MODEL, hosted_model("google", "gemma3"))}
    assert (Relation.DEPENDS_ON, image("europe-docker.pkg.dev/example-ml/serve/fraud:1")) in links(found["fraud"])
    # The tuning job and the model that it made are one thing.
    job, made = (
        next(one for one in run.sink.found if one.locator == f"{PARENT}/{where}")
        for where in ("tuningJobs/20", "models/3")
    )
    assert set(job.identities) & set(made.identities)
    assert links(job) == {
        (Relation.FINE_TUNED_FROM, hosted_model("google", "gemini-2.5-flash")),
        (Relation.TRAINED_ON, "dataset:gs://training/tickets.jsonl"),
    }
    assert endpoint(f"https://11.{LOCATION}-4711.prediction.vertexai.goog") in found["Vertex AI: shut"].identities


async def test_network_logging_encryption_and_images_are_noticed(google: Google) -> None:
    found = (await google.look()).found
    exposed = {name: found[f"Vertex AI: {name}"].value("network_exposure") for name in ("open", "shut")}
    assert exposed == {"open": NetworkExposure.PUBLIC, "shut": NetworkExposure.VPC}
    (claim,) = [one for one in found["Vertex AI: open"].claims if one.attribute == "network_exposure"]
    assert claim.kind is SourceKind.INFERRED
    assert noticed(found["Vertex AI: open"]) == {
        ObservationKind.INVOCATION_LOGGING_OFF,
        ObservationKind.NO_CUSTOMER_KEY,
    }
    assert not noticed(found["Vertex AI: shut"])
    assert noticed(found["fraud"]) == {
        ObservationKind.MUTABLE_IMAGE,
        ObservationKind.INLINE_SECRET,
        ObservationKind.NO_CUSTOMER_KEY,
    }


async def test_labels_declare(google: Google) -> None:
    fraud = (await google.look()).found["fraud"]
    assert fraud.value("owner_team") == "risk"
    assert fraud.value("data_classification") is DataClassification.REGULATED


async def test_credentials_go_nowhere(google: Google) -> None:
    google.fake.faults.planned["tuningJobs"] = always(refused("INTERNAL", f"token={PLANTED}", 400))
    run = await google.look()
    assert ObservationKind.INLINE_SECRET in noticed(run.found["helpdesk"])
    body = google.pem.splitlines()[1]
    for planted in (PLANTED, "planted-token-0815-0815", "ya29.", body):
        assert planted not in run.everything()


async def test_projects_are_those_that_are_named(google: Google) -> None:
    run = await google.look(projects=["another-one", "and-a-third"])
    assert not run.sink.found
    assert run.complete == {
        scope(listing, project) for listing in LISTINGS for project in ("another-one", "and-a-third")
    }


# -- a platform that fails ---------------------------------------------------------------------------------------------


async def test_a_refused_listing_is_stale_and_the_others_go_on(google: Google) -> None:
    google.fake.faults.planned["models"] = always(denied)
    run = await google.look()
    assert run.stale == {scope("models")}
    assert "PERMISSION_DENIED" in run.harvest.problems[0].message
    assert google.fake.faults.made["models"] == 1


async def test_a_throttled_call_waits_as_long_as_it_is_told(google: Google) -> None:
    google.fake.faults.planned["models"] = first(1, throttled)
    run = await google.look()
    assert not run.stale


async def test_a_call_that_stays_throttled_is_given_up(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_vertex, "RETRY_AFTER_LIMIT_SECONDS", 0.01)
    google.fake.faults.planned["models"] = always(
        refused("RESOURCE_EXHAUSTED", "Quota exceeded", 429, **{"Retry-After": "86400"})
    )
    run = await google.look()
    assert run.stale == {scope("models")}
    assert google.fake.faults.made["models"] == gcp_vertex.TRIES


async def test_a_token_that_is_refused_is_renewed_once(google: Google) -> None:
    google.fake.refuses_first_token = True
    run = await google.look()
    assert not run.stale
    assert google.fake.tokens == 2


async def test_an_expired_credential_leaves_everything_as_it_was(google: Google) -> None:
    google.fake.faults.planned["token"] = always(
        text('{"error": "invalid_grant", "error_description": "expired"}', 400)
    )
    run = await google.look()
    assert not run.sink.found
    assert not run.complete
    assert "invalid_grant" in run.harvest.problems[0].message


async def test_a_token_that_stays_refused_is_a_problem(google: Google) -> None:
    for listing in LISTINGS:
        google.fake.faults.planned[listing] = always(refused("UNAUTHENTICATED", "revoked", 401))
    run = await google.look()
    assert run.stale == set(map(scope, LISTINGS))
    assert {google.fake.faults.made[listing] for listing in LISTINGS} == {2}


async def test_without_a_credential_all_that_was_asked_for_is_stale(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    run = await google.look(projects=[PROJECT])
    assert run.stale == set(map(scope, LISTINGS))
    assert len(run.harvest.problems) == 1


@pytest.mark.usefixtures("impatient")
async def test_half_of_the_pages_and_then_an_error_is_stale_with_what_was_read(google: Google) -> None:
    google.fake.faults.planned["models"] = after(1, broken)
    run = await google.look()
    assert "fraud" in run.found
    assert "gemma" not in run.found
    assert run.stale == {scope("models")}


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param('{"value": ' + "[" * 200_000, id="deep"),
        "no json",
        "[]",
        '"text"',
        '{"unheard": "of"}',
        '{"models": "text"}',
        '{"models": [5]}',
        '{"models": [{"displayName": "no name"}]}',
        '{"models": [{"name": "x", "containerSpec": "text"}]}',
        '{"models": [',
    ],
)
async def test_a_200_with_nonsense_is_a_problem(google: Google, nonsense: str) -> None:
    google.fake.faults.planned["models"] = always(text(nonsense))
    run = await google.look()
    assert run.stale == {scope("models")}


async def test_an_answer_without_end_is_not_kept(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_vertex, "ANSWER_LIMIT_BYTES", 10_000)
    google.fake.faults.planned["models"] = always(text('{"models": [' + " " * 20_000 + "]}"))
    run = await google.look()
    assert "more than 10000 bytes" in run.sink.stale_scopes[scope("models")]


async def test_a_page_token_that_comes_again_ends_the_listing(google: Google) -> None:
    google.fake.faults.planned["models"] = always(text('{"models": [], "nextPageToken": "again"}'))
    run = await google.look()
    assert "given twice" in run.sink.stale_scopes[scope("models")]
    assert google.fake.faults.made["models"] == 2


async def test_pages_that_never_end_are_given_up(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_vertex, "PAGES_LIMIT", 6)
    google.fake.faults.planned["models"] = lambda number: web.json_response({"nextPageToken": f"t{number}"})
    run = await google.look()
    assert "more than 6 pages" in run.sink.stale_scopes[scope("models")]


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_does_not_answer_is_given_up(google: Google) -> None:
    google.fake.faults.hung = {"models"}
    run = await google.look()
    assert run.stale == {scope("models")}
    assert "helpdesk" in run.found


async def test_a_token_does_not_follow_to_another_address(google: Google) -> None:
    away = FakeVertex()
    async with serving(away.app()) as elsewhere:
        target = f"{elsewhere}/v1/projects/{PROJECT}/locations/{LOCATION}/models"
        google.fake.faults.planned["models"] = always(lambda: web.Response(status=302, headers={"Location": target}))
        run = await google.look()
    assert run.stale == {scope("models")}
    assert not away.methods


async def test_a_run_goes_on_where_it_was_interrupted(google: Google) -> None:
    run = await google.look(Look(read=[scope("models"), scope("endpoints")]))
    assert "models" not in google.fake.faults.made
    assert "helpdesk" in run.found


@pytest.mark.parametrize(
    "options", [{"locations": []}, {"locations": ["evil.example/"]}, {"locations": [LOCATION], "projects": ["../x"]}]
)
def test_options_that_are_malformed_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        CONNECTOR.options.model_validate(options)
