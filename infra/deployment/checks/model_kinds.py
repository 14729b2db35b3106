"""Rules on what a model does, and on its adapters."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.plan import Plan
from infra.deployment.tool_files import ROOT

from .rule import Changes, Found, Severity, rule

CHATS = ("chat", "vision")
ENGINE_DOCKERFILE = ROOT / "services" / "vllm" / "Dockerfile"
_ONLY_TEXT = "--language-model-only"
_SEVERAL_PROCESSES = ("--api-server-count", "-asc")


def _with_images(plan: Plan) -> Iterator[Changes]:
    yield {"model.extra_args": tuple(one for one in plan.deployment.model.extra_args if one != _ONLY_TEXT)}


@rule(
    "model-kind",
    Severity.ERROR,
    lambda _: [{"model.tool_call_parser": None}],
    lambda _: [{"model.reasoning_parser": None}],
    lambda _: [{"model.tool_call_parser": None, "model.reasoning_parser": None}],
    _with_images,
)
def model_kind(plan: Plan) -> Found[str]:
    """A model has the parsers and arguments of what it does: only models that chat have parsers."""
    model = plan.deployment.model
    if model.kind == "vision" and _ONLY_TEXT in model.extra_args:
        yield ("model.extra_args", f"{_ONLY_TEXT} makes a model of the kind vision reject images")
    if model.kind in CHATS:
        return
    for name in ("tool_call_parser", "reasoning_parser"):
        if getattr(model, name):
            yield (f"model.{name}", f"a model of the kind {model.kind} does not chat, so it has no parser")


@rule("audio-libraries")
def audio_libraries(plan: Plan) -> Found[str]:
    """A speech-to-text model needs libraries for audio, which vLLM's image leaves out for their licences."""
    if plan.deployment.model.kind != "speech-to-text":
        return
    lines = ENGINE_DOCKERFILE.read_text(encoding="utf-8").splitlines()
    if not any("vllm[audio]" in line and not line.lstrip().startswith("#") for line in lines):
        yield (
            "model.kind",
            "vLLM's image has no libraries for audio, without which it cannot read a recording. If their "
            "licences suit you, add this line to services/vllm/Dockerfile, after FROM: RUN uv pip install "
            f"--system 'vllm[audio]=={plan.catalog.engine.version}'",
        )


@rule(
    "adapters",
    Severity.ERROR,
    lambda _: [{"model.adapters": {}}],
    lambda _: [{"model.adapters_from": None}],
    lambda _: [{"model.adapters": {}, "model.adapters_from": None}],
)
def adapters(plan: Plan) -> Found[str]:
    """Adapters are served with models that chat."""
    model = plan.deployment.model
    for name in ("adapters", "adapters_from"):
        if getattr(model, name) and model.kind not in CHATS:
            yield (
                f"model.{name}",
                f"adapters are served with models that chat, and this one is of the kind {model.kind}",
            )


def _below(plan: Plan) -> list[str]:
    """The adapters whose sources are below the prefix of further ones."""
    model = plan.deployment.model
    if not model.adapters_from:
        return []
    prefix = model.adapters_from.rstrip("/") + "/"
    return [name for name, source in model.adapters.items() if f"{source}/".startswith(prefix)]


def _without_those_below(plan: Plan) -> Iterator[Changes]:
    below = _below(plan)
    yield {
        "model.adapters": {
            name: source for name, source in plan.deployment.model.adapters.items() if name not in below
        }
    }


@rule("adapters-from", Severity.ERROR, _without_those_below, lambda _: [{"model.adapters_from": None}])
def adapters_from(plan: Plan) -> Found[str]:
    """Adapters that engines load while they run are not configured too, and one process loads them."""
    model = plan.deployment.model
    for name in _below(plan):
        yield (
            f"model.adapters.{name}",
            f"{model.adapters[name]} is below model.adapters_from, so engines load it from there already",
        )
    for argument in model.extra_args if model.adapters_from else ():
        if argument.partition("=")[0].replace("_", "-") in _SEVERAL_PROCESSES:
            yield (
                "model.extra_args",
                f"with {argument}, several processes answer, and only one of them would load an adapter of "
                "model.adapters_from",
            )


@rule(
    "adapter-settings",
    Severity.WARNING,
    lambda _: [{"model.max_loras": None}],
    lambda _: [{"model.max_lora_rank": None}],
    lambda _: [{"model.max_loras": None, "model.max_lora_rank": None}],
)
def adapter_settings(plan: Plan) -> Found[str]:
    """Limits of adapters have no effect without adapters, or beyond their number."""
    model = plan.deployment.model
    if not model.has_adapters:
        for name in ("max_loras", "max_lora_rank"):
            if getattr(model, name) is not None:
                yield (f"model.{name}", "it has no effect: the model has no adapters")
    elif not model.adapters_from and model.max_loras is not None and model.max_loras > len(model.adapters):
        yield (
            "model.max_loras",
            f"memory is reserved for {model.max_loras} adapters, and there are {len(model.adapters)}",
        )


RULES = (model_kind, audio_libraries, adapters, adapters_from, adapter_settings)
