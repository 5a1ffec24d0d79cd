"""A private libvirt that is reached in other ways: through a modular daemon's sockets, with SASL, over TCP and TLS.

Its network exists only in its own namespace, and so do its default sockets; ``inside`` runs a program there.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import libvirt

from tests.lab.private_libvirt import PrivateLibvirt

ADDRESS: Final = "10.98.0.1"
USER: Final = "agent"
SECRET: Final = "lab-libvirt-secret"
PATIENCE_S: Final = 30.0
_REALM: Final = "lab"
_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_DAYS: Final = ("-days", "2")
# systemd's way to hand over sockets, done by the program that becomes the daemon.
_LISTEN: Final = """
import os, socket, sys
names = sys.argv[2:]
for number, name in enumerate(names):
    one = socket.socket(socket.AF_UNIX)
    one.bind(f"/run/libvirt/{sys.argv[1]}-sock{'-ro' if name == 'libvirtd-ro.socket' else ''}")
    one.listen()
    os.dup2(one.detach(), 100 + number, inheritable=False)
for number in range(len(names)):
    os.dup2(100 + number, 3 + number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
os.execvp("libvirtd", ["libvirtd", "-f", "/etc/libvirt/libvirtd.conf", "-p", "/run/libvirt/activated.pid"])
"""
WRITABLE: Final = "libvirtd.socket"
READ_ONLY: Final = "libvirtd-ro.socket"


def missing() -> str | None:
    """Why none of this can be done here, or None."""
    absent = [program for program in ("nsenter", "openssl", "saslpasswd2") if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def inside(node: PrivateLibvirt, *command: str, files: bool = False) -> list[str]:
    """Give the command that runs *command* in the node's network; with *files*, also with its folders of libvirt."""
    spaces = ["--net", "--mount", f"--wd={Path.cwd()}"] if files else ["--net"]
    return ["nsenter", "--target", str(node.keeper_pid), *spaces, *command]


def probed(uri: str) -> None:
    """Wait until a daemon has tried out its QEMU, which takes longer than an agent waits, and has its domains back."""

    def answer(wanted: list[list[object]], _: object) -> int:
        for credential in wanted:
            credential[4] = USER if credential[0] == libvirt.VIR_CRED_AUTHNAME else SECRET
        return 0

    admin = libvirt.openAuth(uri, [[libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE], answer, None], 0)
    admin.getCapabilities()
    admin.getAllDomainStats()
    admin.close()


def reconfigure(node: PrivateLibvirt, **settings: str | int) -> None:
    """Start the daemon anew with other settings in its libvirtd.conf."""
    node.terminate()
    file = node.root / "etc" / "libvirtd.conf"
    kept = [line for line in file.read_text().splitlines() if line.partition(" = ")[0] not in settings]
    changed = [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in settings.items()
    ]
    file.write_text("\n".join([*kept, *changed]) + "\n")
    node.start()


@contextlib.contextmanager
def activated(node: PrivateLibvirt, name: str, *sockets: str) -> Iterator[None]:
    """Have a daemon that systemd would start: it listens at its default place, as NAME-sock and NAME-sock-ro."""
    command = inside(node, sys.executable, "-c", _LISTEN, name, *sockets, files=True)
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = node.root / "run" / f"{name}-sock{'' if WRITABLE in sockets else '-ro'}"
    try:
        end = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert daemon.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        probed(f"qemu+unix:///system?socket={path}")
        yield
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)
        for left in (node.root / "run").glob("*-sock*"):
            left.unlink()


def sasl_config(folder: Path, mechanism: str) -> None:
    """Write what a daemon needs for SASL, with one user, to where its SASL_CONF_PATH has to lead."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        f"mech_list: {mechanism}",
        "pwcheck_method: auxprop",
        "auxprop_plugin: sasldb",
        f"sasldb_path: {folder}/db",
    )
    (folder / "libvirt.conf").write_text("\n".join(lines) + "\n")
    set_password(folder, SECRET)


def set_password(folder: Path, password: str) -> None:
    """Give the user a password. The realm is the daemon's host name."""
    command = ["saslpasswd2", "-p", "-c", "-a", "libvirt", "-u", _REALM, "-f", str(folder / "db"), USER]
    subprocess.run(command, input=password, text=True, check=True, capture_output=True)


def sasl_node(root: Path) -> PrivateLibvirt:
    """A node of the host name that is the realm."""
    return PrivateLibvirt(root, _REALM, ADDRESS)


def refusals(node: PrivateLibvirt) -> int:
    """How often the daemon has refused a password."""
    return len(re.findall(r"remoteDispatchAuthSasl(?:Start|Step)\S* : authentication failed", node.log))


def authority(folder: Path) -> None:
    """Make a certificate authority in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    uses = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl(
        folder, "req", "-x509", *_CURVE, "-keyout", "cakey.pem", "-out", "cacert.pem", *_DAYS, "-subj", "/CN=ca", *uses
    )


def certificates(folder: Path) -> None:
    """Make certificates of server and client, by the folder's authority, under the names that libvirt looks for."""
    for name, use in (("server", f"subjectAltName=IP:{ADDRESS}"), ("client", "extendedKeyUsage=clientAuth")):
        (folder / f"{name}.ext").write_text(use + "\n")
        _openssl(folder, "req", *_CURVE, "-keyout", f"{name}key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "cacert.pem", "-CAkey", "cakey.pem", "-CAcreateserial", "-extfile", f"{name}.ext", *_DAYS)
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}cert.pem", *signing)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
