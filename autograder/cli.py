"""The command line: `autograder grade | verify | build | release | bench | doctor`.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""
from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from autograder.commands import new
from autograder.commands.bench import bench
from autograder.commands.compare import compare
from autograder.commands.export import app as export_app
from autograder.commands.leaderboard import leaderboard
from autograder.commands.marks import marks
from autograder.commands.options import CourseOption, load
from autograder.commands.similar import similar
from autograder.errors import AutograderError, UsageError

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
                  help="Grade the course's exercises, and prove the grader right.")

app.add_typer(export_app, name="export")
app.command("new-course")(new.new_course)
app.command("new-exercise")(new.new_exercise)
app.command()(bench)
app.command()(leaderboard)
app.command()(marks)
app.command()(compare)
app.command()(similar)

FORMATS = ("text", "json", "junit", "html", "gradescope", "github", "annotations")


@app.command()
def grade(
    submissions: Annotated[list[Path], typer.Argument(help="Notebooks, .py files, folders <student>/<unit>/ or zips.")],
    unit: Annotated[str | None, typer.Option(help="The unit, where neither folder nor cells tell it.")] = None,
    student: Annotated[str | None, typer.Option(help="The student's name, where the path does not tell it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Gets <student>/<unit>.json and the other formats.")] = None,
    format: Annotated[list[str] | None, typer.Option(help=f"One or more of: {', '.join(FORMATS)}.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that grade side by side.")] = 1,
    fail_under: Annotated[float | None, typer.Option(help="Exit with 1 if one gets less than so many percent.")] = None,
    unsandboxed: Annotated[bool, typer.Option(help="Grade though the sandbox does not hold.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade again what --out has, changed or not.")] = False,
    course: CourseOption = None,
) -> None:
    """Grade submissions in the sandbox. Exit 0: graded; 1: --fail-under missed; 2: bad input; 3: the grader failed."""
    gc.disable()  # until the checks are ready: what is imported and drawn till then stays, and collections find nothing
    from autograder.commands.grade import run_grade
    formats = list(format or ["text"])
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: expected one of {', '.join(FORMATS)}")
    if fail_under is not None and not 0 <= fail_under <= 100:
        raise UsageError(f"--fail-under {fail_under:g}: expected a percentage, from 0 to 100")
    raise typer.Exit(run_grade(load(course), submissions, unit=unit, student=student, out=out, formats=formats,
                               jobs=jobs, fail_under=fail_under, unsandboxed=unsandboxed, fresh=fresh))


@app.command()
def verify(
    units: Annotated[list[str] | None, typer.Argument(help="Units, or unit.exercise; all without any.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything that was found to this file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Units that are verified side by side.")] = 1,
    course: CourseOption = None,
) -> None:
    """Grade the grader: right solutions must get full marks, every known mistake must lose points and be named."""
    from autograder.commands.verify import run_verify
    raise typer.Exit(run_verify(load(course), list(units or []), json, jobs))


@app.command()
def build(
    units: Annotated[list[str] | None, typer.Argument(help="Units; all without any.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if it would.")] = False,
    course: CourseOption = None,
) -> None:
    """Make assignments/ from solutions/."""
    from autograder.build.build import build as build_course
    changes = build_course(load(course), check=check, units=list(units or []))
    for change in changes:
        written = not check and change.kind != "stray"
        typer.echo(f"assignments/: wrote {change.path.name}" if written else f"assignments/{change}")
    if check and changes:
        typer.echo("run `autograder build`", err=True)
        raise typer.Exit(1)


@app.command()
def release(
    units: Annotated[list[str] | None, typer.Argument(help="Units; all without any.")] = None,
    to: Annotated[Path, typer.Option(help="nbgrader's course directory; made if need be.")] = ...,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what was edited there.")] = False,
    course: CourseOption = None,
) -> None:
    """Write or update a course directory that nbgrader takes as its own; `nbgrader autograde` grades in the sandbox."""
    from autograder.commands.release import run_release
    raise typer.Exit(run_release(load(course), list(units or []), to, force=force))


@app.command()
def doctor(course: CourseOption = None) -> None:
    """Say what this machine can do: the sandbox and what proves it, versions, and what is missing."""
    from autograder.commands.doctor import run_doctor
    raise typer.Exit(run_doctor(load(course)))


def main() -> None:
    """Run the command line; every error of ours is one line and its exit code, never a traceback."""
    try:
        app(standalone_mode=True)
    except AutograderError as error:
        print(f"autograder: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that is not ours
        print(f"autograder: {error}", file=sys.stderr)
        sys.exit(AutograderError.exit_code)
    except KeyboardInterrupt:
        print("autograder: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
