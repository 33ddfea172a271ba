from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from eipack_openvino import OpenVinoBackend, model, settings
from eipack_openvino.library import core
from torch import nn
from torch.export import Dim

import eipack
from eipack.cache import cache_folder
from eipack.errors import ExecutionFailed, OptionRefused, UnsupportedModel
from eipack.parity.tolerance import compare
from eipack.threads import usable_cores

TARGET = "cpu+openvino"
KINDS = OpenVinoBackend.kinds


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(8, 16, 2, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x):
        return self.layer(x) + torch.arange(x.shape[1]).unsqueeze(-1)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return saved(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)), tmp_path)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EIPACK_CACHE_DIR", str(tmp_path / "cache"))
    folder = cache_folder()
    assert folder is not None
    return folder


def saved(module: nn.Module, folder: Path, *inputs: torch.Tensor, **options) -> Path:
    package = eipack.export(module.eval(), inputs or (torch.randn(3, 8),), **options)
    with package:
        return package.save(folder / "model.eipack")


def require_agreement(path: Path, *inputs: torch.Tensor, **options) -> None:
    with eipack.load(path, "cpu") as one, eipack.load(path, TARGET, **options) as other:
        for wanted, got in zip(one.run_flat(*inputs), other.run_flat(*inputs), strict=True):
            difference = compare(wanted, got)
            assert difference.agrees, difference


