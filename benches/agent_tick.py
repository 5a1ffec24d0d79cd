"""What the agent costs a hypervisor host, on real QEMU domains, beside the bare libvirt call and other programs.

A private libvirt runs light domains (a BIOS, no system), a private broker takes what the real agent publishes; both are
made for this run and end with it. All costs are per tick of 3 s. Run it as root by ``python -m benches.agent_tick
[--peers] [--domains N] [--ticks N]``; docs/performance.md says how to read the JSON object in the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import aio_pika
import libvirt

from benches import processes
from benches.peers import collectd, exporter
from benches.processes import Usage
from benches.rpc_count import RpcCount
from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent.libvirt_edge import LibvirtHypervisor, LibvirtOptions
from vmpulse_contract import topology
from vmpulse_simulator.child_process import GUARD
from vmpulse_simulator.private_broker import BrokerUser, PrivateBroker

HOST: Final = "bench-host"
PASSWORD: Final = "bench-password"  # noqa: S105 - of a broker that lives for one run
TICK_S: Final = 3.0
ROUNDS: Final = 60
PACE_S: Final = 0.1
CHANGES: Final = 10
START_S: Final = 60.0
WARM_TICKS: Final = 5
SETTLE_S: Final = 10.0
"""After their start domains are busy with their BIOS for some seconds."""

Figures = dict[str, Any]


class Ground:
    """Where everything is measured: the domains, and a count of all calls that their libvirt is asked."""

    def __init__(self, hypervisor: PrivateLibvirt, folder: Path, domains: int, ticks: int) -> None:
        self.hypervisor = hypervisor
        self.folder = folder
        self.ticks = ticks
        self.connection = libvirt.open(hypervisor.uri)
        self.domains = [
            self.connection.defineXML(hypervisor.light_domain(f"bench-{number}")) for number in range(domains)
        ]
        for domain in self.domains:
            domain.create()
        self.rpc = RpcCount(hypervisor, folder)

    def cost(self, pid: int, each_tick: Callable[[], object] | None = None) -> Figures:
        """Measure a program over the ticks, asking it for something each tick if it has to be asked."""
        daemon = self.hypervisor.daemon_pid
        assert daemon is not None
        before, daemon_before, mark = processes.usage(pid), processes.usage(daemon), self.rpc.mark()
        _each_tick(self.ticks, each_tick)
        used = processes.usage(pid).since(before)
        return self._per_tick(used, processes.usage(daemon).since(daemon_before), self.rpc.since(mark)) | (
            processes.memory(pid)
        )

    def _per_tick(self, used: Usage, daemon: Usage, calls: Counter[str]) -> Figures:
        cpu_ms = used.cpu_ns / 1e6 / self.ticks
        return {
            "cpu_ms_per_tick": round(cpu_ms, 3),
            "cpu_us_per_vm_and_tick": round(1000 * cpu_ms / len(self.domains), 1),
            "wakes_per_tick": round(used.wakes / self.ticks, 1),
            "libvirtd_cpu_ms_per_tick": round(daemon.cpu_ns / 1e6 / self.ticks, 2),
            "libvirt_calls_per_tick": round(calls.total() / self.ticks, 2),
            "libvirt_calls": {name: round(count / self.ticks, 2) for name, count in sorted(calls.items())},
        }


def _each_tick(ticks: int, action: Callable[[], object] | None) -> None:
    due = time.monotonic()
    for _ in range(ticks):
        if action is not None:
            action()
        due += TICK_S
        time.sleep(max(0.0, due - time.monotonic()))


# --- the look beside the bare call -----------------------------------------------------------------------------------


@contextlib.contextmanager
def bare_call(uri: str) -> Iterator[tuple[int, Callable[[], float]]]:
    """Run the script that does nothing but the call; gives its pid and what has it done once, in seconds."""
    command = [sys.executable, "-m", "benches.bare_call", uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        questions, answers = script.stdin, script.stdout
        assert questions is not None
        assert answers is not None

        def call() -> float:
            questions.write("\n")
            questions.flush()
            return float(answers.readline())

        call()
        yield script.pid, call
        questions.close()


async def compare_looks(ground: Ground, call: Callable[[], float]) -> Figures:
    """Time the agent's look, from the request to its rows in the event loop, and the bare call by turns."""
    options = LibvirtOptions(uri=ground.hypervisor.uri, run_dir=ground.hypervisor.run_dir, tick_s=TICK_S)
    hypervisor = LibvirtHypervisor(options)
    await hypervisor.open(lambda _: None)
    looks, bare = [], []
    try:
        await hypervisor.look()
        for _ in range(ROUNDS):
            await asyncio.sleep(PACE_S)
            bare.append(await asyncio.to_thread(call))
            await asyncio.sleep(PACE_S)
            began = time.perf_counter()
            look = await hypervisor.look()
            looks.append(time.perf_counter() - began)
            assert sum(domain.answered is True for domain in look.domains) == len(ground.domains)
    finally:
        await hypervisor.close()
    return {
        "look_ms": round(1000 * statistics.median(looks), 3),
        "bare_call_ms": round(1000 * statistics.median(bare), 3),
        "ratio_to_bare_call": round(statistics.median(looks) / statistics.median(bare), 3),
    }


