"""The sections `model` and `models` of the deployment file."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from .gpu_settings import Gpu
from .values import (
    AdapterName,
    AdapterPrefix,
    AdapterSource,
    ModelSource,
    RepoId,
    SecretArn,
    Section,
    ShortName,
    Word,
    yaml_list,
)

MAIN = "main"
"""The entry of `models` that keeps the names of a deployment with one model."""


LoraRank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
LORA_RANKS: tuple[int, ...] = get_args(LoraRank)
"""The largest ranks that vLLM may have."""


class ModelSize(Section):
    """The size of a model that `services/vllm/models.yaml` lacks, if all its layers are alike."""

    config: str | None = Field(
        default=None,
        description="Path of the model's `config.json`, from which the other values are taken. If "
        "`model.safetensors.index.json` is beside it, so is the size of the weights.",
    )
    weights_gib: float | None = Field(
        default=None, gt=0, description="Size of the weights in GiB: that of the model's files."
    )
    weights_format: Word = Field(
        default="bf16", description="Format of the weights in the files: `bf16`, `fp8`, `awq`, ..."
    )
    layers: int | None = Field(default=None, ge=1, description="`num_hidden_layers` in `config.json`.")
    kv_heads: int | None = Field(default=None, ge=1, description="`num_key_value_heads` in `config.json`.")
    head_dim: int | None = Field(
        default=None, ge=1, description="`head_dim`, or `hidden_size` / `num_attention_heads`."
    )
    attention_heads: int | None = Field(
        default=None, ge=1, description="`num_attention_heads` in `config.json`."
    )
    max_positions: int | None = Field(
        default=None, ge=1, description="`max_position_embeddings` in `config.json`."
    )


class Model(Section):
    """The model that the engine serves, and how."""

    id: RepoId = Field(
        default="Qwen/Qwen2.5-7B-Instruct", description="Name of the model on the Hugging Face Hub."
    )
    revision: Word | None = Field(
        default=None,
        description="Commit, tag or branch. Default: the one in `services/vllm/models.yaml`, if any.",
    )
    source: ModelSource = Field(
        default="hub",
        description="Where engines load the model from: `hub` downloads it from the Hub on each instance, "
        "`mirror` copies it to a bucket of the deployment when you deploy, s3://bucket/prefix is your own.",
    )
    served_name: Word | None = Field(
        default=None, description="The name that clients use. Default: the model's id."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="bfloat16",
        description="Number format of the activations, and of weights that are not quantized.",
    )
    quantization: Word | None = Field(
        default=None,
        description="vLLM's name for the quantization, e.g. `fp8`. Default: the one in the model's files.",
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        default="auto", description="Number format of the KV cache; `auto` uses that of the activations."
    )
    max_model_len: int = Field(
        default=16384, ge=1, description="Maximum number of tokens in a prompt and its answer together."
    )
    gpu_memory_utilization: float = Field(
        default=0.90, gt=0, le=1, description="Fraction of the GPU's memory that the engine may use."
    )
    max_num_seqs: int = Field(
        default=32, ge=1, description="Maximum number of requests that an engine runs at the same time."
    )
    max_num_queued_reqs: int = Field(
        default=64,
        ge=1,
        description="Maximum number of requests running or waiting; more get a 503.",
    )
    tool_call_parser: Word | None = Field(
        default=None,
        description="vLLM's tool-call parser. Default: see `models.yaml`. `none` serves without tools.",
    )
    reasoning_parser: Word | None = Field(
        default=None,
        description="vLLM's reasoning parser. Default: see `models.yaml`. `none` keeps it in the text.",
    )
    chat_template: Word | None = Field(
        default=None,
        description="Path of a Jinja file in the image. Default: the one in `models.yaml`, if any.",
    )
    extra_args: tuple[Word, ...] = yaml_list((), "Further arguments for `vllm serve`, one word per entry.")
    hf_token_secret_arn: SecretArn | None = Field(
        default=None,
        description="Secrets Manager secret with a Hugging Face token; required for gated models.",
    )
    size: ModelSize | None = Field(
        default=None, description="Size of a model that `models.yaml` lacks, so that it can be checked."
    )
    kind: Literal["chat", "vision", "embedding", "reranker", "speech-to-text"] = Field(
        default="chat",
        description="What the model does; `vision` is chat with images. It decides which routes serve it.",
    )
    aliases: tuple[Word, ...] = yaml_list(
        (), "Further names of the model, for programs with a fixed one: a list such as [gpt-4o]."
    )
    adapters: dict[AdapterName, AdapterSource] = Field(
        default={},
        description="LoRA adapters of the model: name to s3://bucket/prefix, or to a repository on the Hub. "
        "Clients request one by its name.",
    )
    adapters_from: AdapterPrefix | None = Field(
        default=None,
        description="s3://bucket/prefix of further adapters, which engines load and unload while they run: "
        "each folder directly below is one of that name. `make adapters` adds and removes them.",
    )
    max_lora_rank: LoraRank | None = Field(
        default=None,
        description="Largest rank of an adapter. Default: what the adapters need; at least 16 with "
        "`adapters_from`.",
    )
    max_loras: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Number of adapters that one batch may use. Default: all of them, but at most 4; "
        "4 with `adapters_from`.",
    )

    @property
    def has_adapters(self) -> bool:
        """Whether the model is served with adapters, configured or loaded while its engines run."""
        return bool(self.adapters or self.adapters_from)


class ModelEntry(Model, Gpu):
    """One of several models, with its own engines: all settings of `model` and of `gpu`, and these."""

    fallback: ShortName | None = Field(
        default=None,
        description="Name of another entry, which answers while this one cannot; a header says so.",
    )

    @property
    def as_model(self) -> Model:
        """The settings of the model."""
        return Model.model_validate({name: getattr(self, name) for name in Model.model_fields})

    @property
    def as_gpu(self) -> Gpu:
        """The settings of its instances."""
        return Gpu.model_validate({name: getattr(self, name) for name in Gpu.model_fields})
