"""What must hold for an image that ships. Each check raises AssertionError where it does not."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.compiled import modules

from .container import FAST_HEALTH, HARDENED, Running, container, until
from .engine import Engine

MEBIBYTE = 1024 * 1024

_BUILD_TOOLS = ("gcc", "cc", "g++", "c++", "make", "ld", "git")
# What our layers do not need: caches, keys, settings of the machine that builds, our own tests.
_UNWANTED = re.compile(
    r"(^|/)(\.git|\.env|\.netrc|\.npmrc|\.pypirc|\.aws|\.ssh|\.cache|\.pytest_cache|node_modules)(/|$)"
    r"|^(root|home/[^/]+)/.+|^tmp/.+|^var/(cache|lib/apt/lists)/.+"
    r"|(^|/)(pip\.conf|id_rsa|id_ed25519)$|\.(key|pyc\.\d+|whl)$|^app/.*test_"
)
_SECRET = re.compile(
    rb"-----BEGIN (RSA |EC |OPENSSH )?PRIVATE KEY-----|\bAKIA[0-9A-Z]{9}(?!EXAMPLE)[0-9A-Z]{7}\b"
    rb"|\bhf_[A-Za-z0-9]{30,}\b|\bsk-[A-Za-z0-9]{40,}\b"
)
_TEXT = (".py", ".txt", ".json", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sql", ".sh", ".conf", "")


def runs_as(engine: Engine, image: str, user: str) -> None:
    """The image's processes have this user and this group."""
    uid, _, gid = user.partition(":")
    named = engine.api.images.get(image).attrs["Config"]["User"]
    assert named == user, f"the image names the user {named}, not {user}"
    asked = engine.docker("run", "--rm", "--entrypoint", "sh", image, "-c", "id -u; id -g").split()
    assert asked == [uid, gid], f"the image runs as {asked}, not as {user}"


def runs_as_its_image_says(running: Running) -> None:
    """The container's process has the user and the group that the image names."""
    found = running.process_user
    assert found == running.image_user, f"{running.name} runs as {found} and not as {running.image_user}"


def cannot_change(engine: Engine, image: str, *directories: str) -> None:
    """The image's user can read these directories and write none of what is below them."""
    find = f"find {' '.join(directories)} -writable ! -type l; find {' '.join(directories)} ! -readable"
    found = engine.docker("run", "--rm", "--entrypoint", "sh", image, "-c", find).split()
    assert not found, f"writable or unreadable for the image's user: {found[:5]}"


def has_no_build_tools(engine: Engine, image: str) -> None:
    looks = " ; ".join(f"command -v {tool}" for tool in _BUILD_TOOLS)
    found = engine.docker("run", "--rm", "--entrypoint", "sh", image, "-c", f"{looks}; true").split()
    assert not found, f"build tools in the image: {found}"


def has_compiled_modules(engine: Engine, image: str) -> None:
    """The image's Python runs the machine code of each module that compile.py names, not its source."""
    names = [f"orchestrator.{module.replace('/', '.')}" for module in modules()]
    looks = f"import importlib as i; print(*(i.import_module(name).__file__ for name in {names}), sep='\\n')"
    files = engine.docker("run", "--rm", "--entrypoint", "python", image, "-c", looks).split()
    python = [file for file in files if not file.endswith(".so")]
    assert len(files) == len(names), f"{len(files)} modules instead of {len(names)}"
    assert not python, f"modules that are not compiled: {python}"


def holds_only_what_it_needs(engine: Engine, image: str, base: str, mebibytes: int) -> None:
    """The layers above the base hold no secret, no cache and no more than so many MiB."""
    attributes = engine.api.images.get(image).attrs
    size = attributes["Size"] - engine.api.images.get(base).attrs["Size"]
    assert size <= mebibytes * MEBIBYTE, f"{size / MEBIBYTE:.0f} MiB above the base, more than {mebibytes}"
    history = json.dumps([entry["CreatedBy"] for entry in engine.api.images.get(image).history()])
    named = re.findall(r"\b\w*(?:PASSWORD|TOKEN|SECRET|API_KEY)\w*=\S+", history)
    assert not named, f"secrets in the image's history: {named}"
    for name, content in _own_files(engine, image, base):
        assert not _UNWANTED.search(name), f"a layer of the image holds {name}"
        assert not _SECRET.search(content), f"a layer of the image holds a secret in {name}"


def _own_files(engine: Engine, image: str, base: str) -> Iterator[tuple[str, bytes]]:
    """Path and text of each file in the layers above the base."""
    inherited = len(engine.api.images.get(base).attrs["RootFS"]["Layers"])
    with tempfile.TemporaryFile() as saved:
        command = ["docker", "save", image]
        subprocess.run(command, env=dict(engine.environment), stdout=saved, timeout=300, check=True)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:
            (manifest,) = json.load(_member(archive, "manifest.json"))
            for layer in manifest["Layers"][inherited:]:
                with tarfile.open(fileobj=_member(archive, layer)) as files:
                    for file in files:
                        if file.isfile():
                            yield file.name.removeprefix("./"), _text(files, file)


