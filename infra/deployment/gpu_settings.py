"""The section `gpu` of the deployment file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .values import Ami, Cron, InstanceType, Section, TimeZone, yaml_list


class ScheduleEntry(Section):
    """Limits of the number of engines from a time on. A limit that is left out is that of `gpu`."""

    cron: Cron = Field(
        description="The time: minute, hour, day of month, month and weekday. Of the two days, one is `*`."
    )
    time_zone: TimeZone = Field(default="UTC", description="Time zone of `cron`, e.g. Europe/Berlin.")
    min_replicas: int | None = Field(
        default=None, ge=0, le=100, description="Minimum number of engines, at most `max_replicas`."
    )
    max_replicas: int | None = Field(
        default=None, ge=0, le=100, description="Maximum number of engines; 0 keeps the GPUs off."
    )


class Gpu(Section):
    """The instances that engines run on, and an engine's share of them."""

    instance_types: tuple[InstanceType, ...] = yaml_list(
        ("g5.xlarge",),
        "Instance types, in order of preference; the model must fit on all of them.",
        min_length=1,
    )
    ami: Ami = Field(
        default="recommended",
        description="Machine image; `make deploy` replaces `recommended` by the AMI that AWS names then.",
    )
    gpus_per_task: int = Field(
        default=1, ge=1, le=16, description="Number of GPUs per engine: vLLM's tensor parallel size."
    )
    replicas: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Number of engines that always run. Default: 1, unless one of the next two is set.",
    )
    min_replicas: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Minimum number of engines; 0 stops the GPUs when nobody asks. Default: 1.",
    )
    max_replicas: int | None = Field(
        default=None, ge=1, le=100, description="Maximum number of engines. Default: `min_replicas`, or 1."
    )
    scale_up_at: float = Field(
        default=0.75,
        ge=0.1,
        le=4,
        description="Requests per engine, as a share of `max_num_seqs`, above which another engine starts.",
    )
    idle_minutes: int = Field(
        default=15,
        ge=1,
        le=1440,
        description="Minutes without requests after which the engines stop, if `min_replicas` is 0.",
    )
    schedule: tuple[ScheduleEntry, ...] = yaml_list(
        (), "Limits from a time on: a list of {cron: 0 8 * * MON-FRI, time_zone: ZONE, max_replicas: 1}."
    )
    max_instance_hours_per_day: int | None = Field(
        default=None,
        ge=1,
        le=2400,
        description="Instance hours in a day after which all engines stop, until `make deploy`.",
    )
    warm_instances: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Stopped instances that start faster than new ones. Images are then on the root volume.",
    )
    spare_instance: bool = Field(
        default=False,
        description="Whether to run one instance more, so that releases do not interrupt service.",
    )
    capacity: Literal["on_demand", "spot"] = Field(
        default="on_demand",
        description="How instances are bought; AWS may reclaim a `spot` instance at any time.",
    )
    on_demand_base: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Instances bought on demand when `capacity` is `spot`. Default: 1 of several, else 0.",
    )
    root_volume_gib: int = Field(
        default=100, ge=8, le=16384, description="Size in GiB of the root volume, which stores the images."
    )
    task_memory_mib: int | None = Field(
        default=None,
        ge=4096,
        description="Memory of an engine in MiB. Default: as much as the instance has.",
    )
    shm_mib: int | None = Field(
        default=None,
        ge=64,
        description="Size in MiB of an engine's /dev/shm, in addition to its memory. Default: 1024 per GPU.",
    )
    shell: bool = Field(
        default=False,
        description="Allow Session Manager on the instances and ECS Exec in engines, to inspect GPU faults.",
    )
    startup_seconds: int = Field(
        default=900,
        ge=60,
        le=3300,
        description="Time for an engine to download and load the model before it is replaced.",
    )

    @property
    def least(self) -> int:
        """The minimum number of engines, outside of any schedule."""
        return self.replicas or (1 if self.min_replicas is None else self.min_replicas)

    @property
    def most(self) -> int:
        """The maximum number of engines, outside of any schedule."""
        return self.replicas or self.max_replicas or max(self.least, 1)
