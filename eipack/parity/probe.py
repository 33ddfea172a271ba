"""Questions to the model itself, before it is captured: is it a function of its inputs?"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import nn

from eipack.capture.preserve import Snapshot, Surroundings, same_bytes, version
from eipack.capture.reference import Reference
from eipack.errors import (
    EipackError,
    ModelInTrainingMode,
    NondeterministicModel,
    StatefulModel,
)
from eipack.parity.draw import Drawer
from eipack.parity.gate import alike

_TRAINING_ONLY = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
)


def probe(reference: Reference, snapshot: Snapshot, drawer: Drawer, sizes: dict[str, int]) -> None:
    """Call the model with A, A, B, A, and put it back as it was in the snapshot.

    Raises:
        ModelInTrainingMode: Dropout or batch statistics are on.
        NondeterministicModel: The model draws random numbers, even if its answers hide it.
        StatefulModel: A call changed the model's tensors, or what it answers next.
    """
    check_training(reference.module)
    surroundings = Surroundings()
    stable = _answers_alike(reference, drawer.draw(sizes, seed=1))
    names, random = snapshot.restore(), surroundings.randomness_used()
    if random and _certain_in_eval(reference, snapshot):
        seen = "equal inputs give different outputs" if not stable else "random numbers are drawn"
        raise ModelInTrainingMode(
            f"{seen} because the model is in training mode; call model.eval() first"
        )
    if names:
        raise StatefulModel(
            f"a call changes the model's own tensor {names[0]!r}; a package keeps no state: "
            "pass it as an input and return it",
            tensors=names,
        )
    if not stable and random:
        raise NondeterministicModel(
            "equal inputs give different outputs: the model draws random numbers even in eval "
            "mode; pass the noise as an input instead"
        )
    if random:
        raise NondeterministicModel(
            "the model draws random numbers even in eval mode, though equal inputs gave equal "
            "outputs here; pass the noise as an input, or remove the draw if nothing uses it"
        )
    if not stable:
        raise StatefulModel(
            "equal inputs give different outputs though no random numbers are drawn: the model "
            "keeps state between calls; pass the state as an input and return it"
        )


def _answers_alike(reference: Reference, other: list[torch.Tensor] | None = None) -> bool:
    """Call with the examples three times, once after other inputs; tell if all gave the same.

    Inputs that the model fails on are passed over here: the trials report them.
    """
    examples = reference.examples.leaves
    first, second = reference(examples), reference(examples)
    with suppress(EipackError):
        reference(examples if other is None else other)
    return alike(first, second) and alike(first, reference(examples))


def _certain_in_eval(reference: Reference, snapshot: Snapshot) -> bool:
    """Try the model in eval mode on the side, and leave it as it was."""
    if reference.origin != "eager" or not any(_trains(part) for part in reference.module.modules()):
        return False
    try:
        reference.module.eval()
        surroundings = Surroundings()
        return _answers_alike(reference) and not surroundings.randomness_used()
    except EipackError:
        return False
    finally:
        snapshot.restore()


def _trains(part: nn.Module) -> bool:
    """Tell whether a part is in training mode; frozen ones have none."""
    return bool(getattr(part, "training", False))


def check_training(module: nn.Module) -> None:
    """Refuse modules whose training mode changes what they compute.

    Raises:
        ModelInTrainingMode: There is one.
    """
    for name, part in module.named_modules():
        if _trains(part) and isinstance(part, _TRAINING_ONLY) and getattr(part, "p", 1) != 0:
            raise ModelInTrainingMode(
                f"{type(part).__name__} at {name or 'the top'!r} is in training mode; "
                "call model.eval() first",
                module=name,
            )


def written_inputs(reference: Reference) -> frozenset[int]:
    """Return the positions of the inputs that the model writes to, be it the same values."""
    with torch.inference_mode(False):  # torch counts no writes to tensors made in that mode
        leaves = [leaf.clone() for leaf in reference.examples.leaves]
    before = [version(leaf) for leaf in leaves]
    reference.call(leaves)
    return frozenset(
        index
        for index, (leaf, original) in enumerate(
            zip(leaves, reference.examples.leaves, strict=True)
        )
        if version(leaf) != before[index] or not same_bytes(leaf, original)
    )
