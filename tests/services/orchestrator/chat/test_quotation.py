from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.chat.quotation import Quotation


def quoted(*pieces: str) -> bool:
    quotation = Quotation()
    for piece in pieces:
        quotation.feed(piece)
    return quotation.quoted


QUOTED = [
    "```\n", "```json\n", "  ```\n", "~~~\n", "````\n```\n", "~~~\n```\n", "```\n    ```\n", "```a`b\n",
    "> ", "> text\n", "> ```\n> ", "> ```\n> a\n```\n", ">> ", "> - ",
    "- ", "* ", "+ ", "1. ", "2) ", "- ```\n  ", "- ```\n  a\n  ```\n  ", "- item\ntext\n", "- item\n\n  ",
    "`", "``a ` ", "a `b\nc ", "    ", "\t", "text\n\n    ",
    'He said "', "“", "«", "「", "<code>", "<pre>\n", "<!-- ", "<think>", "<example>\n", "<a href='x'>",
]  # fmt: skip
UNQUOTED = [
    "", "\n", "Let me look. ", "Let me look.\n", "```\ncode\n```\n", "````\n```\n````\n", "~~~ x\n~~~\n",
    "```a`b```\n", "a `b` ", "Use ``` here ``` ", "> text\n\n", "- item\n\n", "- a\n- b\n\nNow:\n",
    "- ```\n  a\n  ```\n\n", 'He said "x" ', "“x” ", "<code>x</code> ", "<!-- a --> ", "a < b and c > d ",
    "<br> ", "2 * 3\n", "-5 degrees\n", "1.5 m\n",
]  # fmt: skip


@pytest.mark.parametrize("text", QUOTED)
def test_text_inside_a_quotation_is_quoted(text: str) -> None:
    assert quoted(text)
    assert quoted(f"Some text.\n\n{text}")
    assert quoted(*text)


@pytest.mark.parametrize("text", UNQUOTED)
def test_text_outside_a_quotation_is_not_quoted(text: str) -> None:
    assert not quoted(text)
    assert not quoted(f"Some text.\n\n{text}")
    assert not quoted(*text)


def test_line_that_is_too_long_counts_as_a_quotation() -> None:
    assert quoted("x" * 5000 + "`" + "\n")
    assert not quoted("x" * 5000 + "\n")


PARTS = st.sampled_from(
    [
        "`",
        "```",
        "~~~",
        "\n",
        "> ",
        "- ",
        "  ",
        "text",
        '"',
        "“",
        "”",
        "<code>",
        "</code>",
        "\n\n",
        "````",
        "<",
    ]
)


@given(st.lists(PARTS, max_size=15).map("".join), st.lists(st.integers(0, 200), max_size=6))
def test_result_does_not_depend_on_how_the_text_is_split(text: str, at: list[int]) -> None:
    places = sorted({place % (len(text) + 1) for place in at})
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]
    assert quoted(*pieces) == quoted(text)
