"""What students hand in for the regularization kernels. A variant replaces kernels, launchers, or both."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


def _exponential(value):
    """Plain Python, which a kernel cannot call on a GPU."""
    return tl.exp(value)


@triton.jit
def _summed(logits, V, BLOCK: tl.constexpr):
    """The first walk over a row: its maximum, the sum of exponentials below it, and the plain sum."""
    lane = tl.arange(0, BLOCK)
    top, scaled, plain = float("-inf"), 0.0, 0.0
    for start in range(0, V, BLOCK):
        inside = start + lane < V
        value = tl.load(logits + start + lane, mask=inside, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(top, tl.max(value))
        scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
        plain += tl.sum(tl.where(inside, value, 0.0))
        top = higher
    return top, scaled, plain


@triton.jit
def _loss(top, scaled, plain, right, V, eps):
    return tl.log(scaled) + (1.0 - eps) * (top - right) + eps * (top - plain / V)


@triton.jit
def _write(grad, logits, target, top, scaled, V, kept, spread, share, BLOCK: tl.constexpr):
    """The second walk: the target is `kept` for the right class, and `spread` for every class."""
    lane = tl.arange(0, BLOCK)
    for start in range(0, V, BLOCK):
        column = start + lane
        value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
        smoothed = tl.where(column == target, kept, 0.0) + spread
        tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) * share, mask=column < V)


@triton.jit
def _clear(grad, V, BLOCK: tl.constexpr):
    lane = tl.arange(0, BLOCK)
    for start in range(0, V, BLOCK):
        tl.store(grad + start + lane, tl.zeros([BLOCK], dtype=tl.float32), mask=start + lane < V)


def _launch(loss, grad, logits, y, eps, ignore_index, grad_row=None, logits_row=None):
    """The reference's launches, with other strides."""
    N, V = logits.shape
    losses = torch.empty(N, dtype=torch.float32, device=logits.device)
    count = torch.empty(1, dtype=torch.int32, device=logits.device)
    count_kernel[(1,)](count, y, N, ignore_index, BLOCK=1024)
    ls_cross_entropy_kernel[(N,)](losses, grad, logits, y, count, V, eps, ignore_index,
                                  grad.stride(0) if grad_row is None else grad_row,
                                  logits.stride(0) if logits_row is None else logits_row,
                                  BLOCK=min(triton.next_power_of_2(V), 4096))
    mean_kernel[(1,)](loss, losses, count, N, BLOCK=1024)


# ------------------------------------------------------------------------------------------ masks and strides

@mistake("fused_ls_cross_entropy", "store_without_mask", "the gradient is stored without a mask",
         hint="The last block is longer than what is left of the row: behind V lies the next row, or somebody else.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
            smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
            tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) / tl.load(count))


@mistake("fused_ls_cross_entropy", "load_without_mask", "the first walk loads without a mask",
         hint="The lanes beyond V read what lies behind the row, and it enters the maximum and the sums.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(column < V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "mask_off_by_one", "the masks let one column too many through",
         hint="Columns count from 0: the last one is V - 1.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column <= V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(column <= V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
            smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
            tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) / tl.load(count), mask=column <= V)


@mistake("fused_ls_cross_entropy", "masked_lanes_are_zero",
         "masked lanes count as logits of 0 in the maximum and the sum of exponentials",
         hint="e to the power of 0 is not 0: for a softmax, `other` is minus infinity.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(column < V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "minus_infinity_in_the_plain_sum",
         "masked lanes add minus infinity to the plain sum of the logits",
         hint="`other` that is right for the maximum is wrong for the plain sum: `tl.where` takes these lanes out.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(value)
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "rows_are_contiguous", "rows are taken to follow each other, V elements apart",
         hint="The start of row i is i times the tensor's `stride(0)`.")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    V = logits.shape[1]
    _launch(loss, grad, logits, y, eps, ignore_index, grad_row=V, logits_row=V)


