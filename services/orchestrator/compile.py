"""Compiles the modules that every request runs through to machine code, with mypyc.

Usage: compile.py DIRECTORY [PYTHON]

DIRECTORY contains the package `orchestrator`, and gets the extension modules beside their sources. PYTHON is an
interpreter whose packages the types are read from.

What is not on a request's way stays Python, and so does what mypyc cannot compile as it is: exceptions whose
class attributes differ, dataclasses with class attributes, functions with attributes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

MODULES = (
    "api/body", "api/chat", "api/endpoint", "api/head", "api/http", "api/reply", "api/request",
    "chat/carried", "chat/conversation", "chat/execution", "chat/json_end", "chat/loop", "chat/quotation",
    "chat/request_fields", "chat/scanner", "chat/shapes", "chat/token_data", "chat/tool_choice",
    "chat/tool_plan", "chat/turn",
    "collectors", "connection", "memory", "protocol",
    "engine/address", "engine/affinity", "engine/answer", "engine/client", "engine/event_check",
    "tools/arguments", "tools/expression", "tools/results", "tools/schema", "tools/toolbox",
)  # fmt: skip


def compile_modules(directory: Path, python: str = sys.executable) -> None:
    """Compiles the modules in place.

    Raises:
        SystemExit: mypyc or the C compiler rejected a module.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.chdir(directory)
    with tempfile.TemporaryDirectory() as build:
        config = Path(build) / "mypy.ini"
        config.write_text(f"[mypy]\nignore_missing_imports = True\npython_executable = {python}\n")
        sources = [f"orchestrator/{module}.py" for module in MODULES]
        options = ["--config-file", str(config), "--cache-dir", f"{build}/cache"]
        modules = mypycify([*options, *sources], opt_level="2", debug_level="0", target_dir=build)
        command = build_ext(Distribution({"name": "orchestrator", "ext_modules": modules}))
        command.inplace, command.build_temp, command.build_lib = True, f"{build}/objects", f"{build}/lib"
        command.ensure_finalized()
        command.run()


if __name__ == "__main__":
    compile_modules(Path(sys.argv[1]).resolve(), *sys.argv[2:])
