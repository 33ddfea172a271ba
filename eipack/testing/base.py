"""What every part of the contract's tests starts from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import pytest

from eipack.backend import Backend
from eipack.errors import DeviceNotFound
from eipack.loading import load
from eipack.registry import backend as registered
from eipack.session import Session
from eipack.target import Target
from eipack.testing.exports import folder, package_of
from eipack.testing.models import ZooModel
from eipack.testing.recording import record
from eipack.testing.zoo import supported, zoo_model


class ContractBase:
    """Know the target, and open packages of the zoo on it."""

    target: ClassVar[str]
    supports: ClassVar[Collection[str]] = frozenset()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a check that takes a `model` once for each model the backend must run."""
        if "model" in metafunc.fixturenames:
            metafunc.parametrize("model", supported(self.supports), ids=repr)

    @pytest.fixture(autouse=True)
    def _kit(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        record(request)
        # the user's own keys have no part in this: packages are signed by one of the kit's
        monkeypatch.setenv("EIPACK_CONFIG_DIR", str(folder() / "config"))
        monkeypatch.delenv("EIPACK_SIGNING_KEY", raising=False)
        monkeypatch.delenv("EIPACK_TRUSTED_KEYS", raising=False)

    @property
    def wanted(self) -> Target:
        """The target as it was written."""
        return Target.parse(self.target)

    @property
    def backend(self) -> Backend:
        """The backend under test."""
        return registered(self.wanted)

    def package(self, model: ZooModel | str, programs: tuple[str, ...] | None = None) -> Path:
        """Return a package of a model for this backend."""
        chosen = zoo_model(model) if isinstance(model, str) else model
        return package_of(chosen, self.backend, self.wanted, programs)

    def open(self, model: ZooModel | str, **options: Any) -> Session:
        """Open a package of a model on the target."""
        self.need_device()
        return load(self.package(model), self.target, **options)

    def need_device(self) -> None:
        """Skip the check where the target's device is not there."""
        try:
            self.backend.find(self.wanted)
        except DeviceNotFound as error:
            pytest.skip(str(error))

    def replace_load(self, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
        """Let `wrap` see, and replace, every runner that the backend loads."""
        original = type(self.backend).load

        def watched(backend: Backend, *args: Any, **kwargs: Any) -> Any:
            return wrap(original(backend, *args, **kwargs))

        monkeypatch.setattr(type(self.backend), "load", watched)
