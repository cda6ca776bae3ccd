"""Cases: what breaks code is always among them, the same seed gives the same tensors, and examples shrink to small."""
from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etude.strategies import (
    LAYOUTS,
    Case,
    Cases,
    computed,
    for_all,
    integers,
    mask,
    normal,
    positive,
    value_of,
)

SPEC = Cases(x=normal("B H*D T"), scale=positive("D"), keep=mask("B T"), index=integers("T 3", 0, "B"),
             heads=value_of("H"), mode=value_of("mode"),
             sizes={"T": (1, 4, 70), "H": (1, 3)}, flags={"mode": ("a", "b", "c"), "bias": (True, False)},
             derived={"twice": lambda s: 2 * s["T"]}, also=[{"T": 9, "B": 4}])
WEIGHTS = Cases(x=normal("B I"), params={"w": normal("H I"), "on": mask("H")}, k=value_of("k"), flags={"k": (1, 2)})
SMALL = {"B": 2, "H": 3, "D": 1, "T": 4}
QUICK = settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def tensors(case: Case) -> list[torch.Tensor]:
    return [value for value in case.arguments().values() if isinstance(value, torch.Tensor)]


def equal(one: Case, other: Case) -> bool:
    return all(a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b) and a.stride() == b.stride()
               for a, b in zip(tensors(one), tensors(other), strict=True))


# ---------------------------------------------------------------------------------------------- one case

def test_dimensions_are_names_numbers_and_products() -> None:
    arguments = SPEC.case(SMALL).arguments()
    assert {name: tuple(value.shape) for name, value in arguments.items() if isinstance(value, torch.Tensor)} == {
        "x": (2, 3, 4), "scale": (1,), "keep": (2, 4), "index": (4, 3)}
    assert arguments["heads"] == 3 and arguments["mode"] == "a"
    assert list(arguments) == ["x", "scale", "keep", "index", "heads", "mode"]
    assert arguments["keep"].dtype is torch.bool and arguments["index"].dtype is torch.int64


def test_sizes_flags_and_derived_sizes_are_attributes_and_others_are_named() -> None:
    case = SPEC.case(SMALL, {"mode": "c"})
    assert (case.B, case.H, case.mode, case.bias, case.twice) == (2, 3, "c", True, 8)
    with pytest.raises(AttributeError, match="no size, flag or field 'Q'; it has .*T"):
        _ = case.Q


def test_what_is_inside_a_dict_argument_has_its_full_name() -> None:
    case = WEIGHTS.case({"B": 2, "I": 3, "H": 4})
    arguments = case.arguments()
    assert list(arguments) == ["x", "params", "k"] and list(arguments["params"]) == ["w", "on"]
    assert list(case.named()) == ["x", "params['w']", "params['on']", "k"]
    assert torch.equal(case.named()["params['w']"], arguments["params"]["w"])
    assert case.floating() == list(case.leaves(arguments)) == ["x", "params['w']"]
    other = case.replaced(arguments, {"params['w']": torch.zeros(4, 3)})
    assert not other["params"]["w"].any() and other["params"]["on"] is arguments["params"]["on"]
    assert arguments["params"]["w"].any()  # what was replaced is another dict


def test_the_same_fields_give_the_same_tensors_and_another_seed_others() -> None:
    assert equal(SPEC.case(SMALL, seed=5), SPEC.case(SMALL, seed=5))
    assert not equal(SPEC.case(SMALL, seed=5), SPEC.case(SMALL, seed=6))


def test_arguments_are_fresh_each_time() -> None:
    case = SPEC.case(SMALL)
    case.arguments()["x"].zero_()
    assert case.arguments()["x"].abs().sum() > 0


def test_values_keep_to_what_the_strategy_says() -> None:
    case = Cases(p=positive("N", 0.5, 2.0), n=normal("N", scale=2.0, shift=10.0), i=integers("N", 2, "N"),
                 m=mask("N 4", keep=0.7, empty_rows=0.15)).case({"N": 4000})
    values = case.arguments()
    assert 0.5 <= values["p"].min() < 0.51 and 1.99 < values["p"].max() < 2.0
    assert abs(values["n"].mean() - 10) < 0.2 and abs(values["n"].std() - 2) < 0.2
    assert values["i"].min() == 2 and 3900 < values["i"].max() < 4000
    kept = values["m"].double().mean()
    assert abs(kept - 0.7 * 0.85) < 0.03 and 0.13 < (~values["m"].any(dim=1)).double().mean() < 0.19


