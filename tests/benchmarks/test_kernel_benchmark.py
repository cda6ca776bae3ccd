"""`tests.benchmarks.kernels` on a CPU: its baselines are right, its figures are the clock's, and none is invented."""
from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # `tests.benchmarks` is found from the root, wherever pytest starts

from autograder.course import load_course
from autograder.sandbox import libc
from autograder.sandbox.limits import Limits
from autograder.speed import bench as speed_bench
from autograder.speed.device import Ceilings, Device
from autograder.speed.process import open_worker
from autograder.speed.session import Fault
from autograder.speed.timing import Bench, difference
from autograder.speed.workloads import speed_checks
from etude.cells import load_program
from tests.benchmarks import kernel_baselines, kernel_figures, kernel_tables, kernels
from tests.benchmarks.kernel_baselines import BASELINES, Baseline
from tests.benchmarks.kernel_figures import Found, Timed
from tests.speed.kernels import RIGHT, RULES, SEEDS, SOFTMAX, bench, program, sealed_spawn
from tests.speed.speed_course import CHECKS, PlannedClock, speed_course

pytestmark = pytest.mark.skipif(not libc.LINUX, reason="timing shares memory by memfd_create, which only Linux has")
COURSE = load_course(kernels.ROOT / "course.yml")
SOFTMAX_BASELINE = Baseline(("right",), "(right(*inputs, **settings)[0].float(),)",
                            "(torch.softmax(settings['scale'] * inputs[0], dim=-1),)")
TAKES = {"eager": 0.032, "library": 0.022, "compiled": 0.015, "copy": 0.002, "no-op": 1e-4}
"""Seconds by the planned clock, the constant cost not yet taken off."""
RATE = 1e8


@pytest.fixture(autouse=True)
def outside_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check files are read as the command reads them: no run of pytest's is there to know their marks."""
    monkeypatch.setattr(pytest.mark, "_config", None)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Any]:
    from autograder.sandbox.client import Zygote
    with Zygote(serve=speed_bench.SERVE) as found:
        yield found


# ---------------------------------------------------------------------------------------------- the programs

SMALL = {
    "swiglu_triton": lambda r: (r(3, 5), r(3, 5)), "swiglu_triton_backward": lambda r: (r(3, 5), r(3, 5), r(3, 5)),
    "rms_norm_triton": lambda r: (r(3, 5), r(5)), "rms_norm_triton_backward": lambda r: (r(3, 5), r(3, 5), r(5)),
    "flash_attention_fwd": lambda r: (r(2, 3, 7, 4), r(2, 3, 7, 4), r(2, 3, 7, 4)),
    "linear_attention_chunked": lambda r: (r(2, 3, 7, 4), r(2, 3, 7, 4), r(2, 3, 7, 4), torch.tensor([0.9, 0.5, 1.0])),
    "linear_recurrence_triton": lambda r: (r(2, 7, 3).tanh(), r(2, 7, 3), r(2, 3)),
    "linear_recurrence_triton_backward": lambda r: (r(2, 7, 3), r(2, 7, 3).tanh(), r(2, 7, 3), r(2, 3)),
    "csr_spmm": lambda r: (torch.tensor([0, 2, 2, 5]).int(), torch.tensor([0, 2, 1, 1, 0]).int(), r(5), r(3, 4)),
    "selective_scan_fwd": lambda r: (r(2, 7, 3), r(2, 7, 3), -r(3, 4).abs(), r(2, 7, 4), r(2, 7, 4), r(3)),
    "fused_ls_cross_entropy": lambda r: (r(4, 9), torch.tensor([3, -100, 0, 8])),
}
"""Inputs of every kernel at a size that fits here."""


@pytest.mark.parametrize("unit", [unit.id for unit in COURSE.units.values() if unit.triton])
def test_every_kernel_of_the_course_has_a_baseline_that_is_right(unit: str) -> None:
    """A new kernel exercise needs an entry in BASELINES, and inputs in SMALL."""
    workloads = [workload for check in speed_checks(COURSE.units[unit]) for workload in check.workloads]
    assert workloads
    for workload in workloads:
        agrees(workload, COURSE.units[unit].checks_path)


