"""What students hand in for the hybrid kernels. A variant replaces the kernel, its launcher, or both."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


def _decay(size, rate):
    """Plain Python, which a kernel cannot call on a GPU."""
    return tl.exp(size[None, :] * rate)


@triton.jit
def _get(x, batch, step, lane, x_batch, x_row, mask, other):
    """A vector of one step, in float32."""
    return tl.load(x + batch * x_batch + step * x_row + lane, mask=mask, other=other).to(tl.float32)


@triton.jit
def _rates(A, column, mode, A_row, D, N):
    """The block of A, modes by channels."""
    inside = (mode < N)[:, None] & (column < D)[None, :]
    return tl.load(A + column[None, :] * A_row + mode[:, None], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _softplus(raw):
    return tl.maximum(raw, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(raw)))


def _strides(*tensors):
    return [stride for tensor in tensors for stride in tensor.stride()[:-1]]


# ------------------------------------------------------------------------------------------------ the step size

@mistake("selective_scan_fwd", "softplus_missing", "delta is taken for the step size, without its softplus",
         hint="delta comes before the softplus: Eq. (1) belongs into the kernel.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0)
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "softplus_twice", "the softplus is applied twice",
         hint="Eq. (1) is computed once.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0)))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "softplus_overflows", "a large delta makes the step size infinite",
         hint="exp(delta) is infinite from 89 on. Eq. (5) has an exponential that is never above 1.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = tl.log(1.0 + tl.exp(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0)))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "decay_without_step_size", "the decay is exp(A), without the step size",
         hint="In Eq. (2) the exponent is the step size times A.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(rate)[:, :] * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "input_without_step_size", "the input is not multiplied by the step size",
         hint="In Eq. (2) the step size stands twice: in the exponent, and before B.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * value[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "step_size_applied_twice", "the input is multiplied by the step size twice",
         hint="In Eq. (2) the input has one factor of the step size.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


# ------------------------------------------------------------------------------------------------ the state

@mistake("selective_scan_fwd", "state_not_decayed", "the state does not decay",
         hint="Eq. (2) multiplies the state before the step by the decay.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = state + 0.0 * rate + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "input_is_decayed", "the input of a step is decayed together with the state",
         hint="In Eq. (2) the decay multiplies the state before the step, and nothing else.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * (state + written[:, None] * (size * value)[None, :])
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "state_reset_every_16_steps", "the state begins with 0 again after every 16 steps",
         hint="A chunk of steps starts from the last state of the one before it.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.where(step % 16 == 0, 0.0, state)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "output_before_the_update", "the output reads the state of the step before",
         hint="Eq. (3) reads the state after Eq. (2): first update, then sum.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "state_in_half_precision", "the state is kept in the dtype of the input",
         hint="In float16 a large state loses what is small. Keep it in float32; storing y rounds.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=u.dtype.element_ty)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        state = state.to(u.dtype.element_ty)
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


# ------------------------------------------------------------------------------------------------ reading and writing

@mistake("selective_scan_fwd", "b_and_c_swapped", "B and C are swapped",
         hint="B says what is written into the state, C what is read from it.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        read = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "skip_term_missing", "the term of Dskip is missing",
         hint="Eq. (3) has two terms; the second takes u past the state.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + 0.0 * skip
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "skip_without_the_input", "Dskip is added without the input",
         hint="Eq. (3) multiplies Dskip by u.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "b_of_the_first_sequence", "all sequences have the B of the first one",
         hint="B differs from sequence to sequence: its offset has the batch times a stride.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, 0, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


# ------------------------------------------------------------------------------------------------ masks and strides

@mistake("selective_scan_fwd", "lanes_beyond_n_written", "lanes beyond N have B and C of 1 and not of 0",
         hint="A lane beyond N must add nothing to the sum of Eq. (3): load 0 there.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 1.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 1.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "modes_without_mask", "B and C are loaded without a mask",
         hint="The block of modes is a power of two, and N need not be.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept = column < D
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, mode >= 0, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, mode >= 0, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "loads_without_mask", "u and delta are loaded without a mask",
         hint="The last block of channels is longer than what is left.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, column >= 0, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, column >= 0, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "stores_without_mask", "y is stored without a mask",
         hint="Beyond D lies the next step, or nobody's memory.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result)


@mistake("selective_scan_fwd", "mask_off_by_one", "the mask lets one channel too many through",
         hint="Channels count from 0: the last one is D - 1.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column <= D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "only_the_first_block", "only the first block of channels is computed",
         hint="The grid needs as many blocks as cover all D channels.")
def selective_scan_fwd(y, u, delta, A, B, C, Dskip):
    S, L, D = u.shape
    N = A.shape[1]
    selective_scan_kernel[(S, 1)](
        y, u, delta, A, B, C, Dskip, L, D, N, *_strides(y, u, delta, A, B, C), BLOCK_D=32,
        BLOCK_N=triton.next_power_of_2(N), num_warps=1)


@mistake("selective_scan_fwd", "strides_of_u_for_y", "the strides of u are used for y",
         hint="Each tensor has strides of its own.")
def selective_scan_fwd(y, u, delta, A, B, C, Dskip):
    S, L, D = u.shape
    N = A.shape[1]
    selective_scan_kernel[(S, triton.cdiv(D, 32))](
        y, u, delta, A, B, C, Dskip, L, D, N, *_strides(u, u, delta, A, B, C), BLOCK_D=32,
        BLOCK_N=triton.next_power_of_2(N), num_warps=1)


@mistake("selective_scan_fwd", "rows_taken_to_be_contiguous",
         "the steps of u and delta are taken to lie next to each other",
         hint="Use the strides that the tensors have.")
def selective_scan_fwd(y, u, delta, A, B, C, Dskip):
    S, L, D = u.shape
    N = A.shape[1]
    selective_scan_kernel[(S, triton.cdiv(D, 32))](
        y, u, delta, A, B, C, Dskip, L, D, N, *_strides(y), L * D, D, L * D, D, *_strides(A, B, C), BLOCK_D=32,
        BLOCK_N=triton.next_power_of_2(N), num_warps=1)


# ------------------------------------------------------------------------------------------------ programs, and Python

@mistake("selective_scan_fwd", "python_in_the_kernel", "the kernel calls a function that is not a kernel's",
         hint="The interpreter runs any Python; a GPU runs Triton's functions, and those with @triton.jit.")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = _decay(size, rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@triton.jit
def _half_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                 A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    """Every second mode."""
    batch, mode = tl.program_id(0).to(tl.int64), 2 * tl.arange(0, BLOCK_N) + tl.program_id(2)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@mistake("selective_scan_fwd", "programs_overwrite",
         "two programs store their half of the modes, and the last one stays",
         hint="The sum of Eq. (3) is over all modes: let one program hold them all.")
def selective_scan_fwd(y, u, delta, A, B, C, Dskip):
    S, L, D = u.shape
    N = A.shape[1]
    _half_kernel[(S, triton.cdiv(D, 32), 2)](
        y, u, delta, A, B, C, Dskip, L, D, N, *_strides(y, u, delta, A, B, C), BLOCK_D=32,
        BLOCK_N=triton.next_power_of_2(N), num_warps=1)


# ------------------------------------------------------------------------------------------------ right, otherwise

@alternative("selective_scan_fwd", "channels_by_modes")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate = 1.4426950408889634 * tl.trans(_rates(A, column, mode, A_row, D, N))
    skip = _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    state = tl.zeros([BLOCK_D, BLOCK_N], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        raw = _get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0)
        size = tl.where(raw > 15.0, raw, tl.log(1.0 + tl.exp(tl.minimum(raw, 15.0))))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp2(size[:, None] * rate) * state + (size * value)[:, None] * written[None, :]
        result = skip * value + tl.sum(state * read[None, :], axis=1)
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@alternative("selective_scan_fwd", "rates_mode_by_mode")
@triton.jit
def selective_scan_kernel(y, u, delta, A, B, C, Dskip, L, D, N, y_batch, y_row, u_batch, u_row, delta_batch, delta_row,
                          A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    rate, skip = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    for n in tl.static_range(BLOCK_N):
        of_mode = _get(A, 0, 0, column * A_row + n, 0, 0, kept & (column * 0 + n < N), 0.0)
        rate = tl.where(mode[:, None] == n, of_mode[None, :], rate)
    state = tl.zeros([BLOCK_N, BLOCK_D], dtype=tl.float32)
    for step in range(0, L):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)


@triton.jit
def _segment_kernel(y, states, u, delta, A, B, C, Dskip, first, last, D, N, y_batch, y_row, u_batch, u_row,
                    delta_batch, delta_row, A_row, B_batch, B_row, C_batch, C_row, BLOCK_D: tl.constexpr,
                    BLOCK_N: tl.constexpr):
    """Steps from `first` to before `last`; states (S, N, D) are read unless it is the first segment, and stored."""
    batch, mode = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK_N)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    kept, real = column < D, mode < N
    inside = real[:, None] & kept[None, :]
    rate, skip = _rates(A, column, mode, A_row, D, N), _get(Dskip, 0, 0, column, 0, 0, kept, 0.0)
    place = states + (batch * N + mode[:, None]) * D + column[None, :]
    state = tl.load(place, mask=inside & (column[None, :] * 0 + first > 0), other=0.0)
    for step in range(first, last):
        value = _get(u, batch, step, column, u_batch, u_row, kept, 0.0)
        size = _softplus(_get(delta, batch, step, column, delta_batch, delta_row, kept, 0.0))
        written = _get(B, batch, step, mode, B_batch, B_row, real, 0.0)
        read = _get(C, batch, step, mode, C_batch, C_row, real, 0.0)
        state = tl.exp(size[None, :] * rate) * state + written[:, None] * (size * value)[None, :]
        result = tl.sum(read[:, None] * state, axis=0) + skip * value
        tl.store(y + batch * y_batch + step * y_row + column, result, mask=kept)
    tl.store(place, state, mask=inside)


@alternative("selective_scan_fwd", "two_launches_with_a_stored_state")
def selective_scan_fwd(y, u, delta, A, B, C, Dskip):
    S, L, D = u.shape
    N = A.shape[1]
    states = torch.empty((S, N, D), dtype=torch.float32, device=u.device)
    for first, last in ((0, L // 2), (L // 2, L)):
        _segment_kernel[(S, triton.cdiv(D, 64))](
            y, states, u, delta, A, B, C, Dskip, first, last, D, N, *_strides(y, u, delta, A, B, C), BLOCK_D=64,
            BLOCK_N=triton.next_power_of_2(N), num_warps=2)
