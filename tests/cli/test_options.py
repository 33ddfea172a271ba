from __future__ import annotations

from typing import Any

import click
import pytest
import torch

from eipack.cli.options import Dynamic, DynamicType, PairType, SpecType, dynamic_shapes


def read(kind: click.ParamType, text: str) -> Any:
    return kind.convert(text, None, None)


def test_a_dynamic_axis_is_read() -> None:
    assert read(DynamicType(), "x.0:1=seq:2:64") == Dynamic("x.0", 1, "seq", 2, 64)


def test_axes_of_one_dimension_share_it() -> None:
    axes = [Dynamic("x", 0, "batch", 1, 4), Dynamic("y", 1, "batch", 1, 4)]
    shapes = dynamic_shapes(axes)
    assert shapes is not None
    assert shapes["x"][0] is shapes["y"][1]
    assert isinstance(shapes["x"][0], type(torch.export.Dim("batch", min=1, max=4)))


def test_dotted_names_are_nested() -> None:
    shapes = dynamic_shapes([Dynamic("batch.image.0", 2, "h", 1, 4)])
    assert shapes is not None
    assert list(shapes["batch"]["image"][0]) == [2]


def test_without_axes_nothing_is_dynamic() -> None:
    assert dynamic_shapes([]) is None


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (Dynamic("y", 0, "batch", 1, 5), "two ranges, 1:4 and 1:5"),
        (Dynamic("x", 0, "other", 1, 4), "axis 0 of x twice"),
    ],
)
def test_contradictions_are_wrong_use(second: Dynamic, told: str) -> None:
    with pytest.raises(click.UsageError, match=told):
        dynamic_shapes([Dynamic("x", 0, "batch", 1, 4), second])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ids=0:40477", ("ids", {"low": 0.0, "high": 40477.0})),
        ("x=-1.5:1.5", ("x", {"low": -1.5, "high": 1.5})),
        ("flag=0,1", ("flag", {"values": (0.0, 1.0)})),
        ("flag=1", ("flag", {"values": (1.0,)})),
    ],
)
def test_a_spec_is_a_range_or_a_list(text: str, expected: object) -> None:
    assert read(SpecType(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("n=2", 2), ("on=true", True), ("name=gelu", "gelu"), ("sizes=[1, 2]", [1, 2])],
)
def test_a_setting_is_json_where_it_can_be(text: str, expected: object) -> None:
    assert read(PairType("KEY=VALUE", parse=True), text)[1] == expected


def test_a_path_stays_text() -> None:
    assert read(PairType("ROLE=PATH"), "labels=1") == ("labels", "1")
