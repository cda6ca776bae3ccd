"""Each planted bug is found by the layer that is there for it, and by none without that layer."""
from __future__ import annotations

import contextlib
from unittest import mock

import pytest
import torch

from etude.failures import CheckFailure
from etude.kernels import launching, watch
from etude.kernels.cases import KernelCases, values
from etude.kernels.launching import Call, call
from etude.kernels.memory import MARGIN, Place, buffer
from etude.kernels.properties import assert_in_bounds, assert_kernel, assert_no_race
from tests.kernels import planted

ROWS = KernelCases(x=values("M N"), sizes={"M": (1, 5), "N": (1, 13)})
CASE = ROWS.case({"M": 3, "N": 5})
STRIDED = ROWS.case({"M": 3, "N": 5}, layout="strided")
SAME, COLUMNS = {"out": "M N"}, {"out": "N"}


def double(x):
    return 2 * x


def column_sums(x):
    return x.sum(dim=0)


@contextlib.contextmanager
def _without_the_watch():
    """The interpreter as Triton ships it."""
    @contextlib.contextmanager
    def nothing(one):
        yield one
    with mock.patch.object(watch, "watching", nothing):
        yield


@pytest.mark.parametrize("layout", ["contiguous", "strided", "expanded"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("regime", ["normal", "shifted", "structured"])
def test_a_right_kernel_passes_everything(layout, precision, regime):
    case = ROWS.case({"M": 3, "N": 5}, {"regime": regime, "precision": precision}, layout=layout)
    assert_kernel(planted.doubles, case, outputs=SAME, expected=double)
    assert_in_bounds(planted.doubles, case, outputs=SAME)
    assert_no_race(planted.doubles, case, outputs=SAME)


def test_a_read_beside_a_tensor_is_told_with_program_lanes_and_line():
    with pytest.raises(CheckFailure, match=r"program \(\d, 0, 0\) reads 1 element past the end of `x` \(3 lanes, the "
                                           r"first is lane 5 of 8\): `value = tl.load\(x \+ row \* x_row"):
        assert_in_bounds(planted.reads_beside, ROWS.case({"M": 1, "N": 5}), outputs=SAME)


def test_without_the_watch_a_read_that_changes_nothing_is_not_seen():
    assert_kernel(planted.reads_beside, CASE, outputs=SAME, expected=double)  # nor by the values
    with _without_the_watch():
        assert_in_bounds(planted.reads_beside, CASE, outputs=SAME)


def test_a_write_beside_a_tensor_is_seen_by_the_watch_and_by_the_canaries_alone():
    with pytest.raises(CheckFailure, match="writes 1 element past the end of `out`"):
        assert_in_bounds(planted.writes_beside, ROWS.case({"M": 1, "N": 5}), outputs=SAME)
    with _without_the_watch(), pytest.raises(CheckFailure, match="memory beside `out` was written to"):
        assert_in_bounds(planted.writes_beside, CASE, outputs=SAME)


def test_without_canaries_a_write_beside_a_tensor_is_not_seen():
    with _without_the_watch(), mock.patch("etude.kernels.properties.same_bits", lambda one, _: torch.ones_like(
            one, dtype=torch.bool)):
        assert_in_bounds(planted.writes_beside, ROWS.case({"M": 1, "N": 5}), outputs=SAME)


def test_a_write_to_foreign_memory_is_told_and_never_made():
    with pytest.raises(CheckFailure, match="writes .*elements past the end of `"):
        assert_in_bounds(planted.far_away, CASE, outputs=SAME)


def test_an_input_that_is_written_to_is_told():
    with pytest.raises(CheckFailure, match="the input `x`, or memory around it, was written to"):
        assert_in_bounds(planted.writes_its_input, CASE, outputs=SAME)


def test_rows_taken_to_be_contiguous_fail_where_they_are_not():
    assert_kernel(planted.contiguous_rows, CASE, outputs=SAME, expected=double)
    with pytest.raises(CheckFailure, match="`out` is NaN"):
        assert_kernel(planted.contiguous_rows, STRIDED, outputs=SAME, expected=double)
    with pytest.raises(CheckFailure, match="between two rows of `x`"):
        assert_in_bounds(planted.contiguous_rows, STRIDED, outputs=SAME)


def test_a_race_has_right_values_in_the_interpreter_and_is_told_by_the_watch():
    case = ROWS.case({"M": 4, "N": 5})
    assert_kernel(planted.sums_by_race, case, outputs=COLUMNS, expected=column_sums)
    with pytest.raises(CheckFailure, match=r"an element of `out` which program \(\d, 0, 0\) also writes in the same "):
        assert_no_race(planted.sums_by_race, case, outputs=COLUMNS)
    with _without_the_watch():
        assert_no_race(planted.sums_by_race, case, outputs=COLUMNS)


@pytest.mark.parametrize("function", [planted.sums_by_atomics, planted.sums_by_lock], ids=["atomics", "a lock"])
def test_sums_that_are_ordered_are_no_race(function):
    case = ROWS.case({"M": 4, "N": 5})
    assert_kernel(function, case, outputs=COLUMNS, expected=column_sums)
    assert_no_race(function, case, outputs=COLUMNS)


def test_the_order_of_programs_is_shuffled_by_the_seed():
    x = torch.arange(12.0).reshape(4, 3)
    results = set()
    for order in range(8):
        pairs = [buffer("out", None, (3,), torch.float32, "contiguous"), buffer("x", x, x.shape, x.dtype, "contiguous")]
        wanted = Call([base for base, _ in pairs], [place for _, place in pairs], {}, order=order)
        results.add(float(pairs[0][1].of(call(planted.keeps_the_last, wanted).buffers[0])[0]))
    assert len(results) > 1
    case = ROWS.case({"M": 4, "N": 3})
    with mock.patch.object(watch.Watch, "write", lambda self, pointers, mask, *_, **__: mask), \
            pytest.raises(CheckFailure, match="depends on the order"):
        assert_no_race(planted.keeps_the_last, case, outputs=COLUMNS, orders=4)


@pytest.mark.parametrize("within", [False, True], ids=["a tensor", "within the kernel"])
def test_bfloat16_is_refused_with_the_reason(within):
    place = Place("out", 0, (2, 3), (3, 1), True), Place("x", 0, (2, 3), (3, 1), False)
    dtype = torch.float32 if within else torch.bfloat16
    with pytest.raises(watch.KernelRefused, match="bfloat16 comes out wrong"):
        call(planted.in_bfloat16 if within else planted.doubles,
             Call([torch.zeros(6, dtype=dtype), torch.ones(6, dtype=dtype)], list(place), {}))


def test_too_many_programs_are_refused():
    place = Place("out", 0, (2000, 1), (1, 1), True), Place("x", 0, (2000, 1), (1, 1), False)
    with pytest.raises(watch.KernelRefused, match="2000 programs .* at most 1024"):
        call(planted.doubles, Call([torch.zeros(2000), torch.ones(2000)], list(place), {}))


def test_of_an_autotuned_kernel_the_first_configuration_runs():
    assert_kernel(planted.autotuned, CASE, outputs=SAME, expected=double)


def test_the_interpreter_is_as_it_was_after_a_call():
    from triton.runtime import interpreter

    before = (interpreter.GridExecutor.__call__, interpreter._interpreter, interpreter._get_np_dtype)
    with contextlib.suppress(CheckFailure):
        assert_in_bounds(planted.far_away, CASE, outputs=SAME)
    assert before == (interpreter.GridExecutor.__call__, interpreter._interpreter, interpreter._get_np_dtype)
    assert "set_grid_idx" not in vars(interpreter.interpreter_builder)


def test_an_output_is_poisoned_and_lies_among_sentinels_an_input_among_nan():
    out, place = buffer("out", None, (2, 3), torch.float32, "strided")
    assert torch.isnan(place.of(out)).all() and not torch.isnan(out[:MARGIN]).any()
    x, place = buffer("x", torch.ones(2, 3), (2, 3), torch.float32, "strided")
    assert torch.equal(place.of(x), torch.ones(2, 3)) and torch.isnan(x[~place.elements(x.numel())]).all()
    assert place.of(x).stride() == (6, 1)


def test_a_made_up_reply_is_the_students_failure():
    from etude.failures import StudentStopped

    wanted = Call([torch.zeros(4)], [Place("out", 0, (4,), (1,), True)], {})
    for reply in ({}, {"buffers": [torch.zeros(3)], "evidence": {"faults": [], "built": []}},
                  {"buffers": [], "evidence": {"faults": [], "built": []}}, {"buffers": 1, "evidence": 2}):
        with pytest.raises(StudentStopped, match="incomplete reply"):
            launching._checked(reply, wanted)
