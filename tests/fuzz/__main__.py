"""Fuzzes the orchestrator and the deployment file. A failure is stored in tests/fuzz/cases.

Prints the seed: the same seed gives the same cases. Exits with status 1 after a failure.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys

from tests.fuzz import campaign, regressions
from tests.fuzz.rig import Rig
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    environment = os.environ.get
    parser.add_argument("--seconds", type=float, default=float(environment("FUZZ_SECONDS") or 600))
    parser.add_argument("--seed", type=int, default=int(environment("FUZZ_SEED") or secrets.randbelow(2**32)))
    parser.add_argument("--target", choices=list(TARGETS), action="append", help="default: all")
    options = parser.parse_args()
    chosen = options.target or list(TARGETS)
    print(f"seed {options.seed} (again: FUZZ_SEED={options.seed} make fuzz)", flush=True)
    failed = False
    for name in chosen:
        with Rig() as rig:
            result = campaign.run(
                TARGETS[name], rig, seed=options.seed, seconds=options.seconds / len(chosen)
            )
        memory = " to ".join(f"{mib:.0f}" for mib in result.memory)
        print(f"{name:18}{result.checked:8} cases{f', {memory} MiB' if memory else ''}", flush=True)
        if result.reason:
            failed = True
            print(f"  FAILED: {result.reason}")
            if result.case is not None:
                print(f"  end of the log:\n{result.log}")
                print(f"  stored: {regressions.store(name, result.case, result.reason, options.seed)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
