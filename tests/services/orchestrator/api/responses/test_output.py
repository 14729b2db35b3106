"""Output items report themselves from their start to their end."""

from __future__ import annotations

from typing import Any

from orchestrator.api.responses.output import CallItem, TextItem, new_id, report_listing


class Reports(list[tuple[str, Any]]):
    """The events that were reported."""

    def __call__(self, kind: str, **fields: Any) -> None:
        self.append((kind, fields))

    @property
    def kinds(self) -> list[str]:
        return [kind.removeprefix("response.") for kind, _ in self]


def test_message() -> None:
    report, item = Reports(), TextItem.message(3)
    item.begin(report)
    added = report[0][1]["item"]
    item.add(report, "a", [])
    item.add(report, "b", [{"token": "b"}])
    item.end(report, "completed")
    assert report.kinds == [
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
    ]  # fmt: skip
    assert (added["content"], added["status"]) == ([], "in_progress")
    assert item.item["content"][0]["text"] == "ab"
    assert item.item["content"][0]["logprobs"] == [{"token": "b"}]
    assert {fields["output_index"] for _, fields in report} == {3}


def test_reasoning_has_no_log_probabilities() -> None:
    report, item = Reports(), TextItem.reasoning(0)
    item.begin(report)
    item.add(report, "a", [])
    item.end(report, "incomplete")
    assert "logprobs" not in str(report)
    assert report.kinds[2:4] == ["reasoning_text.delta", "reasoning_text.done"]
    assert (item.item["status"], item.item["summary"]) == ("incomplete", [])


def test_call_for_the_client() -> None:
    report, item = Reports(), CallItem.of(0, "call_1", "add")
    item.begin(report)
    item.add(report, '{"x"')
    item.add(report, ": 1}")
    item.end(report, "completed")
    assert report.kinds == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
    ]  # fmt: skip
    assert item.item["arguments"] == '{"x": 1}'


def test_call_that_the_server_runs() -> None:
    report, item = Reports(), CallItem.of_server(0, "tandem", "add", None)
    item.begin(report)
    item.add(report, "{}")
    item.end_arguments(report)
    item.finish(report, "gone", failed=True)
    assert report.kinds == [
        "output_item.added", "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done",
        "mcp_call.failed", "output_item.done",
    ]  # fmt: skip
    assert (item.item["status"], item.item["output"]) == ("failed", None)
    assert item.item["error"]["content"][0]["text"] == "gone"


def test_listing_has_no_nulls_that_strict_clients_reject() -> None:
    report = Reports()
    tool = {"name": "add", "description": "d", "input_schema": {"type": "object"}}
    item = report_listing(report, 0, {"type": "mcp_list_tools", "server_label": "tandem", "tools": [tool]})
    assert report.kinds == [
        "output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed", "output_item.done",
    ]  # fmt: skip
    assert None not in [*item.values(), *item["tools"][0].values()]


def test_ids_differ() -> None:
    assert len({new_id("fc") for _ in range(10)}) == 10
