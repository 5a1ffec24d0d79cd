"""Debian's prometheus-libvirt-exporter: it reads all domains anew at each scrape."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PROGRAM: Final = "prometheus-libvirt-exporter"
START_S: Final = 10.0


@contextlib.contextmanager
def running(uri: str, folder: Path) -> Iterator[tuple[int, Callable[[], object]]]:
    """Run it; gives its pid and what scrapes it once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with (folder / "exporter.log").open("wb") as log:
        command = [PROGRAM, f"--web.listen-address={address}", f"--libvirt.uri={uri}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)

    def scrape() -> object:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            text: bytes = reply.read()
        assert b"libvirt_domain_info" in text, "the exporter tells of no domain"
        return text

    try:
        _until_it_answers(scrape)
        yield process.pid, scrape
    finally:
        process.terminate()
        process.wait(10)


def _until_it_answers(scrape: Callable[[], object]) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            scrape()
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
