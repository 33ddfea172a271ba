"""Plugins that each break one promise of the contract, and the check that catches each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from attrs import evolve
from eipack_toy import ToyBackend
from eipack_toy.machine import Machine

from eipack import Backend, Device, Target
from eipack.kinds import codec
from eipack.registry import backend as registered

Run = Callable[..., Any]


class SilentlyOnTheCpu(ToyBackend):
    kinds = ("exported",)

    def compile(self, program, target):
        return program

    def save(self, program, writer):
        codec(program.kind).save(program, writer)

    def load(self, reader, target, options):
        return registered(Target("cpu")).load(reader, Target("cpu"), options)


class ListingTheCpu(ToyBackend):
    def devices(self):
        return [Device(Target("cpu"), "not a toy")]


class TakingAnyOrdinal(ToyBackend):
    def find(self, target):
        return Device(target, "whatever you like")


class FailingToList(ToyBackend):
    def devices(self):
        raise RuntimeError("no driver")


class UnhealthyWithoutReason(ToyBackend):
    def devices(self):
        return [*super().devices(), Device(Target("toy", ordinal=2), "third", healthy=False)]


class LosingStrides(ToyBackend):
    def save(self, program, writer):
        super().save(program, _Flat(writer))


class _Flat:
    """A writer that claims that every tensor is contiguous."""

    def __init__(self, writer: Any) -> None:
        self.tensor = writer.tensor
        self._member = writer.member

    def member(self, name: str, data: bytes) -> None:
        stored = json.loads(data)
        for view in stored["tensors"].values():
            view[2] = list(torch.empty(view[1], device="meta").stride())
        self._member(name, json.dumps(stored).encode())


class RememberingPrograms(ToyBackend):
    """What it saves is worth something in this process alone."""

    programs: ClassVar[dict[str, Any]] = {}

    def save(self, program, writer):
        key = str(len(self.programs))
        self.programs[key] = program.artifact
        writer.attribute("remembered", key)

    def load(self, reader, target, options):
        self.find(target)
        if "remembered" not in reader.attributes:
            return super().load(reader, target, options)
        return Machine(self.programs[reader.attributes["remembered"]])


class CompilingToSomethingElse(ToyBackend):
    kinds = ("exported", "toy")

    def compile(self, program, target):
        return evolve(super().compile(program, target), kind="bauble")

    def load(self, reader, target, options):
        return super().load(_Renamed(reader), target, options)


class _Renamed:
    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.kind = "toy" if reader.kind == "bauble" else reader.kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


class RaisingForeignErrors(ToyBackend):
    def compile(self, program, target):
        for node in program.artifact.graph.nodes:
            if node.op == "call_function" and "mystery" in str(node.target):
                raise KeyError(node.target)
        return super().compile(program, target)


class TakingNothingPortable(ToyBackend):
    kinds = ("toy",)


class ChangingTheProcess(ToyBackend):
    def context(self, target):
        @contextmanager
        def forgetful():
            os.environ["TOY_WAS_HERE"] = "1"
            with torch.inference_mode():
                yield

        return forgetful()


@pytest.fixture(autouse=True)
def _environment_is_put_back() -> Iterator[None]:
    yield
    os.environ.pop("TOY_WAS_HERE", None)


@pytest.mark.parametrize(
    ("broken", "check", "told"),
    [
        (
            SilentlyOnTheCpu,
            "test_no_other_backend_does_the_work",
            "the work was handed to CpuBackend",
        ),
        (ListingTheCpu, "test_listed_targets_are_its_own", "cpu is not a target of its own"),
        (ListingTheCpu, "test_a_session_says_where_it_runs", "the session runs on cpu"),
        (TakingAnyOrdinal, "test_an_unknown_ordinal_is_refused", "DID NOT RAISE DeviceNotFound"),
        (FailingToList, "test_devices_can_be_listed", "no driver"),
        (UnhealthyWithoutReason, "test_devices_can_be_listed", "unhealthy without a reason"),
        (
            LosingStrides,
            "test_every_program_it_takes_gives_the_answer[channels_last]",
            "toy program",
        ),
        (RememberingPrograms, "test_another_process_can_open_the_package", "in a new process"),
        (CompilingToSomethingElse, "test_a_native_program_is_proved", "it cannot load its bauble"),
        (RaisingForeignErrors, "test_an_unknown_operator_is_refused", "KeyError"),
        (TakingNothingPortable, "test_it_takes_a_portable_kind", "none of them in"),
        (ChangingTheProcess, "test_the_process_stays_as_it_was", "environment variables"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_check_meant_for_it_catches_a_broken_plugin(
    broken: type[Backend], check: str, told: str, run: Run, twin: Any
) -> None:
    assert check in twin.passed

    found = run(broken, check.partition("[")[0])

    assert check in found.failed
    assert "'toy' breaks a promise of the contract: " in found.failed[check]
    assert told in found.failed[check]
