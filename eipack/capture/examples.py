"""The example inputs of a capture: given, or derived from the model itself."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from eipack.errors import ExampleInputsRequired, ParityInputsRequired, UnsupportedModel
from eipack.tree import Tree, describe, unflatten


@frozen
class Examples:
    """One call of the model: its parameters in order and the tensors in them.

    `names` are dotted paths (`batch.0`), `identifiers` the same as Python names.
    """

    tree: Tree
    leaves: tuple[Tensor, ...]
    names: tuple[str, ...]
    positional: int

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Return the names as distinct Python identifiers."""
        return distinct(_identifier(name) for name in self.names)

    def nest(self, leaves: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return tensors as the arguments of the model's call."""
        values = unflatten(self.tree, iter(leaves))
        first = tuple(values[key] for key in self.tree.keys[: self.positional])
        return first, {str(key): values[key] for key in self.tree.keys[self.positional :]}

    def with_leaves(self, leaves: Sequence[Tensor]) -> Examples:
        """Return the same call with other tensors."""
        return evolve(self, leaves=tuple(leaves))


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Append a number to each name that an earlier one has, such that no two are equal."""
    wanted = list(names)
    issued: dict[str, None] = {}
    for name in wanted:
        chosen, number = name, 0
        while chosen in issued or (number and chosen in wanted):
            number += 1
            chosen = f"{name}_{number}"
        issued[chosen] = None
    return tuple(issued)


def _identifier(name: str) -> str:
    base = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not base or base[0].isdigit():
        return f"input_{base}"
    return f"{base}_" if keyword.iskeyword(base) else base


def examples(
    model: nn.Module, inputs: Any | None, kwargs: Mapping[str, Any] | None, device: str = "cpu"
) -> Examples:
    """Build the examples from a tuple of arguments, a mapping of keywords, one tensor, or none.

    Raises:
        ExampleInputsRequired: None were given and the model offers none.
        UnsupportedModel: Something in them is neither a tensor, a constant nor a container.
        ParityInputsRequired: They hold NaN.
    """
    args, keywords = _split(inputs, kwargs)
    if not args and not keywords:
        args, keywords = derive(model)
    _require_fit(model, args, keywords)
    names = _parameter_names(model, len(args))
    values = dict(zip(names, args, strict=True))
    values.update(keywords)
    tree, leaves, paths = describe(values, constants=True)
    if not leaves:
        raise ExampleInputsRequired("the example inputs hold no tensor; pass at least one")
    for path, leaf in zip(paths, leaves, strict=True):
        _check_leaf(path, leaf)
    return Examples(
        tree=tree,
        leaves=tuple(leaf.detach().to(device) for leaf in leaves),
        names=distinct(paths),
        positional=len(args),
    )


def _split(
    inputs: Any | None, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    keywords = dict(kwargs or {})
    if inputs is None:
        return (), keywords
    if isinstance(inputs, Tensor):
        return (inputs,), keywords
    if isinstance(inputs, Mapping):
        return (), {**{str(key): value for key, value in inputs.items()}, **keywords}
    if isinstance(inputs, tuple | list):
        return tuple(inputs), keywords
    raise UnsupportedModel(
        f"inputs is a {type(inputs).__name__}; pass a tuple of arguments, or a dict of keywords"
    )


def _require_fit(model: nn.Module, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Hold a call to the signature of a Python forward; others say for themselves."""
    if isinstance(model, torch.jit.ScriptModule):
        return
    try:
        inspect.signature(model.forward).bind(*args, **keywords)
    except TypeError as error:
        raise ExampleInputsRequired(
            f"the example inputs do not fit {type(model).__name__}.forward"
            f"{inspect.signature(model.forward)}: {error}"
        ) from error


def _check_leaf(path: str, leaf: Tensor) -> None:
    if leaf.layout is not torch.strided or leaf.device.type == "meta" or leaf.is_quantized:
        raise UnsupportedModel(f"example input {path!r} is not a plain dense tensor")
    if not leaf.numel():
        raise ExampleInputsRequired(
            f"example input {path!r} is empty {tuple(leaf.shape)}; pass one with values in it"
        )
    if (leaf.is_floating_point() or leaf.is_complex()) and bool(leaf.isnan().any()):
        raise ParityInputsRequired(f"example input {path!r} holds NaN; nothing can be proved on it")


def _parameter_names(model: nn.Module, count: int) -> list[str]:
    """Name the first `count` positional parameters of the model's forward."""
    if isinstance(model, torch.jit.ScriptModule):
        names = [argument.name for argument in model._c._get_method("forward").schema.arguments][1:]
        variadic = None
    else:
        parameters = inspect.signature(model.forward).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [parameter.name for parameter in parameters if parameter.kind in kinds]
        variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    if count > len(names) and variadic is None:
        raise ExampleInputsRequired(
            f"{count} inputs were given, {type(model).__name__}.forward takes {len(names)}: "
            f"{', '.join(names) or 'none'}"
        )
    extra = [f"{variadic}_{index}" for index in range(count - len(names))]
    return (names + extra)[:count]


def derive(model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Find example inputs in what the model's library left on it.

    Sources: `example_input_array` (Lightning), `dummy_inputs` and the image size in the
    configuration (transformers), and the input size in the metadata of torchvision's
    pretrained weights.

    Raises:
        ExampleInputsRequired: There is none.
    """
    array = getattr(model, "example_input_array", None)
    if array is not None:
        return _split(array, None)
    main, shape = getattr(model, "main_input_name", None), _configured_shape(model)
    if main == "pixel_values" and shape is not None:
        return (), {main: _normal(shape, model)}
    dummies = getattr(model, "dummy_inputs", None)
    if isinstance(dummies, Mapping) and dummies:
        if isinstance(main, str) and main not in dummies:  # transformers' own are for text
            raise ExampleInputsRequired(
                f"no example inputs for {type(model).__name__}: its main input is {main!r}, whose "
                f"size it does not tell; pass inputs={{{main!r}: tensor}}"
            )
        return (), dict(dummies)
    shape = _torchvision_shape(model)
    if shape is not None:
        return (_normal(shape, model),), {}
    raise ExampleInputsRequired(
        f"no example inputs for {type(model).__name__}: pass inputs=(tensor, …) with the "
        "arguments of one call (or a dict of keywords)"
    )


def _normal(shape: Sequence[int], model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    return torch.randn(tuple(shape), generator=generator).to(dtype)


def _configured_shape(model: nn.Module) -> tuple[int, ...] | None:
    """Read the size of one image from a transformers configuration."""
    config = getattr(model, "config", None)
    size, channels = getattr(config, "image_size", None), getattr(config, "num_channels", 3)
    if hasattr(config, "num_frames") or not isinstance(channels, int):
        return None
    sides = (size, size) if isinstance(size, int) else size
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        return None
    return (1, channels, *sides)


def _torchvision_shape(model: nn.Module) -> tuple[int, ...] | None:
    """Read the input size of a torchvision model from the weights that fit its class.

    Videos and other tasks whose weights state no single size give None.
    """
    if not type(model).__module__.startswith("torchvision.models"):
        return None
    from torchvision.models import get_model_builder, get_model_weights, list_models

    size = getattr(model, "image_size", None)  # vision transformers fix theirs
    for name in list_models():
        if get_model_builder(name).__module__ != type(model).__module__:
            continue
        for entry in get_model_weights(name):
            known = getattr(entry.transforms, "keywords", {})
            segments = ".segmentation." in type(model).__module__  # it is given whole images
            crop = known.get("resize_size" if segments else "crop_size")
            if isinstance(crop, int):
                side = size if isinstance(size, int) else crop
                return (1, 3, side, side)
    return None
