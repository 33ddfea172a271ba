"""The published rule of how close is equal, and attempts to get something past it."""

from __future__ import annotations

import pytest
import torch

from eipack.parity.tolerance import TOLERANCES, compare, scales, tolerance_of, typical

FLOATS = [getattr(torch, name) for name in TOLERANCES]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_equal_outputs_agree_in_every_dtype(dtype):
    value = torch.randn(50).to(dtype)
    difference = compare(value, value.clone())
    assert (difference.agrees, difference.max_abs, difference.max_rel) == (True, 0.0, 0.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_one_element_may_differ_by_the_tolerance_and_no_more(dtype):
    rtol = tolerance_of(str(dtype).removeprefix("torch.")).rtol
    value = torch.ones(9, dtype=torch.float64)
    near, far = value.clone(), value.clone()
    near[4] += rtol
    far[4] += 6 * rtol
    assert compare(value.to(dtype), near.to(dtype)).agrees
    assert not compare(value.to(dtype), far.to(dtype)).agrees


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1.0, 1e6, 1e30])
def test_the_rule_is_the_same_at_every_scale(scale):
    value = torch.randn(100) * scale
    assert compare(value, value * 1.00001).agrees
    assert not compare(value, value * 1.01).agrees
    assert not compare(value, torch.zeros(100)).agrees


def test_a_small_element_may_be_off_by_what_rounding_does_to_a_sum():
    value = torch.cat([torch.randn(100), torch.tensor([1e-7])])
    off = value.clone()
    off[-1] = 3e-7
    assert compare(value, off).agrees


FILLS = {
    "minus a billion": [-1e9],
    "the smallest of float32": [torch.finfo(torch.float32).min],
    "the smallest of float16": [torch.finfo(torch.float16).min],
    "minus ten thousand": [-1e4],
    "two masks added up": [-1e9, -2e9],
    "two masks of different size": [-1e9, -1e4],
    "infinity": [-torch.inf],
}


@pytest.mark.parametrize("share", [0.2, 0.6, 0.999])
@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS.keys())
def test_a_fill_value_hides_no_error_elsewhere(fill, share):
    value = torch.randn(10_000)
    filled = torch.randperm(10_000)[: int(share * 10_000)]
    value[filled] = torch.tensor(fill).repeat(10_000)[: len(filled)]
    kept = torch.ones(10_000, dtype=torch.bool)
    kept[filled] = False
    wrong = value.clone()
    wrong[kept.nonzero()[0]] += 0.01
    assert compare(value, value.clone()).agrees
    assert not compare(value, wrong).agrees


def test_large_values_that_vary_are_no_fill():
    value = torch.cat([torch.linspace(1, 1e5, 1000), torch.tensor([1e-3])])
    off = value.clone()
    off[-1] += 1.0
    assert typical([value]) > 1e4
    assert compare(value, off).agrees


def test_zeros_are_held_to_an_absolute_tolerance():
    zero = torch.zeros(10)
    assert compare(zero, zero + 1e-7).agrees
    assert not compare(zero, zero + 1e-5).agrees


def test_many_zeros_do_not_loosen_or_tighten_the_rule_for_others():
    value = torch.cat([torch.zeros(10_000), torch.randn(10)])
    wrong = value.clone()
    wrong[-1] += 0.01
    assert not compare(value, wrong).agrees
    wrong = value.clone()
    wrong[0] = 0.01
    assert not compare(value, wrong).agrees


def test_denormals_are_compared_as_numbers():
    value = torch.full((4,), 1e-42)
    assert compare(value, value.clone()).agrees
    assert not compare(value, torch.zeros(4)).agrees


def test_a_scalar_near_zero_is_judged_by_what_it_is_elsewhere():
    value, off = torch.tensor([1e-7]), torch.tensor([2e-7])
    assert not compare(value, off).agrees
    assert compare(value, off, typical([torch.tensor([0.5]), value, torch.tensor([2.0])])).agrees


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.int16], ids=str)
def test_integers_and_booleans_must_be_equal(dtype):
    value = torch.tensor([0, 1, 1]).to(dtype)
    other = torch.tensor([0, 1, 0]).to(dtype)
    assert compare(value, value.clone()).agrees
    difference = compare(value, other)
    assert (difference.agrees, difference.max_abs) == (False, 1.0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0])),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.nan])),
        (torch.tensor([torch.inf]), torch.tensor([-torch.inf])),
        (torch.tensor([torch.inf]), torch.tensor([torch.nan])),
        (torch.tensor([torch.nan, 1.0]), torch.tensor([1.0, torch.nan])),
        (torch.tensor([complex(1, torch.inf)]), torch.tensor([complex(1, torch.nan)])),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        (torch.ones(2), torch.ones(2, 1)),
        (torch.ones(2, 3), torch.ones(3, 2)),
        (torch.ones(2), torch.ones(2, dtype=torch.int64)),
    ],
)
def test_another_place_of_nan_another_dtype_or_shape_never_agrees(left, right):
    difference = compare(left, right)
    assert not difference.agrees
    assert difference.max_abs is None
    assert difference.reason


def test_nan_and_infinity_in_the_same_places_agree():
    value = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0])
    assert compare(value, value.clone()).agrees
    assert compare(value[:3], value[:3].clone()).agrees


def test_empty_outputs_agree():
    assert compare(torch.empty(0, 4), torch.empty(0, 4)).agrees


def test_columns_of_the_last_axis_are_judged_apart():
    boxes, scores = 640 * torch.rand(50, 4), torch.rand(50, 1)
    value = torch.cat([boxes, scores], 1)
    wrong = value.clone()
    wrong[:, 4] += 0.01
    assert compare(value, wrong).agrees
    assert not compare(value, wrong, scales([value])).agrees
    assert compare(value, value * 1.00001, scales([value])).agrees


def test_a_column_of_few_elements_or_of_zeros_is_judged_by_the_whole():
    value = torch.tensor([[1e-7, 1.0, 1.0, 0.0]]).repeat(7, 1)
    assert scales([value]).tolist() == pytest.approx([1.0] * 4)
    assert scales([value, value]).tolist() == pytest.approx([1e-7, 1.0, 1.0, 1.0])


def test_a_fill_value_is_left_out_of_its_column():
    value = torch.randn(100, 3)
    value[:60, 1] = -1e9
    assert float(scales([value]).max()) < 10


def test_one_element_of_any_stride_is_compared():
    value = torch.arange(8).as_strided((1,), (4,))
    assert compare(value, value.clone()).agrees
    assert not compare(value, value + 1).agrees