@mistake("fused_ls_cross_entropy", "one_stride_for_both", "the row stride of the logits is used for grad, too",
         hint="Each tensor has strides of its own; only in place are they the same.")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    _launch(loss, grad, logits, y, eps, ignore_index, grad_row=logits.stride(0))


# ------------------------------------------------------------------------------------------ the first walk

@mistake("fused_ls_cross_entropy", "no_rescale", "the sum of exponentials is not rescaled when the maximum moves",
         hint="What was summed below the old maximum has to be multiplied by exp(old - new): Eq. (5).")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(column < V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "rescaled_upside_down", "the sum is rescaled by exp(new - old)",
         hint="The new maximum is the larger one, so the factor of Eq. (5) is at most 1; it is 0 in the first step.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(higher - top) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(column < V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "no_maximum", "exponentials are taken without subtracting the maximum",
         hint="exp(100) is infinite in float32: subtract the largest logit first.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = 0.0, 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            scaled += tl.sum(tl.exp(value))
            plain += tl.sum(tl.where(column < V, value, 0.0))
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "statistics_of_the_first_block",
         "maximum and sums are those of the first block of the row",
         hint="A loop has to go over the whole row; for small V one block is all, for a vocabulary it is not.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, BLOCK, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))
            plain += tl.sum(tl.where(column < V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "sums_in_the_input_dtype",
         "the sums over the row are kept in the dtype of the logits",
         hint="float16 cannot add 1 to 2048 and ends at 65504, bfloat16 cannot add 1 to 256: convert right after the "
              "load.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        dtype: tl.constexpr = logits.dtype.element_ty
        top, scaled, plain = float("-inf"), tl.full([], 0.0, dtype), tl.full([], 0.0, dtype)
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = (scaled * tl.exp(top - higher) + tl.sum(tl.exp(value - higher))).to(dtype)
            plain += tl.sum(tl.where(column < V, value, 0.0)).to(dtype)
            top = higher
        scaled, plain = scaled.to(tl.float32), plain.to(tl.float32)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "python_in_the_kernel", "the kernel calls a Python function",
         hint="The interpreter runs any Python, a GPU does not: decorate the function with `@triton.jit`.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = float("-inf"), 0.0, 0.0
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(value))
            scaled = scaled * _exponential(top - higher) + tl.sum(_exponential(value - higher))
            plain += tl.sum(tl.where(column < V, value, 0.0))
            top = higher
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


# ------------------------------------------------------------------------------------------ loss and gradient

@mistake("fused_ls_cross_entropy", "smoothing_missing_in_the_loss", "the loss is that without smoothing",
         hint="Eq. (4) has a second term with eps in it: the mean of the logits.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, 0.0))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "smoothing_missing_in_the_gradient",
         "the gradient is that without smoothing, p minus one-hot",
         hint="Eq. (6) subtracts q, not the one-hot target.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0, 0.0, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "eps_not_divided", "the gradient subtracts eps from every class, not eps / V",
         hint="eps is shared by all V classes: the gradient of a row adds up to 0.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "target_not_reduced",
         "the right class keeps the full 1 and eps / V is subtracted besides",
         hint="The right class gets 1 - eps and its share of eps: the gradient of a row adds up to 0.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "over_the_other_classes", "eps is shared by the V - 1 other classes",
         hint="In Eq. (3) the uniform distribution is over all V classes, the right one included.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        others = top - (plain - right) / (V - 1)
        tl.store(losses + row, tl.log(scaled) + (1.0 - eps) * (top - right) + eps * others)
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
            smoothed = tl.where(column == target, 1.0 - eps, eps / (V - 1))
            tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) / tl.load(count), mask=column < V)


@mistake("fused_ls_cross_entropy", "sign", "the gradient has the opposite sign",
         hint="The gradient is p - q: the loss falls where the right class's logit grows.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, -1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "not_normalized", "the exponentials are not divided by their sum",
         hint="p is the exponential divided by the sum of the whole row.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
            smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
            tl.store(grad + column, (tl.exp(value - top) - smoothed) / tl.load(count), mask=column < V)


@mistake("fused_ls_cross_entropy", "gradient_not_divided",
         "the gradient is not divided by the number of rows that count",
         hint="The loss is a mean, so its gradient has the factor 1 / n of Eq. (6).")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0, BLOCK)


@mistake("fused_ls_cross_entropy", "gradient_of_the_first_block", "only the first block of each row gets its gradient",
         hint="The second walk goes over the whole row, like the first.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        column = tl.arange(0, BLOCK)
        value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
        smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
        tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) / tl.load(count), mask=column < V)


