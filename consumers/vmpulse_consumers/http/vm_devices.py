"""The device statistics that a VM's host reported last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from vmpulse_consumers.http.refusals import Refused
from vmpulse_contract.identity import vm_text
from vmpulse_contract.verbs import DeviceStats

if TYPE_CHECKING:
    from vmpulse_consumers.view.ownership import Vm


class VmDevices(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"device_stats": "deviceStats"}):
    """Device statistics of the present life of a VM. ``age_s``: since the sample began; never too young."""

    id: str
    host: str
    age_s: float | None = None
    device_stats: DeviceStats


def vm_devices(vm: Vm, now: float) -> VmDevices:
    """Give what the owner's host said last of the life that it claims. Raises Refused (404) if that is nothing."""
    name, host = vm_text(vm.id), vm.owner
    token = host.tokens[host.index[vm.id]] if host is not None else 0
    if host is None or not token:
        raise Refused(404, f"VM {name} does not run, so it has no device statistics", "path", "the id of a running VM")
    said = host.devices.of(vm.id, token)
    if said is None:
        what = (
            f"device statistics of VM {name}: none have come yet; its host reports every so often (setting "
            f"device_report_s of the agent); `vmpulse call {host.id} getAllDeviceStats {name}` asks at once"
        )
        raise Refused(404, what, "path", "a VM whose host has reported since the VM or the agent started")
    age = host.age(said.monotonic_ms, now)
    return VmDevices(id=name, host=host.id, age_s=None if age is None else round(age, 3), device_stats=said.stats)
