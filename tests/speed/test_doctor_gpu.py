"""What `autograder doctor` says of GPUs: this machine's, a faked one, one that does not work."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autograder.commands.doctor import STAYS_PENDING, gpu_lines, run_doctor
from autograder.course import load_course
from autograder.speed import device
from autograder.speed.device import Device, driver_version

ROOT = Path(__file__).parents[2]
H200 = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=139 << 30, L2_cache_size=50 << 20)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: H200)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(device, "driver_version", lambda: "550.54.15")
    monkeypatch.setattr(device, "triton_version", lambda: "3.9.0")
    return monkeypatch


def test_a_gpu_is_told_with_what_figures_depend_on(faked: Any) -> None:
    first, second = gpu_lines()
    assert first == "GPU        NVIDIA H200, compute capability 9.0, 139 GiB, driver 550.54.15"
    assert second.endswith("is built for CUDA 12.8; Triton 3.9.0") and "pending" not in second
    assert Device("cuda").describe()["driver"] == "550.54.15"


def test_what_is_not_known_is_said_so(faked: Any) -> None:
    faked.setattr(device, "driver_version", lambda: "")
    faked.setattr(device, "triton_version", lambda: "")
    first, second = gpu_lines()
    assert first.endswith("driver not known") and second.endswith("Triton is not installed")


def test_a_gpu_that_does_not_work_is_a_line(faked: Any) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("CUDA driver version is insufficient\nfor CUDA runtime version")
    faked.setattr(torch.cuda, "get_device_properties", fails)
    first, second = gpu_lines()
    assert first.startswith("GPU        one that PyTorch cannot use: CUDA driver version is insufficient")
    assert "\n" not in first and second.endswith(STAYS_PENDING)


@pytest.mark.parametrize(("cuda", "why"), [(None, "is built without CUDA"),
                                           ("12.8", "is built for CUDA 12.8, and sees no device")])
def test_without_a_gpu_points_stay_pending_and_that_is_no_error(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, cuda: str | None, why: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    first, second = gpu_lines()
    assert first == f"GPU        none: PyTorch {torch.__version__} {why}" and second.strip() == STAYS_PENDING
    monkeypatch.setattr("autograder.sandbox.client.Zygote", _Enforced)
    assert run_doctor(load_course(ROOT / "course.yml")) == 0
    assert f"{first}\n{second}\n" in capsys.readouterr().out


class _Enforced:
    """A sandbox that holds; tests/attacks looks at the real one."""

    label = SimpleNamespace(name="ENFORCED", layers=["seccomp"], evidence={})

    def __init__(self, **_: Any): ...

    def __enter__(self) -> _Enforced:
        return self

    def __exit__(self, *_: Any) -> None: ...


@pytest.mark.parametrize(("text", "version"), [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build  (dvs-builder)\n", "575.57.08"),
    ("something else\n", "")])
def test_the_drivers_version_is_read_from_the_kernel(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "version").write_text(text)
    assert driver_version(str(tmp_path / "version")) == version
    assert driver_version(str(tmp_path / "none")) == ""
