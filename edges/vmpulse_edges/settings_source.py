"""Where settings come from: a TOML file, the environment, flags. The only place that reads them."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from vmpulse_contract import settings as contract_settings
from vmpulse_contract.errors import SettingsError

if TYPE_CHECKING:
    import argparse

S = TypeVar("S", bound=Struct)


def load(kind: type[S], args: argparse.Namespace, prefix: str) -> S:
    """Build the settings. Raises SettingsError with the setting, the value and what is allowed."""
    flags = {name: getattr(args, name, None) for name in kind.__struct_fields__}
    return contract_settings.fill(
        kind, table=read_table(args.config), environment=os.environ, flags=flags, prefix=prefix
    )


def read_table(path: str | None) -> dict[str, object]:
    """Read a TOML file. Raises SettingsError if it cannot be read."""
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError("--config", path, f"a readable TOML file ({error})") from error


def read_secret(setting: str, path: str) -> str | None:
    """Read a secret from its file, without the line end. None if no file is set. Raises SettingsError."""
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(setting, path, f"a readable file ({error})") from error
