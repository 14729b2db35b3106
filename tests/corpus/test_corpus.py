"""Faults that public reports describe, each as one file: none of them may happen here."""

from __future__ import annotations

import pytest

from tests.corpus.case import CASES, differences, read_case, reply_of, shown
from tests.support.live import live
from tests.support.scripted_engine import ScriptedEngine

PATHS = sorted(CASES.rglob("*.yaml"))


def test_corpus_is_large_and_names_its_reports() -> None:
    cases = [read_case(path) for path in PATHS]
    assert len(cases) >= 150
    assert len({case.name for case in cases}) == len(cases), "two files have the same name"
    assert all(case.why.strip() and case.answer for case in cases)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_report(path: object, engine: ScriptedEngine) -> None:
    case = read_case(path)  # type: ignore[arg-type]
    async with live(engine.url, **case.settings) as server:
        for mode in case.modes:
            engine.requests.clear()
            engine.replies.clear()
            engine.play(*[reply_of(script, mode) for script in case.engine])
            url = f"{server.url}{case.path}"  # httpx takes a path that starts with // for a host
            answer = await server.http.post(url, json=case.body(mode), headers=case.headers)
            found = shown(answer, mode)
            expected = {"status": 200, **case.expected(mode)}
            sent = [request.json for request in engine.requests]
            wrong = differences(expected, found, mode)
            if case.sent is not None:
                wrong += differences(case.sent, sent, f"{mode}: sent")
            assert not engine.replies, (
                f"{mode}: {len(engine.replies)} replies of the engine were not asked for"
            )
            assert not wrong, "\n".join([f"{case.report}: {case.why}", *wrong])
