"""A class is graded once and as if nothing had happened, whatever happens to the grader on the way."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch import KINDS, Batch
from tiny_course import tiny_course

from autograder.report.model import Report
from autograder.submission.reader import read_submissions

NIGHTLY = "ETUDE_NIGHTLY_SEED"
"""Set to a number, it makes the batch larger and the faults others."""
seed = int(os.environ.get(NIGHTLY, "0"))
SIZE, ROUNDS = (1000, 5) if NIGHTLY in os.environ else (200, 1)
PLANNED = ("the grader killed", "a worker killed", "a zygote killed", "a grading process killed", "Ctrl-C",
           "the disk full", "a file unreadable", "the clock jumping", "a report torn")
pytestmark = pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(),
                                reason="finds the processes to kill in /proc")


def without_timings(report: Report) -> dict[str, Any]:
    fields = report.model_dump()
    fields["provenance"].pop("timings")
    return fields


def test_every_submission_is_graded_once_and_as_if_nothing_had_happened(
        tmp_path: Path, warm: None, graded: Callable, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture) -> None:
    course, batch = tiny_course(tmp_path), Batch(tmp_path, SIZE, seed)
    step = SIZE // (20 * ROUNDS)
    for _ in range(ROUNDS):
        harm(batch, step)
    code, out, err = batch.end(batch.start())
    assert (code, err) == (0, "") and "kept: " in out
    survived = batch.planted.total()
    assert batch.graded_again == []

    monkeypatch.chdir(tmp_path)
    submissions, problems = read_submissions(["class"], course)
    assert problems == [] and [s.student for s in submissions] == batch.students
    undisturbed = graded(course, submissions[:len(KINDS)])
    expected = [without_timings(report) for report in undisturbed.values()]
    for number, student in enumerate(batch.students):
        kept = Report.from_json(batch.report(student).read_bytes())
        assert without_timings(kept) == {**expected[number % len(KINDS)], "student": student}
    files = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {Path(s) / name for s in batch.students for name in ("tiny.json", "tiny.xml")}
    scores = {report.score for report in undisturbed.values()}
    assert scores >= {0, 2, 3, 6}, "a batch in which all get the same would not notice a mix-up"
    with capsys.disabled():
        print(f"\n{SIZE} submissions; faults planted and survived: {survived}: "
              f"{', '.join(f'{what} {count}' for what, count in sorted(batch.planted.items()))}")
    assert all(batch.planted[what] for what in PLANNED), batch.planted


def harm(batch: Batch, step: int) -> None:
    """Every kind of fault at least once."""
    grader = batch.start()
    batch.kill_workers(grader, 6, 1)
    batch.kill_zygote(grader, step)
    batch.kill_grader(grader, step)
    batch.end(grader)

    # Two files of each report that is kept are synced anew, and four of each that is graded.
    code, _, err = batch.end(batch.start(full_after=2 * len(batch.stored) + 6 * step))
    batch.planted["the disk full"] += 1
    assert code == 3 and "No space left on device" in err and err.count("\n") == 1
    assert f"of {len(batch.students)} are graded and kept in out; the same command goes on from there" in err

    batch.tear_reports(3)
    grader = batch.start(jobs=2)
    batch.kill_workers(grader, 3, 3)  # apart by more submissions than there are processes
    batch.kill_grading_process(grader, step)
    batch.kill_zygote(grader, step)
    interrupted = batch.interrupt(grader, step)
    code, _, err = batch.end(grader)
    if interrupted:
        assert code == 130 and err.startswith("autograder: interrupted: ") and err.count("\n") == 1

    hidden = [str(batch.notebook(student).relative_to(batch.folder)) for student in batch.students if
              student not in batch.stored][:2]
    grader = batch.start(unreadable=hidden, clock=batch.dice.randrange(1 << 30))
    batch.planted["the clock jumping"] += 1
    batch.planted["a file unreadable"] += len(hidden)
    batch.kill_grader(grader, 3 * step)
    _, _, err = batch.end(grader)
    assert err.count("cannot be read: Permission denied") == len(hidden)
