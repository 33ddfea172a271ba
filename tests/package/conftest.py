"""One small package of every portable kind, made once; and hands that do bad things to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import eipack
from eipack.archive import Source, write_archive
from eipack.manifest import MANIFEST
from eipack.package import Package
from eipack.package.assembly import signing_name
from eipack.trust import SigningKey, sign_manifest

X = torch.linspace(-1, 1, 16).reshape(2, 8)


class Small(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(8, 64)
        self.second = nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


@pytest.fixture(scope="session")
def model() -> nn.Module:
    return Small().eval()


@pytest.fixture(scope="session")
def x() -> torch.Tensor:
    return X


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, shared_home: Path, model: nn.Module) -> Path:
    """Export once; tests copy the file, since a package that was written to is another one."""
    path = tmp_path_factory.mktemp("made") / "small.eipack"
    package = eipack.export(
        model,
        inputs=(X,),
        programs=["torchscript", "exported", "onnx"],
        assets={"labels": ["cat", "dog"], "licence": b"Do what you like."},
        name="small",
        version="1.2",
    )
    return package.save(path)


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """Give the test a copy of its own."""
    return Path(shutil.copy(made, tmp_path / "small.eipack"))


@pytest.fixture(scope="session")
def stranger() -> SigningKey:
    return SigningKey.generate()


Rewrite = Callable[..., Path]


@pytest.fixture
def rewrite(tmp_path: Path) -> Rewrite:
    """Write a package again with other signings, another manifest, or other members."""

    def write(
        path: Path,
        keys: Iterable[SigningKey] = (),
        *,
        manifest: bytes | None = None,
        signings: Mapping[str, bytes] | None = None,
        members: Mapping[str, bytes] | None = None,
    ) -> Path:
        out = tmp_path / f"rewritten-{len(list(tmp_path.iterdir()))}.eipack"
        with Package.open(path) as package:
            data = manifest or package.manifest.to_json()
            found = {signing_name(key.public.hint): sign_manifest(data, key) for key in keys}
            found |= signings or {}
            sources = [Source.of_bytes(MANIFEST, data)]
            sources += [Source.of_bytes(name, found[name]) for name in sorted(found)]
            for source in package._contents(package._file):
                other = (members or {}).get(source.name)
                sources.append(source if other is None else Source.of_bytes(source.name, other))
            write_archive(out, sources)
        out.chmod(0o600)
        return out

    return write