@mistake("fused_ls_cross_entropy", "sum_instead_of_mean", "the losses are added and not divided",
         hint="Eq. (3) divides by the number of rows that count.")
@triton.jit
def mean_kernel(loss, losses, count, N, BLOCK: tl.constexpr):
    total = 0.0
    for row in range(0, N):
        total += tl.load(losses + row)
    tl.store(loss, total)


@mistake("fused_ls_cross_entropy", "mean_of_the_first_32_rows", "of the rows' losses only the first 32 are added",
         hint="A loop has to go over all rows.")
@triton.jit
def mean_kernel(loss, losses, count, N, BLOCK: tl.constexpr):
    row = tl.arange(0, 32)
    total = tl.sum(tl.load(losses + row, mask=row < N, other=0.0))
    tl.store(loss, total / tl.load(count))


# ------------------------------------------------------------------------------------------ rows that do not count

@mistake("fused_ls_cross_entropy", "mean_over_all_rows",
         "loss and gradient are divided by the number of all rows, ignored ones too",
         hint="n of Eq. (3) is the number of rows whose target is not ignore_index.")
@triton.jit
def count_kernel(count, y, N, ignore_index, BLOCK: tl.constexpr):
    tl.store(count, N)


@mistake("fused_ls_cross_entropy", "count_not_clamped", "nothing is done about a batch in which every row is ignored",
         hint="0 / 0 is NaN; the contract asks for 0. Divide by at least 1.")
@triton.jit
def count_kernel(count, y, N, ignore_index, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], dtype=tl.int32)
    for start in range(0, N, BLOCK):
        row = start + tl.arange(0, BLOCK)
        total += (tl.load(y + row, mask=row < N, other=ignore_index) != ignore_index).to(tl.int32)
    tl.store(count, tl.sum(total))


@mistake("fused_ls_cross_entropy", "masked_rows_are_counted", "lanes beyond N count as rows",
         hint="A masked lane has the value of `other`: choose one that does not count.")
@triton.jit
def count_kernel(count, y, N, ignore_index, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], dtype=tl.int32)
    for start in range(0, N, BLOCK):
        row = start + tl.arange(0, BLOCK)
        total += (tl.load(y + row, mask=row < N, other=-1) != ignore_index).to(tl.int32)
    tl.store(count, tl.maximum(tl.sum(total), 1))


