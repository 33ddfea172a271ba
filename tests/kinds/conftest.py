"""Programs through a real package file, without the capture and the gate that export adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from eipack.backend import Program
from eipack.package import Package
from eipack.package.assembly import Parts, write_package
from eipack.pool import Pool
from eipack.signature import Signature
from eipack.staging import record, stage
from eipack.tree import TENSOR, Tree
from eipack.trust import SigningKey

Store = Callable[..., Package]
SIGNATURE = Signature((), (), (), Tree("dict"), TENSOR, 0)


def program(kind: str, artifact: object) -> Program:
    return Program(kind, artifact, SIGNATURE, "test")


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def store(tmp_path: Path, key: SigningKey) -> Store:
    """Write programs (artifacts by kind), and perhaps the model they are of, to a package."""

    def write(model: torch.nn.Module | None = None, **artifacts: object) -> Package:
        pool = Pool()
        if model is not None:
            pool.add_model(model.named_parameters(remove_duplicate=False))
            pool.add_model(model.named_buffers(remove_duplicate=False))
        staged = {kind: stage(program(kind, artifact)) for kind, artifact in artifacts.items()}
        parts = Parts(
            name="model",
            version=None,
            signature=SIGNATURE,
            programs=tuple(record(one, kind, pool) for kind, one in staged.items()),
            members={
                f"programs/{kind}/{name}": data
                for kind, one in staged.items()
                for name, data in one.members.items()
            },
            pool=pool,
            samples={"input.x": torch.zeros(1)},
            assets={},
            evidence=(),
            narrowed=(),
        )
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.eipack"
        write_package(path, parts, key)
        path.chmod(0o600)
        return Package.open(path)

    return write


@pytest.fixture
def reload(store: Store) -> Callable[[str, object], object]:
    """Send an artifact through a package file and back."""
    from eipack.kinds import codec

    def through(kind: str, artifact: object) -> object:
        package = store(**{kind: artifact})
        reader = package._read_program(package.program(kind))
        return codec(kind).load(reader, torch.device("cpu"))

    return through
