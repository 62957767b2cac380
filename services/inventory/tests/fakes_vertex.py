"""A Vertex AI that lists what it is told to, and the token server that its credential asks.

Its entries are held against the API's discovery document (fields and their types, in vertex_v1.json).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.inventory.tests.fakes import Faults

PROJECT = "example-ml"
LOCATION = "europe-west4"
PARENT = f"projects/4711/locations/{LOCATION}"
_SCHEMAS = json.loads((Path(__file__).parent / "vertex_v1.json").read_bytes())["schemas"]
_PLAIN: dict[str, Any] = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict}
_ENTRIES = {
    "models": "Model",
    "endpoints": "Endpoint",
    "tuningJobs": "TuningJob",
    "reasoningEngines": "ReasoningEngine",
}


def drift(schema: Any, value: Any, at: str) -> list[str]:
    """Where a value is not what the discovery document says."""
    if isinstance(schema, dict):
        return [] if value in schema["enum"] else [f"{at}: {value!r} is none of {schema['enum']}"]
    if schema == "any":
        return []
    if schema.startswith("["):
        if not isinstance(value, list):
            return [f"{at}: no list"]
        return [wrong for n, item in enumerate(value) for wrong in drift(schema[1:-1], item, f"{at}[{n}]")]
    if schema in _PLAIN:
        return [] if isinstance(value, _PLAIN[schema]) else [f"{at}: {value!r} is no {schema}"]
    fields = _SCHEMAS[schema]
    wrong = [f"{at}.{key}: unknown" for key in value if key not in fields]
    return wrong + [w for key, item in value.items() if key in fields for w in drift(fields[key], item, f"{at}.{key}")]


@dataclass
class FakeVertex:
    """One project's location with what it lists, by listing; other places are empty.

    Attributes:
        tokens: how many tokens were made; each is of its own, and only the newest is taken.
        refuses_first_token: the first is not taken, though it has not run out.
    """

    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    page_size: int = 1
    drifted: list[str] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)
    tokens: int = 0
    refuses_first_token: bool = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/token", self.token)
        app.router.add_route("*", "/v1/projects/{project}/locations/{location}/{listing}", self.handle)
        return app

    async def token(self, request: web.Request) -> web.StreamResponse:
        if (fault := await self.faults.of("token")) is not None:
            return fault
        assert (await request.post())["assertion"]
        self.tokens += 1
        made = {"access_token": f"ya29.a-token-of-tests-{self.tokens:04}", "expires_in": 3600, "token_type": "Bearer"}
        return web.json_response(made)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.methods.add(request.method)
        listing = request.match_info["listing"]
        if (fault := await self.faults.of(listing)) is not None:
            return fault
        wanted = f"Bearer ya29.a-token-of-tests-{self.tokens:04}"
        unwanted = self.refuses_first_token and self.tokens == 1
        if request.headers.get("Authorization") != wanted or unwanted:
            return refused("UNAUTHENTICATED", "Request had invalid authentication credentials.", 401)()
        here = (request.match_info["project"], request.match_info["location"]) == (PROJECT, LOCATION)
        entries = self.held.get(listing, []) if here else []
        self.drifted += [wrong for entry in entries for wrong in drift(_ENTRIES[listing], entry, listing)]
        start = int(request.query.get("pageToken", "0"))
        page = entries[start : start + self.page_size]
        answer: dict[str, Any] = {listing: page} if page else {}
        if start + self.page_size < len(entries):
            answer["nextPageToken"] = str(start + self.page_size)
        return web.json_response(answer)


def refused(status: str, message: str, code: int, **headers: str) -> Callable[[], web.StreamResponse]:
    """An error as Google's APIs give it."""
    error = {"error": {"code": code, "message": message, "status": status}}
    return lambda: web.json_response(error, status=code, headers=headers)


denied = refused("PERMISSION_DENIED", "Permission 'aiplatform.models.list' denied", 403)
throttled = refused("RESOURCE_EXHAUSTED", "Quota exceeded", 429, **{"Retry-After": "1"})
broken = refused("INTERNAL", "try again later", 500)


