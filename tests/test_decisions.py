"""Decisions are numbered once, in their names and in their titles."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "decisions"


def test_every_number_is_used_once_and_is_in_the_title() -> None:
    names = sorted(path.name for path in FOLDER.glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for name in names:
        assert (FOLDER / name).read_text(encoding="utf-8").startswith(f"# {int(name[:4])}. "), name
