"""Write what the composed services authenticate with: random passwords as files, and RabbitMQ's definitions.

It runs on the system's Python with nothing but the standard library. What is there stays: to change a password, remove
its file, run this again, and restart the services that use it. The folder is for its owner alone; the files in it can
be read by everyone who gets that far, because a container's user is another one on each image.

RabbitMQ learns of the users by definitions, which hold salted hashes and no password.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Neither needs anything that would have to be installed first.
sys.path[:0] = [str(ROOT / "contract"), str(ROOT / "edges")]

from vmpulse_contract.rights import SIMULATOR, Rights, engine_rights, host_rights, simulator_rights  # noqa: E402
from vmpulse_edges import broker_definitions  # noqa: E402
from vmpulse_edges.broker_definitions import DefinedUser, is_password, password_hash  # noqa: E402

FOLDER = Path(__file__).resolve().parent / "secrets"
DEFINITIONS = "rabbitmq_definitions.json"
GRAFANA = "grafana.admin"
HOST_PREFIX = "host."
HOST_ID = re.compile("[a-z0-9_-]{1,63}")
PASSWORD_BYTES = 24


class SecretsError(Exception):
    """Something stands in the way. The message says what helps."""


@dataclass(frozen=True)
class User:
    """A user of the broker, and the file of its password."""

    name: str
    file: str
    rights: Rights


def engine_users() -> list[User]:
    """The engine's side; names with a dot are no host's."""
    rights = {**engine_rights(), SIMULATOR: simulator_rights()}
    return [User(name, name, its) for name, its in rights.items()]


def host_user(host: str) -> User:
    """A host speaks for itself alone."""
    return User(host, HOST_PREFIX + host, host_rights(host))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is missing; gives the exit code: 0, or 1 with one line that says what is in the way."""
    parser = argparse.ArgumentParser(prog="make_secrets.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", action="append", default=[], metavar="NAME", help="a host whose agent gets a user")
    parser.add_argument("--without-simulator", action="store_true", help=f"no {SIMULATOR}, who may speak for any host")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where to write (default {FOLDER})")
    options = parser.parse_args(arguments)
    try:
        write_all(options.folder, options.host, simulator=not options.without_simulator)
    except (SecretsError, OSError) as error:
        sys.stderr.write(f"secrets: {error}\n")
        return 1
    return 0


def write_all(folder: Path, hosts: Iterable[str], *, simulator: bool = True) -> None:
    """Write passwords and definitions into *folder*. Raises SecretsError."""
    for host in hosts:
        if not HOST_ID.fullmatch(host):
            raise SecretsError(f"--host {host!r}: a host's name is 1 to 63 of a-z, 0-9, - and _")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not simulator:
        (folder / SIMULATOR).unlink(missing_ok=True)
    engine = [user for user in engine_users() if simulator or user.name != SIMULATOR]
    users = [*engine, *map(host_user, sorted({*hosts, *known_hosts(folder)}))]
    made = [name for name in (*(user.file for user in users), GRAFANA) if make_password(folder / name)]
    passwords = {user.name: read_password(folder / user.file) for user in users}
    changed = put(folder / DEFINITIONS, definitions(users, passwords, known_hashes(folder / DEFINITIONS)))
    say(folder, made, changed)


def known_hosts(folder: Path) -> list[str]:
    """The hosts that have a password already."""
    return [path.name.removeprefix(HOST_PREFIX) for path in folder.glob(f"{HOST_PREFIX}*") if path.is_file()]


def make_password(file: Path) -> bool:
    """Make a password unless there is one; tells whether it did.

    Raises:
        SecretsError: a folder that is not empty stands in its place.
    """
    clear(file)
    return not file.exists() and put(file, secrets.token_urlsafe(PASSWORD_BYTES))


def clear(file: Path) -> None:
    """Remove the empty folder that a Docker engine makes in the place of a file that it should mount."""
    if file.is_dir():
        try:
            file.rmdir()
        except OSError as error:
            raise SecretsError(f"{file} is a folder, and should be a file: remove it ({error.strerror})") from error


def read_password(file: Path) -> str:
    """Read it back. Raises SecretsError if it is empty."""
    password = file.read_text(encoding="utf-8").strip()
    if not password:
        raise SecretsError(f"{file} is empty: write a password into it, or remove it to have one made")
    return password


def put(file: Path, content: str) -> bool:
    """Write a file as a whole, so that nobody reads half of it; tells whether that changed anything."""
    clear(file)
    if file.exists() and file.read_text(encoding="utf-8") == content:
        return False
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(content, encoding="utf-8")
    fresh.chmod(0o444)
    fresh.replace(file)
    return True


def known_hashes(file: Path) -> dict[str, str]:
    """User -> hash in the definitions that are there; they are kept as long as they fit the password."""
    try:
        users = json.loads(file.read_text(encoding="utf-8"))["users"]
        return {user["name"]: user["password_hash"] for user in users}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def definitions(users: Iterable[User], passwords: dict[str, str], hashes: dict[str, str]) -> str:
    """What the node loads at each start, as JSON. Definitions add and change; they remove no user."""
    known = [
        DefinedUser(user.name, kept_hash(passwords[user.name], hashes.get(user.name, "")), user.rights)
        for user in users
    ]
    return json.dumps(broker_definitions.definitions(known), indent=2) + "\n"


def kept_hash(password: str, known: str) -> str:
    """A *known* hash of the same password stays, so that nothing changes where nothing has to."""
    return known if is_password(password, known) else password_hash(password)


def say(folder: Path, made: Sequence[str], changed: bool) -> None:  # noqa: FBT001 - two outcomes of one call
    """Tell what was done, and what is left to do."""
    shown = os.path.relpath(folder)
    print(f"secrets: made {', '.join(made)} in {shown}" if made else f"secrets: every password is there, in {shown}")
    if changed:
        print(f"secrets: wrote {DEFINITIONS}; a RabbitMQ that runs reads it when it is restarted")


if __name__ == "__main__":
    sys.exit(main())
