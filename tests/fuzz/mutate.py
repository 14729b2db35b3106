"""A byte-level mutator. An edit is small and plain, so Hypothesis can shrink a list of edits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Edit = dict[str, Any]
"""`kind`, `at` (a position in thousandths of the length), `size` (in bytes) and `data` (Latin-1 text)."""

_KINDS = ("insert", "replace", "delete", "repeat", "flip", "swap", "cut")


def edits(tokens: tuple[str, ...], most: int = 4) -> SearchStrategy[list[Edit]]:
    """Lists of edits. What they insert is often one of `tokens`, which mean something to the parser."""
    some = st.text(st.characters(max_codepoint=255), max_size=8)
    edit = st.fixed_dictionaries(
        {
            "kind": st.sampled_from(_KINDS),
            "at": st.integers(0, 1000),
            "size": st.sampled_from((1, 1, 1, 2, 4, 16, 64)),
            "data": st.sampled_from(tokens) | some,
        }
    )
    return st.lists(edit, max_size=most)


def mutated(data: bytes, changes: list[Edit]) -> bytes:
    """Returns `data` after these edits, in order."""
    for change in changes:
        data = _edited(data, change)
    return data


def _edited(data: bytes, edit: Edit) -> bytes:
    at: int = edit["at"] * len(data) // 1000
    end: int = at + edit["size"]
    new: bytes = edit["data"].encode("latin-1")
    match edit["kind"]:
        case "insert":
            return data[:at] + new + data[at:]
        case "replace":
            return data[:at] + new + data[at + len(new) :]
        case "delete":
            return data[:at] + data[end:]
        case "repeat":
            return data[:end] + data[at:end] * (1 + len(new)) + data[end:]
        case "flip":
            flipped = bytes(byte ^ (1 << len(new) % 8) for byte in data[at : at + 1])
            return data[:at] + flipped + data[at + 1 :]
        case "swap":
            return data[:at] + data[end : end + edit["size"]] + data[at:end] + data[end + edit["size"] :]
        case _:
            return data[:at]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Splits `data` at positions given in thousandths of its length."""
    places = [0, *sorted({cut * len(data) // 1000 for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places) if end > start]
