"""Hypothesis strategies for cases: hypothesis draws sizes, flags and a seed; tensors follow from the seed.

Drawing floats element by element produces ties and zeros everywhere, and shrinks to examples that hide the mistake;
sizes and a seed shrink to a readable `Case(B=1, T=2, seed=0)`. A specification names each argument's dimensions:

    SDPA = Cases(q=normal("B H T d"), k=normal("B H S d"), v=normal("B H S e"), keep=mask("B H T S"))
    RNN = Cases(x=normal("B T I"), params={"w": normal("H I"), "b": normal("H")})     # a dict argument, of tensors

    @for_all(case=SDPA)
    def test_…(student, reference, case): ...

`for_all` is hypothesis' `given` plus explicit examples at the corners that break code: all sizes different, each
size one, sizes beyond any hard-coded block, strided and expanded memory, every value of every flag.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st

LAYOUTS = ("contiguous", "strided", "expanded")
_USUAL = (1, 5)
_DISTINCT = (2, 3, 5, 4, 7, 6, 8, 9, 10, 11)
Sizes = Mapping[str, Any]
"""Sizes and flags of a case by name, as a builder sees them."""


@dataclass(frozen=True)
class Argument:
    """One argument of a case: its dimensions ("B H*D T") and how its value is made from a generator."""

    dims: str
    make: Callable[[torch.Generator, tuple[int, ...], Sizes], Any]
    floating: bool = False

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple(math.prod(_factor(factor, sizes) for factor in dim.split("*")) for dim in self.dims.split())

    def symbols(self) -> list[str]:
        return [factor for dim in self.dims.split() for factor in dim.split("*") if not factor.isdigit()]


def _factor(text: str, sizes: Sizes) -> int:
    return int(text) if text.isdigit() else sizes[text]


def normal(dims: str, scale: float = 1.0, shift: float = 0.0) -> Argument:
    """Standard normal values times `scale` plus `shift`; gradients are checked with respect to it."""
    return Argument(dims, lambda g, shape, _: _randn(g, shape) * scale + shift, floating=True)


def positive(dims: str, low: float = 0.5, high: float = 2.0) -> Argument:
    """Values uniform in [low, high)."""
    return Argument(dims, lambda g, shape, _: _rand(g, shape) * (high - low) + low, floating=True)


def mask(dims: str, keep: float = 0.7, empty_rows: float = 0.15) -> Argument:
    """A bool mask, True = keep; rows along the last axis are wholly False with probability `empty_rows`."""
    def make(g: torch.Generator, shape: tuple[int, ...], _: Sizes) -> torch.Tensor:
        return (_rand(g, shape) < keep) & (_rand(g, (*shape[:-1], 1)) >= empty_rows)
    return Argument(dims, make)


def integers(dims: str, low: int | str, high: int | str) -> Argument:
    """int64 values in [low, high); a bound may be the name of a size."""
    def make(g: torch.Generator, shape: tuple[int, ...], sizes: Sizes) -> torch.Tensor:
        first, last = (_factor(str(bound), sizes) for bound in (low, high))
        return torch.randint(first, last, shape, generator=g)
    return Argument(dims, make)


def lengths(dims: str, longest: int | str, shortest: int = 1) -> Argument:
    """int64 lengths in [shortest, longest]: how much of each sequence is real, the rest being padding."""
    def make(g: torch.Generator, shape: tuple[int, ...], sizes: Sizes) -> torch.Tensor:
        return torch.randint(shortest, _factor(str(longest), sizes) + 1, shape, generator=g)
    return Argument(dims, make)


def computed(make: Callable[[torch.Generator, Sizes], Any]) -> Argument:
    """Any value made from the generator and the case's sizes and flags, for what the others cannot say."""
    return Argument("", lambda g, _, sizes: make(g, sizes))


def value_of(name: str) -> Argument:
    """The plain Python value of a size or flag, passed as an argument (`heads=value_of("H")`)."""
    return Argument("", lambda _, __, sizes: sizes[name])


