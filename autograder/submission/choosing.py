"""Which of the files in one folder are submissions: students keep scratch notebooks and helpers beside their work.

- In a unit's folder, the file called like the unit's notebook; if none is, every notebook; if none, every script.
- In another folder, a file called like some unit's notebook makes the scripts beside it helpers, and notebooks beside
  it doubtful: a problem, since they may be other students' work.
- The released `<notebook>_checks.py` lies beside most submissions and is not worth a note.
- Of `x.ipynb` and `x.py` (a pair that jupytext keeps) the notebook counts.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from autograder.submission.found import Found
from autograder.submission.problems import BadInput, Problem

if TYPE_CHECKING:
    from autograder.course import Course


def choose(found: Iterable[Found | Problem], course: Course) -> Iterator[Found | Problem]:
    """The submissions among what was found, each with a note about the files beside it that do not count."""
    everything = list(found)
    yield from (item for item in everything if isinstance(item, Problem))
    files = [item for item in everything if isinstance(item, Found)]
    folders: dict[str, list[Found]] = {}
    for file in files:
        folders.setdefault(file.path.removesuffix(file.parts[-1]), []).append(file)
    for beside in folders.values():
        yield from beside if beside[0].named else _from_folder(beside, course)


def _from_folder(files: list[Found], course: Course) -> Iterator[Found | Problem]:
    in_unit = files[0].lies_in_unit(course.units)
    units = [course.units[files[0].folder]] if in_unit else course.units.values()
    names = {unit.notebook for unit in units}
    called_so = [file for file in files if file.stem in names]
    chosen = _one_of_each_pair(called_so or _likely(files, in_unit))
    doubtful = [] if in_unit or not called_so else [
        file for file in files if file.is_notebook and file not in called_so]
    for file in doubtful:
        yield BadInput(file.path, f"not graded: {chosen[0].parts[-1]} in the same folder is taken for the "
                                  f"submission; give each student a folder").problem
    released = {f"{name}_checks.py" for name in names}
    rest = [file.parts[-1] for file in files
            if file not in chosen and file not in doubtful and file.parts[-1] not in released]
    note = (f"in the same folder and not graded: {', '.join(rest[:5])}{', ...' if len(rest) > 5 else ''}",)
    for number, file in enumerate(chosen):
        yield replace(file, notes=note) if rest and number == 0 else file


def _likely(files: list[Found], in_unit: bool) -> list[Found]:
    notebooks = [file for file in files if file.is_notebook]
    return notebooks if in_unit and notebooks else files


def _one_of_each_pair(files: list[Found]) -> list[Found]:
    notebooks = {file.stem for file in files if file.is_notebook}
    return [file for file in files if file.is_notebook or file.stem not in notebooks]
