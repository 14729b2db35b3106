"""`make bench-trees TREES="BEFORE AFTER..."`: compares the orchestrator's CPU time in several source trees.

Each tree is a git revision or a directory. All are measured in alternating rounds, so a busy machine changes
the ratios little. Prints the CPU time of each tree, and its median ratio to the tree before it.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.__main__ import engine_at, started
from bench.gateways import ENGINE_PORT, GATEWAYS, ROOT, Gateway, Running, build
from bench.measure import CHUNKS, MEASURES, once, write_bodies
from bench.results import median, ratio, spread
from tests.support.compiled import compiled

COMPARED = ("relay", "chunk", "tool loop")
SERVICE = Path("services/orchestrator")

Figures = dict[tuple[str, int], list[float]]
"""The values of each round, by figure and the tree's position."""


def unpacked(tree: str, directory: Path) -> Path:
    """Returns the directory of a tree; a git revision is unpacked into `directory`.

    Raises:
        ValueError: It is neither a directory with an orchestrator nor a git revision.
    """
    if (Path(tree) / SERVICE).is_dir():
        return Path(tree).resolve()
    archive = subprocess.run(
        ["git", "archive", tree, str(SERVICE)], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise ValueError(f"{tree!r} is neither a directory that has {SERVICE} nor a git revision")
    directory.mkdir()
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive.stdout, check=True)
    return directory


def gateway_of(tree: Path, variables: Mapping[str, str] = {}) -> Gateway:
    """Returns our gateway as `tree` has it, compiled where it can be, with the packages of our lock file."""
    ours = next(gateway for gateway in GATEWAYS if gateway.name == "ours")
    path = {"PYTHONPATH": str(compiled(tree / SERVICE)), **variables}
    return dataclasses.replace(ours, environment=lambda port, engine: ours.environment(port, engine) | path)


def measured(
    variants: Sequence[tuple[str, Mapping[str, str]]],
    rounds: int,
    read_last: Callable[[Running], None] = lambda _: None,
) -> Figures:
    """Measures trees, each with variables of its own. The first round, with its one-time costs, is dropped.

    Args:
        read_last: reads from the service of the last variant, while it runs, what the load has left there.
    """
    measures = {figure: measure for measure in MEASURES for figure in measure.figures}
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="tandem-compare-") as name, ExitStack() as stack:
        directory = Path(name)
        write_bodies(directory)
        gateways = [
            gateway_of(unpacked(tree, directory / f"tree-{number}"), variables)
            for number, (tree, variables) in enumerate(variants)
        ]
        engine = engine_at(ENGINE_PORT, CHUNKS, 0, stack, directory)
        running, missing = started(gateways, stack, directory, engine, ENGINE_PORT + 10)
        if missing:
            sys.exit(f"could not measure: {missing}")
        program = build("load")
        for number in range(rounds + 1):
            order = list(enumerate(running))
            for figure in COMPARED:
                for position, (gateway, one) in order if number % 2 else reversed(order):
                    report = once(measures[figure], gateway, one, program, directory)
                    if number:
                        found.setdefault((figure, position), []).append(report[figure])
        last = running[-1][1]
        with last.awake():
            read_last(last)
    return found


def report(trees: Sequence[str], found: Figures) -> list[str]:
    """Returns one line per figure and tree."""
    lines = []
    for figure in COMPARED:
        for position, tree in enumerate(trees):
            values = found[figure, position]
            line = f"{figure}: {tree}: {median(values):.2f} ± {spread(values):.2f} CPU µs"
            if position:
                line += f", {ratio(values, found[figure, position - 1]):.3f} of {trees[position - 1]}"
            lines.append(line)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Compare source trees.")
    parser.add_argument("trees", nargs="+", help="git revisions or directories, the oldest first")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--last", action="append", default=[], metavar="NAME=VALUE", help="a variable of the last tree"
    )
    arguments = parser.parse_args()
    *others, last = arguments.trees
    variables = dict(pair.split("=", 1) for pair in arguments.last)
    variants = [*((tree, dict[str, str]()) for tree in others), (last, variables)]
    for line in report(arguments.trees, measured(variants, arguments.rounds)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
