"""An AWS that answers what it is told to, over HTTP, in the words of the SDK's own descriptions of the APIs.

Routes, parameters and paging come from botocore's service models, and each answer is held against the operation's
output shape: what the real API could not say is a mistake of the fake (`drifted`): it cannot drift from the SDK.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import botocore.session
from aiohttp import web

from services.inventory.tests.fakes import Faults

REGION = "eu-west-1"
OWN = "123456789012"
OTHER = "210987654321"
WHEN = 1_767_225_600
_SERVICES = ("bedrock", "bedrock-agent", "sagemaker", "resourcegroupstaggingapi", "sts")
_TYPES = {
    "string": str,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "timestamp": (int, float),
}

Answer = Mapping[str, Any] | list[Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]


@cache
def _model(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


@cache
def _paging(service: str) -> Any:
    return botocore.session.get_session().get_paginator_model(service)


@cache
def _routes() -> dict[tuple[str, str, int], list[tuple[str, re.Pattern[str], str]]]:
    """Operations of Bedrock's two APIs by method, first part and number of parts of their paths."""
    made: dict[tuple[str, str, int], list[tuple[str, re.Pattern[str], str]]] = {}
    for service in ("bedrock", "bedrock-agent"):
        for name in _model(service).operation_names:
            http = _model(service).operation_model(name).http
            path = http["requestUri"].partition("?")[0].strip("/")
            pattern = "".join(
                f"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else re.escape(part)
                for part in re.split(r"(\{\w+\})", path)
            )
            key = (http["method"], path.partition("/")[0], path.count("/"))
            made.setdefault(key, []).append((service, re.compile(pattern), name))
    for routes in made.values():
        routes.sort(key=lambda route: route[1].groups)
    return made


def drift(shape: Any, value: Any, at: str = "") -> list[str]:
    """Where a value is not what the shape says."""
    if shape.type_name == "structure":
        if not isinstance(value, Mapping):
            return [f"{at}: no structure"]
        wrong = [f"{at}.{name}: missing" for name in shape.required_members if name not in value]
        for name, item in value.items():
            if name not in shape.members:
                wrong.append(f"{at}.{name}: unknown")
            else:
                wrong += drift(shape.members[name], item, f"{at}.{name}")
        return wrong
    if shape.type_name == "list":
        if not isinstance(value, list):
            return [f"{at}: no list"]
        return [wrong for n, item in enumerate(value) for wrong in drift(shape.member, item, f"{at}[{n}]")]
    if shape.type_name == "map":
        return [wrong for key, item in value.items() for wrong in drift(shape.value, item, f"{at}[{key}]")]
    if not isinstance(value, _TYPES[shape.type_name]):  # type: ignore[arg-type]
        return [f"{at}: {value!r} is no {shape.type_name}"]
    if getattr(shape, "enum", None) and value not in shape.enum:
        return [f"{at}: {value!r} is none of {shape.enum}"]
    return []


