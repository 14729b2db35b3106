"""The script that a GPU instance runs when it boots."""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path(__file__).with_name("user_data.sh")

EACH_BOOT = "#cloud-boothook\n"
"""Makes cloud-init run a script at each boot."""

_AGENT = "cat >> /etc/ecs/ecs.config <<'CONFIG'\n"
_BOOT = ("at its first boot", "at each boot")
_STORE, _CACHE = "# By UUID", "install --directory --owner"


def user_data(*, warm_pool: bool) -> str:
    """Returns the script; with a warm pool, one that leaves the instance store alone.

    A stopped instance loses its instance store. Its agent waits until the instance leaves the pool, or ECS
    would place tasks on an instance that is stopped. The script runs at each boot: Auto Scaling stops an
    instance without waiting for it, and cloud-init does not repeat what runs at the first boot only.
    """
    script = SCRIPT.read_text(encoding="utf-8").rstrip()
    if not warm_pool:
        return script
    agent, rest = script[: script.index(_STORE)], script[script.index(_STORE) :]
    agent = agent.replace(_AGENT, f"{_AGENT}ECS_WARM_POOLS_CHECK=true\n").replace(*_BOOT)
    return EACH_BOOT + agent + rest[rest.rindex(_CACHE) :]
