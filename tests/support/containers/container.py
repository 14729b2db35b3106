"""A container while a test needs it, and what can be seen of it from outside."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from docker.errors import NotFound
from docker.models.containers import Container as SdkContainer

from .engine import LABEL, RUN, Engine

SECOND = 1_000_000_000
"""Docker counts time in nanoseconds."""

FAST_HEALTH = {"interval": SECOND, "timeout": 3 * SECOND, "retries": 3, "start_period": SECOND}
"""Checks more often than the image does; the command stays the image's own."""

HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "tmpfs": {"/tmp": ""},
}


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Returns as soon as the condition holds.

    Raises:
        AssertionError: it did not within `seconds`; names `what` was expected.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


class Running:
    """A container that was started."""

    def __init__(self, container: SdkContainer) -> None:
        self._container = container
        self.id = str(container.id)
        self.name = str(container.name)

    @property
    def state(self) -> dict[str, Any]:
        self._container.reload()
        state: dict[str, Any] = self._container.attrs["State"]
        return state

    @property
    def health(self) -> str:
        return str(self.state.get("Health", {}).get("Status", "none"))

    @property
    def log(self) -> str:
        try:
            logs: Any = self._container.logs()
        except NotFound:
            return "the container has been removed"
        return str(logs.decode(errors="replace"))

    @property
    def restarts(self) -> int:
        self._container.reload()
        return int(self._container.attrs["RestartCount"])

    @property
    def image_user(self) -> str:
        """The user and the group that the image names."""
        image: Any = self._container.image
        return str(image.attrs["Config"]["User"])

    @property
    def process_user(self) -> str:
        """The user and the group of the container's first process, as numbers."""
        numbers = dict(line.split(":", 1) for line in self.output("cat", "/proc/1/status").splitlines())
        return ":".join(numbers[kind].split()[1] for kind in ("Uid", "Gid"))

    def url(self, port: int) -> str:
        """The address on this machine at which a published port is reached."""
        self._container.reload()
        published = self._container.attrs["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return f"http://127.0.0.1:{published[0]['HostPort']}"

    def address(self, network: str) -> str:
        """Its address in a network."""
        self._container.reload()
        return str(self._container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"])

    def wait_until_healthy(self, seconds: float = 60.0) -> None:
        """
        Raises:
            AssertionError: it is not; holds the last answer of the health check and the container's log.
        """
        try:
            until(lambda: self._settled() or self.health == "healthy", "healthy", seconds)
            assert self.health == "healthy", f"the container exited with status {self.state['ExitCode']}"
        except AssertionError as error:
            answers = self.state.get("Health", {}).get("Log") or [{"Output": "no answer"}]
            raise AssertionError(
                f"{self.name} is {self.health}: {error}; last check: {answers[-1]['Output'].strip()[-500:]}\n"
                f"{self.log[-3000:]}"
            ) from None

    def _settled(self) -> bool:
        return self.state["Status"] in ("exited", "dead")

    def execute(self, *command: str, user: str = "") -> tuple[int, str]:
        """Runs a command in the container; returns its status and what it wrote.

        Docker loses the output at times if the machine is busy (moby/moby#27289): see `output` and `file`.
        """
        client: Any = self._container.client
        api = client.api
        execution = api.exec_create(self.id, list(command), user=user)["Id"]
        output: bytes = api.exec_start(execution)
        until(lambda: not api.exec_inspect(execution)["Running"], f"the end of {' '.join(command)}")
        return int(api.exec_inspect(execution)["ExitCode"]), output.decode(errors="replace")

    def output(self, *command: str) -> str:
        """What a command prints that only reads, and prints something: it runs again if that was lost."""
        printed = ""

        def ask() -> bool:
            nonlocal printed
            status, printed = self.execute(*command)
            assert status == 0, f"{command} ended with status {status}: {printed}"
            return bool(printed)

        until(ask, f"output of {' '.join(command)}")
        return printed

    def file(self, path: str) -> str:
        """The text of a file."""
        parts, _ = self._container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
            (member,) = archive.getmembers()
            content: Any = archive.extractfile(member)
            return str(content.read().decode(errors="replace"))

    def signal(self, name: str) -> None:
        self._container.kill(name)

    def restart(self) -> None:
        self._container.restart(timeout=5)

    def stop(self, seconds: int) -> int:
        """Sends SIGTERM, and SIGKILL after `seconds`; returns the exit status."""
        self._container.stop(timeout=seconds)
        return int(self.state["ExitCode"])

    def wait(self, seconds: float = 120.0) -> int:
        """The exit status of a container that ends by itself."""
        return int(self._container.wait(timeout=seconds)["StatusCode"])

    def peak_memory(self) -> int:
        """The most memory that it used, in bytes, as its cgroup counted."""
        files = "/sys/fs/cgroup/memory/memory.max_usage_in_bytes /sys/fs/cgroup/memory.peak"
        return int(self.output("sh", "-c", f"cat {files} 2>/dev/null || true").split()[0])

    def remove(self) -> None:
        with suppress(NotFound):
            self._container.remove(force=True, v=True)


@contextmanager
def container(
    engine: Engine,
    image: str,
    command: Sequence[str] | None = None,
    *,
    network: str | None = None,
    aliases: Sequence[str] = (),
    **options: Any,
) -> Iterator[Running]:
    """Starts a container with these options of the Docker SDK, and removes it at the end."""
    running = start(engine, image, command, network=network, aliases=aliases, **options)
    try:
        yield running
    finally:
        running.remove()


def start(
    engine: Engine,
    image: str,
    command: Sequence[str] | None = None,
    *,
    network: str | None = None,
    aliases: Sequence[str] = (),
    **options: Any,
) -> Running:
    """Starts a container; the caller removes it."""
    if network:
        endpoint = engine.api.api.create_endpoint_config(aliases=list(aliases))
        options |= {"network": network, "networking_config": {network: endpoint}}
    for port in options.pop("publish", ()):
        options.setdefault("ports", {})[f"{port}/tcp"] = ("127.0.0.1", None)
    created = engine.api.containers.create(
        image, list(command) if command is not None else None, labels={LABEL: RUN}, detach=True, **options
    )
    try:
        created.start()
    except BaseException:
        created.remove(force=True, v=True)
        raise
    return Running(created)


@contextmanager
def network(engine: Engine, name: str) -> Iterator[str]:
    """A bridge network whose DNS serves the names of its containers."""
    made = engine.api.networks.create(name, driver="bridge", labels={LABEL: RUN})
    try:
        yield name
    finally:
        made.remove()
