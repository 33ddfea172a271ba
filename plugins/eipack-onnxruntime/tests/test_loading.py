"""What `cpu+onnxruntime` adds to the contract: kinds, sizes, the cache, options and int8."""

from pathlib import Path

import pytest
import torch
from eipack_onnxruntime import CudaOnnxRuntime, compiling
from eipack_onnxruntime.options import OPTIONS
from eipack_onnxruntime.sessions import UnsavedError
from torch import nn
from torch.export import Dim

import eipack
from eipack.errors import UnsupportedModel
from eipack.parity.tolerance import compare

TARGET = "cpu+onnxruntime"
KINDS = ("onnx", "exported", "torchscript")


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 64)
        self.outer = nn.Linear(64, 16)
        self.register_buffer("used", torch.ones(16, dtype=torch.bool))

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.outer(torch.relu(self.inner(x)))
        return torch.where(keep & self.used, y, x), keep


@pytest.fixture(scope="module")
def package(shared_home: Path) -> eipack.Package:
    torch.manual_seed(3)
    batch = Dim("batch", min=1, max=8)
    inputs = (torch.randn(3, 16), torch.rand(3, 16) > 0.5)
    return eipack.export(
        Mixer().eval(),
        inputs,
        programs=KINDS,
        dynamic_shapes={"x": {0: batch}, "keep": {0: batch}},
    )


