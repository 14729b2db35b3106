"""A disposable PostgreSQL server, from whatever the machine has installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAMS = ("initdb", "pg_ctl")
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_USER, _PASSWORD = "tandem", "not-a-secret-9f2c"
_ATTEMPTS = 3  # another process may take the port before the server does


@dataclass(frozen=True)
class Postgres:
    """A running server; `user` is its superuser and authenticates by password (SCRAM)."""

    host: str
    port: int
    user: str
    password: str
    database: str = "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


class PostgresMissing(RuntimeError):
    """PostgreSQL is not installed and could not be installed."""


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Runs a server on 127.0.0.1 and a Unix socket, in a temporary directory, until the end of the block.

    Raises:
        PostgresMissing: PostgreSQL is not installed and could not be installed.
    """
    programs = find_programs(os.environ.get("PATH", ""), _apt_install)
    account = _unprivileged_account()
    with tempfile.TemporaryDirectory(prefix="tandem-pg-") as name:
        root = Path(name)
        if account is not None:
            os.chown(root, account.pw_uid, account.pw_gid)
        run = _runner(root, account)
        data, password_file = str(root / "data"), root / "password"
        password_file.write_text(_PASSWORD)
        password_file.chmod(0o644)
        initdb = [programs["initdb"], "--pgdata", data, "--username", _USER, "--auth", "scram-sha-256"]
        run([*initdb, "--pwfile", str(password_file), "--encoding", "UTF8", "--no-locale", "--no-sync"])
        port = _start(run, programs["pg_ctl"], root, data)
        try:
            yield Postgres("127.0.0.1", port, _USER, _PASSWORD)
        finally:
            # pg_ctl signals the pid in this data directory's postmaster.pid and waits for it to exit.
            run([programs["pg_ctl"], "stop", "--pgdata", data, "--mode", "immediate", "--wait"])


def find_programs(path: str, install: Callable[[], str]) -> Mapping[str, str]:
    """Finds the server's programs by name: on `path`, where distributions put them, or newly installed.

    Raises:
        PostgresMissing: There are none, and `install` did not help. The message contains what it returned.
    """
    found = _look(path)
    if found is None:
        outcome = install()
        found = _look(path)
        if found is None:
            raise PostgresMissing(
                f"these tests need PostgreSQL's initdb and pg_ctl, which were not found; {outcome}"
            )
    return found


def _look(path: str) -> Mapping[str, str] | None:
    places = [place for pattern in _PLACES for place in sorted(Path("/").glob(pattern[1:]), reverse=True)]
    for directory in [path, *map(str, places)]:
        programs = {name: shutil.which(name, path=directory) for name in _PROGRAMS}
        if all(programs.values()):
            return {name: program for name, program in programs.items() if program}
    return None


def _apt_install() -> str:
    """Installs PostgreSQL with apt-get if possible, showing apt's output; returns the outcome."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return "install the package postgresql (only root with apt-get can do this automatically)"
    command = [apt, "install", "--yes", "--no-install-recommends", "postgresql"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    status = subprocess.run(command, check=False, env=environment).returncode
    return f"`{' '.join(command)}` exited with status {status}"


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Returns the account to run PostgreSQL as, since it refuses to run as root; None for the current one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresMissing("PostgreSQL does not run as root, and no account 'postgres' or 'nobody' exists")


def _runner(root: Path, account: pwd.struct_passwd | None) -> Callable[[list[str]], None]:
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def run(command: list[str]) -> None:
        # The server inherits pg_ctl's output, so a pipe would stay open as long as the server runs.
        log = root / "output.log"
        with log.open("ab") as output:
            status = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=root,
                **identity,
            ).returncode
        if status != 0:
            raise RuntimeError(f"{command[0]} exited with status {status}:\n{log.read_text()[-2000:]}")

    return run


def _start(run: Callable[[list[str]], None], pg_ctl: str, root: Path, data: str) -> int:
    for attempt in range(1, _ATTEMPTS + 1):
        port = _free_port()
        options = f"-p {port} -k {root} -c listen_addresses=127.0.0.1 -c fsync=off"
        try:
            run([pg_ctl, "start", "--pgdata", data, "--wait", "--timeout", "30", "--options", options])
        except RuntimeError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return port
    raise AssertionError


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
