"""What RabbitMQ is configured with: it understands it, and the memory that it may take is there."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.conftest import require_broker
from tests.deploy.compose_file import ROOT
from vmpulse_simulator.private_broker import PrivateBroker

RABBITMQ = ROOT / "deploy/rabbitmq"
CREDIT = "application:get_env(rabbit, credit_flow_default_credit)."


@pytest.mark.long  # two nodes of its own
@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_a_real_node_takes_the_credit_for_its_own_steps() -> None:
    """The file is Erlang that the node reads, and the setting is one that it has; without it, it is another."""
    require_broker()
    advanced = (RABBITMQ / "advanced.config").read_text(encoding="utf-8")
    said = {}
    for config in ("[].", advanced):
        async with PrivateBroker(advanced_config=config) as broker:
            said[config] = await asyncio.to_thread(broker.ctl, "eval", CREDIT)
    assert "{ok,{32,16}}" in said[advanced]
    assert "{ok,{400,200}}" in said["[]."]


def test_the_container_holds_what_is_under_way_when_the_alarm_comes() -> None:
    """A flood of large messages takes a node to 1.2 GB before publishers are stopped, whatever the watermark is."""
    conf = (RABBITMQ / "rabbitmq.conf").read_text(encoding="utf-8")
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    watermark = re.search(r"^vm_memory_high_watermark\.absolute = (\d+)MiB$", conf, re.MULTILINE)
    limit = re.search(r"RABBITMQ_MEMORY:-(\d+)m", compose)
    assert watermark
    assert limit
    assert int(limit[1]) >= 2 * int(watermark[1])
