"""The composed deployment names what there is: settings, programs, ports, paths, users, plugins, locks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from tests.deploy.compose_file import (
    COMPOSE,
    ROOT,
    VARIABLE,
    composed,
    environment,
    example,
    mounts,
    published,
    services,
)
from vmpulse_agent import __main__ as agent_program
from vmpulse_agent.settings import PREFIX as AGENT_PREFIX
from vmpulse_agent.settings import AgentSettings
from vmpulse_consumers import __main__ as consumers_program
from vmpulse_consumers.settings import VIEW_PREFIX, ViewSettings
from vmpulse_contract.settings import fill
from vmpulse_simulator import __main__ as simulator_program
from vmpulse_simulator.settings import PREFIX as SIMULATOR_PREFIX
from vmpulse_simulator.settings import RunSettings

DOCKER: Final = ROOT / "deploy" / "docker"
RABBITMQ: Final = ROOT / "deploy" / "rabbitmq"
PROGRAMS: Final[dict[str, tuple[type[Struct], str]]] = {
    "view": (ViewSettings, VIEW_PREFIX),
    "agent": (AgentSettings, AGENT_PREFIX),
    "agent-sim": (RunSettings, SIMULATOR_PREFIX),
}
OURS: Final = [*PROGRAMS, "worker"]
METRICS_PORT: Final = 9178
AMQP, MANAGEMENT, METRICS = 5672, 15672, 15692
"""RabbitMQ's own defaults, which the configuration leaves alone."""
PLUGINS: Final = {"rabbitmq_management": MANAGEMENT, "rabbitmq_prometheus": METRICS}


