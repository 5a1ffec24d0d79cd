"""libvirt's errors in one line that says what to do."""

from __future__ import annotations

import errno
from typing import Final

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorTimeout, HypervisorUnavailable

_AUTH: Final = frozenset(
    {libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_CANCELLED, libvirt.VIR_ERR_AUTH_UNAVAILABLE}
)
_NO_DRIVER: Final = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_XML_ERROR,
    }
)
_PERMISSION: Final = "run the agent as root or in the group libvirt, or allow org.libvirt.unix.monitor in polkit"
_START: Final = "start it: systemctl start libvirtd (or virtqemud)"
_ERRNO: Final = {
    errno.ENOENT: f"its socket does not exist; install libvirt and {_START}",
    errno.ECONNREFUSED: f"nobody listens on its socket; {_START}",
    errno.EACCES: f"permission denied; {_PERMISSION}",
    errno.EPERM: f"permission denied; {_PERMISSION}",
}


def unavailable(uri: str, error: libvirt.libvirtError) -> HypervisorUnavailable:
    """Say why there is no connection to *uri*, and how to mend it."""
    return HypervisorUnavailable(f"cannot connect to libvirt at {uri}: {_remedy(error)} [{one_line(error)}]")


def silent(uri: str, seconds: float) -> HypervisorTimeout:
    """Say that no connection came in time."""
    return HypervisorTimeout(
        f"libvirt at {uri} did not answer within {seconds:g} s; see whether the daemon hangs: virsh -c {uri} list"
    )


def failed(what: str, error: libvirt.libvirtError) -> HypervisorError:
    """Say that one call has failed."""
    return HypervisorError(f"{what}: {one_line(error)}")


def _remedy(error: libvirt.libvirtError) -> str:
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_SYSTEM_ERROR:
        return _ERRNO.get(error.get_int1() or 0, "the daemon cannot be reached; see its log")
    if code in _AUTH:
        return f"not authorised; {_PERMISSION}"
    if code in _NO_DRIVER:
        return "no driver for this URI; use one such as qemu:///system"
    if code == libvirt.VIR_ERR_NO_SUPPORT:
        return "its driver lacks a call that is needed; use a driver with bulk statistics, such as qemu"
    return "the daemon did not let us in; see its log"


def one_line(error: libvirt.libvirtError) -> str:
    """What libvirt said, as one line and not too long."""
    return " ".join(str(error).split())[:300]
