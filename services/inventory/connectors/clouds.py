"""What the connectors of clouds have in common: tags as declarations, details asked for beside one another, and scopes
that could not even be tried."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from services.inventory.connectors.harvest import Harvest
from services.inventory.domain.claims import Found
from services.inventory.domain.secrets import without_secrets
from shared.contracts.inventory import DataClassification, DeploymentEnvironment

T = TypeVar("T")

PAGES_LIMIT = 10_000
"""Most pages of one listing; a platform that has more to give than this goes round in circles."""


class Unintelligible(Exception):
    """The platform answered with something other than its API's description says."""


_OWNER = frozenset({"owner", "owner-team", "team", "owning-team", "service-owner", "business-owner", "ai-owner"})
_EMAIL = frozenset({"owner-email", "contact", "owner-contact", "contact-email"})
_CLASS = frozenset({"data-classification", "classification", "data-class", "dataclassification", "data-sensitivity"})
_STAGE = frozenset({"environment", "env", "stage", "deployment-env", "deployment-environment"})
STAGES: Mapping[str, DeploymentEnvironment] = {
    "prod": DeploymentEnvironment.PRODUCTION,
    "production": DeploymentEnvironment.PRODUCTION,
    "live": DeploymentEnvironment.PRODUCTION,
    "staging": DeploymentEnvironment.STAGING,
    "stage": DeploymentEnvironment.STAGING,
    "preprod": DeploymentEnvironment.STAGING,
    "dev": DeploymentEnvironment.DEVELOPMENT,
    "development": DeploymentEnvironment.DEVELOPMENT,
    "test": DeploymentEnvironment.DEVELOPMENT,
    "research": DeploymentEnvironment.RESEARCH,
    "sandbox": DeploymentEnvironment.RESEARCH,
}
_TEXT_LIMIT = 200
_MAIL_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def tagged(found: Found, tags: Mapping[str, Any] | None, locator: str) -> Found:
    """The entry with what its tags (labels) state: owner, contact, data classification, stage.

    Keys are compared without regard to case and to which of `-`, `_`, `:` and blank joins their words. A value that
    the inventory has no word for (a classification "C3") states nothing.
    """
    for key, value in (tags or {}).items():
        text = str(value or "").strip()[:_TEXT_LIMIT]
        if not text or not text.isprintable():
            continue
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_:/ ]+", "-", str(key)).lower()
        at = f"{locator}#tags/{key}"
        if words in _OWNER:
            mail = _MAIL_ADDRESS.fullmatch(text) is not None
            found = found.declared(at, owner_email=text) if mail else found.declared(at, owner_team=text)
        elif words in _EMAIL and _MAIL_ADDRESS.fullmatch(text):
            found = found.declared(at, owner_email=text)
        elif words in _CLASS and text.lower() in set(DataClassification):
            found = found.declared(at, data_classification=DataClassification(text.lower()))
        elif words in _STAGE and text.lower() in STAGES:
            found = found.declared(at, deployment_env=STAGES[text.lower()])
    return found


class Remembered:
    """What was made of details that cannot have changed since, so that the next run need not ask for them again.

    Kept in this process only and never longer than a day; what is kept holds no credential. An entry is the same one
    when the marker that its listing gives (a moment of change, a state) is the same.
    """

    def __init__(self, limit: int, seconds: float = 86_400.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, tuple[Hashable, float, Any]] = OrderedDict()

    def recall(self, key: Hashable, marker: Hashable) -> Any:
        """What was kept of it; None when nothing was, or it has changed since."""
        kept = self._kept.get(key)
        if kept is None or kept[0] != marker or time.monotonic() - kept[1] > self._seconds:
            return None
        self._kept.move_to_end(key)
        return kept[2]

    def keep(self, key: Hashable, marker: Hashable, value: Any) -> None:
        """Keep it; what was asked for longest ago makes room."""
        self._kept[key] = (marker, time.monotonic(), value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        self._kept.clear()


def parsed(body: bytes) -> Any:
    """A JSON document. Raises ValueError where it is none."""
    try:
        return orjson.loads(body)
    except ValueError:
        # The standard library's takes halves of surrogate pairs, which platforms do let their users write.
        try:
            return json.loads(body)
        except RecursionError as error:
            raise ValueError("it is too deep") from error


def without_credentials(value: Any) -> Any:
    """A document with each credential in its texts replaced by a reference to it."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {key: without_credentials(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_credentials(item) for item in value]
    return value


async def answers(
    entries: Iterable[T], ask: Callable[[T], Awaitable[Any]], failures: tuple[type[BaseException], ...]
) -> list[tuple[T, Any, BaseException | None]]:
    """Each entry with what was answered of it or the failure, all asked at once; `ask` bounds how many really are.

    Raises what is no failure of the platform.
    """
    asked = list(entries)
    said = await asyncio.gather(*(ask(entry) for entry in asked), return_exceptions=True)
    told: list[tuple[T, Any, BaseException | None]] = []
    for entry, answer in zip(asked, said, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, failures):
                raise answer
            told.append((entry, None, answer))
        else:
            told.append((entry, answer, None))
    return told


async def abandon(harvest: Harvest, scopes: Iterable[str], where: str, error: object) -> None:
    """Scopes that cannot be read for one reason: each is stale, the reason is told once."""
    harvest.fail(where, error)
    for name in scopes:
        async with harvest.scope(name) as scope:
            scope.failure = f"{where}: {error}"


async def side_by_side(works: Sequence[Callable[[], Awaitable[None]]], at_once: int) -> None:
    """Do them, that many at a time; the first error ends all."""
    gate = asyncio.Semaphore(at_once)

    async def one(work: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await work()

    tasks = [asyncio.ensure_future(one(work)) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
