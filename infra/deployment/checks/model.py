"""Rules on the model and how it fits on the GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment.catalog import Instance
from infra.deployment.model_size import sized_model
from infra.deployment.plan import Plan
from infra.deployment.settings import HUB, MIRROR
from infra.deployment.sizing import EngineSize, visible_gib, weights_format

from .candidates import by_price, nearest, other_instances
from .model_kinds import CHATS
from .rule import Changes, Found, Severity, rule

NO_PARSER = "none"
MOST_UTILIZATION = 0.95

QUANTIZATIONS_OF_FILES = (
    "awq",
    "auto_awq",
    "awq_marlin",
    "auto_gptq",
    "gptq",
    "gptq_marlin",
    "mxfp4",
    "gpt_oss_mxfp4",
    "modelopt",
)
"""Quantizations that vLLM cannot produce from 16-bit files."""

FLAGS = {
    "--model": "model.id",
    "--revision": "model.revision",
    "--served-model-name": "model.served_name",
    "--dtype": "model.dtype",
    "--quantization": "model.quantization",
    "-q": "model.quantization",
    "--kv-cache-dtype": "model.kv_cache_dtype",
    "--max-model-len": "model.max_model_len",
    "--gpu-memory-utilization": "model.gpu_memory_utilization",
    "--max-num-seqs": "model.max_num_seqs",
    "--max-num-queued-reqs": "model.max_num_queued_reqs",
    "--tool-call-parser": "model.tool_call_parser",
    "--enable-auto-tool-choice": "model.tool_call_parser",
    "--reasoning-parser": "model.reasoning_parser",
    "--chat-template": "model.chat_template",
    "--enable-lora": "model.adapters",
    "--lora-modules": "model.adapters",
    "--max-lora-rank": "model.max_lora_rank",
    "--max-loras": "model.max_loras",
    "--runner": "model.kind",
    "--tensor-parallel-size": "gpu.gpus_per_task",
    "-tp": "gpu.gpus_per_task",
    "--pipeline-parallel-size": "gpu.gpus_per_task",
    "-pp": "gpu.gpus_per_task",
    "--data-parallel-size": "gpu.gpus_per_task",
    "-dp": "gpu.gpus_per_task",
    "--hf-token": "model.hf_token_secret_arn",
    "--api-key": "",
    "--host": "",
    "--port": "",
    "--tokenizer": "",
    "--load-format": "",
    "--model-loader-extra-config": "",
    "--shutdown-timeout": "",
    "--otlp-traces-endpoint": "",
}
"""Arguments of `vllm serve` that the deployment sets, and the setting for each; "" if there is none."""


def _known_models(plan: Plan) -> Iterator[Changes]:
    return ({"model.id": name} for name in nearest(plan.deployment.model.id, plan.catalog.models))


def _parsers(plan: Plan) -> Iterator[Changes]:
    given, parsers = plan.deployment.model.tool_call_parser, plan.catalog.engine.tool_call_parsers
    names = nearest(given, parsers) if given else []
    return ({"model.tool_call_parser": name} for name in (*names, NO_PARSER))


@rule("tool-parser", Severity.ERROR, _known_models, _parsers)
def tool_parser(plan: Plan) -> Found[str]:
    """The engine needs a known tool-call parser to offer tools."""
    model, engine = plan.deployment.model, plan.catalog.engine
    if model.kind not in CHATS:
        return
    if model.tool_call_parser is None:
        known = plan.catalog.models.get(model.id)
        if known is None:
            yield (
                "model.id",
                f"{model.id} is not in services/vllm/models.yaml, so its tool-call parser is unknown: set "
                "model.tool_call_parser to the one that the model's card names, or to none to serve without "
                f"tools; vLLM {engine.version} has {', '.join(sorted(engine.tool_call_parsers))}",
            )
            return
        if known.tool_call_parser is None:
            yield (
                "model.tool_call_parser",
                f"vLLM {engine.version} documents no tool-call parser for {model.id}",
            )
    elif model.tool_call_parser not in (NO_PARSER, *engine.tool_call_parsers):
        yield (
            "model.tool_call_parser",
            f"{model.tool_call_parser!r} is not a tool-call parser of vLLM {engine.version}",
        )


def _reasoning_parsers(plan: Plan) -> Iterator[Changes]:
    given = plan.deployment.model.reasoning_parser or ""
    return (
        {"model.reasoning_parser": name} for name in nearest(given, plan.catalog.engine.reasoning_parsers)
    )


@rule("reasoning-parser", Severity.ERROR, _reasoning_parsers)
def reasoning_parser(plan: Plan) -> Found[str]:
    """The engine does not start with an unknown reasoning parser."""
    given, engine = plan.deployment.model.reasoning_parser, plan.catalog.engine
    if given in (None, NO_PARSER, *engine.reasoning_parsers):
        return
    yield ("model.reasoning_parser", f"{given!r} is not a reasoning parser of vLLM {engine.version}")


@rule("gated-model", Severity.ERROR)
def gated_model(plan: Plan) -> Found[str]:
    """A gated model cannot be downloaded without a token."""
    model = plan.deployment.model
    from_hub = model.source in (HUB, MIRROR)
    if plan.model is None or not plan.model.gated or model.hf_token_secret_arn or not from_hub:
        return
    yield (
        "model.hf_token_secret_arn",
        f"{model.id} is gated: it needs the Hugging Face token of an account that accepted its terms. "
        "Store one with `aws secretsmanager create-secret --name hf-token --secret-string file://TOKEN_FILE` "
        "and use the ARN that the command prints",
    )


def _positions(plan: Plan) -> Iterator[Changes]:
    if plan.model and plan.model.max_positions:
        yield {"model.max_model_len": plan.model.max_positions}
        yield from _shorter_context(plan)


@rule("context-length", Severity.ERROR, _positions)
def context_length(plan: Plan) -> Found[str]:
    """vLLM rejects a context longer than the model supports."""
    wanted = plan.deployment.model.max_model_len
    if plan.model is None or plan.model.max_positions is None or wanted <= plan.model.max_positions:
        return
    yield (
        "model.max_model_len",
        f"{wanted} tokens is more than the {plan.model.max_positions} positions of {plan.model.name}",
    )


def _quantizations(plan: Plan) -> Iterator[Changes]:
    yield {"model.quantization": None}
    given = plan.deployment.model.quantization or ""
    for name in nearest(given, plan.catalog.engine.quantizations):
        yield {"model.quantization": name}


@rule("quantization", Severity.ERROR, _quantizations)
def quantization(plan: Plan) -> Found[str]:
    """vLLM supports the quantization, and the model's files have it or can be converted."""
    given, engine = plan.deployment.model.quantization, plan.catalog.engine
    if given is None:
        return
    if given not in engine.quantizations:
        yield ("model.quantization", f"{given!r} is not a quantization of vLLM {engine.version}")
        return
    if (
        plan.model is not None
        and given in QUANTIZATIONS_OF_FILES
        and weights_format(plan.model, given) is None
    ):
        yield (
            "model.quantization",
            f"{given!r} requires files in that format, but those of {plan.model.name} are in "
            f"{plan.model.weights_format}",
        )


