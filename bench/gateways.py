"""The measured gateways: how to install and start each, and what each can do.

Gateways in Python run in the system's Python if its version matches ours. Distributions build theirs with
profile-guided and link-time optimisation, like the image's Python; one compiled by a version manager takes
10% more CPU. BENCH_PYTHON selects another interpreter.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.compiled import compiled

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = ROOT / ".cache" / "bench"
LOCKS = ROOT / "bench" / "peers"
KEY = "sk-bench-0123456789abcdef"
ENGINE_PORT, PACED_PORT = 9300, 9301
GATEWAY_CORE, OTHER_CORE = 0, 1

_START_SECONDS = 90.0
_VERSION = "import sys; print(sys.version.split()[0])"


@cache
def interpreter() -> tuple[str, str]:
    """Returns the interpreter for gateways written in Python, and its version.

    Raises:
        RuntimeError: BENCH_PYTHON is not a Python interpreter.
    """
    wanted = os.environ.get("BENCH_PYTHON")
    for program in [wanted] if wanted else ["/usr/bin/python3", sys.executable]:
        with suppress(OSError, subprocess.CalledProcessError):
            command = [program, "-c", _VERSION]
            version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            if wanted or version.rpartition(".")[0] == f"{sys.version_info[0]}.{sys.version_info[1]}":
                return program, version
    raise RuntimeError(f"BENCH_PYTHON={wanted} is not a Python interpreter")


@dataclass(frozen=True)
class Ask:
    """A request by the name of its body, and the text that a correct answer contains."""

    body: str
    holds: str = ""
    path: str = "/v1/chat/completions"


@dataclass(frozen=True)
class Gateway:
    """A gateway to measure.

    Attributes:
        lock: The lock file that it is installed from.
        loop: The request that makes it run two tools; None if it cannot.
        relays: False for a second process of a gateway whose tool loop needs a separate configuration. It has
            the first one's `name`, unless the first one has a tool loop as well.
    """

    name: str
    command: Callable[[int, str, Path], Sequence[str]]
    environment: Callable[[int, str], dict[str, str]] = lambda _port, _engine: {}
    lock: Path | None = None
    streams: bool = True
    loop: Ask | None = None
    relays: bool = True

    @property
    def title(self) -> str:
        return self.name if self.relays else f"{self.name}'s tool loop"


def _python(name: str) -> str:
    return str(INSTALLED / name / "bin" / "python")


def _ours(port: int, engine: str) -> dict[str, str]:
    """Configures ours as deployed: compiled, with keys, metrics and logs; but offline weather."""
    return {
        "PYTHONPATH": str(compiled()),
        "PYTHONNODEBUGRANGES": "1",
        "VLLM_URL": engine,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "API_KEYS": f"bench:{hashlib.sha256(KEY.encode()).hexdigest()}",
        "WEATHER_SOURCE": "sample",
        "MAX_IN_FLIGHT": "4096",
        "DRAIN_SECONDS": "0",
        "STOP_SECONDS": "1",
    }


def _ours_with_mcp(port: int, engine: str) -> dict[str, str]:
    servers = [{"name": "bench", "url": f"{engine}/mcp"}]
    return {**_ours(port, engine), "MCP_SERVERS": json.dumps(servers)}


def _nginx(port: int, engine: str, directory: Path) -> Sequence[str]:
    host = engine.removeprefix("http://")
    temporary = " ".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{ access_log off; {temporary} client_body_buffer_size 2m; client_max_body_size 10m;
upstream engine {{ server {host}; keepalive 512; }}
server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000000;
location / {{ proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_buffering off; }} }} }}
"""
    )
    return [shutil.which("nginx") or "nginx", "-c", str(directory / "nginx.conf"), "-p", str(directory)]


