"""Sends requests of every kind while engines are killed and one of two orchestrators is restarted.

If anything went wrong, prints the violations, keeps the logs and exits with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop

from examples.tiers import RUN
from tests.soak.servers import PROC
from tests.soak.soak import Soak, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10, help="number of times to kill and restart engines")
    parser.add_argument("--clients", type=int, default=48, help="number of concurrent requests")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same requests")
    options = parser.parse_args()
    if not PROC.exists():
        parser.exit(2, f"the soak needs {PROC} to count file handles and memory, so it only runs on Linux\n")
    soak = Soak(requests=options.requests, kills=options.kills, clients=options.clients, seed=options.seed)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(soak.run())
    print(table(soak))
    if not soak.tally.violations:
        soak.delete_logs()
        return 0
    print(f"\nViolations (logs: {RUN}/soak-*):", *soak.tally.violations, sep="\n- ")
    return 1


if __name__ == "__main__":
    sys.exit(main())
