"""The network: a minimal Qwen2 architecture, and a forward pass with few operations for training."""

from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

HIDDEN, LAYERS, HEADS, FEED_FORWARD = 128, 4, 4, 384
CONTEXT = 2048  # positions that the configuration allows
_INITIAL_STD = 0.08  # about 1/sqrt(HIDDEN): with Qwen2's 0.02, copying is learnt many times later
_ROPE_BASE = 10_000.0


def new_network(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Builds a network with untrained weights, drawn from torch's current seed."""
    network = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            intermediate_size=FEED_FORWARD,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if weights.dim() == 2:
                weights.normal_(0, _INITIAL_STD)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights.mul_((2 * LAYERS) ** -0.5)
    return network


def rotary_tables(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns cosines and sines of the rotary embedding, each (length, HIDDEN // HEADS)."""
    size = HIDDEN // HEADS
    inverse = 1.0 / (_ROPE_BASE ** (torch.arange(0, size, 2).float() / size))
    angles = torch.outer(torch.arange(length).float(), inverse).repeat(1, 2)
    return angles.cos(), angles.sin()


def hidden_states(
    network: Qwen2ForCausalLM, ids: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Computes the last layer's output for `ids` (batch, length), as (batch, length, HIDDEN).

    The result equals that of `network.model` with the same parameters, for right-padded batches.
    """
    body, (batch, length) = network.model, ids.shape
    cos, sin = tables[0][:length], tables[1][:length]
    eps = network.config.rms_norm_eps
    x = functional.embedding(ids, body.embed_tokens.weight)
    for layer in body.layers:
        y = functional.rms_norm(x, (HIDDEN,), layer.input_layernorm.weight, eps)
        x = x + _attention(layer.self_attn, y, cos, sin).reshape(batch, length, HIDDEN)
        y = functional.rms_norm(x, (HIDDEN,), layer.post_attention_layernorm.weight, eps)
        mlp = layer.mlp
        gate, up = functional.linear(y, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])).chunk(2, -1)
        x = x + functional.linear(functional.silu(gate) * up, mlp.down_proj.weight)
    return functional.rms_norm(x, (HIDDEN,), body.norm.weight, eps)


def check_hidden_states(network: Qwen2ForCausalLM) -> None:
    """Checks `hidden_states` against transformers.

    Raises:
        RuntimeError: The result differs from what this release of transformers computes.
    """
    ids = torch.arange(60).view(2, 30)
    with torch.no_grad():
        ours = hidden_states(network, ids, rotary_tables(30))
        theirs = network.model(ids).last_hidden_state
    if not torch.allclose(ours, theirs, atol=1e-4):
        raise RuntimeError(f"hidden_states differs by up to {(ours - theirs).abs().max():.2g}")


def _attention(
    attention: torch.nn.Module, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    batch, length, _ = x.shape
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    joined = functional.linear(
        x, torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    )
    heads = joined.view(batch, length, 3 * HEADS, HIDDEN // HEADS).transpose(1, 2)
    queries_keys, values = heads[:, : 2 * HEADS], heads[:, 2 * HEADS :]
    half = HIDDEN // HEADS // 2
    rotated = torch.cat([-queries_keys[..., half:], queries_keys[..., :half]], -1)
    queries_keys = queries_keys * cos + rotated * sin
    with torch.autocast("cpu", enabled=False):  # in bfloat16 this operation takes twice as long
        mixed = functional.scaled_dot_product_attention(
            queries_keys[:, :HEADS], queries_keys[:, HEADS:], values.float(), is_causal=True
        )
    return functional.linear(mixed.transpose(1, 2).reshape(batch, length, HIDDEN), attention.o_proj.weight)


def save(network: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Saves the weights (float32 safetensors) in `folder`, tokenizer and chat template in `folder/tokenizer`.

    The tokenizer needs its own folder because transformers replaces the pre-tokenizer of any tokenizer.json
    next to a config.json of type qwen2, which breaks the model.
    """
    network.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder / "tokenizer")
