"""Make docs/curriculum.md from the plan below and course.yml, and the README's list of units.

    python tests/make_curriculum.py            writes both
    python tests/make_curriculum.py --check    exits with 1 if one is out of date
"""
from __future__ import annotations

import re
import sys
from pathlib import Path

from autograder.course import Course, Unit, load_course

ROOT = Path(__file__).resolve().parents[1]
CURRICULUM = ROOT / "docs" / "curriculum.md"
README = ROOT / "README.md"
_README_LIST = re.compile(r"(?<=<!-- made by tests/make_curriculum.py -->\n).*?(?=\n<!-- end -->)", re.DOTALL)

Row = tuple[int, str, str, str, int]
"""Number, id, name, what it is about, exercises as planned."""

PLAN: dict[str, tuple[str, list[Row]]] = {
    "Architectures": ("The ten families that everything else is made of.", [
        (1, "convolutional", "Convolutional neural networks", "recognition, detection, segmentation", 7),
        (2, "recurrent", "Recurrent neural networks", "LSTM, GRU, sequence modelling", 6),
        (3, "transformers", "Transformers", "self-attention, positional encoding, variants, encoder-decoder", 7),
        (4, "graph", "Graph neural networks", "graph convolution, graph attention, temporal", 6),
        (5, "adversarial", "Generative adversarial networks", "conditional, StyleGAN, CycleGAN", 7),
        (6, "hybrid", "Hybrid architectures", "CNN-transformer, RNN-transformer, multimodal", 7),
        (7, "attention", "Attention mechanisms", "self, cross, multi-head, sparse", 7),
        (8, "normalization", "Normalization", "batch, layer, instance, group", 6),
        (9, "regularization", "Regularization", "dropout, weight decay, augmentation, early stopping", 7),
        (10, "activations", "Activation functions", "ReLU, sigmoid, tanh, Swish, GELU, custom", 7),
    ]),
    "Specialized": ("What was built for one purpose: generation, search, scale, physics, long sequences, reasoning.", [
        (11, "autoencoders", "Autoencoders", "variational, denoising, sparse", 6),
        (12, "diffusion", "Diffusion models", "score-based, latent, text-to-image", 7),
        (13, "architecture_search", "Neural architecture search", "automated design, efficient networks", 7),
        (14, "mixture_of_experts", "Mixture of experts", "sparse models, conditional computation", 7),
        (15, "neural_operators", "Neural operators", "Fourier neural operators, infinite-dimensional functions", 6),
        (16, "state_space", "State space models", "S4, Mamba, efficient processing, long range", 7),
        (17, "neurosymbolic", "Neurosymbolic AI", "hybrid reasoning, logical inference, explainable AI", 7),
    ]),
    "Emerging": ("Where practice is still moving: interpretability, attention and recurrence rethought, algorithms, "
                 "memory, modules, spikes.", [
        (18, "sparse_autoencoders", "Sparse autoencoders", "features, debugging, mechanistic interpretability", 7),
        (19, "attention_innovations", "Attention innovations", "sparse, efficient, attention schema control (ASAC)", 8),
        (20, "algorithmic_reasoning", "Neural algorithmic reasoning", "KNARL, algorithms, optimization reasoning", 8),
        (21, "modern_recurrent", "Recurrent architectures", "modern and gated RNNs, efficient sequence modelling", 7),
        (22, "graph_architectures", "Graph-based architectures", "graph transformers, heterogeneous, dynamic", 7),
        (23, "memory", "Memory-augmented networks", "NTM, memory networks, differentiable memory", 7),
        (24, "modular", "Modular neural networks", "component-based, neural modules, dynamic routing", 6),
        (25, "bio_inspired", "Bio-inspired architectures", "spiking, neuromorphic, brain-inspired", 8),
    ]),
    "Kernels": ("The same families on a GPU: Triton kernels, checked without one, timed on one. Each stands beside the "
                "unit of its number, whose marks do not hang on it. See [kernels.md](kernels.md).", [
        (3, "transformers_kernels", "Transformer kernels", "attention without its matrix: a softmax in pieces", 1),
        (2, "recurrent_kernels", "Recurrent kernels", "linear recurrence by an associative scan", 1),
        (4, "graph_kernels", "Graph kernels", "sparse matrix products", 1),
        (6, "hybrid_kernels", "Hybrid kernels", "a selective scan, its states in registers", 1),
        (7, "attention_kernels", "Attention kernels", "linear attention in chunks, with a carried state", 1),
        (8, "normalization_kernels", "Normalization kernels", "a fused row kernel and its gradient", 1),
        (9, "regularization_kernels", "Regularization kernels", "label smoothing, its gradient in place", 1),
        (10, "activations_kernels", "Activation kernels", "fused gates", 1),
    ]),
}

