"""Fixtures that more than one folder uses."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from vmpulse_contract.rights import host_rights
from vmpulse_simulator.broker_files import ALL
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker, broker_available

ADMIN = BrokerUser("test.admin", "test-admin", ALL._replace(tags=("administrator", "impersonator")))
HOST = BrokerUser("test-host", "test-host", host_rights("test-host"))
"""For the program `vmpulse-agent`, whose host is named like its user."""

# For `make nightly`: pytest --hypothesis-profile=nightly, with a --timeout that fits.
hypothesis.settings.register_profile("nightly", max_examples=10_000, deadline=None)


def require(reason: str | None) -> None:
    """With a *reason* why a test cannot run: skip on a laptop, fail in CI, where a skip would pass for a success."""
    if reason is None:
        return
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason)
    pytest.skip(reason)


def require_broker() -> None:
    """RabbitMQ has to be there."""
    require(broker_available())


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBroker]:
    """A real node for the whole session; ``broker.url()`` is the address for a user who may do everything.

    It has the Prometheus plugin, which costs nothing at its start and while nobody asks, but 5 s at an orderly stop.
    Tests share it: each takes exchange and queue names, or virtual hosts, of its own.
    """
    require_broker()
    with PrivateBroker(root=tmp_path_factory.mktemp("broker"), users=[ADMIN, HOST], prometheus=True) as node:
        yield node
        node.kill()  # nothing of it is kept