def _randn(g: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def _rand(g: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape, generator=g, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------- cases

@dataclass(frozen=True, eq=False)
class Case:
    """One example: everything that its arguments follow from. Same fields, same tensors, on every machine."""

    spec: Cases
    sizes: dict[str, int]
    flags: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    layout: str = "contiguous"
    dtype: torch.dtype = torch.float64
    scale: float = 1.0
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What the trusted side computed for this case before (reference outputs), so that submissions share it."""

    def __getattr__(self, name: str) -> Any:
        values = {**self.__dict__["sizes"], **self.__dict__["flags"]}
        if name in values:
            return values[name]
        raise AttributeError(f"this case has no size, flag or field '{name}'; it has {', '.join(values)}")

    def __repr__(self) -> str:
        parts = [f"{name}={value!r}" for name, value in {**self.sizes, **self.flags}.items()]
        parts.append(f"seed={self.seed}")
        if self.layout != "contiguous":
            parts.append(f"layout={self.layout}")
        if self.dtype is not torch.float64:
            parts.append(f"dtype={str(self.dtype).removeprefix('torch.')}")
        if self.scale != 1.0:
            parts.append(f"scale={self.scale:g}")
        return f"Case({', '.join(parts)})"

    def but(self, **changes: Any) -> Case:
        """This case with other fields (`dtype=torch.float32`, `scale=1e3`): the same one each time it is asked for."""
        key = ("but", *sorted(changes.items(), key=lambda item: item[0]))
        if key not in self.memo:
            self.memo[key] = replace(self, memo={}, **changes)
        return self.memo[key]

    def arguments(self) -> dict[str, Any]:
        """Fresh arguments by name, in the specification's order. Floating tensors have `dtype` and `layout`."""
        generator = torch.Generator().manual_seed(self.seed)
        sizes = {**self.sizes, **self.flags}
        built = {}
        for path, argument in self.spec.parts():
            value = argument.make(generator, argument.shape(sizes), sizes)
            if argument.floating:
                value = _laid_out((value * self.scale).to(self.dtype), self.layout)
            _put(built, path, value)
        return built

    def floating(self) -> list[str]:
        """Names of the arguments that gradients are taken with respect to; inside a dict, `params['w']`."""
        return [_label(path) for path, argument in self.spec.parts() if argument.floating]

    def named(self) -> dict[str, Any]:
        """Fresh arguments as a person reads them, what is inside a dict by its full name: `params['w']`."""
        arguments = self.arguments()
        return {_label(path): _get(arguments, path) for path, _ in self.spec.parts()}

    def leaves(self, arguments: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The tensors of `arguments` that `floating` names, by these names."""
        return {_label(path): _get(arguments, path) for path, argument in self.spec.parts() if argument.floating}

    def replaced(self, arguments: Mapping[str, Any], leaves: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """`arguments` with other tensors in the places that `floating` names."""
        built: dict[str, Any] = {}
        for path, _ in self.spec.parts():
            _put(built, path, leaves.get(_label(path), _get(arguments, path)))
        return built

    def generator(self, salt: int = 1) -> torch.Generator:
        """A generator for what a check draws itself (cotangents, directions), apart from the arguments'."""
        return torch.Generator().manual_seed((self.seed + 1) * 1_000_003 + salt)


def _label(path: tuple[str, ...]) -> str:
    return path[0] + "".join(f"[{key!r}]" for key in path[1:])


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    return _get(tree[path[0]], path[1:]) if path else tree


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "strided" and tensor.ndim:
        # Reversed memory order and a gap between elements: neither `view` nor pointer arithmetic survives it.
        order = tuple(reversed(range(tensor.ndim)))
        store = torch.zeros((*(tensor.shape[axis] for axis in order), 2), dtype=tensor.dtype)
        view = store[..., 0].permute(order)
        return view.copy_(tensor)
    if layout == "expanded" and tensor.ndim > 1:
        return tensor[:1].expand_as(tensor)
    return tensor


class Cases:
    """A specification of arguments, and the strategy of its cases."""

    def __init__(self, *, sizes: Mapping[str, Sequence[int]] | None = None,
                 flags: Mapping[str, Sequence[Any]] | None = None,
                 derived: Mapping[str, Callable[[Sizes], int]] | None = None,
                 legal: Callable[[Sizes], bool] | None = None, also: Sequence[Mapping[str, int]] = (),
                 **arguments: Argument | Mapping[str, Argument]):
        """An argument that is a mapping is passed as a dict: weights by name, a module's state.

        `sizes`: symbol -> (smallest, largest usual[, beyond any block]), default (1, 5).

        `flags`: name -> values. `derived`: symbol -> its value from the others. `legal`: False excludes a draw.
        `also`: sizes of further corners, where a mistake shows that the usual ones may miss.
        """
        self.arguments = arguments
        self.flags = {name: tuple(values) for name, values in (flags or {}).items()}
        self.derived = dict(derived or {})
        self.legal = legal or (lambda _: True)
        self.also = [dict(sizes) for sizes in also]
        self._bounded = dict(sizes or {})
        named = dict(self._bounded)
        for _, argument in self.parts():
            for symbol in argument.symbols():
                if symbol not in self.derived and symbol not in self.flags:
                    named.setdefault(symbol, _USUAL)
        self.sizes = {symbol: tuple(bounds) for symbol, bounds in named.items()}

    def parts(self) -> Iterator[tuple[tuple[str, ...], Argument]]:
        """(path, argument) in the order of the specification; in a dict argument each entry is a part."""
        for name, argument in self.arguments.items():
            if isinstance(argument, Argument):
                yield (name,), argument
            else:
                yield from (((name, key), part) for key, part in argument.items())

    def but(self, **changes: Argument | Mapping[str, Argument]) -> Cases:
        """The same specification with some arguments replaced or added."""
        return Cases(sizes=self._bounded, flags=self.flags, derived=self.derived, legal=self.legal, also=self.also,
                     **{**self.arguments, **changes})

    def case(self, sizes: Mapping[str, int], flags: Mapping[str, Any] | None = None, **fields: Any) -> Case:
        """The case with these sizes; flags default to their first value."""
        full_flags = {name: values[0] for name, values in self.flags.items()} | dict(flags or {})
        full = dict(sizes)
        for symbol, derive in self.derived.items():
            full[symbol] = derive({**full, **full_flags})
        return Case(self, full, full_flags, **fields)

    def is_legal(self, case: Case) -> bool:
        return self.legal({**case.sizes, **case.flags})

    def strategy(self) -> st.SearchStrategy[Case]:
        """Draws small sizes, flags, seed and layout; shrinks to the smallest sizes, contiguous, seed 0."""
        drawn = st.fixed_dictionaries({
            "sizes": st.fixed_dictionaries({s: st.integers(b[0], b[1]) for s, b in self.sizes.items()}),
            "flags": st.fixed_dictionaries({n: st.sampled_from(v) for n, v in self.flags.items()}),
            "seed": st.integers(0, 999),
            "layout": st.sampled_from(LAYOUTS),
        })
        return drawn.map(lambda fields: self.case(**fields)).filter(self.is_legal)

    def corners(self) -> Iterator[Case]:
        """The cases that every run includes, whatever hypothesis draws."""
        distinct = self._distinct()
        yield from filter(self.is_legal, self._corners(distinct))

    def _corners(self, distinct: dict[str, int]) -> Iterator[Case]:
        for seed, layout in enumerate(LAYOUTS):
            yield self.case(distinct, seed=seed, layout=layout)
        yield self.case({symbol: bounds[0] for symbol, bounds in self.sizes.items()}, seed=3)
        for seed, (symbol, bounds) in enumerate(self.sizes.items(), 10):
            yield self.case({**distinct, symbol: bounds[0]}, seed=seed)
            if len(bounds) > 2:
                yield self.case({**distinct, symbol: bounds[2]}, seed=seed + 50)
        for name, values in self.flags.items():
            for seed, value in enumerate(values[1:], 100):
                yield self.case(distinct, {name: value}, seed=seed)
        for seed, sizes in enumerate(self.also, 200):
            yield self.case({**distinct, **sizes}, seed=seed)

    def _distinct(self) -> dict[str, int]:
        """Pairwise different sizes where the bounds allow it: code that mixes up two axes must not get away."""
        sizes: dict[str, int] = {}
        for symbol, bounds in self.sizes.items():
            most = max(bounds) if symbol in self._bounded else max(_DISTINCT)
            fitting = [n for n in _DISTINCT if bounds[0] <= n <= most and n not in sizes.values()]
            sizes[symbol] = fitting[0] if fitting else bounds[1]
        return sizes


def for_all(*, case: Cases, corners: bool = True) -> Callable[[Callable], Callable]:
    """`hypothesis.given(case=…)` with the specification's corners as explicit examples.

    `corners=False` leaves them out, for properties that no corner breaks by itself (purity, say): it saves two thirds
    of the time. `autograder verify` tells whether the check still catches what it is for.
    """
    def decorate(test: Callable) -> Callable:
        for corner in reversed(list(case.corners()) if corners else []):
            test = example(case=corner)(test)
        return given(case=case.strategy())(test)
    return decorate