def agrees(workload: Any, checks: Path) -> None:
    """The workload's baselines give what it expects."""
    generator = torch.Generator().manual_seed(0)
    inputs = SMALL[workload.call](lambda *shape: torch.randn(shape, generator=generator))
    expected = workload.expected(*inputs, **workload.settings)
    baseline = BASELINES[workload.call]
    programs = [kernel_baselines.eager(baseline, workload, checks)]
    if baseline.library:
        programs.append(kernel_baselines.library(baseline, workload))
    for one, count in zip(programs, (len(expected), baseline.library_outputs), strict=False):
        outputs = [torch.full_like(right, torch.nan) for right in expected[:count]]
        text = one[0]["source"]
        if count < len(expected):
            text = text.replace(f"tensors[{len(expected)}:]", f"tensors[{count}:]")
        loaded = load_program([{**one[0], "source": text}])
        assert not loaded.errors, loaded.errors
        loaded.namespace[workload.call](*outputs, *inputs, **workload.settings)
        for got, right in zip(outputs, expected, strict=False):
            assert difference(got, right, 1e-5) == ""


@pytest.fixture
def checks(tmp_path: Path) -> Path:
    path = tmp_path / "checks.py"
    path.write_text(CHECKS)
    return path


def test_torch_compile_of_a_baseline_is_timed_and_verified(checks: Path) -> None:
    spawn = lambda memory, size: open_worker(Limits(cpu_seconds=300), memory)  # noqa: E731
    right = kernel_baselines.compiled(SOFTMAX_BASELINE, SOFTMAX, checks)
    with bench(spawn) as found:
        assert found.block(right, SEEDS) == [1.0] * RULES.calls


def test_programs_do_what_they_say(zygote: Any, checks: Path) -> None:
    with bench(sealed_spawn(zygote)) as found:
        for one in (kernel_baselines.eager(SOFTMAX_BASELINE, SOFTMAX, checks),
                    kernel_baselines.library(SOFTMAX_BASELINE, SOFTMAX),
                    kernel_baselines.padded(program(RIGHT), SOFTMAX, 1000, 3)):
            assert found.block(one, SEEDS) == [1.0] * RULES.calls
        wrong = Baseline(("right",), "(1.01 * right(*inputs, **settings)[0].float(),)")
        with pytest.raises(Fault, match="is wrong"):
            found.block(kernel_baselines.eager(wrong, SOFTMAX, checks), SEEDS)
        with pytest.raises(Fault, match="is wrong"):
            found.block(kernel_baselines.copying(SOFTMAX), SEEDS)


def test_a_reference_of_two_outputs_as_one_of_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    two = "def both(a, b, x):\n    a.copy_(x)\n    b.copy_(x + 1)\n"
    workload = SOFTMAX.__class__("two", "both", lambda g, d: (), (((3,), torch.float32), ((3,), torch.float16)),
                                 lambda x: (x, x + 1), 1e-5, 1, 1)
    made = kernel_baselines.with_first_outputs(program(two), workload, 1, "first")
    namespace = load_program(made).namespace
    out, x = torch.full((3,), torch.nan), torch.arange(3.0)
    namespace["first"](out, x)
    assert torch.equal(out, x) and namespace["_kept"][0].dtype == torch.float16
    assert torch.equal(namespace["_kept"][0], (x + 1).half())


def test_a_check_file_that_lacks_a_function_is_told(checks: Path) -> None:
    with pytest.raises(ValueError, match="no function nobody; mend BASELINES in kernel_baselines.py"):
        kernel_baselines.functions_of(checks, ["right", "nobody"])


# ---------------------------------------------------------------------------------------------- the figures

