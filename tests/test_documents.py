"""What the documents name exists, and one version number is shared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator import __version__
from tests.support.live import Live

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
NOT_IN_THE_REPOSITORY = {"cdk.out/", "Qwen/Qwen2.5-7B-Instruct"}


def paths(document: str) -> set[str]:
    """The paths in a document: targets of links, and code that has a slash or a file's suffix."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    code = re.findall(r"`(\.?[\w-]+(?:/[\w./-]*|\.(?:py|md|ya?ml|toml|json|in|txt)))`", text)
    return {*linked, *code} - NOT_IN_THE_REPOSITORY


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_exists(document: str) -> None:
    assert len(paths(document)) > 8
    assert [path for path in sorted(paths(document)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z][a-z0-9-]*)", (ROOT / document).read_text()))
    assert named
    assert named <= targets


async def test_api_has_the_version(server: Live) -> None:
    assert (await server.http.get("/openapi.json")).json()["info"]["version"] == __version__


def test_newest_version_of_the_changelog_is_the_version() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__


def test_release_guide_tags_the_version() -> None:
    guide = (ROOT / "docs/release.md").read_text()
    assert set(re.findall(r"\bgit tag v(\S+)", guide)) == {__version__}


def test_messages_in_the_table_of_problems_are_those_of_the_sources() -> None:
    """The parts of each message between its variable parts occur in the orchestrator's code."""
    table = (ROOT / "README.md").read_text().partition("| what you see |")[2].partition("\n\n")[0]
    seen = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    messages = [text for cell in seen for text in re.findall(r"`([A-Za-z][^`]* [^`]* [^`]*)`", cell)]
    sources = "".join(path.read_text() for path in (ROOT / "services/orchestrator").rglob("*.py"))
    joined = re.sub(r'"\s*f?"', "", sources)
    assert len(messages) >= 4
    assert [part for text in messages for part in text.split("…") if part.strip() not in joined] == []
