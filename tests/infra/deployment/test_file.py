"""Reading the deployment file, and the errors for invalid files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra.deployment.file import Deployment, DeploymentError, load_deployment, settings

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "tandem.yaml"

SETTINGS = {setting.path: setting.field for setting in settings()}
SECTIONS = {path.split(".")[0] for path in SETTINGS if "." in path}


def refuse(tmp_path: Path, text: str) -> str:
    """Returns the error message for a file with this text, without the folder."""
    path = tmp_path / "tandem.yaml"
    path.write_text(text)
    with pytest.raises(DeploymentError) as caught:
        load_deployment(path)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_the_shipped_file_is_the_default_deployment() -> None:
    assert load_deployment(SHIPPED).model_dump() == Deployment().model_dump()


def test_shipped_file_has_every_setting_once_with_its_description() -> None:
    text = SHIPPED.read_text()
    document = yaml.safe_load(text)
    named = {
        f"{section}.{name}" if section in SECTIONS else section
        for section, content in document.items()
        for name in (content if section in SECTIONS else [section])
    }
    assert named == set(SETTINGS)
    for path, field in SETTINGS.items():
        assert field.description is not None
        assert f"# {field.description.replace('`', '')}" in text, path


def test_the_shipped_file_names_the_schema_for_editors() -> None:
    first = SHIPPED.read_text().splitlines()[0]
    schema = json.loads((ROOT / first.removeprefix("# yaml-language-server: $schema=")).read_text())
    assert set(schema["properties"]) == set(Deployment.model_fields)
    assert schema["additionalProperties"] is False
    for section in schema["$defs"].values():
        # A section that may also be a word is the last of its forms.
        assert section.get("anyOf", [section])[-1]["additionalProperties"] is False


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_has_a_default_and_a_one_line_description(path: str) -> None:
    field = SETTINGS[path]
    assert not field.is_required()
    assert field.description
    assert "\n" not in field.description
    assert field.description.endswith(".")


@pytest.mark.parametrize("text", ["", "# nothing\n", "network:\nmodel: {}\ngpu: null\n", "{}"])
def test_omitted_settings_have_their_defaults(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tandem.yaml"
    path.write_text(text)
    assert load_deployment(path).model_dump() == Deployment().model_dump()


def test_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "prod.yaml"
    path.write_text(
        "name: prod\n"
        "tags: {team: search}\n"
        "network:\n"
        "  existing_vpc:\n"
        "    vpc_id: vpc-0123456789abcdef0\n"
        "    cidr: 10.1.0.0/16\n"
        "    availability_zones: [eu-west-1a, eu-west-1b]\n"
        "    private_subnet_ids: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]\n"
        "gpu: {instance_types: [g6.12xlarge, g5.12xlarge], gpus_per_task: 4}\n"
        "model: {gpu_memory_utilization: 1}\n"
    )
    deployment = load_deployment(path)
    assert deployment.tags == {"team": "search"}
    assert deployment.network.existing_vpc is not None
    assert deployment.network.existing_vpc.availability_zones == ("eu-west-1a", "eu-west-1b")
    assert deployment.gpu.instance_types == ("g6.12xlarge", "g5.12xlarge")
    assert deployment.model.gpu_memory_utilization == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "gpu:\n  replica: 2",
            "tandem.yaml:2: gpu.replica: unknown setting; did you mean gpu.replicas?",
        ),
        (
            "gpu:\n\n  max_model_len: 4096",
            "tandem.yaml:3: gpu.max_model_len: unknown setting; did you mean model.max_model_len?",
        ),
        ("netwrk: {nat: one}", "tandem.yaml:1: netwrk: unknown setting; did you mean network?"),
        (
            "xyzzy: 1",
            "tandem.yaml:1: xyzzy: unknown setting; docs/deployment-reference.md lists all settings",
        ),
        ("gpu: {capacity: spott}", "tandem.yaml:1: gpu.capacity: 'spott': must be 'on_demand' or 'spot'"),
        (
            "orchestrator:\n  stop_timeout_seconds: 121",
            "tandem.yaml:2: orchestrator.stop_timeout_seconds: 121: must be less than or equal to 120",
        ),
        ("model: {max_model_len: 8k}", "tandem.yaml:1: model.max_model_len: '8k': must be a valid integer"),
        ("model: {max_model_len: 8.5}", "tandem.yaml:1: model.max_model_len: 8.5: must be a valid integer"),
        (
            'model: {max_model_len: "4096"}',
            "tandem.yaml:1: model.max_model_len: '4096': must be a valid integer",
        ),
        ("name: 12", "tandem.yaml:1: name: 12: must be text; put it in quotes"),
        ("ingress: {cloudfront: 1}", "tandem.yaml:1: ingress.cloudfront: 1: must be a valid boolean"),
        (
            "gpu: {instance_types: g5.xlarge}",
            "tandem.yaml:1: gpu.instance_types: 'g5.xlarge': must be a list, such as",
        ),
        ("gpu: {instance_types: []}", "tandem.yaml:1: gpu.instance_types: []: "),
        (
            "gpu:\n  instance_types:\n  - g5.xlarge\n  - large",
            "tandem.yaml:4: gpu.instance_types.1: 'large': must look like g5.xlarge",
        ),
        ("logs: 7", "tandem.yaml:1: logs: 7: must be a section of names and values"),
        (
            "logs: {retention_days: 31}",
            "tandem.yaml:1: logs.retention_days: 31: CloudWatch Logs does not support this",
        ),
        (
            "network: {cidr: 10.0.0.1/16}",
            "tandem.yaml:1: network.cidr: '10.0.0.1/16': must be an IPv4 network",
        ),
        (
            "network: {cidr: 10.0.0.0/8}",
            "tandem.yaml:1: network.cidr: '10.0.0.0/8': must be a network between /16",
        ),
        ("tags: {aws:team: x}", "tandem.yaml:1: tags: invalid tag 'aws:team'"),
        (
            "ingress: {hosted_zone_id: Z0123456789}",
            "tandem.yaml:1: ingress: hosted_zone_id requires a domain: set",
        ),
        ("model:\n  id: gpt2", "tandem.yaml:2: model.id: 'gpt2': must look like Qwen/Qwen2.5-7B-Instruct"),
        ("network:\n  existing_vpc: {}", "tandem.yaml:2: network.existing_vpc.vpc_id: is required"),
        ("- a", "tandem.yaml: the file: ['a']: must be a section of names and values"),
        (
            "name: a\nregion: us-east-1\nname: b",
            "tandem.yaml:3: 'name' is set twice, first on line 1; keep one",
        ),
        ("gpu: {a: b", "tandem.yaml:1: not valid YAML: "),
        ("gpu:\n\t- a", "tandem.yaml:2: not valid YAML: "),
        ("[a]: b", "tandem.yaml:1: a key must be a single word"),
        ("tags: !!python/object:os.system {}", "tandem.yaml:1: "),
    ],
)
def test_errors_name_file_line_setting_value_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    assert message in refuse(tmp_path, text)


def test_one_subnet_per_zone(tmp_path: Path) -> None:
    vpc = (
        "network:\n"
        "  existing_vpc:\n"
        "    vpc_id: vpc-0123456789abcdef0\n"
        "    cidr: 10.1.0.0/16\n"
        "    availability_zones: [eu-west-1a, eu-west-1b, eu-west-1c]\n"
        "    private_subnet_ids: [subnet-0123456789abcdef0, subnet-0123456789abcdef1]\n"
    )
    assert "tandem.yaml:2: network.existing_vpc: private_subnet_ids has 2 subnets for 3 zones" in refuse(
        tmp_path, vpc
    )


def test_all_problems_are_reported_in_line_order(tmp_path: Path) -> None:
    lines = refuse(tmp_path, "gpu:\n  replicas: 0\nmodel:\n  id: 3\nnames: x\n").splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "4", "5"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00name"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tandem.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeploymentError, match=f"^{path}: cannot be read: "):
        load_deployment(path)


def test_aliases_that_multiply_are_an_error(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 25))]
    assert refuse(tmp_path, "\n".join(lines)).startswith("tandem.yaml: more than 100,000 values")
    assert "tandem.yaml: not valid YAML" in refuse(tmp_path, "tags: &t {a: *t}")


@pytest.mark.parametrize(
    "value", ["!!timestamp x", "!!int x", "!!float x", "!!bool x", "!!binary é", "!!set [a]", "!!omap x"]
)
def test_tag_that_does_not_fit_its_value_is_an_error(tmp_path: Path, value: str) -> None:
    assert refuse(tmp_path, f"name: {value}").startswith("tandem.yaml:")


@given(path=st.sampled_from(sorted(SETTINGS)), data=st.data())
def test_typo_is_answered_with_the_intended_setting(
    tmp_path_factory: pytest.TempPathFactory, path: str, data: st.DataObject
) -> None:
    *section, name = path.split(".")
    letter = data.draw(st.integers(0, len(name) - 1))
    slip = name[:letter] + name[letter + 1 :]
    if not slip or ".".join([*section, slip]) in SETTINGS or (not section and slip in SECTIONS):
        return
    text = f"{section[0]}: {{{slip}: 1}}" if section else f"{slip}: 1"
    if len(name) >= 4:
        assert "did you mean" in refuse(tmp_path_factory.mktemp("slip"), text)


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = st.dictionaries(
    st.sampled_from(sorted({*Deployment.model_fields})) | st.text(max_size=6),
    YAML_VALUES
    | st.dictionaries(
        st.sampled_from(sorted({path.split(".")[-1] for path in SETTINGS})), YAML_VALUES, max_size=4
    ),
    max_size=4,
)


def said(path: Path) -> list[str]:
    """Returns the error message of loading, one line per problem; empty for a valid deployment."""
    try:
        load_deployment(path)
    except DeploymentError as error:
        return str(error).splitlines()
    return []


@given(document=FILES)
def test_any_file_gives_a_deployment_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, document: Any
) -> None:
    path = tmp_path_factory.mktemp("any") / "tandem.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    assert all(line.startswith(str(path)) for line in said(path))


@given(text=st.text(max_size=40))
def test_any_text_gives_a_deployment_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "tandem.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert all(line.startswith(str(path)) for line in said(path))


def test_changing_one_setting_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "tandem.yaml"
    path.write_text("gpu:\n  replicas: 2\n  capacity: spot\n")
    changed = load_deployment(path).with_setting("gpu.instance_types", ["g6.xlarge"])
    assert changed.gpu.instance_types == ("g6.xlarge",)
    assert changed.gpu.replicas == 2
    assert changed.gpu.capacity == "spot"
    assert changed.where("gpu.capacity") == f"{path}:3: "
    assert changed.with_setting("name", "other").where("gpu.capacity") == f"{path}:3: "


def test_position_of_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "tandem.yaml"
    path.write_text("network:\n  availability_zones:\n  - us-east-1a\n  - us-east-1b\ngpu: {replicas: 2}\n")
    deployment = load_deployment(path)
    assert deployment.where("network.availability_zones.1") == f"{path}:4: "
    assert deployment.where("network.nat") == f"{path}:1: "
    assert deployment.where("model.id") == f"{path}: "
    assert Deployment().where("model.id") == ""


@pytest.mark.parametrize("name", ["directory", "requirements"])
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a\0b", "without control characters"),
        ("x" * 300, "too long with 300 characters"),
        ("x/" * 600, "too long with 1,200 characters"),
    ],
)
def test_paths_fit_a_file_system(tmp_path: Path, name: str, path: str, problem: str) -> None:
    message = refuse(tmp_path, yaml.safe_dump({"tools": {name: path}}))
    assert f"tools.{name}" in message
    assert problem in message
