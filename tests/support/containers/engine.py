"""A Docker engine for tests: the machine's own, or else a private one that ends with them."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import docker
from docker.errors import DockerException

from .programs import NoEngine, engine_programs, install_programs

LABEL = "tandem.test"
RUN = uuid.uuid4().hex
"""Marks, as the value of the label, what this run starts: in the machine's engine there may be others."""

_START_SECONDS = 90.0
_STOP_SECONDS = 60.0
_COMMAND_SECONDS = 900
_API_SECONDS = 180
_KEPT_BUILD_CACHE = "6GB"


class CommandFailed(RuntimeError):
    """A docker command failed; the message holds the command and the end of its output."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine.

    Attributes:
        host: address of its API, as DOCKER_HOST.
        environment: what the `docker` command needs in its environment to reach it.
        private: whether the tests started it, so that everything in it is theirs.
    """

    host: str
    environment: Mapping[str, str]
    private: bool
    notes: list[str] = field(default_factory=list)

    @cached_property
    def api(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host, timeout=_API_SECONDS)

    def note(self, text: str) -> None:
        """Prints what a reader of the output must know, once."""
        if text not in self.notes:
            self.notes.append(text)
            print(f"containers: {text}", flush=True)

    def has_image(self, name: str) -> bool:
        return bool(self.api.images.list(filters={"reference": name}))

    def docker(
        self,
        *arguments: str | Path,
        seconds: float = _COMMAND_SECONDS,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Runs the `docker` command; returns its standard output.

        Raises:
            CommandFailed: it exited with another status than 0.
        """
        command = ["docker", *map(str, arguments)]
        ended = subprocess.run(
            command,
            cwd=cwd,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if ended.returncode:
            output = f"{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
            raise CommandFailed(f"{' '.join(command)}: status {ended.returncode}\n{output.strip()}")
        return ended.stdout

    def build(self, directory: Path, tag: str, *arguments: str) -> str:
        """Builds the Dockerfile of `directory`; returns the image's id."""
        self.docker("build", "--tag", tag, *arguments, directory)
        return str(self.api.images.get(tag).id)


@contextmanager
def running_engine() -> Iterator[Engine]:
    """The machine's engine where it answers, else a private one, which ends with the block.

    Raises:
        NoEngine: neither is possible.
    """
    engine = _machines_engine()
    if engine is not None:
        engine.note(f"uses the machine's Docker engine at {engine.host}")
        try:
            yield engine
        finally:
            _remove_leftovers(engine)
            engine.api.close()
        return
    state = state_directory()
    with _only_one(state), _private_engine(state) as engine:
        yield engine


def state_directory() -> Path:
    """What survives from one run to the next: images, layers, the build cache and the plugins."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(cache) / "tandem" / "containers"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _machines_engine() -> Engine | None:
    if not shutil.which("docker"):
        return None
    asked = _output(["docker", "version", "--format", "{{.Server.Version}}"])
    if not asked:
        return None
    if not _output(["docker", "compose", "version"]):
        raise NoEngine("the machine's Docker has no Compose plugin (v2); install docker-compose-plugin")
    context = _output(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
    return Engine(os.environ.get("DOCKER_HOST") or context, dict(os.environ), private=False)


def _output(command: Sequence[str]) -> str:
    with suppress(OSError, subprocess.TimeoutExpired):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return ended.stdout.strip() if ended.returncode == 0 else ""
    return ""


@contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """Waits until no other run uses the private engine's data."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("containers: waits for another run that uses the private Docker engine", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _private_engine(state: Path) -> Iterator[Engine]:
    install_programs(state)
    _end_orphan(state)
    # What a running engine writes must not survive it: a stale process id would stop the next start.
    with tempfile.TemporaryDirectory(prefix="tandem-docker-", ignore_cleanup_errors=True) as name:
        host = f"unix://{name}/docker.sock"
        environment = os.environ | {
            "DOCKER_HOST": host,
            "DOCKER_CONFIG": str(state / "config"),
            "DOCKER_BUILDKIT": "1",
        }
        engine = Engine(host, environment, private=True)
        daemon = _start_daemon(state, Path(name), host)
        try:
            _wait(daemon, engine, state / "dockerd.log")
            engine.note("no Docker engine answers on this machine; a private one was started")
            _remove_leftovers(engine)
            yield engine
        finally:
            with suppress(DockerException, CommandFailed):
                _remove_leftovers(engine)
                engine.docker("image", "prune", "--force")
                engine.docker("builder", "prune", "--force", "--keep-storage", _KEPT_BUILD_CACHE)
            engine.api.close()
            _stop(daemon)
            (state / "dockerd.pid").unlink(missing_ok=True)


def _start_daemon(state: Path, run: Path, host: str) -> subprocess.Popen[bytes]:
    programs = engine_programs(state)
    paths = [str(programs / "usr/sbin"), str(programs / "usr/bin"), os.environ["PATH"]]
    command = [programs / "usr/sbin/dockerd", "--host", host, "--data-root", _data(state)]
    command += ["--exec-root", run / "exec"]
    with (state / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [*map(str, command), "--pidfile", str(run / "dockerd.pid")],
            env=os.environ | {"PATH": ":".join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is the tests' to handle: containers end before their engine
        )
    (state / "dockerd.pid").write_text(str(daemon.pid))
    return daemon


def _data(state: Path) -> Path:
    """The engine's own data. No other release may use it: Docker reads no data of a newer one."""
    return state / f"data-{engine_programs(state).name}"


def _wait(daemon: subprocess.Popen[bytes], engine: Engine, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and daemon.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(engine.host.removeprefix("unix://"))
            engine.api.ping()
            return
        time.sleep(0.2)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise NoEngine(f"dockerd did not start (status {daemon.poll()}):\n{tail}")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _end_orphan(state: Path) -> None:
    """Ends the private engine of a run that was killed before it could do so."""
    file = state / "dockerd.pid"
    if not file.exists():
        return
    pid = int(file.read_text() or 0)
    with suppress(OSError):
        if str(_data(state)).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, 15)
            until = time.monotonic() + _STOP_SECONDS
            while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                time.sleep(0.2)
    file.unlink()


def _remove_leftovers(engine: Engine) -> None:
    """Removes what tests started: in a private engine everything, elsewhere what this run labelled."""
    filters: dict[str, str | list[str] | bool] = {} if engine.private else {"label": f"{LABEL}={RUN}"}
    for container in engine.api.containers.list(all=True, filters=filters, ignore_removed=True):
        with suppress(DockerException):
            container.remove(force=True, v=True)
    engine.api.networks.prune(filters=filters)
    volumes = engine.api.volumes.list(filters=filters)
    for volume in volumes:
        with suppress(DockerException):
            volume.remove(force=True)
