"""The kernel and the initial file system of the lab's real guests, built from Debian packages and kept for later runs.

Nothing is installed: the packages are downloaded through apt and unpacked. What the guest agent links against comes
from the host, where QEMU links against it as well. A build is named by a hash of all that went into it, so a new kernel
or a changed script leads to a new build and nothing else does.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

SCRIPTS: Final = Path(__file__).parent / "guest"
META_PACKAGE: Final = "linux-image-cloud-amd64"
"""It depends on the newest kernel of the release."""
OTHER_PACKAGES: Final = ("busybox-static", "qemu-guest-agent")
MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "virtio_console", "button", "evdev")
PROGRAMS: Final = {"init": "init", "load": "sbin/load", "shutdown": "sbin/shutdown", "power": "etc/acpi/PWRF/00000080"}
FOLDERS: Final = ("bin", "sbin", "usr/sbin", "dev", "proc", "sys", "run", "data", "modules", "etc/acpi/PWRF", "var")
APT_S: Final = 180.0
RECIPE: Final = "1"
"""Part of the hash: raise it when this module builds differently."""

Say = Callable[[str], None]


class ImageError(RuntimeError):
    """No guest image can be built here; the text says what helps."""


class GuestImage(NamedTuple):
    """What QEMU boots."""

    kernel: Path
    initrd: Path


def build(folder: Path, say: Say) -> GuestImage:
    """Give the image, built below *folder* if it is not there yet. Builders wait for each other.

    Raises ImageError: a package could not be had, or a library of the guest agent is not on this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = _packages()
        target = folder / _key(packages)
        if not target.exists():
            _build(target, packages, say)
        return GuestImage(target / "vmlinuz", target / "initrd")


def _packages() -> tuple[str, ...]:
    """``name=version`` of each package, as apt would install it now."""
    shown = _run("apt-cache", "show", "--no-all-versions", META_PACKAGE, *OTHER_PACKAGES)
    versions = dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", shown, re.MULTILINE | re.DOTALL))
    kernel = re.search(r"^Depends: (linux-image-\S+-cloud-amd64) \(= (\S+)\)", shown, re.MULTILINE)
    if kernel is None or not versions.keys() >= set(OTHER_PACKAGES):
        raise ImageError(f"apt does not know {META_PACKAGE} and {', '.join(OTHER_PACKAGES)}; run `apt-get update`")
    return (f"{kernel[1]}={kernel[2]}", *(f"{name}={versions[name]}" for name in OTHER_PACKAGES))


def _key(packages: Iterable[str]) -> str:
    digest = hashlib.sha256(RECIPE.encode())
    for text in packages:
        digest.update(text.encode() + b"\0")
    for script in PROGRAMS:
        digest.update((SCRIPTS / script).read_bytes())
    return digest.hexdigest()[:16]


def _build(target: Path, packages: Iterable[str], say: Say) -> None:
    """All or nothing: the folder gets its name when everything is in it."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="build-") as name:
        work = Path(name)
        say(f"guest image: downloading {', '.join(packages)} ...")
        _download(work, packages)
        say("guest image: building ...")
        tree = _unpack(work)
        made = work / "made"
        made.mkdir()
        shutil.copy(next(tree.glob("boot/vmlinuz-*")), made / "vmlinuz")
        (made / "initrd").write_bytes(gzip.compress(_archive(_contents(tree)), 6))
        made.rename(target)


def _download(work: Path, packages: Iterable[str]) -> None:
    # apt drops privileges for downloads where it can, and complains at length where it cannot.
    options = ("-q", "-o", "APT::Sandbox::User=root")
    _run("apt-get", *options, "download", *packages, folder=work)


def _unpack(work: Path) -> Path:
    tree = work / "tree"
    for package in work.glob("*.deb"):
        _run("dpkg-deb", "--extract", str(package), str(tree))
    return tree


def _run(*command: str, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"`{command[0]}` did not work: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        remedy = "refresh the package lists with `apt-get update`, or see whether the package mirror can be reached"
        raise ImageError(f"`{' '.join(command)}` failed: {last}; {remedy}")
    return done.stdout


def _contents(tree: Path) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and body of each file of the guest."""
    folders = {str(parent) for name in FOLDERS for parent in (Path(name), *Path(name).parents)} - {"."}
    agent = tree / "usr" / "sbin" / "qemu-ga"
    libraries = list(_libraries(agent))
    folders |= {str(parent) for name, _ in libraries for parent in Path(name).parents} - {"."}
    yield from ((name, 0o40755, b"") for name in sorted(folders))
    yield "var/run", 0o120777, b"/run"
    yield "bin/busybox", 0o100755, (tree / "bin" / "busybox").read_bytes()
    yield "usr/sbin/qemu-ga", 0o100755, agent.read_bytes()
    yield from ((name, 0o100755, body) for name, body in libraries)
    yield from ((name, 0o100755, (SCRIPTS / script).read_bytes()) for script, name in PROGRAMS.items())
    yield "etc/passwd", 0o100644, b"root:x:0:0:root:/:/bin/sh\n"
    modules = _modules(tree)
    yield from ((f"modules/{module.name}", 0o100644, module.read_bytes()) for module in modules)
    yield "modules/order", 0o100644, "".join(f"{module.name}\n" for module in modules).encode()


def _libraries(program: Path) -> Iterator[tuple[str, bytes]]:
    """Path and body of each shared library of a program, where the loader will look for it."""
    for line in _run("ldd", str(program)).splitlines():
        if "not found" in line:
            raise ImageError(f"the guest agent needs a library that is not installed: {line.strip()}")
        found = re.search(r"(/\S+) \(0x", line)
        if found is not None:
            yield found[1].lstrip("/"), Path(found[1]).read_bytes()


def _modules(tree: Path) -> list[Path]:
    """The modules that a guest needs, each after those that it depends on; what is not there is built in."""
    known = {_module_name(path.name): path for path in tree.glob("lib/modules/*/kernel/**/*.ko*")}
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        if name in known and name not in ordered:
            for needed in _needs(known[name]):
                add(needed)
            ordered[name] = None

    for name in MODULES:
        add(name)
    return [known[name] for name in ordered]


def _module_name(file: str) -> str:
    return file.partition(".")[0].replace("-", "_")


def _needs(module: Path) -> list[str]:
    found = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return [] if found is None or not found[1] else found[1].decode().replace("-", "_").split(",")


def _archive(contents: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive of the kind "newc", see the kernel's early-userspace/buffer-format."""
    parts = [_entry(number, *entry) for number, entry in enumerate(contents, 1)]
    return b"".join([*parts, _entry(0, "TRAILER!!!", 0, b"")])


def _entry(number: int, name: str, mode: int, body: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return _padded(head) + _padded(body)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
