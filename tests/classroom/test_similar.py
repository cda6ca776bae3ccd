"""Similar submissions: a copy under other names is found, honest work and what all were given are not."""
from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_course import notebook_of, tiny_course

from autograder import cli
from autograder.classroom import similar
from autograder.classroom.similar import ELSEWHERE, Work, similar_pairs, work_of
from autograder.report.html import render_similar_page
from autograder.submission.cells import Cell, Submission

pytest.importorskip("copydetect", reason="copydetect is not installed; it is one of the staff's packages")

GIVEN = '''\
def smooth(values, weights, start=0.0):
    """Exponential smoothing of a list, with a weight for every step."""
    if len(values) != len(weights):
        raise ValueError(f"{len(values)} values and {len(weights)} weights")
    # TODO
    raise NotImplementedError
'''
HEAD = GIVEN.partition("    # TODO")[0]
LOOP = HEAD + '''\
    result = []
    state = start
    for value, weight in zip(values, weights):
        state = weight * value + (1 - weight) * state
        result.append(state)
    return result
'''
RENAMED = HEAD + '''\
    # my own idea
    out = []
    s = start

    for v, w in zip(values, weights):
        s = w * v + (1 - w) * s   # blend
        out.append(s)
    return out
'''
RECURSIVE = HEAD + '''\
    if not values:
        return []
    head = start + weights[0] * (values[0] - start)
    return [head, *smooth(values[1:], weights[1:], head)]
'''
FOLDED = HEAD + '''\
    import itertools
    steps = itertools.accumulate(zip(values, weights), lambda s, vw: s - vw[1] * (s - vw[0]), initial=start)
    return list(steps)[1:]
'''
RELEASED = (Cell(1, GIVEN, "smooth"),)


def submission(student: str, *cells: Cell) -> Submission:
    return Submission(student, "tiny", f"{student}.ipynb", cells, digest=student)


def work(student: str, source: str) -> Work:
    return work_of(submission(student, Cell(1, source, "smooth")), ["smooth"], RELEASED)


def pairs_of(sources: dict[str, str], least: float = 0.5, given: tuple = RELEASED) -> list[Any]:
    return similar_pairs([work(student, source) for student, source in sources.items()], given, least).pairs


def test_a_copy_with_other_names_comments_and_lines_is_found_first() -> None:
    pairs = pairs_of({"ann": LOOP, "bob": RECURSIVE, "cem": RENAMED, "dan": FOLDED}, least=0)
    assert pairs[0].students == ("ann", "cem") and min(pairs[0].shares) > 0.9
    assert max(pair.share for pair in pairs[1:]) < 0.5, "honest work"


def test_what_was_given_is_not_alike() -> None:
    honest = {"ann": LOOP, "bob": RECURSIVE, "dan": FOLDED}
    assert pairs_of(honest) == []
    assert len(pairs_of(honest, given=(Cell(1, "pass", "smooth"),))) > 0, "the control: without it, the head is a copy"


def test_who_wrote_nothing_is_not_compared() -> None:
    works = [work("ann", LOOP), work("eve", GIVEN), work("zoe", GIVEN.replace("# TODO", "# later"))]
    assert works[1].sources == {} and works[2].sources != {}
    found = similar_pairs(works, RELEASED, 0)
    assert (found.pairs, found.count, found.too_short) == ([], 0, ["eve", "zoe"])


def test_a_page_has_room_for_the_most_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "SHOWN", 2)
    works = [work(student, source) for student, source in
             {"ann": LOOP, "bob": LOOP, "cem": RENAMED, "dan": RECURSIVE}.items()]
    found = similar_pairs(works, RELEASED, 0.5)
    assert len(found.pairs) == 2 and found.count == 3
    page = render_similar_page("Smoothing", found, 4, 0.5)
    assert "The first 2 of 3 pairs." in page and page.count("<details") == 2


def test_copying_one_exercise_of_two_is_seen_whole() -> None:
    one = work_of(submission("ann", Cell(1, LOOP, "smooth"), Cell(2, FOLDED.replace("smooth", "other"), "other")),
                  ["smooth", "other"], RELEASED)
    (pair,) = similar_pairs([one, work("bob", RENAMED)], RELEASED, 0.5).pairs
    assert pair.shares[1] > 0.9 > pair.shares[0] and [part.exercise for part in pair.parts] == ["smooth"]


