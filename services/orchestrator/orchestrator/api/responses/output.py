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
    """A function call."""

    index: int
    item: JsonObject
    pieces: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, index: int, call_id: str, name: str) -> CallItem:
        item = {"type": "function_call", "id": new_id("fc"), "call_id": call_id, "name": name}
        return cls(index, {**item, "arguments": "", "status": "in_progress"})

    @property
    def _place(self) -> JsonObject:
        return {"item_id": self.item["id"], "output_index": self.index}

    def begin(self, report: Report) -> None:
        report("response.output_item.added", output_index=self.index, item={**self.item})

    def add(self, report: Report, arguments: str) -> None:
        self.pieces.append(arguments)
        report("response.function_call_arguments.delta", **self._place, delta=arguments)

    def end(self, report: Report, status: str) -> None:
        arguments = "".join(self.pieces)
        self.item |= {"arguments": arguments, "status": status}
        report(
            "response.function_call_arguments.done",
            **self._place,
            arguments=arguments,
            name=self.item["name"],
        )
        report("response.output_item.done", output_index=self.index, item=self.item)


def report_call_output(report: Report, index: int, call_id: str, output: str) -> JsonObject:
    """Reports the result of a server's call and returns its item."""
    item: JsonObject = {"type": "function_call_output", "id": new_id("fco"), "call_id": call_id}
    item |= {"output": output, "status": "completed"}
    report("response.output_item.added", output_index=index, item={**item})
    report("response.output_item.done", output_index=index, item=item)
    return item