def _smg(port: int, engine: str, *more: str) -> Sequence[str]:
    program = str(INSTALLED / "smg" / "bin" / "smg")
    places = ["--worker-urls", engine, "--host", "127.0.0.1", "--port", str(port)]
    return [program, "launch", *places, "--policy", "round_robin", "--prometheus-port", str(port + 50), *more]


def _smg_loop(port: int, engine: str, directory: Path) -> Sequence[str]:
    """smg runs only an MCP server's tools, and only with an engine that speaks the Responses API."""
    (directory / "mcp.yaml").write_text(
        f"servers:\n  - name: bench\n    protocol: streamable\n    url: {engine}/mcp\n    required: true\n"
    )
    return _smg(port, engine, "--backend", "openai", "--mcp-config-path", str(directory / "mcp.yaml"))


def _litellm(port: int, engine: str, directory: Path) -> Sequence[str]:
    (directory / "config.yaml").write_text(
        "model_list:\n  - model_name: mock-model\n    litellm_params:\n"
        f"      model: hosted_vllm/mock-model\n      api_base: {engine}/v1\n      api_key: none\n"
        'litellm_settings:\n  callbacks: ["otel"]\n'
        f"mcp_servers:\n  bench:\n    url: {engine}/mcp\n    transport: http\n    allow_all_keys: true\n"
    )
    program = str(INSTALLED / "litellm" / "bin" / "litellm")
    return [program, "--config", str(directory / "config.yaml"), "--port", str(port), "--host", "127.0.0.1"]


def _agentic_api(port: int, engine: str, directory: Path) -> Sequence[str]:
    """agentic-api connects to the MCP server that a request names."""
    program = str(INSTALLED / "agentic-api" / "bin" / "agentic-server")
    places = ["--llm-api-base", engine, "--gateway-host", "127.0.0.1", "--gateway-port", str(port)]
    return [program, *places, "--skip-llm-ready-check", "--db-url", f"sqlite://{directory}/agentic.db"]


GATEWAYS = (
    Gateway(
        "ours", lambda _p, _e, _d: [_python("ours"), "-m", "orchestrator"], _ours,
        lock=ROOT / "services" / "orchestrator" / "requirements.txt", loop=Ask("tools", "A word. A word."),
    ),
    Gateway(
        "ours-mcp", lambda _p, _e, _d: [_python("ours"), "-m", "orchestrator"], _ours_with_mcp,
        relays=False, loop=Ask("mcp-ours", "A word. A word."),
    ),
    Gateway(
        "ours-responses", lambda _p, _e, _d: [_python("ours"), "-m", "orchestrator"], _ours_with_mcp,
        relays=False, loop=Ask("mcp-responses", "A word. A word.", "/v1/responses"),
    ),
    Gateway("nginx", _nginx),
    Gateway(
        "vllm-router",
        lambda port, engine, _d: [
            _python("vllm-router"), "-m", "vllm_router.launch_router", "--worker-urls", engine,
            "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin",
            "--prometheus-port", str(port + 50),
        ],
        lock=LOCKS / "vllm-router.txt",
    ),
    Gateway(
        "sglang-router",
        lambda port, engine, _d: [
            _python("sglang-router"), "-m", "sglang_router.launch_router", "--worker-urls", engine,
            "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin",
            "--prometheus-port", str(port + 50),
        ],
        lock=LOCKS / "sglang-router.txt",
    ),
    Gateway("smg", lambda port, engine, _d: _smg(port, engine), lock=LOCKS / "smg.txt"),
    Gateway(
        "smg", _smg_loop, lock=LOCKS / "smg.txt", relays=False,
        loop=Ask("mcp-responses", "A word. A word.", "/v1/responses"),
    ),
    Gateway(
        "agentic-api", _agentic_api, lambda _p, _e: {"RUST_LOG": "warn"}, lock=LOCKS / "agentic-api.txt",
        loop=Ask("responses-agentic", "A word. A word.", "/v1/responses"),
    ),
    Gateway(
        "litellm", _litellm,
        lambda _p, engine: {
            "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY,
            "OTEL_EXPORTER": "otlp_http", "OTEL_ENDPOINT": f"{engine}/v1/traces",
        },
        lock=LOCKS / "litellm.txt", loop=Ask("mcp-chat", r'{\"result\": 8}'),
    ),
    Gateway(
        "guide",
        lambda port, _e, _d: [
            _python("guide"), "-m", "uvicorn", "--app-dir", str(ROOT / "bench"), "guide_app:app",
            "--host", "127.0.0.1", "--port", str(port), "--no-access-log",
        ],
        lambda _p, engine: {"ENGINE_URL": engine},
        lock=LOCKS / "guide.txt",
        streams=False,
    ),
)  # fmt: skip

