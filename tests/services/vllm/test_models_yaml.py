"""models.yaml: its schema, its arithmetic, and that every file names the same version of vLLM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from standin_engine.app import VERSION

VLLM = Path(__file__).parents[3] / "services" / "vllm"
GIB = 2**30


class Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tool_call_parser: Literal["hermes", "llama3_json", "mistral", "openai", "qwen3_coder", "gemma4"] | None
    reasoning_parser: Literal["qwen3", "openai_gptoss", "gemma4"] | None = None
    chat_template: str | None = Field(None, pattern=r"^examples/tool_chat_template_[\w.]+\.jinja$")
    extra_args: list[str] = []
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    images: bool = False
    license: str
    gated: bool
    attention: Literal["full", "hybrid_gdn", "hybrid_swa"]
    source: str
    params: PositiveInt | None = None
    params_nominal: str | None = Field(None, pattern=r"^E?\d+(\.\d+)?[Bb](-A\d+B)?$")
    layers: PositiveInt | None
    full_attention_layers: PositiveInt | None = None
    sliding_window: PositiveInt | None = None
    kv_heads: PositiveInt | None
    head_dim: PositiveInt | None
    attention_heads: PositiveInt | None = None
    unquantized_params: PositiveInt | None = None
    max_positions: PositiveInt | None
    weights_format: Literal["bf16", "awq", "mxfp4"]
    weights_gib: float | None
    kv_bytes_per_token: PositiveInt | None
    min_vram_gb: dict[Literal["bf16", "fp8", "int4", "mxfp4", "nvfp4", "w4a16"], PositiveInt] = {}


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    vllm: str
    sources: dict[str, str]
    models: dict[str, Facts]


class UniqueKeys(yaml.SafeLoader):
    """Rejects duplicate keys, which YAML loaders otherwise overwrite silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"duplicate key among {keys}"
        return super().construct_mapping(node, deep)


def read() -> Document:
    return Document.model_validate(yaml.load((VLLM / "models.yaml").read_text(), UniqueKeys))


DOCUMENT = read()


def test_file_lists_every_model() -> None:
    assert len(DOCUMENT.models) == 37
    assert DOCUMENT.models["Qwen/Qwen2.5-7B-Instruct"].revision is not None


def test_models_that_take_images() -> None:
    found = {name for name, facts in DOCUMENT.models.items() if facts.images}
    assert {name.partition("/")[0] for name in found} == {"google", "mistralai"}
    assert not any("--language-model-only" in DOCUMENT.models[name].extra_args for name in found)


@pytest.mark.parametrize("name", DOCUMENT.models)
def test_facts_of_a_model_are_consistent(name: str) -> None:
    facts = DOCUMENT.models[name]
    assert facts.source in DOCUMENT.sources
    assert (facts.params is None) != (facts.params_nominal is None)
    layers = facts.full_attention_layers if facts.attention != "full" else facts.layers
    if layers and facts.kv_heads and facts.head_dim:
        assert facts.kv_bytes_per_token == 2 * layers * facts.kv_heads * facts.head_dim * 2
    else:
        assert facts.kv_bytes_per_token is None
    if facts.params and facts.weights_format == "bf16":
        assert facts.weights_gib == pytest.approx(facts.params * 2 / GIB, abs=0.006)
    if facts.attention == "full":
        assert facts.weights_gib
        assert facts.kv_bytes_per_token


def test_every_file_names_the_same_version_of_vllm() -> None:
    tag = re.search(
        r"^FROM vllm/vllm-openai:v([\d.]+)(?:@sha256:[0-9a-f]{64})?$", (VLLM / "Dockerfile").read_text(), re.M
    )
    assert tag is not None
    requirement = (VLLM / "requirements.txt").read_text().strip()
    assert requirement == f"vllm=={DOCUMENT.vllm}"
    assert DOCUMENT.vllm == tag.group(1) == VERSION
