"""Debian's Prometheus with the deployed configuration scrapes a fleet, a view, an agent on libvirt and a broker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import re
import subprocess
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.compose.checks import dashboard_queries
from tests.conftest import ADMIN, HOST
from tests.deploy.private_prometheus import (
    AGENT,
    BROKER,
    CONFIG,
    FOLDER,
    LOOPBACK,
    ROOT,
    RULES,
    VIEW,
    PrivatePrometheus,
    agents_file,
    jobs,
    localized,
    require_prometheus,
    until_nothing,
)
from tests.real_broker import delete_queue, started
from vmpulse_consumers.settings import ViewSettings
from vmpulse_contract import topology
from vmpulse_simulator.broker_files import free_ports
from vmpulse_simulator.private_broker import PrivateBroker
from vmpulse_simulator.view_process import ViewProcess, write_secret

# The first test waits for the session's broker, too.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
OURS = '{job=~"vmpulse-.*", __name__=~"vmpulse_.*"}'
# With this seed some VMs are down and some paused, as the page's queries want it.
HOSTS, VMS, SEED = 3, 20, 7
HISTOGRAM = ("_bucket", "_count", "_sum")
TARGET_LABELS = {"cluster", "instance", "job", "le"}
"""Of the configuration, and the bounds of histograms."""


@dataclasses.dataclass(frozen=True)
class Documented:
    """A row of the page's tables."""

    kind: str
    labels: frozenset[str]


