"""The figures that wait for a GPU, in one command: `python -m tests.benchmarks.kernels`. See docs/speed.md.

For every workload that `autograder bench` times: the reference kernel against plain PyTorch, `torch.compile` and
PyTorch's own function, and against the rates that the device was seen to reach; the harness's clock against CUDA
events; and how often a verdict flips when the same kernel is graded again and again. Exit 0: measured; 1: no such
device here; 2: bad usage; 3: the harness or a reference failed.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autograder.course import Course, load_course
from autograder.errors import AutograderError, UsageError

if TYPE_CHECKING:
    from tests.benchmarks.kernel_figures import Found

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = ("no GPU: PyTorch sees no CUDA device here, so nothing was measured; run the same command on a machine with "
          "an NVIDIA GPU and Triton (`--device cpu` tries it out on workloads of up to 64 MiB)")
NO_DEVICE = 1


def says(line: str) -> None:
    print(f"measuring: {line}", file=sys.stderr, flush=True)


def run(course: Course, units: Sequence[str], kind: str, parts: Sequence[str], regrades: int, near: float,
        json_file: Path | None, **measuring: Any) -> int:
    """The exit code. `measuring`: rules, clock and cache_bytes, for tests."""
    from autograder.solution.interpreter import expect_kernels
    from autograder.speed.device import open_device
    from autograder.speed.workloads import speed_checks
    from tests.benchmarks.kernel_tables import tables
    chosen = [course.unit(unit) for unit in units] or list(course.units.values())
    device = open_device(kind)
    if device is None:
        print(f"tests.benchmarks.kernels: {NO_GPU}")
        return NO_DEVICE
    if kind == "cpu":
        expect_kernels(course)
    found: list[Found] = []
    ceilings: dict[str, Any] = {}
    for unit in chosen:
        checks = speed_checks(unit)
        if not checks:
            continue
        with _measuring(course, unit.id, device, parts, regrades, near, measuring) as measure:
            ceilings[unit.id] = asdict(measure.session.ceilings)
            for check in checks:
                for one in measure.found(check):
                    found.append(one)
                    _write(json_file, device.describe(), ceilings, found)  # what a run lost halfway had measured stays
    print("\n".join([f"{', '.join(f'{name} {text}' for name, text in device.describe().items())}", "", *tables(found)]))
    return 0


@contextmanager
def _measuring(course: Course, unit: str, device: Any, parts: Sequence[str], regrades: int, near: float,
               measuring: dict[str, Any]) -> Iterator[Any]:
    from autograder.solution.material import Material
    from autograder.speed.bench import open_session
    from autograder.speed.statistics import Rules
    from tests.benchmarks.kernel_figures import Measuring
    material = Material(course, course.units[unit])
    options = {"rules": Rules(), "clock": time.perf_counter, **measuring}
    with open_session(device, material, **options) as session:
        yield Measuring(session, material, parts, regrades, near, says)


def _write(file: Path | None, device: dict[str, str], ceilings: dict[str, Any], found: Sequence[Found]) -> None:
    from autograder.files import write_atomically
    if file is not None:
        text = {"schema": 1, "device": device, "ceilings": ceilings, "workloads": [one.as_json() for one in found]}
        write_atomically(file, json.dumps(text, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    from tests.benchmarks.kernel_figures import PARTS
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kernels", description=__doc__.partition("\n")[0])
    parser.add_argument("units", nargs="*", metavar="UNIT", help="all that have speed checks without any")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--regrades", type=int, default=20, metavar="N", help="grades of each kernel, for `verdicts`")
    parser.add_argument("--near", type=float, default=1.05, metavar="X",
                        help="the slow kernel takes X times what still gives all points; 1 is on the threshold itself")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure, written after each workload")
    given = parser.parse_args(arguments)
    if given.regrades < 1 or given.near <= 0:
        parser.error(f"--regrades {given.regrades} --near {given.near}: expected at least 1, and more than 0")
    try:
        return run(load_course(ROOT / "course.yml"), given.units, given.device, given.parts, given.regrades, given.near,
                   given.json)
    except (AutograderError, ValueError) as error:
        print(f"tests.benchmarks.kernels: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, AutograderError) else UsageError.exit_code


if __name__ == "__main__":
    sys.exit(main())