@rule("gpu-dtype", Severity.ERROR, lambda _: [{"model.dtype": "float16"}], other_instances)
def gpu_dtype(plan: Plan) -> Found[str]:
    """GPUs of compute capability below 8.0 do not support bfloat16, and vLLM does not start on them."""
    for instance in plan.instances:
        if plan.deployment.model.dtype == "bfloat16" and not instance.gpu.bfloat16:
            major, minor = instance.gpu.compute_capability
            yield (
                "model.dtype",
                f"the {instance.gpu.name} of {instance.name} has compute capability {major}.{minor}; "
                "bfloat16 requires 8.0",
            )
            return


def _parallel_sizes(plan: Plan) -> Iterator[Changes]:
    sizes = sorted(range(1, 17), key=lambda size: abs(size - plan.deployment.gpu.gpus_per_task))
    return ({"gpu.gpus_per_task": size} for size in sizes)


@rule("tensor-parallel", Severity.ERROR, _parallel_sizes)
def tensor_parallel(plan: Plan) -> Found[str]:
    """Attention heads and KV heads can be split evenly across an engine's GPUs."""
    gpus, model = plan.deployment.gpu.gpus_per_task, plan.model
    if model is None:
        return
    if model.attention_heads and model.attention_heads % gpus:
        yield (
            "gpu.gpus_per_task",
            f"{gpus} GPUs cannot evenly split the {model.attention_heads} attention heads of {model.name}",
        )
        return
    if model.kv_heads and model.kv_heads % gpus and gpus % model.kv_heads:
        yield (
            "gpu.gpus_per_task",
            f"{gpus} GPUs cannot evenly split the {model.kv_heads} KV heads of {model.name}",
        )


