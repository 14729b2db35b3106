"""nginx and HAProxy in front of the orchestrator, as people configure them; both are Debian's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PROXIES = {"nginx": "nginx-light", "haproxy": "haproxy"}
_START_SECONDS = 10.0


def install() -> None:
    """Installs the proxies where they are missing and this user may.

    Raises:
        RuntimeError: one is missing; with the command that installs it.
    """
    packages = [package for name, package in PROXIES.items() if not shutil.which(name)]
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
            subprocess.run(command, capture_output=True, check=False)
    missing = [package for name, package in PROXIES.items() if not shutil.which(name)]
    if missing:
        raise RuntimeError(f"the proxies are not installed: apt-get install {' '.join(missing)}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def proxy(name: str, ports: Sequence[int], directory: Path, *, rules: str = "") -> Iterator[int]:
    """Runs `name` in front of orchestrators on these ports; gives its own port.

    Args:
        rules: further lines of HAProxy's frontend.

    Raises:
        RuntimeError: it did not start; with its output.
    """
    place = directory / name
    place.mkdir(parents=True)
    port = free_port()
    command = _COMMANDS[name](port, ports, place, rules)
    with (place / "output").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait(port, process, place)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], place: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"{place.name} did not start: {(place / 'output').read_text()}")


def _nginx(port: int, ports: Sequence[int], place: Path, _rules: str) -> list[str]:
    """With connections that are kept and the usual lines for WebSocket, as its documentation shows them."""
    servers = " ".join(f"server 127.0.0.1:{one} fail_timeout=1s;" for one in ports)
    temporary = " ".join(
        f"{kind}_temp_path {place}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = f"""
worker_processes 1; daemon off; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; {temporary} keepalive_requests 1000000;
  client_max_body_size 10m; client_body_buffer_size 2m;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream orchestrators {{ {servers} keepalive 16; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://orchestrators; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host; proxy_connect_timeout 5s;
    }}
  }}
}}
"""
    (place / "nginx.conf").write_text(configuration)
    return [shutil.which("nginx") or "nginx", "-e", f"{place}/error.log", "-c", f"{place}/nginx.conf"]


def _haproxy(port: int, ports: Sequence[int], place: Path, rules: str) -> list[str]:
    servers = "\n".join(f"  server s{one} 127.0.0.1:{one}" for one in ports)
    configuration = f"""
global
  maxconn 1000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  retries 3
  option redispatch
  option http-keep-alive
  option httpchk GET /v1/models
frontend clients
  bind 127.0.0.1:{port}
{rules}
  default_backend orchestrators
backend orchestrators
  balance leastconn
  http-reuse always
  default-server check inter 500ms fall 2 rise 1
{servers}
"""
    (place / "haproxy.cfg").write_text(configuration)
    return [shutil.which("haproxy") or "haproxy", "-db", "-f", str(place / "haproxy.cfg")]


_COMMANDS: dict[str, Callable[[int, Sequence[int], Path, str], list[str]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
}
