"""libvirt's errors in one line that says what to do."""

from __future__ import annotations

import errno
import os
from typing import Final, NamedTuple

import libvirt

from vmpulse_agent.errors import HypervisorError, HypervisorRefused, HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.libvirt_edge import addresses

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
_PERMISSION: Final = (
    "run the agent as root or in the group libvirt, or allow org.libvirt.unix.monitor (to ask guest agents: "
    "org.libvirt.unix.manage) in polkit"
)
_TRANSPORT_UNREACHED: Final = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
)
_CERTIFICATES: Final = (
    "see the address, and cacert.pem, clientcert.pem and clientkey.pem, in libvirt's own folders or in the one that "
    "?pkipath= names: both sides need certificates of one authority, and the server's has to hold its name"
)


_MECHANISMS: Final = (
    "take qemu+tls:// or, in its sasl2/libvirt.conf, a mechanism that encrypts and is installed here: without TLS "
    "libvirt takes no other (SCRAM does not encrypt)"
)


class Refusal(NamedTuple):
    """What is known of a connection that was not let in, beside the error. ``asked``: for user or password."""

    asked: bool
    given: bool
    unreadable: Exception | None


def unavailable(uri: str, error: libvirt.libvirtError, refusal: Refusal | None = None) -> HypervisorUnavailable:
    """Say why there is no connection to *uri*, and how to mend it. No secret is shown."""
    kind, remedy = HypervisorUnavailable, _remedy(uri, error)
    if error.get_error_code() in _AUTH or (refusal is not None and refusal.unreadable is not None):
        kind, remedy = HypervisorRefused, _admission(uri, refusal or Refusal(asked=False, given=False, unreadable=None))
    return kind(f"cannot connect to libvirt at {addresses.shown(uri)}: {remedy} [{one_line(error, uri)}]")


def silent(uri: str, seconds: float) -> HypervisorTimeout:
    """Say that no connection came in time."""
    uri = addresses.shown(uri)
    return HypervisorTimeout(
        f"libvirt at {uri} did not answer within {seconds:g} s; see whether the daemon hangs, or serves as many "
        f"clients as it may (max_clients in its configuration): virsh -c '{uri}' list"
    )


def failed(what: str, error: libvirt.libvirtError) -> HypervisorError:
    """Say that one call has failed."""
    return HypervisorError(f"{what}: {one_line(error)}")


def one_line(error: libvirt.libvirtError, uri: str | None = None) -> str:
    """What libvirt said, as one line and not too long; where it repeats the *uri*, without its secrets."""
    text = " ".join(str(error).split())
    return (text.replace(uri, addresses.shown(uri)) if uri else text)[:300]


def _remedy(uri: str, error: libvirt.libvirtError) -> str:
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_SYSTEM_ERROR:
        number = error.get_int1() or 0
        return _at_socket(uri, number) if addresses.is_unix(uri) else _over_network(uri, number)
    file = addresses.auth_file(uri)
    if file is not None and not os.access(file, os.R_OK):
        return f"its auth file cannot be read; see that {file} is there, and may be read by the agent's user"
    if code in _NO_DRIVER:
        return "no driver for this URI; use one such as qemu:///system"
    if code == libvirt.VIR_ERR_NO_SUPPORT:
        return "its driver lacks a call that is needed; use a driver with bulk statistics, such as qemu"
    return "the daemon did not let us in; see its log"


def _at_socket(uri: str, number: int) -> str:
    wanted = addresses.sockets(uri, read_only=True)
    if number in {errno.EACCES, errno.EPERM}:
        return f"permission denied; {_PERMISSION}"
    if number == errno.ECONNREFUSED:
        return f"nobody listens on its socket; {_start(wanted)}"
    if number != errno.ENOENT:
        return "the daemon cannot be reached; see its log"
    absent = " or ".join(str(socket.path) for socket in wanted) or "its socket"
    writable = [socket.path for socket in addresses.sockets(uri, read_only=False) if socket.path.exists()]
    if writable and writable[0] not in {socket.path for socket in wanted}:
        return f"there is {writable[0]}, but no read-only socket, {absent}; {_start(wanted)}"
    return f"there is no {absent}; install libvirt and {_start(wanted)}"


def _start(wanted: list[addresses.Socket]) -> str:
    named = [socket for socket in wanted if socket.unit.endswith(".socket")]
    if not named:
        return "start the daemon that makes it"
    return "start it: " + " or ".join(f"systemctl start {socket.unit} ({socket.daemon})" for socket in named)


def _over_network(uri: str, number: int) -> str:
    if number in _TRANSPORT_UNREACHED:
        units = "libvirtd-tls.socket, virtproxyd-tls.socket, or -tcp.socket by the URI"
        return f"nobody answers there; see that the daemon listens ({units}), and firewalls between"
    if _is_tls(uri):
        why = "a certificate cannot be read" if number == errno.ENOENT else "no TLS connection came about"
        return (
            f"{why}; see the address, and {_CERTIFICATES}, or in libvirt's own: both sides need certificates of one CA"
        )
    return "it cannot be reached; see the address"


def _is_tls(uri: str) -> bool:
    """TLS is what libvirt takes for a URI with a host and without a transport."""
    transport = uri.partition(":")[0].partition("+")[2]
    return transport in {"", "tls"} and not addresses.is_unix(uri)


def _admission(uri: str, refusal: Refusal) -> str:
    """What to do for one who was not let in: by what was asked, as libvirt's texts differ by mechanism and language."""
    if refusal.unreadable is not None:
        return f"its password cannot be read ({refusal.unreadable}); mend libvirt_password_file"
    if refusal.given:
        return "user or password are wrong; mend libvirt_user or what libvirt_password_file holds"
    file = addresses.auth_file(uri)
    if file is not None:
        return f"not authorised; see user and password for this host in {file}"
    if refusal.asked:
        return "it asks for user and password; set libvirt_user and libvirt_password_file, or ?authfile= in the URI"
    return f"not authorised; {_unasked(uri)}"


def _unasked(uri: str) -> str:
    """What to do for one who was refused without a question."""
    if addresses.is_unix(uri):
        return f"{_PERMISSION}; with SASL: see the mechanisms in its sasl2/libvirt.conf"
    if _is_tls(uri):
        return f"{_CERTIFICATES}; with SASL: see the mechanisms in its sasl2/libvirt.conf"
    return _MECHANISMS