_OPENING = """\
# Curriculum

The course in twenty-five units, and kernels beside them. A unit is a family of architectures: one notebook with
theory, exercises that are graded, and demonstrations that use what was written. Units are independent of each
other, and so are the exercises within one.

"Ready" means that the unit is in course.yml, so that `autograder verify` proves its checks. For units to come the
number of exercises is the plan's. This page is made by `tests/make_curriculum.py`, but for its last section.
"""

_DEPARTURES = """\
---

## Where the course departs from its plan

Exercises that differ from the plan that the course was written from, and why.
"""
_BY_HAND = "<!-- below this line the page is written by hand -->\n"


def make() -> dict[Path, str]:
    """path -> text."""
    course = load_course(ROOT / "course.yml")
    known = {row[1] for _, rows in PLAN.values() for row in rows}
    strangers = sorted(course.units.keys() - known)
    if strangers:
        raise SystemExit(f"course.yml has units that PLAN in {Path(__file__).name} does not: {', '.join(strangers)}")
    units = [course.units[row[1]] for _, rows in PLAN.values() for row in rows if row[1] in course.units]
    readme = _README_LIST.sub(lambda _: _listed(units), README.read_text(encoding="utf-8"))
    return {CURRICULUM: _curriculum(course, units), README: readme}


def _curriculum(course: Course, units: list[Unit]) -> str:
    parts = [_OPENING]
    for heading, (says, rows) in PLAN.items():
        lines = "".join(_row(course.units.get(row[1]), row) for row in rows)
        table = f"| | unit | about | exercises | state |\n|--:|---|---|--:|---|\n{lines}"
        parts.append(f"## {heading}\n\n{says}\n\n{table}")
    parts.append("---\n\n## Units that are ready\n")
    parts += [*map(_unit, units), _DEPARTURES, _BY_HAND + _written_by_hand()]
    return "\n".join(parts)


def _written_by_hand() -> str:
    """What stands below the mark stays."""
    try:
        return CURRICULUM.read_text(encoding="utf-8").partition(_BY_HAND)[2]
    except FileNotFoundError:
        return ""


def _row(unit: Unit | None, row: Row) -> str:
    number, _, name, about, planned = row
    if unit is None:
        return f"| {number} | {name} | {about} | {planned} | to come |\n"
    return f"| {number} | [{unit.title}](#{_anchor(unit)}) | {about} | {len(unit.exercises)} | **ready** |\n"


def _unit(unit: Unit) -> str:
    hours = round(sum(one.minutes for one in unit.exercises.values()) / 60)
    lines = [f"| `{id}` | {one.title} | {'★' * one.difficulty} | {one.points:g} | {one.minutes:g} |"
             for id, one in unit.exercises.items()]
    before = ", ".join(f"`{id}`" for id in unit.prerequisites)
    return "\n".join([f"### {unit.title}", "", f"[The notebook](../assignments/{unit.id}/{unit.notebook}.ipynb); "
                      f"{unit.points:g} points, about {hours} hours{f'; after {before}' if before else ''}.", "",
                      "| exercise | title | difficulty | points | minutes |", "|---|---|---|--:|--:|", *lines, ""])


def _anchor(unit: Unit) -> str:
    return re.sub(r"[^\w\- ]", "", unit.title.lower()).replace(" ", "-")


def _listed(units: list[Unit]) -> str:
    return "\n".join(f"- [{unit.title}](docs/curriculum.md#{_anchor(unit)}): {len(unit.exercises)} "
                     f"exercise{'s' * (len(unit.exercises) > 1)}" for unit in units)


def main() -> int:
    texts = make()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date; run python tests/make_curriculum.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
