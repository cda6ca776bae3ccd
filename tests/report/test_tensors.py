"""Tensors read back from their text."""
import pytest

from autograder.report.model import Difference, TensorView
from autograder.report.tensors import Cell, differing, elements, grid, printed, side_by_side


def view(text: str, *shape: int) -> TensorView:
    return TensorView(name="x", shape=list(shape), dtype="float64", text=text)


@pytest.mark.parametrize(("text", "shape", "expected"), [
    ("[[1, 2], [3, 4]]", (2, 2), ["1", "2", "3", "4"]),
    ("tensor([1., -2.5e-05], dtype=torch.float64)", (2,), ["1.", "-2.5e-05"]),
    ("[nan, -inf, True]", (3,), ["nan", "-inf", "True"]),
    ("0.5", (), ["0.5"]),
    ("[1, 2, ..., 9]", (9,), None),
    ("[1, 2] and float64", (2,), ["1", "2"]),
    ("not numbers", (2,), None),
    ("", (2,), None),
    ("[]", (0,), None),
])
def test_elements_are_read_or_refused(text, shape, expected):
    assert elements(view(text, *shape)) == expected


def test_a_matrix_is_laid_out_with_points_below_points():
    assert grid(view("[[0.25, 1, nan], [-1.5, 12.125, 3e-05]]", 1, 2, 3)).rows == [
        ["0.25", "1    ", "nan"], ["-1.5 ", "12.125", "3e-05"]]


def test_a_larger_tensor_is_printed_row_by_row():
    assert printed(view("[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]", 2, 2, 2)) == \
        "[[[1, 2],\n  [3, 4]],\n [[5, 6],\n  [7, 8]]]"
    assert printed(view("already\n], [ laid out", 2)) == "already\n], [ laid out"


@pytest.mark.parametrize("shape", [(2, 2, 2), (13, 1), (1, 9)])
def test_what_is_no_small_matrix_is_not_laid_out(shape):
    count = shape[0] * shape[1] * (shape[2] if len(shape) > 2 else 1)
    assert grid(view(str([1] * count), *shape)) is None


@pytest.mark.parametrize(("expected", "got", "tolerance", "marked"), [
    ("[1, 2, 3]", "[1, 2.5, 3]", None, [1]),
    ("[1, 2, 3]", "[1, 2.0000001, 3]", "1e-05", []),
    ("[1, 2, 3]", "[nan, 2, inf]", "0.1", [0, 2]),
    ("[True, True, False]", "[True, False, False]", None, [1]),
])
def test_differing_elements_are_found(expected, got, tolerance, marked):
    found = Difference(expected=view(expected, 3), got=view(got, 3), tolerance=tolerance)
    assert [cell.index for cell in differing(found)] == [(index,) for index in marked]
    assert side_by_side(found)[1].marked == {(0, index) for index in marked}


def test_the_first_index_counts_even_if_the_digits_agree():
    found = Difference(expected=view("[1, 1]", 2), got=view("[1, 1]", 2), first_index=[1])
    assert differing(found) == [Cell((1,), "1", "1")]


def test_without_printed_tensors_the_first_value_is_all_there_is():
    found = Difference(first_index=[3, 1], expected_value=0.5, got_value="nan")
    assert differing(found) == [Cell((3, 1), "0.5", "nan")] and side_by_side(found) is None


def test_tensors_of_different_shapes_are_not_compared():
    found = Difference(expected=view("[1, 2]", 2), got=view("[1]", 1))
    assert differing(found) == [] and not side_by_side(found)[1].marked
