"""Debian's collectd with its virt plugin, as it comes, writing CSV files: it reads by its own clock."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROGRAM: Final = "collectd"
_SETTINGS: Final = """\
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
TypesDB "/usr/share/collectd/types.db"
Interval {interval}
LoadPlugin logfile
LoadPlugin virt
LoadPlugin csv
<Plugin logfile>
  File "{folder}/collectd.log"
</Plugin>
<Plugin csv>
  DataDir "{folder}/csv"
</Plugin>
<Plugin virt>
  Connection "{uri}"
  HostnameFormat uuid
</Plugin>
"""


@contextlib.contextmanager
def running(uri: str, folder: Path, interval_s: float) -> Iterator[int]:
    """Run it; gives its pid."""
    home = folder / "collectd"
    home.mkdir()
    settings = home / "collectd.conf"
    settings.write_text(_SETTINGS.format(folder=home, uri=uri, interval=f"{interval_s:g}"))
    process = subprocess.Popen([PROGRAM, "-f", "-C", str(settings)], stdout=subprocess.DEVNULL)
    try:
        yield process.pid
        assert list((home / "csv").glob("*/virt/*")), (home / "collectd.log").read_text()
    finally:
        process.terminate()
        process.wait(20)
