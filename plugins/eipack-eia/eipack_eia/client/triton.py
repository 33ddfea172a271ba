"""Programs sent to a Triton server through its model repository extension, and taken back.

A load request carries the model's configuration as JSON and its file in base64. The name holds
the package's id, so that a model is sent once, whoever sends it. Source: Triton's
`extension_model_repository.md` and the naming rules of its PyTorch backend.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
from attrs import define, evolve, field, frozen

from eipack.errors import (
    AcceleratorDenied,
    AcceleratorFull,
    EipackError,
    ProgramNotFound,
    UnsupportedModel,
)
from eipack.kinds import codec
from eipack.manifest import ProgramRecord
from eipack.package import Package
from eipack_eia import oip
from eipack_eia.blobs import package_id
from eipack_eia.client.control import Control
from eipack_eia.client.foreign_model import is_ready
from eipack_eia.endpoint import Endpoint

if TYPE_CHECKING:
    from eipack.signature import Signature, TensorSpec

_BACKENDS: Final = {"torchscript": "pytorch", "onnx": "onnxruntime"}
_FILES: Final = {"torchscript": "model.pt", "onnx": "model.onnx"}
_LOAD_S: Final = 300.0
_NO_LOADING: Final = ("explicit model load", "not allowed", "restricted")
_NO_BACKEND: Final = ("unable to find backend", "backend library")
_TOO_LARGE: Final = ("exceeds the maximum", "max-input-size", "too large")
_ALLOW: Final = (
    "start it with --model-control-mode=explicit, or attach it with --model and the name of a "
    "model that it has"
)


@frozen
class Upload:
    """One program of a package, as a model of Triton's."""

    package: Package
    record: ProgramRecord

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return f"eipack-{package_id(self.package.manifest.to_json())}-{self.record.kind}"

    def send(self, control: Control) -> None:
        """Have Triton load the program.

        Raises:
            UnsupportedModel: Triton cannot run it.
            AcceleratorDenied: Triton takes no models in requests, or none from this client.
            AcceleratorFull: It is larger than Triton takes.
            EipackError: It cannot be reached, or the package is damaged.
        """
        kind = self.record.kind
        data, inputs, outputs = self._extracted()
        config = configuration(kind, self.package.signature, inputs, outputs)
        parameters = {
            "config": msgspec.json.encode(config).decode(),
            f"file:1/{_FILES[kind]}": base64.b64encode(data).decode(),
        }
        try:
            patient = evolve(control, timeout_s=_LOAD_S)
            patient.json("POST", _path(self.name, "load"), {"parameters": parameters})
        except EipackError as error:
            raise _translation(error, control.endpoint, kind) from error

    def _extracted(self) -> tuple[bytes, list[str], list[str]]:
        """Return the program's file, and the names of what it takes and gives."""
        kind, signature = self.record.kind, self.package.signature
        if kind == "torchscript":
            _require_flat(signature, native=self.record.convention == "native")
        with tempfile.TemporaryDirectory(prefix="eipack-") as folder:
            path = Path(folder) / _FILES[kind]
            # whoever loads a package has checked whom it is from, maybe with keys named for it
            reader = self.package._read_program(self.record)
            codec(kind).extract(reader, self.package.samples()[0], path)
            if len(list(path.parent.iterdir())) > 1:
                raise UnsupportedModel("Triton takes one file in a request; this ONNX has two")
            names = _indexed(signature) if kind == "torchscript" else _onnx_names(path)
            return path.read_bytes(), *names


def uploads(package: Package, program: str) -> list[Upload]:
    """Return the programs of a package that Triton may run in place of one, the best first.

    An `exported` program has its ONNX form in the package, if the package was made so.

    Raises:
        ProgramNotFound: There is none.
    """
    chosen = package.program(program)
    found = [chosen] if chosen.kind in _BACKENDS else []
    found += [one for one in package.programs if one.kind == "onnx" and one is not chosen]
    if not found:
        raise ProgramNotFound(
            f"Triton runs no {chosen.kind} program, and {package.path} has no onnx one; load it "
            'with program="torchscript", or export it again with programs=["torchscript", "onnx"]'
        )
    return [Upload(package, record) for record in found]