def test_a_case_prints_what_is_not_the_default() -> None:
    case = SPEC.case(SMALL, seed=3, layout="strided", dtype=torch.float32, scale=1e3)
    assert repr(case) == ("Case(B=2, H=3, D=1, T=4, twice=8, mode='a', bias=True, seed=3, layout=strided, "
                          "dtype=float32, scale=1000)")
    assert repr(SPEC.case(SMALL)) == "Case(B=2, H=3, D=1, T=4, twice=8, mode='a', bias=True, seed=0)"


def test_a_changed_case_is_the_same_each_time_and_shares_no_memory_of_results() -> None:
    case = SPEC.case(SMALL, seed=2)
    case.memo["result"] = 1
    changed = case.but(dtype=torch.float32, scale=3.0)
    assert changed is case.but(scale=3.0, dtype=torch.float32) and changed is not case.but(scale=4.0)
    assert "result" not in changed.memo
    assert torch.equal(changed.arguments()["x"], (case.arguments()["x"] * 3).float())


def test_floating_arguments_have_the_cases_dtype_and_others_keep_theirs() -> None:
    case = SPEC.case(SMALL, dtype=torch.float16)
    assert case.floating() == ["x", "scale"]
    assert [value.dtype for value in tensors(case)] == [torch.float16, torch.float16, torch.bool, torch.int64]


def test_layouts_change_memory_and_never_values_but_for_the_batch_that_is_expanded() -> None:
    plain, strided, expanded = (SPEC.case(SMALL, seed=1, layout=layout).arguments()["x"] for layout in LAYOUTS)
    assert plain.is_contiguous() and torch.equal(strided, plain)
    assert not strided.is_contiguous() and 1 not in strided.stride() and strided.stride(0) < strided.stride(-1)
    assert expanded.stride(0) == 0 and torch.equal(expanded, plain[:1].expand_as(plain))


def test_a_cases_own_generator_depends_on_its_seed_and_the_salt() -> None:
    def draw(seed: int, salt: int) -> float:
        return torch.rand((), generator=SPEC.case(SMALL, seed=seed).generator(salt)).item()
    assert draw(1, 1) == draw(1, 1) and len({draw(1, 1), draw(1, 2), draw(2, 1)}) == 3


# ---------------------------------------------------------------------------------------------- corners

def test_the_corners_hold_what_breaks_code() -> None:
    corners = list(SPEC.corners())
    assert {case.layout for case in corners} == set(LAYOUTS)
    for case in corners[:3]:
        assert len({case.B, case.H, case.D, case.T}) == 4 and 1 not in (case.B, case.H, case.D, case.T)
    assert any((case.B, case.H, case.D, case.T) == (1, 1, 1, 1) for case in corners)
    for name in "BHDT":
        alone = [case for case in corners if getattr(case, name) == 1 and list(case.sizes.values()).count(1) == 1]
        assert alone, f"no corner in which {name} alone is 1"
    assert any(case.T == 70 for case in corners), "none beyond the block"
    assert any((case.T, case.B) == (9, 4) for case in corners), "none of `also`"
    assert {case.mode for case in corners} == {"a", "b", "c"} and {case.bias for case in corners} == {True, False}
    assert all(case.twice == 2 * case.T for case in corners)


@settings(QUICK)
@given(bounded=st.integers(0, 3), free=st.integers(0, 6))
def test_the_first_corner_has_different_sizes_where_bounds_allow_it(bounded: int, free: int) -> None:
    names = [f"a{n}" for n in range(bounded)] + [f"b{n}" for n in range(free)]
    spec = Cases(x=normal(" ".join(names)), sizes={f"a{n}": (1, 4) for n in range(bounded)})
    sizes = list(next(iter(spec.corners())).sizes.values())
    assert len(set(sizes)) == len(sizes) and 1 not in sizes
    assert all(size <= 4 for size in sizes[:bounded])


