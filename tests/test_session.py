"""A session is the packaged model, opened on a target."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn

import eipack
from eipack.errors import (
    BackendNotFound,
    DeviceNotFound,
    ExecutionFailed,
    PackageChanged,
    ProgramNotFound,
    SessionClosed,
    SessionForked,
    SignatureMismatch,
    TargetSyntaxError,
)
from eipack.session import Session


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.linear(x) + shift, "weight": self.linear.weight}


BATCH = torch.export.Dim("batch", min=1, max=8)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Pair().eval()


@pytest.fixture(scope="module")
def path(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = eipack.export(
        model,
        (torch.randn(2, 3), torch.randn(2)),
        dynamic_shapes={"x": {0: BATCH}},
        programs=["torchscript", "exported"],
    )
    return package.save(tmp_path_factory.mktemp("packages") / "pair.eipack")


@pytest.fixture
def session(path: Path) -> Iterator[Session]:
    with eipack.load(path) as opened:
        yield opened


@pytest.mark.parametrize("program", ["torchscript", "exported"])
def test_it_answers_as_the_model_does(model: nn.Module, path: Path, program: str) -> None:
    x, shift = torch.randn(5, 3), torch.randn(2)
    with eipack.load(path, program=program) as session:
        result = session(x, shift=shift)
    torch.testing.assert_close(result["sum"], model(x, shift)["sum"])


def test_it_says_where_and_what_it_runs(session: Session) -> None:
    assert str(session.target) == "cpu"
    assert session.info.program == "torchscript"
    assert session.info.mapped
    assert "on cpu, open" in repr(session)


def test_the_signature_holds_before_the_program_is_reached(session: Session) -> None:
    with pytest.raises(SignatureMismatch, match=r"batch in 1\.\.8"):
        session(torch.randn(9, 3), torch.randn(2))
    with pytest.raises(SignatureMismatch, match="float64, expected float32"):
        session(torch.randn(2, 3).double(), torch.randn(2))


def test_odd_but_right_tensors_are_taken(model: nn.Module, session: Session) -> None:
    x = torch.randn(3, 2).t()
    shift = torch.randn(4)[::2].requires_grad_()
    result = session(x, shift)["sum"]
    torch.testing.assert_close(result, model(x, shift)["sum"].detach())
    assert not result.requires_grad


def test_writing_to_an_answer_changes_nothing_that_follows(session: Session) -> None:
    x, shift = torch.randn(2, 3), torch.randn(2)
    before = session(x, shift)
    kept = {name: tensor.clone() for name, tensor in before.items()}
    with torch.inference_mode():
        for tensor in before.values():
            tensor.zero_()
    after = session(x, shift)
    assert all(torch.equal(after[name], kept[name]) for name in kept)


def test_calls_from_many_threads_agree(model: nn.Module, session: Session) -> None:
    inputs = [(torch.randn(1 + n % 8, 3), torch.randn(2)) for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda pair: session(*pair)["sum"], inputs))
    for pair, result in zip(inputs, results, strict=True):
        torch.testing.assert_close(result, model(*pair)["sum"].detach())


def test_submit_gives_a_future(session: Session) -> None:
    x, shift = torch.randn(2, 3), torch.randn(2)
    assert torch.equal(session.submit(x, shift).result()["sum"], session(x, shift)["sum"])


def test_a_future_carries_the_error(session: Session) -> None:
    with pytest.raises(SignatureMismatch):
        session.submit(torch.randn(2, 3)).result()


def test_arun_awaits_without_blocking_the_loop(session: Session) -> None:
    async def run() -> Any:
        return await asyncio.gather(
            *(session.arun(torch.ones(1, 3), torch.zeros(2)) for _ in range(3))
        )

    results = asyncio.run(run())
    assert len(results) == 3


def test_closing_is_final_and_may_be_repeated(path: Path) -> None:
    session = eipack.load(path)
    session.submit(torch.randn(2, 3), torch.randn(2))
    session.close()
    session.close()
    assert session.closed
    for use in (session, session.submit):
        with pytest.raises(SessionClosed, match=r"eipack\.load again"):
            use(torch.randn(2, 3), torch.randn(2))


def test_closing_waits_for_submitted_calls(path: Path) -> None:
    session = eipack.load(path)
    futures = [session.submit(torch.randn(8, 3), torch.randn(2)) for _ in range(20)]
    session.close()
    assert all(future.done() for future in futures)


class Slow(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(400):
            x = torch.tanh(x @ x)
        return x


@pytest.fixture
def slow() -> Session:
    return eipack.load(eipack.export(Slow().eval(), (torch.eye(64),), method="script"))


def test_everyone_who_closes_waits_for_submitted_calls(slow: Session) -> None:
    futures = [slow.submit(torch.eye(64)) for _ in range(4)]
    closers = [threading.Thread(target=slow.close) for _ in range(3)]
    for closer in closers:
        closer.start()
    slow.close()
    assert all(future.done() and future.exception() is None for future in futures)
    for closer in closers:
        closer.join()


def test_a_callback_may_close_the_session_that_called_it(slow: Session) -> None:
    first, second = slow.submit(torch.eye(64)), slow.submit(torch.eye(64))
    first.add_done_callback(lambda _: slow.close())
    assert second.exception(timeout=30) is None
    for _ in range(200):
        if slow.closed:
            break
        threading.Event().wait(0.01)
    assert slow.closed
    with pytest.raises(SessionClosed):
        slow.submit(torch.eye(64))


class Restrided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous().as_strided((8,), (1,))


@pytest.mark.parametrize(
    ("method", "program"),
    [("export", None), ("export", "torchscript"), ("trace", None), ("script", None)],
)
def test_strides_of_inputs_make_no_difference(method: str, program: str | None) -> None:
    package = eipack.export(Restrided(), (torch.rand(2, 4),), method=method, programs=program)
    x = torch.arange(8.0).reshape(4, 2).t()
    with eipack.load(package) as session:
        assert torch.equal(session(x), Restrided()(x))


class Table(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, torch.arange(5) * 2


@pytest.mark.parametrize("method", ["export", "trace", "script"])
def test_writing_to_a_constant_output_changes_nothing_that_follows(method: str) -> None:
    package = eipack.export(Table(), (torch.rand(2),), method=method, programs="torchscript")
    with eipack.load(package) as session:
        with torch.inference_mode():
            session(torch.rand(2))[1].fill_(9)
        assert session(torch.rand(2))[1].tolist() == [0, 2, 4, 6, 8]


def test_an_autocast_around_the_call_does_not_count(session: Session) -> None:
    x, shift = torch.randn(2, 3), torch.randn(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert session(x, shift)["sum"].dtype is torch.float32


@pytest.mark.parametrize("options", [{"workers": 0}, {"outputs_on": "gpu"}])
def test_options_that_mean_nothing_are_refused(path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        eipack.load(path, **options)


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("program", ["torchscript", "exported"])
def test_closing_unmaps_the_weights(path: Path, program: str) -> None:
    gc.collect()
    assert not mapped(path)
    session = eipack.load(path, program=program)
    session(torch.randn(2, 3), torch.randn(2))
    assert mapped(path)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    session.close()
    gc.collect()
    assert not mapped(path)
    assert len(list(Path("/proc/self/fd").iterdir())) < descriptors
    assert "closed" in repr(session)
    assert str(session.info.target) == "cpu"


def test_garbage_collection_releases_everything(path: Path) -> None:
    gc.collect()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    session = eipack.load(path)
    session.submit(torch.randn(2, 3), torch.randn(2)).result()
    watch = weakref.ref(session)
    del session
    for _ in range(50):
        gc.collect()
        if watch() is None and threading.active_count() == threads:
            break
        threading.Event().wait(0.02)
    assert watch() is None
    assert not mapped(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert threading.active_count() == threads


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_is_told(session: Session) -> None:
    session(torch.randn(2, 3), torch.randn(2))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        told = b"nothing"
        try:
            session(torch.randn(2, 3), torch.randn(2))
        except SessionForked:
            told = b"forked"
        finally:
            os.write(write, told)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 16) == b"forked"
    assert session(torch.randn(2, 3), torch.randn(2))


def test_the_ambient_target_is_the_default(path: Path) -> None:
    with eipack.use("nowhere"), pytest.raises(BackendNotFound, match="no backend serves 'nowhere'"):
        eipack.load(path)
    with eipack.use("nowhere"), eipack.load(path, target="cpu") as session:
        assert str(session.target) == "cpu"


def test_unknown_targets_are_refused(path: Path) -> None:
    with pytest.raises(TargetSyntaxError):
        eipack.load(path, target="cpu:1")
    with pytest.raises(BackendNotFound, match=r"no backend serves 'cpu\+nothing'"):
        eipack.load(path, target="cpu+nothing")


def test_an_absent_gpu_is_a_clear_error(path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceNotFound, match="cuda:0: no such device; no cuda device is visible"):
        eipack.load(path, target="cuda:0")


def test_an_unknown_program_is_refused_with_those_that_are_there(path: Path) -> None:
    with pytest.raises(ProgramNotFound, match="it has torchscript, exported"):
        eipack.load(path, program="onnx")


def test_a_package_object_serves_several_sessions(path: Path) -> None:
    package = eipack.open(path)
    with eipack.load(package) as first, eipack.load(package, program="exported") as second:
        x, shift = torch.randn(2, 3), torch.randn(2)
        torch.testing.assert_close(first(x, shift)["sum"], second(x, shift)["sum"])


def test_a_file_written_in_place_is_noticed_at_the_next_call(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.eipack"
    copy.write_bytes(path.read_bytes())
    with eipack.load(copy) as session:
        session(torch.randn(2, 3), torch.randn(2))
        os.truncate(copy, 100)
        with pytest.raises(PackageChanged, match="load it again"):
            session(torch.randn(2, 3), torch.randn(2))


def test_a_file_replaced_by_rename_makes_no_difference(path: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy.eipack", tmp_path / "other"
    copy.write_bytes(path.read_bytes())
    other.write_bytes(b"something else")
    x, shift = torch.randn(2, 3), torch.randn(2)
    with eipack.load(copy) as session:
        before = session(x, shift)["sum"]
        other.replace(copy)
        assert torch.equal(session(x, shift)["sum"], before)


def test_a_program_that_needs_a_later_torch_is_passed_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = eipack.open(path)
    programs = list(package.programs)
    programs[0] = evolve(programs[0], lowest_torch="99.0")
    package.manifest = evolve(package.manifest, programs=tuple(programs))
    monkeypatch.setattr(package, "check_trust", lambda _: None)
    with eipack.load(package) as session:
        assert session.program.kind == "exported"
    with pytest.raises(ProgramNotFound, match=r"needs torch >= 99\.0 .* this is torch 2\."):
        eipack.load(package, program="torchscript")


class Picky(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x > 100).any()):
            raise ValueError("too large")
        return x * 2


def test_a_program_that_fails_gives_a_typed_error() -> None:
    with eipack.load(eipack.export(Picky().eval(), (torch.randn(3),), method="script")) as session:
        assert torch.equal(session(torch.ones(3)), torch.full((3,), 2.0))
        with pytest.raises(ExecutionFailed, match=r"Picky failed on cpu: .*too large"):
            session(torch.full((3,), 101.0))
        assert torch.equal(session(torch.ones(3)), torch.full((3,), 2.0))
