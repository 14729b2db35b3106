"""The judge of the client matrix, and its proxy. `make clients` runs the matrix itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.clients.matrix.alternate import alternating
from tests.clients.matrix.rows import CELLS, PROGRAMS, QUESTIONS, ROWS, problem, raw_answer, raw_request
from tests.clients.matrix.table import render, version_of
from tests.support.processes import MODEL, Processes


@pytest.mark.parametrize(
    ("cell", "answer", "found"),
    [
        ("chat", "Hello!", None),
        ("chat", "", "no text"),
        ("chat", None, "no text"),
        ("stream", ["It is ", "56088"], None),
        ("stream", ["It is 56088", ""], "1 pieces"),
        ("server_tool", "It is 56088.", None),
        ("server_tool", "I do not know", "without 56088"),
        ("mixed", "84, and 21.5 degrees", None),
        ("mixed", "The result of 12 * 7 is 21.5", "without 84"),
        ("structured", '{"answer": "84"}', None),
        ("structured", "It is 84", "not the object"),
        ("structured", '{"answer": 84}', "not the object"),
    ],
)
def test_answers_are_judged(cell: str, answer: Any, found: str | None) -> None:
    verdict = problem(cell, answer)
    assert verdict is None if found is None else found in (verdict or "")


def test_table_shows_failures_and_reasons() -> None:
    cells: Any = {cell: {"answer": "x"} for cell in CELLS}
    cells |= {"mixed": {"error": "no"}, "responses": {"reason": "it speaks Chat only"}}
    table = render({ROWS[0]: cells})
    assert (
        f"| openai, Python {version_of(ROWS[0])} | yes | yes | yes | yes | **fails** | yes | — (1) |" in table
    )
    assert "(1) it speaks Chat only." in table


def test_each_program_exists_and_begins_with_a_snippet() -> None:
    assert {row.program for row in ROWS} <= {file.name for file in PROGRAMS.iterdir()}
    for row in ROWS:
        snippet = row.snippet()
        assert "TANDEM" in snippet
        assert "end of the snippet" not in snippet
        assert row.is_raw or len(snippet) < len((PROGRAMS / row.program).read_text())
    assert set(QUESTIONS) == set(CELLS)
    assert max(Counter(row.name for row in ROWS).values()) == 1


def test_requests_go_to_the_servers_in_turn(processes: Processes) -> None:
    engine = processes.standin("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    servers = [processes.orchestrator(engine.url) for _ in range(2)]
    path, body = raw_request("server_tool", MODEL)
    with alternating(*(server.url for server in servers)) as url:
        for _ in range(4):
            answer = httpx.post(f"{url}/v1{path}", content=body, timeout=20)
            assert problem("server_tool", raw_answer("server_tool", answer.text)) is None
    texts = [httpx.get(f"{server.url}/metrics").text for server in servers]
    made = [line for text in texts for line in text.splitlines() if line.startswith("tool_calls_total{")]
    assert [float(line.rpartition(" ")[2]) for line in made] == [2.0, 2.0]
