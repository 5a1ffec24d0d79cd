"""What must hold of the stack while it runs and after each of its parts was killed.

Each check takes the stack and gives what it measured; it raises ComposeTestFailed with the evidence.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.compose.engine import DOCKER
from tests.compose.failures import ComposeTestFailed
from tests.compose.stack import now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.compose.stack import Stack

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "dashboards" / "vmpulse.json"
COMPARED_S: Final = 90.0
"""Agents under way have 30 s to come back, and the view 20 s to follow."""
SCRAPED_S: Final = 60.0
"""Two scrapes, and the interval at which names are looked up."""
LOST_S: Final = 60.0
"""15 s of silence, and the worker's own time."""


def view_equals_truth(stack: Stack) -> dict[str, Any]:
    """The simulator freezes its fleet, and finds no VM in the view that differs and every host live."""
    since = now()
    # From inside: after `docker kill`, whatever the signal, an engine would not start the service again.
    stack.engine.docker("exec", stack.container("agent-sim")["Id"], "sh", "-c", "kill -USR1 1")
    summaries: list[dict[str, Any]] = []

    def told() -> bool:
        summaries[:] = [line for line in stack.json_lines("agent-sim", since) if "mismatched_vms" in line]
        return bool(summaries)

    stack.until("the simulator compares the view with the truth", told, COMPARED_S, "agent-sim")
    summary = summaries[-1]
    if summary["mismatched_vms"] or summary["live_hosts"] != summary["hosts"]:
        raise ComposeTestFailed(f"the view is not equal to the truth: {summary}\n{stack.log('agent-sim')}")
    return summary


def prometheus_scrapes(stack: Stack, jobs: dict[str, list[str]], queries: Iterable[str]) -> None:
    """Each job's targets are up, and each query returns data."""
    for job, instances in jobs.items():
        query = f'up{{job="{job}"}} == 1'
        stack.until(
            f"{query} for {instances}",
            lambda query=query, instances=instances: instances_of(stack, query) == instances,  # type: ignore[misc]
            SCRAPED_S,
            "prometheus",
        )
    for query in queries:
        stack.until(f"data for {query}", lambda query=query: bool(result(stack, query)), SCRAPED_S, "prometheus")  # type: ignore[misc]


def result(stack: Stack, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers to an instant query."""
    found: list[dict[str, Any]] = stack.get("PROMETHEUS_PORT", "/api/v1/query", query=query)["data"]["result"]
    return found


def instances_of(stack: Stack, query: str) -> list[str]:
    """The instances in the result of a query."""
    return sorted(each["metric"]["instance"] for each in result(stack, query))


def dashboard_queries() -> list[str]:
    """The expressions of the dashboard's panels, with Grafana's variables as a panel of an hour would fill them."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [expression.replace("$__rate_interval", "1m") for expression in expressions]


def dashboard_is_answered(stack: Stack) -> int:
    """Every query of the dashboard is understood; gives how many of them have data now."""
    return sum(bool(result(stack, query)) for query in dashboard_queries())


def rules_are_well(stack: Stack) -> int:
    """Prometheus has loaded the alerting rules and can evaluate them; gives how many there are."""
    groups = stack.get("PROMETHEUS_PORT", "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    ill = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] == "err"]
    if ill or not rules:
        raise ComposeTestFailed(f"alerting rules: {'; '.join(ill) or 'none are loaded'}")
    return len(rules)


def worker_acts(stack: Stack, seconds: float = LOST_S) -> dict[str, int]:
    """While hosts are lost, the worker fences them and only then asks for restarts of their VMs."""
    since = now()
    began = time.monotonic()
    # Not by `stop`: agents that can still say goodbye are no lost hosts.
    stack.compose("kill", "agent-sim", profiles=("demo",))
    restarts: list[dict[str, Any]] = []

    def acted() -> bool:
        restarts[:] = [line for line in stack.json_lines("worker", since) if "restart" in line]
        return bool(restarts)

    stack.until("the worker asks for restarts", acted, seconds, "worker")
    said = stack.log("worker", since)
    words = stack.values["VMPULSE_FENCE"].partition(" ")[2]
    fenced = re.findall(rf"^{words} (\S+)$", said, re.MULTILINE)
    unfenced = {line["was_on"] for line in restarts} - set(fenced)
    if unfenced:
        raise ComposeTestFailed(f"restarts were asked for of hosts that were not fenced: {sorted(unfenced)}")
    if "Traceback" in said:
        raise ComposeTestFailed(f"the worker failed at its work:\n{said[-3000:]}")
    return {"seconds": round(time.monotonic() - began), "restarts": len(restarts), "fenced": len(set(fenced))}


def killed_and_back(stack: Stack, services: Iterable[str]) -> dict[str, float]:
    """Each service is killed, started again by the engine, and healthy again; gives the seconds each took."""
    return {service: round(stack.kill(service), 1) for service in services}


def hardened(stack: Stack, services: Iterable[str]) -> None:
    """Each container runs as nobody of weight, without capabilities, on a file system that it cannot write."""
    for service in services:
        found = stack.container(service)
        host, user = found["HostConfig"], found["Config"]["User"]
        status = Path(f"/proc/{found['State']['Pid']}/status").read_text(encoding="utf-8")
        held = re.findall(r"^Cap(?:Prm|Eff|Bnd|Amb):\s+0*([0-9a-f]*)$", status, re.MULTILINE)
        writes = stack.engine.tried(DOCKER, "exec", found["Id"], "touch", "/etc/written", seconds=30).returncode == 0
        secrets = [word for word in found["Config"]["Env"] if re.search("(PASSWORD|SECRET)=", word)]
        wrong = {
            "runs as root": user.partition(":")[0] in {"", "0", "root"},
            "has capabilities": any(held),
            "can write to its root": writes or not host["ReadonlyRootfs"],
            "may gain privileges": not any("no-new-privileges" in option for option in host["SecurityOpt"] or ()),
            "holds a secret in its environment": bool(secrets),
        }
        if any(wrong.values()):
            raise ComposeTestFailed(f"{service} {', '.join(name for name, holds in wrong.items() if holds)}")
