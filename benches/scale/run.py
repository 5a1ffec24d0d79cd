"""One run: broker and view come up, and the fleet grows from stage to stage until it has the wanted size."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import msgspec

from benches import processes
from benches.program import progress
from benches.scale.looks import Looks
from benches.scale.report import Report, Stage, missed, stage_of
from benches.soak.queue_depth import QueueDepth, watcher
from benches.streamed.answering import Answering
from benches.streamed.cadence import Cadence, Rhythm
from benches.streamed.fleet import StreamedFleet
from benches.streamed.templates import templates
from vmpulse_contract import broker_url
from vmpulse_contract.rights import SIMULATOR, VIEW, simulator_rights, view_rights
from vmpulse_contract.topology import Kind
from vmpulse_simulator.broker_files import with_passwords
from vmpulse_simulator.child_process import ChildProcess
from vmpulse_simulator.errors import SimulatorError
from vmpulse_simulator.private_broker import PrivateBroker
from vmpulse_simulator.view_process import write_secret

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from benches.scale.watched_view import Look

say = progress("scale")
SEED: Final = 1
USUAL: Final = Rhythm()
MEETING: Final = Rhythm(tick_s=6.0, changes_a_minute=0.0)
"""While hosts are met they speak as seldom as they may without being late."""
LOOK_S: Final = 1.0
BEGIN_S: Final = 60.0
MEET_S: Final = 0.08
"""So long for each host: several times what it took here."""
DRAIN_S: Final = 30.0
QUIET_LOOKS: Final = 2
"""One may fall between two messages."""


class Scale:
    """A run.

    Args:
        folder: for everything that is written.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        rights = {SIMULATOR: simulator_rights(), VIEW: view_rights()}
        users = with_passwords(rights)
        self._broker = PrivateBroker(root=folder, users=[*users, watcher()])
        self._url_file, looks = folder / "view.url", folder / "view.looks"
        words = ("--url-file", str(self._url_file), "--looks", str(looks))
        command = (sys.executable, "-m", "benches.scale.watched_view", *words)
        self._view = ChildProcess(command, folder / "view.log", os.environ)
        self._looks = Looks(self._view, looks)
        self._load = round(os.getloadavg()[0], 2)
        self._stages: list[Stage] = []
        self._meeting_s = 0.0

    async def run(self) -> Report:
        """Run it. Raises SimulatorError if a part cannot run."""
        options = self._options
        say(f"making what {options.hosts} hosts x {options.vms} VMs say ...")
        made = await templates(options.hosts, options.vms, SEED)
        self._fleet = fleet = await asyncio.to_thread(StreamedFleet, made, options.hosts, time.monotonic, SEED)
        async with AsyncExitStack() as stack:
            say("starting RabbitMQ and the view ...")
            await stack.enter_async_context(self._broker)
            write_secret(self._url_file, self._broker.url(VIEW))
            await self._view.start()
            stack.push_async_callback(self._view.kill)
            await self._looks.next()
            empty_mib = self._looks.rss_mib()
            url = broker_url.parse("broker_url", self._broker.url(SIMULATOR))
            self._answering = stack.enter_context(Answering(url, fleet))
            self._cadence = stack.enter_context(Cadence(url, fleet))
            self._depth = await stack.enter_async_context(QueueDepth(self._broker))
            await self._all_stages()
            return self._report(empty_mib)

    async def _all_stages(self) -> None:
        """Measure the small fleet at the large one's rate and at its own, then ever larger ones."""
        options = self._options
        small = min(options.small, options.hosts)
        await self._meet(small)
        await self._measure(small, options.stage_seconds, USUAL.faster(options.hosts / small))
        await self._measure(small, options.stage_seconds, USUAL)
        for hosts in sorted({*(size for size in options.ladder if small < size < options.hosts), options.hosts}):
            if not await self._meet(hosts):
                say(f"the view did not come to know {hosts} hosts: no larger fleet is tried")
                return
            last = hosts == options.hosts
            await self._measure(hosts, options.seconds if last else options.stage_seconds, USUAL)

    # --- parts of a stage ---------------------------------------------------------------------------------------

    async def _meet(self, hosts: int) -> bool:
        """Have the view meet so many hosts, fetch all that they have announced and tell of it. Tells whether it did.

        To tell of a VM that it did not know takes up to five events; those of a large step took the view's time for
        minutes after it had been met, and were measured with whatever came next.
        """
        began = time.monotonic()
        self._cadence.speak(hosts, MEETING)

        def known(look: Look) -> bool:
            settled = not look.asking and not look.untold and self._answering.idle_s() > self._options.settled
            return look.live == hosts and settled

        met = await self._looks.until(known, BEGIN_S + MEET_S * hosts)
        self._meeting_s += time.monotonic() - began
        return met

    async def _measure(self, hosts: int, seconds: float, rhythm: Rhythm) -> None:
        """Let so many hosts speak for so long, and note what became of it."""
        self._cadence.pause()
        before, said = await self._drain(), self._fleet.said[Kind.FRAME]
        self._depth.depths.clear()
        self._cadence.late_s = 0.0
        self._cadence.speak(hosts, rhythm)
        await asyncio.sleep(USUAL.tick_s)  # a whole tick first: before that ages are those of a pause
        looks = [await self._looks.next()]
        used = self._used()
        while looks[-1].at - looks[0].at < seconds:
            looks.append(await self._looks.next())
            await self._depth.measure()
        cpu = {name: spent - used[name] for name, spent in self._used().items()}
        self._cadence.pause()
        after = await self._drain()
        stage = stage_of(
            looks,
            rhythm,
            cpu,
            hosts=hosts,
            vms_per_host=self._fleet.vms_per_host,
            missed_ticks=self._fleet.said[Kind.FRAME] - said - (after.frames - before.frames),
            backlog_max=max(self._depth.depths),
            late_s=self._cadence.late_s,
        )
        self._stages.append(stage)
        say(msgspec.json.encode(stage).decode())

    async def _drain(self) -> Look:
        """Wait until the view has taken all that was said, or as long as that may take; gives the last look."""
        deadline, quiet = time.monotonic() + DRAIN_S, 0
        look = await self._looks.next()
        while quiet < QUIET_LOOKS and time.monotonic() < deadline:
            before, look = look, await self._looks.next()
            await self._depth.measure()
            quiet = quiet + 1 if look.messages == before.messages and not self._depth.depths[-1] else 0
        if self._cadence.failed:
            raise SimulatorError("the broker has closed the connection of the load")
        return look

    def _used(self) -> dict[str, int]:
        pids = {"view": self._view.pid, "broker": self._broker.pid, "load": os.getpid()}
        ours = {name: processes.usage(pid).cpu_ns for name, pid in pids.items() if pid is not None}
        return ours | {"others": processes.machine_cpu_ns() - sum(ours.values())}

    def _report(self, empty_mib: float) -> Report:
        last, (paced, slow) = self._stages[-1], self._stages[:2]
        look = self._looks.newest()
        assert look is not None, "nothing was measured without a look"
        held = [stage.hosts for stage in self._stages if stage.holds]
        report = Report(
            hosts=last.hosts,
            vms=last.vms,
            seconds=last.seconds,
            missed_ticks=last.missed_ticks,
            age_p50_s=last.age_p50_s,
            age_p99_s=last.age_p99_s,
            backlog_max=last.backlog_max,
            view_us_per_message=last.view_us_per_message,
            bytes_per_vm=round((self._looks.rss_mib() - empty_mib) * (1 << 20) / last.vms),
            runtime_bytes_per_vm=round(look.runtime_bytes / last.vms, 1),
            cost_growth=round(last.view_us_per_message / paced.view_us_per_message, 2),
            cost_growth_per_tick=round(last.us_per_vm_tick / slow.us_per_vm_tick, 2),
            small_hosts=paced.hosts,
            largest_held=max(held, default=0),
            meeting_s=round(self._meeting_s, 1),
            load_average=self._load,
            stages=self._stages,
            goals_missed=(),
        )
        return msgspec.structs.replace(report, goals_missed=missed(report, self._options.hosts))
