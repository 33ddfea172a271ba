"""What tuning will try, listed without trying it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from eipack_toy import ToyBackend

import eipack
from eipack import registry
from eipack.errors import DeviceNotFound
from eipack.target import Target
from eipack.tuning.candidates import Allowed, Candidate, default_threads, others, places, plain
from eipack.tuning.record import Row

CPU = Target("cpu")


@pytest.fixture
def opened(engines: None, fixed_package: Path) -> Iterator[eipack.Package]:
    with eipack.open(fixed_package) as package:
        yield package


def allowed(*engines: str, threads: tuple[int, ...] = (2, 1), **more: object) -> Allowed:
    precisions = more.get("precisions", ("float32",))
    return Allowed(precisions, threads, frozenset(engines), more.get("options", {}))


def listed(package: eipack.Package, asked: Allowed) -> list[Candidate | Row]:
    return list(others(package, CPU, asked))


def test_plain_is_what_a_load_without_more_runs(opened: eipack.Package) -> None:
    assert plain(opened, CPU) == Candidate(CPU, "torchscript", "torchscript", plain=True)


def test_each_number_of_threads_is_a_candidate_where_the_engine_takes_one(
    opened: eipack.Package,
) -> None:
    found = listed(opened, allowed("cpu", "quick"))
    assert [(str(one.target), one.threads) for one in found] == [
        ("cpu", 2),
        ("cpu", 1),
        ("cpu+quick", None),
    ]


def test_each_precision_is_a_candidate_where_the_engine_has_it(opened: eipack.Package) -> None:
    found = listed(opened, allowed("rough", precisions=("float32", "bfloat16", "int8")))
    assert [one.precision for one in found] == ["float32", "bfloat16"]


def test_an_engine_without_an_allowed_precision_says_so(opened: eipack.Package) -> None:
    (row,) = listed(opened, allowed("quick", precisions=("int8",)))
    assert isinstance(row, Row)
    assert row.reason == "it computes in float32 only"


def test_options_go_to_their_engine_alone(opened: eipack.Package) -> None:
    found = listed(opened, allowed("quick", "rough", options={"quick": {"mode": "a"}}))
    assert [dict(one.options) for one in found] == [{"mode": "a"}, {}]


def test_options_for_an_engine_that_is_not_installed_are_refused(opened: eipack.Package) -> None:
    with pytest.raises(ValueError, match="names the engine 'warp'"):
        listed(opened, allowed(options={"warp": {}}))


def test_a_plugin_that_fails_to_list_its_devices_is_a_row(
    opened: eipack.Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = registry.backend(Target("cpu", "quick"))
    monkeypatch.setattr(type(quick), "devices", lambda _: 1 / 0)
    (row,) = listed(opened, allowed("quick"))
    assert isinstance(row, Row)
    assert (row.target, row.verdict, row.reason) == ("cpu+quick", "failed", "division by zero")


def test_devices_with_threads_of_their_own_are_tried_as_they_are(
    opened: eipack.Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyBackend, "options", frozenset({"threads"}))
    monkeypatch.setattr(ToyBackend, "kinds", ("torchscript",))
    (one,) = others(opened, Target("toy", ordinal=1), allowed(threads=()))
    assert (str(one.target), one.threads) == ("toy:1", None)


@pytest.mark.parametrize(
    ("cores", "objective", "numbers"),
    [
        ("1", "latency", (1,)),
        ("2", "latency", (2,)),
        ("8", "latency", (8, 4, 1)),
        ("3", "latency", (3, 1)),
        ("8", "throughput", (8,)),
    ],
)
def test_the_numbers_of_threads_follow_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: str, objective: str, numbers: tuple[int, ...]
) -> None:
    monkeypatch.setenv("EIPACK_THREADS", cores)
    assert default_threads(objective) == numbers


def test_auto_stands_for_every_healthy_device_this_processor_first() -> None:
    found = [str(one) for one in places(Target("auto"))]
    assert found[0] == "cpu"
    assert {"toy:0", "toy:1"} <= set(found)


def test_auto_without_any_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "devices", list)
    with pytest.raises(DeviceNotFound, match="no healthy device"):
        places(Target("auto"))
