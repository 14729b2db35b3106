"""Output items of a response while they are written. Each yields the events that report it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from ...protocol import JsonObject

Report = Callable[..., None]
"""Adds an event with this type and these fields."""


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"


@dataclass(slots=True)
class TextItem:
    """A message of the assistant, or reasoning: an item with one part of text."""

    index: int
    item: JsonObject
    part: JsonObject
    kind: str
    pieces: list[str] = field(default_factory=list)
    logprobs: list[JsonObject] = field(default_factory=list)

    @classmethod
    def message(cls, index: int) -> TextItem:
        item = {"type": "message", "id": new_id("msg"), "role": "assistant", "status": "in_progress"}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return cls(index, {**item, "content": []}, part, "output_text")

    @classmethod
    def reasoning(cls, index: int) -> TextItem:
        item = {"type": "reasoning", "id": new_id("rs"), "summary": [], "status": "in_progress"}
        part = {"type": "reasoning_text", "text": ""}
        return cls(index, {**item, "content": []}, part, "reasoning_text")

    @property
    def _place(self) -> JsonObject:
        return {"item_id": self.item["id"], "output_index": self.index, "content_index": 0}

    def begin(self, report: Report) -> None:
        report("response.output_item.added", output_index=self.index, item={**self.item})
        report("response.content_part.added", **self._place, part={**self.part})

    def add(self, report: Report, text: str, logprobs: list[JsonObject]) -> None:
        self.pieces.append(text)
        fields: JsonObject = {}
        if self.kind == "output_text":
            self.logprobs += logprobs
            fields["logprobs"] = logprobs
        report(f"response.{self.kind}.delta", **self._place, delta=text, **fields)

    def end(self, report: Report, status: str) -> None:
        text = self.part["text"] = "".join(self.pieces)
        fields: JsonObject = {"logprobs": self.logprobs} if self.kind == "output_text" else {}
        self.part |= fields
        self.item |= {"content": [self.part], "status": status}
        report(f"response.{self.kind}.done", **self._place, text=text, **fields)
        report("response.content_part.done", **self._place, part=self.part)
        report("response.output_item.done", output_index=self.index, item=self.item)


@dataclass(slots=True)
class CallItem:
    """A call, by its kind: for the client, run by the server, or one that the client has to approve."""

    index: int
    item: JsonObject
    pieces: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, index: int, call_id: str, name: str) -> CallItem:
        item = {"type": "function_call", "id": new_id("fc"), "call_id": call_id, "name": name}
        return cls(index, {**item, "arguments": "", "status": "in_progress"})

    @classmethod
    def of_server(cls, index: int, label: str, name: str, approval: str | None) -> CallItem:
        item = {"type": "mcp_call", "id": new_id("mcp"), "server_label": label, "name": name}
        more = {"arguments": "", "output": None, "error": None, "approval_request_id": approval}
        return cls(index, {**item, **more, "status": "in_progress"})

    @classmethod
    def to_approve(cls, index: int, label: str, name: str) -> CallItem:
        item = {"type": "mcp_approval_request", "id": new_id("mcpr"), "server_label": label, "name": name}
        return cls(index, {**item, "arguments": ""})

    @property
    def _place(self) -> JsonObject:
        return {"item_id": self.item["id"], "output_index": self.index}

    def begin(self, report: Report) -> None:
        report("response.output_item.added", output_index=self.index, item={**self.item})
        if self.item["type"] == "mcp_call":
            report("response.mcp_call.in_progress", **self._place)

    def add(self, report: Report, arguments: str) -> None:
        self.pieces.append(arguments)
        if self.item["type"] != "mcp_approval_request":
            report(f"response.{self.item['type']}_arguments.delta", **self._place, delta=arguments)

    def end_arguments(self, report: Report) -> None:
        arguments = self.item["arguments"] = "".join(self.pieces)
        kind = self.item["type"]
        if kind != "mcp_approval_request":
            name = {"name": self.item["name"]} if kind == "function_call" else {}
            report(f"response.{kind}_arguments.done", **self._place, arguments=arguments, **name)

    def end(self, report: Report, status: str) -> None:
        """Ends a call whose arguments are the last that is known of it."""
        self.end_arguments(report)
        if "status" in self.item:
            self.item["status"] = status
        report("response.output_item.done", output_index=self.index, item=self.item)

    def finish(self, report: Report, output: str, *, failed: bool) -> None:
        """Ends a call that the server runs with its result."""
        status = "failed" if failed else "completed"
        if failed:
            content = [{"type": "text", "text": output}]
            self.item["error"] = {"type": "mcp_tool_execution_error", "content": content}
        else:
            self.item["output"] = output
        self.item["status"] = status
        report(f"response.mcp_call.{status}", **self._place)
        report("response.output_item.done", output_index=self.index, item=self.item)


def report_listing(report: Report, index: int, listing: JsonObject) -> JsonObject:
    """Reports the tools of an MCP server and returns the item."""
    item = {**listing, "id": new_id("mcpl")}
    place = {"item_id": item["id"], "output_index": index}
    report("response.output_item.added", output_index=index, item={**item, "tools": []})
    report("response.mcp_list_tools.in_progress", **place)
    report("response.mcp_list_tools.completed", **place)
    report("response.output_item.done", output_index=index, item=item)
    return item