@functools.cache
def documented() -> dict[str, Documented]:
    """All metrics of the page's tables, by name."""
    rows = re.findall(r"^\| `(vmpulse_\w+)` \| (\w+)[^|]* \| ([^|]*)\|", PAGE, re.MULTILINE)
    return {name: Documented(kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def documented_queries() -> list[str]:
    """All expressions in the page's prose, names alone included."""
    prose = "\n".join(line for line in PAGE.splitlines() if not line.startswith("|"))
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [span for span in spans if re.search(r"\bvmpulse_[a-z]", span)]


def family(sample: str) -> str:
    """The documented name of a sample, which for those of histograms is not their own."""
    stem = sample.removesuffix(next((end for end in HISTOGRAM if sample.endswith(end)), ""))
    return stem if sample not in documented() and stem in documented() else sample


@contextlib.asynccontextmanager
async def monitored(broker: PrivateBroker, folder: Path, view: int, fleet: int, agent: int) -> AsyncIterator[None]:
    """A view, a simulated fleet and an agent on libvirt's test driver, each with its metrics at the given port."""
    url = f"amqp://{{}}@{broker.host}:{broker.port}/"
    secrets = {user.name: folder / user.name for user in (ADMIN, HOST)}
    for user in (ADMIN, HOST):
        write_secret(secrets[user.name], user.password)
    simulated = {"hosts": HOSTS, "vms": VMS, "seed": SEED, "tick": 0.5, "change-percent": 50}
    simulated |= {"agent-restart-percent": 0, "metrics-port": fleet}
    real = {"host": HOST.name, "uri": "test:///default", "tick-s": 0.5, "metrics-port": agent}

    def arguments(user: str, chosen: Mapping[str, object]) -> list[str]:
        options = {**chosen, "broker-url": url.format(user), "broker-password-file": secrets[user]}
        return ["run", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]

    async with (
        ViewProcess(url.format(ADMIN.name), ADMIN.password, view, folder),
        started("vmpulse_simulator", *arguments(ADMIN.name, simulated)),
        started("vmpulse_agent", *arguments(HOST.name, real)),
    ):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(
    broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PrivatePrometheus]:
    """Prometheus at work; agents are found in both ways: the fleet by the composed name, the other in a file."""
    require_prometheus()
    folder = tmp_path_factory.mktemp("prometheus")
    own, view, fleet, agent, _ = dataclasses.astuple(free_ports())
    example = (FOLDER / "agents" / "README.md").read_text(encoding="utf-8")
    (folder / "agents").mkdir()
    (folder / "agents" / "others.yml").write_text(agents_file(example, f"{LOOPBACK}:{agent}"), encoding="utf-8")
    ports = {VIEW: view, AGENT: fleet, BROKER: broker.ports.prometheus}
    config = localized({name: f"{LOOPBACK}:{port}" for name, port in ports.items()}, folder / "agents")
    try:
        # Prometheus first: it looks at its targets only 5 s after its start.
        async with PrivatePrometheus(config, own, folder) as server, monitored(broker, folder, view, fleet, agent):
            yield server
    finally:
        await delete_queue(broker, topology.view_queue(ViewSettings().name).name)


async def test_configuration_and_rules_are_valid() -> None:
    """Prometheus' own tool finds nothing wrong with what is deployed."""
    require_prometheus()
    for command in (("config", "--syntax-only", "--lint-fatal", str(CONFIG)), ("rules", "--lint-fatal", str(RULES))):
        done = await asyncio.to_thread(
            subprocess.run, ("promtool", "check", *command), capture_output=True, text=True, timeout=10, check=False
        )
        assert (done.returncode, "WARNING" in done.stdout) == (0, False), done.stdout + done.stderr


@pytest.mark.broker
async def test_target_of_every_job_is_up(prometheus: PrivatePrometheus) -> None:
    """Each deployed job has found its target, labelled as it is deployed, and scrapes it."""
    expected = {(job, "") for job in jobs() - {"vmpulse-agent-hosts"}} | {("vmpulse-agent-hosts", "a")}

    async def lacking() -> Collection[object]:
        up = await prometheus.query("up == 1")
        return expected ^ {(found.labels["job"], found.labels.get("cluster", "")) for found in up}

    assert len(expected) == 4
    await until_nothing(lacking, 20)
    assert [found.labels["instance"] for found in await prometheus.query('up{job="vmpulse-agent"}')] == ["agent-sim"]


@pytest.mark.broker
async def test_every_documented_metric_has_data(prometheus: PrivatePrometheus) -> None:
    """The page promises no metric that Prometheus cannot be asked for."""
    expected = documented().keys()

    async def lacking() -> Collection[object]:
        return expected - {family(found.name) for found in await prometheus.query(OURS)}

    assert len(expected) > 60
    await until_nothing(lacking)


@pytest.mark.broker
async def test_every_metric_is_documented_with_its_labels(prometheus: PrivatePrometheus) -> None:
    """No metric of ours is missing from the page, and none has other labels there."""
    page = documented()
    found = {(family(sample.name), frozenset(sample.labels) - TARGET_LABELS) for sample in await prometheus.query(OURS)}
    assert found <= {(name, row.labels) for name, row in page.items()}


@pytest.mark.broker
async def test_types_are_the_documented_ones(prometheus: PrivatePrometheus) -> None:
    """Prometheus has been told of each metric the type that the page says."""
    told = {name: kinds[0]["type"] for name, kinds in (await prometheus.get("metadata")).items()}
    page = {name: row.kind for name, row in documented().items()}
    # OpenMetrics types a counter or an info by its name without the ending.
    endings = {"counter": "_total", "info": "_info"}
    stems = {name: name.removesuffix(endings.get(kind, "")) for name, kind in page.items()}
    assert {name: told.get(stems[name]) for name in page} == page


@pytest.mark.broker
async def test_queries_of_page_and_dashboard_have_data(prometheus: PrivatePrometheus) -> None:
    """Each query that the page or the dashboard shows to people has an answer."""
    queries = documented_queries() + dashboard_queries()

    async def lacking() -> Collection[object]:
        return [query for query in queries if not await prometheus.query(query)]

    assert {"count by (status) (vmpulse_vm_status)", 'vmpulse_vm_status{status="Paused"}'} < set(queries)
    await until_nothing(lacking)


@pytest.mark.broker
async def test_numbers_are_those_of_the_fleet(prometheus: PrivatePrometheus) -> None:
    """Hosts and VMs that Prometheus counts, seen by the view and by the agents, are those that there are."""
    vms = HOSTS * VMS + 1  # the test driver's one
    expected = {
        'vmpulse_hosts{state="live"}': HOSTS + 1,
        "sum(vmpulse_agent_hosts)": HOSTS + 1,
        "count(vmpulse_vm_info)": vms,
        # While a VM migrates, and afterwards where it stays defined, two hosts tell of it.
        f"sum(vmpulse_agent_vms) >= bool {vms}": 1,
        "min(vmpulse_agent_hypervisor_up)": 1,
        'min(rate(vmpulse_messages_total{kind="frame"}[5s])) > bool 0': 1,
        'min(rate(vmpulse_agent_published_total{kind="frame"}[5s])) > bool 0': 1,
    }

    async def lacking() -> Collection[object]:
        told = {query: [found.value for found in await prometheus.query(query)] for query in expected}
        return [f"{query}: {told[query]}, not {value}" for query, value in expected.items() if told[query] != [value]]

    await until_nothing(lacking)


@pytest.mark.broker
async def test_rules_work_and_a_healthy_fleet_alarms_nobody(prometheus: PrivatePrometheus) -> None:
    """Every rule of the deployed file is evaluated without an error, and none has anything to say."""
    names = set(re.findall(r"- alert: (\S+)", RULES.read_text(encoding="utf-8")))

    async def lacking() -> Collection[object]:
        groups = (await prometheus.get("rules"))["groups"]
        quiet = {
            rule["name"]
            for group in groups
            for rule in group["rules"]
            if (rule["health"], rule["state"]) == ("ok", "inactive")
        }
        return names ^ quiet

    assert names
    await until_nothing(lacking)