class Planned(PlannedClock):
    """Goes on by what the program in hand is said to take: by its label, or by the bytes that are copied behind it."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Planned:
        block = Bench.block

        def planned(of: Bench, one: Any, seeds: Any, verify: bool = True) -> list[float]:
            label, source = one[-1]["label"], one[-1]["source"]
            self.step = TAKES.get(label, 0.0101)
            if label == "padded":  # a third more than the measured rate says
                size, repeats = (int(re.search(where, source)[1]) for where in
                                 (r"zeros\((\d+),", r"range\((\d+)\):\n +_padding\[0\]"))
                self.step += 4 / 3 * 2 * size * repeats / RATE
            return block(of, one, seeds, verify)
        monkeypatch.setattr(Bench, "block", planned)
        return self


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, zygote: Any) -> dict[str, Any]:
    """What `run` measures with. A sealed worker can compile nothing: its program is that of plain PyTorch, labelled."""
    monkeypatch.setattr(speed_bench, "open_zygote", lambda *args, **options: nullcontext(zygote))
    monkeypatch.setattr(Device, "ceilings", lambda *args: Ceilings(RATE, {"torch.float32": 1e10}))
    monkeypatch.setitem(BASELINES, "softmax_into", SOFTMAX_BASELINE)
    monkeypatch.setattr(kernel_baselines, "compiled", lambda *args: [
        {**kernel_baselines.eager(*args)[0], "label": "compiled"}])
    clock = Planned().install(monkeypatch)
    return {"rules": RULES, "clock": clock, "cache_bytes": 0}


def run(folder: Path, planned: dict[str, Any], parts: Any = kernel_figures.PARTS, regrades: int = 3) -> Any:
    file = folder / "figures.json"
    assert kernels.run(speed_course(folder), [], "cpu", parts, regrades, 1.05, file, **planned) == 0
    return json.loads(file.read_text())


def test_all_figures_are_what_the_clock_said(tmp_path: Path, planned: Any, capsys: pytest.CaptureFixture) -> None:
    stored = run(tmp_path, planned)
    (one,) = stored["workloads"]
    seconds = {name: timed["seconds"] for name, timed in one["timed"].items()}
    assert seconds == pytest.approx({"reference": 0.01, "eager": 0.0319, "torch.compile": 0.0149, "copy": 0.0019,
                                     "library": 0.0219})
    assert one["bandwidth_fraction"] == pytest.approx(8 * 64 * 96 / RATE / 0.01)
    assert len(one["direct_seconds"]) == RULES.calls and stored["device"]["device"] == "cpu"
    assert {kernel: [grade["verdict"] for grade in grades] for kernel, grades in one["verdicts"].items()} == {
        "reference": ["pass"] * 3, "near": ["fail"] * 3}
    assert [grade["ratio"] for grade in one["verdicts"]["near"]] == pytest.approx([1.26] * 3, rel=1e-3), "adjusted"
    assert one["flipped"] == {"reference": 0, "near": 0}
    said = capsys.readouterr().out
    # Plain PyTorch returns its results: the copy into the destinations is not counted. torch.compile may do without.
    row = "| softmax_into, 64 x 96, float32 | 10 ms | 1.000 [1.000, 1.000] | 0.05 | 0.05 | memory |"
    assert f"{row} × 3.00 | × 1.49 | × 2.00 |" in said
    assert "| softmax_into, 64 x 96, float32 | near | 3 | 3 fail | 1.260 to 1.260 | 0 |" in said
    assert "least fraction of the copy bandwidth | ≥ 0.8 | 0.049 | 1 of 1 |" in said
    assert "`scaled_dot_product_attention` | ≥ 0.3 | not measured | 0 of 0 |" in said


def test_the_parts_that_are_not_wanted_are_not_measured(tmp_path: Path, planned: Any,
                                                        capsys: pytest.CaptureFixture) -> None:
    (one,) = run(tmp_path, planned, ["clock"])["workloads"]
    assert set(one["timed"]) == {"reference"} and one["direct_seconds"] and not one["verdicts"]
    assert "| grades whose verdict flipped | 0 | not measured | 0 kernels |" in capsys.readouterr().out


def test_what_has_no_baseline_is_wrong_or_too_small_has_no_figure(
        tmp_path: Path, planned: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    wrong = Baseline(("right",), "(right(*inputs, **settings)[0].float() + 1,)")
    monkeypatch.setitem(BASELINES, "softmax_into", wrong)
    monkeypatch.setitem(TAKES, "copy", 1.5e-4)
    (one,) = run(tmp_path, planned, ["baselines"])["workloads"]
    assert one["timed"]["eager"]["seconds"] is None and "is wrong" in one["timed"]["eager"]["why"]
    assert "too small to be timed here" in one["timed"]["copy"]["why"]
    assert "- softmax_into, 64 x 96, float32: eager: the output of call 1 is wrong" in capsys.readouterr().out
    monkeypatch.delitem(BASELINES, "softmax_into")
    (one,) = run(tmp_path, planned, ["baselines"])["workloads"]
    assert "no baseline for softmax_into" in one["timed"]["eager"]["why"]


def test_the_devices_own_clock_is_set_against_the_harness() -> None:
    one = Found("u", "e", "w", 1.0, 1.0, {"reference": Timed("", 1.03, 1.03, 1.0)}, direct_seconds=[0.9, 1.0, 5.0])
    assert one.clock_error == pytest.approx(0.03)
    none = Found("u", "e", "w", 1.0, 1.0, {"reference": Timed("inconclusive")}, direct_seconds=[1.0])
    assert none.clock_error is None


def test_flips_are_counted_against_the_most_frequent_verdict() -> None:
    def graded(*verdicts: str) -> Found:
        return Found("u", "e", "w", 1.0, 1.0, {"reference": Timed("", 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)},
                     verdicts={"near": [Timed("", ratio=1.2, verdict=verdict) for verdict in verdicts]})
    one = graded("fail", "pass", "fail", "inconclusive")
    assert one.flipped("near") == 2 and graded("pass", "pass").flipped("near") == 0 == one.flipped("reference")
    assert "| grades whose verdict flipped | 0 | 2 | 1 kernels |" in kernel_tables.targets([one])
    assert any("2 fail, 1 pass, 1 inconclusive" in row for row in kernel_tables.tables([one]))


def test_a_kernel_that_operations_bound_does_not_count_for_the_bandwidth() -> None:
    timed = {"reference": Timed("", 2.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.9)}
    found = [Found("u", "a", "w", 1.8, 1.8, timed), Found("u", "b", "w", 0.1, 1.8, timed)]
    assert [one.bound_by_memory for one in found] == [True, False]
    assert any(row.endswith("| ≥ 0.8 | 0.900 | 1 of 1 |") for row in kernel_tables.targets(found))


def test_figures_of_a_machine_that_was_not_steady_settle_nothing() -> None:
    unsteady = Timed("the machine was not steady", 2.0, 2.0, 1.2, 1.0, 1.3, 0.3, 0.9, "inconclusive")
    one = Found("u", "flash_attention_fwd", "w", 1.8, 1.8, {"reference": unsteady, "library": unsteady}, [1.0])
    rows = kernel_tables.tables([one])
    assert "- flash_attention_fwd, w: reference: the machine was not steady" in rows
    assert [row.split("|")[3:5] for row in kernel_tables.targets([one])[2:6]] == [[" not measured ", " 0 of 1 "]] * 4


# ---------------------------------------------------------------------------------------------- the command

@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_without_a_gpu_it_says_what_it_needs(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert kernels.main(["--json", str(tmp_path / "none.json")]) == kernels.NO_DEVICE == 1
    said = capsys.readouterr()
    assert said.out.startswith("tests.benchmarks.kernels: no GPU: ") and said.out.count("\n") == 1 and said.err == ""
    assert not (tmp_path / "none.json").exists()


def test_a_workload_for_a_gpu_is_too_large_for_a_cpu(capsys: pytest.CaptureFixture, zygote: Any,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_bench, "open_zygote", lambda *args, **options: nullcontext(zygote))
    monkeypatch.setattr(Device, "ceilings", lambda *args: Ceilings(1e10, {"torch.float32": 1e10}))
    assert kernels.main(["normalization_kernels", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "| rms_norm_triton, forward, 131072 x 4096, float32 | not measured |" in said
    assert "reference: too large for a CPU; a GPU is needed" in said
    assert "least fraction of the copy bandwidth | ≥ 0.8 | not measured | 0 of " in said


def test_usage_errors(capsys: pytest.CaptureFixture) -> None:
    assert kernels.main(["nobody"]) == 2 and "unknown unit 'nobody'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        kernels.main(["--regrades", "0"])
    assert ended.value.code == 2
