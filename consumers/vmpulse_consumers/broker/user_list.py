"""Who may use the broker: the hosts of a file, the engine's users, and a folder with a password for each."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from vmpulse_consumers.errors import BadHostList, PasswordUnusable
from vmpulse_contract.errors import BadName
from vmpulse_contract.identity import host_id
from vmpulse_contract.rights import SIMULATOR, engine_rights, host_rights, simulator_rights
from vmpulse_edges.broker_definitions import DefinedUser, is_password, password_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from vmpulse_contract.identity import HostId
    from vmpulse_contract.rights import Rights

PASSWORD_BYTES: Final = 24
LONGEST: Final = 1024
"""Bytes of a password file that are read."""


def read_hosts(path: Path) -> list[HostId]:
    """Read a list of hosts: one name a line, ``#`` begins a comment.

    Raises:
        BadHostList: it cannot be read, or a line is no host's name, or repeats one.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadHostList(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    known: dict[HostId, int] = {}
    for number, line in enumerate(lines, 1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        try:
            host = host_id(name)
        except BadName as error:
            raise BadHostList(f"{path}, line {number}: {error}") from error
        if host in known:
            raise BadHostList(f"{path}, line {number}: {host} is there already, in line {known[host]}")
        known[host] = number
    return list(known)


def wanted_rights(hosts: Iterable[HostId], view: str, *, simulator: bool) -> dict[str, Rights]:
    """Give the rights of all users: the engine's, the hosts', and those of the simulator if it is wanted."""
    more = {SIMULATOR: simulator_rights()} if simulator else {}
    return engine_rights(view) | more | {str(host): host_rights(host) for host in hosts}


def defined(rights: Mapping[str, Rights], passwords: Mapping[str, str], hashes: Mapping[str, str]) -> list[DefinedUser]:
    """Give the users to define; one of *hashes* is kept where it is of the password, so that nothing changes."""
    return [
        DefinedUser(name, kept if is_password(passwords[name], kept := hashes.get(name, "")) else fresh, its)
        for name, its in rights.items()
        for fresh in (password_hash(passwords[name]),)
    ]


def passwords_in(folder: Path, users: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Read the password of each user from the file of its name, making those that are not there.

    Gives the passwords, and the users for whom one was made. Raises PasswordUnusable.
    """
    made = []
    passwords = {}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for user in users:
            file = folder / user
            if not file.exists():
                _write(file, secrets.token_urlsafe(PASSWORD_BYTES))
                made.append(user)
            passwords[user] = _read(file)
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "filename", None) or folder
        raise PasswordUnusable(
            f"{what}: {getattr(error, 'strerror', None) or error}; name another --passwords"
        ) from error
    return passwords, made


def _write(file: Path, password: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
        opened.write(password)


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & stat.S_IROTH:
            raise PasswordUnusable(f"{file} can be read by everybody: chmod o-rwx {file}")
        password = opened.read(LONGEST + 1).decode().strip()
    if not password or len(password) > LONGEST:
        raise PasswordUnusable(f"{file} has to hold one password of 1 to {LONGEST} bytes; without it one is made")
    return password