# What it runs


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_at_each_size_of_a_batch(kind: str, tmp_path: Path) -> None:
    sizes = {"input": {0: Dim("batch", min=1, max=8)}}
    module = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    path = saved(module, tmp_path, dynamic_shapes=sizes, programs=["torchscript", kind])
    for batch in range(1, 9):
        require_agreement(path, torch.randn(batch, 8), program=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_at_each_length_of_a_sequence(kind: str, tmp_path: Path) -> None:
    sizes = {"x": {1: Dim("length", min=2, max=12)}}
    x = torch.randn(2, 6, 16)
    path = saved(Mixing(), tmp_path, x, dynamic_shapes=sizes, programs=["torchscript", kind])
    for length in (2, 3, 7, 12):
        require_agreement(path, torch.randn(2, length, 16), program=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_an_lstm(kind: str, tmp_path: Path) -> None:
    x = torch.randn(2, 5, 8)
    path = saved(Recurrent(), tmp_path, x, programs=["torchscript", kind])
    require_agreement(path, torch.randn(2, 5, 8), program=kind)


def test_a_vision_model_runs(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    x = torch.randn(1, 3, 64, 64)
    path = saved(resnet18(), tmp_path, x, method="trace")
    require_agreement(path, torch.randn(1, 3, 64, 64))


def test_a_bert_runs(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    tokens = torch.randint(0, 50, (1, 9))
    path = saved(BertModel(config), tmp_path, tokens)
    require_agreement(path, torch.randint(0, 50, (1, 9)))


def test_a_gpt_runs(tmp_path: Path) -> None:
    from transformers import OpenAIGPTConfig, OpenAIGPTModel

    config = OpenAIGPTConfig(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    tokens = torch.randint(0, 50, (1, 7))
    path = saved(OpenAIGPTModel(config), tmp_path, tokens)
    require_agreement(path, torch.randint(0, 50, (1, 7)))


class Turned(nn.Module):
    def forward(self, x, pair):
        return {"b": pair["v"] - pair["u"], "none": None, "a": x * 2}


def test_an_exported_program_with_nested_arguments_runs(tmp_path: Path) -> None:
    x = torch.randn(2, 3)
    inputs = (x, {"u": x * 3, "v": x + 5})
    exported = torch.export.export(Turned(), inputs, strict=False)
    path = eipack.export(exported, inputs).save(tmp_path / "turned.eipack")
    with eipack.load(path, TARGET) as session:
        assert session.program.convention == "native"
        answer = session(*inputs)
    assert answer["none"] is None
    torch.testing.assert_close(answer["b"], inputs[1]["v"] - inputs[1]["u"])
    torch.testing.assert_close(answer["a"], x * 2)


class Scripted(nn.Module):
    def forward(self, pair: tuple[torch.Tensor, torch.Tensor], factor: float = 1.5):
        return pair[0] * factor, [pair[1] - 1, pair[0]]


def test_a_script_with_nested_arguments_runs(tmp_path: Path) -> None:
    pair = (torch.randn(2, 3), torch.randn(2, 3))
    path = eipack.export(Scripted(), (pair,), method="script").save(tmp_path / "s.eipack")
    with eipack.load(path, TARGET) as session:
        assert session.program.convention == "native"
        first, (second, third) = session(pair)
    torch.testing.assert_close(first, pair[0] * 1.5)
    torch.testing.assert_close(second, pair[1] - 1)
    torch.testing.assert_close(third, pair[0])


# Where OpenVINO would answer otherwise


class Floors(nn.Module):
    def forward(self, a):
        return a // 2, a % 3, a.cumsum(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_integers_are_divided_and_widened_as_torch_does(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    values = torch.tensor([-7, -3, -2, -1, 0, 5], dtype=dtype)
    path = saved(Floors(), tmp_path, values, programs=["torchscript", kind])
    require_agreement(path, values, program=kind)


class Overflows(nn.Module):
    def forward(self, a):
        return a * 3


def test_arithmetic_of_bytes_is_refused(tmp_path: Path) -> None:
    path = saved(Overflows(), tmp_path, torch.tensor([1, 2], dtype=torch.uint8))
    with pytest.raises(UnsupportedModel, match="Multiply of uint8 overflows otherwise"):
        eipack.load(path, TARGET)


class Scaled(nn.Module):
    def forward(self, image):
        return image.permute(0, 2, 1).float() / 255


def test_bytes_that_become_floats_are_taken(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (2, 3, 4), dtype=torch.uint8)
    require_agreement(saved(Scaled(), tmp_path, image), image)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_an_integer_beyond_what_is_exact_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    path = saved(Overflows(), tmp_path, torch.tensor([1, 2], dtype=dtype))
    with eipack.load(path, TARGET) as session:
        for value in (2**24 + 1, -(2**24) - 1):
            with pytest.raises(ExecutionFailed, match="integers exactly up to 16777216"):
                session(torch.tensor([0, value], dtype=dtype))
        largest = torch.tensor([2**24, -(2**24)], dtype=dtype)
        assert torch.equal(session(largest), largest * 3)


class Branching(nn.Module):
    def forward(self, a: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        i = 0
        while i < int(n):
            a = torch.floor_divide(a, 2)
            i += 1
        if int(n) > 2:
            a = a // 3
        return a


def test_loops_and_branches_of_a_script_divide_as_torch_does(tmp_path: Path) -> None:
    values = torch.tensor([-71, -3, 5, 90])
    path = saved(Branching(), tmp_path, values, torch.tensor(2), method="script")
    for count in range(5):
        require_agreement(path, values, torch.tensor(count))


def test_float64_is_refused(tmp_path: Path) -> None:
    path = saved(nn.Linear(2, 2).double(), tmp_path, torch.randn(1, 2).double())
    with pytest.raises(UnsupportedModel, match="does not compute in float64"):
        eipack.load(path, TARGET)


class Unknown(nn.Module):
    def forward(self, x):
        return torch.special.gammaincc(x, x)


def test_an_operator_that_is_missing_is_named_in_one_line(tmp_path: Path) -> None:
    path = saved(Unknown(), tmp_path, torch.rand(3) + 1)
    with pytest.raises(UnsupportedModel, match=r"it lacks aten.*igammac") as caught:
        eipack.load(path, TARGET)
    assert "\n" not in str(caught.value)


# Memory of the caller's


class Large(nn.Module):
    def forward(self, x):
        y = x * 2
        return y, x, y, y[0, :3]


def test_large_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    x = torch.randn(2, 40_000)
    path = saved(Large(), tmp_path, x)
    with eipack.load(path, TARGET) as session:
        first = session(x)
        for tensor in first:
            tensor.fill_(7)
        second = session(x)
        third = session(x + 1)
    for answer, given in ((second, x), (third, x + 1)):
        for wanted, got in zip(Large()(given), answer, strict=True):
            torch.testing.assert_close(got, wanted)
    assert all(bool((tensor == 7).all()) for tensor in first)
    assert len({tensor.data_ptr() for tensor in (*first, *second, *third)}) == 12


# What is asked for


def test_threads_are_those_asked_for(classifier: Path) -> None:
    with eipack.load(classifier, TARGET, threads=1) as session:
        assert session.info.threads == 1
    with eipack.load(classifier, TARGET) as session:
        assert session.info.threads == usable_cores()


def test_streams_share_the_threads(classifier: Path) -> None:
    options = {"openvino": {"NUM_STREAMS": 2}}
    with eipack.load(classifier, TARGET, threads=2, options=options) as session:
        assert session.info.threads == 1
        session(torch.randn(3, 8))


@pytest.mark.parametrize("name", settings.ENGINE_OPTIONS)
def test_every_option_is_one_of_openvinos(name: str) -> None:
    assert name in core().get_property("CPU", "SUPPORTED_PROPERTIES")


def test_an_unknown_option_is_refused(classifier: Path) -> None:
    with pytest.raises(ValueError, match=r"no option 'STREAMS'; its options are ENABLE_CPU"):
        eipack.load(classifier, TARGET, options={"openvino": {"STREAMS": 2}})


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PERFORMANCE_HINT", "QUICK", "Expected only"),
        ("NUM_STREAMS", -5, "Expected non negative"),
        ("NUM_STREAMS", [1], "give a number"),
        ("ENABLE_CPU_PINNING", "maybe", "Expected only true/false"),
    ],
)
def test_a_wrong_value_is_refused_with_the_reason(
    name: str, value: object, reason: str, classifier: Path
) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be .*{reason}") as caught:
        eipack.load(classifier, TARGET, options={"openvino": {name: value}})
    assert isinstance(caught.value, OptionRefused)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_has_a_loss_and_float32_has_not(precision: str, classifier: Path) -> None:
    capability = settings._PRECISIONS[precision][1]
    if capability not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip(f"this processor has no {precision}")
    x = torch.randn(3, 8)
    with (
        eipack.load(classifier, "cpu") as exact,
        eipack.load(classifier, TARGET) as full,
        eipack.load(classifier, TARGET, precision=precision) as low,
    ):
        assert full.info.loss is None
        assert low.info.loss is not None
        assert 0 < low.info.loss.relative <= low.info.loss.allowed
        wanted = exact(x)
        assert (full(x) - wanted).abs().max() < 1e-6
        assert (low(x) - wanted).abs().max() > 1e-5


def test_a_precision_that_the_processor_lacks_is_refused(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings._PRECISIONS, "bfloat16", ("bf16", "NOT_THERE"))
    with pytest.raises(ValueError, match="this processor does not compute in bfloat16"):
        eipack.load(classifier, TARGET, precision="bfloat16")


# What is kept


def converts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    original = model.converted

    def watched(reader):
        made.append(reader.kind)
        return original(reader)

    monkeypatch.setattr(model, "converted", watched)
    return made


def test_a_second_load_converts_nothing(
    classifier: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = converts(monkeypatch)
    for options in ({}, {}, {"threads": 1}, {"options": {"openvino": {"NUM_STREAMS": 1}}}):
        require_agreement(classifier, torch.randn(3, 8), **options)
    assert made == ["torchscript"]
    assert len(list(own_cache.iterdir())) == 1


def test_a_damaged_entry_is_made_again(
    classifier: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = converts(monkeypatch)
    require_agreement(classifier, torch.randn(3, 8))
    (weights,) = own_cache.glob("*/model.bin")
    damaged = bytearray(weights.read_bytes())
    damaged[5] ^= 64
    weights.write_bytes(damaged)
    for _ in range(2):
        require_agreement(classifier, torch.randn(3, 8))
    assert len(made) == 2


def test_it_runs_where_nothing_can_be_kept(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "aside").mkdir()
    monkeypatch.setenv("EIPACK_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "aside"))
    require_agreement(classifier, torch.randn(3, 8))
    assert not list((tmp_path / "aside").iterdir())


def test_it_runs_where_nothing_can_be_written(
    classifier: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    made = converts(monkeypatch)
    monkeypatch.setattr(model, "_save", full)
    require_agreement(classifier, torch.randn(3, 8))
    assert made == ["torchscript"]


def test_it_runs_where_an_entry_vanishes(
    classifier: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = model.cached

    def evicted(*arguments):
        folder, kept = original(*arguments)
        (folder / "model.xml").unlink()
        return folder, kept

    monkeypatch.setattr(model, "cached", evicted)
    require_agreement(classifier, torch.randn(3, 8))


def test_closing_unmaps_what_is_kept(classifier: Path, own_cache: Path) -> None:
    def mapped() -> bool:
        return str(own_cache) in Path("/proc/self/maps").read_text()

    with eipack.load(classifier, TARGET) as session:
        session(torch.randn(3, 8))
        assert mapped()
    assert not mapped()


# The process


def in_a_new_process(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_telemetry_is_never_imported_and_torch_gets_no_plugin(tmp_path: Path) -> None:
    path = saved(nn.Linear(8, 4), tmp_path, programs=["torchscript", "exported"])
    told = in_a_new_process(
        "import sys, eipack\n"
        "for kind in ('torchscript', 'exported'):\n"
        "    eipack.load(sys.argv[1], 'cpu+openvino', program=kind).close()\n"
        "print([n for n in sys.modules if 'telemetry' in n and 'tools.ovc' not in n])\n"
        "print([n for n in sys.modules if n.startswith('openvino') and n.endswith('.backend')])\n",
        str(path),
    )
    assert told == "[]\n[]"


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    told = in_a_new_process(
        "import sys, eipack_openvino\n"
        "eipack_openvino.OpenVinoBackend().devices()\n"
        "print({'openvino', 'torch'} & set(sys.modules))\n"
    )
    assert told == "set()"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused_and_does_not_hang(classifier: Path) -> None:
    eipack.load(classifier, TARGET).close()
    child = os.fork()
    if not child:
        code = 1
        try:
            eipack.load(classifier, TARGET)
        except ExecutionFailed as error:
            code = 0 if "start the child by spawn" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
