"""A zip is read in place; a bad member costs itself, and no number in the file is believed."""
from __future__ import annotations

import os
import resource
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.submission import archive, read_submissions

from .samples import attention, course, zipped

GOOD = ("alice/attention/attention.ipynb", attention())


def _special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


BAD = {
    "climbs": (("../../etc/bob.ipynb", b""), "refused: its path has an empty step, '.' or '..'"),
    "climbs later": (("bob/../x.ipynb", b""), "refused: its path has an empty step, '.' or '..'"),
    "absolute": (("/etc/bob.ipynb", b""), "refused: not a relative path with forward slashes"),
    "drive": (("C:/bob.ipynb", b""), "refused: not a relative path with forward slashes"),
    "backslash": (("..\\bob.ipynb", b""), "refused: not a relative path with forward slashes"),
    "link": ((_special("bob/attention/attention.ipynb", stat.S_IFLNK | 0o777), b"/etc/passwd"), "refused: a link"),
    "device": ((_special("bob.ipynb", stat.S_IFCHR), b""), "refused: not a regular file"),
    "nested": (("bob.zip", b"PK\x03\x04"), "refused: a zip in a zip; unpack it first"),
    "bad name": (("b<b/attention/attention.ipynb", attention()), "student name 'b<b' cannot be used"),
    "huge": (("bob.ipynb", bytes((64 << 20) + 1)), "unpacks to more than 64 MiB"),
    "not a notebook": (("bob.ipynb", b"\x89PNG"), "not a notebook: it is a PNG image"),
}


@pytest.mark.parametrize("member, message", BAD.values(), ids=BAD.keys())
def test_a_bad_member_is_one_line_and_costs_itself_only(tmp_path: Path, member: tuple[str, bytes],
                                                        message: str) -> None:
    folder = tmp_path / "deep" / "down"  # a path that leaves it ends where this test can look
    folder.mkdir(parents=True)
    path = zipped(folder / "class.zip", member, GOOD)
    name = member[0].filename if isinstance(member[0], zipfile.ZipInfo) else member[0]
    submissions, problems = read_submissions([path], course())
    assert [submission.student for submission in submissions] == ["alice"]
    assert len(problems) == 1 and str(problems[0]).startswith(f"{path}!{name}: {message}")
    assert not list(tmp_path.glob("**/bob.ipynb"))


def _patched(path: Path, marker: bytes, offset: int, value: bytes) -> Path:
    """The zip with `value` written at `offset` behind the first `marker`: zipfile itself writes no broken ones."""
    data = bytearray(path.read_bytes())
    start = data.index(marker) + offset
    data[start:start + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("marker, offset, value, message", [
    (b"PK\x01\x02", 8, b"\x01\x00", "refused: encrypted"),
    (b"PK\x01\x02", 10, b"\x63\x00", "refused: compressed by another method than deflate"),
    (b"PK\x01\x02", 16, b"\0\0\0\0", "cannot be unpacked: Bad CRC-32"),
    (b"PK\x03\x04", 0, b"XXXX", "cannot be unpacked: Bad magic number"),
    (b"PK\x01\x02", 24, struct.pack("<I", 100), "cannot be unpacked: Bad CRC-32"),
    (b"PK\x01\x02", 46, b"x", "cannot be unpacked: File name in directory"),
])
def test_a_member_that_lies_is_one_line(tmp_path: Path, marker: bytes, offset: int, value: bytes,
                                        message: str) -> None:
    path = zipped(tmp_path / "class.zip", ("bob/attention/attention.ipynb", attention()), GOOD)
    submissions, problems = read_submissions([_patched(path, marker, offset, value)], course())
    assert [submission.student for submission in submissions] == ["alice"]
    assert len(problems) == 1 and problems[0].message.startswith(message)


def test_a_class_of_many_zips_needs_few_open_files(tmp_path: Path) -> None:
    for number in range(60):
        zipped(tmp_path / f"class/s{number}.zip", ("attention.ipynb", attention()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, limits[1]))
    try:
        submissions, problems = read_submissions([tmp_path / "class"], course())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(submissions) == 60 and not problems


def test_a_bomb_of_many_members_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_INFLATED_BYTES", 3 << 20)
    bomb = [(f"bomb{number}.ipynb", bytes(1 << 20)) for number in range(6)]
    submissions, problems = read_submissions([zipped(tmp_path / "c.zip", GOOD, *bomb)], course())
    assert [submission.student for submission in submissions] == ["alice"]
    assert [problem.message.split(":")[0] for problem in problems] == [
        *["looks like a zip bomb"] * 3, *["the file is empty"] * 3]


def test_the_total_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", len(attention()))
    _, problems = read_submissions([zipped(tmp_path / "c.zip", GOOD, ("bob.ipynb", attention()))], course())
    assert len(problems) == 1 and problems[0].message.startswith("not read: the zip unpacks to more than")


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    path = zipped(tmp_path / "c.zip", *[(f"{number}.txt", b"") for number in range(3)])
    assert [str(p) for p in read_submissions([path], course())[1]] == [f"{path}: 3 members; at most 2 are read"]


def test_a_huge_directory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "c.zip", *[(f"{number}{'x' * 60_000}", b"") for number in range(80)])
    assert [p.message for p in read_submissions([path], course())[1]] == [
        "not a readable zip: its directory is too large"]


def test_an_honest_output_that_shrinks_much_is_read(tmp_path: Path) -> None:
    loud = attention().replace(b'"outputs": []', b'"outputs": ["%s"]' % (b"x" * 20_000_000), 1)
    submissions, problems = read_submissions([zipped(tmp_path / "c.zip", ("bob.ipynb", loud))], course())
    assert [s.student for s in submissions] == ["bob"] and not problems


def test_a_comment_and_folders_and_clutter_do_not_matter(tmp_path: Path) -> None:
    path = zipped(tmp_path / "c.zip", ("alice/", b""), ("__MACOSX/alice/._a.ipynb", b"x"), ("readme.txt", b"x"), GOOD)
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = b"made by hand"
    submissions, problems = read_submissions([path], course())
    assert len(submissions) == 1 and not problems


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x05\x06", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "class.zip"
    path.write_bytes(data)
    submissions, problems = read_submissions([path], course())
    assert not submissions and len(problems) == 1 and str(problems[0]).startswith(f"{path}: not a readable zip: ")


@settings(max_examples=150, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=4), st.integers(0, 2000))
def test_any_damage_is_told_in_one_line(tmp_path_factory: pytest.TempPathFactory, patches: list[tuple[int, bytes]],
                                        cut: int) -> None:
    path = zipped(tmp_path_factory.mktemp("zip") / "class.zip", GOOD, ("bob.ipynb", attention()))
    data = bytearray(path.read_bytes())
    for position, value in patches:
        data[position % len(data):position % len(data) + len(value)] = value
    path.write_bytes(data[: len(data) - cut % 40])
    for problem in read_submissions([path], course())[1]:
        assert str(problem).startswith(str(path)) and str(problem).isprintable()
