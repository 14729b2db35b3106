"""The blocks of the user's guide, as written there, and how its scripts are run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

CHAT = "/v1/chat/completions"
_GUIDE = Path(__file__).with_name("guide.txt").read_text(encoding="utf-8")


def block(heading: str) -> str:
    """Returns the guide's code block under a heading."""
    found = re.search(rf"^#+ {re.escape(heading)}\n+```\w+\n(.*?)^```", _GUIDE, re.MULTILINE | re.DOTALL)
    assert found, f"guide.txt has no block under {heading!r}"
    return found[1]


def shell(script: str, *arguments: str, seconds: float = 30.0) -> str:
    """Runs a script of the guide in bash and returns its output."""
    command = ["bash", "-euo", "pipefail", "-c", script, "guide", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(script: str, seconds: float = 30.0) -> str:
    """Runs a program of the guide and returns its output."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def at(script: str, url: str, host: str = "${AWS_IP}") -> str:
    """Points a script of the guide at the orchestrator with this base URL."""
    assert f"{host}:8001" in script
    return script.replace(f"{host}:8001", url.removeprefix("http://"))


def log_messages() -> list[str]:
    """Returns the orchestrator's messages that the guide waits for."""
    return re.findall(r"# orchestrator_1 \| (.+)", block("Check Logs on AWS"))


def own_tool() -> str:
    """Extracts the guide's `query_database`, without the table of tools that this product does not need."""
    function, _, _ = block("Custom Tool Example: Database Query").partition("# Add to AVAILABLE_TOOLS")
    assert function.startswith("def query_database(table: str, filter_by: str) -> str:")
    return function


def metric_names() -> tuple[str, str, str]:
    """Returns the names of the guide's counter, of its label, and of its histogram."""
    monitoring = block("Monitoring")
    counter = re.search(r"Counter\('(\w+)', '[^']+', \['(\w+)'\]\)", monitoring)
    histogram = re.search(r"Histogram\('(\w+)'", monitoring)
    assert counter
    assert histogram
    return counter[1], counter[2], histogram[1]


def said(answer: str) -> str:
    """Returns the text of a completed chat answer without calls."""
    choice = json.loads(answer)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert not choice["message"].get("tool_calls")
    content: str = choice["message"]["content"]
    return content
