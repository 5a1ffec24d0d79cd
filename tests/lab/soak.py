"""``python -m tests.lab.soak --seconds 3600``: sections of real domains while everything around them comes and goes.

For as long as told, domains are ballooned, VNC and console clients come and go, guest agents and our own agent are
restarted, libvirtd is killed and terminated and started again. Light domains are migrated live to a second host with
an agent of its own and back, saved and started again, get devices and lose them, write to snapshots that are
committed, and have disks mirrored. All the while the change events of both hosts are counted, and the view is read.
What must hold:

- ``config`` of each VM has the hash that was seen first, on whichever host the VM is; only while a device is plugged in
  or a snapshot is not committed it has another, and afterwards the first one again;
- ``info`` changes only for domains that have just been moved or saved, for they have another process then;
- ``status`` changes only for these, and where VNC clients or the guest agent have just come or gone;
- ``guestDetails`` changes only for these, and for guests whose agent has just been restarted;
- each domain is there at every moment, and Up but while it is moved or saved.

Progress goes to stderr each minute; the last line on stdout is one JSON object; 0 if all held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import libvirt

from tests.lab import guest_image, guests
from tests.lab.change_tap import Change, ChangeTap
from tests.lab.lab import TICK_S, CheckFailed, Lab, running
from tests.lab.migration import pair
from tests.lab.private_libvirt import missing
from tests.lab.soak_acts import Acts
from tests.lab.soak_deeds import Deeds
from tests.lab.soak_diary import Diary, Subject
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
UNSETTLED_S: Final = 180.0
REFRESH_S: Final = 20.0
"""Every section is read again so often, for what libvirt does not announce; by default it is each 300 s."""
DAEMON_EVERY_S: Final = 240.0
AGENT_EVERY_S: Final = 420.0
GUEST_AGENT_EVERY_S: Final = 150.0
MIGRATE_EVERY_S: Final = 70.0
SAVE_EVERY_S: Final = 160.0
PLUG_EVERY_S: Final = 90.0
SNAPSHOT_EVERY_S: Final = 400.0
COPY_EVERY_S: Final = 110.0


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
    # Both agents take it from here, however often they are started.
    os.environ["VMPULSE_AGENT_REFRESH_S"] = f"{REFRESH_S:g}"
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
    with pair(lab) as two, ChangeTap(_tap_url(lab)) as tap, contextlib.ExitStack() as stack:
        subjects = _subjects(lab, options)
        lab.until("all domains are Up", lambda: _all_up(lab, subjects), 90.0)
        _settle(tap)
        diary, lots, everybody = Diary(), random.Random(options.seed), list(subjects.values())  # noqa: S311
        acts = stack.enter_context(contextlib.closing(Acts(two, everybody, diary, lots)))
        deeds = Deeds(two, [subject for subject in everybody if subject.guest is None], diary, lots)
        watch = Watch(lab, subjects, diary)
        try:
            _until_over(acts, deeds, watch, tap, options.seconds)
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
    return Subject(name, domain.UUIDString(), persistent=bool(domain.isPersistent()), vnc=vnc)


def _all_up(lab: Lab, subjects: dict[str, Subject]) -> bool:
    rows = lab.rows()
    return rows.keys() == subjects.keys() and all(row["status"] == "Up" for row in rows.values())


def _settle(tap: ChangeTap) -> None:
    """Wait until nothing has been told for a while. Raises CheckFailed if that does not come."""
    began = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < SETTLE_S:
        if time.monotonic() - began > UNSETTLED_S:
            raise CheckFailed(f"sections have not become quiet within {UNSETTLED_S:g} s, though nothing is done")
        time.sleep(STEP_S)
        if tap.drain():
            quiet_since = time.monotonic()


def _until_over(acts: Acts, deeds: Deeds, watch: Watch, tap: ChangeTap, seconds: float) -> None:
    began = told = time.monotonic()
    share = min(1.0, seconds / 1200.0)  # a short soak does everything as well, only more often
    plan = {
        acts.disturb_daemon: DAEMON_EVERY_S * share,
        acts.restart_agent: AGENT_EVERY_S * share,
        acts.restart_guest_agent: GUEST_AGENT_EVERY_S * share,
        deeds.migrate: MIGRATE_EVERY_S * share,
        deeds.save: SAVE_EVERY_S * share,
        deeds.plug: PLUG_EVERY_S * share,
        deeds.snapshot: SNAPSHOT_EVERY_S * share,
        deeds.copy: COPY_EVERY_S * share,
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

    def __init__(self, lab: Lab, subjects: dict[str, Subject], diary: Diary) -> None:
        self._lab = lab
        self._subjects = subjects
        self._diary = diary
        self._infos: dict[str, str] = {}
        self._configs: defaultdict[str, set[str | None]] = defaultdict(set)
        for vm, subject in subjects.items():
            hashes = self._hashes(vm)
            if not {"info", "config"} <= hashes.keys():
                raise CheckFailed(f"{subject.name} is not known in the beginning: {hashes}")
            self._infos[vm], diary.first[vm] = hashes["info"], hashes["config"]
        self._turn = 0
        self.events: Counter[str] = Counter()
        self.flaps: Counter[str] = Counter()
        self.looks = 0
        self.wrong: list[str] = []
        self._before: dict[tuple[str, str], int] = {}

    def look(self) -> None:
        """Read the view: everybody is there and Up; one domain in turn, and all that are busy, have their hashes."""
        self.looks += 1
        rows = self._lab.rows()
        for vm, subject in self._subjects.items():
            row = rows.get(vm)
            if row is None or row["status"] not in self._diary.states(vm):
                self.complain(f"{subject.name} is {row and row['status']}")
        self._turn += 1
        for vm in {list(self._subjects)[self._turn % len(self._subjects)], *self._diary.busy()}:
            self._hold(self._subjects[vm])

    def _hold(self, subject: Subject) -> None:
        """Hold the hashes of one domain to those that it had."""
        vm, hashes = subject.vm, self._hashes(subject.vm)
        config, info = hashes.get("config"), hashes.get("info")
        if not self._diary.config_may_be(vm, config):
            self.complain(f"config of {subject.name} is {config}, at first it was {self._diary.first[vm]}")
        if vm not in self._diary.busy():
            self._configs[vm].add(config)
        if info is not None and info != self._infos[vm]:
            if not self._diary.recent(vm, "life", at=time.monotonic()):
                self.complain(f"info of {subject.name} turned from {self._infos[vm]} to {info}")
            self._infos[vm] = info

    def hear(self, changes: list[Change]) -> None:
        """Judge what the agent has told."""
        for change in changes:
            self.events[change.section] += 1
            key = (change.vm, change.section)
            self.flaps[change.section] += self._before.get(key) == change.new
            self._before[key] = change.previous
            subject = self._subjects.get(change.vm)
            if subject is None or not self._diary.explains(change.vm, change):
                name = change.vm if subject is None else subject.name
                self.complain(f"{change.section} of {name} changed for no reason: {change.body!r:.300}")

    def line(self) -> str:
        """How it goes, on one line."""
        return f"events {dict(self.events)}, done {dict(self._diary.done)}, {len(self.wrong)} wrong"

    def summary(self, options: Options) -> dict[str, object]:
        """The result."""
        return {
            "seconds": options.seconds,
            "domains": len(self._subjects),
            "guests": options.guests,
            "looks": self.looks,
            "done": dict(self._diary.done),
            "configs_of_a_vm_at_rest": max(map(len, self._configs.values()), default=0),
            "change_events": {name: self.events[name] for name in ("info", "config", "status", "guestDetails")},
            "flaps": {name: self.flaps[name] for name in ("info", "config", "status", "guestDetails")},
            "wrong": self.wrong[:20],
        }

    def _hashes(self, vm: str) -> dict[str, str]:
        hashes: dict[str, str] = (self._lab.row(vm) or {}).get("hashes", {})
        return hashes

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
