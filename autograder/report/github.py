"""GitHub Actions: the Markdown of the step summary, and annotation lines. Both are safe for students to read."""
from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence

from autograder.report import tensors, wording
from autograder.report.audience import for_students
from autograder.report.model import CheckResult, ExerciseResult, Report
from autograder.report.text_safety import clean
from etude.students.github import MAX_ANNOTATIONS, annotation, cell_line

MAX_BYTES = 1024 * 1024
"""GitHub drops a larger step summary altogether."""
_CUT = "\n*The summary ends here: GitHub shows at most 1 MiB.*\n"
_MARKDOWN = re.compile(r"([]!#$&()*+.:<=>@[\\^_`{|}~-])")


def render_summary(reports: Report | Sequence[Report]) -> str:
    """Markdown for `$GITHUB_STEP_SUMMARY`, at most `MAX_BYTES` of UTF-8; whole blocks are left out, never halves."""
    blocks, room = [], MAX_BYTES - len(_CUT)
    for report in [reports] if isinstance(reports, Report) else reports:
        for block in _blocks(for_students(report)):
            room -= len(block.encode())
            if room < 0:
                return "".join(blocks) + _CUT
            blocks.append(block)
    return "".join(blocks)


def annotations(report: Report, file: str, text: str = "") -> list[str]:
    """`::error` lines for the failed checks, to be printed as they are; the last one stands for those left out.

    `text` is the file's, in which the exercises' lines are looked for.
    """
    faults = list(_faults(for_students(report)))
    shown = faults if len(faults) <= MAX_ANNOTATIONS else faults[:MAX_ANNOTATIONS - 1]
    name = clean(file, 300, 1)
    lines = [annotation(name, cell_line(text, exercise, _line_in(said, exercise)), title, said)
             for exercise, title, said in shown]
    if len(shown) < len(faults):
        lines.append(annotation(name, 1, f"{len(faults) - len(shown)} more failed checks", "See the step summary."))
    return lines


def _faults(report: Report) -> Iterator[tuple[str, str, str]]:
    """(exercise, title, message). Where a cell could not be run, that stands for what is missing because of it."""
    for exercise in report.exercises:
        yield from ((exercise.id, exercise.title, note) for note in exercise.notes)
    for exercise, check in wording.failed_checks(report):
        said = "\n".join(wording.explanation(check))
        if not (exercise.notes and said.startswith("the notebook defines no ")):
            yield exercise.id, f"{exercise.title}: {check.title or check.name}", said


def _line_in(said: str, exercise: str) -> int:
    """The line of the exercise's cell that a message names: `... in cell 9 (sdpa_masked), line 3: ...`."""
    match = re.search(rf"\({re.escape(exercise)}\), line (\d{{1,6}})\b", said)
    return int(match[1]) if match else 1


def guarded(text: str) -> str:
    """Text for a CI log between `::stop-commands::` and its token: within, the runner takes nothing for a command."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}\n{text.rstrip()}\n::{token}::\n"


def _blocks(report: Report) -> Iterator[str]:
    yield f"## {_md(wording.unit_title(report.unit))}: {wording.points(report.score, report.max_score)} points\n\n"
    remarks = [report.student, wording.ADVISORY if report.sandbox == "ADVISORY" else "", *report.notes]
    yield "".join(f"{_md(remark)}\n\n" for remark in remarks if remark)
    yield "| Exercise | Points | Checks |\n|---|--:|--:|\n" + "".join(map(_row, report.exercises)) + "\n"
    for exercise in report.exercises:
        if not wording.uneventful(exercise):
            yield from _exercise(exercise)


def _row(exercise: ExerciseResult) -> str:
    checks = f"{wording.passed(exercise)} of {len(exercise.checks)}"
    return f"| {_md(exercise.title)} | {wording.points(exercise.score, exercise.max_score)} | {checks} |\n"


def _exercise(exercise: ExerciseResult) -> Iterator[str]:
    notes = [note for note in (wording.status_line(exercise), *exercise.notes) if note]
    yield f"### {_md(exercise.title)}\n\n" + "".join(f"{_md(note)}\n\n" for note in notes)
    for check in exercise.checks:
        if check.failed:
            yield _failure(check)
        elif check.passed and check.message:
            yield f"{_md(check.message)}\n\n"
        elif check.pending:
            yield f"#### ○ {_md(check.title or check.name)}\n{_md(wording.explanation(check)[0])}\n\n"


def _failure(check: CheckResult) -> str:
    hidden = "" if check.public else " (hidden)"
    lines = [f"#### ✗ {_md(check.title or check.name)}{hidden}\n"]
    lines += [f"{_md(line)}  " for line in wording.explanation(check)]
    difference = check.counterexample.difference if check.counterexample else None
    cells = tensors.differing(difference) if difference else []
    if len(cells) > 1:
        lines += ["", "| index | expected | got |", "|---|--:|--:|"]
        lines += [_cell(cell) for cell in cells[:tensors.MAX_LISTED]]
    return "\n".join(lines) + "\n\n"


def _cell(cell: tensors.Cell) -> str:
    return f"| {_md(str(list(cell.index)))} | {_md(cell.expected)} | {_md(cell.got)} |"


def _md(text: str) -> str:
    # All but punctuation that never means anything in Markdown; so no link, tag, image, formula or mention.
    return _MARKDOWN.sub(r"\\\1", text.replace("\n", " ").strip())
