"""A compiled copy of the orchestrator, as its image contains it, for tests and benchmarks.

`python -m tests.support.compiled` makes it if necessary, and prints its directory, to be imported from.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "services" / "orchestrator"

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")


def modules() -> tuple[str, ...]:
    """The compiled modules, as paths in the package without a suffix."""
    spec = importlib.util.spec_from_file_location("compile_orchestrator", SERVICE / "compile.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names: tuple[str, ...] = module.MODULES
    return names


def compiled(service: Path = SERVICE) -> Path:
    """Returns a directory with the package of `service` compiled, made once for each state of its sources.

    A tree without compile.py, from before there was one, is returned as it is.
    """
    if not (service / "compile.py").exists():
        return service
    package = [path for path in (service / "orchestrator").rglob("*") if path.is_file()]
    sources = sorted(path for path in package if path.suffix not in (".pyc", ".so"))
    sources += [service / "compile.py", service / "build-requirements.txt"]
    digest = hashlib.sha256(sys.version.encode())
    for source in sources:
        digest.update(f"{source.relative_to(service)}\0".encode() + source.read_bytes())
    target = ROOT / ".cache" / "compiled" / digest.hexdigest()[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = target.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(service / "orchestrator", unfinished / "orchestrator", ignore=_LEFT_OUT)
            print(f"compiling {service} with mypyc, which takes a minute", file=sys.stderr, flush=True)
            command = [sys.executable, str(service / "compile.py"), str(unfinished)]
            subprocess.run(command, stdout=sys.stderr.fileno(), check=True)
            unfinished.rename(target)
    return target


if __name__ == "__main__":
    print(compiled())
