"""Runs both tiers as processes on this machine, without a GPU: `up` starts them, `down` stops them.

The engine is the stand-in, which is not a language model; see services/vllm/standin.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run"
MODEL = "Qwen/Qwen2.5-7B-Instruct"
TINY = ROOT / "tests/e2e/engine/model"
TIERS = ("engine", "orchestrator")


class StartError(Exception):
    """A tier did not start. The message includes the end of its log."""


@dataclass(frozen=True)
class Tier:
    """One running process."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        stop_process(self.process)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def standin_command(port: int) -> list[str]:
    """Returns the command of the stand-in, with the arguments that vLLM would get."""
    arguments = _launch_arguments({"MODEL": MODEL, "HOST": "127.0.0.1", "PORT": str(port)})
    return [sys.executable, str(ROOT / "services/vllm/standin.py"), *arguments]


def vllm_command(port: int) -> list[str]:
    """Returns the command of vLLM on the CPU, with the tests' tiny model or the one that MODEL names."""
    named = os.environ.get("MODEL")
    settings = {"MODEL": named or str(TINY), "HOST": "127.0.0.1", "PORT": str(port), "MAX_NUM_SEQS": "8"}
    if named:
        settings |= {"MAX_MODEL_LEN": "4096", "EXTRA_ARGS": "--enforce-eager"}
    else:
        settings |= {
            "TOKENIZER": str(TINY / "tokenizer"),
            "SERVED_MODEL_NAME": "tiny",
            "TOOL_CALL_PARSER": "hermes",
            "DTYPE": "float32",
            "MAX_MODEL_LEN": "2048",
            "EXTRA_ARGS": "--enforce-eager",
        }
    python = str(ROOT / ".venv-vllm/bin/python")
    return [python, "-m", "vllm.entrypoints.openai.api_server", "--model", *_launch_arguments(settings)]