@dataclass
class FakeAws:
    """Accounts and regions with what their operations answer.

    Attributes:
        estate: (account, region) -> operation -> its answer: a list for a listing, a document, or what makes one of the
            call's parameters. An operation that is not there lists nothing, or knows no such resource.
        roles: role ARN -> the external id that it demands ("" for none); others cannot be assumed.
        drifted: answers that the real API could not have given.
    """

    estate: dict[tuple[str, str], dict[str, Answer]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    page_size: int = 2
    validate: bool = True
    drifted: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        credential = re.search(r"Credential=(\w+)/\d+/([\w-]+)/([\w-]+)/", request.headers.get("Authorization", ""))
        if credential is None:
            return web.json_response({"message": "not signed"}, status=403)
        account = credential[1].removeprefix("ASIAROLE") if credential[1].startswith("ASIAROLE") else OWN
        service, operation, parameters = await self._operation(request)
        self.calls.append((account, operation))
        if (fault := await self.faults.of(operation)) is not None:
            return fault
        if service == "sts":
            return self._sts(operation, parameters, account)
        given = self.estate.get((account, credential[2]), {}).get(operation)
        shape = _model(service).operation_model(operation)
        answer = self._answer(service, operation, given, parameters)
        if answer is None:
            return refused("ResourceNotFoundException", f"no such resource for {operation}", 404)()
        if self.validate:
            self.drifted += drift(shape.output_shape, answer, operation)
        return web.Response(text=json.dumps(_on_the_wire(shape.output_shape, answer)), content_type="application/json")

    async def _operation(self, request: web.Request) -> tuple[str, str, dict[str, Any]]:
        body = await request.read()
        if target := request.headers.get("X-Amz-Target"):
            service = "sagemaker" if target.startswith("SageMaker") else "resourcegroupstaggingapi"
            return service, target.rpartition(".")[2], json.loads(body)
        if body.startswith(b"Action="):
            form = dict(parse_qsl(body.decode()))
            return "sts", form["Action"], form
        path = request.raw_path.partition("?")[0].strip("/")
        for service, pattern, name in _routes().get((request.method, path.partition("/")[0], path.count("/")), ()):
            if match := pattern.fullmatch(path):
                named = {key: unquote(value) for key, value in match.groupdict().items()}
                return service, name, {**named, **request.query, **(json.loads(body) if body else {})}
        raise web.HTTPNotFound(text=f"no operation {request.method} {request.path}")

    def _answer(self, service: str, operation: str, given: Any, parameters: Mapping[str, Any]) -> Any:
        if callable(given):
            given = given(parameters)
        if isinstance(given, Mapping):
            return given
        paging = _paging(service)._paginator_config.get(operation)
        if paging is None:
            unasked = {"ListFoundationModels": {"modelSummaries": given or []}}
            return unasked.get(operation, {} if operation == "GetModelInvocationLoggingConfiguration" else None)
        start = int(parameters.get(paging["input_token"]) or 0)
        entries = given or []
        answer: dict[str, Any] = {paging["result_key"]: entries[start : start + self.page_size]}
        if start + self.page_size < len(entries):
            answer[paging["output_token"]] = str(start + self.page_size)
        return answer

    def _sts(self, operation: str, parameters: Mapping[str, Any], account: str) -> web.Response:
        if operation == "GetCallerIdentity":
            arn = f"arn:aws:sts::{account}:assumed-role/inventory/session"
            return _xml(operation, {"UserId": "AROAEXAMPLE", "Account": account, "Arn": arn})
        role = parameters["RoleArn"]
        if role not in self.roles or self.roles[role] != parameters.get("ExternalId", ""):
            body = (
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
                f"<Message>not authorized to perform sts:AssumeRole on {escape(role)}</Message></Error></ErrorResponse>"
            )
            return web.Response(text=body, status=403, content_type="text/xml")
        made = {
            "AccessKeyId": "ASIAROLE" + role.split(":")[4],
            "SecretAccessKey": "secret-of-an-assumed-role-4711",
            "SessionToken": "token-of-an-assumed-role-4711",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        return _xml(operation, {"Credentials": made})


def _on_the_wire(shape: Any, value: Any) -> Any:
    """JSON as the API sends it: names and moments as the shape says."""
    if shape.type_name == "structure":
        return {
            shape.members[name].serialization.get("name", name) if name in shape.members else name: _on_the_wire(
                shape.members[name], item
            )
            if name in shape.members
            else item
            for name, item in value.items()
        }
    if shape.type_name == "list":
        return [_on_the_wire(shape.member, item) for item in value]
    if shape.type_name == "timestamp" and shape.serialization.get("timestampFormat") == "iso8601":
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
    return value


def _xml(operation: str, values: Mapping[str, Any]) -> web.Response:
    def shown(items: Mapping[str, Any]) -> str:
        return "".join(
            f"<{key}>{shown(item) if isinstance(item, Mapping) else escape(str(item))}</{key}>"
            for key, item in items.items()
        )

    assert not drift(_model("sts").operation_model(operation).output_shape, {**values, **_moments(values)}), (
        "the fake's STS answers as the API does"
    )
    body = (
        f'<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{operation}Result>{shown(values)}'
        f"</{operation}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{operation}Response>"
    )
    return web.Response(text=body, content_type="text/xml")


def _moments(values: Mapping[str, Any]) -> dict[str, Any]:
    if "Credentials" not in values:
        return {}
    return {"Credentials": {**values["Credentials"], "Expiration": WHEN}}


def refused(code: str, message: str, status: int) -> Callable[[], web.StreamResponse]:
    """An error as REST and JSON services of AWS give it."""
    return lambda: web.json_response(
        {"__type": code, "message": message}, status=status, headers={"x-amzn-ErrorType": code}
    )


denied = refused("AccessDeniedException", "the role is not authorized to perform this", 403)
throttled = refused("ThrottlingException", "Rate exceeded", 429)
expired = refused("ExpiredTokenException", "The security token included in the request is expired", 403)
broken = refused("InternalServerException", "try again later", 500)
