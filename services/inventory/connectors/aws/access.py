"""How AWS is reached: accounts by the service's own identity and by roles it assumes, and their regions.

Credentials are those that boto finds in the service's environment (a role in a cluster); a run names none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from services.inventory.connectors.addresses import check_endpoint
from services.inventory.connectors.clouds import PAGES_LIMIT, Remembered, Unintelligible, abandon, parsed, side_by_side
from services.inventory.connectors.harvest import Harvest
from services.inventory.settings import InventorySettings
from shared.errors import Invalid
from shared.models import Flag, In

CALLS_AT_ONCE = 12
PLACES_AT_ONCE = 2
REMEMBERED = Remembered(20_000)
"""Details of models, endpoints and parts of agents, by their last change: a call each, and most of a run."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0
TRIES = 4
"""Of a call that is throttled or meets a fault of the platform's; then it failed."""
_TAGS_PAGE = 100
_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorizedException"})

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
RoleArn = Annotated[
    str, StringConstraints(max_length=600, pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+$")
]


class Options(In):
    regions: Annotated[list[Region], Field(min_length=1, max_length=40)] = Field(
        description="Regions to look in, e.g. eu-west-1."
    )
    role_arns: Annotated[list[RoleArn], Field(max_length=500)] = Field(
        default_factory=list,
        description="Roles to assume, one in each further account; the service's own identity must be allowed to.",
    )
    own_account: Flag = Field(
        default=True, description="Whether to look in the account of the service's own identity as well."
    )
    external_id_variable: Annotated[str, StringConstraints(pattern=r"^INVENTORY_EXTERNAL_ID(_[A-Z0-9]+)*$")] | None = (
        Field(
            default=None,
            description="The service's environment variable that holds the external id which the roles demand.",
        )
    )
    endpoint_url: Annotated[str, StringConstraints(max_length=2_048)] | None = Field(
        default=None, description="Another address of the AWS APIs, where the service allows it."
    )


def check(options: Options, settings: InventorySettings) -> None:
    """Raises Invalid for an address that is not allowed, an external id that is not there, or nowhere to look."""
    check_endpoint(options.endpoint_url, settings)
    if not options.own_account and not options.role_arns:
        raise Invalid("without the own account at least one role is needed", field="/options/role_arns")
    accounts = [role.split(":")[4] for role in options.role_arns]
    if len(set(accounts)) < len(accounts):
        raise Invalid("one account is looked into by one role", field="/options/role_arns")
    if options.external_id_variable and not os.environ.get(options.external_id_variable):
        raise Invalid("this service has no such variable", field="/options/external_id_variable")


def failures(*more: type[BaseException]) -> tuple[type[BaseException], ...]:
    """What a call may fail with because of the platform or the way to it; and what else its reader may."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError, Unintelligible, TimeoutError, OSError, *more


def is_denied(error: BaseException | None) -> bool:
    """Whether the platform refused for want of a permission: asking again will not help."""
    response = getattr(error, "response", None) or {}
    return response.get("Error", {}).get("Code") in _DENIED


@dataclass(frozen=True, slots=True)
class Place:
    """A region of an account."""

    account: str
    region: str
    partition: str = "aws"

    def scope(self, listing: str) -> str:
        return f"aws:{self.account}:{self.region}:{listing}"

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


class Api:
    """One service's calls in one place; no more of them at once than the run may have."""

    def __init__(self, client: Any, gate: asyncio.Semaphore) -> None:
        from botocore.parsers import ResponseParserError

        self._client = client
        self._gate = gate
        if client.meta.service_model.metadata["protocol"] in {"json", "rest-json"}:
            client.meta.events.register("response-received", partial(_refuse_nonsense, client.meta.service_model))
        # What the SDK's parsers raise when an answer is not what the API's description says; some of it by accident.
        self._nonsense = (ResponseParserError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

    async def ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """One call's answer. Raises one of `failures`."""
        call = getattr(self._client, operation)
        async with self._gate:
            try:
                answer: Mapping[str, Any] = await call(**parameters)
            except self._nonsense as error:
                raise Unintelligible(f"{operation}: the answer cannot be read ({type(error).__name__})") from error
        return answer

    async def pages(
        self, operation: str, key: str, continued: str = "nextToken", **parameters: Any
    ) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Each page's entries. Raises one of `failures`, Unintelligible also where pages do not end."""
        seen: set[str] = set()
        following: dict[str, str] = {}
        for _ in range(PAGES_LIMIT):
            answer = await self.ask(operation, **parameters, **following)
            yield list(answer.get(key) or ())
            after = answer.get(continued)
            if not after:
                return
            if after in seen:
                raise Unintelligible(f"{operation}: the same page token was given twice")
            seen.add(after)
            following = {continued: after}
        raise Unintelligible(f"{operation}: more than {PAGES_LIMIT} pages")


def _refuse_nonsense(
    service_model: Any, *, event_name: str, response_dict: Mapping[str, Any] | None = None, **_: Any
) -> None:
    """Raises Unintelligible for an answer that is no JSON object, or shares no field with the API's description: the
    SDK takes both for an empty document, and an empty listing says that everything is gone."""
    if not response_dict or response_dict["status_code"] >= 300:
        return
    operation = event_name.rpartition(".")[2]
    try:
        document = parsed(response_dict["body"] or b"{}")
    except ValueError as error:
        raise Unintelligible(f"{operation}: the answer is no JSON") from error
    shape = service_model.operation_model(operation).output_shape
    names = {member.serialization.get("name", name) for name, member in shape.members.items()} if shape else set()
    if not isinstance(document, dict) or (document and not names & document.keys()):
        raise Unintelligible(f"{operation}: the answer is not what the API's description says")
    wanted = (
        {shape.members[name].serialization.get("name", name) for name in shape.required_members} if shape else set()
    )
    if missing := wanted - document.keys():
        raise Unintelligible(f"{operation}: the answer lacks {min(missing)}")


@dataclass(slots=True)
class Reach:
    """A place with the means to call its services."""

    place: Place
    session: Any
    gate: asyncio.Semaphore
    endpoint_url: str | None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @asynccontextmanager
    async def api(self, service: str) -> AsyncIterator[Api]:
        async with _client(self.session, service, self.place.region, self.endpoint_url, self.credentials) as client:
            yield Api(client, self.gate)

    def key(self, operation: str, name: str) -> Hashable:
        """By what an operation's answer about a thing is remembered."""
        return self.endpoint_url, self.place, operation, name

    async def tags(self, harvest: Harvest, kinds: Sequence[str]) -> dict[str, dict[str, str]]:
        """ARN -> tags of all resources of these kinds that have any, a hundred a call. Where they cannot be read, that
        is a problem and a stale scope of its own: what is found is then found without them."""
        tags: dict[str, dict[str, str]] = {}
        name = self.place.scope(f"tags:{kinds[0].partition(':')[0]}")
        async with (
            harvest.scope(name, failures=failures(), where=f"GetResources in {self.place.account} {self.place.region}"),
            self.api("resourcegroupstaggingapi") as api,
        ):
            pages = api.pages(
                "get_resources",
                "ResourceTagMappingList",
                "PaginationToken",
                ResourceTypeFilters=list(kinds),
                ResourcesPerPage=_TAGS_PAGE,
            )
            async for page in pages:
                for entry in page:
                    tags[str(entry.get("ResourceARN"))] = {
                        str(tag.get("Key")): str(tag.get("Value")) for tag in entry.get("Tags") or ()
                    }
        return tags


@asynccontextmanager
async def _client(
    session: Any, service: str, region: str, endpoint_url: str | None, credentials: Mapping[str, str]
) -> AsyncIterator[Any]:
    """A client of one service in one region. Raises one of `failures` where none can be made."""
    from botocore.config import Config

    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                session.client(
                    service,
                    region_name=region,
                    endpoint_url=endpoint_url,
                    # Standard mode waits longer with each try, up to 20 s, and gives up for good when most tries fail.
                    config=Config(
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=READ_SECONDS,
                        retries={"mode": "standard", "total_max_attempts": TRIES},
                        max_pool_connections=CALLS_AT_ONCE,
                        user_agent="colonnade-inventory",  # the SDK's own is put together anew for each call
                    ),
                    **credentials,
                )
            )
        except ValueError as error:
            raise Unintelligible(f"no client of {service}: {error}") from error
        yield client


async def everywhere(
    options: Options, harvest: Harvest, listings: Sequence[str], look: Callable[[Reach], Awaitable[None]]
) -> None:
    """Look in each region of each account. A role that cannot be assumed makes its account's scopes stale, no others.

    Args:
        listings: names of all scopes that `look` reads in a place. A place whose scopes were all read by an earlier try
            of the run is left out; else all of it is read, because some of it depends on the rest.
    """
    # Imported here: boto and its API descriptions hold 60 MB that a service which never looks at AWS should not.
    import aioboto3
    from aiobotocore.session import AioSession

    made = AioSession()
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    session = aioboto3.Session(botocore_session=made)
    gate = asyncio.Semaphore(CALLS_AT_ONCE)
    entrances: dict[str, tuple[str, Mapping[str, str]]] = {}
    if options.own_account:
        try:
            async with _client(session, "sts", options.regions[0], options.endpoint_url, {}) as client:
                answer = await Api(client, gate).ask("get_caller_identity")
            account, partition = str(answer["Account"]), str(answer["Arn"]).split(":")[1]
        except failures(KeyError, IndexError) as error:
            # Whose assets these would be is not known, so there is no scope to speak of.
            await abandon(harvest, ["aws:own-account"], "sts GetCallerIdentity", error)
        else:
            async with harvest.scope("aws:own-account"):
                entrances[account] = partition, {}
    for role in options.role_arns:  # a role in the own account is taken rather than the own identity
        account, partition = role.split(":")[4], role.split(":")[1]
        try:
            credentials = await _assume(options, session, gate, role)
        except failures(KeyError) as error:
            scopes = [Place(account, region).scope(listing) for region in options.regions for listing in listings]
            await abandon(harvest, scopes, f"sts AssumeRole {role}", error)
            entrances.pop(account, None)
        else:
            entrances[account] = partition, credentials
    reaches = [
        Reach(Place(account, region, partition), session, gate, options.endpoint_url, credentials)
        for account, (partition, credentials) in entrances.items()
        for region in dict.fromkeys(options.regions)
    ]
    unread = [reach for reach in reaches if not all(harvest.is_read(reach.place.scope(name)) for name in listings)]

    async def guarded(reach: Reach) -> None:
        try:
            await look(reach)
        except failures() as error:
            # Before any listing: a client could not be made.
            scopes = [reach.place.scope(name) for name in listings]
            await abandon(harvest, scopes, f"clients of {reach.place.account} {reach.place.region}", error)

    await side_by_side([partial(guarded, reach) for reach in unread], PLACES_AT_ONCE)


def _moment(value: Any) -> Any:
    """A moment as the SDK parses it, faster: its own parser takes any form, for a tenth of a millisecond each."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return parse_timestamp(value)


async def _assume(options: Options, session: Any, gate: asyncio.Semaphore, role: str) -> dict[str, str]:
    external = os.environ.get(options.external_id_variable) if options.external_id_variable else None
    async with _client(session, "sts", options.regions[0], options.endpoint_url, {}) as client:
        answer = await Api(client, gate).ask(
            "assume_role",
            RoleArn=role,
            RoleSessionName="colonnade-inventory",
            **({"ExternalId": external} if external else {}),
        )
    made = answer["Credentials"]
    return {
        "aws_access_key_id": str(made["AccessKeyId"]),
        "aws_secret_access_key": str(made["SecretAccessKey"]),
        "aws_session_token": str(made["SessionToken"]),
    }
