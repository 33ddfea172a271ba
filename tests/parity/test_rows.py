"""Which programs may run the calls of several clients as one batch."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import nn
from torch.nn import functional

import eipack
from eipack.parity.batches import most_rows
from eipack.parity.draw import InputSpec
from eipack.parity.neighbours import Source
from eipack.parity.rows import rows_apart
from eipack.signature import Dim, DimSize, Signature, TensorSpec
from eipack.torch_backend import native_call
from eipack.tree import TENSOR, Tree

BATCH = Dim("batch", 1, 64)
X = torch.linspace(-2, 3, 8).reshape(2, 4).sin()
W = torch.linspace(-1, 1, 16).cos().reshape(4, 4)
EXPORTED = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}


def signature(call, samples, batch=BATCH, **shapes):
    """Describe a function of tensors that have nothing dynamic but a batch."""

    def spec(name, leaf):
        shape = (DimSize(batch.name), *leaf.shape[1:])
        return TensorSpec(name, str(leaf.dtype).removeprefix("torch."), shapes.get(name, shape))

    result = call(*samples)
    outputs = [result] if isinstance(result, torch.Tensor) else result
    return Signature(
        dims=(batch,),
        inputs=tuple(spec(f"x{place}", leaf) for place, leaf in enumerate(samples)),
        outputs=tuple(spec(f"y{place}", leaf) for place, leaf in enumerate(outputs)),
        input_tree=Tree("dict", (TENSOR,) * len(samples), tuple(f"x{n}" for n in range(9))),
        output_tree=TENSOR,
        positional=len(samples),
    )


def judge(call, *samples, batch=BATCH, specs=None):
    samples = samples or (X,)
    return rows_apart(call, signature(call, samples, batch), samples, specs)


def whitened(x):
    return functional.batch_norm(x, None, None, training=True)


def places(x):
    return torch.arange(x.shape[0])[:, None]


INDEPENDENT = {
    "a linear layer": lambda x: x @ W,
    "layer normalisation": lambda x: functional.layer_norm(x @ W, (4,)),
    "softmax over a row": lambda x: (x @ W).softmax(1),
    "sorting within a row": lambda x: (x @ W).sort(1).values,
    "a sum over a row": lambda x: (x * 2).sum(1),
    "two outputs": lambda x: ((x @ W).tanh(), x.sum(1)),
    "a label": lambda x: (x @ W).argmax(1),
    "an output that overflows": lambda x: (x @ W).exp(),
    "attention within a row": lambda x: (x[:, :, None] * x[:, None]).softmax(-1) @ x[..., None],
}


@pytest.mark.parametrize("name", INDEPENDENT)
def test_rows_that_are_independent_pass(name):
    assert judge(INDEPENDENT[name]) is None


AMONG_OTHERS = {
    "softmax over the batch": lambda x: x.softmax(0),
    "normalisation of the whole tensor": lambda x: x / x.norm(),
    "whitening of the whole tensor": lambda x: (x - x.mean()) / (x.std() + 1),
    "the mean of the batch": lambda x: x - x.mean(0),
    "batch statistics": lambda x: whitened(torch.stack([x, x**2], 2))[..., 0],
    "a cumulative sum over the batch": lambda x: x.cumsum(0),
    "a cumulative sum from behind": lambda x: x.flip(0).cumsum(0).flip(0),
    "sorting over the batch": lambda x: x.sort(0).values,
    "the first row": lambda x: x + x[0],
    "the last row": lambda x: x + x[-1],
    "the row before": lambda x: x + x.roll(1, 0),
    "the batch reversed": lambda x: x.flip(0),
    "attention across rows": lambda x: (x @ x.T).softmax(-1) @ x,
    "a mask for each place": lambda x: x * (torch.arange(256).sin() > 0).view(64, 4)[: len(x)],
    "the place": lambda x: x + 0.01 * places(x),
    "the size of the batch": lambda x: x / x.shape[0],
    "copies in the batch": lambda x: x * (x[:, None] == x).all(-1).sum(1, keepdim=True),
    "an average label": lambda x: (x @ W - (x @ W).mean(0)).argmax(1),
    "a rank in the batch": lambda x: x[:, 0].argsort().argsort(),
}  # fmt: skip


@pytest.mark.parametrize("name", AMONG_OTHERS)
def test_rows_that_change_beside_other_rows_are_found(name):
    reason = judge(AMONG_OTHERS[name])
    assert reason.startswith("output 'y0' of a row changes beside other rows")


AMONG_EXTREMES = {
    "a trace of the mean": lambda x: x - 1e-6 * x.mean(0),
    "clipping by the norm of all": lambda x: x * (1000 / x.norm()).clamp(max=1),
    "a threshold for the batch": lambda x: torch.where(x.max() > 300, x * 0, x),
    "a threshold below": lambda x: torch.where(x.min() < -300, x * 0, x),
    "one scale for all": lambda x: (x / x.abs().max() * 1e6).round() * x.abs().max(),
    "clipping by a median": lambda x: x.clamp(max=50 * x.abs().median()),
    "a row of zeros": lambda x: torch.where((x == 0).all(1).any(), x * 2, x),
    "an infinity somewhere": lambda x: torch.where(x.isinf().any(), x * 2, x),
    "a NaN somewhere": lambda x: torch.where(x.isnan().any(), x * 2, x),
    "zero times the sum": lambda x: x + 0 * x.sum(),
}


@pytest.mark.parametrize("name", AMONG_EXTREMES)
def test_rows_that_change_only_beside_extreme_rows_are_found(name):
    reason = judge(AMONG_EXTREMES[name])
    assert "a row changes beside" in reason
    assert "beside other rows" not in reason


@pytest.mark.parametrize("place", [0, 1, 5, 17, 31])
def test_one_place_that_differs_is_found_wherever_it_is(place):
    assert "of a row changes" in judge(lambda x: x * (places(x) != place))


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_one_size_of_a_small_range_that_differs_is_found(size):
    def call(x):
        return x - x.mean(0) if x.shape[0] == size else x * 1

    assert f"of {size})" in judge(call, batch=Dim("batch", 1, 8))


def test_a_program_that_refuses_nan_is_dependent():
    def call(x):
        if x.isnan().any():
            raise ValueError("no NaN please")
        return x * 2

    assert judge(call) == "a batch of 6 fails: no NaN please"


def test_a_program_that_fails_on_a_large_batch_is_dependent():
    def call(x):
        return x + torch.zeros(20, 1)[: x.shape[0]]

    assert judge(call).startswith("a batch of 32 fails: The size of tensor a (32)")


def test_outputs_that_are_always_the_same_show_nothing():
    same = "different rows give the same outputs, which shows nothing"
    assert judge(lambda x: x * 0 + 1) == same
    assert judge(lambda x: x * torch.nan) == same


def test_an_output_of_another_length_than_the_batch_is_refused():
    def call(x):
        return x[:1] * 2 if x.shape[0] > 9 else x * 2

    assert judge(call) == "output 'y0' has shape (1, 4) for 32 rows"


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128]
)
def test_each_floating_dtype_is_judged_by_its_tolerance(dtype):
    assert judge(lambda x: x * x + 1, X.to(dtype)) is None
    assert "changes" in judge(lambda x: x * x - 1e-3 * x.mean(0), X.to(dtype))


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint64]
)
def test_integers_are_judged_at_the_bounds_of_the_sample(dtype):
    x = torch.tensor([[3, 7, 100, 5], [9, 60, 4, 120]]).to(dtype)

    def call(x):
        # uint64 knows no maximum
        return torch.where((x.long() >= 120).all(1).any(), x.long() * 2, x.long())

    assert judge(lambda x: x.long() * 2, x) is None
    assert "beside huge rows" in judge(call, x)


def test_booleans_are_judged():
    x = torch.tensor([[True, False, True, True], [False, True, True, False]])
    assert judge(lambda x: ~x, x) is None
    assert "changes beside" in judge(lambda x: x & x.all(1).any(), x)


def test_integers_go_to_the_bounds_that_are_known():
    ids = torch.tensor([[3, 7, 2, 5], [9, 6, 4, 8]])
    table = torch.linspace(0, 9, 100)

    def call(ids):
        return torch.where((ids == 99).any(), 0.0, table[ids])

    assert judge(call, ids) is None
    assert "beside huge rows" in judge(call, ids, specs={"x0": InputSpec(0, 99)})


def test_bounds_are_tried_in_patterns_too_since_many_models_ignore_a_constant():
    x, specs = torch.zeros(2, 50), {"x": InputSpec(-9, 9)}
    source = Source(("x",), (x,), specs, frozenset(), (), torch.Generator().manual_seed(0))
    kinds = dict(source.extremes([(1, 50)]))
    for kind, bound in (("huge", 9), ("huge negative", -9)):
        assert [bool((row == bound).any()) for (row,) in kinds[kind]] == [True] * 4
        assert [bool((row == bound).all()) for (row,) in kinds[kind]] == [True, False] * 2


def test_floats_stay_within_the_bounds_that_are_known():
    def call(x):
        if bool((x.isfinite() & ((x < 0) | (x > 1))).any()):
            raise ValueError("a probability")
        return x * 2

    x = torch.linspace(0.1, 0.9, 8).reshape(2, 4)
    assert judge(call, x) == "a batch of 6 fails: a probability"
    assert judge(call, x, specs={"x0": InputSpec(0, 1)}) is None
    assert judge(call, x, specs={"x0": InputSpec(values=[0, 0.5, 1])}) is None


def test_a_mask_of_ones_is_tried_with_zeros():
    mask = torch.ones(2, 4, dtype=torch.int64)
    assert judge(lambda x, m: (x * m).sum(1), X, mask) is None
    assert "changes" in judge(lambda x, m: (x * m).sum(1) / m.float().mean(), X, mask)
    assert "changes" in judge(lambda x, m: torch.where((m == 0).all(1).any(), 0.0, x), X, mask)


def test_a_mask_that_bears_no_zeros_is_left_as_it_is():
    def call(x, mask):
        assert bool(mask.all()), "ones only"
        return x * 2

    assert judge(call, X, torch.ones(2, 4, dtype=torch.bool)) is None


def test_what_one_input_hides_is_found_by_another_that_is_not_extreme():
    mask = torch.ones(2, 4, dtype=torch.int64)

    def call(x, mask):
        return torch.where(((x.abs() > 50) & (mask == 1)).any(), x * 0, x)

    assert "beside huge" in judge(call, X, mask)
    assert "beside huge" in judge(lambda m, x: call(x, 1 - m), mask * 0, X)


@pytest.mark.parametrize("low", [2, 3, 16])
def test_a_row_alone_is_a_batch_of_its_copies_where_one_row_is_too_few(low):
    def call(x):
        assert x.shape[0] >= low
        return x @ W

    x = X[:1].repeat(low, 1) + torch.arange(low)[:, None]
    batch = Dim("batch", low, 64)
    assert judge(call, x, batch=batch) is None
    assert "changes" in judge(lambda x: call(x) - x.mean(0), x, batch=batch)


@pytest.mark.parametrize("top", [2, 3, 4])
def test_ranges_of_a_few_rows_are_judged_within_them(top):
    def call(x):
        assert x.shape[0] <= top
        return x @ W

    batch = Dim("batch", 1, top)
    assert judge(call, batch=batch) is None
    assert "changes" in judge(lambda x: call(x) - 1e-6 * x.mean(0), batch=batch)
    assert "changes" in judge(lambda x: call(x) + 1e-6 * x.cumsum(0), batch=batch)
    assert "changes" in judge(lambda x: call(x) + 1e-6 * x.flip(0).cumsum(0), batch=batch)


def test_another_dimension_is_tried_at_its_bounds():
    length = Dim("length", 1, 50)

    told = signature(lambda x: x * 2, (X,))
    shape = (DimSize("batch"), DimSize("length"))
    told = evolve(
        told,
        dims=(*told.dims, length),
        inputs=(evolve(told.inputs[0], shape=shape),),
        outputs=(evolve(told.outputs[0], shape=shape),),
    )

    def mixing_at(length):
        return lambda x: x - x.mean(0) if x.shape[1] == length else x * 2

    for bound in (1, 50):
        assert "changes beside other rows" in rows_apart(mixing_at(bound), told, (X,))
    assert rows_apart(mixing_at(51), told, (X,)) is None


def test_given_calls_take_the_place_of_drawn_ones():
    known = torch.tensor([[3, 7, 2, 5], [9, 6, 4, 8], [1, 1, 2, 3]])

    def call(ids):
        if not bool((ids[:, None] == known).all(-1).any(1).all()):
            raise ValueError("unheard of")
        return ids.sin()

    told = signature(torch.sin, (known,))
    assert rows_apart(call, told, (known,)) == "a batch of 1 fails: unheard of"
    calls = [(known[:1],), (known[1:],), (known[:1, :3],)]
    assert rows_apart(call, told, (known,), given=calls) is None


REFUSED = "inputs and outputs do not have one dynamic dimension in common on axis 0"


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"x0": (2, 4)}, REFUSED),
        ({"y0": (2, 4)}, REFUSED),
        ({"y0": ()}, REFUSED),
        ({"x0": (4, DimSize("batch"))}, REFUSED),
        ({"x0": (DimSize("batch", 2), 4), "y0": (DimSize("batch", 2), 4)}, REFUSED),
        ({"x0": (DimSize("batch", 1, 1), 4), "y0": (DimSize("batch", 1, 1), 4)}, REFUSED),
        ({"y0": (DimSize("batch"), DimSize("batch"))}, "'y0' has the dimension batch on another"),
        ({"y0": (DimSize("batch"), None)}, "output 'y0' has a size that may follow other rows"),
        ({"y0": (None, 4)}, REFUSED),
    ],
)
def test_a_signature_without_a_plain_batch_is_refused_without_a_call(shapes, reason):
    def never(*_):
        raise AssertionError

    told = signature(lambda x: x * 2, (X,), **shapes)
    assert rows_apart(never, told, (X,)).startswith(reason)
    assert most_rows(told, (X,)) == 0


@pytest.mark.parametrize("batch", [Dim("batch", 2, 3), Dim("batch", 1, 9, (1, 4, 9))])
def test_a_range_without_room_for_two_calls_is_refused(batch):
    told = signature(lambda x: x * 2, (X,), batch)
    assert str(batch) in rows_apart(lambda x: x * 2, told, (X,))


@pytest.mark.parametrize(
    ("batch", "width", "most"),
    [
        (BATCH, 4, 32),
        (Dim("batch", 1, None), 4, 32),
        (Dim("batch", 1, 7), 4, 7),
        (Dim("batch", 40, 200), 4, 80),
        (BATCH, 1_000_000, 8),
        (BATCH, 10_000_000, 2),
    ],
)
def test_the_largest_batch_that_is_tried_depends_on_what_a_row_costs(batch, width, most):
    x = torch.zeros(1, 1).expand(1, width)
    assert most_rows(signature(lambda x: x, (x,), batch), (x,)) == most


def test_few_calls_are_made():
    sizes = []

    def call(x):
        sizes.append(x.shape[0])
        return x @ W

    assert rows_apart(call, signature(lambda x: x @ W, (X,)), (X,)) is None
    assert len(sizes) <= 13
    assert sum(sizes) <= 80


def test_the_verdict_and_its_reason_are_the_same_each_time():
    def call(x):
        return x - 1e-6 * x.mean(0)

    assert judge(call) == judge(call)


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)
        self.function = function

    def forward(self, x):
        return self.function(self.linear(x))


def exported(function, **options):
    options = {"dynamic_shapes": EXPORTED, **options}
    return eipack.export(Net(function).eval(), (X,), **options)


def test_every_kind_of_program_of_an_independent_model_says_so():
    package = exported(torch.tanh, programs=["torchscript", "exported", "onnx"])
    assert [program.batch_independent for program in package.programs] == [True] * 3


@pytest.mark.parametrize("kind", ["torchscript", "exported", "onnx"])
def test_no_program_of_a_dependent_model_says_so(kind):
    told = []
    package = exported(lambda y: y.softmax(0), programs=kind, progress=told.append)
    assert [program.batch_independent for program in package.programs] == [False]
    assert any(
        line.startswith(f"calls of the {kind} program cannot share a batch: output 'output' of a")
        for line in told
    )


def test_a_static_model_is_not_independent_and_nothing_is_said_of_it():
    told = []
    package = exported(torch.tanh, dynamic_shapes=None, progress=told.append)
    assert not package.programs[0].batch_independent
    assert not any("batch" in line for line in told)


def test_a_compiled_program_is_judged_on_its_own(monkeypatch):
    def mixing(self, program, target):
        model = torch.jit.trace(Net(lambda y: torch.tanh(y) + 1e-5 * y.mean(0)).eval(), X)
        return evolve(program, artifact=model)

    monkeypatch.setattr("eipack.backend.Backend.compile", mixing)
    package = exported(torch.tanh, programs="torchscript", method="trace", target="cpu")
    apart = {program.target: program.batch_independent for program in package.programs}
    assert apart == {None: True, "cpu": False}


def test_parity_inputs_are_the_rows_where_nothing_else_is_accepted():
    def model(x):
        return torch.where(x > 0, x, 0.5).log()

    calls = [(torch.rand(size, 4) + 1,) for size in (1, 64, 5)]
    package = exported(model, parity_inputs=calls)
    assert package.programs[0].batch_independent


def test_the_rows_of_a_loaded_session_are_judged_by_the_packages_samples(tmp_path):
    good = exported(torch.tanh).save(tmp_path / "good.eipack")
    bad = exported(lambda y: y - 1e-5 * y.mean(0)).save(tmp_path / "bad.eipack")
    found = {}
    for path in (good, bad):
        with eipack.load(path, target="cpu") as session:
            samples, _ = session.package.samples()
            call = native_call(session, session.signature)
            found[path.stem] = rows_apart(call, session.signature, samples)
    assert found["good"] is None
    assert "changes beside huge rows" in found["bad"]
