"""The CDK CLI as a child process, played by a script."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import ops.__main__ as commands

SCRIPT = """\
#!/bin/sh
echo "$@" >&2
echo "region=$AWS_REGION telemetry=$CDK_DISABLE_CLI_TELEMETRY" >&2
echo 'Tandem deployment "tandem"' >&2
echo 'Successfully synthesized to cdk.out'
echo 'Supply a stack id (a, b) to display its template.'
echo '.venv/bin/python app.py: Subprocess exited with error 3' >&2
exit {status}
"""


@pytest.fixture
def npx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "npx"


@pytest.mark.parametrize("status", [0, 3])
def test_synth_prints_what_the_app_reports_and_ends_as_it_ended(
    npx: Path, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    npx.write_text(SCRIPT.format(status=status))
    npx.chmod(0o755)
    file = tmp_path / "staging.yaml"
    monkeypatch.setenv("DEPLOYMENT", str(file))
    result = CliRunner().invoke(commands.app, ["synth"])
    assert result.exit_code == status
    lines = result.stderr.splitlines()
    assert lines[0] == f"cdk synth --quiet -c deployment={file} --ci --no-color"
    assert lines[1].endswith("telemetry=true")
    assert lines[2:] == ['Tandem deployment "tandem"']
    assert result.stdout == ""
