"""What students hand in for the transformer kernels. A variant replaces the kernel, the launcher, or both."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


def _maximum(one, other):
    """Plain Python, which a kernel cannot call on a GPU."""
    return tl.maximum(one, other)


@triton.jit
def _tile(x, example, head, row, column, x_b, x_h, x_t, T, d):
    """Rows of one head, masked; `row` and `column` broadcast against each other."""
    return tl.load(x + example * x_b + head * x_h + row.to(tl.int64) * x_t + column, mask=(row < T) & (column < d),
                   other=0.0)


@triton.jit
def _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL: tl.constexpr):
    """Masked scores (rows, keys)."""
    keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
    seen = key[None, :] < T
    if CAUSAL:
        seen = seen & (key[None, :] <= row[:, None])
    return tl.where(seen, scale * tl.dot(query, keys, input_precision="ieee"), float("-inf"))


@triton.jit
def _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d):
    """Stores Eq. (5)."""
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed / total[:, None], mask=(row[:, None] < T) & (column[None, :] < d))
    tl.store(lse + example * lse_b + head * lse_h + row, largest + tl.log(total), mask=row < T)


# ------------------------------------------------------------------------------------------------ masks and strides


@mistake("flash_attention_fwd", "keys_beyond_the_end",
         "keys beyond the end of the sequence get a score of 0 instead of none",
         hint="A masked load gives 0, and the exponential of 0 is 1: set such scores to minus infinity.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
        seen = key[None, :] >= 0
        if CAUSAL:
            seen = key[None, :] <= row[:, None]
        score = tl.where(seen, scale * tl.dot(query, keys, input_precision="ieee"), float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "loads_without_row_mask",
         "keys and values are loaded without a mask for the last block",
         hint="The last block reaches over the end of the sequence: what lies there is not yours, and may be NaN.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T + BLOCK_S, d)
        seen = key[None, :] < T
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None])
        score = tl.where(seen, scale * tl.dot(query, keys, input_precision="ieee"), float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T + BLOCK_S, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "store_without_mask", "the last block of queries is stored without a mask for its rows",
         hint="Rows beyond the last query belong to the next head or to somebody else.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed / total[:, None], mask=column[None, :] < d)
    tl.store(lse + example * lse_b + head * lse_h + row, largest + tl.log(total), mask=row < T)


@mistake("flash_attention_fwd", "lse_store_without_mask", "lse is stored without a mask",
         hint="A block of rows reaches over the end of lse as it does over the end of o.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed / total[:, None], mask=(row[:, None] < T) & (column[None, :] < d))
    tl.store(lse + example * lse_b + head * lse_h + row, largest + tl.log(total))


@mistake("flash_attention_fwd", "strides_of_q_for_o", "the strides of q are used for o, too",
         hint="Each tensor has strides of its own.")
def flash_attention_fwd(o, lse, q, k, v, causal):
    B, H, T, d = q.shape
    flash_attention_kernel[(triton.cdiv(T, 64), B * H)](
        o, lse, q, k, v, H, T, d, d**-0.5, *q.stride()[:3], *lse.stride()[:2], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CAUSAL=causal, BLOCK_T=64, BLOCK_S=64, BLOCK_D=max(triton.next_power_of_2(d), 16),
        num_warps=8)


@mistake("flash_attention_fwd", "contiguous_output", "o is taken to be contiguous",
         hint="The row of o has a stride of its own, which may be more than d.")
def flash_attention_fwd(o, lse, q, k, v, causal):
    B, H, T, d = q.shape
    flash_attention_kernel[(triton.cdiv(T, 64), B * H)](
        o, lse, q, k, v, H, T, d, d**-0.5, H * T * d, T * d, d, *lse.stride()[:2], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CAUSAL=causal, BLOCK_T=64, BLOCK_S=64, BLOCK_D=max(triton.next_power_of_2(d), 16),
        num_warps=8)


@mistake("flash_attention_fwd", "heads_share_one", "all heads of an example read the keys of its first head",
         hint="Every head has keys of its own: where does the program's head enter the address?")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, 0 * head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)

# ------------------------------------------------------------------------------------------------ causal


@mistake("flash_attention_fwd", "causal_off_by_one", "a query does not see its own key",
         hint="Eq. (1) sums over all keys up to t, and t is one of them.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
        seen = key[None, :] < T
        if CAUSAL:
            seen = seen & ((key[None, :] < row[:, None]) | (key[None, :] == 0))
        score = tl.where(seen, scale * tl.dot(query, keys, input_precision="ieee"), float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "causal_one_too_many", "a query sees the key after its own",
         hint="Query t sees the keys 0 to t: compare with <=, and count both from 0.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
        seen = key[None, :] < T
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None] + 1)
        score = tl.where(seen, scale * tl.dot(query, keys, input_precision="ieee"), float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "causal_ignored", "the argument causal is not used",
         hint="CAUSAL is a constant of the kernel: a Python `if` decides at build time.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
        seen = key[None, :] < T
        score = tl.where(seen, scale * tl.dot(query, keys, input_precision="ieee"), float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "causal_without_the_diagonal_block",
         "causal programs stop before the blocks on the diagonal",
         hint="A program's rows reach up to first + BLOCK_T - 1, and so do the keys that it needs.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    end = T
    if CAUSAL:
        end = tl.maximum(tl.minimum(T, tl.program_id(0) * BLOCK_T), 1)
    for start in range(0, end, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)

# ------------------------------------------------------------------------------------------------ the softmax in pieces


@mistake("flash_attention_fwd", "no_rescale", "what was added before is not rescaled when a larger score turns up",
         hint="In Eq. (4) the sum and the mixture shrink by the exponential of the change of the maximum.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = total + tl.sum(weight, axis=1)
        mixed = mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "mixture_not_rescaled",
         "the sum is rescaled when a larger score turns up, the mixture is not",
         hint="In Eq. (4) both shrink by the same factor.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "maximum_of_the_block",
         "the maximum is that of the last block, not of all blocks so far",
         hint="m' in Eq. (4) is the larger of the old maximum and the block's: otherwise a factor may be infinite.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.max(score, axis=1)
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "no_maximum", "the exponentials are taken without subtracting the maximum",
         hint="The exponential of 89 is infinite in float32: subtract the largest score of the row so far.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.zeros([BLOCK_T], dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        weight = tl.exp(score)
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = total + tl.sum(weight, axis=1)
        mixed = mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "not_divided", "o is not divided by the sum of the weights",
         hint="Eq. (5): what the loop adds up are weights before they are normalized.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed, mask=(row[:, None] < T) & (column[None, :] < d))
    tl.store(lse + example * lse_b + head * lse_h + row, largest + tl.log(total), mask=row < T)


@mistake("flash_attention_fwd", "lse_without_the_maximum", "lse is the logarithm of the sum, without the maximum",
         hint="The sum is of exponentials from which the maximum was subtracted: Eq. (5) adds it again.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed / total[:, None], mask=(row[:, None] < T) & (column[None, :] < d))
    tl.store(lse + example * lse_b + head * lse_h + row, tl.log(total), mask=row < T)


@mistake("flash_attention_fwd", "lse_in_base_two", "lse is in base 2",
         hint="The contract asks for natural logarithms.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :],
             mixed / total[:, None], mask=(row[:, None] < T) & (column[None, :] < d))
    tl.store(lse + example * lse_b + head * lse_h + row, (largest + tl.log(total)) * 1.4426950408889634, mask=row < T)


@mistake("flash_attention_fwd", "scale_missing", "the scores are not divided by the root of d",
         hint="Eq. (1) divides by the root of d before the softmax.")
def flash_attention_fwd(o, lse, q, k, v, causal):
    B, H, T, d = q.shape
    flash_attention_kernel[(triton.cdiv(T, 64), B * H)](
        o, lse, q, k, v, H, T, d, 1.0, *o.stride()[:3], *lse.stride()[:2], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CAUSAL=causal, BLOCK_T=64, BLOCK_S=64, BLOCK_D=max(triton.next_power_of_2(d), 16),
        num_warps=8)


@mistake("flash_attention_fwd", "scale_of_the_block", "the scores are divided by the root of the padded length",
         hint="d is the number of features; the block is padded to a power of two.")
def flash_attention_fwd(o, lse, q, k, v, causal):
    B, H, T, d = q.shape
    flash_attention_kernel[(triton.cdiv(T, 64), B * H)](
        o, lse, q, k, v, H, T, d, max(triton.next_power_of_2(d), 16) ** -0.5, *o.stride()[:3], *lse.stride()[:2],
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], CAUSAL=causal, BLOCK_T=64, BLOCK_S=64,
        BLOCK_D=max(triton.next_power_of_2(d), 16), num_warps=8)

# ------------------------------------------------------------------------------------------------ precision


@mistake("flash_attention_fwd", "float16_accumulator", "the products of queries and keys are added up in float16",
         hint="A score of 50 has an error of 0.02 in float16, and its weight one of two per cent.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        score = score.to(tl.float16).to(tl.float32)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "tf32", "float32 operands are rounded to TF32 on a GPU",
         hint="`tl.dot` does that to float32 unless `input_precision` says otherwise.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
        seen = key[None, :] < T
        if CAUSAL:
            seen = seen & (key[None, :] <= row[:, None])
        score = tl.where(seen, scale * tl.dot(query, keys), float("-inf"))
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values)
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)


@mistake("flash_attention_fwd", "python_in_the_kernel", "the kernel calls a Python function",
         hint="The interpreter runs any Python, a GPU does not: decorate the function with `@triton.jit`.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = _maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)

# ------------------------------------------------------------------------------------------------ programs

@triton.jit
def _zero_kernel(x, count, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + index, tl.zeros([BLOCK], dtype=tl.float32), mask=index < count)


@triton.jit
def _split_kernel(sums, q, k, v, H, T, d, scale, q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, CAUSAL: tl.constexpr,
                  BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr):
    """Adds what one block of keys contributes, with weights before any normalization: (rows, d + 1) in `sums`."""
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    key = tl.program_id(2) * BLOCK_S + tl.arange(0, BLOCK_S)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
    weight = tl.exp(tl.minimum(score, 80.0))
    values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d).to(tl.float32)
    place = sums + (tl.program_id(1) * T + row[:, None]) * (d + 1)
    inside = (row[:, None] < T) & (column[None, :] < d)
    mixed = tl.dot(weight, values, input_precision="ieee")
    before = tl.load(place + column[None, :], mask=inside, other=0.0)
    tl.store(place + column[None, :], before + mixed, mask=inside)
    counted = tl.load(place + d, mask=row[:, None] < T, other=0.0)
    tl.store(place + d, counted + tl.sum(weight, axis=1)[:, None], mask=row[:, None] < T)


@triton.jit
def _divide_kernel(o, lse, sums, H, T, d, o_b, o_h, o_t, lse_b, lse_h, BLOCK_D: tl.constexpr):
    example, head, row = tl.program_id(1) // H, tl.program_id(1) % H, tl.program_id(0)
    column = tl.arange(0, BLOCK_D)
    place = sums + (tl.program_id(1) * T + row) * (d + 1)
    total = tl.load(place + d)
    tl.store(o + example * o_b + head * o_h + row * o_t + column, tl.load(place + column, mask=column < d) / total,
             mask=column < d)
    tl.store(lse + example * lse_b + head * lse_h + row, tl.log(total))


@mistake("flash_attention_fwd", "blocks_of_keys_race", "programs for different keys add to the same output",
         hint="Between a program's load and its store another may have stored: loop over the keys within one program.")
def flash_attention_fwd(o, lse, q, k, v, causal):
    B, H, T, d = q.shape
    sums = torch.empty(B * H * T * (d + 1), dtype=torch.float32, device=q.device)
    _zero_kernel[(triton.cdiv(sums.numel(), 4096),)](sums, sums.numel(), BLOCK=4096)
    block = max(triton.next_power_of_2(d), 16)
    _split_kernel[(triton.cdiv(T, 64), B * H, triton.cdiv(T, 64))](
        sums, q, k, v, H, T, d, d**-0.5, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], CAUSAL=causal,
        BLOCK_T=64, BLOCK_S=64, BLOCK_D=block, num_warps=8)
    _divide_kernel[(T, B * H)](o, lse, sums, H, T, d, *o.stride()[:3], *lse.stride()[:2], BLOCK_D=block)


@mistake("flash_attention_fwd", "only_the_first_block", "only the first 64 keys are used",
         hint="A loop has to go over all blocks of keys.")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, 64, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp(largest - higher)
        weight = tl.exp(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)

# ------------------------------------------------------------------------------------------------ right, otherwise


@alternative("flash_attention_fwd", "base_two_all_blocks")
@triton.jit
def flash_attention_kernel(o, lse, q, k, v, H, T, d, scale, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t,
                           v_b, v_h, v_t, CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
                           BLOCK_D: tl.constexpr):
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    largest = tl.full([BLOCK_T], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale * 1.44269504,
                        CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        shrink = tl.exp2(largest - higher)
        weight = tl.exp2(score - higher[:, None])
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        total = shrink * total + tl.sum(weight, axis=1)
        mixed = shrink[:, None] * mixed + tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        largest = higher
    _finish(o, lse, mixed, total, largest * 0.69314718, example, head, row, column, o_b, o_h, o_t, lse_b, lse_h, T, d)

@triton.jit
def _rows_kernel(o, lse, q, k, v, H, T, d, o_b, o_h, o_t, lse_b, lse_h, q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t,
                 CAUSAL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr):
    """Two passes over the keys: first the maximum and the sum, then the mixture of final weights."""
    example, head = (tl.program_id(0) // H).to(tl.int64), (tl.program_id(0) % H).to(tl.int64)
    row = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    scale = 1.0 / tl.sqrt(d.to(tl.float32))
    largest = tl.full([BLOCK_T], -1e30, dtype=tl.float32)
    total = tl.zeros([BLOCK_T], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        higher = tl.maximum(largest, tl.max(score, axis=1))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(score - higher[:, None]), axis=1)
        largest = higher
    sums = largest + tl.log(total)
    mixed = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for start in range(0, T, BLOCK_S):
        key = start + tl.arange(0, BLOCK_S)
        score = _scores(query, k, example, head, row, key, column, k_b, k_h, k_t, T, d, scale, CAUSAL)
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        mixed = tl.dot(tl.exp(score - sums[:, None]).to(values.dtype), values, mixed, input_precision="ieee")
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :], mixed,
             mask=(row[:, None] < T) & (column[None, :] < d))
    tl.store(lse + example * lse_b + head * lse_h + row, sums, mask=row < T)


@alternative("flash_attention_fwd", "two_passes")
def flash_attention_fwd(o, lse, q, k, v, causal):
    B, H, T, d = q.shape
    _rows_kernel[(B * H, triton.cdiv(T, 32))](
        o, lse, q, k, v, H, T, d, *o.stride()[:3], *lse.stride()[:2], *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        CAUSAL=causal, BLOCK_T=32, BLOCK_S=64, BLOCK_D=max(triton.next_power_of_2(d), 16))
