"""Images to start from: pulled where a registry answers, else stand-ins of Debian's packages under the same tags.

And the project's own images, built as an operator behind a mirror would: with this machine's package sources, pip
settings and certificate authorities as build secrets.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.compose.engine import DOCKER, pulled
from tests.compose.failures import ComposeTestFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.compose.engine import Engine

ROOT: Final = Path(__file__).parents[2]
STANDINS: Final = Path(__file__).with_name("standins") / "Dockerfile"
DOCKERFILE: Final = ROOT / "deploy" / "docker" / "Dockerfile"
RELEASE: Final = "bookworm"
DEBIAN: Final = f"vmpulse-standin/debian:{RELEASE}"
LABEL: Final = "vmpulse.standin"
TARGETS: Final = ("consumers", "simulator", "agent")
PULL_S: Final = 60.0
DEBOOTSTRAP_S: Final = 400.0
BUILD_S: Final = 600.0

# Where Debian and this machine's administrator keep what builds need to know.
SOURCES: Final = (Path("/etc/apt/sources.list.d/debian.sources"),)
PIP_CONF: Final = Path("/etc/pip.conf")
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class PublicImages(NamedTuple):
    """The images of others, by the names that the deploy files give them."""

    python: str
    rabbitmq: str
    prometheus: str
    grafana: str

    @property
    def needed(self) -> tuple[str, ...]:
        """Those without which nothing can be tried; each has a stand-in."""
        return (self.python, self.rabbitmq, self.prometheus)


def build_secrets() -> list[str]:
    """What of this machine's settings a build needs, as options of ``docker build``."""
    given = {
        "apt_sources": next((path for path in SOURCES if path.is_file()), None),
        "pip_conf": Path(os.environ.get("PIP_CONFIG_FILE", PIP_CONF)),
        "ca_bundle": Path(os.environ.get("PIP_CERT", AUTHORITIES)),
    }
    return [
        option
        for name, path in given.items()
        if path is not None and path.is_file()
        for option in ("--secret", f"id={name},src={path}")
    ]


def provide(engine: Engine, images: PublicImages, folder: Path, say: Callable[[str], None]) -> list[str]:
    """See to it that the needed public images are there; gives the names of those that a stand-in was made for."""
    made = {image: target for target, image in images._asdict().items() if image in images.needed}
    recipe = hashlib.sha256(STANDINS.read_bytes()).hexdigest()[:16]
    standing_in = []
    reachable = True
    for image, target in made.items():
        if engine.has_image(image):
            if engine.label_of(image, LABEL) in {"", recipe}:
                standing_in += [image] * bool(engine.label_of(image, LABEL))
                continue
        elif reachable:
            say(f"pulling {image} ...")
            reachable = pulled(engine, image, PULL_S)
            if reachable:
                continue
        if not engine.private:
            raise ComposeTestFailed(f"no stand-in for {image} in an engine that is not ours")
        if not engine.has_image(DEBIAN):
            bootstrap_debian(engine, folder, say)
        say(f"making a stand-in for {image} ...")
        options = ("--label", f"{LABEL}={recipe}", "--build-arg", f"DEBIAN_IMAGE={DEBIAN}")
        build(engine, STANDINS, target, image, *options)
        standing_in.append(image)
    return standing_in


def bootstrap_debian(engine: Engine, folder: Path, say: Callable[[str], None]) -> None:
    """Make a minimal Debian from wherever this machine's apt gets it."""
    say("making a base image by debootstrap ...")
    root = folder / "debian"
    mirror = debian_mirror()
    try:
        engine.run(
            *("debootstrap", "--variant=minbase", RELEASE, str(root), *([mirror] if mirror else [])),
            seconds=DEBOOTSTRAP_S,
        )
        archive = subprocess.Popen(("tar", "-C", str(root), "-c", "."), stdout=subprocess.PIPE)
        with archive:
            done = subprocess.run(
                (DOCKER, "import", "-", DEBIAN),
                stdin=archive.stdout,
                env=engine.environment,
                capture_output=True,
                check=False,
            )
        if done.returncode or archive.returncode:
            raise ComposeTestFailed(f"docker import: {done.stderr.decode(errors='replace')[-500:]}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def debian_mirror() -> str | None:
    """The archive that this machine's apt uses for the release; None: debootstrap's own choice."""
    query = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Identifier: Packages")
    for line in subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines():
        uri, _, rest = line.partition(" ")
        if rest == f"{RELEASE} main":
            return uri
    return None


def build_ours(engine: Engine, tag: str, python: str, say: Callable[[str], None]) -> Mapping[str, int]:
    """Build the project's images; gives their sizes in MiB beyond the base image's."""
    base = size_of(engine, python)
    sizes = {}
    for target in TARGETS:
        say(f"building vmpulse-{target}:{tag} ...")
        build(engine, DOCKERFILE, target, f"vmpulse-{target}:{tag}", "--build-arg", f"PYTHON_IMAGE={python}")
        sizes[target] = (size_of(engine, f"vmpulse-{target}:{tag}") - base) >> 20
    return sizes


def build(engine: Engine, dockerfile: Path, target: str, image: str, *options: str) -> None:
    """Build one target, with the build secrets."""
    engine.docker(
        *("build", "--progress", "plain", *build_secrets(), *options),
        *("--target", target, "--tag", image, "--file", str(dockerfile), str(ROOT)),
        seconds=BUILD_S,
    )


def size_of(engine: Engine, image: str) -> int:
    """An image's bytes."""
    return int(engine.docker("image", "inspect", image, "--format", "{{.Size}}"))
