"""What a student waits for: `python -m tests.benchmarks.students`. A real kernel, timed from request to idle."""
from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autograder.course import load_course
from autograder.solution.interpreter import expect_kernels
from autograder.solution.material import Material

ROOT = Path(__file__).resolve().parents[2]
READING_SECONDS = 4.0
"""Between the cell with the imports and the first check, a person reads and types."""
IMPORTS = """
import time, torch
wall, cpu = time.perf_counter(), time.process_time()
from etude import check, hint, progress
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def source_of(student: str, grade_id: str) -> str:
    notebook = ROOT / "tests" / "sample_class" / student / "attention" / "attention.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells
                if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


@contextmanager
def kernel(unit: str = "attention") -> Iterator[Callable[[str], tuple[float, float]]]:
    """A kernel in a folder with the released files; `run(source)` gives (wall, CPU) seconds from request to idle."""
    from jupyter_client.manager import start_new_kernel
    with tempfile.TemporaryDirectory() as folder:
        for path in (ROOT / "assignments" / unit).glob(f"{unit}*"):
            shutil.copy(path, folder)
        manager, client = start_new_kernel(cwd=folder, stderr=subprocess.DEVNULL)

        def ask(source: str) -> float:
            """Run a cell; the CPU seconds that the kernel has used so far."""
            reply = client.execute_interactive(source, timeout=120, output_hook=lambda message: None,
                                               user_expressions={"cpu": "__import__('time').process_time()"})
            if reply["content"]["status"] != "ok":
                raise RuntimeError("\n".join(reply["content"].get("traceback", ["the cell failed"])))
            return float(reply["content"]["user_expressions"]["cpu"]["data"]["text/plain"])

        def run(source: str) -> tuple[float, float]:
            before, started = ask(""), time.perf_counter()
            after = ask(source)
            return time.perf_counter() - started, after - before
        try:
            yield run
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def cards(reading: float) -> dict[str, tuple[float, float]]:
    """Seconds to the first card, the same again, one with a mistake named, and the whole notebook."""
    with kernel() as run:
        run(source_of("ada", "setup"))
        run(source_of("ada", "sdpa_masked"))
        time.sleep(reading)
        found = {"first": run('check("sdpa_masked")'), "again": run('check("sdpa_masked")')}
        run(source_of("ben", "sdpa_masked"))
        found["mistake"] = run('check("sdpa_masked")')
        for exercise in ("sdpa_masked", "cross_attention", "grouped_heads", "additive_attention",
                         "sliding_window_attention", "block_sparse_attention", "sparsemax"):
            run(source_of("ada", exercise))
        found["everything"] = run("check()")
        return found


def kernel_cards() -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """For each Triton exercise: seconds of the card on a machine without a GPU, of right code and of its mistakes.

    Of the mistakes every twelfth: a card waits for the interpreter, whatever is wrong.
    """
    course = load_course(ROOT / "course.yml")
    expect_kernels(course)
    for unit in (unit for unit in course.units.values() if unit.triton):
        material = Material(course, unit)
        for exercise in unit.exercises:
            mistakes = [one for one in material.variants if one.exercise == exercise and one.kind == "mistake"][::12]
            programs = {"right": material.reference_program,
                        **{one.id: material.variant_program(one) for one in mistakes}}
            found = {}
            for name, program in programs.items():
                with kernel(unit.id) as run:
                    for cell in program:
                        run(cell["source"])
                    time.sleep(READING_SECONDS)
                    found[name] = run(f"check({exercise!r})")
            yield exercise, found


def import_seconds() -> tuple[float, float]:
    """What `from etude import check, hint, progress` takes when torch is there already."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    wall, cpu = done.stdout.split()
    return float(wall), float(cpu)


def help_seconds() -> tuple[float, float]:
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "etude.cli", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(progress: Callable[[str], None] = lambda what: None, runs: int = 5) -> Iterator[str]:
    """The rows of docs/benchmarks.md: medians of several runs, each in a kernel of its own."""
    progress("imports")
    yield _row("import of `etude` beyond torch", [import_seconds() for _ in range(runs)], "≤ 0.3")
    yield _row("`etude --help`", [help_seconds() for _ in range(runs)], "≤ 0.3")
    progress("cards in a warm kernel")
    warm = [cards(READING_SECONDS) for _ in range(runs)]
    progress("cards at once")
    cold = [cards(0.0) for _ in range(runs)]
    yield _row(f"first card, {READING_SECONDS:g} s after the imports", [one["first"] for one in warm], "≤ 1")
    yield _row("first card, at once after the imports", [one["first"] for one in cold], "")
    yield _row("the same exercise again", [one["again"] for one in warm], "")
    yield _row("a card that names a mistake", [one["mistake"] for one in warm], "≤ 1")
    yield _row("`check()`, 7 exercises", [one["everything"] for one in warm], "")


def kernel_table() -> Iterator[str]:
    """The rows for Triton exercises."""
    for exercise, found in kernel_cards():
        right = found.pop("right")
        yield (f"| `{exercise}` | {right[0]:.1f} | {right[1]:.1f} | {max(wall for wall, _ in found.values()):.1f} "
               f"(of {len(found)}) | ≤ 10 |")


def _row(what: str, seconds: list[tuple[float, float]], target: Any) -> str:
    walls, cpus = zip(*seconds, strict=True)
    return f"| {what} | {statistics.median(walls):.2f} | {min(walls):.2f} | {statistics.median(cpus):.2f} | {target} |"


def main(runs: int = 5) -> None:
    print("| seconds | wall, median | wall, best | CPU, median | target (wall) |\n|---|--:|--:|--:|---|")
    for row in table(lambda what: print(f"measuring: {what}", file=sys.stderr), runs):
        print(row, flush=True)
    print("\n| the card of a kernel, s | wall | CPU | wall with a mistake, slowest | target (wall) |\n"
          "|---|--:|--:|--:|---|")
    for row in kernel_table():
        print(row, flush=True)


if __name__ == "__main__":
    main()
