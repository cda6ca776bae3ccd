"""What students hand in for the attention kernels. A variant replaces kernels, the launcher, or both."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


def _power(rate):
    """Plain Python, which a kernel cannot call on a GPU."""
    return tl.exp2(rate)


@mistake("linear_attention_chunked", "state_not_decayed", "the state is carried on without its decay",
         hint="In Eq. (4) the old state is multiplied by the decay of a whole chunk.")
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - 1 - step))
        state = state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)


@mistake("linear_attention_chunked", "state_decayed_by_one_step", "the state decays by one step a chunk",
         hint="A chunk is C steps long: the exponent in Eq. (4) is C.")
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - 1 - step))
        state = tl.exp2(rate) * state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)


@mistake("linear_attention_chunked", "keys_not_decayed",
         "keys enter the state without the decay that is left to the end of their chunk",
         hint="In Eq. (4) key j has C - 1 - j steps to go.")
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        state = tl.exp2(rate * CHUNK) * state + tl.dot(keys, values, input_precision=PRECISION)


@mistake("linear_attention_chunked", "keys_decay_one_step_more",
         "keys decay by one step too many on their way into the state",
         hint="The last key of a chunk has not decayed at its end: the exponent is C - 1 - j.")
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - step))
        state = tl.exp2(rate * CHUNK) * state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)


@mistake("linear_attention_chunked", "state_after_the_chunk",
         "a chunk is given the state after it, which holds its own keys",
         hint="Eq. (3) takes the state before the chunk: store it first, then change it.")
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - 1 - step))
        state = tl.exp2(rate * CHUNK) * state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)


@mistake("linear_attention_chunked", "no_mask_on_the_last_chunk",
         "keys and values of the last chunk are loaded without a mask for the end of the sequence",
         hint="The last chunk is shorter: what lies behind the sequence is not yours, and may be NaN.")
@triton.jit
def carry_state_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    state = tl.zeros([BLOCK_D, BLOCK_V], dtype=tl.float32)
    for chunk in range(0, chunks):
        tl.store(states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :], state, mask=inside)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=left[:, None] < d, other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=right[None, :] < d, other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - 1 - step))
        state = tl.exp2(rate * CHUNK) * state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)


@mistake("linear_attention_chunked", "first_state_decays_less",
         "the state before a chunk decays one step too few on its way to a position",
         hint="Between the state before a chunk and its position i lie i + 1 steps.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * step)[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "no_state", "chunks do not see what was before them",
         hint="The first term of Eq. (3) is what the past adds.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = 0.0 * tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, 0.0 * state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "not_causal_within_a_chunk", "positions see what comes after them in their chunk",
         hint="In Eq. (3) the sum is over j up to i.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.exp2(rate * tl.abs(apart)) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "causal_off_by_one", "positions do not see their own key",
         hint="In Eq. (1) the sum is over j up to t, and t is one of them.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart > 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "infinity_times_zero", "the power is multiplied by a mask of 0 and 1",
         hint="The power of a negative difference may be infinite, and infinite times 0 is NaN: `tl.where` chooses.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = ((apart >= 0).to(tl.float32) * tl.exp2(rate * apart)) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "no_decay_within_a_chunk", "scores within a chunk do not decay",
         hint="In Eq. (3) the score of i and j is multiplied by the decay of i - j steps.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, 1.0, 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "decay_of_the_first_head", "all heads decay like the first",
         hint="gamma has one element for each head.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "store_without_mask",
         "the last chunk is stored without a mask for the end of the sequence",
         hint="Rows beyond the last position belong to the next head or to somebody else.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = tl.exp2(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=right[None, :] < d)


@mistake("linear_attention_chunked", "python_in_the_kernel", "the kernel calls a Python function",
         hint="The interpreter runs any Python, a GPU does not: decorate the function with `@triton.jit`.")
@triton.jit
def chunk_output_kernel(o, states, q, k, v, gamma, H, T, d, chunks, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t,
                        v_b, v_h, v_t, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                        PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    time = (tl.program_id(2) * CHUNK + step).to(tl.int64)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    query = tl.load(q + example * q_b + head * q_h + time[:, None] * q_t + left[None, :],
                    mask=(time[:, None] < T) & (left[None, :] < d), other=0.0).to(tl.float32)
    state = tl.load(states + (pair * chunks + tl.program_id(2)) * d * d + left[:, None] * d + right[None, :],
                    mask=(left[:, None] < d) & (right[None, :] < d), other=0.0)
    result = _power(rate * (step + 1))[:, None] * tl.dot(query, state, input_precision=PRECISION)
    keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                   mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
    apart = step[:, None] - step[None, :]
    score = tl.where(apart >= 0, tl.exp2(rate * apart), 0.0) * tl.dot(query, keys, input_precision=PRECISION)
    inside = (time[:, None] < T) & (right[None, :] < d)
    values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :], mask=inside,
                     other=0.0).to(tl.float32)
    result += tl.dot(score, values, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + time[:, None] * o_t + right[None, :], result, mask=inside)


@mistake("linear_attention_chunked", "contiguous_output", "o is taken to be contiguous",
         hint="The row of o has a stride of its own, which may be more than d.")
def linear_attention_chunked(o, q, k, v, gamma):
    B, H, T, d = q.shape
    # Without tensor cores, products of longer chunks take more registers than there are.
    length, precision = (32, "ieee") if q.dtype == torch.float32 else (64, "tf32")
    width, block, chunks = 32, max(triton.next_power_of_2(d), 16), triton.cdiv(T, length)
    states = torch.empty((B * H, chunks, d, d), dtype=torch.float32, device=q.device)
    carry_state_kernel[(B * H, triton.cdiv(d, width))](
        states, k, v, gamma, H, T, d, chunks, *k.stride()[:3], *v.stride()[:3], CHUNK=length, BLOCK_D=block,
        BLOCK_V=width, PRECISION=precision, num_warps=8)
    chunk_output_kernel[(B * H, triton.cdiv(d, width), chunks)](
        o, states, q, k, v, gamma, H, T, d, chunks, H * T * d, T * d, d, *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CHUNK=length, BLOCK_D=block, BLOCK_V=width, PRECISION=precision, num_warps=8)


@mistake("linear_attention_chunked", "tf32", "float32 operands are rounded to TF32 on a GPU",
         hint="`input_precision` of float32 is ieee in this exercise.")
def linear_attention_chunked(o, q, k, v, gamma):
    B, H, T, d = q.shape
    # Without tensor cores, products of longer chunks take more registers than there are.
    length, precision = (32, "tf32") if q.dtype == torch.float32 else (64, "tf32")
    width, block, chunks = 32, max(triton.next_power_of_2(d), 16), triton.cdiv(T, length)
    states = torch.empty((B * H, chunks, d, d), dtype=torch.float32, device=q.device)
    carry_state_kernel[(B * H, triton.cdiv(d, width))](
        states, k, v, gamma, H, T, d, chunks, *k.stride()[:3], *v.stride()[:3], CHUNK=length, BLOCK_D=block,
        BLOCK_V=width, PRECISION=precision, num_warps=8)
    chunk_output_kernel[(B * H, triton.cdiv(d, width), chunks)](
        o, states, q, k, v, gamma, H, T, d, chunks, *o.stride()[:3], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CHUNK=length, BLOCK_D=block, BLOCK_V=width, PRECISION=precision, num_warps=8)


@triton.jit
def _racing_kernel(states, k, v, gamma, H, T, d, chunks, k_b, k_h, k_t, v_b, v_h, v_t, CHUNK: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PRECISION: tl.constexpr):
    pair = tl.program_id(0).to(tl.int64)
    example, head = pair // H, pair % H
    rate = tl.log2(tl.load(gamma + head))
    step = tl.arange(0, CHUNK)
    left = tl.arange(0, BLOCK_D)
    right = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    inside = (left[:, None] < d) & (right[None, :] < d)
    chunk = tl.program_id(2)
    if chunk + 1 < chunks:
        place = states + (pair * chunks + chunk) * d * d + left[:, None] * d + right[None, :]
        state = tl.load(place, mask=inside, other=0.0)
        time = (chunk * CHUNK + step).to(tl.int64)
        keys = tl.load(k + example * k_b + head * k_h + time[None, :] * k_t + left[:, None],
                       mask=(time[None, :] < T) & (left[:, None] < d), other=0.0).to(tl.float32)
        values = tl.load(v + example * v_b + head * v_h + time[:, None] * v_t + right[None, :],
                         mask=(time[:, None] < T) & (right[None, :] < d), other=0.0).to(tl.float32)
        left_over = tl.exp2(rate * (CHUNK - 1 - step))
        state = tl.exp2(rate * CHUNK) * state + tl.dot(keys * left_over[None, :], values, input_precision=PRECISION)
        tl.store(place + d * d, state, mask=inside)


@triton.jit
def _zero_kernel(x, count, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + index, tl.zeros([BLOCK], dtype=tl.float32), mask=index < count)


@mistake("linear_attention_chunked", "chunks_race",
         "programs for different chunks of one launch hand the state on to each other",
         hint="Programs run side by side, in no order: loop over the chunks within one program.")
def linear_attention_chunked(o, q, k, v, gamma):
    B, H, T, d = q.shape
    # Without tensor cores, products of longer chunks take more registers than there are.
    length, precision = (32, "ieee") if q.dtype == torch.float32 else (64, "tf32")
    width, block, chunks = 32, max(triton.next_power_of_2(d), 16), triton.cdiv(T, length)
    states = torch.empty((B * H, chunks, d, d), dtype=torch.float32, device=q.device)
    _zero_kernel[(triton.cdiv(states.numel(), 4096),)](states, states.numel(), BLOCK=4096)
    _racing_kernel[(B * H, triton.cdiv(d, width), chunks)](
        states, k, v, gamma, H, T, d, chunks, *k.stride()[:3], *v.stride()[:3], CHUNK=length, BLOCK_D=block,
        BLOCK_V=width, PRECISION=precision, num_warps=8)
    chunk_output_kernel[(B * H, triton.cdiv(d, width), chunks)](
        o, states, q, k, v, gamma, H, T, d, chunks, *o.stride()[:3], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CHUNK=length, BLOCK_D=block, BLOCK_V=width, PRECISION=precision, num_warps=8)


@alternative("linear_attention_chunked", "chunks_of_16")
def linear_attention_chunked(o, q, k, v, gamma):
    B, H, T, d = q.shape
    # Without tensor cores, products of longer chunks take more registers than there are.
    length, precision = (16, "ieee" if q.dtype == torch.float32 else "tf32")
    width, block, chunks = 16, max(triton.next_power_of_2(d), 16), triton.cdiv(T, length)
    states = torch.empty((B * H, chunks, d, d), dtype=torch.float32, device=q.device)
    carry_state_kernel[(B * H, triton.cdiv(d, width))](
        states, k, v, gamma, H, T, d, chunks, *k.stride()[:3], *v.stride()[:3], CHUNK=length, BLOCK_D=block,
        BLOCK_V=width, PRECISION=precision, num_warps=4)
    chunk_output_kernel[(B * H, triton.cdiv(d, width), chunks)](
        o, states, q, k, v, gamma, H, T, d, chunks, *o.stride()[:3], *q.stride()[:3], *k.stride()[:3],
        *v.stride()[:3], CHUNK=length, BLOCK_D=block, BLOCK_V=width, PRECISION=precision, num_warps=4)


@triton.jit
def _tile(x, example, head, row, column, x_b, x_h, x_t, T, d):
    """Rows of one head, masked, in float32; `row` and `column` broadcast against each other."""
    return tl.load(x + example * x_b + head * x_h + row.to(tl.int64) * x_t + column, mask=(row < T) & (column < d),
                   other=0.0).to(tl.float32)


@triton.jit
def _quadratic_kernel(o, q, k, v, gamma, H, T, d, o_b, o_h, o_t, q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t,
                      BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr):
    """Eq. (1) for BLOCK_T positions, block of keys by block of keys."""
    example, head = (tl.program_id(1) // H).to(tl.int64), (tl.program_id(1) % H).to(tl.int64)
    rate = tl.log2(tl.load(gamma + head))
    row = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    column = tl.arange(0, BLOCK_D)
    query = _tile(q, example, head, row[:, None], column[None, :], q_b, q_h, q_t, T, d)
    result = tl.zeros([BLOCK_T, BLOCK_D], dtype=tl.float32)
    for block in range(0, tl.program_id(0) + 1):
        key = block * BLOCK_T + tl.arange(0, BLOCK_T)
        keys = _tile(k, example, head, key[None, :], column[:, None], k_b, k_h, k_t, T, d)
        values = _tile(v, example, head, key[:, None], column[None, :], v_b, v_h, v_t, T, d)
        apart = row[:, None] - key[None, :]
        decay = tl.exp2(rate * tl.maximum(apart, 0))
        score = tl.where(apart >= 0, decay * tl.dot(query, keys, input_precision=PRECISION), 0.0)
        result = tl.dot(score, values, result, input_precision=PRECISION)
    tl.store(o + example * o_b + head * o_h + row[:, None].to(tl.int64) * o_t + column[None, :], result,
             mask=(row[:, None] < T) & (column[None, :] < d))


@alternative("linear_attention_chunked", "quadratic_without_a_state")
def linear_attention_chunked(o, q, k, v, gamma):
    B, H, T, d = q.shape
    _quadratic_kernel[(triton.cdiv(T, 32), B * H)](
        o, q, k, v, gamma, H, T, d, *o.stride()[:3], *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], BLOCK_T=32,
        BLOCK_D=max(triton.next_power_of_2(d), 16), PRECISION="ieee" if q.dtype == torch.float32 else "tf32")
