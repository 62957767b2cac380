"""Detection in this process on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.detection.application.live import Live
from services.detection.main import SERVICE
from services.detection.settings import DetectionSettings
from shared.service import create_app
from shared.testing import Harness, TestServer, harness

Replica = Callable[[], Any]


@pytest.fixture
async def detection(postgres: TestServer) -> AsyncIterator[Harness]:
    async with harness(SERVICE, DetectionSettings, postgres) as made:
        yield made
        assert [letter.error for letter in await made.dead_letters()] == []


@pytest.fixture
async def replica(detection: Harness) -> AsyncIterator[Replica]:
    """Opens further replicas of the service on the same database, in step with it as in operation."""
    async with AsyncExitStack() as stack:

        async def open_one() -> FastAPI:
            return await stack.enter_async_context(second_replica(detection))

        yield open_one


@asynccontextmanager
async def second_replica(detection: Harness) -> AsyncIterator[FastAPI]:
    """Another replica of the service on the same database."""
    app = create_app(SERVICE, detection.runtime.settings, background=False)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: FastAPI, detection: Harness) -> httpx.AsyncClient:
    """A client of another replica, with an administrator's token."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {detection.token()}"}
    return httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers)


def memory_of(detection: Harness) -> Live:
    memory: Live = detection.runtime.resources["live"]
    return memory


async def caught_up(detection: Harness) -> None:
    """Do what the background does when rules, containments or assets changed."""
    memory = memory_of(detection)
    await memory.load()
    memory._assets.clear()
