from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.chat.gemma import GemmaSyntaxError, parse_object

Q = '<|"|>'


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (f"{{location:{Q}San Francisco, CA{Q},days:3}}", {"location": "San Francisco, CA", "days": 3}),
        ("{a:true,b:false,c:null,d:1.5,e:-2}", {"a": True, "b": False, "c": None, "d": 1.5, "e": -2}),
        (f"{{a:{{b:[1,{Q}x{Q},[]]}}}}", {"a": {"b": [1, "x", []]}}),
        (f"{{ {Q}key{Q} : plain words , x:1 }}", {"key": "plain words", "x": 1}),
        (f"{{a:{Q}{{,}}[]{Q}}}", {"a": "{,}[]"}),
    ],
)
def test_objects(text: str, value: dict[str, Any]) -> None:
    assert parse_object(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{a}", "{a:1", f"{{a:{Q}x}}", "{a:1}}", "{a:[1}", "{a:" * 100 + "}" * 100, "{a:1 b:[2]x}"],
)
def test_other_text_is_rejected(text: str) -> None:
    with pytest.raises(GemmaSyntaxError):
        parse_object(text)


VALUES: Any = st.recursive(
    st.booleans() | st.none() | st.integers(-(10**30), 10**30) | st.text(alphabet="ab{}[],: ", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


def write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, str):
        return f"{Q}{value}{Q}"
    return {"True": "true", "False": "false", "None": "null"}.get(str(value), str(value))


@given(st.dictionaries(st.text("xyz", min_size=1), VALUES, max_size=4))
def test_written_objects_are_parsed_again(value: dict[str, Any]) -> None:
    assert parse_object(write(value)) == value


@pytest.mark.parametrize("piece", ["{a:", "[", "a", " ", Q, "a:1,", ","])
def test_any_text_is_parsed_in_linear_time(piece: str) -> None:
    began = time.process_time()
    with pytest.raises(GemmaSyntaxError):
        parse_object("{" + piece * (60_000 // len(piece)))
    assert time.process_time() - began < 1