def configuration(
    kind: str, signature: Signature, inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, Any]:
    """Return Triton's configuration of a model that it never batches.

    Raises:
        UnsupportedModel: A tensor is of a dtype or shape that Triton has not.
    """
    return {
        "backend": _BACKENDS[kind],
        "default_model_filename": _FILES[kind],
        "max_batch_size": 0,
        "input": [_tensor(*pair) for pair in zip(inputs, signature.inputs, strict=True)],
        "output": [_tensor(*pair) for pair in zip(outputs, signature.outputs, strict=True)],
    }


def _tensor(name: str, spec: TensorSpec) -> dict[str, Any]:
    described = oip.describe(spec)
    if not spec.shape:
        raise UnsupportedModel(f"{spec.name!r} has no axis, and Triton has no such tensors")
    return {"name": name, "data_type": f"TYPE_{described['datatype']}", "dims": described["shape"]}


def _indexed(signature: Signature) -> tuple[list[str], list[str]]:
    """Name inputs and outputs by position, which its PyTorch backend takes for any program."""
    inputs = [f"INPUT__{index}" for index in range(len(signature.inputs))]
    return inputs, [f"OUTPUT__{index}" for index in range(len(signature.outputs))]


def _require_flat(signature: Signature, *, native: bool) -> None:
    """Refuse nested calls, which a TorchScript program has that keeps the model's own."""
    takes, gives = signature.input_tree, signature.output_tree
    flat = takes.is_flat and signature.positional == len(takes.children) and gives.is_flat
    if native and not (flat and gives.kind in ("tensor", "tuple", "list", "namedtuple")):
        raise UnsupportedModel(
            "Triton takes no nested inputs and outputs of TorchScript; export the package with "
            'programs=["onnx"] too'
        )


def _onnx_names(path: Path) -> tuple[list[str], list[str]]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {one.name for one in graph.initializer}
    inputs = [one.name for one in graph.input if one.name not in weights]
    return inputs, [one.name for one in graph.output]


def _path(model: str, verb: str) -> str:
    return f"v2/repository/models/{quote(model, safe='')}/{verb}"


def _translation(error: EipackError, endpoint: Endpoint, kind: str) -> EipackError:
    """Return what Triton means by refusing to load a model."""
    status = getattr(error, "status", None)
    if status is None:
        return error
    said = str(error).lower()
    if status == 413 or any(words in said for words in _TOO_LARGE):
        return AcceleratorFull(f"{error}; start it with a larger --http-max-input-size")
    if status in (401, 403, 404) or any(words in said for words in _NO_LOADING):
        return AcceleratorDenied(f"the Triton at {endpoint} loads no models on request; {_ALLOW}")
    if any(words in said for words in _NO_BACKEND):
        return UnsupportedModel(
            f"the Triton at {endpoint} has no {_BACKENDS[kind]} backend, which {kind} programs "
            "need; install it there, or attach the server with --model and a model that it has"
        )
    return UnsupportedModel(f"Triton cannot load the {kind} program: {error}")


@define(eq=False)
class _Shared:
    """A model that sessions of this process use; `ours` is one that this process has loaded."""

    lock: RLock = field(factory=RLock)
    sessions: int = 0
    ours: bool = False


_shared: dict[tuple[Endpoint, str], _Shared] = {}
os.register_at_fork(after_in_child=_shared.clear)  # a child unloads nothing of its parent's


class Hold:
    """One session's hold on a model: the last that lets go unloads what this process loaded."""

    def __init__(self, upload: Upload, endpoint: Endpoint) -> None:
        self.upload = upload
        self._one = _shared.setdefault((endpoint, upload.name), _Shared())
        self._counted = False

    def ensure(self, control: Control) -> None:
        """Have the model there, sent if it is not; again after the server has lost it.

        Raises:
            EipackError: As for `Upload.send`.
        """
        with self._one.lock:
            if not is_ready(control, self.upload.name):
                self.upload.send(control)
                self._one.ours = True
            if not self._counted:
                self._counted = True
                self._one.sessions += 1

    def release(self, control: Control) -> None:
        """Let go of the model.

        Raises:
            EipackError: It was to be unloaded, and was not.
        """
        with self._one.lock:
            if not self._counted:
                return
            self._counted = False
            self._one.sessions -= 1
            if self._one.sessions or not self._one.ours:
                return
            self._one.ours = False
            control.json("POST", _path(self.upload.name, "unload"), {})
