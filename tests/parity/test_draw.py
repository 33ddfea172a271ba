"""Fresh inputs: which sizes, and values that each input accepts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import eipack
from eipack.capture.dims import declare
from eipack.capture.examples import examples
from eipack.capture.reference import Reference
from eipack.errors import ParityInputsRequired
from eipack.parity.draw import Drawer, integers, span
from eipack.parity.sizes import size_plan
from eipack.signature import Dim


class Words(nn.Module):
    """As BERT: ids, positions and types index tables of their own; a mask picks."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(100, 4)
        self.places = nn.Embedding(8, 4)
        self.types = nn.Embedding(2, 4)

    def forward(self, ids, position_ids, token_type_ids, mask):
        x = self.words(ids) + self.places(position_ids) + self.types(token_type_ids)
        return x * mask[..., None]


class Any(nn.Module):
    def forward(self, x):
        return x * 2


IDS = torch.tensor([[1, 5, 9, 2]])
WORDS = {
    "ids": IDS,
    "position_ids": torch.arange(4)[None],
    "token_type_ids": torch.zeros_like(IDS),
    "mask": torch.ones_like(IDS),
}


def drawer(model, inputs, specs=None, shapes=None):
    call = examples(model, inputs, None)
    return Drawer(Reference(model, "eager", model, call), declare(shapes, call), specs)


def drawn(model, inputs, specs=None, draws=300):
    made = drawer(model, inputs, specs)
    return [
        torch.stack(leaves)
        for leaves in zip(*(made.draw({}, s) for s in range(draws)), strict=True)
    ]


def test_integers_are_drawn_from_the_table_that_each_indexes():
    ids, positions, types, _ = drawn(Words().eval(), WORDS)
    assert (int(ids.min()), int(ids.max())) == (0, 99)
    assert (int(positions.min()), int(positions.max())) == (0, 7)
    assert set(types.flatten().tolist()) == {0, 1}


def test_a_mask_of_ones_is_tested_with_zeros_too():
    *_, mask = drawn(Words().eval(), WORDS)
    assert set(mask.flatten().tolist()) == {0, 1}
    assert bool((mask[..., 0] == 1).all())  # never a row without anything


def test_a_mask_is_kept_as_it_is_where_the_model_bears_no_other():
    class Strict(nn.Module):
        def forward(self, x, mask):
            return x / mask.min(-1, keepdim=True).values * torch.where(mask > 0, 1.0, torch.nan)

    _, mask = drawn(Strict(), {"x": torch.ones(2, 4), "mask": torch.ones(2, 4).bool()})
    assert bool(mask.all())


def test_integers_without_a_table_stay_within_the_sample():
    (x,) = drawn(Any(), (torch.tensor([3, 9, 4]),))
    assert (int(x.min()), int(x.max())) == (3, 9)


@pytest.mark.parametrize(
    ("sample", "low", "high"),
    [
        (torch.linspace(0, 1, 50), 0, 1),
        (torch.linspace(0, 255, 50), 0, 1e4),
        (torch.linspace(-9, -1, 50), -1e4, 0),
        (torch.full((50,), 7.0), 7, 1e3),
        (torch.tensor([0.0, -torch.inf] * 25), -torch.inf, 0),
    ],
    ids=["unit range", "positive", "negative", "constant", "mask of infinities"],
)
def test_floats_keep_the_sign_and_range_of_the_sample(sample, low, high):
    (x,) = drawn(Any(), (sample,))
    assert low <= float(x.min())
    assert float(x.max()) <= high
    assert not bool(x.isnan().any())


def test_floats_are_as_large_as_in_the_sample():
    (x,) = drawn(Any(), (torch.randn(1000) * 50 + 300,))
    assert 250 < float(x.mean()) < 350
    assert 40 < float(x.std()) < 60


@pytest.mark.parametrize(
    "dtype", [torch.complex64, torch.float16, torch.uint8, torch.bool], ids=str
)
def test_every_dtype_is_drawn_as_itself(dtype):
    (x,) = drawn(Any(), (torch.tensor([[0, 1, 1]]).to(dtype),))
    assert x.dtype is dtype


def test_a_spec_of_a_range_is_obeyed():
    (x,) = drawn(Any(), (torch.zeros(9, dtype=torch.int32),), {"x": {"low": 2, "high": 4}})
    assert set(x.flatten().tolist()) == {2, 3, 4}
    (x,) = drawn(Any(), (torch.zeros(9),), {"x": eipack.InputSpec(low=-1, high=1)})
    assert -1 <= float(x.min()) < -0.5 < 0.5 < float(x.max()) <= 1


def test_a_spec_of_values_is_obeyed():
    (x,) = drawn(Any(), (torch.zeros(9),), {"x": {"values": [0.5, 2.0]}})
    assert set(x.flatten().tolist()) == {0.5, 2.0}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ({"y": {"low": 0, "high": 1}}, "names 'y'; the inputs are x"),
        ({"x": {"low": 0}}, "needs low and high, or values"),
        ({"x": {"low": 2, "high": 1}}, "low 2 above high 1"),
        ({"x": {"low": 1, "high": -1}}, "low 1 above high -1"),
        ({"x": {"values": []}}, "an empty list of values"),
        ({"x": {"least": 0}}, r"input spec has \['least'\]"),
    ],
    ids=str,
)
def test_a_spec_that_makes_no_sense_is_explained(specs, message):
    with pytest.raises(ParityInputsRequired, match=message):
        drawer(Any(), (torch.zeros(2),), specs)


