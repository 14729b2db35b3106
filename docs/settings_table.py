"""Writes the README's table of settings from settings.py; `--check` checks that it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "services/orchestrator")]

from docs.generated import write_or_check  # noqa: E402
from orchestrator.settings import Settings  # noqa: E402

COMMAND = ".venv/bin/python docs/settings_table.py"
README = ROOT / "README.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->"


def table() -> str:
    """A row per setting: the variable, its default, what it is."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    own = Settings.__annotations__
    for name, field in sorted(Settings.model_fields.items(), key=lambda one: one[0] not in own):
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = f"`{default}`" if default not in (None, "", {}) else ""
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def readme() -> str:
    """The README with the table."""
    before, rest = README.read_text().split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    sys.exit(write_or_check({README: readme()}, COMMAND))
