"""The properties that hold for every well-made function of tensors, as assertions that checks call.

U1-U11 of the curriculum. Each takes the student's function (local or remote) and a case, and raises `CheckFailure`
with the place, the difference and a hint. Those that need no reference can be public.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from etude.compare import TOLERANCE, assert_same, assert_shape_dtype
from etude.failures import CheckFailure, StudentError
from etude.observe import observe, tensors_in
from etude.strategies import Case

Function = Callable[..., Any]


def _call(function: Function, arguments: dict[str, Any]) -> Any:
    return function(*arguments.values())


def _leaves(case: Case, arguments: dict[str, Any]) -> list[Tensor]:
    return [leaf.requires_grad_() for leaf in case.leaves(arguments).values()]


def _floating_outputs(result: Any) -> list[Tensor]:
    return [tensor for tensor in tensors_in(result) if tensor.dtype.is_floating_point]


def cotangents_for(outputs: Iterable[Tensor], generator: torch.Generator) -> list[Tensor]:
    """A random cotangent for each output: the sum's all-ones cotangent is blind to softmax and every other simplex."""
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]


def gradients(function: Function, case: Case) -> tuple[Any, list[Tensor]]:
    """(outputs, vector-Jacobian products with respect to every floating argument) for random cotangents."""
    arguments = case.arguments()
    leaves = _leaves(case, arguments)
    result = _call(function, arguments)
    outputs = [output for output in _floating_outputs(result) if output.requires_grad]
    if not outputs:
        return result, [torch.zeros_like(leaf) for leaf in leaves]
    cotangents = cotangents_for(_floating_outputs(result), case.generator())
    cotangents = [c for c, o in zip(cotangents, _floating_outputs(result), strict=True) if o.requires_grad]
    found = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True)
    return result, [torch.zeros_like(leaf) if grad is None else grad
                    for leaf, grad in zip(leaves, found, strict=True)]


# ---------------------------------------------------------------------------------------------- against a reference

def assert_equivalent(function: Function, reference: Function, case: Case, *, grad: bool = True) -> None:
    """U1, U3: structure, shapes, dtypes, values and gradients (random cotangent) agree with the reference.

    In float64 to `etude.compare.TOLERANCE`. In a smaller dtype the error against the float64 reference may be twice
    the error that the reference itself makes in that dtype.
    """
    if case.dtype is not torch.float64:
        _assert_as_accurate(function, reference, case)
        return
    if not grad:
        expected = _remembered(case, reference, "values", lambda: _call(reference, case.arguments()))
        assert_same(_call(function, case.arguments()), expected)
        return
    expected, expected_grads = _remembered(case, reference, "grads", lambda: gradients(reference, case))
    got, got_grads = gradients(function, case)
    assert_same(got, expected)
    for name, one, other in zip(case.floating(), got_grads, expected_grads, strict=True):
        assert_same(one, other, f"gradient of {name}")


def _assert_as_accurate(function: Function, reference: Function, case: Case) -> None:
    def expect() -> list[tuple[Tensor, float]]:
        rounded = case.arguments()
        exact = case.replaced(rounded, {name: leaf.double() for name, leaf in case.leaves(rounded).items()})
        truth = [t.detach() for t in tensors_in(_call(reference, exact))]
        same = [t.detach() for t in tensors_in(_call(reference, rounded))]
        return [(one.to(other.dtype), _twice_error(other, one)) for one, other in zip(truth, same, strict=True)]
    expected = _remembered(case, reference, "accuracy", expect)
    got = list(tensors_in(_call(function, case.arguments())))
    if len(got) != len(expected):
        raise CheckFailure(f"output: expected {len(expected)} tensors, got {len(got)}.")
    for index, (one, (truth, tolerance)) in enumerate(zip(got, expected, strict=True)):
        where = "output" if len(expected) == 1 else f"output[{index}]"
        assert_same(one, truth, where, tolerance=tolerance if truth.dtype.is_floating_point else None)


def _twice_error(same_dtype: Tensor, truth: Tensor) -> float:
    if not truth.dtype.is_floating_point or not truth.numel():
        return 0.0
    scale = max(float(truth.abs().max()), 1e-3)
    return max(2 * float((same_dtype.double() - truth.double()).abs().max()) / scale, TOLERANCE[same_dtype.dtype])


