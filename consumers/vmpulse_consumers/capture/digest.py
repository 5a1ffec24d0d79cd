"""The digest that tells whether a rebuilt view is the one that was captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import xxhash

from vmpulse_consumers.view.memory import remembered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmpulse_consumers.view import Host, View, Vm


def digest(view: View) -> str:
    """A digest over hosts, VMs, values, device statistics, claims and split brains, 32 hexadecimal digits.

    Counters and requests under way are left out: they say nothing of the fleet. Of sections the held hashes go in: a
    held hash is never without its body (promise V5).
    """
    found = xxhash.xxh3_128()
    for _, host in sorted(view.hosts.items()):
        for part in _host(view, host):
            # With its length, so that nothing can move from one part to the next.
            found.update(len(part).to_bytes(8, "big") + part)
    for _, vm in sorted(view.vms.items()):
        found.update(_packed(_vm(vm)))
    found.update(_packed((sorted(view.vms), sorted(view.transits), sorted(view.split))))
    return found.hexdigest()


def _host(view: View, host: Host) -> Iterator[bytes]:
    yield _packed(remembered(host, view.vms, view.runtime))
    yield host.held.tobytes()
    yield host.section_as_of.tobytes()
    yield _packed(
        (
            (host.seq, host.roster_as_of, host.reply_as_of, host.frame_seq, host.frame_ms, host.host_stats),
            (host.since, host.heard_at, host.spoke_at, host.offset, host.provisional, host.provisional_seq),
            host.elapsed,
            host.devices.told(),
        )
    )
    rows = slice(host.block.start, host.block.start + host.block.size)
    runtime = view.runtime
    for column in (runtime.mem_usage, runtime.cpu_user, runtime.cpu_sys, runtime.stats_age):
        yield column[rows].tobytes()


def _vm(vm: Vm) -> tuple[object, ...]:
    """Who claims it, who is believed, and where it was if it is on its way."""
    left = vm.transit
    transit = None if left is None else (left.host.id, left.token, left.since, left.left_at, left.info)
    owner = None if vm.owner is None else vm.owner.id
    return vm.id, [host.id for host in vm.claims], owner, transit, vm.end, vm.split


def _packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)
