"""A program that the fuzzer starts as an MCP server: it writes what it was given to both of its streams.

`python hostile_program.py ANSWERS`, with JSON {method: answer}. An answer has the fields `body` (Latin-1
text, in which "@ID@" stands for the id of the request), `times`, `errors` (how often `body` goes to standard
error first) and `end`: keep, exit, hang (reads on, and answers nothing more), deaf (does not read), or half
(closes its output).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

_FOREVER = 3600.0


def main() -> None:
    answers: dict[str, Any] = json.loads(sys.argv[1])
    for line in sys.stdin.buffer:
        message = json.loads(line)
        answer = answers.get(message["method"])
        if answer is None or "id" not in message:
            continue
        body = answer["body"].replace('"@ID@"', json.dumps(message["id"])).encode("latin-1")
        for stream, times in ((sys.stderr.buffer, answer["errors"]), (sys.stdout.buffer, answer["times"])):
            stream.write(body * times)
            stream.flush()
        _end(answer["end"])


def _end(how: str) -> None:
    if how == "exit":
        sys.exit(3)
    if how == "hang":
        for _ in sys.stdin.buffer:
            pass
    if how == "half":
        sys.stdout.close()
    if how in ("deaf", "half"):
        time.sleep(_FOREVER)


if __name__ == "__main__":
    main()
