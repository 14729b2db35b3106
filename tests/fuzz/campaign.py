"""Runs one target for a while: generates cases from a seed, and shrinks the first one that fails."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzz.rig import Failure, Rig
from tests.fuzz.target import Case, Target

BATCH = 60
SHRINK_SECONDS = 60.0
GROWTH_MIB = 48.0
"""Growth of the orchestrator's memory after its first two batches that counts as a leak."""


@dataclass
class Result:
    """What became of a target.

    Attributes:
        checked: number of cases.
        case, reason: the smallest failing case, None if no single case failed, and which rule was broken.
        log: the end of the orchestrator's log after that case.
        memory: MiB of the orchestrator after the first two batches and at the end.
    """

    target: str
    checked: int = 0
    case: Case | None = None
    reason: str = ""
    log: str = ""
    memory: list[float] = field(default_factory=list)


def run(target: Target, rig: Rig, *, seed: int, seconds: float) -> Result:
    """Checks generated cases for `seconds`, or until one fails. The same seed gives the same cases."""
    result = Result(target.name)
    rig.serve(target.models)
    until = time.monotonic() + seconds
    batch = 0
    while time.monotonic() < until and not result.reason:
        _Batch(target, rig, until, result).run(f"{seed}-{target.name}-{batch}")
        batch += 1
        if batch >= 2 and not result.reason:
            result.memory = [*result.memory[:1], rig.memory_mib()]
    if result.memory and not result.reason and result.memory[-1] > result.memory[0] + GROWTH_MIB:
        before, after = result.memory[0], result.memory[-1]
        result.reason = f"the orchestrator grew from {before:.0f} to {after:.0f} MiB in {batch} batches"
    return result


class _Batch:
    def __init__(self, target: Target, rig: Rig, until: float, result: Result) -> None:
        self._target = target
        self._rig = rig
        self._until = until
        self._result = result

    def run(self, seed: str) -> None:
        number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])

        @seeded(number)
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            report_multiple_bugs=False,
        )
        @given(self._target.cases)
        def examine(case: Case) -> None:
            self._check(case)

        try:
            examine()
        except Exception as error:  # Hypothesis may also raise that a failure does not repeat
            if not self._result.reason:
                raise error

    def _check(self, case: Case) -> None:
        if time.monotonic() > self._until:
            return
        result = self._result
        result.checked += 1
        try:
            self._target.check(self._rig, case)
        except Failure as failure:
            if not result.reason:
                self._until = time.monotonic() + SHRINK_SECONDS
            result.case, result.reason = case, str(failure)
            result.log = self._rig.service.log[-3000:]
            if self._rig.service.exit_status is not None:
                self._rig.start()
            raise
