"""Write docs/licences.md: the licence of each package that an installation brings, and why it is allowed.

Run it as ``make licences``. What a package states about itself comes from its installed metadata, as an SPDX expression
and without a version, so a new version changes the page only if its licence changed. Programs that list licences print
what they find, in three vocabularies; whether a licence is allowed needs one, and a few spellings lead to it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("agent", "consumers", "simulator")
PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT", "PSF-2.0", "Zlib"},
)
"""What any package may have. A licence that is missing here is for people to decide about, not for this script."""
EXCEPTIONS = {
    "certifi": (
        "MPL-2.0",
        "Its copyleft ends at its own files: a list of certificates and what reads it, which we ship unchanged.",
    ),
    "libvirt-python": (
        "LGPL-2.0-or-later",
        (
            "The agent imports it through its public interface and changes nothing in it. It is installed as a package "
            "of its own that anybody can replace, and the hash in the lock is that of its source. So the LGPL holds "
            "for the binding and asks nothing of our code."
        ),
    ),
}
"""What one package alone may have, and why."""
BUNDLED = {
    "numpy": {
        "libgfortran": "GPL-3.0-or-later WITH GCC-exception-3.1",
        "libquadmath": "LGPL-2.1-or-later",
        "libscipy_openblas64_": "BSD-3-Clause AND BSD-3-Clause-Open-MPI",
    },
}
"""Shared libraries that wheels carry along, as the package's own licence file tells; its metadata leaves them out."""
SPELLINGS = {
    "LGPL-v2.0-or-later": "LGPL-2.0-or-later",
    "License :: OSI Approved :: MIT License": "MIT",
    "MIT License": "MIT",
}
"""What older metadata says, in SPDX's words. Classifiers that could mean several licences have no place here."""
PAGE = """\
# Licences

vmpulse is under [Apache-2.0](../LICENSE). This page lists every package that the locks of its programs bring, by what
the package states about itself. `make licences` writes it; `tests/test_licences.py` fails when a package is missing or
its licence is not allowed. What comes from Debian (Python, libvirt) has Debian's own copyright files.

| package | licence | in |
|---|---|---|
{packages}

## What is allowed

Any package may have one of these, which ask for little more than that notices are kept:
{permissive}.
The notices are in each package's `.dist-info` folder, which images and the Debian package keep. One package each may
have:

| package | licence | why |
|---|---|---|
{exceptions}

Anything else is refused by `make licences` until somebody has read it, and added it to `requirements/licences.py` with
the reason.

## Libraries inside wheels

Some wheels carry shared libraries of others, which the licence file tells and the metadata leaves out. The exception of
GCC's runtime libraries allows their use by programs under any licence; libquadmath is a file of its own, unchanged and
replaceable.

| package | library | licence |
|---|---|---|
{bundled}
"""


class LicenceError(Exception):
    """A licence that is unknown or not allowed, or a page that is out of date. The message says what helps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or compare it. Gives the exit status."""
    options = parse(arguments)
    try:
        page = render(read_locks(options.locks))
        if options.check:
            compare(page, options.page)
        else:
            options.page.write_text(page, encoding="utf-8")
    except LicenceError as error:
        print(f"licences: error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="licences.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if the page would change")
    parser.add_argument("--locks", type=Path, default=ROOT / "requirements", help="the folder with the lock files")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "licences.md", help="the page to write")
    return parser.parse_args(arguments)


def read_locks(folder: Path) -> dict[str, list[str]]:
    """Package -> the programs whose locks bring it, both in order."""
    found: dict[str, list[str]] = {}
    for program in PROGRAMS:
        text = (folder / f"{program}.txt").read_text(encoding="utf-8")
        for name in re.findall(r"^(\S+)==", text, re.MULTILINE):
            found.setdefault(name, []).append(program)
    return dict(sorted(found.items()))


# --- what packages state --------------------------------------------------------------------------------------------


def licence(package: str) -> str:
    """The licence of an installed package as an SPDX expression. Raises LicenceError if it is not allowed."""
    stated = next(statements(package), "nothing that it states")
    expression = SPELLINGS.get(stated, stated)
    allowed = PERMISSIVE | set(EXCEPTIONS.get(package, ())[:1])
    refused = set(re.split(r"\s+(?:AND|OR)\s+", expression.replace("(", "").replace(")", ""))) - allowed
    if refused:
        raise LicenceError(f"{package} is under {stated}, which is not allowed")
    return expression


def statements(package: str) -> Iterator[str]:
    """What the metadata says about the licence, the most exact first. Raises LicenceError if it is not installed."""
    try:
        metadata = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise LicenceError(f"{package} is locked and not installed here; run `make setup`") from error
    yield from metadata.get_all("License-Expression") or []
    # Some put the whole text there, of which the first line is the name.
    yield from (text.strip().splitlines()[0] for text in metadata.get_all("License") or [] if text.strip())
    yield from (line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::"))


def bundled(package: str) -> Mapping[str, str]:
    """The shared libraries that wheels of the package carry. Raises LicenceError for one nobody has looked at."""
    known = BUNDLED.get(package, {})
    for file in importlib.metadata.files(package) or []:
        found = re.match(r"[^/]+\.libs/(lib[^-.]+)", str(file))
        if found and found[1] not in known:
            raise LicenceError(f"{package} carries {file.name}; look its licence up, and add it to BUNDLED")
    return known


# --- the page -------------------------------------------------------------------------------------------------------


def render(packages: Mapping[str, Sequence[str]]) -> str:
    """The page. Raises LicenceError for a licence that is not allowed."""
    return PAGE.format(
        packages=rows((name, licence(name), ", ".join(programs)) for name, programs in packages.items()),
        permissive=", ".join(sorted(PERMISSIVE)),
        exceptions=rows((name, *EXCEPTIONS[name]) for name in packages if name in EXCEPTIONS),
        bundled=rows((name, *library) for name in packages for library in bundled(name).items()),
    )


def rows(cells: Iterable[Sequence[str]]) -> str:
    """Lines of a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def compare(page: str, file: Path) -> None:
    """Raise LicenceError, with the first line that differs, unless the file holds just this page."""
    found = file.read_text(encoding="utf-8") if file.exists() else ""
    if found == page:
        return
    new = [line for line in page.splitlines() if line not in found.splitlines()]
    old = [line for line in found.splitlines() if line not in page.splitlines()]
    raise LicenceError(f"{file.name} is out of date, run `make licences`: {(new or old or ['order'])[0]}")


if __name__ == "__main__":
    sys.exit(main())
