"""Writes the reference of the deployment file and its JSON schema; `--check` checks that both are current."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from docs.generated import write_or_check  # noqa: E402
from infra.deployment.checks import RULES  # noqa: E402
from infra.deployment.checks.rule import Severity  # noqa: E402
from infra.deployment.file import Deployment  # noqa: E402
from infra.deployment.gpu_settings import Gpu, ScheduleEntry  # noqa: E402
from infra.deployment.model_settings import Model, ModelEntry, ModelSize  # noqa: E402
from infra.deployment.settings import ExistingVpc  # noqa: E402
from infra.deployment.tool_settings import McpServer, SecretHeader, ToolEgress, ToolSecret, ToolStatement  # noqa: E402
from infra.deployment.values import Section  # noqa: E402

COMMAND = ".venv/bin/python docs/deployment_reference.py"

INTRODUCTION = f"""\
# The deployment file

<!-- Written by `{COMMAND}`. -->

`tandem.yaml` holds everything that you can set in a deployment. A setting that the file leaves out has its
default, and an unknown name is an error. `npx cdk synth -c deployment=FILE` reads another file. The first
line of `tandem.yaml` names a JSON schema, with which many editors complete and check the file.
"""

PARTS = {
    "network.existing_vpc": ExistingVpc,
    "model.size": ModelSize,
    "gpu.schedule[]": ScheduleEntry,
    "models.NAME": ModelEntry,
    "tools.secrets.NAME": ToolSecret,
    "tools.statements[]": ToolStatement,
    "tools.egress[]": ToolEgress,
    "tools.mcp[]": McpServer,
    "tools.mcp[].headers.NAME": SecretHeader,
}
"""Sections of which there may be none, one or several."""

CHECKS = """\
## Checks

`npx cdk synth` stops at an error, and continues after a warning. Every finding gives the line, the figures
and, if one was found, a value that works.

| rule | severity | what it checks |
|---|---|---|
"""


def schema() -> str:
    """The JSON schema of the file."""
    document: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    document |= Deployment.model_json_schema()
    return json.dumps(document, indent=2) + "\n"


def reference() -> str:
    """Every setting, section by section, then every rule."""
    sections = [(name, field.annotation) for name, field in Deployment.model_fields.items()]
    parts = [INTRODUCTION, _table(Deployment)]
    for name, section in sections:
        if _is_section(section):
            parts.append(f"## `{name}`\n\n{_first_line(section)}\n\n{_table(section)}")
    for name, part in PARTS.items():
        # What an entry has in common with `model` and `gpu` is described there.
        known = {*Model.model_fields, *Gpu.model_fields} if part is ModelEntry else set()
        parts.append(f"## `{name}`\n\n{_description(part)}\n\n{_table(part, known)}")
    parts.append(CHECKS + "".join(_rule_rows()))
    return "\n".join(parts)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _first_line(documented: Any) -> str:
    return str(documented.__doc__).strip().splitlines()[0]


def _description(documented: Any) -> str:
    return inspect.cleandoc(str(documented.__doc__))


def _table(section: Any, omitted: Collection[str] = ()) -> str:
    schema = section.model_json_schema()
    while "properties" not in schema:
        schema = schema["$defs"][section.__name__] if "$ref" in schema else schema["anyOf"][-1]
    properties = schema["properties"]
    rows = ["| setting | allowed | default | what it is |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if not _is_section(field.annotation) and name not in omitted:
            default = "" if field.is_required() else f"`{_yaml(properties[name].get('default'))}`"
            rows.append(f"| `{name}` | {_allowed(properties[name])} | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _yaml(value: Any) -> str:
    return json.dumps(value).replace('"', "")


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return _allowed(next(one for one in schema["anyOf"] if one.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return "a section"
    if schema["type"] == "array":
        return "a list"
    return _range(schema) or {
        "string": "text",
        "boolean": "`true`, `false`",
        "object": "names and values",
    }.get(schema["type"], "a number")


def _range(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    above = "above " if "exclusiveMinimum" in schema else ""
    if least is None:
        return ""
    return f"{above}{least:,} to {most:,}" if most is not None else f"{above}{least:,} up"


def _rule_rows() -> list[str]:
    rules = sorted(RULES, key=lambda rule: rule.severity is not Severity.ERROR)
    return [f"| `{rule.name}` | {rule.severity} | {rule.title} |\n" for rule in rules]


def documents() -> dict[Path, str]:
    return {
        ROOT / "docs/deployment-reference.md": reference(),
        ROOT / "docs/tandem.schema.json": schema(),
    }


if __name__ == "__main__":
    sys.exit(write_or_check(documents(), COMMAND))
