"""``python -m tests.lab.soak --seconds 3600``: sections of real domains while everything around them comes and goes.

For as long as told, domains are ballooned, VNC and console clients come and go, guest agents and our own agent are
restarted, libvirtd is killed and terminated and started again. All the while the change events are counted, and the
view is read. What must hold:

- ``config`` and ``info`` never change;
- ``status`` changes only for domains whose VNC clients or guest agent have just come or gone;
- ``guestDetails`` changes only for guests whose agent has just been restarted;
- each domain is there, and Up, at every moment.

Progress goes to stderr each minute; the last line on stdout is one JSON object; 0 if all held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import libvirt

from tests.lab import guest_image, guests
from tests.lab.change_tap import Change, ChangeTap
from tests.lab.lab import TICK_S, CheckFailed, Lab, running
from tests.lab.private_libvirt import missing
from tests.lab.soak_acts import Acts, Subject
from vmpulse_simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(".vmpulse")
LIGHT: Final = 6
"""Domains without a system: three persistent, three transient; each second one with VNC."""
STEP_S: Final = 1.0
PROGRESS_S: Final = 60.0
SETTLE_S: Final = 20.0
"""From the last start until all that a start brings has been said: the first answers of guest agents above all."""
DAEMON_EVERY_S: Final = 240.0
AGENT_EVERY_S: Final = 420.0
GUEST_AGENT_EVERY_S: Final = 150.0


class Options(NamedTuple):
    """What the command line asks for."""

    seconds: float
    guests: int
    seed: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak; 0 if everything held."""
    options = _parse(arguments)
    reason = missing()
    if reason is not None:
        sys.stderr.write(f"the soak cannot run here: {reason}; run `make soak` as root\n")
        return 1
    # SIGTERM must end what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    libvirt.registerErrorHandler(lambda *_: None, None)
    ROOT.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=ROOT)).resolve()
    try:
        with running(folder, _say) as lab:
            result = _soak(lab, options)
    except (CheckFailed, RuntimeError, SimulatorError, TimeoutError) as error:
        sys.stderr.write(f"the soak did not start: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    if not result["wrong"]:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result["wrong"] else 0


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.soak", description="Hold the sections of real domains still for long."
    )
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (default: 3600)")
    parser.add_argument("--guests", type=int, default=0, help="real Linux guests beside the light domains (default: 0)")
    parser.add_argument("--seed", type=int, default=1, help="of what is done when (default: 1)")
    return Options(**vars(parser.parse_args(arguments)))


def _soak(lab: Lab, options: Options) -> dict[str, object]:
    subjects = _subjects(lab, options)
    with ChangeTap(_tap_url(lab)) as tap, contextlib.ExitStack() as stack:
        lab.until("all domains are Up", lambda: _all_up(lab, subjects), 90.0)
        _settle(tap)
        acts = stack.enter_context(contextlib.closing(Acts(lab, subjects, random.Random(options.seed))))  # noqa: S311
        watch = Watch(lab, subjects, acts)
        try:
            _until_over(acts, watch, tap, options.seconds)
        except CheckFailed as error:
            watch.complain(str(error))
    return watch.summary(options)


def _tap_url(lab: Lab) -> str:
    return f"amqp://engine.view:lab-view-password@{lab.broker.host}:{lab.broker.port}/"


def _subjects(lab: Lab, options: Options) -> dict[str, Subject]:
    subjects = [_light(lab, number) for number in range(LIGHT)]
    if options.guests:
        image = guest_image.build(guests.IMAGES, _say)
        guests.prepare(lab.hypervisor)
        for number in range(1, options.guests + 1):
            guest = guests.define(lab.hypervisor, lab.connection, image, number)
            guest.start()
            subjects.append(Subject(guest.name, guest.uuid, vnc=True, guest=guest))
        for subject in subjects[LIGHT:]:
            assert subject.guest is not None
            subject.guest.wait()
            lab.until(f"the agent of {subject.name}", lambda s=subject: s.guest.agent_connected, 60.0)  # type: ignore[misc]
    return {subject.vm: subject for subject in subjects}


def _light(lab: Lab, number: int) -> Subject:
    """A light domain with a serial console; the odd ones are transient."""
    name, vnc = f"soak-{number}", number % 4 < 2
    xml = lab.hypervisor.light_domain(name, vnc=vnc)
    xml = xml.replace("<memballoon", "<serial type='pty'><target port='0'/></serial><memballoon", 1)
    xml = xml.replace("<features>", "<cpu mode='host-model'/><features>", 1)
    if number % 2:
        domain = lab.connection.createXML(xml)
    else:
        domain = lab.connection.defineXML(xml)
        domain.create()
    return Subject(name, domain.UUIDString(), vnc=vnc)


