"""Base images: pulled as the Dockerfiles name them, or else made here from Debian's and Python's packages."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docker.errors import APIError, ImageNotFound

from .engine import CommandFailed, Engine, state_directory
from .programs import NoEngine, install_programs, mirror

ROOT = Path(__file__).parents[3]
STANDIN_ENGINE = "tandem-test/standin-engine"
APPLIANCES = "tandem-test/appliances"
CPU_ENGINE = "tandem-test/cpu-engine"
PYTHON = "python:3.11.14-slim-bookworm"
VLLM = "vllm/vllm-openai:v0.32.0"
VLLM_CPU = "vllm/vllm-openai-cpu:v0.32.0"

_HERE = Path(__file__).parent
_LOCAL_PYTHON = "tandem-test/python"
_RELEASE = "bookworm"
_IMPORTED = "Imported from -"
"""What `docker import` notes in an image."""
# With the headers, as in Python's own image: the orchestrator's modules are compiled.
_PACKAGES = "python3,python3-dev,python3-venv,python3-pip,ca-certificates"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host")
_SITE_PACKAGES = "/usr/local/lib/python3.11/dist-packages"
# The account of vLLM's own image, and the directory that a volume for the cache takes its owner from.
_ACCOUNT = "useradd --uid 2000 --gid 0 --create-home vllm && install -d -o 2000 -g 0 -m 775 /home/vllm/.cache"
_LIBRARIES = "apt-get update -q && apt-get install -yq --no-install-recommends libnuma1 libgomp1"
_SECONDS = 900
# Where the registry cannot be reached this is known at once; where it can, the image is small.
_PULL_SECONDS = 300


@contextmanager
def tagged(engine: Engine, image: str, *names: str) -> Iterator[None]:
    """Gives an image these names while the block runs; images that had them before get them back."""
    before = {name: _id(engine, name) for name in names}
    for name in names:
        engine.api.images.get(image).tag(name)
    try:
        yield
    finally:
        for name, kept in before.items():
            if kept:
                engine.api.images.get(kept).tag(name)
            else:
                engine.api.images.remove(name, noprune=True)


def python_base(engine: Engine, name: str = PYTHON) -> str:
    """The Python base image, present under `name`; returns the name.

    Raises:
        NoEngine: it can neither be pulled nor made.
    """
    for known in (_LOCAL_PYTHON, name):
        if _is_outdated(engine, known):
            engine.api.images.remove(known, noprune=True)
    if not engine.has_image(name):
        _pull_or_make(engine, name)
    if _id(engine, name) == _id(engine, _LOCAL_PYTHON):
        engine.note(f"{name} cannot be pulled here; a Debian {_RELEASE} with its Python stands for it")
    return name


def _is_outdated(engine: Engine, name: str) -> bool:
    """Whether the image was made here, from other packages. One that was pulled or loaded stays."""
    try:
        image = engine.api.images.get(name)
    except (ImageNotFound, APIError):
        return False
    made_here = image.attrs["Comment"] == _IMPORTED
    return made_here and image.labels.get("packages") != _PACKAGES


def _pull_or_make(engine: Engine, name: str) -> None:
    try:
        engine.docker("pull", "--quiet", name, seconds=_PULL_SECONDS)
    except (CommandFailed, subprocess.TimeoutExpired):
        if not engine.has_image(_LOCAL_PYTHON):
            _make_python_base(engine)
        engine.api.images.get(_LOCAL_PYTHON).tag(name)


def _make_python_base(engine: Engine) -> None:
    install_programs(state_directory())
    with tempfile.TemporaryDirectory(prefix="tandem-base-") as name:
        root = Path(name) / "root"
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            _RELEASE,
            str(root),
            mirror(),
        ]
        made = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if made.returncode:
            raise NoEngine(f"debootstrap failed with status {made.returncode}:\n{made.stdout[-2000:]}")
        (root / "usr/bin/python").symlink_to("python3")
        shutil.copy(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
        (root / "etc/pip.conf").write_text(_pip_settings())
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
            for file in (root / leftover).glob("*"):
                if file.is_file():
                    file.unlink()
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                ["docker", "import", "--change", f"LABEL packages={_PACKAGES}", "-", _LOCAL_PYTHON],
                env=dict(engine.environment),
                stdin=tar.stdout,
                stdout=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=True,
            )


def _pip_settings() -> str:
    """The package index that pip is configured with on this machine, for the builds in containers."""
    lines = ["[global]"]
    for setting in _PIP_SETTINGS:
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"global.{setting}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        values = [value for value in asked.stdout.split() if not value.startswith("file:")]
        if values:
            lines.append(f"{setting} = {' '.join(values)}")
    return "\n".join(lines) + "\n"


def standin_engine(engine: Engine) -> str:
    """An image that stands for vLLM's: its `vllm` command is the stand-in engine."""
    base = python_base(engine)
    with tempfile.TemporaryDirectory(prefix="tandem-standin-") as name:
        context = Path(name)
        shutil.copy(ROOT / "examples" / "requirements.txt", context)
        shutil.copy(ROOT / "services" / "vllm" / "standin.py", context)
        shutil.copytree(
            ROOT / "services" / "vllm" / "standin_engine",
            context / "standin_engine",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        shutil.copy(_HERE / "standin.Dockerfile", context / "Dockerfile")
        engine.build(context, STANDIN_ENGINE, "--build-arg", f"PYTHON_IMAGE={base}")
    engine.note(f"{STANDIN_ENGINE}, with the stand-in engine, stands for {VLLM} where no model is needed")
    return STANDIN_ENGINE


def appliances(engine: Engine) -> str:
    """An image with a registry, a load balancer, and what CodeBuild and an instance have."""
    engine.build(_HERE / "appliances", APPLIANCES, "--build-arg", f"PYTHON_IMAGE={python_base(engine)}")
    return APPLIANCES


def cpu_engine(engine: Engine) -> str:
    """An image that stands for vLLM's: the CPU build of vLLM that `make vllm-cpu` installs.

    Raises:
        NoEngine: it is not installed.
    """
    packages = ROOT / ".venv-vllm" / "lib" / "python3.11" / "site-packages"
    if not packages.exists():
        raise NoEngine(f"{packages} is missing: run `make vllm-cpu` with Python 3.11")
    made_from = [ROOT / "tests/e2e/engine/requirements-cpu.txt", _HERE / "vllm-command", Path(__file__)]
    version = hashlib.sha256(b"".join(file.read_bytes() for file in made_from)).hexdigest()[:16]
    engine.note(f"{CPU_ENGINE}, with vLLM's CPU build, stands for {VLLM}, which needs a GPU")
    if engine.has_image(f"{CPU_ENGINE}:{version}"):
        return f"{CPU_ENGINE}:{version}"
    prepare = f"{_LIBRARIES} && {_ACCOUNT}"
    container = engine.api.containers.create(python_base(engine), ["sh", "-c", prepare])
    try:
        container.start()
        status = container.wait(timeout=_SECONDS)["StatusCode"]
        if status:
            raise NoEngine(f"{CPU_ENGINE} cannot be made: `{prepare}` ended with status {status}")
        _copy(engine, packages, f"{container.id}:{_SITE_PACKAGES}")
        engine.docker("cp", _HERE / "vllm-command", f"{container.id}:/usr/local/bin/vllm")
        container.commit(CPU_ENGINE, version)
    finally:
        container.remove()
    return f"{CPU_ENGINE}:{version}"


def _copy(engine: Engine, directory: Path, target: str) -> None:
    tar = ["tar", "-C", str(directory), "--owner=0", "--group=0", "-c", "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
        subprocess.run(
            ["docker", "cp", "-", target],
            env=dict(engine.environment),
            stdin=packed.stdout,
            timeout=_SECONDS,
            check=True,
        )


def _id(engine: Engine, name: str) -> str | None:
    try:
        return engine.api.images.get(name).id
    except (ImageNotFound, APIError):
        return None
