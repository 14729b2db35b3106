"""The end of a JSON value, wherever the parts of the text end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.chat.json_end import JsonEnd

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=st.dictionaries(st.text(), VALUES) | st.lists(VALUES), rest=st.text(), size=st.integers(1, 50))
def test_end_of_a_value_is_found_in_any_parts(value: Any, rest: str, size: int) -> None:
    written = json.dumps(value, ensure_ascii=False)
    end, reading = 0, JsonEnd()
    for at in range(0, len(written + rest), size):
        part = (written + rest)[at : at + size]
        end += reading.feed(part, 0)
        if reading.ended:
            break
    assert reading.ended
    assert not reading.broken
    assert end == len(written)


@pytest.mark.parametrize("text", ["{'a': 1}", "[<", "[" * 129])
def test_text_that_is_not_json_is_broken(text: str) -> None:
    reading = JsonEnd()
    reading.feed(text, 0)
    assert reading.broken
    assert not reading.ended
