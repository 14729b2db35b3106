"""Debian packages that a private Docker engine needs, installed where they are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_PLUGINS = ("docker-compose", "docker-buildx")
_ENGINE = ("docker.io", "containerd")
_NEWER_RELEASE = "trixie"  # the first Debian release with Compose v2, and with an engine that unpacks zstd
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ATTEMPTS = 3  # another process may hold the lock of the package lists
_SECONDS = 900


class NoEngine(RuntimeError):
    """There is no Docker engine, and none can be started; the message says why and what would help."""


def install_programs(state: Path) -> None:
    """Installs what is missing of dockerd, debootstrap and the plugins of the Docker command line.

    Raises:
        NoEngine: a package cannot be installed here.
    """
    needed = {"dockerd": "docker.io", "debootstrap": "debootstrap"}
    missing = [package for program, package in needed.items() if not shutil.which(program)]
    if missing:
        _require_apt(missing)
        _apt("update", "--quiet")
        _apt("install", "--yes", "--quiet", "--no-install-recommends", *missing)
    plugins = state / "config" / "cli-plugins"
    if not all((plugins / name).exists() for name in _PLUGINS):
        unpacked = _fetch(state / "packages", _PLUGINS)
        plugins.mkdir(parents=True, exist_ok=True)
        for name in _PLUGINS:
            shutil.copy(unpacked / "usr/libexec/docker/cli-plugins" / name, plugins / name)
        shutil.rmtree(state / "packages")
    if not engine_programs(state).is_dir():
        unpacked = _fetch(state / "packages", _ENGINE)
        unpacked.rename(engine_programs(state))
        shutil.rmtree(state / "packages")


def engine_programs(state: Path) -> Path:
    """Where the programs of the private engine are; a machine's own may be too old to unpack zstd."""
    return state / f"engine-{_NEWER_RELEASE}"


def mirror() -> str:
    """The address of Debian's packages that apt is configured with.

    Raises:
        NoEngine: apt's configuration names none.
    """
    apt = Path("/etc/apt")
    files = [*apt.glob("sources.list.d/*.sources"), apt / "sources.list", *apt.glob("sources.list.d/*.list")]
    for file in files:
        found = re.search(
            r"^(?:URIs:|deb (?:\[[^]]*\] )?)\s*(\S+)", file.read_text() if file.exists() else "", re.M
        )
        if found:
            return found[1]
    raise NoEngine("no Debian mirror is configured below /etc/apt")


def _require_apt(packages: Sequence[str]) -> None:
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        raise NoEngine(
            f"no Docker engine answers, and a private one needs {', '.join(packages)}, which are installed "
            "automatically only as root on Debian. Start Docker, or run as root on Debian."
        )


def _apt(*arguments: str, cwd: Path | None = None, attempts: int = _ATTEMPTS) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for left in reversed(range(attempts)):
        ended = subprocess.run(
            command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=_SECONDS
        )
        if ended.returncode == 0:
            return
        if not left:
            raise NoEngine(f"{' '.join(command)} failed: {ended.stderr.strip()[-1500:]}")


def _fetch(directory: Path, names: Sequence[str]) -> Path:
    """Unpacks packages of a newer release, and installs none of them; returns where they are."""
    _require_apt(list(names))
    shutil.rmtree(directory, ignore_errors=True)
    for part in ("lists/partial", "cache/archives/partial", "unpacked"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {mirror()} {_NEWER_RELEASE} main\n")
    options = {
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::Lists": str(directory / "lists"),
        "Dir::Cache": str(directory / "cache"),
        "APT::Sandbox::User": "root",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    _apt(*given, "update", "--quiet")
    _apt(*given, "download", "--quiet", *names, cwd=directory)
    for package in directory.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, directory / "unpacked"], check=True, timeout=_SECONDS)
    return directory / "unpacked"
