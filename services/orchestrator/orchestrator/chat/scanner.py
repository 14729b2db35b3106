"""Finds the calls in the text of one turn, which arrives in parts, and hides them from the client.

A call at the end of the turn and outside any quotation is removed. Any other call is text, which is released
as soon as this is known. Each character is read a limited number of times, and little text is held back
(`_MAX_HELD`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum, auto

from .json_end import JsonEnd
from .markup import BARE, MAX_HEAD, Markup, Parameters, WrittenCall, cut_name
from .quotation import Quotation

_MAX_HELD = 65_536
_LEAST_CUT = 5  # characters of a truncated opening that distinguish it from other text
_WRAPPER = "</tool_call>"
_NOT_SPACE = re.compile(r"\S")
_NEVER = re.compile(r"(?!)")


class _State(IntEnum):
    TEXT = auto()
    HEAD = auto()
    BODY = auto()
    CLOSING = auto()
    AFTER = auto()


@dataclass(slots=True)
class Found:
    """The calls at the end of a text.

    Attributes:
        calls: the calls that are complete.
        source: the text of these calls.
        hidden: whether any text was hidden from the client.
    """

    calls: list[WrittenCall] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    hidden: bool = False


class CallScanner:
    """Takes the parts of one turn's text and returns what may be shown.

    Args:
        markup: the format of calls, None to find only bare ones.
        bare: whether a JSON object that is the whole text is a call.
        names: the names of the available tools.
        parameters: returns the schema of a tool's arguments.
        drop: whether to remove all calls from the text without reporting them.
    """

    def __init__(
        self,
        markup: Markup | None,
        *,
        bare: bool,
        names: frozenset[str],
        parameters: Parameters,
        drop: bool = False,
    ) -> None:
        self.steps = 0
        self.found = Found()
        self.left_out = [0, 0]  # calls that were dropped, and characters of white space after them
        self._markup = markup
        self._names = names
        self._parameters = parameters
        self._drop = drop
        self._openings = markup.openings if markup else ()
        self._opening = markup.opening if markup else _NEVER
        self._firsts = markup.firsts if markup else ()
        self._quotation = Quotation()
        self._unread: list[str] = []  # not yet read by the quotation
        self._state = _State.HEAD if bare else _State.TEXT
        self._form = BARE if bare else markup
        self._tail = ""
        self._unit: list[str] = []
        self._units: list[tuple[str, list[WrittenCall]]] = []
        self._space: list[str] = []
        self._held = 0
        self._json = JsonEnd()
        self._after_call = False
        self._cut = False

    def feed(self, text: str) -> str:
        """Adds a part and returns the text that can be shown now."""
        if self._tail or self._after_call:
            return self._run(text, final=False)
        if self._state is _State.HEAD and self._form is BARE and not self._units and text[:1].isalnum():
            self._state, self._form = _State.TEXT, self._markup
        if self._state is _State.TEXT and self._is_plain(text):
            self._unread.append(text)
            return text
        return self._run(text, final=False)

    def _is_plain(self, text: str) -> bool:
        return not any(first in text for first in self._firsts)

    def end(self, *, cut: bool) -> str:
        """Returns the rest of the text at the end of the turn.

        Args:
            cut: whether the turn was truncated.
        """
        self._cut = cut
        shown = self._run("", final=True) if self._tail or self._state is not _State.TEXT else ""
        if self._state is _State.HEAD and self._form is not BARE:
            shown += self._end_head(cut=cut)
        elif self._state is _State.HEAD:
            shown += self._release(self._tail)
        elif self._state is _State.BODY:
            shown += self._end_body(cut=cut)
        self._tail = ""
        if not self._drop:
            for source, calls in self._units:
                self.found.calls += calls
                self.found.source.append(source)
        return shown

    def _run(self, text: str, *, final: bool) -> str:
        """Advances from state to state until one needs more text."""
        buffer = self._tail + text
        shown: list[str] = []
        steps = {
            _State.TEXT: self._read_text, _State.HEAD: self._read_head, _State.BODY: self._read_body,
            _State.CLOSING: self._read_closing, _State.AFTER: self._read_after,
        }  # fmt: skip
        at = 0
        while True:
            self.steps += 1
            state = self._state
            next_at, output = steps[state](buffer, at, final)
            self.steps += next_at - at
            if output:
                shown.append(output)
            if next_at == at and state is self._state:
                break
            at = next_at
        self._tail = buffer[at:]
        return "".join(shown)

    def _read_text(self, buffer: str, at: int, final: bool) -> tuple[int, str]:
        found = self._opening.search(buffer, at)
        if found is None:
            begun = self._overlap(buffer, at)
            end = len(buffer) - begun
            if final and (begun < _LEAST_CUT or not self._cut or self._is_quoted()):
                end = len(buffer)
            elif final:
                self.found.hidden = True
                return len(buffer), self._show(buffer[at:end])
            return end, self._show(buffer[at:end])
        shown = self._show(buffer[at : found.start()])
        if self._is_quoted():
            return found.end(), shown + self._show(found[0])
        self._state, self._form = _State.HEAD, self._markup
        return found.start(), shown

    def _read_head(self, buffer: str, at: int, _: bool) -> tuple[int, str]:
        assert self._form is not None
        forms = self._form.formats or (self._form,)
        self.steps += min(MAX_HEAD, len(buffer) - at)
        for form in forms:
            head = form.head.match(buffer, at, at + MAX_HEAD)
            if head:
                self._state, self._form, self._json = _State.BODY, form, JsonEnd()
                self._hold(head[0])
                return head.end(), ""
        if len(buffer) - at < MAX_HEAD and any(form.partial.fullmatch(buffer, at) for form in forms):
            return at, ""
        return self._reject_head(buffer, at)

    def _reject_head(self, buffer: str, at: int) -> tuple[int, str]:
        if self._form is BARE and not self._units:
            self._state, self._form = _State.TEXT, self._markup
            return at, ""
        opening = self._opening.match(buffer, at)
        end = opening.end() if opening else at
        return end, self._release(buffer[at:end])

    def _read_body(self, buffer: str, at: int, _: bool) -> tuple[int, str]:
        form = self._form
        assert form is not None
        if form.body == "tagged":
            found = buffer.find(form.closing, at)
            end = found + len(form.closing) if found >= 0 else max(at, len(buffer) - len(form.closing) + 1)
            ended = found >= 0
        else:
            end = self._json.feed(buffer, at)
            ended = self._json.ended or self._json.broken
        self._hold(buffer[at:end])
        if self._held > _MAX_HELD:
            return end, self._release("")
        if ended:
            self._state = _State.AFTER if form.body == "tagged" else _State.CLOSING
            if form.body == "tagged":
                return end, self._end_unit()
        return end, ""

    def _read_closing(self, buffer: str, at: int, final: bool) -> tuple[int, str]:
        form = self._form
        assert form is not None
        if not form.closing:
            return at, self._release("") if self._json.broken else self._end_unit()
        start = self._skip_space(buffer, at)
        self._hold(buffer[at:start])
        rest = buffer[start : start + len(form.closing)]
        if rest == form.closing:
            self._hold(rest)
            return start + len(rest), self._end_unit()
        if form.closing.startswith(rest):
            if not final:
                return start, ""
            shown = "" if self._json.broken else self._end_unit()
            return start + len(rest), shown if self._units else self._release(shown + rest)
        if self._json.broken:
            return start, self._release("")
        return start, self._end_unit()

    def _read_after(self, buffer: str, at: int, final: bool) -> tuple[int, str]:
        """Reads what follows a call: another call, white space, or text, which turns the calls into text."""
        assert self._form is not None
        start = self._skip_space(buffer, at, self._form.between)
        extra = self._trailing_tag(buffer, start)
        if extra:
            start += len(extra)
        if start > at:
            self._space.append(buffer[at:start])
            self._held += start - at
            if self._held > _MAX_HELD:
                return start, self._release("")
            return start, ""
        if start == len(buffer):
            return start, ""
        opening = self._opening.match(buffer, start)
        if opening or (self._form is BARE and buffer[start] == "{"):
            self._state = _State.HEAD
            return start, ""
        rest = buffer[start:]
        if any(tag.startswith(rest) for tag in (*self._openings, _WRAPPER)) and (not final or self._cut):
            return len(buffer) if final else start, ""
        return start, self._end_calls()

    def _trailing_tag(self, buffer: str, at: int) -> str:
        """Returns the closing tag of the element around Qwen3's calls, which is not part of the call."""
        wrapped = self._form is not None and self._form.closing == "</function>"
        return _WRAPPER if wrapped and buffer.startswith(_WRAPPER, at) else ""

    def _end_unit(self) -> str:
        """Handles the end of a whole call."""
        assert self._form is not None
        self._state = _State.AFTER
        source = "".join(self._unit)
        calls = self._form.read(source, self._parameters)
        if not self._drops and not self._are_in_play(calls):
            return self._release("")
        self._units.append(("".join(self._space) + source, calls or []))
        self._unit, self._space = [], []
        self.found.hidden = True
        return ""

    def _end_calls(self) -> str:
        """Handles text after the calls, which means that they are not at the end of the turn."""
        if not self._drops:
            return self._release("")
        self._forget()
        self._after_call = True
        self.left_out[0] += 1
        return ""

    def _end_head(self, *, cut: bool) -> str:
        if cut:
            self.found.hidden = True
            return ""
        return self._release(self._tail)

    def _end_body(self, *, cut: bool) -> str:
        """Handles a call without an end, which is truncated or invalid."""
        form, source = self._form, "".join(self._unit) + self._tail
        assert form is not None
        if form is BARE:
            name = cut_name(source)
            may_be_known = name is None or any(known.startswith(name) for known in self._names)
            if not (cut and may_be_known):
                return self._release(self._tail)
        if not cut and form.closing and source.rstrip().endswith(form.closing):
            calls = form.read(source, self._parameters)
            if self._are_in_play(calls):
                self._units.append(("".join(self._space) + source, calls or []))
                self.found.hidden = True
                return ""
        if not (cut or self._drops):
            return self._release(self._tail)
        self._units.clear()
        self.found.hidden = True
        return ""

    @property
    def _drops(self) -> bool:
        return self._drop and self._form is not BARE

    def _are_in_play(self, calls: list[WrittenCall] | None) -> bool:
        return bool(calls) and all(name in self._names for name, _ in calls or ())

    def _release(self, more: str) -> str:
        """Releases what was held back, since it is text after all."""
        text = "".join(source for source, _ in self._units)
        text += "".join(self._space) + "".join(self._unit) + more
        if self._units:
            self.found.hidden = False
        self._forget()
        return self._show(text)

    def _forget(self) -> None:
        self._state, self._form = _State.TEXT, self._markup
        self._units, self._unit, self._space, self._held = [], [], [], 0

    def _hold(self, text: str) -> None:
        if text:
            self._unit.append(text)
            self._held += len(text)

    def _show(self, text: str) -> str:
        """Returns text for the client, without white space that follows a dropped call."""
        if self._after_call:
            self.left_out[1] += len(text) - len(text.lstrip())
            text = text.lstrip()
            self._after_call = not text
        if text:
            self._unread.append(text)
        return text

    def _is_quoted(self) -> bool:
        self._quotation.feed("".join(self._unread))
        self._unread.clear()
        return self._quotation.quoted

    def _skip_space(self, buffer: str, at: int, more: str = "") -> int:
        while found := _NOT_SPACE.search(buffer, at):
            if found[0] not in more:
                return found.start()
            at = found.end()
        return len(buffer)

    def _overlap(self, buffer: str, at: int) -> int:
        """Returns the length of the longest suffix of the text that is a proper prefix of an opening."""
        longest = max(map(len, self._openings), default=1) - 1
        tail = buffer[max(at, len(buffer) - longest) :]
        for length in range(len(tail), 0, -1):
            if any(opening.startswith(tail[-length:]) for opening in self._openings):
                return length
        return 0
