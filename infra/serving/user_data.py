"""The script that a GPU instance runs at its first boot."""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path(__file__).with_name("user_data.sh")

_AGENT = "cat >> /etc/ecs/ecs.config <<'CONFIG'\n"
_STORE, _CACHE = "# By UUID", "install --directory --owner"


def user_data(*, warm_pool: bool) -> str:
    """Returns the script; with a warm pool, one that leaves the instance store alone.

    A stopped instance loses its instance store, and the script does not run again when it is started. Its
    agent waits until the instance leaves the pool, or ECS would place tasks on an instance that is stopped.
    """
    script = SCRIPT.read_text(encoding="utf-8").rstrip()
    if not warm_pool:
        return script
    agent, rest = script[: script.index(_STORE)], script[script.index(_STORE) :]
    cache = rest[rest.rindex(_CACHE) :]
    return agent.replace(_AGENT, f"{_AGENT}ECS_WARM_POOLS_CHECK=true\n") + cache
