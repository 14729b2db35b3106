"""The command and the engine agree on which adapters fit, though each has a check of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine_start import adapters as engine
from engine_start.settings import LORA_RANKS
from infra.deployment import model_settings
from ops import adapter_files
from ops.account import Failed

BASE = "Qwen/Qwen2.5-7B-Instruct"
VALUES = st.none() | st.booleans() | st.integers(-1, 600) | st.floats(0, 20) | st.text(max_size=4)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "peft_type": st.sampled_from(["LORA", "lora", "IA3", None, 1]),
        "base_model_name_or_path": st.sampled_from([BASE, BASE.lower(), None, [BASE]]),
        "r": VALUES,
        "rank_pattern": st.none() | VALUES | st.dictionaries(st.text(max_size=3), VALUES) | st.lists(VALUES),
    },
)
FIT = {"peft_type": "LORA", "base_model_name_or_path": BASE, "r": 8}


def test_both_know_the_same_files_and_ranks() -> None:
    assert (adapter_files.CONFIG, adapter_files.WEIGHTS) == (engine.CONFIG, engine.WEIGHTS)
    assert model_settings.LORA_RANKS == LORA_RANKS
    assert adapter_files.LATER_RANK == engine.LATER_RANK


@given(config=CONFIGS.map(lambda one: {**FIT, **one}) | CONFIGS, most=st.sampled_from([None, 1, 64, 512]))
@example(config={**FIT, "r": 16}, most=None)
@example(config={**FIT, "r": 17}, most=None)
@example(config={**FIT, "rank_pattern": {"q": 64}}, most=64)
def test_verdicts_are_the_same(
    config: dict[str, Any], most: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = json.dumps(config).encode()
    place: Path = tmp_path_factory.getbasetemp()
    (place / engine.CONFIG).write_bytes(text)
    verdicts: list[int | None] = []
    try:
        verdicts.append(
            engine.checked("a", place, base=BASE, most=most or engine.LATER_RANK, where="ADAPTERS_FROM").rank
        )
    except engine.UnfitAdapter:
        verdicts.append(None)
    try:
        verdicts.append(adapter_files.rank_of(text, model_settings.Model(id=BASE, max_lora_rank=most)))  # type: ignore[arg-type]
    except Failed:
        verdicts.append(None)
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"[]", b"null", b'"LORA"'])
def test_other_content_is_rejected_by_both(content: bytes, tmp_path: Path) -> None:
    (tmp_path / engine.CONFIG).write_bytes(content)
    with pytest.raises(engine.UnfitAdapter):
        engine.checked("a", tmp_path, base=BASE, most=16, where="ADAPTERS_FROM")
    with pytest.raises(Failed):
        adapter_files.rank_of(content, model_settings.Model())


def test_configuration_of_any_length_is_not_read(tmp_path: Path) -> None:
    (tmp_path / engine.CONFIG).write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(Failed, match="has more than 1,048,576 bytes"):
        adapter_files.Source(None, str(tmp_path)).config()  # type: ignore[arg-type]
