"""What grading costs: CPU per submission, and sealed against in-process, as ratios within one run."""
from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests" / "sample_class"


def class_of(students: Sequence[str], size: int, folder: Path) -> Path:
    """A class of `size` submissions: the sample notebooks of these students, over and over."""
    for number in range(size):
        name = students[number % len(students)]
        target = folder / f"{name}{number:03d}" / "attention"
        target.mkdir(parents=True)
        target.joinpath("attention.ipynb").write_bytes((SAMPLES / name / "attention/attention.ipynb").read_bytes())
    return folder


def command_cpu(arguments: Sequence[str]) -> float:
    """CPU seconds, user and system, of a command and everything that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def batch(students: Sequence[str], size: int, runs: int) -> tuple[float, float]:
    """(CPU seconds per submission with the start-up shared by `size`, CPU seconds that one more costs); medians."""
    totals: dict[int, list[float]] = {1: [], size: []}
    for _ in range(runs):
        for count, found in totals.items():
            with tempfile.TemporaryDirectory() as folder:
                submissions = class_of(students, count, Path(folder) / "class")
                found.append(command_cpu([sys.executable, "-m", "autograder.cli", "grade", str(submissions),
                                          "--out", f"{folder}/out"]))
    whole, one = statistics.median(totals[size]), statistics.median(totals[1])
    return whole / size, (whole - one) / (size - 1)


def sealed_against_local(rounds: int) -> tuple[float, float, float]:
    """CPU seconds of a right submission, measured in turn: (in sealed workers / in this process, the two); medians.

    The ratio is of neighbours, as a shared machine is faster at one minute than at another.
    """
    import torch

    from autograder.course import load_course
    from autograder.grading.grade import Options, open_zygote, run_unit_checks, worker_limits
    from autograder.grading.reference import ReferenceSubject
    from autograder.grading.subjects import GradedSubmission, sealed_channels
    from autograder.remote.channel import LocalChannel
    from autograder.solution.material import Material
    from autograder.submission.reader import read_submissions
    from etude import cells

    torch.set_num_threads(1)
    course = load_course(ROOT / "course.yml")
    material = Material(course, course.unit("attention"))
    (submission,), _ = read_submissions([SAMPLES / "ada"], course)
    sealed: list[float] = []
    local: list[float] = []
    with open_zygote(course, Options(unsandboxed=True)) as zygote:
        time.sleep(3)  # in its first idle seconds it lays out its memory anew: start-up, which a batch shares
        workers = sealed_channels(zygote, worker_limits(course), course.limits.exercise_seconds)

        ended = [0.0]
        reap = zygote.reap

        def counted(worker):
            status, seconds = reap(worker)
            ended[0] += seconds
            return status, seconds
        zygote.reap = counted  # /proc counts in hundredths of a second, too coarse for one submission

        def spent() -> float:
            own = time.clock_gettime((~zygote.pid << 3) | 2)  # another process's clock: clock_getcpuclockid(3)
            return time.thread_time() + own + ended[0]

        def subjects():
            reference = ReferenceSubject(material)
            yield reference
            for index in range(2 * (rounds + 1)):
                found, channels = (sealed, workers) if index % 2 else (local, LocalChannel)
                cells._compiled.cache_clear()  # this process has met the submission before; a new one is compiled
                started = spent()
                subject = GradedSubmission(material, submission, channels, reference)
                yield subject
                subject.close()  # the worker that is left, and its CPU time, is the submission's
                if index >= 2:  # the first of each kind pays for what is done once
                    found.append(spent() - started)
        run_unit_checks(material, subjects())
    ratios = [one / other for one, other in zip(sealed, local, strict=True)]
    return statistics.median(ratios), statistics.median(sealed), statistics.median(local)


def table(progress: Callable[[str], None], size: int = 20, runs: int = 3, rounds: int = 15) -> list[str]:
    """The rows of docs/benchmarks.md for grading: a batch of `size`, medians of `runs`, of `rounds` for the ratio."""
    rows = ["| what | figure | target |", "|---|---|---|"]
    mixed = ["ada", "ben", "cleo", "dan", "eva", "gus", "hana"]
    for name, students in (("right", ["ada"]), ("mixed (right, wrong, unfinished, broken)", mixed)):
        progress(f"a batch of {size}, {name}")
        shared, more = batch(students, size, runs)
        rows.append(f"| CPU s per submission in a batch of {size}, {name} | {shared:.2f} (one more: {more:.2f}) | "
                    "≤ 1.0 |")
    progress("sealed against in-process")
    ratio, sealed, local = sealed_against_local(rounds)
    rows.append(f"| sealed / in-process, CPU of a right submission | {ratio:.2f} "
                f"({sealed:.2f} s / {local:.2f} s) | ≤ 1.3 |")
    return rows


def main() -> None:
    print("\n".join(table(lambda what: print(f"measuring: {what}", file=sys.stderr))))


if __name__ == "__main__":
    main()
