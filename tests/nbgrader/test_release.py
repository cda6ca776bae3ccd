"""`autograder release`: a course directory that nbgrader takes as its own, and whose owner's edits are safe."""
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_course import tiny_course

from autograder.course import Course, load_course
from autograder.errors import UsageError
from autograder.nbgrader.course_directory import CONFIG, release


@pytest.fixture
def fresh(built: Course, released_once: Path, tmp_path: Path) -> tuple[Course, Path]:
    """A copy of a released course and of its sources, which a test may change."""
    shutil.copytree(built.root, tmp_path / "sources")
    shutil.copytree(released_once, tmp_path / "nb")
    return load_course(tmp_path / "sources" / "course.yml"), tmp_path / "nb"


def again(course: Course, path: Path, force: bool = False) -> list[str]:
    return list(release(course, [course.units["tiny"]], path, force))


def texts(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_release_is_that_of_assignments_and_holds_no_solution(fresh: Any) -> None:
    course, path = fresh
    released = texts(path / "release" / "tiny")
    assert released == texts(course.units["tiny"].assignment_path.parent)
    secret = b"x - x.mean(dim=-1, keepdim=True)"
    assert secret in (path / "source" / "tiny" / "tiny.ipynb").read_bytes()
    assert b"test_scale_values_and_gradients" in course.units["tiny"].checks_path.read_bytes()
    for name, data in released.items():
        assert secret not in data and b"test_scale_values_and_gradients" not in data, name
    assert (path / "gradebook.db").stat().st_size > 0


def test_what_nbgrader_asks_of_notebooks_holds(fresh: Any) -> None:
    import nbformat
    from nbgrader.nbgraderformat import MetadataValidator
    from nbgrader.utils import compute_checksum
    _, path = fresh
    for folder in ("source", "release"):
        notebook = nbformat.read(path / folder / "tiny" / "tiny.ipynb", as_version=4)
        nbformat.validate(notebook)
        MetadataValidator().validate_nb(notebook)
    sums = {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.checksum == compute_checksum(cell)
            for cell in notebook.cells if "nbgrader" in cell.metadata}
    assert sums == dict.fromkeys(["setup", "scale", "check_scale", "center", "check_center"], True)
    notebook.cells[1].metadata.nbgrader["of_our_own"] = 1
    with pytest.raises(Exception, match="of_our_own"):
        MetadataValidator().validate_nb(notebook)


def test_again_it_does_nothing_and_an_edit_stays(fresh: Any) -> None:
    course, path = fresh
    assert again(course, path) == []
    config, helper = path / CONFIG, path / "source" / "tiny" / "tiny_etude.json"
    config.write_text(config.read_text() + "\nc.Exchange.root = '/elsewhere'\n")
    helper.write_text(helper.read_text() + " ")
    edited = config.read_text()
    assert again(course, path) == ["kept source/tiny/tiny_etude.json, which was edited here",
                                   "made release/tiny/ and its entry in the gradebook"]
    assert config.read_text() == edited and helper.read_text().endswith(" ")
    assert again(course, path, force=True)[0] == "wrote source/tiny/tiny_etude.json"
    assert not helper.read_text().endswith(" ") and config.read_text() == edited


def test_a_course_that_changed_updates_what_is_untouched_and_refuses_to_overwrite_an_edit(fresh: Any) -> None:
    course, path = fresh
    notebook, solution = path / "source" / "tiny" / "tiny.ipynb", course.units["tiny"].solution_path
    solution.write_text(solution.read_text().replace("# Scaling is multiplication.", "# Scaling is multiplying."))
    assert "wrote source/tiny/tiny.ipynb" in again(course, path)
    assert "Scaling is multiplying." in (path / "release" / "tiny" / "tiny.ipynb").read_text()

    notebook.write_text(notebook.read_text().replace("Tiny functions", "Our functions"))
    solution.write_text(solution.read_text().replace("# Scaling is multiplying.", "# Scaling multiplies."))
    before = notebook.read_text()
    with pytest.raises(UsageError) as caught:
        again(course, path)
    said = str(caught.value)
    assert "now out of date: source/tiny/tiny.ipynb;" in said and "--force" in said and "\n" not in said
    assert notebook.read_text() == before
    again(course, path, force=True)
    assert "Scaling multiplies." in notebook.read_text() and "Our functions" not in notebook.read_text()


def test_somebody_elses_configuration_is_not_touched(built: Course, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text("c = get_config()\n")
    with pytest.raises(UsageError, match=CONFIG):
        again(built, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [CONFIG]
    assert (tmp_path / CONFIG).read_text() == "c = get_config()\n"


def test_a_configuration_that_calls_ours_is_left_as_it_is(fresh: Any) -> None:
    course, path = fresh
    text = "from autograder.nbgrader.config import configure\nc = get_config()\nconfigure(c, course='/elsewhere')\n"
    (path / CONFIG).write_text(text)
    assert again(course, path) == [] and (path / CONFIG).read_text() == text


def test_a_unit_that_was_not_built_is_a_line(tmp_path: Path) -> None:
    course = tiny_course(tmp_path / "course")
    with pytest.raises(UsageError, match="not built yet; run `autograder build tiny`"):
        again(course, tmp_path / "nb")
    assert not (tmp_path / "nb").exists()
