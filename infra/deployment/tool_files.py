"""The files of a deployment's own tools. Paths in the deployment file are relative to the project."""

from __future__ import annotations

import re
from pathlib import Path

from .tool_settings import Tools

ROOT = Path(__file__).resolve().parents[2]

_MODULE = re.compile(r"[A-Za-z_]\w*")


def tools_directory(tools: Tools) -> Path:
    """Returns the path of the directory with the modules, which may not exist."""
    return ROOT / tools.directory


def tools_requirements(tools: Tools) -> Path | None:
    """Returns the path of the lock file, which may not exist; None if the tools need no packages."""
    return ROOT / tools.requirements if tools.requirements else None


def modules_in(directory: Path) -> list[str]:
    """Returns the names of the modules and packages in a directory, sorted."""
    names = {
        path.stem if path.suffix == ".py" else path.name
        for path in directory.glob("*")
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    return sorted(name for name in names if _MODULE.fullmatch(name) and not name.startswith("__"))


def unlocked(requirements: str) -> list[str]:
    """Returns the requirements of a lock file's text that lack an exact version or a hash."""
    joined = re.sub(r"\\\n", " ", requirements)
    lines = (line.split(" #")[0].strip() for line in joined.splitlines())
    return [
        line.split()[0]
        for line in lines
        if line and not line.startswith(("#", "--")) and not ("==" in line and "--hash=" in line)
    ]
