"""Calls by the signature's names: tensors as NumPy arrays and back, copied only if need be.

NumPy has no bfloat16 of its own: such outputs are arrays of `ml_dtypes.bfloat16`, and inputs may
be such arrays or tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from eipack_serving.failures import BadRequest

if TYPE_CHECKING:
    from eipack.session import Session

Array = np.ndarray[Any, Any]
_BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
Inputs = Mapping[str, Array | Tensor]


def by_name(session: Session, inputs: Inputs) -> dict[str, Array]:
    """Run a session once, inputs and outputs by name.

    Raises:
        BadRequest: A name is missing or unknown, or a value is no tensor.
        EipackError: The call failed.
    """
    return named(session, session.run_flat(*leaves_of(session, inputs)))


def leaves_of(session: Session, inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the inputs as tensors in signature order.

    Raises:
        BadRequest: A name is missing or unknown, or a value is no tensor.
    """
    names = [spec.name for spec in session.signature.inputs]
    if set(inputs) != set(names):
        given = ", ".join(sorted(map(str, inputs))) or "no inputs"
        raise BadRequest(f"{given} given; {session.package.name} takes {', '.join(names)}")
    return tuple(tensor_from(name, inputs[name]) for name in names)


def named(session: Session, outputs: Sequence[Tensor]) -> dict[str, Array]:
    """Return outputs in signature order as arrays by name."""
    specs = session.signature.outputs
    return {spec.name: array_of(leaf) for spec, leaf in zip(specs, outputs, strict=True)}


def tensor_from(name: str, value: Any) -> Tensor:
    """Return an input as a tensor.

    Raises:
        BadRequest: It is neither an array nor a tensor, or of a dtype that torch lacks.
    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray | np.generic):
        raise BadRequest(
            f"input {name!r} is a {type(value).__name__}; give a NumPy array or a tensor"
        )
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()  # torch takes neither
    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise BadRequest(f"input {name!r} has dtype {array.dtype}, which no model takes") from error


def array_of(tensor: Tensor) -> Array:
    """Return an output as an array in this host's memory."""
    here = tensor.detach().cpu()
    if here.dtype is not torch.bfloat16:
        return here.numpy()
    return here.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
