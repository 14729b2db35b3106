"""A start from its settings to the end of the engine."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import supervisor
from .adapter_sync import AdapterSync, Limits
from .adapters import LocalAdapter, local_adapters, lora_rank
from .before import earlier_steps, image_digest, task_metadata
from .cache import EngineCache, cache_key, gpu_name, say
from .command_line import STREAMER, Files, Model, build_argv
from .engine_adapters import EngineAdapters
from .location import Location
from .settings import LaunchError, Settings
from .status import serve_status
from .steps import Steps, metric_line
from .storage import s3_client
from .weights import StoredFile, copy, directory_of, has_safetensors, stored_files

CHILD_DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_MAX_N_SEQUENCES": "8",
    "VLLM_ENABLE_STARTUP_PLAN": "1",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    "OTEL_SERVICE_NAME": "tandem-engine",
}
"""Added to vLLM's environment unless already set. vLLM itself allows an `n` of up to 16384, and measures at
every start how much memory its cache may use, unless it keeps a startup plan. It sends traces by gRPC."""


def start(settings: Settings, models: Mapping[str, Model], environ: Mapping[str, str]) -> int:
    """Runs an engine until it ends, and returns its exit status.

    Raises:
        LaunchError: The settings do not fit the model, or its files cannot be had.
    """
    supervisor.end_on_signals()
    steps = Steps(metrics=_metrics(settings))
    if settings.status_port:
        _serve_status(steps, settings)
    # Not on the disk that outlives the container: engines of one instance share it.
    with tempfile.TemporaryDirectory(prefix="tandem-adapters-") as directory:
        return _run(settings, models, environ, steps, Path(directory))


def _run(
    settings: Settings,
    models: Mapping[str, Model],
    environ: Mapping[str, str],
    steps: Steps,
    adapter_directory: Path,
) -> int:
    metadata = task_metadata(environ)
    for step, seconds in earlier_steps(metadata, _cache_directory(environ) / ".tandem-boot").items():
        steps.add(step, seconds)
    listed = stored_files(s3_client(), settings.model_source) if settings.model_source else []
    files = files_for(settings, _cache_directory(environ), listed)
    adapters = local_adapters(settings, adapter_directory / "configured", s3_client, environ)
    argv = build_argv(settings, models, files, adapters)
    cache = _engine_cache(settings, argv, environ, image_digest(metadata))
    if cache:
        steps.begin("cache")
        steps.previous = cache.last_seconds()
        say(cache.restore())
    if files and not files.streamed and settings.model_source:
        steps.begin("copy")
        copy(s3_client(), settings.model_source, listed, Path(files.place), progress=steps.progress)
    sync = _adapter_sync(settings, adapters, adapter_directory / "later", environ)
    if sync:
        threading.Thread(target=sync.fetch, daemon=True).start()

    def on_ready() -> None:
        if sync:
            threading.Thread(target=sync.run, args=(settings.adapters_seconds,), daemon=True).start()
        if cache:
            say(cache.save(steps.seconds))

    print(f"launch.py: {shlex.join(argv)}", file=sys.stderr, flush=True)  # noqa: T201 - the start log
    steps.begin("process")
    return supervisor.run(
        argv,
        child_environment(settings, environ),
        url=f"{_url(settings)}/health",
        hang_seconds=settings.hang_seconds,
        steps=steps,
        on_ready=on_ready,
    )


def child_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns vLLM's environment."""
    child = CHILD_DEFAULTS | dict(environ) | _engine_key(environ)
    if settings.adapters_from:
        child["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        # vLLM imports adapter_routes.py, which keeps the routes that this opens to the container.
        here = str(Path(__file__).parents[1])
        child["PYTHONPATH"] = ":".join(filter(None, (environ.get("PYTHONPATH"), here)))
    return child


def _url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.port}"


def _adapter_sync(
    settings: Settings, adapters: Sequence[LocalAdapter], directory: Path, environ: Mapping[str, str]
) -> AdapterSync | None:
    if settings.adapters_from is None:
        return None
    directory.mkdir()
    model = settings.served_model_name or settings.model
    taken = frozenset((model, *(one.name for one in adapters)))
    return AdapterSync(
        settings.adapters_from,
        s3_client,
        EngineAdapters(_url(settings), _engine_key(environ).get("VLLM_API_KEY")),
        directory,
        Limits(settings.model, lora_rank(settings, adapters), taken),
        # No request is older than its deadline, which is the time to finish.
        keep_seconds=settings.shutdown_timeout,
    )


def files_for(settings: Settings, cache: Path, listed: Sequence[StoredFile] | None = None) -> Files | None:
    """Returns where vLLM reads the model's files: None for the Hub, or for a path in MODEL.

    Args:
        settings: The engine's settings.
        cache: The directory for copies.
        listed: The model's files in S3, if they are known.
    """
    source = settings.model_source
    if source is None:
        return None
    can_stream = (
        find_spec("runai_model_streamer") is not None and find_spec("runai_model_streamer_s3") is not None
    )
    wanted = settings.load_format or (STREAMER if can_stream else "auto")
    if wanted == STREAMER and not can_stream:
        raise LaunchError(
            f"LOAD_FORMAT={STREAMER!r}: this image lacks the Python packages runai-model-streamer and "
            "runai-model-streamer-s3; leave LOAD_FORMAT unset to copy the weights to the disk first"
        )
    if wanted == STREAMER and (listed is None or has_safetensors(listed)):
        return Files(str(source), streamed=True)
    return Files(str(directory_of(source, cache)), streamed=False)


def _cache_directory(environ: Mapping[str, str]) -> Path:
    """The directory that outlives the container: the parent of HF_HOME in the image."""
    home = environ.get("HF_HOME")
    return Path(home).parent if home else Path.home() / ".cache"


def _cache_root(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("VLLM_CACHE_ROOT") or Path.home() / ".cache" / "vllm")


def _engine_cache(
    settings: Settings, argv: Sequence[str], environ: Mapping[str, str], image: str | None
) -> EngineCache | None:
    location: Location | None = settings.cache_location
    if location is None:
        return None
    key = cache_key(argv, image=image, gpu=gpu_name())
    return EngineCache(location, key, _cache_root(environ))


def _metrics(settings: Settings) -> Callable[[Mapping[str, float]], Mapping[str, Any]]:
    if not settings.metrics_namespace:
        return lambda _: {}
    model = settings.served_model_name or settings.model
    return metric_line(settings.metrics_namespace, settings.deployment_name or "tandem", model)


def _serve_status(steps: Steps, settings: Settings) -> None:
    try:
        serve_status(steps, settings.host, settings.status_port)
    except OSError as error:
        raise LaunchError(f"STATUS_PORT='{settings.status_port}': {os.strerror(error.errno or 0)}") from None


def _engine_key(environ: Mapping[str, str]) -> dict[str, str]:
    """The first of the keys in VLLM_API_KEY, which holds two while the key is rotated. vLLM expects one."""
    key = environ.get("VLLM_API_KEY", "").partition(",")[0]
    return {"VLLM_API_KEY": key} if key else {}
