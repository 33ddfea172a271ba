"""Scripts for Elastic Inference under the shim, with the CPU in place of the accelerator.

`opened` lists the targets that sessions were asked for; every session runs on the CPU. The tests of
`test_compat_accelerator.py` do without both.
"""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import runpy
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import eipack_eia.compat
import pytest
import torch
from click.testing import CliRunner
from eipack_eia.attached import Attached
from eipack_eia.compat import sessions, startup
from eipack_eia.compat.__main__ import main
from eipack_eia.endpoint import Endpoint
from torch import Tensor, nn

import eipack
from eipack.errors import (
    DeviceNotFound,
    ExecutionFailed,
    NondeterministicModel,
    TargetSyntaxError,
    UnsupportedModel,
)
from eipack.signing import signing_key
from eipack.target import Target

eipack_eia.compat.uninstall()  # to collect this file leaves torch as it was

SCRIPTS = Path(__file__).parent / "scripts"
BENCHMARK = Path(__file__).parents[3] / "examples/elastic-inference/gpt_benchmark.py"
SMALL = ["--layers", "1", "--width", "24", "--heads", "2", "--vocabulary", "100"]
TARGET = {"target_device": "eia:0"}
X = torch.linspace(-1, 1, 8).reshape(2, 4)


def accelerators(*ordinals: int) -> list[Attached]:
    return [
        Attached(number, f"eia-{number:032x}", Endpoint("127.0.0.1"), "eia2.medium")
        for number in ordinals
    ]


@pytest.fixture(autouse=True)
def shim(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(startup, "_visible", lambda: accelerators(0, 1))
    eipack_eia.compat.install()
    yield
    eipack_eia.compat.uninstall()


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[eipack.Session]:
    made: list[eipack.Session] = []

    def open_on_cpu(package: eipack.Package, target: Target) -> eipack.Session:
        session = eipack.load(package, target="cpu")
        made.append(session)
        session.wanted = str(target)
        session.calls = 0
        return session

    monkeypatch.setattr(sessions, "_open", open_on_cpu)
    monkeypatch.setattr(eipack.Session, "__call__", counted(eipack.Session.__call__))
    return made


def counted(call: Callable[..., Any]) -> Callable[..., Any]:
    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return call(self, *args, **kwargs)

    return counting


def calls(opened: list[Any]) -> list[tuple[str, int]]:
    return [(session.wanted, session.calls) for session in opened]


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"double": x * 2}


def traced() -> torch.jit.ScriptModule:
    return torch.jit.trace(Scale().eval(), X)


def scripted() -> torch.jit.ScriptModule:
    return torch.jit.script(Scale().eval())


def loaded(folder: Path) -> torch.jit.ScriptModule:
    torch.jit.save(traced(), folder / "model.pt")
    return torch.jit.load(folder / "model.pt")


@pytest.fixture(params=["traced", "scripted", "loaded"])
def module(request: pytest.FixtureRequest, tmp_path: Path) -> torch.jit.ScriptModule:
    return {"traced": traced, "scripted": scripted, "loaded": lambda: loaded(tmp_path)}[
        request.param
    ]()


def test_a_call_inside_the_context_runs_on_the_accelerator(
    module: torch.jit.ScriptModule, opened: list[Any]
) -> None:
    expected = module(X)
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module(X), expected)
    assert calls(opened) == [("eia:0", 1)]


def test_the_method_forward_runs_on_the_accelerator_too(
    module: torch.jit.ScriptModule, opened: list[Any]
) -> None:
    expected = module.forward(X)
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module.forward(X), expected)
    assert calls(opened) == [("eia:0", 1)]


def test_a_frozen_module_runs_on_the_accelerator(opened: list[Any]) -> None:
    module = torch.jit.freeze(scripted())
    expected = module(X)
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module(X), expected)
    assert calls(opened) == [("eia:0", 1)]


def test_a_forward_fetched_outside_runs_on_the_accelerator_inside(opened: list[Any]) -> None:
    forward = traced().forward
    with torch.jit.optimized_execution(True, TARGET):
        forward(X)
    assert calls(opened) == [("eia:0", 1)]


def test_calls_outside_the_context_run_on_the_client(
    module: torch.jit.ScriptModule, opened: list[Any]
) -> None:
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
    module(X)
    module.forward(X)
    assert calls(opened) == [("eia:0", 1)]


