"""HAProxy in a container, in the place of the Application Load Balancer."""

from __future__ import annotations

import csv
import io
import re
import socket
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from .container import Running, container, until
from .engine import Engine

_SLOTS = 8
_ADMIN_PORT = 9999
_CONFIGURATION = """\
global
  stats socket ipv4@0.0.0.0:{admin} level admin
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option forwardfor
  timeout connect 10s
  timeout client {idle}s
  timeout server {idle}s
frontend https
  bind :443 ssl crt /etc/haproxy/site.pem ssl-min-ver TLSv1.2 alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto https
  acl public path_reg {paths}
  http-request deny deny_status 404 unless public
  default_backend tasks
backend tasks
  balance roundrobin
  option httpchk GET {health}
  http-check expect status 200
  default-server check inter {interval}s rise {rise} fall {fall}
  server-template task {slots} 127.0.0.1:{port} disabled
"""


@dataclass(frozen=True)
class Listener:
    """What the load balancer is configured with, by the names of its attributes in AWS."""

    port: int
    domain: str = "localhost"
    paths: Sequence[str] = ("/v1/*", "//v1/*", "/openai/*", "/mcp", "/health", "/models*")
    health_check_path: str = "/v1/models"
    interval_seconds: int = 15
    healthy_threshold: int = 2
    unhealthy_threshold: int = 3
    idle_timeout_seconds: int = 900
    deregistration_delay_seconds: int = 330

    @property
    def configuration(self) -> str:
        patterns = [
            "^" + re.escape(path).replace(r"\*", ".*").replace(r"\?", ".") + "$" for path in self.paths
        ]
        return _CONFIGURATION.format(
            admin=_ADMIN_PORT,
            idle=self.idle_timeout_seconds,
            paths=" ".join(f"^{pattern}$" for pattern in patterns),
            health=self.health_check_path,
            interval=self.interval_seconds,
            rise=self.healthy_threshold,
            fall=self.unhealthy_threshold,
            slots=_SLOTS,
            port=self.port,
        )


class LoadBalancer:
    """A running load balancer.

    Attributes:
        url: what clients use; the certificate is for the listener's domain and for localhost.
        address: HOST:PORT on this machine.
        certificate_authority: file with the certificate that clients must trust.
    """

    def __init__(self, running: Running, listener: Listener, network: str, certificate: Path) -> None:
        self._running = running
        self._listener = listener
        self._network = network
        self._admin = running.url(_ADMIN_PORT).removeprefix("http://").rpartition(":")
        self._slots: dict[str, str] = {}
        self.url = running.url(443).replace("http://127.0.0.1", "https://localhost")
        self.address = running.url(443).removeprefix("http://")
        self.certificate_authority = certificate

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate_authority))

    @property
    def log(self) -> str:
        return self._running.log

    def register(self, task: Running, seconds: float = 120.0) -> None:
        """Adds a target, and returns once it is healthy.

        Raises:
            AssertionError: it is not; holds the end of the task's log.
        """
        slots = [f"tasks/task{number}" for number in range(1, _SLOTS + 1)]
        slot = next(slot for slot in slots if slot not in self._slots.values())
        address = task.address(self._network)
        try:
            # HAProxy would send requests to a new target before its first check has failed; AWS does not.
            until(lambda: _exited(task) or self._passes(address), "the target is healthy", seconds)
            assert not _exited(task), f"the task exited with status {task.state['ExitCode']}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{task.log[-2000:]}") from None
        self._ask(f"set server {slot} addr {address} port {self._listener.port}")
        self._ask(f"set server {slot} state ready")
        self._slots[task.id] = slot
        until(lambda: self._state(slot)["status"] == "UP", "the target passes HAProxy's checks too", seconds)

    def _passes(self, address: str) -> bool:
        url = f"http://{address}:{self._listener.port}{self._listener.health_check_path}"
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def deregister(self, task: Running) -> None:
        """Sends a target nothing new, and returns once it is idle or the deregistration delay is over."""
        slot = self._slots[task.id]
        self._ask(f"set server {slot} state drain")
        try:
            until(
                lambda: self._state(slot)["scur"] == "0",
                "the target is idle",
                self._listener.deregistration_delay_seconds,
            )
        finally:
            self.forget(task)

    def forget(self, task: Running) -> None:
        self._ask(f"set server {self._slots.pop(task.id)} state maint")

    def healthy(self) -> int:
        """How many targets are healthy."""
        return sum(self._state(slot)["status"] == "UP" for slot in self._slots.values())

    def answers(self) -> bool:
        """Whether its administrative interface does."""
        return "HAProxy" in self._ask("show info")

    def _state(self, slot: str) -> dict[str, str]:
        rows = csv.DictReader(io.StringIO(self._ask("show stat").removeprefix("# ")))
        return next(row for row in rows if f"{row['pxname']}/{row['svname']}" == slot)

    def _ask(self, command: str) -> str:
        host, _, port = self._admin
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(f"{command}\n".encode())
            with connection.makefile() as answer:
                return answer.read()


def _exited(task: Running) -> bool:
    return not task.state["Running"]


@contextmanager
def load_balancer(engine: Engine, image: str, network: str, listener: Listener) -> Iterator[LoadBalancer]:
    """A load balancer in front of the tasks of a network, published on this machine only."""
    with tempfile.TemporaryDirectory(prefix="tandem-balancer-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        certificate = _certificate(engine, image, directory, listener.domain)
        (directory / "haproxy.cfg").write_text(listener.configuration)
        with container(
            engine,
            image,
            ["haproxy", "-W", "-f", "/etc/haproxy/haproxy.cfg"],
            network=network,
            publish=[443, _ADMIN_PORT],
            volumes={name: {"bind": "/etc/haproxy", "mode": "ro"}},
        ) as running:
            balancer = LoadBalancer(running, listener, network, certificate)
            until(lambda: _answers(balancer), f"the load balancer answers:\n{running.log}", 30)
            yield balancer


def _answers(balancer: LoadBalancer) -> bool:
    try:
        return balancer.answers()
    except OSError:
        return False


def _certificate(engine: Engine, image: str, directory: Path, domain: str) -> Path:
    """A self-signed certificate for the domain and localhost, beside the file that HAProxy reads."""
    names = ",".join(dict.fromkeys((f"DNS:{domain}", "DNS:localhost", "IP:127.0.0.1")))
    openssl = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    made = engine.docker(
        "run", "--rm", image, *openssl, "-addext", f"subjectAltName={names}", "-keyout", "-", "-out", "-"
    )
    (directory / "site.pem").write_text(made)
    certificate = directory / "ca.pem"
    found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", made, re.DOTALL)
    assert found, made
    certificate.write_text(found[0])
    return certificate