def _remembered(case: Case, reference: Function, what: str, compute: Callable[[], Any]) -> Any:
    """The reference's part, computed once for a case and shared by all submissions that meet it."""
    # Only a function of a module is the same whenever it has the same name; a lambda or a module's instance is not.
    if not isinstance(reference, FunctionType) or "<" in reference.__qualname__:
        return compute()
    key = (what, reference.__qualname__)
    if key not in case.memo:
        case.memo[key] = compute()
    return case.memo[key]


# ---------------------------------------------------------------------------------------------- without a reference

def _finite(result: Any) -> Any:
    """The student's own result, which another is to equal; refused here if nothing can equal it."""
    if not all(torch.isfinite(tensor).all() for tensor in tensors_in(result)):
        raise CheckFailure("output is not finite: it contains NaN or inf.")
    return result


def assert_shape(function: Function, case: Case, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """U1: the output has this shape, and the dtype of the floating inputs unless another is named. Returns it."""
    result = _call(function, case.arguments())
    assert_shape_dtype(result, tuple(shape), dtype or case.dtype)
    return result


def assert_pure(function: Function, case: Case) -> None:
    """U2: the inputs are bit-unchanged after the call, and a second call gives the same bits."""
    arguments = case.arguments()
    before = [tensor.clone() for tensor in tensors_in(list(arguments.values()))]
    names = [name for name, value in arguments.items() for _ in tensors_in(value)]
    seen = observe(function, *arguments.values())
    if len(seen.inputs_after) != len(before):
        raise CheckFailure("the call added something to an argument, or took something away from it.",
                           hint="`pop`, `update` and `params[...] = ...` change the caller's dict.")
    for name, one, other in zip(names, seen.inputs_after, before, strict=True):
        if not _identical(one, other):
            raise CheckFailure(f"the input `{name}` was changed by the call.",
                               hint="Operations that end in _ and assignments like x[...] = y write to the input.")
    first, second = list(tensors_in(seen.result)), list(tensors_in(_call(function, case.arguments())))
    if len(first) != len(second) or not all(map(_identical, first, second)):
        raise CheckFailure("a second call with the same inputs gives another output.",
                           hint="Does the function keep something between calls?")


def _identical(one: Tensor, other: Tensor) -> bool:
    """Equal to the bit; NaN equals NaN, as it is another property's business."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one != one) & (other != other)).all())


def assert_gradient_consistent(function: Function, case: Case, *, step: float = 1e-6) -> None:
    """U4: the gradient agrees with central finite differences of the function's own values, in a random direction."""
    arguments = case.arguments()
    generator = case.generator(2)
    leaves = case.leaves(arguments)
    directions = {name: torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
                  for name, leaf in leaves.items()}

    def shifted(sign: float) -> list[Tensor]:
        moved = case.replaced(arguments, {n: leaf + sign * step * directions[n] for n, leaf in leaves.items()})
        return [o.detach() for o in _floating_outputs(_call(function, moved))]

    result, found = gradients(function, case)
    cotangents = cotangents_for(_floating_outputs(result), case.generator())
    numerical = sum(float(((up - down) / (2 * step) * c).sum())
                    for up, down, c in zip(shifted(1.0), shifted(-1.0), cotangents, strict=True))
    analytical = sum(float((g * directions[name]).sum()) for name, g in zip(case.floating(), found, strict=True))
    scale = max(abs(numerical), abs(analytical), 1e-2)
    if not abs(numerical - analytical) <= 1e-4 * scale:
        raise CheckFailure(f"the gradient does not belong to the values: along a random direction the output changes "
                           f"by {numerical:.6g}, backward says {analytical:.6g}.",
                           hint="Look for detach(), .data, .item(), torch.no_grad() or a wrong custom backward.")


def assert_batch_independent(function: Function, case: Case, *names: str) -> None:
    """U5: computing the batch at once equals computing each of its elements; `names` are the batched arguments."""
    arguments = case.arguments()
    whole = _finite(_call(function, arguments))
    for index in range(arguments[names[0]].shape[0]):
        alone = {n: v[index:index + 1] if n in names else v for n, v in arguments.items()}
        for one, other in zip(tensors_in(_call(function, alone)), tensors_in(whole), strict=True):
            assert_same(one, other[index:index + 1].detach(), f"batch element {index} computed alone")


def assert_any_layout(function: Function, case: Case) -> None:
    """U6: strided and expanded inputs give what contiguous copies of them give."""
    for layout in ("strided", "expanded"):
        laid_out = case.but(layout=layout)
        arguments = laid_out.arguments()
        plain = case.replaced(arguments, {name: leaf.contiguous() for name, leaf in case.leaves(arguments).items()})
        expected = _finite(_call(function, plain))
        got = _call(function, arguments)
        for one, other in zip(tensors_in(got), tensors_in(expected), strict=True):
            assert_same(one, other.detach(), f"output for {layout} inputs")


def assert_finite_at(function: Function, case: Case, scale: float = 1e3) -> None:
    """U8: inputs `scale` times as large, in float32, give finite outputs and gradients."""
    large = case.but(dtype=torch.float32, scale=scale)
    result, found = gradients(function, large)
    named = [("output", output) for output in _floating_outputs(result)]
    named += [(f"gradient of {name}", grad) for name, grad in zip(case.floating(), found, strict=True)]
    for where, tensor in named:
        if not torch.isfinite(tensor).all():
            raise CheckFailure(f"{where} is not finite for inputs around {scale:g} in float32.",
                               hint="exp overflows beyond 88 in float32: subtract the maximum first.")


def assert_state_dict(module: torch.nn.Module, expected: dict[str, Sequence[int]]) -> None:
    """U9: the module's `state_dict` has exactly these keys, with these shapes."""
    state = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    wanted = {name: tuple(shape) for name, shape in expected.items()}
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or extra:
        raise CheckFailure("the state_dict has other keys than the contract says:"
                           + (f" missing {', '.join(missing)}." if missing else "")
                           + (f" Not in the contract: {', '.join(extra)}." if extra else ""))
    for name, shape in wanted.items():
        if state[name] != shape:
            raise CheckFailure(f"state_dict['{name}']: expected shape {shape}, got {state[name]}.")


def assert_eval_deterministic(module: torch.nn.Module, *inputs: Any) -> None:
    """U10: after `eval()` two calls agree to the bit, and no buffer changes; `train()` can be entered again."""
    module.eval()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    first, second = ([t.detach() for t in tensors_in(module(*inputs))] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        if not torch.equal(one, other):
            raise CheckFailure("in eval mode two calls with the same input give different outputs.",
                               hint="Randomness belongs to training: look at self.training.")
    for name, buffer in module.named_buffers():
        if not torch.equal(before[name], buffer):
            raise CheckFailure(f"in eval mode the buffer `{name}` changed.",
                               hint="Running statistics are updated in training only.")
    module.train()


def assert_detached(*named: tuple[str, Tensor]) -> None:
    """U11: buffers and returned statistics do not require a gradient: they would keep every past graph alive."""
    for name, tensor in named:
        if tensor.requires_grad:
            raise CheckFailure(f"`{name}` requires a gradient.",
                               hint="Compute it under torch.no_grad(), or detach() it.")


def assert_invariant(function: Function, case: Case, change: Callable[[dict[str, Any]], dict[str, Any]],
                     says: str, *, tolerance: float | None = None) -> None:
    """The output does not change when `change` is applied to the arguments; `says` ends "the output changes when"."""
    expected = _finite(_call(function, case.arguments()))
    got = _call(function, change(case.arguments()))
    try:
        for one, other in zip(tensors_in(got), tensors_in(expected), strict=True):
            assert_same(one, other.detach(), tolerance=tolerance)
    except CheckFailure as failure:
        raise CheckFailure(f"the output changes when {says}. {failure.summary}", difference=failure.difference,
                           hint=failure.hint) from None


def assert_no_larger(function: Function, case: Case, elements: int, says: str) -> None:
    """No tensor made during the call has more than `elements` elements; `says` explains the bound."""
    seen = observe(function, *case.arguments().values(), audit=True)
    made = 1
    for dim in seen.largest:
        made *= dim
    if made > elements:
        raise CheckFailure(f"the call creates a tensor of shape {seen.largest}, {made} elements; {says} "
                           f"allows {elements}.")


def assert_refuses(function: Function, *args: Any, error: str = "ValueError") -> None:
    """The call raises this error; the contract says so."""
    try:
        function(*args)
    except StudentError as raised:
        if raised.type_name == error:
            return
        raise CheckFailure(f"expected a {error}, but {raised.type_name} was raised.") from None
    raise CheckFailure(f"expected a {error}, but the call returned.")