def _member(archive: tarfile.TarFile, name: str) -> Any:
    return archive.extractfile(name)


def _text(files: tarfile.TarFile, file: tarfile.TarInfo) -> bytes:
    if Path(file.name).suffix not in _TEXT or file.size > 2 * MEBIBYTE:
        return b""
    content = files.extractfile(file)
    return content.read() if content else b""


@contextmanager
def serving(engine: Engine, image: str, network: str, **options: Any) -> Iterator[Running]:
    """The orchestrator's image as it is deployed: read-only, without capabilities, with 2 GiB of memory.

    Its health is checked more often than in production, by the image's own command.
    """
    environment = {"VLLM_URL": "http://vllm:8000", "WEATHER_SOURCE": "sample", "DRAIN_SECONDS": "1"}
    environment |= options.pop("environment", {})
    limits = {"mem_limit": "2g", "memswap_limit": "2g", "healthcheck": FAST_HEALTH, "publish": [8001]}
    with container(
        engine, image, network=network, environment=environment, **(HARDENED | limits | options)
    ) as running:
        yield running


_SIGNAL_OTHERS = """
import contextlib, os, signal, sys
for name in filter(str.isdigit, os.listdir("/proc")):
    if int(name) not in (1, os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(name), signal.Signals[sys.argv[1]])
"""


def _signal_all(running: Running, name: str) -> None:
    """Signals all processes: the first from outside, since from inside it is immune, and its children."""
    running.execute("python3", "-c", _SIGNAL_OTHERS, name)
    running.signal(name)


def turns_unhealthy_when_it_hangs(running: Running) -> None:
    _signal_all(running, "SIGSTOP")
    until(lambda: running.health == "unhealthy", "unhealthy while the service hangs")
    _signal_all(running, "SIGCONT")
    until(lambda: running.health == "healthy", "healthy once it goes on")


def reaches_its_engine(url: str) -> None:
    """The orchestrator at `url` finds its engine, which answers."""
    answer = httpx.get(f"{url}/ready", timeout=60)
    assert answer.status_code == 200, f"/ready answers {answer.status_code}: {answer.text}"


def drains(running: Running, url: str, stop_timeout: int, *, key: str = "") -> None:
    """SIGTERM lets an answer of some seconds finish, and the process then exits with status 0."""
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "standin": {"chunks": 30, "delay_token": 0.1},
        # The real vLLM ignores the field above. With these, it does not end before the limit.
        "max_tokens": 1500,
        "ignore_eos": True,
    }
    headers = {"authorization": f"Bearer {key}"} if key else {}
    address = f"{url}/v1/chat/completions"
    with httpx.stream("POST", address, json=body, headers=headers, timeout=60) as response:
        lines = response.iter_lines()
        first = next(lines)
        assert first.startswith("data: "), first
        status: list[int] = []
        stopping = threading.Thread(target=lambda: status.append(running.stop(stop_timeout)))
        stopping.start()
        try:
            rest = [line for line in lines if line]
        except httpx.HTTPError as error:
            raise AssertionError(f"the answer was cut while the container stopped: {error}") from error
        finally:
            stopping.join()
    assert rest[-1:] == ["data: [DONE]"], f"the answer ends with {rest[-1:]}"
    assert status == [0], f"exit status {status} after SIGTERM:\n{running.log[-2000:]}"


def stays_within_memory(running: Running, url: str, mebibytes: int) -> None:
    """Eighty streams and twenty bodies of 4 MiB at once do not exceed the memory.

    The engine accepts fewer than that and answers the rest with 503, and the orchestrator answers with 429
    what its memory budget cannot hold.
    """
    statuses = asyncio.run(_load(url))
    state = running.state
    assert not state["OOMKilled"], "the container ran out of memory"
    assert state["Running"], f"the container exited with status {state['ExitCode']}"
    assert set(statuses) <= {200, 400, 429, 503}, f"answers under load: {sorted(set(statuses))}"
    peak = running.peak_memory() / MEBIBYTE
    assert peak <= mebibytes, f"{peak:.0f} MiB at most, more than {mebibytes}"


async def _load(url: str) -> list[int]:
    long = "tandem " * (4 * MEBIBYTE // 7)
    chat = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "standin": {"chunks": 50}}
    large = {"messages": [{"role": "user", "content": long}], "max_tokens": 1}
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:

        async def ask(body: dict[str, Any]) -> int:
            try:
                return (await client.post(f"{url}/v1/chat/completions", json=body)).status_code
            except httpx.HTTPError:
                return 0

        return await asyncio.gather(*(ask(chat) for _ in range(80)), *(ask(large) for _ in range(20)))
