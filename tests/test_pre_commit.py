"""The hooks run offline, with the tools of the project's own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PRE_COMMIT_HOME": str(folder / "cache"), "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_hooks_fix_a_file_and_then_pass(tmp_path: Path) -> None:
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "new.py").write_text("import os\nx  =  1\n")
    _run(tmp_path, "git", "init", "-q")
    _run(tmp_path, "git", "add", "new.py", "pyproject.toml", ".pre-commit-config.yaml")
    hooks = (sys.executable, "-m", "pre_commit", "run")
    first = _run(tmp_path, *hooks)
    assert first.returncode == 1, first.stdout + first.stderr
    assert (tmp_path / "new.py").read_text() == "x = 1\n"
    _run(tmp_path, "git", "add", "new.py")
    second = _run(tmp_path, *hooks)
    assert second.returncode == 0, second.stdout + second.stderr