def _all_up(lab: Lab, subjects: dict[str, Subject]) -> bool:
    rows = lab.rows()
    return rows.keys() == subjects.keys() and all(row["status"] == "Up" for row in rows.values())


def _settle(tap: ChangeTap) -> None:
    """Wait until nothing has been told for a while."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < SETTLE_S:
        time.sleep(STEP_S)
        if tap.drain():
            quiet_since = time.monotonic()


def _until_over(acts: Acts, watch: Watch, tap: ChangeTap, seconds: float) -> None:
    began = told = time.monotonic()
    share = min(1.0, seconds / 1200.0)  # a short soak does everything as well, only more often
    plan = {
        acts.disturb_daemon: DAEMON_EVERY_S * share,
        acts.restart_agent: AGENT_EVERY_S * share,
        acts.restart_guest_agent: GUEST_AGENT_EVERY_S * share,
    }
    due = {act: began + every for act, every in plan.items()}
    while (now := time.monotonic()) - began < seconds:
        for act, at in due.items():
            if now >= at:
                due[act] = now + plan[act]
                act(watch.look)
        acts.small_one()
        watch.look()
        watch.hear(tap.drain())
        if now - told >= PROGRESS_S:
            told = now
            _say(f"{now - began:6.0f} s: {watch.line()}")
        time.sleep(max(0.0, now + STEP_S - time.monotonic()))
    # What the last deeds bring is told within a tick and the damping.
    time.sleep(2 * TICK_S)
    watch.hear(tap.drain())


class Watch:
    """What the change events and the view say, held against what was done."""

    def __init__(self, lab: Lab, subjects: dict[str, Subject], acts: Acts) -> None:
        self._lab = lab
        self._subjects = subjects
        self._acts = acts
        self._hashes = {vm: self._fixed_hashes(vm) for vm in subjects}
        self._turn = 0
        self.events: Counter[str] = Counter()
        self.flaps: Counter[str] = Counter()
        self.looks = 0
        self.wrong: list[str] = []
        self._before: dict[tuple[str, str], int] = {}

    def look(self) -> None:
        """Read the view: everybody is there and Up; and one domain in turn has the hashes that it had."""
        self.looks += 1
        rows = self._lab.rows()
        for vm, subject in self._subjects.items():
            row = rows.get(vm)
            if row is None or row["status"] != "Up":
                self.complain(f"{subject.name} is {row and row['status']}")
        vm = list(self._subjects)[self._turn % len(self._subjects)]
        self._turn += 1
        now = self._fixed_hashes(vm)
        if now != self._hashes[vm]:
            self.complain(f"{self._subjects[vm].name} turned from {self._hashes[vm]} to {now}")
            self._hashes[vm] = now

    def hear(self, changes: list[Change]) -> None:
        """Judge what the agent has told."""
        for change in changes:
            self.events[change.section] += 1
            key = (change.vm, change.section)
            self.flaps[change.section] += self._before.get(key) == change.new
            self._before[key] = change.previous
            subject = self._subjects.get(change.vm)
            if subject is None or not self._acts.explains(subject, change):
                name = change.vm if subject is None else subject.name
                self.complain(f"{change.section} of {name} changed for no reason: {change.body!r:.300}")

    def line(self) -> str:
        """How it goes, on one line."""
        return f"events {dict(self.events)}, {self._acts.line()}, {len(self.wrong)} wrong"

    def summary(self, options: Options) -> dict[str, object]:
        """The result."""
        return {
            "seconds": options.seconds,
            "domains": len(self._subjects),
            "guests": options.guests,
            "looks": self.looks,
            "done": dict(self._acts.done),
            "change_events": {name: self.events[name] for name in ("info", "config", "status", "guestDetails")},
            "flaps": {name: self.flaps[name] for name in ("info", "config", "status", "guestDetails")},
            "wrong": self.wrong[:20],
        }

    def _fixed_hashes(self, vm: str) -> tuple[str | None, ...]:
        hashes = (self._lab.row(vm) or {}).get("hashes", {})
        return tuple(hashes.get(name) for name in ("info", "config"))

    def complain(self, text: str) -> None:
        """Say and keep what is wrong."""
        if len(self.wrong) < 20 or not len(self.wrong) % 100:
            _say(f"WRONG: {text}")
        self.wrong.append(text)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