def _shorter_context(plan: Plan) -> Iterator[Changes]:
    tokens = min(
        (size.kv_tokens for instance in plan.instances if (size := plan.size(instance)) and size.kv_tokens),
        default=0,
    )
    positions = plan.model.max_positions if plan.model else None
    tokens = min(tokens, positions or tokens)
    if tokens >= 1024:
        yield {"model.max_model_len": tokens // 1024 * 1024}


def _more_gpus(plan: Plan) -> Iterator[Changes]:
    for instance in by_price(plan):
        for gpus in (2, 4, 8):
            yield {"gpu.instance_types": (instance.name,), "gpu.gpus_per_task": gpus}


@rule(
    "model-fits",
    Severity.ERROR,
    _shorter_context,
    lambda _: [{"model.gpu_memory_utilization": share} for share in (0.90, 0.92, MOST_UTILIZATION)],
    lambda _: [{"model.quantization": "fp8"}],
    other_instances,
    _more_gpus,
)
def model_fits(plan: Plan) -> Found[str]:
    """The weights and one request of full length fit on an engine's GPUs."""
    for instance in plan.instances:
        size = plan.size(instance)
        if size is not None and size.fits(plan.deployment.model.max_model_len) is False:
            yield _misfit(plan, instance, size)
            return


def _misfit(plan: Plan, instance: Instance, size: EngineSize) -> tuple[str, str]:
    model, gpus = plan.deployment.model, plan.deployment.gpu.gpus_per_task
    of = f"{gpus} x {instance.gpu.name} of {instance.name}"
    share = f"gpu_memory_utilization {model.gpu_memory_utilization:g}"
    if size.kv_tokens is None or size.kv_gib is None or size.weights_gib is None:
        return (
            "gpu.instance_types",
            f"{model.id} needs {size.recipe_gb:g} GB of GPU memory according to vLLM's recipe, but {of} "
            f"offers {size.offered_gb:.1f} GB at {share}",
        )
    given = visible_gib(instance) * model.gpu_memory_utilization * gpus
    holds = f"the {size.weights_gib:.1f} GiB of weights of {model.id}"
    if size.kv_tokens == 0:
        return ("gpu.instance_types", f"{of} offers {given:.1f} GiB at {share}, too little for {holds}")
    return (
        "model.max_model_len",
        f"a request of {model.max_model_len} tokens does not fit: {of} offers {given:.1f} GiB at {share}; "
        f"{holds} leave {size.kv_gib * gpus:.1f} GiB for the KV cache, enough for {size.kv_tokens} tokens",
    )


@rule("model-size", Severity.ERROR)
def model_size(plan: Plan) -> Found[str]:
    """The stated size of a model is complete, and its config.json can be read."""
    given = plan.deployment.model
    if given.size is None:
        return
    try:
        sized_model(given.id, given.size, plan.catalog.models.get(given.id))
    except ValueError as error:
        yield ("model.size", str(error))


@rule("model-not-sized", Severity.WARNING)
def model_not_sized(plan: Plan) -> Found[str]:
    """Without facts about the model, whether it fits cannot be checked."""
    name = plan.deployment.model.id
    if plan.model is None:
        yield (
            "model.id",
            f"the size of {name} is unknown, so whether it fits was not checked; model.size states it, for "
            "example {config: PATH} with the path of its config.json",
        )
        return
    for instance in plan.instances:
        size = plan.size(instance)
        if size is not None and size.kv_tokens is None:
            if size.recipe_gb is None:
                yield (
                    "model.id",
                    f"the size of {name} in this format is unknown, so whether it fits was not checked",
                )
                return
            yield (
                "model.id",
                f"{name} has hybrid attention, so it was checked against the {size.recipe_gb:g} GB of vLLM's "
                f"recipe, which may not suffice for {plan.deployment.model.max_model_len} tokens of context",
            )
            return


@rule("gpu-headroom", Severity.WARNING, lambda _: [{"model.gpu_memory_utilization": MOST_UTILIZATION}])
def gpu_headroom(plan: Plan) -> Found[str]:
    """vLLM does not start unless its share of GPU memory is free, and CUDA itself uses some."""
    share = plan.deployment.model.gpu_memory_utilization
    if share <= MOST_UTILIZATION:
        return
    left = [f"{visible_gib(one) * (1 - share):.1f} GiB on {one.name}" for one in plan.instances]
    yield (
        "model.gpu_memory_utilization",
        f"{share:g} leaves {', '.join(left) or 'little'} for CUDA and the driver; vLLM does not start unless "
        "its share is free",
    )


@rule(
    "queue",
    Severity.WARNING,
    lambda plan: [{"model.max_num_queued_reqs": 2 * plan.deployment.model.max_num_seqs}],
    lambda plan: [{"model.max_num_seqs": plan.deployment.model.max_num_queued_reqs}],
)
def queue(plan: Plan) -> Found[str]:
    """The limit on queued requests includes running ones."""
    model = plan.deployment.model
    if model.max_num_queued_reqs >= model.max_num_seqs:
        return
    yield (
        "model.max_num_queued_reqs",
        f"the engine answers 503 beyond {model.max_num_queued_reqs} requests, so it never runs the "
        f"{model.max_num_seqs} concurrent requests of model.max_num_seqs",
    )


def _flag(argument: str) -> str:
    flag = argument.partition("=")[0]
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _without_own_flags(plan: Plan) -> Iterator[Changes]:
    kept: list[str] = []
    dropping = False
    for argument in plan.deployment.model.extra_args:
        if argument.startswith("-"):
            dropping = _flag(argument) in FLAGS
        if not dropping:
            kept.append(argument)
    yield {"model.extra_args": tuple(kept)}


@rule("extra-args", Severity.ERROR, _without_own_flags)
def extra_args(plan: Plan) -> Found[str]:
    """Arguments that the deployment sets itself must not be repeated."""
    for argument in plan.deployment.model.extra_args:
        setting = FLAGS.get(_flag(argument))
        if setting:
            yield ("model.extra_args", f"{_flag(argument)} is controlled by {setting}; set that instead")
            return
        if setting is not None:
            yield ("model.extra_args", f"{_flag(argument)} cannot be set here")
            return


RULES = (
    tool_parser,
    reasoning_parser,
    gated_model,
    context_length,
    quantization,
    gpu_dtype,
    tensor_parallel,
    model_fits,
    model_size,
    model_not_sized,
    gpu_headroom,
    queue,
    extra_args,
)
