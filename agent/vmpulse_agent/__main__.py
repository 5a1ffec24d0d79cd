"""``vmpulse-agent``: the program on hypervisor hosts, or one line that says what is missing for it."""

from __future__ import annotations

import sys
from importlib import import_module


def main(argv: list[str] | None = None) -> int:
    """Run the program; gives its exit code."""
    try:
        # Here and not above: the distribution can be installed without what the agent needs.
        program = import_module("vmpulse_agent.program")
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing.startswith("vmpulse_"):
            raise
        sys.stderr.write(f"vmpulse-agent: the package {missing} is missing here: install vmpulse[agent]\n")
        return 1
    return int(program.main(argv))


if __name__ == "__main__":
    sys.exit(main())
