"""Writes docs/clients.md from the programs of the client matrix; `--check` checks that it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import write_or_check  # noqa: E402
from tests.clients.matrix.rows import ROWS, Row, raw_request  # noqa: E402
from tests.clients.matrix.table import version_of  # noqa: E402

COMMAND = ".venv/bin/python docs/clients.py"
TEXT = """# Clients

<!-- This file is generated: {command} -->

One program per client that asks a question for which the server runs `calculate_math`. These are the
beginnings of the programs in `tests/clients/matrix/programs/`, which `make clients` runs; the README has its
result. They read the base URL from `TANDEM` and the model from `MODEL`. If the server demands a key, put your
key in place of `unused`.

With `ENGINE=vllm` the same programs ask the real vLLM with our tiny model, through compiled orchestrators in
the run of 2026-11-26. Of 102 cells, 83 had the right answer, among them all for chat, streams, both kinds of
tools and Responses. Eight mixed turns failed, since the model copied a result wrongly into its answer, and 11
structured answers, since it filled a string with digits up to the limit, which the grammar permits. Only
failures outside these two columns let the command fail.

[tools.md](tools.md) describes which side runs a tool. A library that only takes functions gets one with the
name and the parameters of the server's tool; the function itself never runs.

{sections}"""


def section(row: Row) -> str:
    """A heading, and the snippet."""
    title = " ".join(filter(None, [row.name, version_of(row)]))
    text = row.snippet()
    if row.is_raw:
        path, body = raw_request("server_tool", "Qwen/Qwen2.5-7B-Instruct")
        program = "java Request.java" if row.language == "java" else "sh request.sh"
        text += f"\n```\n\n```console\n$ {program} {path} '{body}'"
    return f"## {title}\n\n```{row.language}\n{text}\n```\n"


if __name__ == "__main__":
    sections = "\n".join(section(row) for row in ROWS)
    wanted = {ROOT / "docs/clients.md": TEXT.format(command=COMMAND, sections=sections)}
    sys.exit(write_or_check(wanted, COMMAND))
