"""`make prove`: ten thousand histories of the state machine and more, on all CPUs, with a line for each few hundred.

A shard is a number of histories from one seed. A failure prints its shortest history, and the seed that gives it again:
``python -m tests.consumers.view.proving --seed SEED --examples EXAMPLES``.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final

from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.consumers.view.test_convergence import STEPS, Fleet

EXAMPLES: Final = 10_000
SHARD: Final = 250
"""So many histories take some twenty seconds: often enough to see that it goes on."""


def prove(shard_seed: int, examples: int) -> str | None:
    """Run one shard. Gives what went wrong; None: nothing did."""

    class Seeded(Fleet):
        """The seed stands with the class."""

    limits = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(shard_seed)(Seeded), settings=limits)
    except Exception as error:  # noqa: BLE001 - it is told
        return "".join(traceback.format_exception(error))
    return None


def tell(line: str) -> None:
    """Say how far it has come."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run all shards; the exit code tells whether all promises held."""
    parser = argparse.ArgumentParser(description="Try many histories of hosts, broker and view.")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="how many histories")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of the first shard")
    asked = parser.parse_args()
    began, done, failures = time.monotonic(), 0, 0
    sizes = [min(SHARD, asked.examples - at) for at in range(0, asked.examples, SHARD)]
    tell(f"{asked.examples} histories in {len(sizes)} shards, {asked.jobs} at a time, from seed {asked.seed}")
    with ProcessPoolExecutor(asked.jobs) as pool:
        shards = {pool.submit(prove, asked.seed + n, size): (asked.seed + n, size) for n, size in enumerate(sizes)}
        for shard in as_completed(shards):
            shard_seed, size = shards[shard]
            done += size
            wrong = shard.result()
            failures += wrong is not None
            told = "all promises held" if wrong is None else f"a promise was broken:\n{wrong}"
            tell(f"{time.monotonic() - began:6.0f} s {done:6} histories, seed {shard_seed}: {told}")
    tell(f"{done} histories, {failures} shards with a broken promise")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
