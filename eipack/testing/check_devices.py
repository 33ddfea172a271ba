"""Devices: what is listed, what is refused, and that nothing runs elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from eipack.backend import Backend, Device, LoadOptions
from eipack.errors import BackendError, DeviceNotFound
from eipack.kinds import PORTABLE
from eipack.loading import load
from eipack.package import Package
from eipack.registry import backend as registered
from eipack.registry import names
from eipack.target import Target
from eipack.testing.answers import require_answer
from eipack.testing.base import ContractBase
from eipack.testing.models import call, tensors
from eipack.testing.promise import promise
from eipack.testing.zoo import zoo_model
from eipack.torch_backend import TorchBackend


class DeviceChecks(ContractBase):
    """Where things run."""

    @promise
    def test_devices_can_be_listed(self) -> None:
        """List devices without raising, and say of those that are not healthy why."""
        for device in self.backend.devices():
            assert isinstance(device, Device), f"devices() lists {device!r}, which is no Device"
            assert device.name, f"{device.target} has no name"
            assert device.healthy or device.detail, f"{device.target} is unhealthy without a reason"

    @promise
    def test_listed_targets_are_its_own(self) -> None:
        """List each device once, under the backend's own device and engine."""
        listed = [device.target for device in self.backend.devices()]
        assert len(set(listed)) == len(listed), f"a target is listed twice: {_shown(listed)}"
        for target in listed:
            own = (self.backend.device, self.backend.engine)
            assert (target.device, target.engine) == own, f"{target} is not a target of its own"
            assert Target.parse(str(target)) == target, f"{target!r} does not parse"

    @promise
    def test_it_takes_a_portable_kind(self) -> None:
        """Take a portable kind of program, so that packages of others can be opened."""
        kinds = self.backend.kinds
        assert set(kinds) & set(PORTABLE), f"kinds are {kinds}, none of them in {PORTABLE}"

    @promise
    def test_an_unknown_ordinal_is_refused(self) -> None:
        """Refuse an ordinal that is not there with DeviceNotFound, in load itself too."""
        known = [device.target.ordinal or 0 for device in self.backend.devices()]
        absent = evolve(self.wanted, ordinal=max(known, default=0) + 1000)
        path = self.package("perceptron")
        with pytest.raises(DeviceNotFound):
            load(path, absent).close()
        with Package.open(path) as package:
            record = next(r for r in package.programs if r.kind in self.backend.kinds)
            reader = package._read_program(record)
            with pytest.raises(DeviceNotFound):
                self.backend.load(reader, absent, LoadOptions()).close()

    @promise
    def test_a_session_says_where_it_runs(self) -> None:
        """Run on the target that was asked for, and say so."""
        with self.open("perceptron") as session:
            here = session.target
            assert (here.device, here.engine) == (self.wanted.device, self.wanted.engine), (
                f"{self.target} was asked for, the session runs on {here}"
            )
            assert self.wanted.ordinal in (None, here.ordinal), f"the session runs on {here}"
            listed = [device.target for device in self.backend.devices()]
            assert here in listed, f"{here} is not among the devices: {_shown(listed)}"

    @promise
    def test_every_healthy_device_runs(self) -> None:
        """Run on each healthy device that is listed."""
        self.need_device()
        model = zoo_model("several_inputs_and_outputs")
        for device in self.backend.devices():
            if device.healthy:
                with load(self.package(model), device.target) as session:
                    here = session.target
                    assert here == device.target, f"{device.target} was asked for, it is {here}"
                    require_answer(session, model, model.inputs(7), f"on {device.target}")

    @promise
    def test_no_other_backend_does_the_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run nothing through another installed backend, least of all in silence."""
        model = zoo_model("perceptron")
        self.package(model)  # made first: proving its programs may take another backend
        _poison_others(self.backend, monkeypatch)
        with self.open(model) as session:
            require_answer(session, model, model.inputs(8), "all other backends out of order")

    @promise
    def test_outputs_stay_on_the_device_when_asked(self) -> None:
        """Bring outputs to the host, or leave them on the device under outputs_on="device"."""
        model = zoo_model("perceptron")
        with self.open(model, outputs_on="device") as session:
            outputs = tensors(call(session, model.inputs(9)))
            if isinstance(self.backend, TorchBackend):
                wanted = self.backend.torch_device(session.target)
                places = {output.device.type for output in outputs}
                assert places == {wanted.type}, f"outputs are on {places}, not on {wanted}"
        with self.open(model) as session:
            require_answer(session, model, model.inputs(9))


def _shown(targets: list[Target]) -> str:
    return ", ".join(str(target) for target in targets)


def _poison_others(own: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every other backend fail that is asked to load something."""

    def guarded(original: Any) -> Any:
        def refuse(backend: Backend, *args: Any, **kwargs: Any) -> Any:
            if isinstance(backend, type(own)):
                return original(backend, *args, **kwargs)
            raise AssertionError(f"the work was handed to {type(backend).__name__}")

        return refuse

    for name in names():
        device, _, engine = name.partition(".")
        try:
            other = type(registered(Target(device, engine or None)))
        except BackendError:
            continue
        if other is not type(own):
            monkeypatch.setattr(other, "load", guarded(other.load))
