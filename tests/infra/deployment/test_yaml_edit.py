"""One value changes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra.deployment.yaml_edit import with_value

SHIPPED = (Path(__file__).parents[3] / "tandem.yaml").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "gpu:\n  ami: ami-1  # new\n"),
        ("name: x", "name: x\ngpu:\n  ami: ami-1  # new\n"),
        ("gpu:\nname: x\n", "gpu:\n  ami: ami-1  # new\nname: x\n"),
        ("gpu:\n    replicas: 2  # two\n", "gpu:\n    ami: ami-1  # new\n    replicas: 2  # two\n"),
        ("gpu:\n  ami: old  # why\n  replicas: 2\n", "gpu:\n  ami: ami-1  # new\n  replicas: 2\n"),
        ("gpu:\n  ami: 'old'", "gpu:\n  ami: ami-1  # new"),
        ("gpu: {replicas: 2}\n", "gpu: {ami: ami-1, replicas: 2}\n"),
        ("gpu: {ami: old, replicas: 2}  # kept\n", "gpu: {ami: ami-1, replicas: 2}  # kept\n"),
        ("{name: x}\n", "{gpu: {ami: ami-1}, name: x}\n"),
        ("{}\n", "{gpu: {ami: ami-1}}\n"),
        ("# only a comment\n", "# only a comment\ngpu:\n  ami: ami-1  # new\n"),
    ],
)
def test_one_value_is_set(before: str, after: str) -> None:
    edited = with_value(before, "gpu", "ami", "ami-1", comment="new")
    assert edited == after
    assert yaml.safe_load(edited) == _with(before)


def _with(text: str) -> object:
    document = yaml.safe_load(text) or {}
    return document | {"gpu": (document.get("gpu") or {}) | {"ami": "ami-1"}}


def test_shipped_file_changes_in_one_line() -> None:
    edited = with_value(SHIPPED, "gpu", "ami", "ami-1", comment="new")
    changed = [line for line in edited.splitlines() if line not in SHIPPED.splitlines()]
    assert changed == ["  ami: ami-1  # new"]
    assert len(edited.splitlines()) == len(SHIPPED.splitlines())


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        (
            "models:\n  one:\n    id: a/b\n  two:\n    id: c/d\n",
            "models:\n  one:\n    id: a/b\n  two:\n    ami: ami-1  # newest\n    id: c/d\n",
        ),
        ("models:\n    one:\n    two:\n", "models:\n    one:\n    two:\n      ami: ami-1  # newest\n"),
        ("models:\n  two: {id: c/d}\n", "models:\n  two: {ami: ami-1, id: c/d}\n"),
        ("models:\n  two:\n    ami: recommended\n", "models:\n  two:\n    ami: ami-1  # newest\n"),
    ],
)
def test_value_of_an_entry(text: str, edited: str) -> None:
    assert with_value(text, "models.two", "ami", "ami-1", comment="newest") == edited
    assert yaml.safe_load(edited)["models"]["two"]["ami"] == "ami-1"
