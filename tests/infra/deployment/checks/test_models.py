"""Rules on several models: each entry is checked as if it were the only one, and named as in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.deployment.catalog import load_catalog
from infra.deployment.checks import check
from infra.deployment.file import Deployment, DeploymentError, load_deployment
from infra.deployment.plan import Plan
from tests.infra.deployment.checks.broken_deployments import SMALL, several

FILE = """\
name: tandem
models:
  chat:
    aliases: [gpt-4o]
    adapters:
      support-tone: s3://acme-adapters/tone
      sql: acme/sql-adapter
  tiny:
    id: Qwen/Qwen2.5-0.5B-Instruct
    instance_types: [g4dn.xlarge]
    min_replicas: 0
    fallback: chat
"""


def read(tmp_path: Path, text: str) -> Deployment:
    path = tmp_path / "tandem.yaml"
    path.write_text(text)
    return load_deployment(path)


def test_findings_name_the_entry_its_line_and_its_fix(tmp_path: Path) -> None:
    deployment = read(tmp_path, FILE)
    [finding] = [one for one in check(deployment) if one.rule == "gpu-dtype"]
    assert finding.describe(deployment) == (
        f"{tmp_path}/tandem.yaml:8: error: models.tiny.dtype: the T4 of g4dn.xlarge has compute capability "
        "7.5; bfloat16 requires 8.0. Fix: models.tiny.dtype: float16, or models.tiny.instance_types: "
        "[g6.xlarge]. [gpu-dtype]"
    )
    for fix in finding.fixes:
        assert check(fix.apply(deployment)) == []


def test_messages_name_settings_as_the_file_does() -> None:
    one = several(one={}, two={**SMALL, "max_num_seqs": 80})
    [finding] = check(one)
    assert finding.place == "models.two.max_num_queued_reqs"
    assert "models.two.max_num_seqs" in finding.message
    assert "models.one" not in finding.message


def test_every_entry_is_a_deployment_of_its_own(tmp_path: Path) -> None:
    deployment = read(tmp_path, FILE)
    chat, tiny = Plan(deployment, load_catalog()).entries
    assert (chat.deployment.entry, tiny.deployment.entry) == ("chat", "tiny")
    assert (chat.label, tiny.label) == ("Chat", "Tiny")
    assert deployment.model == chat.deployment.model
    assert dict(chat.deployment.model.adapters) == {
        "support-tone": "s3://acme-adapters/tone",
        "sql": "acme/sql-adapter",
    }
    assert chat.deployment.gpu.least == 1
    assert tiny.sleeps
    assert not chat.sleeps


def test_short_form_is_one_entry(tmp_path: Path) -> None:
    deployment = read(tmp_path, "model: {max_model_len: 4096}\n")
    [entry] = deployment.entries
    assert (entry, entry.entry, entry.is_main) == (deployment, "", True)


def test_entry_called_main_keeps_the_names_of_one_model() -> None:
    small, main = Plan(several(small=SMALL, main={}), load_catalog()).entries
    assert (small.label, main.label) == ("Small", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: {}\ngpu: {replicas: 1}\nmodels: {one: {}}\n",
            ":1: model: the file has models as well; move the settings of model and gpu to an entry of "
            "models and delete model and gpu. The entry main keeps today's engines",
        ),
        ("models:\n  One: {}\n", ":2: models.One: 'One': must look like small"),
        ("models:\n  a-very-long-name-of-one: {}\n", "String should have at most 16 characters"),
        (
            "models:\n  one:\n    replica: 2\n",
            ":3: models.one.replica: unknown setting; did you mean models.one",
        ),
        (
            "models:\n  one:\n    adapters: {a: /etc}\n",
            ":3: models.one.adapters.a: '/etc': must look like s3://",
        ),
        ("models:\n  one:\n    adapters: {../a: o/r}\n", "'../a': must look like support-tone"),
        (
            "models:\n  one:\n    kind: embeddings\n",
            ":3: models.one.kind: 'embeddings': must be 'chat', 'vision'",
        ),
        ("models:\n  one: {fallback: two}\n  two: {max_lora_rank: 24}\n", ":3: models.two.max_lora_rank: 24"),
    ],
)
def test_invalid_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DeploymentError) as raised:
        read(tmp_path, text)
    assert message in str(raised.value)


def test_gpus_of_every_entry_are_checked() -> None:
    findings = check(several(one={"id": "Qwen/Qwen3-8B"}, two={**SMALL, "gpus_per_task": 2}))
    assert {(one.rule, one.place) for one in findings} >= {
        ("model-fits", "models.one.max_model_len"),
        ("gpus-per-task", "models.two.gpus_per_task"),
    }


def test_changed_setting_reaches_its_entry_only() -> None:
    changed = several(one={}, two=SMALL).with_setting("models.two.max_model_len", 2048)
    assert [one.model.max_model_len for one in changed.entries] == [16384, 2048]
    first = changed.with_setting("model.max_model_len", 1024)
    assert first.with_setting("name", "other").model.max_model_len == 1024