@mistake("fused_ls_cross_entropy", "ignored_rows_get_a_gradient",
         "ignored rows get the gradient of a row without a right class",
         hint="An ignored row has no part in the loss, so all of its gradient is 0.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    right, counts = 0.0, target != ignore_index
    if counts:
        right = tl.load(logits + target).to(tl.float32)
    top, scaled, plain = _summed(logits, V, BLOCK)
    tl.store(losses + row, tl.where(counts, _loss(top, scaled, plain, right, V, eps), 0.0))
    chosen = tl.where(counts, target, -1)
    _write(grad, logits, chosen, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "ignored_rows_smoothed", "the loss has the uniform part of ignored rows",
         hint="An ignored row does not count at all: neither for its right class nor for the others.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, eps * (tl.log(scaled) + top - plain / V))
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "ignored_rows_not_written", "nothing is written to the gradient of an ignored row",
         hint="The caller's `grad` is full of NaN, or of logits: 0 has to be written there.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "ignored_target_is_an_address",
         "the logit of the right class is loaded before it is known whether there is one",
         hint="ignore_index may be -100: what lies there belongs to another row, or to nobody.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    right = tl.load(logits + target).to(tl.float32)
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "always_minus_100", "only the target -100 is ignored",
         hint="The caller chooses ignore_index; -100 is only what PyTorch takes if nobody says.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == -100:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target, mask=target < V, other=0.0).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@mistake("fused_ls_cross_entropy", "always_minus_100")
@triton.jit
def count_kernel(count, y, N, ignore_index, BLOCK: tl.constexpr):
    total = 0
    for row in range(0, N):
        total += (tl.load(y + row) != -100).to(tl.int32)
    tl.store(count, tl.maximum(total, 1))


# ------------------------------------------------------------------------------------------ in place, and side by side

@mistake("fused_ls_cross_entropy", "right_logit_after_the_gradient",
         "the logit of the right class is read after the gradient has overwritten it",
         hint="In place, `logits` holds the gradient by then: read what you need before the second walk.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        top, scaled, plain = _summed(logits, V, BLOCK)
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)
        right = tl.load(logits + target).to(tl.float32)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))


@mistake("fused_ls_cross_entropy", "reads_the_destination", "the second walk reads the logits from grad",
         hint="grad and logits may be the same memory, and they may not: grad is full of NaN then.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(grad + column, mask=column < V, other=0.0).to(tl.float32)
            smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
            tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) / tl.load(count), mask=column < V)


@mistake("fused_ls_cross_entropy", "probabilities_over_the_logits",
         "the softmax is stored over the logits, also where grad is other memory",
         hint="Only destinations may be written: where grad is not logits, the caller may still need them.")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
            p = tl.exp(value - top) / scaled
            tl.store(logits + column, p, mask=column < V)
            smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
            tl.store(grad + column, (p - smoothed) / tl.load(count), mask=column < V)


@triton.jit
def _block_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        tl.store(grad + column, tl.zeros([BLOCK], dtype=tl.float32), mask=column < V)
    else:
        right = tl.load(logits + target).to(tl.float32)
        top, scaled, plain = _summed(logits, V, BLOCK)
        tl.store(losses + row, _loss(top, scaled, plain, right, V, eps))
        value = tl.load(logits + column, mask=column < V, other=0.0).to(tl.float32)
        smoothed = tl.where(column == target, 1.0 - eps, 0.0) + eps / V
        tl.store(grad + column, (tl.exp(value - top) / scaled - smoothed) / tl.load(count), mask=column < V)


@triton.jit
def _zero_kernel(loss):
    tl.store(loss, 0.0)


@triton.jit
def _racing_kernel(loss, losses, count, N):
    row = tl.program_id(0)
    tl.store(loss, tl.load(loss) + tl.load(losses + row) / tl.load(count))


@triton.jit
def _overwriting_kernel(loss, losses, count, N):
    row = tl.program_id(0)
    tl.store(loss, tl.load(losses + row) / tl.load(count))


@triton.jit
def _atomic_kernel(loss, losses, count, N):
    row = tl.program_id(0)
    tl.atomic_add(loss, tl.load(losses + row) / tl.load(count))


def _rows(logits, y, ignore_index):
    """(losses, count): scratch memory, and the number of rows that count."""
    N = logits.shape[0]
    losses = torch.empty(N, dtype=torch.float32, device=logits.device)
    count = torch.empty(1, dtype=torch.int32, device=logits.device)
    count_kernel[(1,)](count, y, N, ignore_index, BLOCK=1024)
    return losses, count


