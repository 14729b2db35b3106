"""The interface of a fuzz target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis.strategies import SearchStrategy

from tests.fuzz.rig import Models, Rig

Case = dict[str, Any]
"""The input of one check, as plain JSON; bytes are Latin-1 text."""


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        cases: generates input.
        check: uses one input, and raises Failure if a rule was broken.
        models: the models of the orchestrator that it needs, as in `MODELS` but without addresses; none for a
            single one.
    """

    name: str
    cases: SearchStrategy[Case]
    check: Callable[[Rig, Case], None]
    models: Models = ()
