"""The curl line that `make deploy` ends with. It is run before it is shown."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from urllib.parse import urlsplit

from .report import Result, Status
from .smoke import PATIENCE, Target

VARIABLE = "TANDEM_API_KEY"
TOKEN_VARIABLE = "TANDEM_TOKEN"  # noqa: S105 (its name)
_BODY = {
    "messages": [{"role": "user", "content": "What is the weather in San Francisco?"}],
    "tools": [{"type": "function", "function": {"name": "get_current_weather"}}],
}


def line(target: Target) -> str:
    """Returns a command for a shell in which TANDEM_API_KEY has the key, and TANDEM_TOKEN the token."""
    url = urlsplit(target.url)
    parts = ["curl", "-sS", "--fail", f"{target.url}/chat/completions"]
    if target.connect_to:
        port = url.port or (443 if url.scheme == "https" else 80)
        host, _, other_port = target.connect_to.partition(":")
        parts += ["--connect-to", f"{url.hostname}:{port}:{host}:{other_port or port}"]
    command = shlex.join(parts)
    if target.token:
        command += f' -H "Authorization: Bearer ${TOKEN_VARIABLE}"'
    elif target.key:
        command += f' -H "Authorization: Bearer ${VARIABLE}"'
    return f"{command} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(_BODY))}"


def run(target: Target) -> Result:
    """Runs the line, and checks that it prints an answer."""
    if shutil.which("curl") is None:
        return Result(Status.UNKNOWN, "curl", "not run: curl is not installed")
    start = time.monotonic()
    command = line(target).replace("curl", f"curl --max-time {PATIENCE.answer:g}", 1)
    ended = subprocess.run(  # noqa: S602  the line is written for a shell
        command,
        shell=True,
        env=os.environ | {VARIABLE: target.key or "", TOKEN_VARIABLE: target.token or ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(ended.stdout)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        found = (ended.stderr or ended.stdout).strip()[-300:]
        return Result(Status.ERROR, "curl", f"status {ended.returncode}: {found}", line(target))
    return Result(Status.OK, "curl", f"{answer[:48]}  ({time.monotonic() - start:.2f} s)")