@pytest.fixture(scope="module")
def floors(shared_home: Path) -> eipack.Package:
    class Floors(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x // 2

    x = torch.arange(-5, 5, dtype=torch.int8)
    return eipack.export(Floors().eval(), (x,), programs=["torchscript"])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EIPACK_CACHE_DIR", str(tmp_path))
    return tmp_path / "compiled"


def entries(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.exists() else []


def asking(**options: object) -> dict[str, dict[str, object]]:
    return {"onnxruntime": options}


def require_answers(session: eipack.Session, package: eipack.Package) -> None:
    inputs, expected = package.samples()
    for want, got in zip(expected, session.run_flat(*inputs), strict=True):
        assert compare(want, got).agrees


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Note each model that ONNX Runtime optimises from now on."""
    made: list[Path] = []
    original = compiling.write_optimised

    def noted(model, folder, settings):
        made.append(folder)
        return original(model, folder, settings)

    monkeypatch.setattr(compiling, "write_optimised", noted)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_gives_the_cpus_answer_at_every_size(kind: str, package: eipack.Package) -> None:
    with (
        eipack.load(package, "cpu") as reference,
        eipack.load(package, TARGET, program=kind) as session,
    ):
        assert session.program.kind == kind
        for batch in range(1, 9):
            inputs = torch.randn(batch, 16), torch.rand(batch, 16) > 0.5
            for want, got in zip(reference(*inputs), session(*inputs), strict=True):
                assert compare(want, got).agrees


def test_onnx_programs_are_preferred(package: eipack.Package) -> None:
    with eipack.load(package, TARGET) as session:
        assert session.program.kind == "onnx"


def test_the_second_load_compiles_nothing(
    package: eipack.Package, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compilations(monkeypatch)
    eipack.load(package, TARGET).close()
    eipack.load(package, TARGET, threads=1).close()
    assert len(made) == len(entries(cache)) == 1


def test_kinds_precisions_and_what_shapes_the_graph_are_kept_apart(
    package: eipack.Package, cache: Path
) -> None:
    eipack.load(package, TARGET).close()
    eipack.load(package, TARGET, program="exported").close()
    eipack.load(package, TARGET, precision="int8").close()
    eipack.load(package, TARGET, options=asking(prepacking=False)).close()
    eipack.load(package, TARGET, options=asking(spinning="never")).close()
    assert len(entries(cache)) == 4


def test_a_damaged_entry_is_made_again(
    package: eipack.Package, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eipack.load(package, TARGET).close()
    damaged = entries(cache)[0] / "model.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    made = compilations(monkeypatch)
    with eipack.load(package, TARGET) as session:
        require_answers(session, package)
    assert len(made) == 1


def test_without_a_place_for_files_the_program_is_compiled_in_memory(
    package: eipack.Package, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling, "cached", full)
    with eipack.load(package, TARGET) as session:
        require_answers(session, package)


def test_what_cannot_be_written_is_compiled_in_memory(
    package: eipack.Package, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UnsavedError("no schema")

    monkeypatch.setattr(compiling, "write_optimised", refuse)
    with eipack.load(package, TARGET, program="exported") as session:
        require_answers(session, package)
    assert not entries(cache)


def test_a_conversion_that_changes_the_answer_is_refused(floors: eipack.Package) -> None:
    with pytest.raises(UnsupportedModel, match=r"not the package's own.*programs=\[\"onnx\"\]"):
        eipack.load(floors, TARGET)


def test_a_dtype_that_the_engine_lacks_is_named_in_one_line() -> None:
    model = nn.Linear(4, 2).eval()
    with eipack.export(model.bfloat16(), (torch.rand(1, 4).bfloat16(),)) as made:
        with pytest.raises(UnsupportedModel, match=r"ONNX Runtime cannot run .*Gemm") as refused:
            eipack.load(made, TARGET)
    assert "\n" not in str(refused.value)


def test_complex_tensors_are_refused_before_anything_is_converted() -> None:
    class Turn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * x

    with eipack.export(Turn().eval(), (torch.randn(3, dtype=torch.complex64),)) as made:
        with pytest.raises(UnsupportedModel, match="has no complex64 tensors"):
            eipack.load(made, TARGET)


def test_int8_loses_little_and_says_how_much(package: eipack.Package) -> None:
    with eipack.load(package, TARGET, precision="int8") as session:
        loss = session.info.loss
        assert loss is not None
        assert 1e-5 < loss.relative < loss.allowed


def test_int8_is_refused_where_it_would_change_nothing() -> None:
    with eipack.export(nn.ReLU().eval(), (torch.randn(2, 3),), programs=["onnx"]) as made:
        with pytest.raises(UnsupportedModel, match="int8 would change nothing"):
            eipack.load(made, TARGET, precision="int8")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_precisions_are_not_offered(precision: str, package: eipack.Package) -> None:
    with pytest.raises(ValueError, match="does not compute in"):
        eipack.load(package, TARGET, precision=precision)


def test_threads_are_those_asked_for(package: eipack.Package) -> None:
    with eipack.load(package, TARGET, threads=3) as session:
        assert session.info.threads == 3
        require_answers(session, package)


def test_branches_that_run_side_by_side_count_their_threads(package: eipack.Package) -> None:
    parallel = asking(execution_mode="parallel", inter_op_num_threads=2)
    with eipack.load(package, TARGET, threads=2, options=parallel) as session:
        assert session.info.threads == 3
        require_answers(session, package)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("graph_optimization_level", "disable"),
        ("graph_optimization_level", "extended"),
        ("spinning", "always"),
        ("enable_cpu_mem_arena", "false"),
        ("enable_mem_pattern", False),
        ("prepacking", 0),
    ],
)
def test_options_leave_the_answer_as_it_is(
    name: str, value: object, package: eipack.Package
) -> None:
    with eipack.load(package, TARGET, options=asking(**{name: value})) as session:
        require_answers(session, package)


def test_an_unknown_option_is_told_the_known_ones(package: eipack.Package) -> None:
    with pytest.raises(ValueError, match=r"no option 'level'.*graph_optimization_level"):
        eipack.load(package, TARGET, options=asking(level="all"))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_value_is_told_what_is_allowed(name: str, package: eipack.Package) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'perhaps'; give "):
        eipack.load(package, TARGET, options=asking(**{name: "perhaps"}))


def test_inputs_of_any_layout_are_taken(package: eipack.Package) -> None:
    x = torch.randn(16, 4).t()
    keep = (torch.rand(16, 4) > 0.5).t()
    negated = torch.complex(torch.zeros(4, 16), x.contiguous()).conj().imag
    assert negated.is_neg()
    with eipack.load(package, "cpu") as reference, eipack.load(package, TARGET) as session:
        for given in (x, negated, x.clone().requires_grad_()):
            want, got = reference(given, keep)[0], session(given, keep)[0]
            assert compare(want.detach(), got).agrees


def test_outputs_outlive_the_session(package: eipack.Package) -> None:
    inputs, expected = package.samples()
    with eipack.load(package, TARGET) as session:
        outputs = session.run_flat(*inputs)
    for want, got in zip(expected, outputs, strict=True):
        assert compare(want, got).agrees


def test_scripted_control_flow_is_kept() -> None:
    class Signed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            if float(x.sum()) > 0:
                y = x * 2
            return y

    with eipack.export(Signed().eval(), (torch.ones(3),), method="script") as made:
        with eipack.load(made, TARGET) as session:
            assert torch.equal(session(torch.ones(3)), torch.full((3,), 2.0))
            assert torch.equal(session(-torch.ones(3)), torch.zeros(3))


def test_the_gpu_is_not_listed_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert list(CudaOnnxRuntime().devices()) == []
