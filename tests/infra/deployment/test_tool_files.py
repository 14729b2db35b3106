"""What the files of a deployment's own tools contain."""

from __future__ import annotations

from pathlib import Path

from infra.deployment.tool_files import ROOT, modules_in, unlocked


def test_modules_and_packages_are_found(tmp_path: Path) -> None:
    for name in ("shipping.py", "__init__.py", "not-a-name.py", "notes.txt", "crm/__init__.py", "data/x.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert modules_in(tmp_path) == ["crm", "shipping"]


def test_lock_file_is_locked_and_its_source_is_not() -> None:
    service = ROOT / "services" / "orchestrator"
    assert unlocked((service / "requirements.txt").read_text()) == []
    assert "fastapi" in unlocked((service / "requirements.in").read_text())
    assert unlocked("yarl==1.0\nidna==3 \\\n    --hash=sha256:0\n# via x\n") == ["yarl==1.0"]