def dockerfile() -> str:
    """The Dockerfile, with its continued lines joined."""
    return (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


@pytest.mark.parametrize("service", PROGRAMS)
def test_environment_makes_settings(service: str) -> None:
    """Each variable of a service is a setting of its program, with a value that the program takes."""
    kind, prefix = PROGRAMS[service]
    given = environment(service)
    assert {name.removeprefix(prefix).lower() for name in given} <= set(kind.__struct_fields__)
    fill(kind, table={}, environment=given, flags={}, prefix=prefix)


@pytest.mark.parametrize("service", PROGRAMS)
def test_broker_is_the_composed_one(service: str) -> None:
    """Each program is sent to the service rabbitmq, by RabbitMQ's port, with a password from a mounted secret."""
    given = environment(service)
    prefix = PROGRAMS[service][1]
    address = urlsplit(given[f"{prefix}BROKER_URL"])
    assert (address.scheme, address.hostname, address.port) == ("amqp", "rabbitmq", AMQP)
    secret = Path(given[f"{prefix}BROKER_PASSWORD_FILE"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in services()[service]["secrets"]


def test_users_have_their_own_secrets() -> None:
    """The user in a broker URL is the one whose password is mounted."""
    for service, prefix in (("view", VIEW_PREFIX), ("agent-sim", SIMULATOR_PREFIX), ("worker", "VMPULSE_WORKER_")):
        given = environment(service)
        user = urlsplit(given[f"{prefix}BROKER_URL"]).username
        assert given[f"{prefix}BROKER_PASSWORD_FILE"] == f"/run/secrets/{user}"


def test_example_lists_what_may_be_set() -> None:
    """.env.example has every variable of the compose file, each with the default that holds without it."""
    defaults = dict(VARIABLE.findall(COMPOSE.read_text(encoding="utf-8")))
    assert example() == defaults


def test_every_variable_has_one_default() -> None:
    """A variable that occurs twice has the same default both times, and none goes without."""
    text = COMPOSE.read_text(encoding="utf-8")
    assert len(set(VARIABLE.findall(text))) == len(dict(VARIABLE.findall(text)))
    assert text.count("${") == len(VARIABLE.findall(text))


@pytest.mark.parametrize("service", services())
def test_services_are_confined(service: str) -> None:
    """No service runs as root, writes its root file system, has a capability, or lives without limits."""
    made = services()[service]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", made["user"])
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert made["restart"] == "unless-stopped"
    assert made["mem_limit"]
    assert made["pids_limit"]
    assert made["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not {"privileged", "cap_add", "network_mode"} & made.keys()


@pytest.mark.parametrize("service", services())
def test_start_order_is_by_health(service: str) -> None:
    """A service waits for others until they are healthy, and all of those can tell whether they are."""
    for other, how in services()[service].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in services()[other]


@pytest.mark.parametrize("service", services())
def test_mounts_are_there(service: str) -> None:
    """What a service mounts from the repository is there and cannot be written; the rest are declared volumes."""
    for target, (source, read_only) in mounts(service).items():
        if source.startswith("./"):
            assert (ROOT / source).exists(), target
        assert read_only or source in composed()["volumes"], target


def test_declared_things_are_used() -> None:
    """Each declared volume and secret has a service that uses it, and each used one is declared."""
    used = {
        source for service in services() for source, _ in mounts(service).values() if not source.startswith(("/", "."))
    }
    assert used == composed()["volumes"].keys()
    assert {name for made in services().values() for name in made.get("secrets", ())} == composed()["secrets"].keys()


def test_only_loopback_is_published() -> None:
    """What has no login, or a weak one, is published on loopback alone."""
    for service in services():
        for inside, outside in published(service).items():
            assert outside.startswith("127.0.0.1:"), (service, inside)


def test_ports_are_those_listened_on() -> None:
    """Published ports are those that the programs listen on by these settings."""
    assert published("view").keys() == {int(environment("view")["VMPULSE_VIEW_HTTP_PORT"])}
    assert published("rabbitmq").keys() == {AMQP, MANAGEMENT}
    assert environment("agent")["VMPULSE_AGENT_METRICS_PORT"] == str(METRICS_PORT)
    assert environment("agent-sim")["VMPULSE_SIMULATOR_METRICS_PORT"] == str(METRICS_PORT)


def test_health_checks_ask_where_the_services_listen() -> None:
    """Health commands that name no address ask by default where the composed programs listen."""
    view = fill(ViewSettings, table={}, environment={}, flags={}, prefix=VIEW_PREFIX)
    agent = fill(AgentSettings, table={}, environment={}, flags={}, prefix=AGENT_PREFIX)
    assert services()["view"]["healthcheck"]["test"] == ["CMD", "vmpulse", "health"]
    assert environment("view")["VMPULSE_VIEW_HTTP_PORT"] == str(view.http_port)
    for service in ("agent", "agent-sim"):
        assert services()[service]["healthcheck"]["test"] == ["CMD", "vmpulse-agent", "health"]
    assert agent.metrics_port == METRICS_PORT


@pytest.mark.parametrize("service", PROGRAMS)
def test_commands_exist(service: str) -> None:
    """Each service runs a command that its image's program has, and so does its health check."""
    commands = {
        "vmpulse": consumers_program.COMMANDS,
        "vmpulse-agent": agent_program.COMMANDS,
        "vmpulse-simulator": tuple(simulator_program.command_line().parse_args([name]).command for name in ("run",)),
    }
    made = services()[service]
    entry = re.search(
        rf"^FROM runtime AS {made['build']['target']}\n(?:.*\n)*?ENTRYPOINT (.*)$", dockerfile(), re.MULTILINE
    )
    assert entry is not None
    (program,) = json.loads(entry[1])
    assert made["command"][0] in commands[program]
    checker, command = made["healthcheck"]["test"][1:3]
    assert command in commands[checker]


def test_images_are_built_as_ours() -> None:
    """Each image of ours has one recipe, whose target is named like the image, and runs as the user that it makes."""
    uid = re.search(r"useradd --uid (\d+) --gid (\d+)", dockerfile())
    assert uid is not None
    for service in OURS:
        made = services()[service]
        name = made["image"].partition(":")[0]
        assert made["user"] == f"{uid[1]}:{uid[2]}"
        if "build" in made:
            assert name == f"vmpulse-{made['build']['target']}"
            assert (ROOT / made["build"]["dockerfile"]).exists()
            assert re.search(rf"^FROM .* AS {made['build']['target']}$", dockerfile(), re.MULTILINE)
    built = [made["image"] for made in services().values() if "build" in made]
    assert len(set(built)) == len(built)
    assert {services()[service]["image"] for service in OURS} == set(built)


def test_dockerfile_copies_what_the_context_holds() -> None:
    """Whatever the Dockerfile takes from the repository is there, and .dockerignore lets it in."""
    admitted = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    }
    sources = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(), re.MULTILINE) for word in line.split()[:-1]
    ]
    sources += re.findall(r"type=bind,source=([\w/.-]+)", dockerfile())
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == each or source.startswith(f"{each}/") for each in admitted), source
    for lock in re.findall(r"fetch\.sh wheels (\w+)", dockerfile()):
        assert (ROOT / "requirements" / f"{lock}.txt").exists()


def test_build_names_no_place() -> None:
    """Neither Dockerfile nor its script names a host to fetch from, and no frontend is fetched either."""
    for file in (DOCKER / "Dockerfile", DOCKER / "fetch.sh"):
        text = file.read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"\w+\.(com|dev|io|net|org)\b", text)
        assert not re.search(r"^#\s*syntax\s*=", text, re.MULTILINE)