def _launch_arguments(settings: Mapping[str, str]) -> list[str]:
    """Returns the arguments that launch.py passes to `vllm serve` for these settings."""
    launch = [sys.executable, str(ROOT / "services/vllm/launch.py"), "--print"]
    environment = {"PATH": os.environ.get("PATH", ""), **settings}
    line = subprocess.run(launch, env=environment, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return shlex.split(line)[2:]


def start_engine(port: int = 0) -> Tier:
    """Starts the engine that ENGINE selects, `standin` (the default) or `vllm`, and waits until it answers.

    Raises:
        StartError: The engine exited, the port is in use, or ENGINE has another value.
    """
    port = port or free_port()
    kind = os.environ.get("ENGINE", "standin")
    if kind == "standin":
        return start("engine", standin_command(port), port, "/health")
    if kind != "vllm":
        raise StartError(f"unknown ENGINE={kind!r}: use standin or vllm")
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1", "VLLM_NO_USAGE_STATS": "1"}
    if "MODEL" not in os.environ:
        environment["HF_HUB_OFFLINE"] = "1"
    return start("engine", vllm_command(port), port, "/health", environment=environment, seconds=1800)


def start_orchestrator(engine_urls: Sequence[str], port: int = 0, settings: Mapping[str, str] = {}) -> Tier:
    """Starts an orchestrator for these engines and waits until it reaches one.

    Raises:
        StartError: The orchestrator exited, or the port is in use.
    """
    port = port or free_port()
    environment = {
        "VLLM_URL": ",".join(engine_urls),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEATHER_SOURCE": os.environ.get("WEATHER_SOURCE", "sample"),
        "PYTHONPATH": os.pathsep.join(
            [
                str(ROOT / "services/orchestrator"),
                str(ROOT / "examples/tools"),
                os.environ.get("PYTHONPATH", ""),
            ]
        ),
        **settings,
    }
    return start(
        "orchestrator", [sys.executable, "-m", "orchestrator"], port, "/ready", environment=environment
    )


def start(
    name: str,
    command: Sequence[str],
    port: int,
    ready: str,
    *,
    environment: Mapping[str, str] = {},
    seconds: float = 60,
) -> Tier:
    """Starts a server and waits until its `ready` route answers 200.

    Raises:
        StartError: The port is in use, the process exited, or the server was not ready in time.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StartError(
                f"the {name} cannot start: port {port} on 127.0.0.1 is in use; stop what uses it, or choose "
                f"another with {'ENGINE_PORT' if name == 'engine' else 'PORT'}=NUMBER"
            )
    RUN.mkdir(exist_ok=True)
    log = RUN / f"{name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    tier = Tier(name, f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_until_ready(tier, ready, seconds)
    except BaseException:
        tier.stop()
        raise
    return tier


def _wait_until_ready(tier: Tier, ready: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if tier.process.poll() is not None:
            raise StartError(
                f"the {tier.name} exited with status {tier.process.returncode}:\n{_tail(tier.log)}"
            )
        with contextlib.suppress(OSError), urllib.request.urlopen(tier.url + ready, timeout=5):  # noqa: S310
            return
        time.sleep(0.05)
    raise StartError(f"the {tier.name} was not ready within {seconds:g} s:\n{_tail(tier.log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def stop_process(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Stops a process: with an interrupt first, then by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextlib.contextmanager
def running_tiers() -> Iterator[tuple[Tier, Tier]]:
    """Runs both tiers on free ports while the block runs."""
    engine = start_engine()
    try:
        orchestrator = start_orchestrator([engine.url])
        try:
            yield engine, orchestrator
        finally:
            orchestrator.stop()
    finally:
        engine.stop()


def up() -> None:
    """Starts both tiers and leaves them running. PORT is the orchestrator's port, ENGINE_PORT the engine's.

    Raises:
        StartError: A tier did not start. Then none is left running.
    """
    port, engine_port = _port("PORT", 8001), _port("ENGINE_PORT", 8000)
    engine = start_engine(engine_port)
    try:
        orchestrator = start_orchestrator([engine.url], port)
    except BaseException:
        engine.stop()
        raise
    for tier in (engine, orchestrator):
        _record(tier)
    print(f"""\
engine        {engine.url}  a stand-in, not a language model; log: {engine.log.relative_to(ROOT)}
orchestrator  {orchestrator.url}  log: {orchestrator.log.relative_to(ROOT)}; API docs: {orchestrator.url}/docs

Open {orchestrator.url} in a browser, or try this (`make down` stops both tiers):

curl -s {orchestrator.url}/v1/chat/completions -H 'Content-Type: application/json' -d '{{
  "model": "{MODEL}",
  "messages": [{{"role": "user", "content": "What is the weather in San Francisco?"}}],
  "tools": [{{"type": "function", "function": {{"name": "get_current_weather"}}}}]
}}'""")


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise StartError(f"{variable}={value!r} is not a port: use a number from 1 to 65535")
    return int(value)


def _record(tier: Tier) -> None:
    record = {"pid": tier.process.pid, "identity": process_identity(tier.process.pid)}
    (RUN / f"{tier.name}.json").write_text(json.dumps(record) + "\n")


def process_identity(pid: int) -> str | None:
    """Returns what identifies this process among all that ever have its id; None if there is none."""
    try:
        # The last field of the name ends in a parenthesis; the 20th after it is the start time in ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return _start_time(pid)
    return None if fields[0] == "Z" else f"{boot} {fields[19]} {command}"


def _start_time(pid: int) -> str | None:
    """The start time and command where there is no /proc, as on macOS."""
    command = ["ps", "-o", "lstart=,command=", "-p", str(pid)]
    environment = {"LC_ALL": "C", "PATH": os.defpath}
    try:
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return shown.stdout.strip() or None


def down() -> None:
    """Stops what `up` left running, and no other process that has its id now."""
    for name in reversed(TIERS):
        file = RUN / f"{name}.json"
        try:
            record = json.loads(file.read_text())
        except FileNotFoundError:
            print(f"the {name} is not running")
            continue
        pid, identity = record["pid"], record["identity"]
        if identity is None or process_identity(pid) != identity:
            print(f"the {name} was not running any more")
        else:
            _stop(pid, identity)
            print(f"the {name} has stopped")
        file.unlink()


def _stop(pid: int, identity: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
        for _ in range(200):
            if process_identity(pid) != identity:
                return
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    commands = {"up": up, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: {Path(sys.argv[0]).name} {'|'.join(commands)}")
    try:
        commands[sys.argv[1]]()
    except StartError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