def _launch_rows(grad, logits, y, eps, ignore_index):
    """Gradient and each row's loss, as the reference computes them: (losses, count)."""
    losses, count = _rows(logits, y, ignore_index)
    V = logits.shape[1]
    ls_cross_entropy_kernel[(len(y),)](losses, grad, logits, y, count, V, eps, ignore_index, grad.stride(0),
                                       logits.stride(0), BLOCK=min(triton.next_power_of_2(V), 4096), num_warps=16)
    return losses, count


@mistake("fused_ls_cross_entropy", "blocks_of_a_row_race",
         "each program sums a whole row, and overwrites one block of it",
         hint="In place, a program of the same row may have overwritten what this one still reads: one program a "
              "row, or a launch for the sums and another for the gradient.")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    N, V = logits.shape
    losses, count = _rows(logits, y, ignore_index)
    block = min(triton.next_power_of_2(V), 4096)
    _block_kernel[(N, triton.cdiv(V, block))](losses, grad, logits, y, count, V, eps, ignore_index, grad.stride(0),
                                              logits.stride(0), BLOCK=block, num_warps=16)
    mean_kernel[(1,)](loss, losses, count, N, BLOCK=1024)


@mistake("fused_ls_cross_entropy", "loss_races", "all programs add to the loss without atomic operations",
         hint="Between a program's load and its store another may have stored: use `tl.atomic_add`, or a launch of "
              "one program.")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    losses, count = _launch_rows(grad, logits, y, eps, ignore_index)
    _zero_kernel[(1,)](loss)
    _racing_kernel[(len(y),)](loss, losses, count, len(y))


@mistake("fused_ls_cross_entropy", "loss_overwritten", "every program stores its own row's loss",
         hint="The loss is a sum over all rows.")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    losses, count = _launch_rows(grad, logits, y, eps, ignore_index)
    _overwriting_kernel[(len(y),)](loss, losses, count, len(y))


@mistake("fused_ls_cross_entropy", "loss_starts_with_nan", "the loss is added to without being made zero before",
         hint="The caller's loss holds NaN: a sum has to begin with 0.")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    losses, count = _launch_rows(grad, logits, y, eps, ignore_index)
    _atomic_kernel[(len(y),)](loss, losses, count, len(y))


# ------------------------------------------------------------------------------------------ right, otherwise

