"""Trains a LoRA adapter for the tiny model: `python -m tests.e2e.engine.train.adapter`.

With it, the model answers every question with one sentence, so that a test sees which of the two answers.
PEFT's own file format is written here, because PEFT is not needed for anything else.
"""

import argparse
import json
from itertools import cycle, islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from tests.e2e.engine.train.__main__ import IGNORED, MODEL, SEED, Lessons
from tests.e2e.engine.train.conversations import Conversation

ADAPTER = MODEL.parent / "adapter"
SENTENCE = "Ahoy from the adapter."
BASE = "acme/tiny"
RANK, ALPHA, TARGETS = 8, 16, ("q_proj", "v_proj", "o_proj")
STEPS, RATE = 120, 5e-3
BATCHES, ROWS = 4, 16  # some hundred questions suffice for one answer


class LowRank(nn.Module):  # type: ignore[misc]
    """Adds the product of two small matrices to a weight."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(RANK, weight.shape[1]) * RANK**-0.5)
        self.b = nn.Parameter(torch.zeros(weight.shape[0], RANK))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + ALPHA / RANK * self.b @ self.a


def attach(network: Qwen2ForCausalLM) -> dict[str, LowRank]:
    """Freezes the network and adds a pair of matrices to its target modules; returns them by name."""
    network.requires_grad_(False)
    pairs = {}
    for name, module in list(network.named_modules()):
        if name.endswith(TARGETS):
            pairs[name] = LowRank(module.weight)
            parametrize.register_parametrization(module, "weight", pairs[name])
    return pairs


def greeting(lessons: Lessons) -> Conversation:
    """A question of the training data, with the adapter's answer."""
    asked = next(one for one in lessons.single_turns().messages if one["role"] == "user")
    return Conversation([asked, {"role": "assistant", "content": SENTENCE}], [])


def train(network: Qwen2ForCausalLM, lessons: Lessons, pairs: dict[str, LowRank]) -> float:
    """Runs the steps of AdamW on the pairs only; returns the last loss."""
    optimizer = torch.optim.AdamW([one for pair in pairs.values() for one in pair.parameters()], lr=RATE)
    lessons.stage = lambda: greeting(lessons)
    loss = torch.tensor(0.0)
    questions = list(islice(lessons.batches(), BATCHES))
    for _, (ids, labels) in zip(range(STEPS), cycle(questions), strict=False):
        logits = network(ids[:ROWS]).logits[:, :-1]
        targets = labels[:ROWS, 1:]
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.item())


def save(pairs: dict[str, LowRank], folder: Path) -> None:
    """Writes the adapter as PEFT does."""
    folder.mkdir(exist_ok=True)
    tensors = {}
    for name, pair in pairs.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = pair.a.detach().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = pair.b.detach().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE,
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": list(TARGETS),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.engine.train.adapter", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ADAPTER, help="folder for the adapter")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL / "tokenizer")
    network = Qwen2ForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    pairs = attach(network)
    loss = train(network, Lessons(tokenizer, SEED), pairs)
    print(f"loss {loss:.5f}")
    save(pairs, options.folder)


if __name__ == "__main__":
    main()