NOT_MEASURED = {
    "production-stack router": "not published as a package; it can only be built from its repository",
}


def install(name: str, lock: Path) -> None:
    """Creates the environment of that name if it is missing or outdated.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    python, version = interpreter()
    place = INSTALLED / name
    stamp, wanted = place / "installed.txt", f"# {version}\n{lock.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(place, ignore_errors=True)
    # Without pip, which the system's Python may lack, and which takes the one that runs this.
    subprocess.run(
        [python, "-m", "venv", "--without-pip", str(place)], check=True, capture_output=True, text=True
    )
    pip = [sys.executable, "-m", "pip", "--python", _python(name), "install", "--quiet"]
    options = ["--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
    subprocess.run([*pip, *options], check=True, capture_output=True, text=True)
    stamp.write_text(wanted)


def install_nginx() -> None:
    """Installs Debian's nginx where it is missing and may.

    Raises:
        RuntimeError: it is missing, and this user may not.
    """
    if shutil.which("nginx"):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "nginx-light"]):
            subprocess.run(command, capture_output=True, check=False)
    if not shutil.which("nginx"):
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")


def build(name: str) -> str:
    """Compiles bench/NAME.c and returns the program's path.

    Raises:
        subprocess.CalledProcessError: There is no C compiler, or it failed.
    """
    INSTALLED.mkdir(parents=True, exist_ok=True)
    program = INSTALLED / f"{name}.bin"
    source = ROOT / "bench" / f"{name}.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        # Another process may build or run it at the same time.
        unfinished = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-O2", "-o", str(unfinished), str(source)], check=True)
        unfinished.replace(program)
    return str(program)


class Running:
    """A process that is pinned to one core and answers on its port."""

    def __init__(
        self, command: Sequence[str], *, core: int, port: int, environment: dict[str, str], log: Path
    ) -> None:
        self.port = port
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )

    @property
    def pids(self) -> list[int]:
        """The ids of the process and its descendants."""
        found = [self._process.pid]
        for pid in found:
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def wait(self) -> None:
        """Waits until the process answers.

        Raises:
            RuntimeError: It exited or did not answer in time. The message includes the end of its log.
        """
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            if self._answers():
                return
            time.sleep(0.1)
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])
        raise RuntimeError(f"did not start (status {self._process.poll()}): {tail}")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=5).close()
        except urllib.error.HTTPError:
            return True  # even a 404 is an answer
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    def cpu_ns(self) -> int:
        """Returns the CPU time of all threads so far, as counted by the scheduler (schedstat in proc(5))."""
        total = 0
        for pid in self.pids:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    total += int((thread / "schedstat").read_text().split()[0])
        return total

    def memory_mb(self) -> float:
        """Returns the resident memory in MB."""
        total = 0
        for pid in self.pids:
            with suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total / 1e6

    def pause(self) -> None:
        """Pauses the process: some gateways work while idle, on the core that is being measured."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @contextmanager
    def awake(self) -> Iterator[Callable[[], float]]:
        """Lets the process run during the block. Yields a function that returns the CPU µs spent since."""
        self.resume()
        before = self.cpu_ns()
        try:
            yield lambda: (self.cpu_ns() - before) / 1000
        finally:
            self.pause()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
