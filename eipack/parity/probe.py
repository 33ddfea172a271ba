"""Questions to the model itself, before it is captured: is it a function of its inputs?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import torch
from torch import Tensor, nn

from eipack.capture.reference import Outputs, Reference
from eipack.errors import ModelInTrainingMode, NondeterministicModel, StatefulModel
from eipack.parity.draw import Drawer
from eipack.parity.tolerance import compare

_TRAINING_ONLY = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
)


def probe(reference: Reference, drawer: Drawer, sizes: dict[str, int]) -> Outputs:
    """Call the model with A, A, B, A; return what it gave for the examples.

    Raises:
        ModelInTrainingMode: Dropout or batch statistics are on.
        NondeterministicModel: Equal inputs gave different outputs by random numbers.
        StatefulModel: A call changed the model's tensors, or what it answers next.
    """
    check_training(reference.module)
    examples = list(reference.examples.leaves)
    other = drawer.draw(sizes, seed=1)
    with unchanged(reference.module), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        first = reference(examples)
        random = not torch.equal(before, torch.get_rng_state())
        again = reference(examples)
        reference(other)
        third = reference(examples)
    if not (_equal(first, again) and _equal(first, third)):
        raise _instability(reference.module, random)
    return first


def _instability(module: nn.Module, random: bool) -> Exception:
    if module.training:
        return ModelInTrainingMode(
            "equal inputs give different outputs and the model is in training mode; "
            "call model.eval() first"
        )
    if random:
        return NondeterministicModel(
            "equal inputs give different outputs: the model draws random numbers in eval mode; "
            "pass the noise as an input instead"
        )
    return StatefulModel(
        "equal inputs give different outputs though no random numbers are drawn: the model "
        "keeps state between calls; pass the state as an input and return it"
    )


def check_training(module: nn.Module) -> None:
    """Refuse modules whose training mode changes what they compute."""
    for name, part in module.named_modules():
        if part.training and isinstance(part, _TRAINING_ONLY) and getattr(part, "p", 1) != 0:
            raise ModelInTrainingMode(
                f"{type(part).__name__} at {name or 'the top'!r} is in training mode; "
                "call model.eval() first",
                module=name,
            )


def _equal(left: Outputs, right: Outputs) -> bool:
    return left.tree == right.tree and all(
        compare(a, b).agrees for a, b in zip(left.leaves, right.leaves, strict=True)
    )


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Run the body; put back every tensor of the module that it changed, and say so.

    Covers parameters, buffers, and tensors that are plain attributes.

    Raises:
        StatefulModel: Something was changed.
    """
    kept = [(name, tensor, tensor.detach().clone()) for name, tensor in _all_tensors(module)]
    slots = {(id(part), key): value for part, key, value in _slots(module)}
    try:
        yield
    finally:
        names = _restore_slots(module, slots)
        for name, tensor, copy in kept:
            if not _same_bytes(tensor, copy):
                tensor.data.copy_(copy)
                names.append(name)
    if names:
        raise StatefulModel(
            f"a call changes the model's own tensor {names[0]!r}; a package keeps no state: "
            "pass it as an input and return it",
            tensors=names,
        )


def _same_bytes(left: Tensor, right: Tensor) -> bool:
    if left.is_quantized or left.layout is not torch.strided:
        return True
    left, right = left.detach().contiguous(), right.contiguous()
    return torch.equal(left.view(-1).view(torch.uint8), right.view(-1).view(torch.uint8))


def _all_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        yield from part.named_parameters(prefix=name, recurse=False, remove_duplicate=False)
        yield from part.named_buffers(prefix=name, recurse=False, remove_duplicate=False)
        if not isinstance(part, torch.jit.ScriptModule):
            for key, value in vars(part).items():
                if isinstance(value, Tensor):
                    yield prefix + key, value


def _slots(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Give buffers as they hang on their module, since forward may hang up another tensor."""
    if isinstance(module, torch.jit.ScriptModule):
        return
    for part in module.modules():
        for key, value in part._buffers.items():
            if value is not None:
                yield part, key, value


def _restore_slots(module: nn.Module, slots: dict[tuple[int, str], Tensor]) -> list[str]:
    swapped = []
    for part, key, value in list(_slots(module)):
        original = slots.get((id(part), key))
        if original is not None and original is not value:
            part._buffers[key] = original
            swapped.append(key)
    return swapped
