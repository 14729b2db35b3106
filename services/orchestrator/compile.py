"""Compiles the modules that every request runs through to machine code, with mypyc.

Usage: compile.py DIRECTORY [PYTHON]

DIRECTORY contains the package `orchestrator`. The extension modules are written beside their sources, which
stay and are used wherever there is no extension module. PYTHON is the interpreter that has the packages which
the modules import, for their types. The C compiler is `$CC`, or zig's if that is not set.

Other modules stay Python: no request is faster for them, or mypyc cannot compile them as they are (exceptions
whose class attributes differ, dataclasses with class attributes, coroutines that wait in `except` blocks).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Extension

MODULES = (
    "api/body", "api/chat", "api/endpoint", "api/head", "api/http", "api/in_flight", "api/reply",
    "api/request",
    "chat/carried", "chat/conversation", "chat/execution", "chat/json_end", "chat/loop", "chat/quotation",
    "chat/request_fields", "chat/scanner", "chat/shapes", "chat/token_data", "chat/tool_choice",
    "chat/tool_plan", "chat/turn",
    "collectors", "connection", "control_tokens", "memory", "protocol", "record",
    "engine/address", "engine/affinity", "engine/answer", "engine/client", "engine/event_check",
    "limits/accounts", "limits/allowance", "limits/rules", "limits/usage",
    "tools/arguments", "tools/expression", "tools/mcp/http", "tools/mcp/session", "tools/mcp/wire",
    "tools/nulls", "tools/results", "tools/schema", "tools/toolbox", "traces/record",
)  # fmt: skip

_FLAGS = (
    "-Os",  # as fast as -O2 here, and 0.6 MB less memory
    "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
    "-mcpu=baseline",  # zig's default is the processor of the machine that builds
    "-fPIC",
    "-fwrapv",
    "-DNDEBUG",
    "-w",
)


def compile_modules(directory: Path, python: str = sys.executable) -> None:
    """Compiles the modules in place.

    Raises:
        SystemExit: mypyc rejected a module.
        subprocess.CalledProcessError: The C compiler or the linker failed.
    """
    os.chdir(directory)
    with tempfile.TemporaryDirectory() as build:
        config = Path(build) / "mypy.ini"
        config.write_text(f"[mypy]\nignore_missing_imports = True\npython_executable = {python}\n")
        options = ["--config-file", str(config), "--cache-dir", f"{build}/cache"]
        sources = [f"orchestrator/{module}.py" for module in MODULES]
        extensions = mypycify([*options, *sources], multi_file=True, target_dir=build)
        compiler = shlex.split(os.environ.get("CC") or f"{sys.executable} -m ziglang cc")
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for extension in extensions:
                _build(compiler, extension, Path(build), threads)


def _build(compiler: Sequence[str], extension: Extension, build: Path, threads: ThreadPoolExecutor) -> None:
    folders = [*extension.include_dirs, sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    command = [*compiler, *_FLAGS, *(f"-I{folder}" for folder in folders)]
    objects = [f"{build}/{extension.name}-{number}.o" for number, _ in enumerate(extension.sources)]

    def compiled(source: str, target: str) -> None:
        subprocess.run([*command, "-c", source, "-o", target], check=True)

    list(threads.map(compiled, extension.sources, objects))
    library = extension.name.replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX")
    subprocess.run([*compiler, "-shared", "-s", *objects, "-o", library], check=True)


if __name__ == "__main__":
    compile_modules(Path(sys.argv[1]).resolve(), *sys.argv[2:])
