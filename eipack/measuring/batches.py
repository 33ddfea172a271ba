"""The same call with another number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from eipack.errors import SignatureMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from eipack.signature import Dim, Signature

Arguments = tuple[Sequence[Any], Mapping[str, Any]]


def resized(signature: Signature, arguments: Arguments, batch: int) -> Arguments:
    """Return a call's arguments with `batch` rows: its own rows in turns, as often as it takes.

    Raises:
        SignatureMismatch: The package has no dimension for the batch, that size is not in its
            range, or the arguments do not fit the package.
    """
    import torch

    dim = _batch_dim(signature)
    if dim is None:
        raise SignatureMismatch(
            f"there is no batch to make {batch} rows long: {_why_not(signature)}; leave the batch "
            "size out, or export the model with a dynamic batch"
        )
    if not dim.admits(batch):
        raise SignatureMismatch(
            f"a batch of {batch} rows is outside of what the package takes ({dim}); choose a size "
            "within it, or export the model with a wider range"
        )
    leaves = _leaves(signature, arguments)
    order = torch.arange(batch) % len(leaves[0])
    return signature.nest([leaf.index_select(0, order.to(leaf.device)) for leaf in leaves])


def rows(signature: Signature, arguments: Arguments) -> int | None:
    """Return how many rows a call has; None where the package has no dimension for the batch.

    Raises:
        SignatureMismatch: The arguments do not fit the package.
    """
    if _batch_dim(signature) is None:
        return None
    return len(_leaves(signature, arguments)[0])


def _batch_dim(signature: Signature) -> Dim | None:
    """Return the dimension that leads every input and output, the one that tuning sweeps."""
    from eipack.parity.batches import batch_dim

    return None if _why_not(signature) is not None else batch_dim(signature)


def _why_not(signature: Signature) -> str | None:
    """Say why there is no batch; which sizes the dimension admits is another question."""
    from eipack.parity.batches import why_no_batch

    without_bounds = tuple(evolve(dim, max=None, sizes=None) for dim in signature.dims)
    return why_no_batch(evolve(signature, dims=without_bounds))


def _leaves(signature: Signature, arguments: Arguments) -> tuple[Tensor, ...]:
    from eipack.enforce import Enforcer

    args, kwargs = arguments
    devices = frozenset({leaf.device.type for leaf in _tensors([*args, *kwargs.values()])})
    return Enforcer(signature, devices | {"cpu"})(tuple(args), kwargs)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
