"""Build the images, bring the composed stack up, hurt it, take it down; the last line is one JSON object.

    python -m tests.compose [--fresh] [--without-bad-input] [--compose PROGRAM]

Exit code 0: everything held. 1: something did not, or could not be tried, and stderr says what. 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.compose import base_images, checks, host_side
from tests.compose.bad_input import BadInput
from tests.compose.base_images import PublicImages
from tests.compose.engine import Engine, existing_engine, missing, private_engine, pulled, short_folder
from tests.compose.failures import ComposeTestFailed
from tests.compose.stack import ROOT, Stack, read_values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from tests.lab.private_libvirt import PrivateLibvirt

CACHE: Final = ROOT / ".vmpulse" / "compose"
LIMIT_S: Final = 25 * 60
PROJECT: Final = "vmpulse-compose-test"
TAG: Final = "compose-test"
# Away from the defaults, for an engine that publishes on this machine itself.
PORTS: Final = {
    "VMPULSE_HTTP_PORT": "28080",
    "VMPULSE_AMQP_PORT": "28672",
    "VMPULSE_MANAGEMENT_PORT": "28673",
    "PROMETHEUS_PORT": "28090",
    "GRAFANA_PORT": "28300",
}
FLEET: Final = {"VMPULSE_SIMULATED_HOSTS": "20", "VMPULSE_SIMULATED_VMS": "20"}
DEMO: Final = ["rabbitmq", "view", "agent-sim", "worker", "prometheus"]
QUERIES: Final = [
    "vmpulse_vm_cpu_user_ratio",
    'vmpulse_hosts{state="live"} > 0',
    "vmpulse_vm_cpu_user_ratio * on (vm) group_left (name, host) vmpulse_vm_info",
    "vmpulse_agent_tick_seconds_count > 0",
    "rabbitmq_queue_messages",
]
HOST_QUERIES: Final = [
    'vmpulse_agent_hypervisor_up{instance="agent"} == 1',
    'vmpulse_agent_libvirt_call_seconds_count{instance="agent"} > 0',
]


class Run:
    """One run: its result grows step by step, and each step says what it is about and how long it took."""

    def __init__(self) -> None:
        self.result: dict[str, object] = {}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Progress for a person."""
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f}  {text}\n")
        sys.stderr.flush()

    @contextlib.contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Time a step."""
        self.say(f"{text} ...")
        began = time.monotonic()
        yield
        self.result[f"{name}_s"] = round(time.monotonic() - began, 1)


def main() -> int:
    """Run everything within the limit."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="forget the images of earlier runs")
    parser.add_argument("--without-bad-input", action="store_true", help="leave out what operators may get wrong")
    parser.add_argument("--compose", default="docker-compose", help="the compose program (default %(default)s)")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        sys.stderr.write(f"the compose test cannot run here: {reason}; run `make compose-test` as root\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT_S)
    run = Run()
    try:
        with alone():
            if options.fresh:
                shutil.rmtree(CACHE / "engine", ignore_errors=True)
            everything(run, options.compose, bad_input=not options.without_bad_input)
    except ComposeTestFailed as error:
        run.say(f"FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        run.say("interrupted; everything is down again")
        return 130
    finally:
        signal.alarm(0)
    sys.stdout.write(json.dumps(run.result) + "\n")
    return 0


def _too_long(_: int, __: FrameType | None) -> None:
    raise ComposeTestFailed(f"no end after {LIMIT_S // 60} minutes")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Raise ComposeTestFailed where another run uses the same images."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ComposeTestFailed("another compose test of this checkout is running; wait for it") from error
        yield


def everything(run: Run, compose: str, *, bad_input: bool) -> None:
    """Engine, images, secrets, a libvirt, the stack; the checks; and all of it down again."""
    values = read_values(ROOT / ".env.example")
    images = PublicImages(*(values[f"{name.upper()}_IMAGE"] for name in PublicImages._fields))
    with contextlib.ExitStack() as stack:
        folder = short_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        engine = existing_engine(images.needed, run.say)
        if engine is None:
            with run.step("engine", "starting a private Docker engine"):
                engine = stack.enter_context(private_engine(CACHE / "engine", folder))
                sweep(engine)
        engine.compose = compose
        run.result["compose"] = engine.run(compose, "version", "--short", seconds=30).strip()
        with run.step("images", "base images and ours"):
            run.result["standing_in"] = base_images.provide(engine, images, folder, run.say)
            run.result["image_mib"] = base_images.build_ours(engine, TAG, images.python, run.say)
        with run.step("libvirt", "starting a private libvirt with two domains"):
            hypervisor = stack.enter_context(host_side.private_host(folder))
        given = PORTS | FLEET | host_side.values(hypervisor.root)
        given |= {"VMPULSE_TAG": TAG, "VMPULSE_SECRETS": str(make_secrets(folder))}
        composed = Stack(engine, PROJECT, given, folder, say=run.say)
        stack.callback(composed.down)
        live(run, composed, hypervisor, with_grafana=available(engine, images.grafana, run))
        with run.step("down", "taking the stack down"):
            composed.down()
        if bad_input:
            with run.step("bad_input", "what operators may get wrong"):
                run.result["bad_input"] = try_bad_input(run, BadInput(engine, given, folder))


def available(engine: Engine, image: str, run: Run) -> bool:
    """Whether the one image is to be had that has no stand-in."""
    if engine.has_image(image):
        return True
    found = not run.result["standing_in"] and pulled(engine, image)
    run.result["grafana"] = found
    if not found:
        run.say(f"going on without Grafana: no registry gives {image}")
    return found


def live(run: Run, stack: Stack, hypervisor: PrivateLibvirt, *, with_grafana: bool) -> None:
    """The life of a deployment: up, compared, scraped, joined by a real host, killed part by part, fenced."""
    services = DEMO + ["grafana"] * with_grafana
    with run.step("up", "bringing up the demo and the monitoring"):
        stack.up(services, ("demo", "monitoring"))
        stack.until_healthy(services)
    with run.step("compare", "comparing the view with the truth"):
        run.result["mismatched_vms"] = checks.view_equals_truth(stack)["mismatched_vms"]
    with run.step("scrape", "asking Prometheus"):
        jobs = {"vmpulse-view": ["view:8080"], "vmpulse-agent": ["agent-sim"], "rabbitmq": ["rabbitmq:15692"]}
        checks.prometheus_scrapes(stack, jobs, QUERIES)
        run.result["rules"] = checks.rules_are_well(stack)
    with run.step("host", "adding a real host with its agent"):
        stack.up(["agent"], ["host"])
        stack.until_healthy(["agent"])
        run.result["agent"] = host_side.agent_tells(stack, hypervisor)
        checks.prometheus_scrapes(stack, {"vmpulse-agent": ["agent", "agent-sim"]}, HOST_QUERIES)
        run.result["dashboard_queries_with_data"] = checks.dashboard_is_answered(stack)
        checks.hardened(stack, [*services, "agent"])
    with run.step("kills", "killing each service once"):
        back = checks.killed_and_back(stack, ["agent"])
        host_side.agent_tells(stack, hypervisor)
        stack.compose("rm", "--stop", "--force", "agent", profiles=["host"])
        # Its VMs are not in the simulator's truth, and a view that starts anew remembers them until it is told.
        stack.compose("exec", "-T", "view", "vmpulse", "hosts", "forget", host_side.HOST, "--yes")
        others = [*(name for name in services if name != "view"), "view"]
        run.result["back_after_s"] = back | checks.killed_and_back(stack, others)
        stack.until_healthy(services)
    with run.step("compare_again", "comparing again"):
        run.result["mismatched_vms_after_kills"] = checks.view_equals_truth(stack)["mismatched_vms"]
    with run.step("worker", "losing every simulated host, for the worker to act on"):
        run.result["worker"] = checks.worker_acts(stack)
        stack.up(["agent-sim"], ["demo"])
        stack.until_healthy(["agent-sim"])
        checks.view_equals_truth(stack)


def try_bad_input(run: Run, bad: BadInput) -> list[str]:
    """Try each mistake; gives their names."""
    tried = []
    for mistake in bad.every():
        run.say(f"      {(mistake.__doc__ or '').strip()}")
        mistake()
        tried.append(mistake.__name__)
    return tried


def sweep(engine: Engine) -> None:
    """Remove what an earlier run that was killed has left in a private engine."""
    for container in engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", "--volumes", container)
    engine.docker("volume", "prune", "--force")
    engine.docker("network", "prune", "--force")


def make_secrets(folder: Path) -> Path:
    """What ``make secrets`` writes."""
    secrets = folder / "secrets"
    script = (sys.executable, str(ROOT / "deploy" / "make_secrets.py"))
    options = ("--folder", str(secrets), "--host", host_side.HOST)
    subprocess.run([*script, *options], check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return secrets


if __name__ == "__main__":
    sys.exit(main())
