"""What torch.export reports of sizes, read as sizes."""

from __future__ import annotations

import pytest

from eipack.capture.dims import Shapes
from eipack.capture.guards import free_range, guards_in, spread, violations
from eipack.signature import Dim, DimSize

REPORT = """Constraints violated (s)! For more information, run with TORCH_LOGS="+dynamic".
  - Not all values of s = L['x'].size()[0] in the specified range s <= 64 satisfy the generated guard L['x'].size()[0] != 5.
  - Not all values of s = L['x'].size()[0] in the specified range s <= 64 satisfy the generated guard 2 <= L['x'].size()[0] and L['x'].size()[0] <= 40
Suggested fixes:
  s = Dim('s', max=40)
"""  # noqa: E501 - as torch prints it
SHAPES = Shapes(
    (Dim("s", 1, 64), Dim("t", 1, 8)), ((DimSize("s"), 4), (DimSize("t"), DimSize("s", 2, 1)))
)
SAMPLE = {"s": 3, "t": 2}


def found(*guards):
    return violations(guards, SHAPES, ("x", "y"), SAMPLE)


def test_guards_are_read_from_the_report():
    assert guards_in(REPORT) == [
        "L['x'].size()[0] != 5",
        "2 <= L['x'].size()[0] and L['x'].size()[0] <= 40",
    ]
    assert guards_in("something else") == []


@pytest.mark.parametrize(
    ("guard", "sizes"),
    [
        ("L['x'].size()[0] != 5", [5]),
        ("(4*L['x'].size()[0]) != 20", [5]),
        ("L['x'].size()[0] <= 61", [62, 63, 64]),
        ("(L['x'].size()[0] % 16) != 0", [16, 32, 48, 64]),
        ("L['y'].size()[1] != 21", [10]),
        ("L['x'].size()[1] == 4", []),
        ("2 <= L['x'].size()[0]", []),
    ],
)
def test_sizes_that_break_a_guard_are_listed(guard, sizes):
    assert found(guard) == [{"s": size, "t": 2} for size in sizes]


def test_a_guard_over_two_dimensions_gives_pairs():
    assert found("L['x'].size()[0] != L['y'].size()[0]") == [{"s": n, "t": n} for n in range(2, 9)]


@pytest.mark.parametrize(
    "guard", ["L['z'].size()[0] != 5", "L['x'].stride()[0] != 4", "Mod(L['x'].size()[0], 2) != 0"]
)
def test_a_guard_that_cannot_be_read_is_said_so(guard):
    assert found(guard) is None


def test_the_free_range_is_the_one_around_the_sample():
    dim = Dim("s", 1, 64)
    assert free_range(found("L['x'].size()[0] != 5"), dim, 3) == Dim("s", 1, 4)
    assert free_range(found("L['x'].size()[0] != 5"), dim, 9) == Dim("s", 6, 64)
    assert free_range([], dim, 3) is None


def test_a_spread_keeps_both_ends():
    assert spread([1, 2, 3], 5) == [1, 2, 3]
    assert spread(range(100), 5) == [0, 25, 50, 74, 99]
