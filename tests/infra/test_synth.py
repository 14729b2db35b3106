"""`npx cdk synth` as a user runs it: no credentials, no network, the same bytes every time, quickly."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.synthesis import VARIANT_FILES

ROOT = Path(__file__).parents[2]
DEFAULT = VARIANT_FILES / "default.yaml"

BLOCK_NODE = """
const refuse = (what) => {
  process.stderr.write(`NETWORK: ${what}\\n`);
  throw new Error(`network: ${what}`);
};
require('net').Socket.prototype.connect = function (...a) { refuse(JSON.stringify(a[0])); };
const dns = require('dns');
for (const name of ['lookup', 'resolve', 'resolve4', 'resolve6']) dns[name] = (host) => refuse(host);
dns.promises.lookup = async (host) => refuse(host);
"""
BLOCK_PYTHON = """
import socket, sys
def refuse(*args):
    sys.stderr.write(f"NETWORK: {args}\\n")
    raise OSError(f"network: {args}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="session")
def cdk() -> str:
    """The pinned CDK CLI; `npm ci` brings it."""
    if not (ROOT / "node_modules/.bin/cdk").exists():
        npm = shutil.which("npm")
        assert npm, "Node with npm is needed"
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=ROOT, check=True, capture_output=True)
    return str(ROOT / "node_modules/.bin/cdk")


def _environment(tmp_path: Path) -> dict[str, str]:
    """Only the machine's PATH and an empty home; every connection fails and is reported."""
    (tmp_path / "block.js").write_text(BLOCK_NODE)
    (tmp_path / "sitecustomize.py").write_text(BLOCK_PYTHON)
    (tmp_path / "home").mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "NODE_OPTIONS": f"--require={tmp_path / 'block.js'}",
        "PYTHONPATH": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _synth(
    cdk: str, tmp_path: Path, out: str, *arguments: str, directory: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    app = f"{sys.executable} app.py"
    return subprocess.run(
        [cdk, "synth", "--quiet", "--app", app, "--output", str(tmp_path / out), *arguments],
        cwd=directory,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )


def test_two_runs_without_network_or_credentials_give_the_same_bytes(cdk: str, tmp_path: Path) -> None:
    for out in ("one", "two"):
        done = _synth(cdk, tmp_path, out, "-c", f"deployment={DEFAULT}")
        assert done.returncode == 0, done.stderr
        assert "NETWORK" not in done.stderr
        assert "engine" in done.stderr  # the summary
        assert "end-of-life" not in done.stderr  # jsii's banner, if this is Node 20
        assert "feature flags" not in done.stderr
    one, two = tmp_path / "one", tmp_path / "two"
    names = _names(one)
    assert names == _names(two)
    assert [name for name in names if _content(one / name) != _content(two / name)] == []


def _names(output: Path) -> list[str]:
    """Returns the files in it, except for the one in which the CDK notes how long a slow synthesis took."""
    names = (str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    return sorted(name for name in names if name != "performance-counters.json")


def _content(path: Path) -> bytes:
    """A file's bytes. The CLI's notes on where constructs were made name jsii's directory of that run."""
    content = path.read_bytes()
    return re.sub(rb"jsii-kernel-\w+", b"", content) if path.name.endswith(".metadata.json") else content


def test_block_refuses_connections(tmp_path: Path) -> None:
    """The test above can fail: both runtimes do refuse, and say so."""
    environment = _environment(tmp_path)
    node = shutil.which("node")
    assert node
    for command in (
        [node, "-e", "require('net').connect(80, '127.0.0.1')"],
        [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 80))"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "NETWORK" in done.stderr


def test_deployment_that_would_fail_ends_with_status_1_and_a_fix(cdk: str, tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("model:\n  id: Qwen/Qwen2.5-14B-Instruct\n")
    done = _synth(cdk, tmp_path, "out", "-c", f"deployment={path}")
    assert done.returncode == 1
    assert f"{path}: error: gpu.instance_types: " in done.stderr
    assert "Fix:" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.template.json"))


def test_unknown_setting_ends_with_status_1_and_the_nearest_name(cdk: str, tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("gpu:\n  replica: 2\n")
    done = _synth(cdk, tmp_path, "out", "-c", f"deployment={path}")
    assert done.returncode == 1
    assert f"{path}:2: gpu.replica: unknown setting; did you mean gpu.replicas?" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_package_is_named_without_a_traceback() -> None:
    command = [sys.executable, "-S", "app.py"]  # without site-packages
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("The package ")
    assert done.stderr.endswith("is not installed in .venv. Run make synth, which installs what it needs.\n")


def test_fault_in_the_templates_ends_with_status_1(cdk: str, tmp_path: Path) -> None:
    """The rules on the templates run within `cdk synth`, and stop it."""
    for name in ("infra", "services"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", tmp_path)
    source = tmp_path / "infra/serving/gpu_instances.py"
    text = source.read_text()
    assert "enable_managed_termination_protection=plan.protects_instances" in text
    source.write_text(
        text.replace(
            "enable_managed_termination_protection=plan.protects_instances",
            "enable_managed_termination_protection=True",
        )
    )
    done = _synth(cdk, tmp_path, "out", "-c", f"deployment={DEFAULT}", directory=tmp_path)
    assert done.returncode == 1
    assert "ManagedTerminationProtection must be DISABLED" in done.stderr
    assert "T-protected-instances" in done.stderr
    assert "US dollars" not in done.stderr


def test_cli_is_pinned_and_its_lock_file_names_no_host() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    lock = json.loads((ROOT / "package-lock.json").read_text())
    version = package["devDependencies"]["aws-cdk"]
    assert version[0].isdigit()
    assert lock["packages"]["node_modules/aws-cdk"]["version"] == version
    assert not [entry for entry in lock["packages"].values() if "resolved" in entry]


def test_settings_of_the_cli_keep_it_off_the_network() -> None:
    settings = json.loads((ROOT / "cdk.json").read_text())
    assert settings["notices"] is False
    assert settings["versionReporting"] is False
    assert settings["context"]["cli-telemetry"] is False
