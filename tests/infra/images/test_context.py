"""The orchestrator's image has the deployment's own tools and their packages, wherever they are."""

from __future__ import annotations

from pathlib import Path

from infra.deployment.tool_settings import Tools
from infra.images.context import with_tools
from infra.images.recipes import ORCHESTRATOR, TOOLS_REQUIREMENTS
from tests.infra.synthesis import synthesize


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_default_tools_need_no_copy(tmp_path: Path) -> None:
    assert with_tools(ORCHESTRATOR, Tools(), into=tmp_path / "context") is ORCHESTRATOR
    assert not (tmp_path / "context").exists()


def test_own_tools_are_copied_beside_the_service_and_secrets_are_not(tmp_path: Path) -> None:
    tools, lock = tmp_path / "tools", tmp_path / "lock.txt"
    (tools / "crm").mkdir(parents=True)
    for name in ("shipping.py", "crm/__init__.py", ".env", "crm/.token", "old.pyc"):
        (tools / name).write_text("x")
    lock.write_text("yarl==1 --hash=sha256:0\n")
    context = tmp_path / "context"
    (context / "tools").mkdir(parents=True)
    (context / "tools" / "of_yesterday.py").write_text("x")
    own = Tools(directory=str(tools), requirements=str(lock))
    recipe = with_tools(ORCHESTRATOR, own, into=context)
    assert recipe.directory == str(context)
    there = files(context)
    assert {name for name in there if name.startswith("tools/")} == {
        "tools/shipping.py",
        "tools/crm/__init__.py",
    }
    assert (context / TOOLS_REQUIREMENTS).read_text() == lock.read_text()
    assert {"Dockerfile", "requirements.txt", "orchestrator/app.py"} <= there
    assert files(context / "orchestrator") == {
        name for name in files(Path(ORCHESTRATOR.directory) / "orchestrator") if not name.endswith(".pyc")
    }


def test_packages_alone_keep_the_default_directory(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("yarl==1 --hash=sha256:0\n")
    with_tools(ORCHESTRATOR, Tools(requirements=str(lock)), into=tmp_path / "context")
    assert "tools/README.md" in files(tmp_path / "context")


def test_another_tool_is_another_image() -> None:
    tags = {
        body["Properties"]["ImageTag"]
        for variant in ("default", "own_tools")
        for name, body in synthesize(variant).serving["Resources"].items()
        if body["Type"] == "Custom::ContainerImage" and "Orchestrator" in name
    }
    assert len(tags) == 2
