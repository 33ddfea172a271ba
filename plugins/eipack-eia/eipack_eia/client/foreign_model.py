"""What a server that is not eipack's says it can do, and whether a model there fits a package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import msgspec
from attrs import frozen

from eipack.errors import EipackError, ProgramNotFound, ProtocolError, SignatureMismatch
from eipack.signature import DimSize, Signature, Size, TensorSpec
from eipack_eia import oip
from eipack_eia.client.control import Control
from eipack_eia.endpoint import Endpoint

_BINARY: Final = "binary_tensor_data"
_REPOSITORY: Final = "model_repository"
_ABSENT: Final = ("unknown model", "is not found", "not at ready state", "is not ready")

_NOT_READY: Final = (400, 500, 503)
"""What servers answer for a model that is not ready; the protocol does not say which."""


class _Server(msgspec.Struct, frozen=True):
    name: str
    version: str = ""
    extensions: list[str] = []


class Declared(msgspec.Struct, frozen=True):
    """A tensor as a model's metadata declare it; -1 is a size that varies."""

    name: str
    datatype: str
    shape: list[int]

    def __str__(self) -> str:
        return f"{self.name}: {self.datatype}{self.shape}"


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a server says of a model; many servers leave inputs and outputs out."""

    name: str
    platform: str = ""
    inputs: list[Declared] | None = None
    outputs: list[Declared] | None = None


@frozen
class Capabilities:
    """What a server can do: binary tensors, and taking models under `repository`."""

    name: str
    version: str
    binary: bool
    repository: bool

    def __str__(self) -> str:
        tensors = "binary tensors" if self.binary else "tensors as JSON"
        models = "takes packages" if self.repository else "runs the models it has"
        return f"{self.name} {self.version}".strip() + f": {tensors}, {models}"


@frozen
class Binding:
    """The names that a model has for a signature's inputs and outputs, in the signature's order."""

    model: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def capabilities(control: Control) -> Capabilities:
    """Ask a server what it can do; only Triton takes the files of a model in a request.

    Raises:
        ProtocolError: It does not say.
        EipackError: It cannot be asked, or refuses.
    """
    try:
        said = msgspec.convert(control.json("GET", "v2"), _Server)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the server at {control.endpoint} does not describe itself as one of the Open "
            f"Inference Protocol ({error})"
        ) from error
    takes = control.endpoint.scheme == "triton+http" and _REPOSITORY in said.extensions
    return Capabilities(said.name, said.version, _BINARY in said.extensions, takes)


def model_path(model: str) -> str:
    """Return the path of a model, whatever its name holds."""
    return f"v2/models/{quote(model, safe='')}"


def is_absent(error: EipackError) -> bool:
    """Tell whether a server's error says that it has no such model, or has it not ready."""
    status = getattr(error, "status", None)
    if isinstance(error, ProgramNotFound) or status == 404:
        return True
    return status is not None and any(words in str(error).lower() for words in _ABSENT)


def is_ready(control: Control, model: str) -> bool:
    """Tell whether a server has a model ready.

    Raises:
        EipackError: It cannot be asked, or refuses.
    """
    try:
        control.request("GET", f"{model_path(model)}/ready")
    except EipackError as error:
        if is_absent(error) or getattr(error, "status", None) in _NOT_READY:
            return False
        raise
    return True


def metadata(control: Control, model: str) -> ModelMetadata:
    """Ask a server for the metadata of a model.

    Raises:
        ProgramNotFound: It has no such model.
        ProtocolError: The metadata are none.
        EipackError: It cannot be asked, or refuses.
    """
    try:
        return msgspec.convert(control.json("GET", model_path(model)), ModelMetadata)
    except msgspec.ValidationError as error:
        raise ProtocolError(
            f"the server at {control.endpoint} describes model {model!r} oddly: {error}"
        ) from error
    except EipackError as error:
        if is_absent(error):
            raise no_model(control.endpoint, model) from error
        raise


def no_model(endpoint: Endpoint, model: str) -> ProgramNotFound:
    """Return the error for a model that is not there."""
    return ProgramNotFound(
        f"the server at {endpoint} has no model {model!r} ready; load it there, or attach the "
        "server with --model and the name of one that it has",
        model=model,
    )


def bind(model: str, found: ModelMetadata, signature: Signature) -> Binding:
    """Find a signature's inputs and outputs among a model's: by name, else in their order.

    Where a server declares none, the names of the signature are taken: what it answers then
    proves them or not.

    Raises:
        SignatureMismatch: The model takes or gives something else.
    """
    inputs = _names("input", model, signature.inputs, found.inputs or [], signature)
    outputs = _names("output", model, signature.outputs, found.outputs or [], signature)
    return Binding(model, inputs, outputs)


def _names(
    what: str,
    model: str,
    specs: Sequence[TensorSpec],
    declared: Sequence[Declared],
    signature: Signature,
) -> tuple[str, ...]:
    if not declared:
        return tuple(spec.name for spec in specs)
    pairs = _paired(what, specs, declared)
    if pairs is None:
        there, here = (", ".join(map(str, each)) or "none" for each in (declared, specs))
        raise SignatureMismatch(
            f"model {model!r} has the {what}s {there}; the package has {here}: bind the package "
            "to the model it was made from"
        )
    for spec, one in pairs:
        reason = _difference(spec, one, signature)
        if reason:
            raise SignatureMismatch(
                f"{what} {spec.name!r} of the package is {one.name!r} of model {model!r}: {reason}"
            )
    return tuple(one.name for _, one in pairs)


def _paired(
    what: str, specs: Sequence[TensorSpec], declared: Sequence[Declared]
) -> list[tuple[TensorSpec, Declared]] | None:
    """Pair them by name where all names are there, in order where none is; outputs may be left."""
    there = {one.name: one for one in declared}
    shared = [spec.name in there for spec in specs]
    as_many = len(there) == len(declared) == len(specs)
    if all(shared) and (as_many or what == "output"):
        return [(spec, there[spec.name]) for spec in specs]
    return list(zip(specs, declared, strict=True)) if as_many and not any(shared) else None


def _difference(spec: TensorSpec, one: Declared, signature: Signature) -> str:
    """Say in what a model's tensor differs from the signature's, if it does."""
    datatype = oip.describe(spec)["datatype"]
    if one.datatype != datatype:
        return f"its datatype is {one.datatype}, expected {datatype}"
    if len(one.shape) != len(spec.shape):
        return f"it has {len(one.shape)} axes {one.shape}, expected {len(spec.shape)}"
    for axis, (size, wanted) in enumerate(zip(one.shape, spec.shape, strict=True)):
        if size >= 0 and not _fits(size, wanted, signature):
            return f"its size on axis {axis} is {size}, expected {wanted}"
    return ""


def _fits(size: int, wanted: Size, signature: Signature) -> bool:
    if not isinstance(wanted, DimSize):
        return wanted is None or size == wanted
    dim = signature.dim(wanted.dim)
    return dim.min == dim.max and size == wanted.at({dim.name: dim.min})