def test_modules_made_before_the_shim_are_routed(opened: list[Any]) -> None:
    eipack_eia.compat.uninstall()
    module = scripted()
    module(X)  # torch keeps the method in the module now
    eipack_eia.compat.install()
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
    assert calls(opened) == [("eia:0", 1)]


def test_a_script_module_of_the_old_style_is_routed(opened: list[Any]) -> None:
    class Old(torch.jit.ScriptModule):
        @torch.jit.script_method
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    module = Old()
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module(X), X + 1)
    assert calls(opened) == [("eia:0", 1)]


def test_arguments_by_name_and_nested_outputs_come_through(opened: list[Any]) -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor, by: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
            return x * by, {"sum": x.sum()}

    module = torch.jit.script(Pair())
    with torch.jit.optimized_execution(True, TARGET):
        product, others = module(x=X, by=3)
    torch.testing.assert_close(product, X * 3)
    torch.testing.assert_close(others["sum"], X.sum())
    assert calls(opened) == [("eia:0", 1)]


def test_one_session_serves_every_call_with_inputs_of_one_form(opened: list[Any]) -> None:
    module = traced()
    for _ in range(3):
        with torch.jit.optimized_execution(True, TARGET):
            module(X)
    assert calls(opened) == [("eia:0", 3)]


@pytest.mark.parametrize("other", [X[:1], X.double()], ids=["shape", "dtype"])
def test_inputs_of_another_form_get_a_session_of_their_own(
    opened: list[Any], other: Tensor
) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x

    module = torch.jit.script(Twice())
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
        torch.testing.assert_close(module(other), other * 2)
    assert calls(opened) == [("eia:0", 1), ("eia:0", 1)]


def test_another_constant_is_another_form(opened: list[Any]) -> None:
    class Times(nn.Module):
        def forward(self, x: Tensor, by: int) -> Tensor:
            return x * by

    module = torch.jit.script(Times())
    with torch.jit.optimized_execution(True, TARGET):
        assert [module(X, by)[0, 0].item() for by in (2, 3, 2)] == [-2, -3, -2]
    assert calls(opened) == [("eia:0", 2), ("eia:0", 1)]


