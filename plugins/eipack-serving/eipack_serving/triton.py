"""A model repository for Triton Inference Server, written from a package.

Its Python backend runs the package itself, on any target; its PyTorch backend runs the package's
TorchScript, without eipack. Sources: Triton's `model_configuration.md`, and the naming rules of
its PyTorch backend.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import frozen
from eipack_eia import oip

from eipack.errors import EipackError, PackageIOError, ProgramNotFound, UnsupportedModel
from eipack.package import Package
from eipack.parity.batches import batch_dim, most_rows
from eipack_serving.pbtxt import Word, text_of

if TYPE_CHECKING:
    from eipack.manifest import ProgramRecord
    from eipack.signature import Signature, TensorSpec
    from eipack.trust import Trust

Backend = Literal["python", "pytorch"]
MODEL: Final = '''\
"""Runs the package beside it; written by `eipack serving triton`."""

from eipack_serving.triton_model import PackageModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
PACKAGE: Final = "model.eipack"


@frozen
class Written:
    """A model in a repository: its folder, and up to how many rows Triton makes a batch of."""

    folder: Path
    name: str
    backend: Backend
    max_batch_size: int


def write_repository(
    file: str | Path,
    repository: str | Path,
    *,
    backend: Backend = "python",
    name: str | None = None,
    settings: Mapping[str, str] | None = None,
    max_batch: int | None = None,
    trust: Trust = None,
) -> Written:
    """Write a package as a model of a repository, whole or not at all.

    `settings` are what the Python backend gives to `PackageService` (target, precision, threads).
    `max_batch` limits the rows that Triton makes a batch of; it makes none, and takes every size
    that the signature allows, where rows were not shown to be independent or `max_batch` is 0.

    Raises:
        PackageIOError: It is there already, or cannot be written.
        ProgramNotFound: The package has no TorchScript for the PyTorch backend.
        UnsupportedModel: Triton cannot run the model.
        UntrustedPackage: Nobody trusted has signed the package.
    """
    with Package.open(file) as package:
        package.check_trust(trust)
        model = name or package.name
        folder = Path(repository) / model
        if Path(model).name != model:
            raise PackageIOError(f"{model!r} is no folder's name; choose another --name")
        if folder.exists():
            raise PackageIOError(
                f"{folder} is there already; choose another --name", path=str(folder)
            )
        programs = package.programs if backend == "python" else (_torchscript(package),)
        rows = _rows(package, programs, max_batch)
        document = configuration(package, model, backend, rows, settings or {})
        with _making(folder) as made:
            (made / "1").mkdir()
            (made / "config.pbtxt").write_text(text_of(document), encoding="utf-8")
            if backend == "python":
                package.save(made / "1" / PACKAGE)
                (made / "1" / "model.py").write_text(MODEL, encoding="ascii")
            else:
                package.extract(programs[0].id, made / "1" / "model.pt", trust=trust)
    return Written(folder, model, backend, rows)


def _torchscript(package: Package) -> ProgramRecord:
    found = [one for one in package.programs if one.kind == "torchscript"]
    if not found:
        raise ProgramNotFound(
            f"{package.path} has no torchscript program, which the PyTorch backend runs; export "
            'it again with programs=["torchscript"], or take --backend python'
        )
    _require_flat(package.signature)
    return found[0]


def _require_flat(signature: Signature) -> None:
    takes, gives = signature.input_tree, signature.output_tree
    nested = not (takes.is_flat and signature.positional == len(takes.children) and gives.is_flat)
    if nested or gives.kind not in ("tensor", "tuple", "list", "namedtuple"):
        raise UnsupportedModel(
            "Triton's PyTorch backend takes tensors by position and gives a tensor or a tuple, "
            "and the model has nested ones or takes some by keyword; take --backend python"
        )


def _rows(package: Package, programs: Sequence[ProgramRecord], most: int | None) -> int:
    """Return the largest batch that Triton may make, 0 for none."""
    signature = package.signature
    if most == 0 or not all(one.batch_independent for one in programs):
        return 0
    proved = most_rows(signature, package.samples()[0])
    # beside the batch's axis Triton wants another one
    flat = any(len(spec.shape) < 2 for spec in (*signature.inputs, *signature.outputs))
    if proved == 0 or flat or batch_dim(signature).min > 1:
        return 0
    return proved if most is None else min(proved, most)


def configuration(
    package: Package, name: str, backend: Backend, rows: int, settings: Mapping[str, str]
) -> dict[str, Any]:
    """Return a model's configuration; with `rows` Triton adds the axis of the batch itself.

    Raises:
        UnsupportedModel: A tensor is of a dtype or shape that Triton has not.
    """
    signature = package.signature
    named = backend == "python"
    document: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": rows,
        "input": _tensors(signature.inputs, None if named else "INPUT", rows),
        "output": _tensors(signature.outputs, None if named else "OUTPUT", rows),
    }
    if rows:
        document["dynamic_batching"] = {}
    if settings:
        document["parameters"] = [
            {"key": key, "value": {"string_value": value}} for key, value in settings.items()
        ]
    if named:
        # the service finds its own device, and Triton must not look for one of its kind
        document["instance_group"] = [{"kind": Word("KIND_CPU"), "count": 1}]
    return document


def _tensors(specs: Sequence[TensorSpec], numbered: str | None, rows: int) -> list[dict[str, Any]]:
    """Describe tensors, by the names of the signature or by position."""
    found = []
    for index, spec in enumerate(specs):
        described = oip.describe(spec)
        shape = described["shape"]
        if not shape:
            raise UnsupportedModel(f"{spec.name!r} has no axis, and Triton has no such tensors")
        found.append(
            {
                "name": spec.name if numbered is None else f"{numbered}__{index}",
                "data_type": Word(f"TYPE_{described['datatype']}"),
                "dims": shape[1:] if rows else shape,
            }
        )
    return found


@contextmanager
def _making(folder: Path) -> Iterator[Path]:
    """Give a folder beside its place, and move it there when it is whole."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".eipack-") as name:
            made = Path(name) / folder.name
            made.mkdir()
            yield made
            made.rename(folder)
    except OSError as error:
        if isinstance(error, EipackError):
            raise
        reason = error.strerror or type(error).__name__
        raise PackageIOError(f"cannot write {folder}: {reason}", path=str(folder)) from error