def test_the_sources_are_whole_and_what_is_alike_is_marked() -> None:
    (pair,) = pairs_of({"ann": LOOP, "cem": RENAMED})
    (part,) = pair.parts
    for pieces, source in zip(part.pieces, (LOOP, RENAMED), strict=True):
        assert "".join(text for text, _ in pieces) == source + "\n"
        marked = "".join(text for text, alike in pieces if alike)
        assert "zip(values, weights)" in marked and "raise ValueError" not in marked


def test_a_notebook_without_ids_is_compared_by_what_is_not_released() -> None:
    found = work_of(submission("ann", Cell(1, "import torch"), Cell(2, LOOP)), ["smooth"], (Cell(1, "import torch"),))
    assert found.sources == {ELSEWHERE: LOOP}


# ---------------------------------------------------------------------------------------------- the command

@pytest.fixture
def run(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    tiny_course(tmp_path)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object, **sources: str) -> tuple[int, str, str]:
        for student, source in sources.items():
            path = Path("class") / student / "tiny" / "tiny.ipynb"
            path.parent.mkdir(parents=True)
            path.write_bytes(notebook_of(submission(student, Cell(1, source, "scale"))))
        monkeypatch.setattr(sys, "argv", ["autograder", "similar", "class", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()
    return command


def test_the_command_writes_a_page_and_a_folder_for_dolos(run: Callable) -> None:
    code, out, err = run("--unit", "tiny", "--to", "out", ann=LOOP, bob=RECURSIVE, cem=RENAMED)
    assert (code, err) == (0, "")
    assert out == "out/similar.html: 1 of 3 pairs have 60 % in common\nout/dolos/info.csv: for Dolos\n"
    page = Path("out/similar.html").read_text()
    assert "ann, cem" in page and "ann, bob" not in page and "<mark>" in page
    with open("out/dolos/info.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["full_name"], row["labels"], row["ignored"]) for row in rows] == [
        ("ann", "tiny", "false"), ("bob", "tiny", "false"), ("cem", "tiny", "false"), ("", "tiny", "true")]
    texts = {row["full_name"]: (Path("out/dolos") / row["filename"]).read_text() for row in rows}
    assert texts["cem"] == RENAMED + "\n" and "raise NotImplementedError" in texts[""]
    assert not any((Path("out") / path).stat().st_mode & 0o007 for path in ("similar.html", "dolos/info.csv"))


def test_a_students_text_does_not_act_on_the_page(run: Callable) -> None:
    hostile = LOOP.replace("    result", "    x = '</pre><script>alert(1)</script>'  # \u202e\x1b[31m\n    result", 1)
    assert run("--unit", "tiny", "--to", "out", "--least", 0, ann=hostile, bob=RENAMED)[0] == 0
    page = Path("out/similar.html").read_text()
    assert "<script" not in page and "\u202e" not in page and "\x1b" not in page
    assert "&lt;script&gt;" in page and re.search(r"default-src 'none'", page)


def test_what_cannot_be_read_is_told_and_the_rest_compared(run: Callable) -> None:
    Path("class/eve/tiny").mkdir(parents=True)
    Path("class/eve/tiny/tiny.ipynb").write_text(json.dumps({"nbformat": 3}))
    code, out, err = run("--unit", "tiny", "--to", "out", ann=LOOP, cem=RENAMED)
    assert code == 2 and err.startswith("autograder: class/eve/tiny/tiny.ipynb") and "1 of 1 pairs" in out
    assert run("--unit", "tinny", "--to", "other")[0] == 2 and not Path("other").exists()


def test_where_nothing_can_be_compared_the_old_page_stays(run: Callable) -> None:
    assert run("--unit", "tiny", "--to", "out", ann=LOOP, cem=RENAMED)[0] == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    Path("empty").mkdir()
    Path("class").rename("away")
    code, out, err = run("--unit", "tiny", "--to", "out")
    assert (code, out) == (2, "") and err.startswith("autograder: class: no such file or folder; ")
    assert err.count("\n") == 1
    code, out, err = run("away", "--unit", "tiny", "--to", "out")
    assert (code, out, err.count("\n")) == (2, "", 1), "one of two paths is there"
    Path("empty").rename("class")
    code, out, err = run("--unit", "tiny", "--to", "out")
    assert (code, out) == (2, "") and "no submission of unit tiny could be read" in err
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    code, out, _ = run("--unit", "tiny", "--to", "out", eve=LOOP)
    assert code == 0 and Path("out/similar.html").read_bytes() != before[Path("out/similar.html")], "the control"
