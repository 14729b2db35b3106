"""Trains the tiny model on the CPU from a fixed seed: `python -m tests.e2e.engine.train`."""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from tests.e2e.engine.train.conversations import Conversation, draw_conversation, draw_copy
from tests.e2e.engine.train.network import (
    check_hidden_states,
    hidden_states,
    new_network,
    rotary_tables,
    save,
)
from tests.e2e.engine.train.tokenizer import END_OF_TURN, START_OF_TURN, build_tokenizer

MODEL = Path(__file__).resolve().parents[1] / "model"
CHAT_TEMPLATE = MODEL / "tokenizer" / "chat_template.jinja"
SEED = 2
THREADS = 2  # another order of summation gives other weights
STEPS = 3800
COPY_UNTIL, SHORT_UNTIL = 0.08, 0.35  # shares of the steps: copying, then one turn, then whole conversations
PEAK_RATE, WARM_UP, DECAY_FROM = 3e-3, 100, 0.4
TOKENS_A_BATCH = 4096
LONGEST = 900  # tokens
IGNORED = -100  # cross_entropy's default ignore_index
REPORT_EVERY = 100  # steps

Sample = tuple[list[int], list[int]]  # token ids, and the same as labels


class Lessons:
    """An endless source of training batches; `stage` selects what they are drawn from."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.stage: Callable[[], Conversation] = self.copying
        self._tokenizer = tokenizer
        self._rng = Random(seed)
        self._opening = tokenizer.encode(f"{START_OF_TURN}assistant\n", add_special_tokens=False)
        self._end = tokenizer.convert_tokens_to_ids(END_OF_TURN)

    def copying(self) -> Conversation:
        text = draw_copy(self._rng)
        return Conversation([{"role": "user", "content": text}, {"role": "assistant", "content": text}], [])

    def single_turns(self) -> Conversation:
        return draw_conversation(self._rng, longest=1)

    def conversations(self) -> Conversation:
        return draw_conversation(self._rng)

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Returns ids and labels, each (batch, length), of conversations of similar length."""
        while True:
            pool = sorted((self._sample() for _ in range(400)), key=lambda sample: len(sample[0]))
            batches: list[list[Sample]] = [[]]
            for sample in pool:
                if len(sample[0]) * (len(batches[-1]) + 1) > TOKENS_A_BATCH and batches[-1]:
                    batches.append([])
                batches[-1].append(sample)
            self._rng.shuffle(batches)
            yield from map(self._padded, batches)

    def _sample(self) -> Sample:
        while True:
            lesson = self.stage()
            text = self._tokenizer.apply_chat_template(
                lesson.messages, tools=lesson.tools or None, tokenize=False
            )
            ids = self._tokenizer.encode(text, add_special_tokens=False)
            if len(ids) <= LONGEST:
                return ids, self._labels(ids, lesson.last_only)

    def _labels(self, ids: list[int], last_only: bool) -> list[int]:
        """Returns `ids` where the assistant speaks (optionally only the last time), elsewhere IGNORED."""
        width = len(self._opening)
        starts = [at + width for at in range(len(ids)) if ids[at : at + width] == self._opening]
        labels = [IGNORED] * len(ids)
        for start in starts[-1:] if last_only else starts:
            end = ids.index(self._end, start) + 1
            labels[start:end] = ids[start:end]
        return labels

    def _padded(self, batch: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        length = max(len(ids) for ids, _ in batch)
        padding = self._tokenizer.pad_token_id
        return (
            torch.tensor([ids + [padding] * (length - len(ids)) for ids, _ in batch]),
            torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in batch]),
        )


def train(network: Qwen2ForCausalLM, lessons: Lessons, steps: int) -> None:
    """Runs `steps` steps of AdamW in bfloat16 autocast; reports progress on standard error."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    tables = rotary_tables(LONGEST)
    started, right, seen = time.monotonic(), 0, 0
    for step, (ids, labels) in zip(range(steps), lessons.batches(), strict=False):
        done = step / steps
        lessons.stage = stage(lessons, done)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, done)
        wanted = labels[:, 1:] != IGNORED
        targets = labels[:, 1:][wanted]
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.lm_head(hidden_states(network, ids, tables)[:, :-1][wanted])
        loss = functional.cross_entropy(logits.float(), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        right += int((logits.argmax(-1) == targets).sum())
        seen += targets.numel()
        if (step + 1) % REPORT_EVERY == 0:
            report(step + 1, steps, time.monotonic() - started, loss.item(), 1 - right / seen)
            right, seen = 0, 0


def stage(lessons: Lessons, done: float) -> Callable[[], Conversation]:
    if done < COPY_UNTIL:
        return lessons.copying
    return lessons.single_turns if done < SHORT_UNTIL else lessons.conversations


def learning_rate(step: int, done: float) -> float:
    """The learning rate: a linear rise, a plateau, then half a cosine down to 2% of the peak."""
    decay = 0.5 * (1 + math.cos(math.pi * max(0.0, done - DECAY_FROM) / (1 - DECAY_FROM)))
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * decay)


def report(step: int, steps: int, seconds: float, loss: float, wrong: float) -> None:
    left = seconds / step * (steps - step) / 60
    sys.stderr.write(
        f"step {step}/{steps}, {seconds:.0f} s, {left:.1f} min left: "
        f"loss {loss:.4f}, wrong tokens {wrong:.3%}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.engine.train", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=MODEL, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    tokenizer = build_tokenizer(CHAT_TEMPLATE.read_text())
    network = new_network(tokenizer)
    check_hidden_states(network)
    train(network, Lessons(tokenizer, SEED), options.steps)
    save(network, tokenizer, options.folder)


if __name__ == "__main__":
    main()
