"""The orchestrator's sources together with the deployment's own tools, as one directory to build from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from infra.deployment.tool_files import tools_directory, tools_requirements
from infra.deployment.tool_settings import TOOLS_DIRECTORY, Tools

from .recipes import TOOLS_FOLDER, TOOLS_REQUIREMENTS, Recipe

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def with_tools(recipe: Recipe, tools: Tools, *, into: Path) -> Recipe:
    """Returns the recipe of an image that contains the tools.

    The tools in the default directory are already among the recipe's sources. Others are copied, together
    with the recipe's sources, to the directory `into`, whose earlier contents are deleted.
    """
    requirements = tools_requirements(tools)
    if tools.directory == TOOLS_DIRECTORY and requirements is None:
        return recipe
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for name in recipe.files:
        source = Path(recipe.directory) / name
        if name == TOOLS_FOLDER and tools.directory != TOOLS_DIRECTORY:
            source = tools_directory(tools)
        if source.is_dir():
            shutil.copytree(source, into / name, ignore=_LEFT_OUT)
        elif source.exists():
            shutil.copy(source, into / name)
    if requirements is not None:
        shutil.copy(requirements, into / TOOLS_REQUIREMENTS)
    return dataclasses.replace(recipe, context=into)
