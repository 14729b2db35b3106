"""Only the engine client and the tools connect to anything: the checks report any other module that could."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "services/orchestrator/orchestrator"


def ruff(code: str, path: str) -> str:
    """Returns what ruff reports for `code` in a file with this path."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--quiet",
        "--select",
        "TID251",
        "--stdin-filename",
        path,
        "-",
    ]
    checked = subprocess.run(command, input=code, capture_output=True, text=True, cwd=ROOT, check=False)
    assert not checked.stderr
    return checked.stdout


FETCHES = [
    "import urllib.request\n",
    "from urllib.request import urlopen\n",
    "import http.client\n",
    "import socket\n\nsocket.create_connection(('x', 1))\n",
    "import asyncio\n\nasyncio.open_connection('x', 1)\n",
]


@pytest.mark.parametrize("code", FETCHES)
@pytest.mark.parametrize("module", ["protocol.py", "api/endpoint.py", "chat/loop.py"])
def test_fetching_with_the_standard_library_is_reported(code: str, module: str) -> None:
    assert "TID251" in ruff(code, f"{PACKAGE}/{module}")
    for allowed in ("engine/address.py", "tools/weather.py"):
        assert ruff(code, f"{PACKAGE}/{allowed}") == ""


def lint_imports(tree: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree), str(ROOT), str(ROOT / "services" / "vllm")]),
    }
    command = [
        str(Path(sys.executable).parent / "lint-imports"),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    linted = subprocess.run(command, capture_output=True, text=True, cwd=tree, env=environment, check=False)
    return linted.stdout if linted.returncode else ""


def test_fetching_with_a_package_is_reported(tmp_path: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / "orchestrator")
    assert lint_imports(tmp_path) == ""
    added = {
        "protocol": "httpx", "api/endpoint": "socket", "chat/loop": "requests", "memory": "aiohttp",
        "tools/schema": "jsonschema_rs",
    }  # fmt: skip
    for module, package in added.items():
        file = tmp_path / "orchestrator" / f"{module}.py"
        file.write_text(f"{file.read_text()}\nimport {package}\n")
    broken = lint_imports(tmp_path)
    for module, package in added.items():
        assert f"orchestrator.{module.replace('/', '.')} -> {package}" in broken
