"""`etude check NOTEBOOK [EXERCISE...]`: the public checks, from a terminal.

Exit 0: all properties hold; 1: some do not; 2: the notebook or the command cannot be used.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from etude.students.bar import Bar

HOLDS, FAILS, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; an error of the user's is one line and exit code 2, never a traceback."""
    options = _parser().parse_args(arguments)
    from etude.students.reading import NotReadable
    from etude.students.released import NothingReleased
    try:
        return _check(options)
    except (NotReadable, NothingReleased) as error:
        return _unusable(str(error))
    except KeyboardInterrupt:
        print("etude: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="etude", description="The public checks of an Etude notebook.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="run the public checks of a notebook",
                                description="Run the public checks that lie beside a notebook. Exit 0: all hold; "
                                            "1: some do not; 2: the notebook or the command cannot be used.")
    check.add_argument("notebook", type=Path, metavar="NOTEBOOK")
    check.add_argument("exercises", nargs="*", metavar="EXERCISE", help="default: the whole notebook")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    check.add_argument("--begun", action="store_true", help="leave out exercises that still hold their TODO")
    check.add_argument("--github", action="store_true",
                       help="also annotate the notebook's lines, and write the step summary of GitHub Actions")
    return parser


def _check(options: argparse.Namespace) -> int:
    from etude.students.reading import read_cells
    from etude.students.released import releases_in
    notebook: Path = options.notebook
    cells = read_cells(notebook)
    releases = releases_in(notebook.resolve().parent, notebook)
    from etude.cells import load_program
    from etude.check_file import CheckFileError
    from etude.students.checking import EXERCISE_SECONDS, UnknownExercise, check_namespace
    from etude.students.watch import Watch
    _limit_memory(releases[0].limit("memory_mb", 0))
    seconds = releases[0].limit("exercise_seconds", EXERCISE_SECONDS)
    printed = io.StringIO()
    with (Watch(seconds, seconds) as watch, watch.call("the notebook"),
          contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed)):
        program = load_program(_stepwise(cells, watch))
    bar = _TerminalBar() if sys.stderr.isatty() else Bar()
    try:
        checked = check_namespace(program.namespace, releases, options.exercises, bar, _load_notes(program.errors))
    except UnknownExercise as error:
        return _unusable(str(error))
    except CheckFileError as error:
        return _unusable(f"the checks could not be run: {error}")
    if options.begun:
        checked = replace(checked, findings=[one for one in checked.findings if not one.not_run or one.notes])
        if not checked.findings:
            print(f"{notebook}: not begun yet")
            return HOLDS
    _show(checked, options.json)
    if options.github:
        _tell_github(checked.findings, notebook)
    return HOLDS if checked.passed else FAILS


def _tell_github(findings: Sequence[Any], notebook: Path) -> None:
    from etude.students.card_text import markdown
    from etude.students.github import annotations
    print("\n".join(annotations(findings, notebook)))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(markdown(findings) + "\n")


def _stepwise(cells: Sequence[dict[str, str]], watch: Any) -> Any:
    """The cells one by one, each with all the time that there is: one that does not end costs itself alone."""
    for cell in cells:
        watch.step()
        yield cell


def _load_notes(errors: Sequence[Any]) -> dict[str, list[str]]:
    """What went wrong while the cells were run, by the exercise whose cell it was."""
    from etude.students.reading import exercise_of
    found: dict[str, list[str]] = {}
    for error in errors:
        text = "it did not end, and was interrupted" if error.type_name == "TimeUp" else \
            f"{error.type_name}: {error.message}"
        found.setdefault(exercise_of(error.label), []).append(f"{error.label}, line {error.line}: {text}")
    return {exercise: notes[:3] for exercise, notes in found.items()}


def _show(checked: Any, as_json: bool) -> None:
    from etude.students.card_text import headline, text
    from etude.students.display import Card
    if not as_json:
        print(text(checked.findings, in_notebook=False))
        return
    findings = [{"exercise": one.exercise, "title": one.title, "state": headline(one), "held": one.held,
                 "of": len(one.properties), "passed": one.passed, "text": text([one], in_notebook=False),
                 "html": Card([one])._repr_html_()}
                for one in checked.findings]
    print(json.dumps({"passed": checked.passed, "seconds": round(checked.seconds, 3), "findings": findings}))


def _limit_memory(megabytes: float) -> None:
    """As in grading: so much on top of what the process has, so that what is too much is an error and not a crash."""
    if not megabytes or not sys.platform.startswith("linux"):
        return
    import resource

    import torch  # noqa: F401  # before the limit: its libraries take gigabytes of address space
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(megabytes * 2**20)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


class _TerminalBar(Bar):
    """One line on stderr, rewritten; gone when the checks have run."""

    def __init__(self) -> None:
        import time
        self._clock, self._started, self._shown = time.monotonic, time.monotonic(), 0.0

    def update(self, done: int, total: int, doing: str) -> None:
        now = self._clock()
        if now - self._started > 1 and now - self._shown > 0.2:
            self._shown = now
            print(f"\r\033[K{done} of {total} properties; {doing} …", end="", file=sys.__stderr__, flush=True)

    def close(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.__stderr__, flush=True)


def _unusable(message: str) -> int:
    print(f"etude: {message}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