def test_plugins_are_those_asked_for() -> None:
    """RabbitMQ's plugins are enabled, demanded at the start, and watched at their ports, all by the same names."""
    assert re.findall(r"rabbitmq_\w+", (RABBITMQ / "enabled_plugins").read_text(encoding="ascii")) == list(PLUGINS)
    started = re.search(r"for plugin in (.*); do", (RABBITMQ / "start.sh").read_text(encoding="utf-8"))
    assert started is not None
    assert started[1].split() == list(PLUGINS)
    watched = re.findall(r"^plugin (\w+) (\d+)$", (RABBITMQ / "health.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: int(port) for name, port in watched} == PLUGINS


def test_rabbitmq_reads_what_is_mounted() -> None:
    """Scripts and configuration of RabbitMQ name paths that the service mounts."""
    made = services()["rabbitmq"]
    there = set(mounts("rabbitmq")) | {f"/run/secrets/{name}" for name in made["secrets"]}
    named = {made["entrypoint"][-1], made["healthcheck"]["test"][-1]}
    for file in ("rabbitmq.conf", "start.sh"):
        named |= set(
            re.findall(r"(?:^load_definitions = |=)(/(?:etc|run)\S+)$", (RABBITMQ / file).read_text(), re.MULTILINE)
        )
    conf = (RABBITMQ / "rabbitmq.conf").read_text(encoding="utf-8")
    named |= set(re.findall(r"^load_definitions = (\S+)$", conf, re.MULTILINE))
    assert len(named) >= 4
    assert named <= there


def test_worker_gets_what_it_takes() -> None:
    """The worker's variables are flags of the example, which is the file that is mounted and run."""
    (script,) = [word for word in services()["worker"]["entrypoint"] if word.endswith(".py")]
    command = (sys.executable, str(ROOT / mounts("worker")[script][0]), "--help")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    taken = {flag.upper().replace("-", "_") for flag in re.findall(r"^  --([a-z-]+) ", said, re.MULTILINE)}
    assert {name.removeprefix("VMPULSE_WORKER_") for name in environment("worker")} <= taken
    assert "VMPULSE_WORKER_" in (ROOT / mounts("worker")[script][0]).read_text(encoding="utf-8")


def test_prometheus_and_grafana_find_their_files() -> None:
    """The paths that Prometheus and Grafana are told are mounted, and the data source is the composed Prometheus."""
    configured = [word.partition("=")[2] for word in services()["prometheus"]["command"] if "/etc/" in word]
    assert configured == ["/etc/prometheus/prometheus.yml"]
    assert (ROOT / mounts("prometheus")["/etc/prometheus"][0] / "prometheus.yml").exists()
    provisioning = ROOT / mounts("grafana")["/etc/grafana/provisioning"][0]
    provider = (provisioning / "dashboards" / "vmpulse.yml").read_text(encoding="utf-8")
    (folder,) = re.findall(r"path: ([^}\s]+)", provider)
    assert list((ROOT / mounts("grafana")[folder][0]).glob("*.json"))
    source = (provisioning / "datasources" / "prometheus.yml").read_text(encoding="utf-8")
    assert f"http://prometheus:{next(iter(published('prometheus')))}" in source
    (uid,) = re.findall(r"uid: (\S+)", source)
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "vmpulse.json").read_text(encoding="utf-8"))
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {uid}


def test_metrics_are_documented() -> None:
    """Rules and dashboard ask for metrics that docs/metrics.md lists, by jobs that Prometheus has."""
    texts = [ROOT / "deploy" / "prometheus" / "rules.yml", ROOT / "deploy" / "grafana" / "dashboards" / "vmpulse.json"]
    asked = "\n".join(path.read_text(encoding="utf-8") for path in texts)
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(vmpulse_\w+)`", page, re.MULTILINE))
    named = {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"\bvmpulse_[a-z_]+", asked)}
    assert len(named) > 10
    assert named <= documented
    scraped = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    jobs = re.findall(r"job_name: (\S+)", scraped)
    for job in re.findall(r'job=~?\\?"([^"\\]+)', asked):
        assert any(re.fullmatch(job, each) for each in jobs), job


def test_scraped_services_listen() -> None:
    """Each target that Prometheus is given by name is a service, at the port that it listens on."""
    scraped = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    targets = re.findall(r'targets: \["([\w-]+):(\d+)"\]', scraped)
    (names, port) = re.findall(r"names: \[(.*?)\]\s+type: A\s+port: (\d+)", scraped)[0]
    targets += [(name, port) for name in names.split(", ")]
    expected = {"view": 8080, "rabbitmq": METRICS, "agent": METRICS_PORT, "agent-sim": METRICS_PORT}
    assert {name: int(number) for name, number in targets} == expected
    assert expected.keys() <= services().keys()