@triton.jit
def _three_walks_kernel(loss, grad, logits, y, N, V, eps, ignore_index, grad_row, logits_row, BLOCK: tl.constexpr):
    """Counts by itself; a walk for the maximum, one for the sums, one for the gradient; adds to the loss."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    target = tl.load(y + row)
    counts = target != ignore_index
    n = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, N, BLOCK):
        labels = tl.load(y + start + lane, mask=start + lane < N, other=ignore_index)
        n += tl.where(labels != ignore_index, 1.0, 0.0)
    share = tl.where(counts, 1.0 / tl.maximum(tl.sum(n), 1.0), 0.0)
    right = tl.load(logits + target, mask=counts, other=0.0).to(tl.float32)
    top = tl.full([BLOCK], float("-inf"), dtype=tl.float32)
    for start in range(0, V, BLOCK):
        value = tl.load(logits + start + lane, mask=start + lane < V, other=float("-inf"))
        top = tl.maximum(top, value.to(tl.float32))
    largest = tl.max(top)
    scaled, plain = tl.zeros([BLOCK], dtype=tl.float32), tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, V, BLOCK):
        value = tl.load(logits + start + lane, mask=start + lane < V, other=0.0).to(tl.float32)
        scaled += tl.where(start + lane < V, tl.exp(value - largest), 0.0)
        plain += value
    total = tl.sum(scaled)
    log_sum = largest + tl.log(total)
    tl.atomic_add(loss, (log_sum - (1.0 - eps) * right - eps * tl.sum(plain) / V) * share)
    for start in range(0, V, BLOCK):
        value = tl.load(logits + start + lane, mask=start + lane < V, other=0.0).to(tl.float32)
        p = tl.exp(value - largest) / total
        tl.store(grad + start + lane, (p - eps / V) * share, mask=start + lane < V)
        tl.store(grad + start + lane, (p - eps / V - (1.0 - eps)) * share, mask=start + lane == target)


@alternative("fused_ls_cross_entropy", "three_walks_and_atomics")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    N, V = logits.shape
    _zero_kernel[(1,)](loss)
    _three_walks_kernel[(N,)](loss, grad, logits, y, N, V, eps, ignore_index, grad.stride(0), logits.stride(0),
                              BLOCK=512)


@alternative("fused_ls_cross_entropy", "a_maximum_for_each_lane")
@triton.jit
def ls_cross_entropy_kernel(losses, grad, logits, y, count, V, eps, ignore_index, grad_row, logits_row,
                            BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    grad, logits = grad + row * grad_row, logits + row * logits_row
    if target == ignore_index:
        tl.store(losses + row, 0.0)
        _clear(grad, V, BLOCK)
    else:
        right = tl.load(logits + target).to(tl.float32)
        tops = tl.full([BLOCK], -3.0e38, dtype=tl.float32)
        sums, plain = tl.zeros([BLOCK], dtype=tl.float32), tl.zeros([BLOCK], dtype=tl.float32)
        for start in range(0, V, BLOCK):
            column = start + tl.arange(0, BLOCK)
            value = tl.load(logits + column, mask=column < V, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(tops, value)
            sums = sums * tl.exp(tops - higher) + tl.exp(value - higher)
            plain += tl.where(column < V, value, 0.0)
            tops = higher
        top = tl.max(tops)
        scaled = tl.sum(sums * tl.exp(tops - top))
        tl.store(losses + row, _loss(top, scaled, tl.sum(plain), right, V, eps))
        _write(grad, logits, target, top, scaled, V, 1.0 - eps, eps / V, 1.0 / tl.load(count), BLOCK)


@triton.jit
def _sums_kernel(losses, tops, sums, logits, y, V, eps, ignore_index, logits_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(y + row)
    counts = target != ignore_index
    logits += row * logits_row
    right = tl.load(logits + target, mask=counts, other=0.0).to(tl.float32)
    top, scaled, plain = _summed(logits, V, BLOCK)
    tl.store(losses + row, tl.where(counts, _loss(top, scaled, plain, right, V, eps), 0.0))
    tl.store(tops + row, top)
    tl.store(sums + row, scaled)


@triton.jit
def _gradient_kernel(grad, tops, sums, count, logits, y, V, eps, ignore_index, grad_row, logits_row,
                     BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    target = tl.load(y + row)
    value = tl.load(logits + row * logits_row + column, mask=column < V, other=0.0).to(tl.float32)
    found = tl.exp(value - tl.load(tops + row)) / tl.load(sums + row) - eps / V
    found -= tl.where(column == target, 1.0 - eps, 0.0)
    found = tl.where(target == ignore_index, 0.0, found / tl.load(count))
    tl.store(grad + row * grad_row + column, found, mask=column < V)


@alternative("fused_ls_cross_entropy", "two_launches_over_the_logits")
def fused_ls_cross_entropy(loss, grad, logits, y, eps, ignore_index):
    N, V = logits.shape
    losses, count = _rows(logits, y, ignore_index)
    tops, sums = torch.empty_like(losses), torch.empty_like(losses)
    _sums_kernel[(N,)](losses, tops, sums, logits, y, V, eps, ignore_index, logits.stride(0), BLOCK=1024)
    _gradient_kernel[(N, triton.cdiv(V, 1024))](grad, tops, sums, count, logits, y, V, eps, ignore_index,
                                                grad.stride(0), logits.stride(0), BLOCK=1024)
    mean_kernel[(1,)](loss, losses, count, N, BLOCK=1024)
