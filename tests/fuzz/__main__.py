"""`make fuzz`: a million mutated messages on all CPUs; the last line is one JSON object. Exit code 1 for any crash."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fuzz.running import run

if TYPE_CHECKING:
    from tests.fuzz.running import Crash

MESSAGES: Final = 1_000_000
SHARD: Final = 25_000
FOUND: Final = Path(".vmpulse") / "fuzz"
"""Messages that crashed something; to be moved to tests/fuzz/corpus once that is mended."""


def main() -> int:
    """Run all shards."""
    parser = argparse.ArgumentParser(description="Feed every decoder with mutated messages.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="how many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of the first shard")
    asked = parser.parse_args()
    began, done, crashes = time.monotonic(), 0, 0
    slowest, where, peak = 0.0, "", 0.0
    sizes = [min(SHARD, asked.messages - at) for at in range(0, asked.messages, SHARD)]
    say(f"{asked.messages} messages in {len(sizes)} shards, {asked.jobs} at a time, from seed {asked.seed}")
    with ProcessPoolExecutor(asked.jobs) as pool:
        for shard in as_completed(pool.submit(run, asked.seed + n, size) for n, size in enumerate(sizes)):
            found = shard.result()
            done += found.messages
            crashes += len(found.crashes)
            for crash in found.crashes:
                keep(crash)
            if found.slowest_ms > slowest:
                slowest, where = found.slowest_ms, found.slowest
            peak = max(peak, found.peak_mb)
            took = f"slowest {slowest:.0f} ms ({where})"
            say(f"{time.monotonic() - began:6.0f} s {done:9} messages, {crashes} crashes, {took}")
    result = {"messages": done, "crashes": crashes, "slowest_ms": round(slowest, 1), "peak_mb": round(peak, 1)}
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if crashes else 0


def keep(crash: Crash) -> None:
    """Write a message that crashed something, and tell of it."""
    FOUND.mkdir(parents=True, exist_ok=True)
    file = FOUND / f"{crash.target.replace(' ', '-')}-{sha256(crash.raw).hexdigest()[:12]}.bin"
    file.write_bytes(crash.raw)
    say(f"{crash.target}: {file}\n{crash.why}")


def say(words: str) -> None:
    """Say how far it has come."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
