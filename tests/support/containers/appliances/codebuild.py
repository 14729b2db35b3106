"""Runs the commands of a build specification as CodeBuild does: in one shell, until one fails.

Reads {"buildspec": text, "variables": {name: value}} from standard input; exits with the status of the build.
The host of REPOSITORY_URI becomes the one in REGISTRY, and a pause of the commands takes a second.

A Docker engine runs beside the commands. It has the images in BASES from the engine outside, whose network
it shares, and it keeps images in containerd: no BuildKit image can be pulled here, and its own builder can
then write zstd layers.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
OUTER = "unix:///var/run/outer.sock"
# A bridge of its own: it shares the outer engine's network, and must change nothing there.
BRIDGE = "tandem-builds"
SETTINGS = {
    "features": {"containerd-snapshotter": True},
    "bridge": BRIDGE,
    "iptables": False,
    "ip6tables": False,
    "ip-forward": False,
}
START_SECONDS = 60
KEPT = "6GB"
FUNCTIONS = """\
sleep() { command sleep 1; }
docker() {
    case "$1 $2" in
    # Compiling takes a minute in each build of the orchestrator; the container suite tests that.
    "buildx create") echo "no image of BuildKit can be pulled here"; return 1;;
    "buildx build") shift 2; command docker buildx build --network host --build-arg COMPILE=0 "$@";;
    *) command docker "$@";;
    esac
}"""


def script(buildspec: str) -> str:
    """The shell script of all phases."""
    phases = yaml.safe_load(buildspec)["phases"]
    lines = [FUNCTIONS]
    for phase in PHASES:
        for command in phases.get(phase, {}).get("commands", []):
            lines.append(f"echo {shlex.quote(f'[Container] Running command {command}')}")
            lines.append(f"{{ {command}\n}} || exit 1")
    return "\n".join(lines)


@contextmanager
def docker_engine() -> Iterator[None]:
    """CodeBuild's Docker engine while the block runs."""
    settings = Path("/etc/docker/daemon.json")
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(json.dumps(SETTINGS))
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    log = Path("/var/log/dockerd.log")
    with log.open("wb") as written:
        daemon = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=written, stderr=written)
    try:
        until = time.monotonic() + START_SECONDS
        while subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                sys.exit(f"dockerd did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield
    finally:
        daemon.terminate()
        daemon.wait()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


def copy_bases() -> None:
    """Copies the base images that changed since the last build."""
    known = Path("/var/lib/docker/bases.json")
    copied = json.loads(known.read_text()) if known.exists() else {}
    for name in os.environ["BASES"].split():
        inspect = ["docker", "--host", OUTER, "image", "inspect", "--format", "{{.Id}}", name]
        identity = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        if copied.get(name) != identity:
            save = ["docker", "--host", OUTER, "save", name]
            with subprocess.Popen(save, stdout=subprocess.PIPE) as saved:
                subprocess.run(["docker", "load", "--quiet"], stdin=saved.stdout, check=True)
            copied[name] = identity
    known.write_text(json.dumps(copied))


def clean() -> None:
    """Removes what was built; the next build takes its steps from the cache."""
    listed = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name.startswith(f"{os.environ['REGISTRY']}/"):
            subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)
    prune = ["docker", "builder", "prune", "--force", "--keep-storage", KEPT]
    subprocess.run(prune, capture_output=True, check=False)


def main() -> int:
    asked = json.load(sys.stdin)
    variables = asked["variables"]
    _, _, repository = variables["REPOSITORY_URI"].partition("/")
    variables["REPOSITORY_URI"] = f"{os.environ['REGISTRY']}/{repository}"
    with docker_engine(), tempfile.TemporaryDirectory() as directory:
        copy_bases()
        command = ["sh", "-c", script(asked["buildspec"])]
        status = subprocess.run(
            command, cwd=directory, env={**os.environ, **variables}, stderr=subprocess.STDOUT, check=False
        ).returncode
        clean()
        return status


if __name__ == "__main__":
    sys.exit(main())
