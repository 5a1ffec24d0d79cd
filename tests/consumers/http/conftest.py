"""A small fleet with one of everything, and a client for it over a real loopback socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.consumers.http.serving import served
from tests.consumers.http.stocked_view import Fleet, small_fleet


@pytest.fixture
def fleet() -> Fleet:
    """Three hosts and six VMs; see ``small_fleet``."""
    return small_fleet()


@pytest.fixture
async def api(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    """The fleet's API."""
    async with (
        served(fleet) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steady_api() -> AsyncIterator[httpx.AsyncClient]:
    """The API of a small fleet that nobody touches, served once for all tests of a module that only read."""
    async with (
        served(small_fleet()) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        yield client