def test_the_forms_kept_for_a_module_are_bounded(
    opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_MOST", 2)
    module = torch.jit.script(Scale().eval())
    with torch.jit.optimized_execution(True, TARGET):
        for rows in (1, 2, 1, 3, 1):
            module(torch.ones(rows, 4))
    assert [count for _, count in calls(opened)] == [3, 1, 1]
    package = weakref.ref(opened[1].package)
    del opened[1]
    gc.collect()
    assert package() is None


def test_an_accelerator_is_chosen_by_its_ordinal(opened: list[Any]) -> None:
    module = traced()
    for name in ("eia:1", "eia:0"):
        with torch.jit.optimized_execution(True, {"target_device": name}):
            module(X)
    assert calls(opened) == [("eia:1", 1), ("eia:0", 1)]


def test_a_context_without_a_device_keeps_that_of_the_context_around_it(opened: list[Any]) -> None:
    module = traced()
    with torch.jit.optimized_execution(True, TARGET), torch.jit.optimized_execution(False):
        module(X)
    assert calls(opened) == [("eia:0", 1)]


def test_the_device_cpu_is_the_client(opened: list[Any]) -> None:
    module = traced()
    with (
        torch.jit.optimized_execution(True, TARGET),
        torch.jit.optimized_execution(True, {"target_device": "cpu"}),
    ):
        module(X)
    assert opened == []


def test_the_context_holds_for_the_thread_that_entered_it(opened: list[Any]) -> None:
    module = traced()
    with torch.jit.optimized_execution(True, TARGET):
        thread = threading.Thread(target=module, args=(X,))
        thread.start()
        thread.join()
    assert opened == []


def test_threads_that_call_at_once_share_one_session(opened: list[Any]) -> None:
    module, answers = traced(), []

    def work() -> None:
        with torch.jit.optimized_execution(True, TARGET):
            answers.append(module(X))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(opened) == 1


@pytest.mark.parametrize("flag", [True, False])
def test_with_one_argument_it_is_what_torch_has(flag: bool, opened: list[Any]) -> None:
    module = traced()
    before = torch._C._get_graph_executor_optimize()
    with torch.jit.optimized_execution(flag):
        assert torch._C._get_graph_executor_optimize() is flag
        module(X)
    assert torch._C._get_graph_executor_optimize() is before
    assert opened == []


def test_the_first_argument_sets_the_flag_of_torch_with_a_device_too() -> None:
    with torch.jit.optimized_execution(False, TARGET):
        assert torch._C._get_graph_executor_optimize() is False


@pytest.mark.parametrize(
    "options",
    [{}, {"device": "eia:0"}, {"target_device": "cuda:0"}, {"target_device": "eia;0"}, "eia:0"],
    ids=str,
)
def test_options_that_name_no_accelerator_are_refused(options: Any) -> None:
    with pytest.raises(TargetSyntaxError), torch.jit.optimized_execution(True, options):
        pass


def test_attach_eia_returns_the_module(module: torch.jit.ScriptModule) -> None:
    torcheia = importlib.import_module("torcheia")
    assert torcheia.jit.attach_eia(module, 0) is module


def test_an_attached_module_runs_on_its_accelerator_within_optimized_execution(
    module: torch.jit.ScriptModule, opened: list[Any]
) -> None:
    import torcheia

    torch._C._jit_set_profiling_executor(torch._C._jit_set_profiling_executor(False))
    module = torcheia.jit.attach_eia(module, 1)
    with torch.no_grad(), torch.jit.optimized_execution(True):
        module.forward(X)
        module(X)
    assert calls(opened) == [("eia:1", 2)]


def test_an_attached_module_runs_on_the_client_elsewhere(opened: list[Any]) -> None:
    from torcheia.jit import attach_eia

    module = attach_eia(traced(), 0)
    module(X)
    with torch.jit.optimized_execution(False):
        module(X)
    assert opened == []


def test_only_attached_modules_run_on_an_accelerator_without_a_device(opened: list[Any]) -> None:
    import torcheia.jit

    torcheia.jit.attach_eia(traced(), 0)
    other = traced()
    with torch.jit.optimized_execution(True):
        other(X)
    assert opened == []


def test_attach_eia_takes_script_modules_only() -> None:
    import torcheia

    with pytest.raises(UnsupportedModel, match=r"given a Scale; pass what torch\.jit\.trace"):
        torcheia.jit.attach_eia(Scale(), 0)


def test_no_accelerator_is_an_error_when_the_context_is_entered(
    monkeypatch: pytest.MonkeyPatch, opened: list[Any]
) -> None:
    monkeypatch.setattr(startup, "_visible", list)
    with (
        pytest.raises(DeviceNotFound, match="eia:0: no accelerator is attached; attach one with"),
        torch.jit.optimized_execution(True, TARGET),
    ):
        raise AssertionError
    assert opened == []


def test_attach_eia_without_an_accelerator_is_an_error() -> None:
    import torcheia

    with pytest.raises(DeviceNotFound, match="eia:7: the accelerators here are eia:0, eia:1;"):
        torcheia.jit.attach_eia(traced(), 7)


def test_the_error_tells_of_the_limit_that_hides_accelerators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(startup, "_visible", list)
    monkeypatch.setenv("EI_VISIBLE_DEVICES", "")
    with (
        pytest.raises(DeviceNotFound, match="attached with EI_VISIBLE_DEVICES=''"),
        torch.jit.optimized_execution(True, TARGET),
    ):
        raise AssertionError


def test_an_accelerator_that_fails_is_an_error_and_nothing_runs_on_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(package: Any, target: Any) -> Any:
        raise ExecutionFailed("gone")

    monkeypatch.setattr(sessions, "_open", refuse)
    module = traced()
    with torch.jit.optimized_execution(True, TARGET):
        for _ in range(2):
            with pytest.raises(ExecutionFailed):
                module(X)


def test_a_module_that_draws_random_numbers_is_refused() -> None:
    module = torch.jit.script(nn.Dropout(0.5))
    with pytest.raises(NondeterministicModel), torch.jit.optimized_execution(True, TARGET):
        module(X)


def test_the_lines_of_the_original_client_are_printed_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = traced()
    with torch.jit.optimized_execution(True, TARGET):
        assert capsys.readouterr().out == ""
        module(X)
        module(X[:1])
    traced_again = traced()
    with torch.jit.optimized_execution(True, TARGET):
        traced_again(X)
    assert capsys.readouterr().out.splitlines() == [
        "Using Amazon Elastic Inference Client Library Version: eipack-eia 0.1.0",
        "Number of Elastic Inference Accelerators Available: 2",
        "Elastic Inference Accelerator ID: eia-00000000000000000000000000000000",
        "Elastic Inference Accelerator Type: eia2.medium",
        "Elastic Inference Accelerator Ordinal: 0",
    ]


def test_another_accelerator_is_announced_when_it_is_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = traced()
    for name in ("eia:0", "eia:1"):
        capsys.readouterr()
        with torch.jit.optimized_execution(True, {"target_device": name}):
            module(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1] == "Elastic Inference Accelerator Ordinal: 1"


def test_a_module_that_goes_closes_its_sessions_and_removes_their_packages(
    opened: list[Any],
) -> None:
    module = traced()
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
        module(X[:1])
    paths = [Path(session.package.path) for session in opened]
    assert all(path.exists() for path in paths)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None
    assert all(session.closed for session in opened)
    opened.clear()
    gc.collect()
    assert not any(path.exists() for path in paths)


def test_attaching_does_not_keep_a_module() -> None:
    import torcheia

    gone = weakref.ref(torcheia.jit.attach_eia(traced(), 0))
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("change", ["in place", "state dict", "dtype"])
def test_changed_weights_are_seen(opened: list[Any], change: str) -> None:
    module, x = traced(), X
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
    if change == "in place":
        with torch.no_grad():
            module.linear.weight.mul_(2)
    elif change == "state dict":
        module.load_state_dict({key: value * 2 for key, value in module.state_dict().items()})
    else:
        module, x = module.double(), X.double()
    expected = module(x)
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module(x), expected)
    assert calls(opened) == [("eia:0", 1), ("eia:0", 1)]


