"""What holds for every right kernel, as one-line checks. `function` is `student.<name>`; destinations come first.

    FORWARD = dict(outputs={"out": "M N"}, expected=rms_norm)

    @for_all(case=RMS)
    def test_values(student, case):
        assert_kernel(student.rms_norm_triton, case, **FORWARD)

`outputs` says the shape of each destination by name, "M N" or ("M N", torch.float32); without a dtype it is that of
`values`. `expected(*inputs, **settings)` is plain PyTorch: a tensor, or one for each destination. It is run in float64
on the rounded inputs for the truth, and in float32 for the error that may be expected.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from etude.compare import assert_tensor
from etude.failures import CheckFailure
from etude.kernels import NoTriton, require
from etude.kernels.cases import inputs_and_settings, output_shape, precision
from etude.kernels.launching import Call, Done, call
from etude.kernels.memory import Place, buffer, same_bits
from etude.kernels.ptxas import NotAssembled, Resources, resources_of
from etude.strategies import Case

FLOOR = {torch.float32: 4e-6, torch.float16: 1.5e-3, torch.bfloat16: 1e-2, torch.float64: 1e-12}
"""Errors relative to the largest value that every order of summation may make: some 32 roundings in float32."""
Outputs = Mapping[str, str | tuple[str, torch.dtype]]
Expected = Callable[..., Tensor | tuple[Tensor, ...]]


def run_kernel(function: Callable, case: Case, outputs: Outputs, order: int | None = None) -> tuple[dict, Done, Call]:
    """(destinations by name, what came of the call, the call) for a case. `order`: another order of programs."""
    _demand()
    inputs, settings = inputs_and_settings(case)
    made = [buffer(name, None, *_destination(spec, case), case.layout) for name, spec in outputs.items()]
    made += [buffer(name, value, value.shape, value.dtype, case.layout) for name, value in inputs.items()]
    wanted = Call([base for base, _ in made], [place for _, place in made], settings,
                  case.seed if order is None else order)
    done = call(function, wanted)
    return {place.name: place.of(base) for place, base in zip(wanted.places, done.buffers, strict=True)
            if place.output}, done, wanted


def assert_kernel(function: Callable, case: Case, *, outputs: Outputs, expected: Expected,
                  tolerance: float | None = None) -> None:
    """Every destination is right: its error is at most twice that of PyTorch in float32, rounded as the output is.

    `tolerance`, relative to the largest expected value, is another bound; say in a comment why.
    """
    truth, bounds = _remembered(case, expected, outputs)
    got, _, _ = run_kernel(function, case, outputs)
    for name, right in truth.items():
        if not right.dtype.is_floating_point:
            assert_tensor(got[name], right, f"`{name}`")
            continue
        left = torch.isnan(got[name])
        if left.any() and not torch.isnan(right).any():
            first = tuple(int(i) for i in left.nonzero()[0])
            raise CheckFailure(f"`{name}` is NaN at index {first}; of {left.numel()} elements {int(left.sum())} are.",
                               hint="Destinations are NaN before the call and inputs lie among NaN: an element that is "
                                    "never written, or a load that is not masked, comes out as NaN.")
        assert_tensor(got[name].double(), right, f"`{name}`",
                      tolerance=bounds[name] if tolerance is None else tolerance)


def assert_in_bounds(function: Callable, case: Case, *, outputs: Outputs) -> None:
    """No lane reads or writes beside the tensors; inputs, and the memory around all tensors, are as before."""
    _, done, wanted = run_kernel(function, case, outputs)
    said = [sentence for kind, sentence in done.faults if kind in ("read", "write")]
    if said:
        raise CheckFailure(f"{said[0]}", hint="A load or store needs `mask=` wherever a block may reach over the end; "
                                              "a row's start is its number times the row's stride.")
    for place, before, after in zip(wanted.places, wanted.buffers, done.buffers, strict=True):
        around = ~place.elements(before.numel())
        if not place.output and not same_bits(before, after).all():
            raise CheckFailure(f"the input `{place.name}`, or memory around it, was written to.",
                               hint="Only destinations may be written.")
        if not same_bits(before, after)[around].all():
            raise CheckFailure(f"memory beside `{place.name}` was written to.",
                               hint="A store needs `mask=` wherever a block may reach over the end.")


def assert_no_race(function: Callable, case: Case, *, outputs: Outputs, orders: int = 2) -> None:
    """No two programs use one element without an atomic operation, and the order of programs changes nothing."""
    first: dict[str, Tensor] = {}
    for order in range(orders):
        got, done, _ = run_kernel(function, case, outputs, order=case.seed + order)
        said = [sentence for kind, sentence in done.faults if kind == "race"]
        if said:
            raise CheckFailure(said[0], hint="Programs run side by side, in no order. Give each its own elements, or "
                                             "add with `tl.atomic_add`, or reduce in a second launch.")
        for name, value in got.items():
            error = (value.double() - first.setdefault(name, value).double()).abs().max() if value.numel() else 0.0
            scale = max(float(first[name].double().abs().nan_to_num().max()), 1e-3) if value.numel() else 1.0
            if float(error) > 100 * FLOOR.get(value.dtype, 0.0) * scale:
                raise CheckFailure(f"`{name}` depends on the order in which programs run.",
                                   hint="Programs run side by side, in no order.")


def assert_builds(function: Callable, outputs: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
                  inputs: Mapping[str, tuple[tuple[int, ...], torch.dtype] | Tensor], *, spills: int | None = None,
                  tensor_cores: bool = False, no_tf32: bool = False, **settings: Any) -> str:
    """Triton compiles every launch for a GPU (sm_90), at the sizes given; returns what they need, for the student.

    Nothing is run, so sizes may be those of real use; an input that the function reads on the way, such as row
    pointers, is given as a tensor. `spills`: at most so many bytes. `tensor_cores`: some launch has to use them.
    `no_tf32`: no launch may round float32 operands of a matrix product to TF32, which the interpreter does not show.
    """
    _demand()
    buffers, places = [], []
    for name, spec in [*outputs.items(), *inputs.items()]:
        if isinstance(spec, Tensor):
            base, place = buffer(name, spec, spec.shape, spec.dtype, "contiguous")
        else:
            shape, dtype = spec
            base = torch.empty(shape, dtype=dtype, device="meta")
            place = Place(name, 0, tuple(shape), tuple(base.stride()), name in outputs)
        buffers.append(base)
        places.append(place)
    built = call(function, Call(buffers, places, settings, dry=True)).built
    if not built:
        raise CheckFailure("no kernel was launched.", hint="A kernel is launched by `kernel[grid](...)`.")
    found = [_resources(one) for one in built]
    worst = max(found, key=lambda one: one.spilled)
    if spills is not None and worst.spilled > spills:
        raise CheckFailure(f"{worst}: at most {spills} bytes may be spilled.",
                           hint="Fewer elements a program, or more warps, leave each thread less to hold.")
    if tensor_cores and not any(one.tensor_cores for one in found):
        raise CheckFailure(f"no launch uses tensor cores ({found[0]}).", hint="`tl.dot` makes matrix products.")
    rounded = next((one for one in found if one.tf32), None)
    if no_tf32 and rounded:
        raise CheckFailure(f"{rounded}: operands of float32 are rounded to 10 bits before they are multiplied.",
                           hint='`tl.dot(..., input_precision="ieee")` keeps float32; the default is TF32.')
    return f"Built for sm_90: {'; '.join(map(str, found))}."


def _resources(built: dict[str, Any]) -> Resources:
    if built["error"]:
        lines = [line for line in built["error"].splitlines() if line.strip()]
        told = f"{lines[0]} {lines[-1] if lines[1:] else ''}".strip()
        raise CheckFailure(f"`{built['kernel']}` does not compile for a GPU: {told}",
                           hint="A kernel may call Triton's functions and your own `@triton.jit` ones; the interpreter "
                                "runs any Python, a GPU does not.")
    try:
        return resources_of(built["kernel"], built["ptx"])
    except NotAssembled as error:
        raise CheckFailure(f"{error}.") from None


def _destination(spec: str | tuple[str, torch.dtype], case: Case) -> tuple[tuple[int, ...], torch.dtype]:
    dims, dtype = (spec, precision(case.precision)) if isinstance(spec, str) else spec
    return output_shape(dims, case), dtype


def _remembered(case: Case, expected: Expected, outputs: Outputs) -> tuple[dict[str, Tensor], dict[str, float]]:
    """(the truth in float64, the relative error allowed) by destination, computed once for a case."""
    key = ("kernel", expected.__qualname__, *outputs)
    if key not in case.memo:
        inputs, settings = inputs_and_settings(case)
        exact = _each(expected, [_as(value, torch.float64) for value in inputs.values()], settings)
        honest = _each(expected, [_as(value, torch.float32) for value in inputs.values()], settings)
        truth, bounds = {}, {}
        for name, right, other in zip(outputs, exact, honest, strict=True):
            dtype = _destination(outputs[name], case)[1]
            truth[name] = right if right.dtype.is_floating_point else right.to(dtype)
            scale = max(float(right.double().abs().max()), 1e-3) if right.numel() else 1.0
            error = float((other.to(dtype).double() - right.double()).abs().max()) / scale if right.numel() else 0.0
            bounds[name] = max(2 * error, FLOOR.get(dtype, 0.0))
        case.memo[key] = truth, bounds
    return case.memo[key]


def _each(expected: Expected, inputs: list[Tensor], settings: dict[str, Any]) -> tuple[Tensor, ...]:
    result = expected(*inputs, **settings)
    return result if isinstance(result, tuple) else (result,)


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.dtype.is_floating_point else value


def _demand() -> None:
    try:
        require()
    except NoTriton as error:
        raise CheckFailure(str(error)) from None
