"""Compiles the modules that every request runs through to machine code, with mypyc.

Usage: compile.py DIRECTORY

DIRECTORY contains the package `orchestrator`. The extension modules are written beside their sources, which
stay and are used wherever there is no extension module. The interpreter needs the packages that the modules
import, for their types. The C compiler is zig's.

Other modules stay Python: no request is faster for them, or mypyc cannot compile them as they are (exceptions
whose class attributes differ, functions whose annotations are read, coroutines that wait in `except` blocks,
objects that are referred to weakly, arithmetic with both int and float).
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
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
    "telemetry", "tools/arguments", "tools/climate", "tools/expression",
    "tools/mcp/http", "tools/mcp/session", "tools/mcp/wire", "tools/nulls", "tools/places", "tools/results",
    "tools/running", "tools/schema", "tools/toolbox", "traces/record",
)  # fmt: skip

_COMPILER = (sys.executable, "-m", "ziglang", "cc")
_FLAGS = (
    "-Os",  # as fast as -O2 here, and 0.6 MB less memory
    "-fvisibility=hidden",
    "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables",
    "-mcpu=baseline",  # zig's default is the processor of the machine that builds
    "-fPIC",
    "-fwrapv",
    "-DNDEBUG",
    "-w",
)


def compile_modules(directory: Path) -> None:
    """Compiles the modules in place.

    Raises:
        SystemExit: mypyc rejected a module.
        subprocess.CalledProcessError: The C compiler or the linker failed.
    """
    os.chdir(directory)
    with tempfile.TemporaryDirectory() as build, ThreadPoolExecutor(os.cpu_count()) as threads:
        config = Path(build) / "mypy.ini"
        config.write_text(f"[mypy]\nignore_missing_imports = True\npython_executable = {sys.executable}\n")
        options = ["--config-file", str(config), "--cache-dir", f"{build}/cache"]
        sources = [f"orchestrator/{module}.py" for module in MODULES]
        extensions = mypycify([*options, *sources], multi_file=True, target_dir=build)
        compiled = [threads.submit(_compile, one, source) for one in extensions for source in one.sources]
        for one in compiled:
            one.result()
        list(threads.map(_link, extensions))


def _compile(extension: Extension, source: str) -> None:
    folders = [*extension.include_dirs, sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    command = [*_COMPILER, *_FLAGS, *(f"-I{folder}" for folder in folders)]
    subprocess.run([*command, "-c", source, "-o", _object(extension, source)], check=True)


def _link(extension: Extension) -> None:
    objects = [_object(extension, source) for source in extension.sources]
    library = extension.name.replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX")
    subprocess.run([*_COMPILER, "-shared", "-s", *objects, "-o", library], check=True)


def _object(extension: Extension, source: str) -> str:
    """The object file of a source; extensions share sources of mypyc's own."""
    return f"{source}.{extension.name}.o"


if __name__ == "__main__":
    compile_modules(Path(sys.argv[1]).resolve())