def test_a_module_in_another_mode_is_packaged_again(opened: list[Any]) -> None:
    class Mode(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if self.training else x

    module = torch.jit.script(Mode())
    with torch.jit.optimized_execution(True, TARGET):
        torch.testing.assert_close(module(X), X + 1)
        torch.testing.assert_close(module.eval()(X), X)


def test_the_package_is_signed_by_this_users_key(
    opened: list[eipack.Session], fresh_home: Path
) -> None:
    module = traced()
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
    signer = eipack.verify(opened[0].package.path)
    assert signer.key_id == signing_key().public.key_id


def test_tracing_inside_the_context_runs_on_the_client(opened: list[Any]) -> None:
    inner = traced()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + 1

    with torch.jit.optimized_execution(True, TARGET):
        module = torch.jit.trace(Outer(), X)
        assert opened == []
        torch.testing.assert_close(module(X), inner(X) + 1)


def test_a_module_that_returns_a_mapping_is_traced_and_a_line_says_so(
    opened: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.jit.optimized_execution(True, TARGET):
        module = torch.jit.trace(Named(), X)
        torch.testing.assert_close(module(X)["double"], X * 2)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "strict=False" in said[0]
    assert calls(opened) == [("eia:0", 1)]


def test_a_mapping_is_traced_by_trace_module_too() -> None:
    with torch.jit.optimized_execution(True, TARGET):
        module = torch.jit.trace_module(Named(), {"forward": X})
    torch.testing.assert_close(module(X)["double"], X * 2)


def test_a_mapping_is_refused_outside_the_context() -> None:
    with pytest.raises(RuntimeError, match="Encountering a dict"):
        torch.jit.trace(Named(), X)


def test_other_failures_of_tracing_stay_what_they_are() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        with torch.jit.optimized_execution(True, TARGET):
            torch.jit.trace(Bad(), X)


def test_a_forward_is_still_torchs_own_in_all_else(module: torch.jit.ScriptModule) -> None:
    assert "relu" in module.code
    assert module.forward.graph is not None
    assert copy.deepcopy(module)(X).shape == (2, 3)
    module.forward = lambda x: x
    assert module(X) is X


def test_a_forward_of_the_users_own_can_be_taken_away_again() -> None:
    module = scripted()
    module.forward = lambda x: x
    del module.forward
    assert module(X).shape == (2, 3)
    with pytest.raises(AttributeError, match="forward"):
        del traced().forward


def test_uninstalling_puts_everything_back(opened: list[Any]) -> None:
    eipack_eia.compat.uninstall()
    before = torch.jit.optimized_execution, torch.jit.trace, torch.jit.trace_module
    descriptors = [vars(c)["forward"] for c in (torch.jit.ScriptModule, type(traced()))]
    eipack_eia.compat.install()
    eipack_eia.compat.install()
    module = traced()
    with torch.jit.optimized_execution(True, TARGET):
        module(X)
    eipack_eia.compat.uninstall()
    assert (torch.jit.optimized_execution, torch.jit.trace, torch.jit.trace_module) == before
    assert [vars(c)["forward"] for c in (torch.jit.ScriptModule, type(module))] == descriptors
    assert "torcheia" not in sys.modules
    assert opened[0].closed
    assert type(module.forward) is torch._C.ScriptMethod
    assert list(inspect.signature(torch.jit.optimized_execution).parameters) == ["should_optimize"]


def test_a_torcheia_of_the_users_own_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    eipack_eia.compat.uninstall()
    monkeypatch.setitem(sys.modules, "torcheia", own := object())
    eipack_eia.compat.install()
    assert sys.modules["torcheia"] is not own
    eipack_eia.compat.uninstall()
    assert sys.modules["torcheia"] is own


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run a script as `python -m eipack_eia.compat` does, and return what click saw."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str | Path) -> Any:
        return CliRunner().invoke(main, [str(one) for one in arguments])

    return run


def test_a_script_of_pytorch_1_3_runs_as_it_is(run: Callable[..., Any], opened: list[Any]) -> None:
    result = run(SCRIPTS / "pytorch_1_3.py", "--calls", "5")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "same answer: True"
    assert calls(opened) == [("eia:0", 5)]


def test_a_script_of_pytorch_1_5_runs_as_it_is(run: Callable[..., Any], opened: list[Any]) -> None:
    result = run(SCRIPTS / "pytorch_1_5.py")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "same answer: True"
    assert calls(opened) == [("eia:0", 1)]


def test_a_handler_of_sagemaker_runs_as_it_is(opened: list[Any], tmp_path: Path) -> None:
    torch.jit.save(traced(), tmp_path / "model.pth")
    handler = runpy.run_path(str(SCRIPTS / "sagemaker_handler.py"))
    model = handler["model_fn"](str(tmp_path))
    handler["predict_fn"](X, model)
    assert calls(opened) == [("eia:0", 1)]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_gpt_benchmark_prints_what_the_original_reported(
    run: Callable[..., Any], opened: list[Any]
) -> None:
    result = run(BENCHMARK, "--calls", "20", *SMALL)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Using Amazon Elastic Inference Client Library Version: ")
    assert lines[4] == "Elastic Inference Accelerator Ordinal: 0"
    assert [line.partition(":")[0] for line in lines[-4:]] == ["Mean", "P50", "P90", "P95"]
    assert all(line.endswith(" ms") for line in lines[-4:])
    assert calls(opened) == [("eia:0", 20)]


def test_the_gpt_benchmark_knows_nothing_of_eipack() -> None:
    assert "eipack" not in BENCHMARK.read_text()


def test_an_error_names_the_line_of_the_script(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_visible", list)
    script = SCRIPTS / "pytorch_1_3.py"
    result = run(script)
    assert result.exit_code == 1
    number = next(
        number
        for number, line in enumerate(script.read_text().splitlines(), 1)
        if "optimized_execution" in line
    )
    assert result.stderr == (
        f"eipack: error: {script}, line {number}: eia:0: no accelerator is attached; "
        "attach one with: eipack eia attach HOST:PORT\n"
    )


def test_debug_shows_the_traceback(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_visible", list)
    assert isinstance(run("--debug", SCRIPTS / "pytorch_1_3.py").exception, DeviceNotFound)


def test_a_script_sees_its_own_arguments_and_folder(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "beside_it.py").write_text("word = 'beside'")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside_it\nprint(__name__, sys.argv[1:], beside_it.word)\nsys.exit(3)"
    )
    result = run(script, "--debug", "a b")
    del sys.modules["beside_it"]
    assert result.stdout == "__main__ ['--debug', 'a b'] beside\n"
    assert result.exit_code == 3


def test_a_process_without_an_accelerator_runs_nothing(fresh_home: Path, tmp_path: Path) -> None:
    script = SCRIPTS / "pytorch_1_3.py"
    done = subprocess.run(
        [sys.executable, "-m", "eipack_eia.compat", script],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"eipack: error: {script}, line ")


def test_a_script_that_is_not_there_is_wrong_use(run: Callable[..., Any]) -> None:
    result = run("nowhere.py")
    assert result.exit_code == 2
    assert "'nowhere.py' does not exist" in result.stderr