def test_bounds_that_the_author_gave_are_kept_in_every_corner() -> None:
    spec = Cases(x=normal("A B C D"), sizes=dict.fromkeys("ABCD", (2, 3)))
    assert {size for case in spec.corners() for size in case.sizes.values()} == {2, 3}


def test_illegal_cases_are_neither_corners_nor_drawn() -> None:
    spec = Cases(x=normal("A B"), legal=lambda s: s["A"] <= s["B"])
    assert all(case.A <= case.B for case in spec.corners()) and list(spec.corners())
    for case in drawn(spec, 40):
        assert case.A <= case.B


def test_changing_a_specification_leaves_the_first_alone() -> None:
    changed = SPEC.but(x=normal("B T"), extra=value_of("T"))
    assert list(changed.arguments) == [*SPEC.arguments, "extra"] and SPEC.arguments["x"].dims == "B H*D T"
    assert changed.case(SMALL).arguments()["x"].shape == (2, 4) and changed.flags == SPEC.flags
    assert [case.seed for case in changed.corners()] == [case.seed for case in SPEC.corners()]


# ---------------------------------------------------------------------------------------------- drawing, shrinking

def drawn(spec: Cases, count: int, seed: int = 1) -> list[Case]:
    found = []

    @hypothesis.seed(seed)
    @settings(QUICK, max_examples=count, phases=[Phase.generate])
    @given(case=spec.strategy())
    def collect(case: Case) -> None:
        found.append(case)
    collect()
    return found


def test_draws_stay_within_the_usual_sizes_and_meet_every_flag_and_layout() -> None:
    cases = drawn(SPEC, 100)
    assert {case.layout for case in cases} == set(LAYOUTS) and {case.mode for case in cases} == {"a", "b", "c"}
    assert {case.T for case in cases} == {1, 2, 3, 4} and {case.H for case in cases} == {1, 2, 3}
    assert {case.B for case in cases} == {1, 2, 3, 4, 5} and len({case.seed for case in cases}) > 20


def test_the_same_seed_draws_the_same_cases() -> None:
    first, second, other = (list(map(repr, drawn(SPEC, 20, seed))) for seed in (1, 1, 2))
    assert first == second and first != other


@pytest.mark.parametrize(("fails", "shrunk"), [
    (lambda case: case.T >= 3, {"B": 1, "T": 3, "seed": 0, "layout": "contiguous"}),
    (lambda case: case.layout == "strided" and case.B > 1, {"B": 2, "T": 1, "seed": 0, "layout": "strided"}),
    (lambda case: case.arguments()["x"].sum() > 1e-3, {"B": 1, "T": 1, "layout": "contiguous"}),
])
def test_a_failure_shrinks_to_a_small_case(fails: Any, shrunk: dict[str, Any]) -> None:
    seen = []

    @hypothesis.seed(0)
    @settings(QUICK, max_examples=100)
    @given(case=Cases(x=normal("B T")).strategy())
    def check(case: Case) -> None:
        if fails(case):
            seen.append(case)
            raise AssertionError
    with pytest.raises(AssertionError):
        check()
    assert {name: getattr(seen[-1], name) for name in shrunk} == shrunk


def test_for_all_runs_the_corners_first_unless_they_are_left_out() -> None:
    spec = Cases(x=normal("B T"), flags={"mode": (1, 2)})

    def run(**options: bool) -> list[Case]:
        seen: list[Case] = []

        @settings(QUICK, max_examples=5, phases=[Phase.explicit, Phase.generate])
        @for_all(case=spec, **options)
        def check(case: Case) -> None:
            seen.append(case)
        check()
        return seen
    corners = list(map(repr, spec.corners()))
    assert list(map(repr, run()))[:len(corners)] == corners
    assert len(run()) > len(run(corners=False)) and len(run(corners=False)) <= 5


def test_a_computed_argument_sees_sizes_and_flags() -> None:
    spec = Cases(x=computed(lambda g, s: (s["N"], s["on"], torch.rand(1, generator=g).item())), sizes={"N": (1, 3)},
                 flags={"on": (False, True)})
    assert spec.case({"N": 2}, {"on": True}).arguments()["x"][:2] == (2, True)
    assert spec.case({"N": 2}, seed=1).arguments() == spec.case({"N": 2}, seed=1).arguments()
