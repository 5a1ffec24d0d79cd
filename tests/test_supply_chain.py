"""Where packages come in: each by its hash, whoever installs it, and nothing unnamed on the way."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
FOLDERS = ("agent", "benches", "consumers", "contract", "deploy", "edges", "requirements", "simulator", ".ci")
BOOTSTRAP = ROOT / "deploy" / "bootstrap.py"
PACKAGED = ROOT / "deploy" / "packaged_environment.py"
AUDIT = REQUIREMENTS / "audit.py"
SHELL = (ROOT / "deploy" / "docker" / "Dockerfile", ROOT / "deploy" / "docker" / "fetch.sh")
CALLS_PIP = re.compile(r"""(?:-m\W{1,6}|bin/)pip\b""")
VALUED = ("-r", "--requirement", "--wheel-dir", "--python")

Commands = list[list[str]]


def logical_lines(text: str) -> Iterator[str]:
    """Lines as shells and pip see them: continued ones joined, without comments and empty ones."""
    without_comments = re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE)
    for line in without_comments.replace("\\\n", " ").splitlines():
        if line.strip():
            yield " ".join(line.split())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_line_is_one_exact_version(lock: Path) -> None:
    """Each requirement of a lock is ``name==version`` without a wildcard, and its only options are SHA-256 hashes."""
    lines = list(logical_lines(lock.read_text(encoding="utf-8")))
    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.!+]*( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})*", line), line


# --- who calls pip ----------------------------------------------------------------------------------------------------


def call(command: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command's call of pip as its words, the verb first, and its options; both empty if it calls no pip."""
    given: list[str] = []
    options: dict[str, str] = {}
    words = iter(command)
    if not any(Path(word).name == "pip" for word in words):
        return [], {}
    for word in words:
        option, _, value = word.partition("=")
        if word.startswith("-"):
            options[option] = value or (next(words) if option in VALUED else "")
        else:
            given.append(word)
    return given, options


def fetches(command: Sequence[str]) -> bool:
    """Whether it is a call of pip that may bring a package."""
    return call(command)[0][:1] in (["install"], ["wheel"], ["download"])


def objection(command: Sequence[str]) -> str:
    """What is wrong with such a call; empty if nothing can come in but by its hash."""
    (_, *given), options = call(command)
    lock = options.get("-r") or options.get("--requirement")
    if not lock:
        # Our own tree, or wheels that a locked step has made: pip is not to look for anything else.
        own = given in ([str(ROOT)], ["."]) and "--no-build-isolation" in options
        made = given == ["wheels/*.whl"] and "--no-index" in options
        return "" if "--no-deps" in options and (own or made) else "neither a lock nor our own tree alone"
    if given or "--require-hashes" not in options:
        return "not by hash alone"
    # What builds a source distribution has to be locked too. The build tools themselves come first, as wheels.
    sealed = "--no-build-isolation" in options or options.get("--only-binary") == ":all:"
    return "" if sealed or Path(lock).name == "build.txt" else "building may fetch what no lock names"


def shell_commands(text: str) -> Iterator[list[str]]:
    """Each command of a Dockerfile or shell script that calls pip."""
    for line in logical_lines(text):
        for command in re.split(r"&&|\|\||;|\|", line):
            if CALLS_PIP.search(command):
                yield shlex.split(command)


def load(script: Path) -> ModuleType:
    """A script of the project as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"supply_chain_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The list that fills with the commands of a script, each written down instead of run."""
    commands: Commands = []

    def run(*command: str | Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append([word for part in command for word in ([part] if isinstance(part, str) else part)])
        return subprocess.CompletedProcess(commands[-1], 0, "", "")

    monkeypatch.setattr(module, "run", run)
    return commands


def bootstrap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """How a checkout gets its .venv."""
    module = load(BOOTSTRAP)
    monkeypatch.setattr(module, "VENV", folder)
    monkeypatch.setattr(module, "STAMP", folder / "stamp")
    commands = recorded(module, monkeypatch)
    module.build_venv()
    return commands


def packaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """How packages are filled; the environment that it looks at afterwards is there and empty."""
    module = load(PACKAGED)
    home = folder / "opt" / "vmpulse"
    (home / "bin").mkdir(parents=True)
    (home / "pyvenv.cfg").touch()
    commands = recorded(module, monkeypatch)
    module.environment(folder)
    return commands


def audit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """How pip-audit gets its environment."""
    module = load(AUDIT)
    monkeypatch.setattr(module, "STAMP", folder / "stamp")
    commands = recorded(module, monkeypatch)
    module.provide()
    return commands


SCRIPTS: dict[Path, tuple[Callable[[Path, pytest.MonkeyPatch], Commands], list[str]]] = {
    BOOTSTRAP: (bootstrap, ["build.txt", "dev.txt"]),
    PACKAGED: (packaged, ["build.txt", "agent.txt", "consumers.txt"]),
    AUDIT: (audit, ["audit.txt"]),
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_install_by_hash(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a script installs from an index comes from its locks, by hash, and so does what builds it."""
    run, locks = SCRIPTS[script]
    commands = [command for command in run(tmp_path, monkeypatch) if fetches(command)]
    assert [Path(word).name for command in commands for word in command if word.endswith(".txt")] == locks
    assert {" ".join(command): objection(command) for command in commands if objection(command)} == {}


@pytest.mark.parametrize("file", SHELL, ids=lambda file: file.name)
def test_images_install_by_hash(file: Path) -> None:
    """Whatever an image build fetches comes from a lock by hash; its other calls of pip are kept from any index."""
    text = file.read_text(encoding="utf-8")
    commands = [command for command in shell_commands(text) if fetches(command)]
    calls = sum(len(CALLS_PIP.findall(line)) for line in logical_lines(text))
    assert len(commands) == calls > 0
    assert {" ".join(command): objection(command) for command in commands if objection(command)} == {}


def test_nobody_else_calls_pip() -> None:
    """The places that call pip are those that the tests above look at."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()]
    # `make secrets` writes into deploy/secrets what not every user may read.
    files = [file for file in files if file.suffix != ".pyc" and "secrets" not in file.parts]
    sources = [*files, ROOT / "Makefile", ROOT / "docker-compose.yml"]
    calling = {file for file in sources if CALLS_PIP.search(file.read_text(encoding="utf-8", errors="replace"))}
    assert calling == {*SCRIPTS, *SHELL}


@pytest.mark.parametrize(
    "command",
    [
        "pip install yarl",
        "pip install --no-deps yarl==1.25.1",
        "pip install -r requirements/agent.txt --no-build-isolation",
        "pip install --require-hashes -r requirements/agent.txt",
        "pip install --require-hashes --no-build-isolation -r requirements/agent.txt yarl",
        "python3 -m pip wheel --no-deps .",
        "pip install --no-deps wheels/*.whl",
        "pip install --no-build-isolation .",
    ],
)
def test_lax_commands_are_seen(command: str) -> None:
    """A call of pip without hashes, with a package by name, or free to fetch build tools, has an objection."""
    words = shlex.split(command)
    assert fetches(words)
    assert objection(words)
