"""Work begun at once, so that what need not wait costs neither a task nor a timer."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class EagerCall(Generic[T]):
    """A coroutine that has run until it first waits, in the task that made this.

    What it raises until then, it raises here. `rest` is for that same task, unless the coroutine asks for
    no current task before it first waits, as `asyncio.timeout` does.

    Attributes:
        ended: whether it has ended; `result` is set then. If not, `await rest()` gives the result.
    """

    __slots__ = ("_awaited", "_work", "ended", "result")
    result: T

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self.ended = False
        try:
            self._awaited = work.send(None)
        except StopIteration as ended:
            self.ended, self.result = True, ended.value

    async def rest(self) -> T:
        """The rest of the work. Python itself awaits only what has not begun."""
        return await self._rest()

    @types.coroutine
    def _rest(self) -> Generator[Any, Any, T]:
        work, awaited = self._work, self._awaited
        try:
            while True:
                try:
                    sent = yield awaited
                except BaseException as error:  # noqa: BLE001  for the work to handle, a cancellation too
                    awaited = work.throw(error)
                else:
                    awaited = work.send(sent)
        except StopIteration as ended:
            result: T = ended.value
            return result
