"""An operator's environment has what the commands and the CDK app import."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = {"infra", "ops", "examples", "launch", "models"}
SOURCES = [ROOT / "app.py", *(ROOT / "infra").rglob("*.py"), *(ROOT / "ops").rglob("*.py")]


def imports(source: Path) -> Iterator[str]:
    """The top-level packages that a module imports, except for those that only the type checker sees."""
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_every_import_is_in_the_lock_file_of_operators() -> None:
    lock = (ROOT / "ops/requirements.txt").read_text()
    locked = set(re.findall(r"(?m)^([a-z0-9._-]+)(?:\[[^\]]+\])?==", lock))
    distributions = packages_distributions()
    used = {name: source for source in SOURCES for name in imports(source)}
    foreign = {name for name in used if name not in sys.stdlib_module_names and name not in OURS}
    assert {"aws_cdk", "boto3", "typer"} <= foreign
    for name in sorted(foreign):
        packages = {one.lower().replace("_", "-") for one in distributions.get(name, [])}
        assert packages & locked, (
            f"{used[name].relative_to(ROOT)} imports {name}, of {packages or 'no package'}"
        )
