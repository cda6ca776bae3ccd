"""What students hand in for the recurrent kernels. A variant replaces kernels, launchers, `compose`, or several."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


def _fused(decay, state, added):
    """Plain Python, which a kernel cannot call on a GPU."""
    return decay * state + added


@triton.jit
def _join(a1, b1, a2, b2):
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _latest(a1, b1, a2, b2):
    """Right from left to right, where nobody asks for the product."""
    return a2, a2 * b1 + b2


@triton.jit
def _get(x, batch, step, column, x_batch, x_row, mask, other):
    return tl.load(x + batch * x_batch + step * x_row + column, mask=mask, other=other).to(tl.float32)


@triton.jit
def _row(block, lane, which):
    """One row of a block, as a block of one row."""
    return tl.sum(tl.where(lane[:, None] == which, block, 0.0), axis=0)[None, :]


def _strides(*tensors):
    return [stride for tensor in tensors for stride in tensor.stride()[:-1]]


# ------------------------------------------------------------------------------------------------ joining steps

@mistake("linear_recurrence_triton", "compose_in_the_wrong_order", "the later step is applied before the earlier one",
         hint="The earlier step stands on the left: (a2, b2) is applied to what (a1, b1) returns.")
@triton.jit
def compose(a1, b1, a2, b2):
    return a1 * a2, a1 * b2 + b1


@mistake("linear_recurrence_triton", "compose_adds_the_decays", "joined steps add their decays",
         hint="Two steps of decay a1 and a2 multiply the state by both.")
@triton.jit
def compose(a1, b1, a2, b2):
    return a1 + a2, a2 * b1 + b2


@mistake("linear_recurrence_triton", "compose_undecayed", "what the earlier step added is not decayed by the later one",
         hint="In Eq. (3) b1 goes through the later step, which multiplies it.")
@triton.jit
def compose(a1, b1, a2, b2):
    return a1 * a2, b1 + b2


@mistake("linear_recurrence_triton", "compose_is_not_associative", "a joined step has the decay of the later one alone",
         hint="From left to right the product is not missed, and the interpreter goes from left to right. A GPU joins "
              "neighbours in any order, and needs it.")
@triton.jit
def compose(a1, b1, a2, b2):
    return a2, a2 * b1 + b2


@mistake("linear_recurrence_triton", "compose_is_not_associative")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        added += tl.where(lane[:, None] == 0, decay * carry, 0.0)
        product, state = tl.associative_scan((decay, added), 0, _latest)
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


# ------------------------------------------------------------------------------------------------ the forward pass

@mistake("linear_recurrence_triton", "chunks_begin_with_zero", "every chunk but the first begins with a state of 0",
         hint="The last state of a chunk is what the next one starts from.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)


@mistake("linear_recurrence_triton", "chunks_begin_with_h0", "every chunk begins with h0",
         hint="The last state of a chunk is what the next one starts from.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)


@mistake("linear_recurrence_triton", "carry_without_its_past",
         "the carry is what its own chunk added, without what came before",
         hint="The carry is the last h of Eq. (4), with both of its terms.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(since, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "carry_of_the_first_step", "the carry is the first state of a chunk, not the last",
         hint="The next chunk starts from the state right before it.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, 0)


@mistake("linear_recurrence_triton", "carry_not_decayed",
         "the carry is added to every state of a chunk without decaying",
         hint="In Eq. (4) the carry is multiplied by the product of all decays since the chunk began.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "carry_decays_once",
         "the carry is multiplied by each step's own decay, not by their product",
         hint="The scan returns two things; the first one is the product of all decays since the chunk began.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = decay * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "initial_state_missing", "h0 is not used",
         hint="The first chunk starts from h0.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "only_the_first_chunk", "only the first chunk of steps is computed",
         hint="A loop has to go through all T steps.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, BLOCK_T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "input_is_decayed", "the input of a step is decayed together with the state",
         hint="In Eq. (1) the decay multiplies the state before the step, and nothing else.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, decay * added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "scan_over_channels", "the scan goes along the channels, not along time",
         hint="The axis of the scan is that of the steps: 0 in a block of steps and channels.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 1, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "mask_off_by_one", "the mask lets one step too many through",
         hint="Steps count from 0: the last one is T - 1.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step <= T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "store_without_mask", "the store has no mask",
         hint="A block is longer than what is left: beyond T lies another sequence, beyond D another step.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "steps_are_not_masked", "loads mask the channels, not the steps",
         hint="The last chunk reaches beyond T: what lies there is not yours to read.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, column < D, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, column < D, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "carry_in_half", "the carry is rounded to the dtype of h",
         hint="What is small against the state is lost, chunk after chunk: keep the carry in float32.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = product * carry + since
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1).to(h.dtype.element_ty).to(tl.float32)


@mistake("linear_recurrence_triton", "python_in_the_kernel", "the kernel calls a Python function",
         hint="The interpreter runs any Python, a GPU does not: decorate the function with `@triton.jit`.")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        product, since = tl.associative_scan((decay, added), 0, _join)
        state = _fused(product, carry, since)
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@mistake("linear_recurrence_triton", "sequences_are_contiguous",
         "steps are taken to follow each other, D elements apart",
         hint="The start of step t is t times the tensor's `stride(1)`.")
def linear_recurrence_triton(h, a, b, h0):
    B, T, D = a.shape
    linear_recurrence_kernel[(B, triton.cdiv(D, 32))](h, a, b, h0, T, D, *(T * D, D) * 3, D, BLOCK_T=32, BLOCK_D=32)


@mistake("linear_recurrence_triton", "strides_of_a_for_all", "the strides of a are used for h and b, too",
         hint="Each tensor has strides of its own.")
def linear_recurrence_triton(h, a, b, h0):
    B, T, D = a.shape
    linear_recurrence_kernel[(B, triton.cdiv(D, 32))](h, a, b, h0, T, D, *a.stride()[:2] * 3, h0.stride(0), BLOCK_T=32,
                                                      BLOCK_D=32)


@mistake("linear_recurrence_triton", "only_the_first_channels", "only the first block of channels is computed",
         hint="The grid needs as many programs along D as blocks fit, rounded up.")
def linear_recurrence_triton(h, a, b, h0):
    linear_recurrence_kernel[(a.shape[0], 1)](h, a, b, h0, *a.shape[1:], *_strides(h, a, b, h0), BLOCK_T=32, BLOCK_D=32)


@triton.jit
def _racing_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                   BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    start = tl.program_id(2) * BLOCK_T
    step = (start + lane)[:, None]
    inside = (step < T) & (column < D)
    decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
    added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
    product, since = tl.associative_scan((decay, added), 0, _join)
    initial = _get(h0, batch, 0, column, h0_row, 0, (column < D) & (start == 0), 0.0)
    before = _get(h, batch, start - 1, column, h_batch, h_row, (column < D) & (start > 0), 0.0)
    tl.store(h + batch * h_batch + step * h_row + column, product * (initial + before) + since, mask=inside)


@mistake("linear_recurrence_triton", "chunks_race",
         "each chunk is a program, and reads the state that another one writes",
         hint="Programs run side by side: a chunk cannot wait for the one before it. Go through time in a loop.")
def linear_recurrence_triton(h, a, b, h0):
    B, T, D = a.shape
    _racing_kernel[(B, triton.cdiv(D, 32), triton.cdiv(T, 32))](h, a, b, h0, T, D, *_strides(h, a, b, h0), BLOCK_T=32,
                                                                BLOCK_D=32)


# ------------------------------------------------------------------------------------------------ the backward pass

@mistake("linear_recurrence_triton", "decay_not_shifted",
         "the gradient of a state is decayed by its own step, not by the one after it",
         hint="In Eq. (5) the decay belongs to step t + 1: it is what h_t was multiplied by.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "gradient_forgets_between_chunks",
         "every chunk of the backward pass begins without a gradient",
         hint="What arrives from later chunks is the carry, as in the forward pass.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "gradient_goes_forwards", "the gradient is scanned from the beginning to the end",
         hint="A state is to blame for what comes after it: `reverse=True`.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "gradient_of_a_with_its_own_state",
         "the gradient of a has the state after the step in it, not the one before",
         hint="In Eq. (1) a_t multiplies h_{t-1}.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step, column, h_batch, h_row, inside, 0.0)
        before = before + 0.0 * initial
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "before_the_first_step_is_nothing", "the first decay gets no gradient",
         hint="Before the first step stands h0, not 0.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = before + 0.0 * initial
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "gradient_of_h0_undecayed", "the gradient of h0 leaves out the first decay",
         hint="h0 goes through the first step, which multiplies it.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, carry + 0.0 * first, mask=column < D)


@mistake("linear_recurrence_triton", "gradient_of_a_from_outside_alone",
         "the gradient of a leaves out what arrives by way of later states",
         hint="In Eq. (6) all of g is multiplied by the state before.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, given * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "following_decay_without_mask",
         "the decay of the next step is loaded as if there always were one",
         hint="Nothing follows the last step: mask step + 1, not step.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, inside, 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "gradient_stored_without_mask", "the gradients are stored without a mask",
         hint="A block is longer than what is left: beyond T lies another sequence, beyond D another step.")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        product, since = tl.associative_scan((decay, given), 0, _join, reverse=True)
        total = product * carry + since
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@mistake("linear_recurrence_triton", "strides_of_dh_for_the_gradients", "the strides of dh are used for da and db",
         hint="Each tensor has strides of its own.")
def linear_recurrence_triton_backward(da, db, dh0, dh, a, h, h0):
    B, T, D = a.shape
    linear_recurrence_backward_kernel[(B, triton.cdiv(D, 32))](
        da, db, dh0, dh, a, h, h0, T, D, *_strides(dh, dh, dh0, dh, a, h, h0), BLOCK_T=32, BLOCK_D=32)


# ------------------------------------------------------------------------------------------------ right, otherwise

@alternative("linear_recurrence_triton", "carry_joins_the_first_step")
@triton.jit
def linear_recurrence_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row,
                             BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    carry = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    for start in range(0, T, BLOCK_T):
        step = (start + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
        added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
        added += tl.where(lane[:, None] == 0, decay * carry, 0.0)
        product, state = tl.associative_scan((decay, added), 0, _join)
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=inside)
        carry = _row(state, lane, BLOCK_T - 1)


@alternative("linear_recurrence_triton", "carry_joins_the_first_step")
@triton.jit
def linear_recurrence_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                                      dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row,
                                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    batch, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    initial = _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0)
    carry = tl.zeros([1, BLOCK_D], dtype=tl.float32)
    for done in range(0, tl.cdiv(T, BLOCK_T)):
        step = ((tl.cdiv(T, BLOCK_T) - 1 - done) * BLOCK_T + lane)[:, None]
        inside = (step < T) & (column < D)
        decay = _get(a, batch, step + 1, column, a_batch, a_row, (step + 1 < T) & (column < D), 0.0)
        given = _get(dh, batch, step, column, dh_batch, dh_row, inside, 0.0)
        given += tl.where(lane[:, None] == BLOCK_T - 1, decay * carry, 0.0)
        product, total = tl.associative_scan((decay, given), 0, _join, reverse=True)
        before = _get(h, batch, step - 1, column, h_batch, h_row, inside & (step > 0), 0.0)
        before = tl.where(step > 0, before, initial)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=inside)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=inside)
        carry = _row(total, lane, 0)
    first = _get(a, batch, 0, column, a_batch, a_row, column < D, 0.0)
    tl.store(dh0 + batch * dh0_row + column, first * carry, mask=column < D)


@triton.jit
def _step_kernel(h, a, b, h0, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, h0_row, BLOCK: tl.constexpr):
    batch, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < D
    state = _get(h0, batch, 0, column, h0_row, 0, mask, 0.0)
    for t in range(0, T):
        step = tl.cast(t, tl.int64)
        state = state * _get(a, batch, step, column, a_batch, a_row, mask, 0.0) \
            + _get(b, batch, step, column, b_batch, b_row, mask, 0.0)
        tl.store(h + batch * h_batch + step * h_row + column, state, mask=mask)


@triton.jit
def _step_backward_kernel(da, db, dh0, dh, a, h, h0, T, D, da_batch, da_row, db_batch, db_row, dh0_row,
                          dh_batch, dh_row, a_batch, a_row, h_batch, h_row, h0_row, BLOCK: tl.constexpr):
    batch, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < D
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for later in range(0, T):
        step = tl.zeros([BLOCK], dtype=tl.int64) + T - 1 - later
        total += _get(dh, batch, step, column, dh_batch, dh_row, mask, 0.0)
        before = _get(h, batch, step - 1, column, h_batch, h_row, mask & (step > 0), 0.0) \
            + _get(h0, batch, 0, column, h0_row, 0, mask & (step == 0), 0.0)
        tl.store(da + batch * da_batch + step * da_row + column, total * before, mask=mask)
        tl.store(db + batch * db_batch + step * db_row + column, total, mask=mask)
        total = total * _get(a, batch, step, column, a_batch, a_row, mask, 0.0)
    tl.store(dh0 + batch * dh0_row + column, total, mask=mask)


@alternative("linear_recurrence_triton", "one_step_after_the_other")
def linear_recurrence_triton(h, a, b, h0):
    B, T, D = a.shape
    _step_kernel[(B, triton.cdiv(D, 64))](h, a, b, h0, T, D, *_strides(h, a, b, h0), BLOCK=64, num_warps=2)


@alternative("linear_recurrence_triton", "one_step_after_the_other")
def linear_recurrence_triton_backward(da, db, dh0, dh, a, h, h0):
    B, T, D = a.shape
    _step_backward_kernel[(B, triton.cdiv(D, 64))](
        da, db, dh0, dh, a, h, h0, T, D, *_strides(da, db, dh0, dh, a, h, h0), BLOCK=64, num_warps=2)


@triton.jit
def _summary_kernel(decays, sums, a, b, T, D, a_batch, a_row, b_batch, b_row, BLOCK_T: tl.constexpr,
                    BLOCK_D: tl.constexpr):
    """Each chunk, joined into one step."""
    batch, chunk, lane = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    step = (chunk * BLOCK_T + lane)[:, None]
    inside = (step < T) & (column < D)
    decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
    added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
    product, since = tl.associative_scan((decay, added), 0, _join)
    place = (batch * tl.num_programs(2) + chunk) * D + column
    tl.store(decays + place, _row(product, lane, BLOCK_T - 1), mask=column < D)
    tl.store(sums + place, _row(since, lane, BLOCK_T - 1), mask=column < D)


@triton.jit
def _apply_kernel(h, starts, a, b, T, D, h_batch, h_row, a_batch, a_row, b_batch, b_row, starts_batch, starts_row,
                  BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr):
    """Eq. (4), where the state before each chunk is known."""
    batch, chunk, lane = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.arange(0, BLOCK_T)
    column = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    step = (chunk * BLOCK_T + lane)[:, None]
    inside = (step < T) & (column < D)
    decay = _get(a, batch, step, column, a_batch, a_row, inside, 1.0)
    added = _get(b, batch, step, column, b_batch, b_row, inside, 0.0)
    product, since = tl.associative_scan((decay, added), 0, _join)
    start = _get(starts, batch, chunk, column, starts_batch, starts_row, column < D, 0.0)
    tl.store(h + batch * h_batch + step * h_row + column, product * start + since, mask=inside)


@triton.jit
def _first_kernel(starts, h0, D, starts_batch, h0_row, BLOCK_D: tl.constexpr):
    batch, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    tl.store(starts + batch * starts_batch + column, _get(h0, batch, 0, column, h0_row, 0, column < D, 0.0),
             mask=column < D)


@alternative("linear_recurrence_triton", "three_launches")
def linear_recurrence_triton(h, a, b, h0):
    B, T, D = a.shape
    blocks, chunks = triton.cdiv(D, 32), triton.cdiv(T, 32)
    decays = torch.empty((B, chunks, D), dtype=torch.float32, device=a.device)
    sums = torch.empty((B, chunks, D), dtype=torch.float32, device=a.device)
    starts = torch.empty((B, chunks + 1, D), dtype=torch.float32, device=a.device)
    _summary_kernel[(B, blocks, chunks)](decays, sums, a, b, T, D, *_strides(a, b), BLOCK_T=32, BLOCK_D=32, num_warps=1)
    _first_kernel[(B, blocks)](starts, h0, D, starts.stride(0), h0.stride(0), BLOCK_D=32)
    _step_kernel[(B, blocks)](starts[:, 1:], decays, sums, h0, chunks, D, *_strides(starts, decays, sums, h0), BLOCK=32)
    _apply_kernel[(B, blocks, chunks)](h, starts, a, b, T, D, *_strides(h, a, b, starts), BLOCK_T=32, BLOCK_D=32,
                                       num_warps=1)
