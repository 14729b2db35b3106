"""Which trees are compared, and what is printed of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.compare import COMPARED, SERVICE, gateway_of, report, unpacked


def test_directory_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tree" / SERVICE).mkdir(parents=True)
    assert unpacked(str(tmp_path / "tree"), tmp_path / "unused") == tmp_path / "tree"
    assert not (tmp_path / "unused").exists()


def test_revision_is_unpacked(tmp_path: Path) -> None:
    tree = unpacked("HEAD", tmp_path / "tree")
    committed = subprocess.run(
        ["git", "show", f"HEAD:{SERVICE}/Dockerfile"], capture_output=True, check=True
    ).stdout
    assert (tree / SERVICE / "Dockerfile").read_bytes() == committed


def test_anything_else_is_rejected_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'no-such-tree' is neither"):
        unpacked("no-such-tree", tmp_path / "tree")


def test_gateway_runs_the_code_of_its_tree(tmp_path: Path) -> None:
    environment = gateway_of(tmp_path).environment(9000, "http://127.0.0.1:9001")
    assert environment["PYTHONPATH"] == str(tmp_path / SERVICE)
    assert environment["VLLM_URL"] == "http://127.0.0.1:9001"


def test_report_compares_each_tree_with_the_one_before_it() -> None:
    found = {(figure, position): [10.0 * 2**position] * 3 for figure in COMPARED for position in range(3)}
    lines = report(["a", "b", "c"], found)
    assert lines[:3] == [
        "relay: a: 10.00 ± 0.00 CPU µs",
        "relay: b: 20.00 ± 0.00 CPU µs, 2.000 of a",
        "relay: c: 40.00 ± 0.00 CPU µs, 2.000 of b",
    ]
