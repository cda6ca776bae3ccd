"""The leaderboard as a picture: for each kernel, everybody's time over the reference's."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from autograder.speed.leaderboard import Board

_BAR, _EDGE = "#9ec3e6", "#0b62a4"


def draw_boards(boards: Sequence[Board], path: Path) -> None:
    """Write the picture, `.svg` or `.png`: a panel for each board, bars with their intervals, the reference at 1."""
    rows = [max(len(board.entries), 1) for board in boards]
    fig = Figure(figsize=(8, sum(0.32 * count + 0.9 for count in rows)), layout="constrained")
    axes = fig.subplots(len(boards), 1, squeeze=False, gridspec_kw={"height_ratios": [count + 1 for count in rows]})
    for ax, board in zip(axes[:, 0], boards, strict=True):
        ratios = [entry.figures.ratio for entry in board.entries]
        off = [[entry.figures.ratio - min(entry.figures.low, entry.figures.ratio) for entry in board.entries],
               [max(entry.figures.high, entry.figures.ratio) - entry.figures.ratio for entry in board.entries]]
        places = range(len(ratios))
        ax.barh(places, ratios, xerr=off, color=_BAR, edgecolor=_EDGE, linewidth=0.8, height=0.7,
                error_kw={"linewidth": 1.0})
        ax.set_yticks(places, [entry.pseudonym for entry in board.entries], fontsize=8)
        ax.invert_yaxis()
        ax.axvline(1.0, color="#222222", linestyle="--", linewidth=1)
        ax.set_title(f"{board.exercise}, {board.workload}, {board.device}", fontsize=10, loc="left")
        ax.set_xlim(left=0)
    axes[-1, 0].set_xlabel("time of a call, over the reference's (dashed)")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130)
