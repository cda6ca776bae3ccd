"""Pictures that several notebooks draw: a diagram of boxes and arrows, and matrices side by side."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from torch import Tensor

INK, BLUE, ORANGE, GREY = "#222222", "#cfe3f5", "#fbe0bd", "#ececec"
"""Lines and text; what is given and what comes out; operations; weights."""


def light() -> None:
    """Dark ink on white, also in a dark JupyterLab."""
    plt.rcParams.update(dict.fromkeys(["figure.facecolor", "axes.facecolor", "savefig.facecolor"], "white"))
    plt.rcParams.update(dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color",
                                       "ytick.color"], INK))


def draw_graph(ax: Any, title: str, boxes: Mapping[str, tuple[float, float, str, str]],
               arrows: Mapping[str, Sequence[str]], notes: Mapping[str, str] | None = None,
               width: float = 1.7, height: float = 0.6) -> None:
    """Boxes `name: (x, y, text, colour)`, arrows `from: [to, ...]` and notes `name: text` to the right of a box.

    A box without a colour is text alone.
    """
    patches = {}
    for name, (x, y, text, colour) in boxes.items():
        patches[name] = plt.Rectangle((x - width / 2, y - height / 2), width, height, facecolor=colour or "none",
                                      edgecolor=INK if colour else "none", zorder=2)
        ax.add_patch(patches[name])
        ax.text(x, y, text, ha="center", va="center", zorder=3)
    for start, ends in arrows.items():
        for end in ends:
            ax.annotate("", boxes[end][:2], boxes[start][:2], zorder=1, arrowprops={
                "arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 1,
                "patchA": patches[start], "patchB": patches[end]})
    for name, text in (notes or {}).items():
        x, y = boxes[name][:2]
        ax.annotate(text, (x + width / 2 + 0.1, y), va="center", color="#555555", fontsize=9)
    ax.set_title(title)
    ax.autoscale_view()
    ax.margins(0.05)
    ax.set_aspect("equal", anchor="N")  # diagrams side by side begin at the same height
    ax.axis("off")


def show_maps(maps: Sequence[Tensor], titles: Sequence[str], xlabel: str = "", ylabel: str = "",
              cmap: str = "viridis", low: float = 0.0, high: float = 1.0, **kwargs: Any) -> None:
    """Matrices side by side, all on the scale from `low` to `high`."""
    fig, axes = plt.subplots(1, len(maps), figsize=(3 * len(maps), 3.2), squeeze=False, layout="constrained")
    for ax, matrix, title in zip(axes[0], maps, titles, strict=True):
        values = matrix.detach().cpu().numpy()
        image = ax.imshow(values, cmap=cmap, vmin=low, vmax=high, interpolation="nearest", **kwargs)
        ax.set(title=title, xlabel=xlabel)
        ax.locator_params(integer=True, nbins=6, min_n_ticks=1)  # one: a matrix may have a single column
    axes[0, 0].set_ylabel(ylabel)
    fig.colorbar(image, ax=axes[0, -1], fraction=0.046)
    plt.show()
