"""Build the Debian package: both programs in a virtual environment of their own below /opt/vmpulse, and their units.

It runs on Debian's own Python, which the package depends on, with nothing but the standard library. The result is in
dist/.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "deploy")]

from packaged_environment import HOME, PackageError, environment, run  # noqa: E402

UNITS = ("vmpulse-agent.service", "vmpulse-view.service")
DOCUMENTS = ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "docs/licences.md")
PROGRAMS = ("vmpulse", "vmpulse-agent")
MAINTAINER = "vmpulse maintainers <vmpulse@localhost>"
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if command -v systemd-sysusers >/dev/null; then systemd-sysusers vmpulse.conf || true; fi
    install -d -m 0755 /etc/vmpulse
    # The view's user may not write there, and would compile everything at each start.
    /opt/vmpulse/bin/python3 -m compileall -q /opt/vmpulse/lib
    if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now vmpulse-agent.service vmpulse-view.service || true
fi
find /opt/vmpulse -name __pycache__ -prune -exec rm -rf {} +
"""


def main() -> int:
    """Build it; gives the exit code, and says where the package is."""
    try:
        print(build())
    except (PackageError, OSError) as error:
        print(f"deb: {error}", file=sys.stderr)
        return 1
    return 0


def build() -> Path:
    """Build the package. Raises PackageError."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    architecture = run("dpkg", "--print-architecture").strip()
    stage = ROOT / ".vmpulse" / "deb"
    shutil.rmtree(stage, ignore_errors=True)
    say("a virtual environment, with every package by its hash")
    environment(stage)
    say("units and documents")
    files(stage)
    control(stage, version, architecture)
    package = ROOT / "dist" / f"vmpulse_{version}_{architecture}.deb"
    package.parent.mkdir(exist_ok=True)
    run("dpkg-deb", "--root-owner-group", "--build", str(stage), str(package))
    shutil.rmtree(stage)
    return package


def files(stage: Path) -> None:
    """Put units, documents and links where Debian has them."""
    units = stage / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in UNITS:
        shutil.copyfile(ROOT / "deploy" / "systemd" / unit, units / unit)
    sysusers = stage / "usr" / "lib" / "sysusers.d"
    sysusers.mkdir(parents=True)
    shutil.copyfile(ROOT / "deploy" / "systemd" / "vmpulse.sysusers", sysusers / "vmpulse.conf")
    documents = stage / "usr" / "share" / "doc" / "vmpulse"
    documents.mkdir(parents=True)
    for document in DOCUMENTS:
        shutil.copyfile(ROOT / document, documents / Path(document).name)
    shutil.copyfile(ROOT / "LICENSE", documents / "copyright")
    programs = stage / "usr" / "bin"
    programs.mkdir(parents=True)
    for program in PROGRAMS:
        (programs / program).symlink_to(HOME / "bin" / program)


def control(stage: Path, version: str, architecture: str) -> None:
    """Write what dpkg has to know."""
    minor = run(sys.executable, "-c", "import sys; print(sys.version_info.minor)").strip()
    folder = stage / "DEBIAN"
    folder.mkdir()
    size = sum(file.lstat().st_size for file in stage.rglob("*") if not file.is_dir()) >> 10
    fields = {
        "Package": "vmpulse",
        "Version": version,
        "Architecture": architecture,
        "Maintainer": MAINTAINER,
        "Installed-Size": size,
        "Depends": f"python3 (>= 3.{minor}), python3 (<< 3.{int(minor) + 1}), libvirt0",
        "Recommends": "libvirt-daemon | rabbitmq-server",
        "Section": "admin",
        "Priority": "optional",
        "Description": "what every VM of a fleet is doing, told over a message broker\n"
        " An agent on each hypervisor publishes what libvirt knows of its VMs; a view beside\n"
        " the engine keeps one picture of all of them.",
    }
    (folder / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()), encoding="utf-8")
    for name, script in (("postinst", POSTINST), ("prerm", PRERM)):
        (folder / name).write_text(script, encoding="utf-8")
        (folder / name).chmod(0o755)


def say(words: str) -> None:
    """Say how far it has come."""
    print(f"deb: {words} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
