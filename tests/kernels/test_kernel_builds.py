"""The build for sm_90: what compiles, what does not, and what it costs; without a GPU."""
from __future__ import annotations

import re

import pytest
import torch

from etude.failures import CheckFailure
from etude.kernels.cases import KernelCases, values
from etude.kernels.properties import assert_builds, assert_kernel
from etude.kernels.ptxas import NotAssembled, resources_of
from tests.kernels import planted

MATRIX = ((512, 1000), torch.float16)


def test_a_kernel_is_built_and_its_cost_is_told():
    said = assert_builds(planted.doubles, {"out": MATRIX}, {"x": MATRIX})
    assert re.fullmatch(r"Built for sm_90: `_double`: \d+ registers, no spills, no tensor cores\.", said)


def test_a_build_takes_bfloat16_and_sizes_that_are_never_allocated():
    huge = ((1 << 20, 1 << 12), torch.bfloat16)
    assert "`_double`" in assert_builds(planted.doubles, {"out": huge}, {"x": huge})


def test_python_in_a_kernel_passes_the_interpreter_and_fails_the_build():
    rows = KernelCases(x=values("M N"), sizes={"M": (1, 5), "N": (1, 13)})
    assert_kernel(planted.calls_python, rows.case({"M": 2, "N": 3}), outputs={"out": "M N"}, expected=lambda x: 2 * x)
    with pytest.raises(CheckFailure, match="`_calls_python` does not compile for a GPU"):
        assert_builds(planted.calls_python, {"out": MATRIX}, {"x": MATRIX})


def test_interpreting_goes_on_after_a_build():
    rows = KernelCases(x=values("M N"), sizes={"M": (1, 5), "N": (1, 13)})
    assert_builds(planted.doubles, {"out": MATRIX}, {"x": MATRIX})
    assert_kernel(planted.doubles, rows.case({"M": 2, "N": 3}), outputs={"out": "M N"}, expected=lambda x: 2 * x)


def test_code_that_launches_nothing_is_told():
    with pytest.raises(CheckFailure, match="no kernel was launched"):
        assert_builds(lambda out, x: None, {"out": MATRIX}, {"x": MATRIX})


def test_float32_that_is_rounded_to_tf32_is_told():
    square = ((32, 32), torch.float32)
    with pytest.raises(CheckFailure, match="operands of float32 are rounded to 10 bits"):
        assert_builds(planted.squares, {"out": square}, {"x": square}, no_tf32=True, precision="tf32")
    assert "TF32" in assert_builds(planted.squares, {"out": square}, {"x": square}, precision="tf32")
    assert "TF32" not in assert_builds(planted.squares, {"out": square}, {"x": square}, no_tf32=True, precision="ieee")


def test_missing_tensor_cores_are_told():
    with pytest.raises(CheckFailure, match="no launch uses tensor cores"):
        assert_builds(planted.doubles, {"out": MATRIX}, {"x": MATRIX}, tensor_cores=True)


@pytest.mark.parametrize("text", ["", "not PTX", ".version 8.6\n.target sm_90a\n.address_size 64\nnonsense;"])
def test_what_is_not_ptx_is_refused_in_one_line(text):
    with pytest.raises(NotAssembled) as caught:
        resources_of("k", text)
    assert "\n" not in str(caught.value)


def test_ptx_that_is_too_long_reaches_no_ptxas():
    with pytest.raises(NotAssembled, match="characters long"):
        resources_of("k", " " * ((4 << 20) + 1))