# --- the agent -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_agent(ground: Ground, broker: PrivateBroker) -> Iterator[int]:
    """Run the agent as an operator would; gives its pid once it has published for some ticks."""
    secret, log = ground.folder / "password", ground.folder / "agent.log"
    secret.write_text(PASSWORD)
    command = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), sys.executable, "-m", "vmpulse_agent", "run"]
    command += ["--uri", ground.hypervisor.uri, "--run-dir", str(ground.hypervisor.run_dir), "--host", HOST]
    command += ["--broker-url", f"amqp://{broker.host}:{broker.port}/", "--metrics-port", "0"]
    environment = os.environ | {"VMPULSE_AGENT_BROKER_PASSWORD_FILE": str(secret)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        _await_line(log, "connected to the broker", process)
        time.sleep(WARM_TICKS * TICK_S)
        yield process.pid
    finally:
        if process.poll() is not None:
            say(f"the agent ended with {process.returncode}: {log.read_text()}")
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _await_line(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def calls_per_change(ground: Ground, idle_calls_per_tick: float) -> float:
    """Change the title of one domain after another; give the calls for each, less those of the idle agent."""
    mark, began = ground.rpc.mark(), time.monotonic()
    changes = [ground.domains[number % len(ground.domains)] for number in range(CHANGES)]
    for number, domain in enumerate(changes):
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, f"title {number}", None, None)
        time.sleep(TICK_S / 2)
    calls = ground.rpc.since(mark).total() - len(changes)
    return (calls - idle_calls_per_tick * (time.monotonic() - began) / TICK_S) / len(changes)


async def declare_exchanges(broker: PrivateBroker) -> None:
    """Declare what the view would: agents may not."""
    connection = await aio_pika.connect(broker.url())
    async with connection, connection.channel() as channel:
        for exchange in topology.EXCHANGES:
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        stream = await channel.declare_queue("bench", durable=True, arguments={"x-max-length": 1000})
        for exchange in (topology.RUNTIME, topology.CHANGES):
            await stream.bind(exchange, "#")


# --- the run ---------------------------------------------------------------------------------------------------------


def measure(folder: Path, options: argparse.Namespace) -> Figures:
    """Start everything, measure one after the other, end everything."""
    with contextlib.ExitStack() as stack:
        say(f"starting {options.domains} domains ...")
        hypervisor = stack.enter_context(PrivateLibvirt(folder / "libvirt", HOST))
        ground = Ground(hypervisor, folder, options.domains, options.ticks)
        broker = stack.enter_context(PrivateBroker(root=folder, users=[BrokerUser(HOST, PASSWORD)]))
        asyncio.run(declare_exchanges(broker))
        time.sleep(SETTLE_S)
        figures: Figures = {"domains": options.domains, "ticks": options.ticks, "tick_s": TICK_S}
        say("the look beside the bare call ...")
        pid, call = stack.enter_context(bare_call(hypervisor.uri))
        figures |= asyncio.run(compare_looks(ground, call))
        say("the agent ...")
        with running_agent(ground, broker) as agent:
            figures["agent"] = ground.cost(agent)
            figures["calls_per_changed_section"] = round(
                calls_per_change(ground, figures["agent"]["libvirt_calls_per_tick"]), 2
            )
        say("the bare call, once a tick ...")
        figures["bare_call"] = ground.cost(pid, call)
        if options.peers:
            figures |= measure_peers(ground)
    return figures


def measure_peers(ground: Ground) -> Figures:
    """Measure Debian's exporter and collectd on the same domains, at the same pace."""
    uri = ground.hypervisor.uri
    say("prometheus-libvirt-exporter ...")
    with exporter.running(uri, ground.folder) as (pid, scrape):
        scraped = ground.cost(pid, scrape)
    say("collectd ...")
    with collectd.running(uri, ground.folder, TICK_S) as pid:
        time.sleep(WARM_TICKS * TICK_S)
        collected = ground.cost(pid)
    return {"exporter": scraped, "collectd": collected}


def goals_missed(figures: Figures) -> list[str]:
    """Compare with the goals, which are for an idle machine."""
    agent = figures["agent"]
    return _beyond(
        ratio_to_bare_call=(figures["ratio_to_bare_call"], 1.25),
        cpu_ms_per_tick=(agent["cpu_ms_per_tick"], 3.0),
        libvirt_calls_per_tick=(agent["libvirt_calls_per_tick"], 1.0),
        rss_mib=(agent["rss_mib"], 60.0),
    )


def too_much(figures: Figures) -> list[str]:
    """Compare with what has to hold on a busy machine too: ratios within this run, and counts.

    Where looks are slow, monitors are looked into (controlInfo); on a busy machine they are slow for no fault of ours.
    """
    agent = figures["agent"]
    planned = agent["libvirt_calls_per_tick"] - agent["libvirt_calls"].get("controlInfo", 0.0)
    return _beyond(
        ratio_to_bare_call=(figures["ratio_to_bare_call"], 2.0),
        cpu_ratio_to_bare_call=(agent["cpu_ms_per_tick"] / figures["bare_call"]["cpu_ms_per_tick"], 20.0),
        planned_libvirt_calls_per_tick=(planned, 3.0),
        rss_mib=(agent["rss_mib"], 60.0),
    )


def _beyond(**bounds: tuple[float, float]) -> list[str]:
    return [f"{name} is {value:.3g}, bound {bound:g}" for name, (value, bound) in bounds.items() if value > bound]


def say(text: str) -> None:
    """Progress for people; stdout is the JSON line's."""
    sys.stderr.write(f"agent_tick: {text}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches.agent_tick", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--domains", type=int, default=20, help="how many QEMU domains (default: 20)")
    parser.add_argument("--ticks", type=int, default=20, help="over how many ticks each program is measured")
    parser.add_argument("--peers", action="store_true", help="measure the exporter and collectd as well")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a cost is far from its goal")
    return parser.parse_args()


def main() -> int:
    """Print the one JSON line."""
    options = _options()
    needed = (exporter.PROGRAM, collectd.PROGRAM) if options.peers else ()
    absent = [program for program in ("virt-admin", *needed) if shutil.which(program) is None]
    reason = missing() or (f"not installed: {', '.join(absent)}" if absent else None)
    if reason is not None:
        say(f"cannot run here: {reason}; run `make bench-agent` as root")
        return 1
    # SIGTERM must end what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="vmpulse-bench-", ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), options)
    figures["goals_missed"] = goals_missed(figures)
    print(json.dumps(figures))
    wrong = too_much(figures) if options.check else []
    for text in wrong:
        say(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
