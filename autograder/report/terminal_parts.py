"""The pieces of the terminal view: a line, a bar, a table without a frame, two matrices side by side."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from autograder.report.tensors import MAX_LISTED, Cell, Grid
from autograder.report.wording import fraction

if TYPE_CHECKING:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

BAR_WIDTH = 12
INDENT = 3
"""What belongs to a check stands under its title, after the sign."""
_GAP = 3


class Glyphs(NamedTuple):
    """The signs that a console can show."""

    failed: str
    pending: str
    rule: str
    full: str
    empty: str


UNICODE = Glyphs("✗", "○", "─", "█", "░")
ASCII = Glyphs("x", "o", "-", "#", ".")


def glyphs_of(console: Console) -> Glyphs:
    """Plain ASCII where the output's encoding has nothing better."""
    return ASCII if console.options.ascii_only else UNICODE


def line(console: Console, text: str, style: str = "") -> Text:
    """Text as it stands: rich's markup in it means nothing, and what the encoding lacks becomes a question mark."""
    from rich.text import Text

    return Text(text.encode(console.encoding, "replace").decode(console.encoding), style=style)


def bar(glyphs: Glyphs, score: float, max_score: float) -> Text:
    """The share of the points; only all of them fill it, only none leave it empty."""
    from rich.text import Text

    share = fraction(score, max_score)
    filled = min(max(round(share * BAR_WIDTH), share > 0), BAR_WIDTH - (share < 1))
    return Text.assemble((glyphs.full * filled, "blue"), (glyphs.empty * (BAR_WIDTH - filled), "dim"))


def sheet(console: Console, ratios: list[int | None], justify: str = "lr") -> Table:
    """A table without a frame, as wide as the console: a column with a ratio stretches, the others fit.

    `justify` has a letter for the first columns, `l` or `r`; its last letter holds for those that follow.
    """
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False, expand=True)
    for position, ratio in enumerate(ratios):
        side = "left" if justify[min(position, len(justify) - 1)] == "l" else "right"
        table.add_column(ratio=ratio, justify=side, overflow="fold", no_wrap=ratio is None)
    return table


def matrices_width(pair: tuple[Grid, Grid]) -> int:
    """How many columns the two matrices take side by side."""
    return sum(sum(_column_widths(grid)) + 2 * len(grid.rows[0]) for grid in pair) + _GAP


def matrices(console: Console, pair: tuple[Grid, Grid]) -> Padding:
    """Expected and got side by side; a star follows each value that differs, unless all do."""
    from rich.padding import Padding
    from rich.table import Table

    expected, got = pair
    everywhere = len(got.marked) == sum(map(len, got.rows))
    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_row(line(console, " expected", "dim"), line(console, " got", "dim"))
    for left, right in zip(_matrix_lines(expected, False), _matrix_lines(got, not everywhere), strict=False):
        table.add_row(line(console, left), line(console, right))
    return Padding(table, (0, 0, 0, INDENT - 1), expand=False)


def listed(console: Console, cells: list[Cell]) -> Padding:
    """The first differing elements, one a row."""
    from rich.padding import Padding
    from rich.table import Table

    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    table.add_row(*(line(console, name, "dim") for name in ("index", "expected", "got")))
    for cell in cells[:MAX_LISTED]:
        table.add_row(*(line(console, text) for text in (str(list(cell.index)), cell.expected, cell.got)))
    if len(cells) > MAX_LISTED:
        table.add_row(line(console, f"and {len(cells) - MAX_LISTED} more", "dim"))
    return Padding(table, (0, 0, 0, INDENT), expand=False)


def _column_widths(grid: Grid) -> list[int]:
    return [max(map(len, column)) for column in zip(*grid.rows, strict=True)]


def _matrix_lines(grid: Grid, stars: bool) -> list[str]:
    widths = _column_widths(grid)
    return ["".join(f" {text:>{widths[c]}}{'*' if stars and (r, c) in grid.marked else ' '}"
                    for c, text in enumerate(row)) for r, row in enumerate(grid.rows)]
