"""A card as plain text, for terminals, and as Markdown, for whatever shows neither HTML nor wants it bare."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from etude.students.findings import Failure, Finding, Grid, Heat, Property

HEAT = "·▫▪■N"
"""A sign for each level of a heat map."""
HEAT_LEGEND = "· equal, ▫ ▪ ■ off by more and more, N not finite"
SAME = "The same as above."


def headline(finding: Finding) -> str:
    """`5 of 7 properties hold`."""
    if finding.not_run:
        return finding.not_run
    count = len(finding.properties)
    if finding.passed:
        return f"all {count} public properties hold" if count > 1 else "the public property holds"
    return f"{finding.held} of {count} properties {'holds' if finding.held == 1 else 'hold'}"


def footer(finding: Finding) -> list[str]:
    """What to do next, for the exercise as a whole."""
    if finding.passed and finding.label:
        return [f"{finding.label}; points for speed wait for a GPU. Grading adds examples that you do not see here."]
    if finding.passed:
        return ["Grading adds examples that you do not see here; the docstring says all that they ask for."]
    lines = []
    if finding.arguments and not finding.not_run:
        lines.append(f'check("{finding.exercise}").example gives the arguments of the first example above, by name: '
                     "try your function on them, a line at a time.")
    if finding.hints:
        lines.append(f'hint("{finding.exercise}") gives a hint.')
    return lines


def _sign(finding: Finding) -> str:
    return "✓" if finding.passed else "○" if finding.not_run else "✗"


def failed_first(finding: Finding) -> list[Property]:
    return sorted(finding.properties, key=lambda one: one.holds)


def repeated(properties: Sequence[Property]) -> set[str]:
    """Names of the properties that fail just as one before them does."""
    seen, again = set(), set()
    for one in properties:
        if one.failure is not None:
            key = (one.failure.what, tuple(one.failure.trace))
            if key in seen and (one.failure.trace or not one.failure.grids):
                again.add(one.name)
            seen.add(key)
    return again


# ---------------------------------------------------------------------------------------------- plain text

def text(findings: Sequence[Finding], in_notebook: bool = True) -> str:
    """The whole card. Among several exercises, those that hold take one line each."""
    return "\n".join("\n".join(_finding(finding, len(findings) > 1, in_notebook)) for finding in findings)


def _finding(finding: Finding, among_others: bool, in_notebook: bool) -> Iterator[str]:
    yield f"{_sign(finding)} {finding.title} ({finding.exercise}): {headline(finding)}"
    yield from (f"  ! {note}" for note in finding.notes)
    next_steps = footer(finding) if in_notebook else []
    if finding.not_run:
        yield from _indented(next_steps, 2)
    if finding.not_run or finding.passed and among_others:
        return
    if finding.diagnosis:
        yield from _indented([finding.diagnosis.sentence, finding.diagnosis.hint], 2)
    again = repeated(finding.properties)
    for one in failed_first(finding):
        yield f"  {'✓' if one.holds else '✗'} {one.title}"
        if one.said:
            yield from _indented([one.said], 6)
        if one.failure is not None:
            yield from _indented([SAME] if one.name in again else failure_lines(one.failure), 6)
    yield from _indented(next_steps, 2)


def example_label(failure: Failure) -> str:
    return "Smallest example" if failure.smallest else "Example"


def failure_lines(failure: Failure) -> Iterator[str]:
    """Everything that is known about a failure, line by line."""
    yield failure.what
    yield from (part for part in (failure.detail,) if part)
    yield from failure.trace
    if failure.example:
        yield f"{example_label(failure)}: {failure.example}"
        yield from (f"  {line}" for line in failure.inputs)
    if failure.grids:
        yield from _side_by_side(failure.grids)
    if failure.heat:
        yield f"Where it differs, {failure.heat.name} ({failure.heat.caption}):"
        yield from (f"  {line}" for line in heat_lines(failure.heat))
        yield f"  ({HEAT_LEGEND})"
    if failure.printed:
        yield "Printed by your code on this example:"
        yield from (f"  {line}" for line in failure.printed.splitlines())
    if failure.hint:
        yield f"Try next: {failure.hint}"


def heat_lines(heat: Heat) -> list[str]:
    return [" ".join(HEAT[level] for level in row) for row in heat.levels]


def _side_by_side(grids: Sequence[Grid]) -> Iterator[str]:
    blocks = [[grid.name, *_table(grid)] for grid in grids]
    widths = [max(map(len, block)) for block in blocks]
    for row in zip(*blocks, strict=True):
        yield "    ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _table(grid: Grid) -> list[str]:
    """The rows with a `*` behind each value that differs."""
    cells = [[value + ("*" if (i, j) in grid.wrong else " ") for j, value in enumerate(row)]
             for i, row in enumerate(grid.rows)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(cells[0]))]
    return ["  " + " ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _indented(lines: Iterable[str], by: int) -> Iterator[str]:
    yield from (" " * by + line for line in lines if line)


# ---------------------------------------------------------------------------------------------- Markdown

def markdown(findings: Sequence[Finding]) -> str:
    """The card as Markdown: titles as text, everything that must keep its columns in code blocks."""
    return "\n\n".join("\n".join(_markdown(finding)) for finding in findings)


def _markdown(finding: Finding) -> Iterator[str]:
    yield f"**{_sign(finding)} {_escaped(finding.title)}** (`{finding.exercise}`): {headline(finding)}\n"
    yield from (f"> {_escaped(note)}\n" for note in finding.notes)
    if finding.diagnosis and not finding.not_run:
        yield f"**{_escaped(finding.diagnosis.sentence)}** {_escaped(finding.diagnosis.hint)}\n"
    again = repeated(finding.properties)
    for one in () if finding.not_run else failed_first(finding):
        yield f"- {'✓' if one.holds else '✗'} {_escaped(one.title)}"
        if one.failure is not None:
            lines = [SAME] if one.name in again else failure_lines(one.failure)
            yield "\n  ```text"
            yield from ("  " + line.replace("```", "'''") for line in lines)
            yield "  ```\n"
    yield from (f"\n{_escaped(line)}" for line in footer(finding))


def _escaped(plain: str) -> str:
    return "".join("\\" + char if char in "\\`*_{}[]<>#|" else char for char in plain)
