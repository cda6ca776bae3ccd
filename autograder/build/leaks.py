"""The last look before anything is written: does a file for students contain what they must not see?

This does not rely on how the files were made. It takes every line of the secret parts and looks for it in what is
about to be released; so it also finds the author's own slips, such as a solution line quoted in the text.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from autograder.build.check_file import CheckFile
from autograder.solution.places import fault
from autograder.solution.source import TEXT, SourceCell, solution_lines

# Shorter lines (`return output`) are in every program. Units share idioms: between them, only long lines count.
SHORTEST = 21
SHORTEST_ELSEWHERE = 60
# What says nothing about a solution: imports, and which exercise a function belongs to.
_PLAIN = re.compile(r"""(import|from)\s|@(\w+\.)*\w+\(["'][\w-]+["']\)$|\W+$""")


@dataclass(frozen=True)
class Source:
    """The three files that a notebook is made of, read."""

    unit: str
    solution_path: Path
    cells: list[SourceCell]
    checks: CheckFile
    variants_path: Path
    variants: str


@dataclass(frozen=True)
class Generated:
    """A file about to be written."""

    unit: str
    name: str
    text: str


@dataclass(frozen=True)
class _Secret:
    text: str
    path: Path
    line: int
    what: str
    shown: str
    """The code that students see anyhow; what it contains is no secret."""


def check_leaks(sources: Iterable[Source], files: Iterable[Generated]) -> None:
    """Raise `UsageError` for the first secret line that a generated file contains."""
    sources = list(sources)
    texts = {file: _plain_text(file) for file in files}
    lines = {file: {line.strip() for line in text.split("\n")} for file, text in texts.items()}
    shown = "\n".join(text for source in sources for _, text, secret in _code_lines(source) if not secret)
    for source in sources:
        secrets = list(_secrets(source, shown))
        for file, text in texts.items():
            if file.unit == source.unit:
                _check_lines(file, (secret for secret in secrets if secret.text in text))
                _check_names(source, file, text)
            else:
                _check_lines(file, (secret for secret in secrets
                                    if len(secret.text) >= SHORTEST_ELSEWHERE and secret.text in lines[file]))


def _check_lines(file: Generated, found: Iterable[_Secret]) -> None:
    for secret in found:
        if secret.text not in secret.shown:
            raise fault(secret.path, secret.line, f"{secret.what} is in {file.name}, which students get: "
                                                  f"{_brief(secret.text)}")


def _check_names(source: Source, file: Generated, text: str) -> None:
    for check in source.checks.checks:
        if not check.public and re.search(rf"\b{check.name}\b", text):
            raise fault(source.checks.path, check.item.node.lineno,
                        f"the name of the hidden check {check.name} is in {file.name}, which students get")


# ------------------------------------------------------------------------------------------------- what is secret

def _secrets(source: Source, shown: str) -> Iterator[_Secret]:
    """The telling lines of a unit's solution, hidden checks and variants."""
    hidden, others = _hidden_lines(source.checks)
    solution = [(number, text) for number, text, secret in _code_lines(source) if secret]
    variants = list(enumerate(source.variants.split("\n"), 1))
    parts = [
        (solution, source.solution_path, "a line of the solution", shown),
        (hidden, source.checks.path, "a line of a hidden check", shown + "\n" + others),
        (variants, source.variants_path, "a line of the variants", shown),
    ]
    for lines, path, what, visible in parts:
        for number, text in lines:
            if len(text.strip()) >= SHORTEST and not _PLAIN.match(text.strip()):
                yield _Secret(text.strip(), path, number, what, visible)


def _code_lines(source: Source) -> Iterator[tuple[int, str, bool]]:
    """(line, stripped text, whether it belongs to a solution) of all code cells."""
    for cell in source.cells:
        if cell.kind not in TEXT:
            for number, text, secret in solution_lines(cell):
                yield number, text.strip(), secret


def _hidden_lines(checks: CheckFile) -> tuple[list[tuple[int, str]], str]:
    """Lines of hidden checks with their numbers, and the text of everything else in the file."""
    secret = {check.item.first for check in checks.checks if not check.public}
    hidden = [line for item in checks.items if item.first in secret
              for line in enumerate(item.text.split("\n"), item.first)]
    return hidden, "\n".join(item.text for item in checks.items if item.first not in secret)


# ------------------------------------------------------------------------------------------------- what is released

def _plain_text(file: Generated) -> str:
    """The text as people read it: in JSON, quotes and backslashes are written otherwise."""
    if not file.name.endswith((".ipynb", ".json")):
        return file.text
    return "\n".join(_strings(json.loads(file.text)))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.rstrip("\n")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def _brief(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