def test_inputs_that_the_model_fails_on_ask_for_a_spec():
    class Factor(nn.Module):
        def forward(self, x):
            return torch.linalg.cholesky(x)

    positive = torch.eye(4) + 0.1
    with pytest.raises(ParityInputsRequired, match="by input_specs or parity_inputs"):
        eipack.export(Factor(), (positive,))
    assert eipack.export(Factor(), (positive,), parity_inputs=[(positive * 3,)]).programs


def test_outputs_of_nothing_but_nan_prove_nothing():
    class Root(nn.Module):
        def forward(self, x):
            return (x - 100).sqrt()

    x = torch.linspace(100, 101, 8)
    with pytest.raises(ParityInputsRequired, match="nothing but NaN or infinity"):
        eipack.export(Root(), (torch.linspace(0, 1, 8),))
    assert eipack.export(Root(), (x,), input_specs={"x": {"low": 100, "high": 200}}).programs


def test_small_ranges_are_tested_whole():
    plan = size_plan((Dim("a", 1, 4, None), Dim("b", 2, 6)), {"a": 2, "b": 3})
    assert len(plan) == 20
    assert plan[0] == {"a": 2, "b": 3}


def test_a_large_range_is_tested_at_bounds_neighbours_and_middle():
    plan = size_plan((Dim("s", 1, 512),), {"s": 7})
    assert [at["s"] for at in plan] == [7, 1, 2, 256, 511, 512]


def test_large_ranges_are_crossed_at_the_ends_in_the_middle_and_together():
    plan = size_plan((Dim("a", 1, 50), Dim("b", 1, 60)), {"a": 3, "b": 4})
    assert {"a": 1, "b": 1} in plan
    assert {"a": 50, "b": 1} in plan
    assert {"a": 1, "b": 60} in plan
    assert {"a": 50, "b": 60} in plan
    assert any(1 < at["a"] < 50 and 1 < at["b"] < 60 and at["a"] != at["b"] for at in plan[1:])


def test_what_costs_too_much_is_left_out():
    plan = size_plan((Dim("a", 1, 512), Dim("b", 1, 512)), {"a": 3, "b": 4})
    assert max(at["a"] * at["b"] for at in plan) <= 4096


def test_only_tested_sizes_are_planned_for_a_narrowed_dimension():
    assert size_plan((Dim("s", 1, 9, (1, 4, 9)),), {"s": 4}) == [{"s": 4}, {"s": 1}, {"s": 9}]


BATCH = {"x": {0: torch.export.Dim("batch", min=1, max=40)}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "parity_inputs is empty"),
        ([(torch.ones(1, 4),)], "never has batch = 40, a bound of batch in 1..40"),
        ([(torch.ones(1, 4), torch.ones(1))], "parity input 0: .*do not fit"),
        ([(torch.ones(1, 4).double(),)], "another dtype or rank"),
        ([(torch.ones(4),)], "another dtype or rank"),
        ([(torch.ones(41, 4),)], "batch = 41, declared batch in 1..40"),
        ([(torch.ones(2, 5),)], "a size that is not dynamic differs"),
        ([([torch.ones(1, 4)],)], "another structure"),
        ([(torch.ones(1, 4) * torch.nan,)], "holds NaN"),
    ],
    ids=[
        "none",
        "a bound missing",
        "too many",
        "dtype",
        "rank",
        "outside",
        "size",
        "nesting",
        "NaN",
    ],
)
def test_given_inputs_that_do_not_fit_are_explained(given, message):
    with pytest.raises(ParityInputsRequired, match=message):
        eipack.export(
            nn.Linear(4, 4),
            (torch.ones(3, 4),),
            dynamic_shapes={"input": BATCH["x"]},
            parity_inputs=given,
        )


def test_given_inputs_are_used_instead_of_drawn_ones():
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape))
            return x * 2

    given = [(torch.ones(1, 4),), {"x": torch.ones(40, 4)}]
    package = eipack.export(
        Watch(), (torch.ones(3, 4),), dynamic_shapes=BATCH, parity_inputs=given, method="export"
    )
    checks = package.manifest.evidence[0].checks
    assert [(check.dims["batch"], check.seed) for check in checks] == [
        (3, None),
        (1, None),
        (40, None),
    ]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (torch.uint16, 0, 65535),
        (torch.uint32, 0, 2**32 - 1),
        (torch.uint64, 0, 2**64 - 1),
        (torch.uint64, 2**63, 2**63 + 5),
        (torch.int64, -(2**63), 2**63 - 1),
        (torch.int64, 2**63 - 3, 2**63 - 1),
    ],
    ids=str,
)
def test_integers_are_drawn_from_the_samples_range_in_every_dtype(dtype, low, high):
    shape, generator = (500,), torch.Generator().manual_seed(0)
    drawn = integers(low, high, shape, dtype, generator)
    assert drawn.dtype == dtype
    found = span(drawn)
    assert low <= found[0] <= low + (high - low) // 10
    assert high >= found[1] >= high - (high - low) // 10


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint64], ids=str)
def test_unsigned_inputs_are_taken(model_of, dtype):
    model = model_of(lambda self, x: x.to(torch.float32) * 2)
    x = torch.tensor([[1, 7, 3, 0]], dtype=torch.int64).to(dtype)
    assert eipack.export(model, (x,)).signature.inputs[0].dtype == str(dtype)[6:]
