"""The speed of a class, for those who want to be seen, under names that only they and the key's owner can tell."""
from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autograder.classroom.tables import read_table
from autograder.errors import UsageError
from autograder.report.model import Report, SpeedFigures

LEAST_KEY = 16
_ADJECTIVES = """
    amber brisk calm clear cobalt coral crisp dapper eager early fleet frank fresh gentle golden grand green happy
    hardy ivory jolly keen kind lively lucid lunar mellow merry misty modest neat noble olive opal patient plain
    polar proud quick quiet rapid rosy royal ruby rustic sage sandy serene sharp silver sleek smart snowy solar
    solid steady stout sunny swift tidy vivid warm wise witty
""".split()
_ANIMALS = """
    badger bear beaver bison bittern buzzard carp cat cheetah cod crane crow curlew deer dolphin dove eagle eel
    egret elk falcon ferret finch fox gannet gecko goat goose hare hawk heron ibex ibis jay kestrel kite lark lemur
    leopard lynx magpie marten mole newt ocelot orca osprey otter owl panda pike plover puffin raven robin salmon
    seal shrew sparrow stork swan tern trout walrus
""".split()


@dataclass(frozen=True)
class Entry:
    """One student's kernel at one size."""

    pseudonym: str
    figures: SpeedFigures


@dataclass(frozen=True)
class Board:
    """Everybody's kernel for the same work on the same kind of device, the fastest first."""

    exercise: str
    workload: str
    device: str
    entries: Sequence[Entry]


def participants(path: Path) -> list[str]:
    """Who takes part: the table of `policy.leaderboard`, one student a row. Raises `UsageError`."""
    names = [row.values["student"] for row in read_table(path, ("student",))]
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise UsageError(f"{path}: {twice} is listed twice")
    return names


def pseudonyms(students: Iterable[str], key: bytes) -> dict[str, str]:
    """A name for each student, the same as long as the key is the same: `swift-heron-4127`.

    Without the key nobody can try a class list against it. Two who would share one get longer numbers.
    """
    students = list(students)
    if len(key) < LEAST_KEY:
        raise UsageError(f"the leaderboard's key has {len(key)} bytes; at least {LEAST_KEY} keep the names apart from "
                         "the students")
    digests = {student: hmac.new(key, student.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
               for student in students}
    digits = 4
    while len(set(names := {student: name_of(digest, digits) for student, digest in digests.items()}.values())) < \
            len(digests):
        digits += 2
    return dict(zip(digests, names, strict=True))


def name_of(digest: bytes, digits: int) -> str:
    """The pseudonym that a digest stands for."""
    number = int.from_bytes(digest[2:14], "big") % 10**digits
    return f"{_ADJECTIVES[digest[0] % len(_ADJECTIVES)]}-{_ANIMALS[digest[1] % len(_ANIMALS)]}-{number:0{digits}d}"


def boards(reports: Iterable[Report], names: Mapping[str, str]) -> list[Board]:
    """The boards of those who are in `names`. A check that is pending, or a call that was wrong, is on none."""
    found: dict[tuple[str, str, str], list[Entry]] = {}
    for report in reports:
        if report.student not in names:
            continue
        for exercise in report.exercises:
            for check in exercise.checks:
                for figures in check.figures if not check.pending else ():
                    if figures.seconds is not None and figures.ratio is not None:
                        place = (exercise.id, figures.workload, figures.device)
                        found.setdefault(place, []).append(Entry(names[report.student], figures))
    return [Board(*place, sorted(entries, key=lambda entry: (entry.figures.ratio, entry.pseudonym)))
            for place, entries in sorted(found.items())]