def service_account(folder: Path, token_uri: str) -> tuple[Path, str]:
    """A service account's key file whose token server is `token_uri`; with the private key in it."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    file = folder / "service-account.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "k1",
                "private_key": pem,
                "client_email": f"inventory@{PROJECT}.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": token_uri,
            }
        )
    )
    return file, pem


PLANTED = "sk-proj-" + "planted0815planted0815planted"


def an_estate() -> FakeVertex:
    """A model of its own, one of the garden, one that was tuned; an open and a shut endpoint; an agent."""
    own, garden, tuned = (f"{PARENT}/models/{n}" for n in (1, 2, 3))
    key = {"kmsKeyName": "projects/x/locations/y/keyRings/z/cryptoKeys/k"}
    return FakeVertex(
        held={
            "models": [
                {
                    "name": own,
                    "displayName": "fraud",
                    "versionId": "3",
                    "versionAliases": ["default"],
                    "modelSourceInfo": {"sourceType": "CUSTOM"},
                    "artifactUri": "gs://weights/fraud",
                    "containerSpec": {
                        "imageUri": "europe-docker.pkg.dev/example-ml/serve/fraud:1",
                        "env": [{"name": "OPENAI_API_KEY", "value": PLANTED}],
                    },
                    "labels": {"owner": "risk", "data_classification": "regulated"},
                },
                {
                    "name": garden,
                    "displayName": "gemma",
                    "modelSourceInfo": {"sourceType": "MODEL_GARDEN"},
                    "baseModelSource": {"modelGardenSource": {"publicModelName": "publishers/google/models/gemma3"}},
                    "encryptionSpec": key,
                },
                {"name": tuned, "displayName": "support-tuned", "modelSourceInfo": {"sourceType": "GENIE"}},
            ],
            "endpoints": [
                {
                    "name": f"{PARENT}/endpoints/10",
                    "displayName": "open",
                    "deployedModels": [
                        {"id": "1", "model": f"{own}@3", "disableContainerLogging": True, "serviceAccount": "a@b.c"}
                    ],
                },
                {
                    "name": f"{PARENT}/endpoints/11",
                    "displayName": "shut",
                    "privateServiceConnectConfig": {"enablePrivateServiceConnect": True},
                    "predictRequestResponseLoggingConfig": {"enabled": True},
                    "encryptionSpec": key,
                    "deployedModels": [{"id": "2", "model": tuned}],
                    "dedicatedEndpointEnabled": True,
                    "dedicatedEndpointDns": f"11.{LOCATION}-4711.prediction.vertexai.goog",
                },
            ],
            "tuningJobs": [
                {
                    "name": f"{PARENT}/tuningJobs/20",
                    "state": "JOB_STATE_SUCCEEDED",
                    "tunedModelDisplayName": "support-tuned",
                    "baseModel": "gemini-2.5-flash",
                    "supervisedTuningSpec": {"trainingDatasetUri": "gs://training/tickets.jsonl"},
                    "tunedModel": {"model": f"{tuned}@1", "endpoint": f"{PARENT}/endpoints/11"},
                },
                {"name": f"{PARENT}/tuningJobs/21", "state": "JOB_STATE_RUNNING", "baseModel": "gemini-2.5-pro"},
            ],
            "reasoningEngines": [
                {
                    "name": f"{PARENT}/reasoningEngines/30",
                    "displayName": "helpdesk",
                    "spec": {
                        "agentFramework": "google-adk",
                        "packageSpec": {"pickleObjectGcsUri": "gs://agents/helpdesk.pkl", "pythonVersion": "3.12"},
                        "deploymentSpec": {"env": [{"name": "SEARCH_TOKEN", "value": "planted-token-0815-0815"}]},
                        "classMethods": [{"name": "query"}],
                        "serviceAccount": "agent@example-ml.iam.gserviceaccount.com",
                    },
                }
            ],
        }
    )
