"""Faults of the script that a GPU instance runs at its first boot."""

from __future__ import annotations

from tests.infra.template_checks.mutations import BOX, TASK, Mutation, drop, in_user_data, put

_CLEANUP = "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=30m"

FAULTS = (
    Mutation("heredoc without its end", "T-heredocs", in_user_data("\nCONFIG\n", "\n")),
    Mutation("end of a heredoc indented", "T-heredocs", in_user_data("\nPYTHON\n", "\n    PYTHON\n")),
    Mutation("no GPU support", "T-agent-settings", in_user_data("ECS_ENABLE_GPU_SUPPORT=true\n", "")),
    Mutation(
        "a pull may be silent for a minute",
        "T-agent-settings",
        in_user_data("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT=10m\n", ""),
    ),
    Mutation(
        "a container has three minutes to start",
        "T-agent-settings",
        in_user_data("ECS_CONTAINER_START_TIMEOUT=10m", "ECS_CONTAINER_START_TIMEOUT=3m"),
    ),
    Mutation(
        "prefer-cached",
        "T-image-cleanup",
        in_user_data("ECS_IMAGE_PULL_BEHAVIOR=once", "ECS_IMAGE_PULL_BEHAVIOR=prefer-cached"),
    ),
    Mutation(
        "clean-up off",
        "T-image-cleanup",
        in_user_data(_CLEANUP, f"{_CLEANUP}\nECS_DISABLE_IMAGE_CLEANUP=true"),
    ),
    Mutation("stopped containers kept for three hours", "T-image-cleanup", in_user_data(f"{_CLEANUP}\n", "")),
    Mutation("images on a volume of 125 MB/s", "T-image-disk", in_user_data("data-root", "data_root")),
    Mutation(
        "user data waits for the agent",
        "T-boot",
        in_user_data("systemctl start --no-block ecs", "systemctl start ecs"),
    ),
    Mutation(
        "user data enables the agent and waits",
        "T-boot",
        in_user_data("systemctl start --no-block ecs", "systemctl enable --now ecs"),
    ),
    Mutation("mount by device name", "T-boot", in_user_data("UUID=$uuid", "$disk")),
    Mutation(
        "cache path not made",
        "T-file-owner",
        in_user_data("/mnt/instance-store/cache", "/mnt/instance-store/caches"),
    ),
    Mutation("cache of root", "T-file-owner", in_user_data("--owner=2000", "--owner=0")),
    Mutation("engine as another user", "T-file-owner", put(TASK, (*BOX, "User"), "1000:0", "Engine")),
    Mutation("engine as the image's user", "T-file-owner", drop(TASK, (*BOX, "User"), "Engine")),
)
