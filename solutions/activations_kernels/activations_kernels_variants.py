"""What students hand in for the activation kernels. A variant replaces kernels, launchers, or both."""
import torch

from autograder.variants import alternative, mistake
from etude.kernels import tl, triton


@triton.jit
def _sigma(x):
    return 1.0 / (1.0 + tl.exp(-x))


def _exponential(x):
    """Plain Python, which a kernel cannot call on a GPU."""
    return tl.exp(x)


# ------------------------------------------------------------------------------------------------ masks and strides


@mistake("swiglu_triton", "store_without_mask", "the store has no mask",
         hint="The last block of a row reaches beyond it: into the next row, or somebody else's memory.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate * _sigma(gate) * value)


@mistake("swiglu_triton", "loads_without_mask", "the loads have no mask",
         hint="The last block of a row reaches beyond it. What it reads there is unused, but may not be yours.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column).to(tl.float32)
    value = tl.load(b + row * b_row + column).to(tl.float32)
    tl.store(out + row * out_row + column, gate * _sigma(gate) * value, mask=inside)


@mistake("swiglu_triton", "mask_off_by_one", "the mask lets one column too many through",
         hint="Columns count from 0: the last one is F - 1.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column <= F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate * _sigma(gate) * value, mask=inside)


@mistake("swiglu_triton", "out_is_contiguous", "the rows of out are taken to follow each other, F elements apart",
         hint="The start of row i of `out` is i times its own `stride(0)`.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * F + column, gate * _sigma(gate) * value, mask=inside)


@mistake("swiglu_triton", "inputs_are_contiguous", "the rows of a and b are taken to lie F elements apart",
         hint="The start of row i is i times the tensor's own `stride(0)`.")
def swiglu_triton(out, a, b):
    M, F = a.shape
    swiglu_kernel[(M, triton.cdiv(F, 64))](out, a, b, F, out.stride(0), F, F, BLOCK=64)


@mistake("swiglu_triton", "one_stride_for_all", "the row stride of a is used for out, too",
         hint="Each tensor has a stride of its own.")
def swiglu_triton(out, a, b):
    M, F = a.shape
    swiglu_kernel[(M, triton.cdiv(F, 64))](out, a, b, F, a.stride(0), a.stride(0), a.stride(0), BLOCK=64)


@mistake("swiglu_triton", "last_block_left_out", "only whole blocks of columns are computed",
         hint="`F // BLOCK` rounds down: `triton.cdiv` counts the last, shorter block, too.")
def swiglu_triton(out, a, b):
    M, F = a.shape
    swiglu_kernel[(M, max(F // 64, 1))](out, a, b, F, out.stride(0), a.stride(0), b.stride(0), BLOCK=64)


@mistake("swiglu_triton", "first_block_only", "only the first 64 columns are computed",
         hint="The grid needs a program for each block of columns.")
def swiglu_triton(out, a, b):
    M, F = a.shape
    swiglu_kernel[(M, 1)](out, a, b, F, out.stride(0), a.stride(0), b.stride(0), BLOCK=64)


@mistake("swiglu_triton", "grid_in_the_wrong_order", "the grid has the columns first, the kernel the rows",
         hint="`tl.program_id(0)` counts along the first entry of the grid.")
def swiglu_triton(out, a, b):
    M, F = a.shape
    swiglu_kernel[(triton.cdiv(F, 64), M)](out, a, b, F, out.stride(0), a.stride(0), b.stride(0), BLOCK=64)


# ------------------------------------------------------------------------------------------------ the formula


@mistake("swiglu_triton", "gates_exchanged", "b goes through SiLU instead of a",
         hint="In Eq. (4) a is the gate.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate * (value * _sigma(value)), mask=inside)


@mistake("swiglu_triton", "sigmoid_gate", "the gate is the sigmoid of a, not its SiLU",
         hint="SiLU is a times its sigmoid; without the factor this is the older gated linear unit.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, _sigma(gate) * value, mask=inside)


@mistake("swiglu_triton", "silu_alone", "the gate is not multiplied by b",
         hint="In Eq. (4) SiLU of a multiplies b.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate * _sigma(gate), mask=inside)


@mistake("swiglu_triton", "exponential_overflows", "exp(a) is divided by 1 + exp(a): both are infinite at a = 89",
         hint="1 / (1 + exp(-a)) is the same, and right at both ends.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate * (tl.exp(gate) / (1.0 + tl.exp(gate))) * value, mask=inside)


@mistake("swiglu_triton", "product_in_the_input_dtype", "a and b are multiplied in float16: 300 times 300 is infinite",
         hint="Convert to float32 right after the load; Eq. (4) is finite where this product is not.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0)
    tl.store(out + row * out_row + column, (gate * value) * _sigma(gate.to(tl.float32)), mask=inside)


@mistake("swiglu_triton", "python_in_the_kernel", "the kernel calls a Python function",
         hint="The interpreter runs any Python, a GPU does not: decorate the function with `@triton.jit`.")
@triton.jit
def swiglu_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, gate / (1.0 + _exponential(-gate)) * value, mask=inside)


# ------------------------------------------------------------------------------------------------ the backward pass


@mistake("swiglu_triton", "gradient_of_the_gate_without_its_slope", "da leaves out the slope of the sigmoid",
         hint="SiLU is a product of a and σ(a): its derivative has two terms, as in Eq. (5).")
@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    tl.store(da + row * da_row + column, given * value * open_, mask=inside)
    tl.store(db + row * db_row + column, given * gate * open_, mask=inside)


@mistake("swiglu_triton", "gradient_of_the_gate_without_b", "da is not multiplied by b",
         hint="What the gate multiplies is a factor of the gate's gradient.")
@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    tl.store(da + row * da_row + column, given * open_ * (1.0 + gate * (1.0 - open_)), mask=inside)
    tl.store(db + row * db_row + column, given * gate * open_, mask=inside)


@mistake("swiglu_triton", "gradient_of_b_is_the_sigmoid", "db is the sigmoid of a times the gradient, without a",
         hint="The factor of b in Eq. (4) is SiLU of a.")
@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    tl.store(da + row * da_row + column, given * value * open_ * (1.0 + gate * (1.0 - open_)), mask=inside)
    tl.store(db + row * db_row + column, given * open_, mask=inside)


@mistake("swiglu_triton", "gradients_exchanged", "da and db are exchanged",
         hint="The destinations come in the order of the inputs: first that of a.")
@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    tl.store(da + row * da_row + column, given * gate * open_, mask=inside)
    tl.store(db + row * db_row + column, given * value * open_ * (1.0 + gate * (1.0 - open_)), mask=inside)


@mistake("swiglu_triton", "gradient_ignores_dout", "the gradients are not multiplied by the incoming one",
         hint="`dout` is the gradient of the loss with respect to `out`: the chain rule multiplies by it.")
@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    tl.store(da + row * da_row + column, value * open_ * (1.0 + gate * (1.0 - open_)) + 0.0 * given, mask=inside)
    tl.store(db + row * db_row + column, gate * open_, mask=inside)


@mistake("swiglu_triton", "backward_stores_without_mask", "the stores of the backward pass have no mask",
         hint="The last block of a row reaches beyond it.")
@triton.jit
def swiglu_backward_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    tl.store(da + row * da_row + column, given * value * open_ * (1.0 + gate * (1.0 - open_)))
    tl.store(db + row * db_row + column, given * gate * open_)


@triton.jit
def _terms_kernel(da, db, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    """The two terms of da in two programs."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = _sigma(gate)
    before = tl.load(da + row * da_row + column, mask=inside, other=0.0)
    if tl.program_id(2) == 0:
        tl.store(da + row * da_row + column, before + given * value * open_, mask=inside)
        tl.store(db + row * db_row + column, given * gate * open_, mask=inside)
    else:
        tl.store(da + row * da_row + column, before + given * value * gate * open_ * (1.0 - open_), mask=inside)


@triton.jit
def _zero_kernel(x, F, x_row, BLOCK: tl.constexpr):
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + tl.program_id(0) * x_row + column, tl.zeros([BLOCK], dtype=tl.float32), mask=column < F)


@mistake("swiglu_triton", "terms_of_da_race", "two programs add their terms to the same elements of da",
         hint="Between a program's load and its store another may have stored: one program computes both terms.")
def swiglu_triton_backward(da, db, dout, a, b):
    M, F = a.shape
    blocks = triton.cdiv(F, 64)
    _zero_kernel[(M, blocks)](da, F, da.stride(0), BLOCK=64)
    _terms_kernel[(M, blocks, 2)](da, db, dout, a, b, F, da.stride(0), db.stride(0), dout.stride(0), a.stride(0),
                                  b.stride(0), BLOCK=64)


@mistake("swiglu_triton", "terms_added_to_nan", "da is added to without being made zero before",
         hint="The caller's da holds NaN: a sum has to begin with zeros.")
def swiglu_triton_backward(da, db, dout, a, b):
    M, F = a.shape
    _terms_kernel[(M, triton.cdiv(F, 64), 2)](da, db, dout, a, b, F, da.stride(0), db.stride(0), dout.stride(0),
                                              a.stride(0), b.stride(0), BLOCK=64)


@triton.jit
def _shared_scratch_kernel(da, db, scratch, dout, a, b, F, da_row, db_row, dout_row, a_row, b_row,
                           BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(scratch + column, _sigma(gate), mask=inside)
    open_ = tl.load(scratch + column, mask=inside, other=0.0)
    tl.store(da + row * da_row + column, given * value * open_ * (1.0 + gate * (1.0 - open_)), mask=inside)
    tl.store(db + row * db_row + column, given * gate * open_, mask=inside)


@mistake("swiglu_triton", "scratch_shared_by_rows", "all rows keep σ(a) in the same row of scratch memory",
         hint="Programs run side by side: another row's may write in between. Registers need no place in memory.")
def swiglu_triton_backward(da, db, dout, a, b):
    M, F = a.shape
    scratch = torch.empty(F, dtype=torch.float32, device=a.device)
    _shared_scratch_kernel[(M, triton.cdiv(F, 64))](da, db, scratch, dout, a, b, F, da.stride(0), db.stride(0),
                                                    dout.stride(0), a.stride(0), b.stride(0), BLOCK=64)


# ------------------------------------------------------------------------------------------------ right, otherwise

@triton.jit
def _whole_row_kernel(out, a, b, F, out_row, a_row, b_row, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    for start in range(0, F, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < F
        gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
        value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + row * out_row + column, gate / (1.0 + tl.exp(-gate)) * value, mask=inside)


@alternative("swiglu_triton", "a_program_for_each_row")
def swiglu_triton(out, a, b):
    M, F = a.shape
    _whole_row_kernel[(M,)](out, a, b, F, out.stride(0), a.stride(0), b.stride(0), BLOCK=128)


@triton.jit
def _flat_kernel(da, db, dout, a, b, M, F, da_row, db_row, dout_row, a_row, b_row, BLOCK: tl.constexpr):
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = element < M * F
    row, column = element // F, element % F
    given = tl.load(dout + row * dout_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    open_ = tl.sigmoid(gate)
    slope = open_ + gate * open_ * tl.sigmoid(-gate)
    tl.store(da + row * da_row + column, slope * given * value, mask=inside)
    tl.store(db + row * db_row + column, given * open_ * gate, mask=inside)


@alternative("swiglu_triton", "elements_counted_through")
def swiglu_triton_backward(da, db, dout, a, b):
    M, F = a.shape
    _flat_kernel[(triton.cdiv(M * F, 256),)](da, db, dout, a, b, M, F, da.stride(0), db.stride(0), dout.stride(0),
                                             a.stride(0), b.stride(0), BLOCK=256)


@triton.jit
def _tile_kernel(out, a, b, M, F, out_row, a_row, b_row, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (row < M) & (column < F)
    gate = tl.load(a + row * a_row + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(b + row * b_row + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_row + column, value * tl.sigmoid(gate) * gate, mask=inside)


@alternative("swiglu_triton", "tiles_of_rows_and_columns")
def swiglu_triton(out, a, b):
    M, F = a.shape
    _tile_kernel[(triton.cdiv(M, 4), triton.cdiv(F, 64))](out, a, b, M, F, out.stride(0), a.stride(0), b.stride(0),
                                                          ROWS=4, COLUMNS=64)
