"""Fresh inputs for parity, with values that each input accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn

from eipack.capture.dims import Shapes
from eipack.capture.reference import Reference
from eipack.errors import EipackError, ParityInputsRequired


def _as_tuple(values: Iterable[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


@frozen
class InputSpec:
    """What values an input accepts: `low` to `high` inclusive, or one of `values`."""

    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] | None = field(default=None, converter=_as_tuple)

    @classmethod
    def of(cls, spec: InputSpec | Mapping[str, Any]) -> InputSpec:
        """Read a mapping with `low`, `high` and `values`.

        Raises:
            ParityInputsRequired: It has other keys, or neither a range nor values.
        """
        if isinstance(spec, InputSpec):
            return spec._checked()
        if not isinstance(spec, Mapping):
            raise ParityInputsRequired(
                f"an input spec is {spec!r}; pass a dict with low and high, or values"
            )
        unknown = set(spec) - {"low", "high", "values"}
        if unknown:
            raise ParityInputsRequired(
                f"input spec has {sorted(unknown)}; known: low, high, values"
            )
        values = spec.get("values")
        if values is not None and (isinstance(values, str) or not isinstance(values, Iterable)):
            raise ParityInputsRequired(f"an input spec has the values {values!r}; pass a list")
        return cls(**spec)._checked()

    def _checked(self) -> InputSpec:
        for number in (self.low, self.high, *(self.values or ())):
            if number is not None and not isinstance(number, Real):
                raise ParityInputsRequired(f"an input spec has {number!r}; pass numbers")
        if self.values is None and (self.low is None or self.high is None):
            raise ParityInputsRequired("an input spec needs low and high, or values")
        if self.values is None and self.low is not None and self.low > (self.high or 0.0):
            raise ParityInputsRequired(f"an input spec has low {self.low} above high {self.high}")
        if self.values is not None and not self.values:
            raise ParityInputsRequired("an input spec has an empty list of values")
        return self


class Drawer:
    """Draw inputs for given sizes: by spec, by the vocabulary of an embedding, or like the sample.

    A floating input is drawn normal with the sample's mean and deviation, within the
    sample's own sign; one with infinities from the sample's own values. An integer one is drawn
    from the range of the embedding it indexes (seen by running the model), else from
    the sample's range. A constant one of zeros or ones, integer or boolean, is taken for a mask
    and drawn from both if the model takes that without an error or NaN, else kept.
    """

    def __init__(
        self, reference: Reference, shapes: Shapes, specs: Mapping[str, Any] | None = None
    ) -> None:
        self._examples = reference.examples
        self._shapes = shapes
        self._specs = {name: InputSpec.of(spec) for name, spec in (specs or {}).items()}
        unknown = sorted(set(self._specs) - set(reference.examples.names))
        if unknown:
            raise ParityInputsRequired(
                f"input_specs names {unknown[0]!r}; the inputs are "
                f"{', '.join(reference.examples.names)}"
            )
        tables = vocabularies(reference)
        self._specs = {n: InputSpec(0, size - 1) for n, size in tables.items()} | self._specs
        self._masks: frozenset[str] = frozenset()
        self._masks = self._find_masks(reference)

    @property
    def specs(self) -> Mapping[str, InputSpec]:
        """What inputs accept, as far as the caller said it or an embedding shows it."""
        return self._specs

    def draw(self, sizes: Mapping[str, int], seed: int) -> list[Tensor]:
        """Return one call's tensors for the dimensions."""
        generator = torch.Generator().manual_seed(seed)
        shapes = self._shapes.at(sizes)
        return [
            self._draw(name, sample, shape, generator)
            for name, sample, shape in zip(
                self._examples.names, self._examples.leaves, shapes, strict=True
            )
        ]

    def _draw(
        self, name: str, sample: Tensor, shape: tuple[int, ...], generator: torch.Generator
    ) -> Tensor:
        if name in self._masks:
            return draw_mask(sample, shape, generator)
        return draw_like(sample, shape, generator, self._specs.get(name))

    def _find_masks(self, reference: Reference) -> frozenset[str]:
        """Try each input that might be a mask on its own."""
        found: set[str] = set()
        for index, (name, leaf) in enumerate(
            zip(self._examples.names, self._examples.leaves, strict=True)
        ):
            if name in self._specs or not like_mask(leaf):
                continue
            if _accepts(reference, with_mask(self._examples.leaves, index)):
                found.add(name)
        return frozenset(found)


def draw_like(
    sample: Tensor, shape: tuple[int, ...], generator: torch.Generator, spec: InputSpec | None
) -> Tensor:
    """Draw by a spec, or else like a sample."""
    if spec is not None:
        return _by_spec(spec, sample.dtype, shape, generator)
    if sample.is_complex():
        parts = torch.randn((*shape, 2), generator=generator, dtype=torch.float64)
        return torch.view_as_complex(parts).to(sample.dtype)
    if sample.is_floating_point():
        return _floating(sample, shape, generator)
    return integers(*span(sample), shape, sample.dtype, generator)


_WORD = 2**63


def span(leaf: Tensor) -> tuple[int, int]:
    """Return the least and the largest integer of a tensor; numpy knows every unsigned dtype."""
    array = leaf.numpy()
    return int(array.min()), int(array.max())


def integers(
    low: int, high: int, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw integers from `low` to `high` inclusive, whatever of the dtype's range that is."""
    if dtype == torch.uint64:  # as int64 with the first bit flipped
        signed = integers(low - _WORD, high - _WORD, shape, torch.int64, generator)
        return (signed ^ -_WORD).view(torch.uint64)
    if high < _WORD - 1:
        return torch.randint(low, high + 1, shape, generator=generator).to(dtype)
    if low > -_WORD:
        return (torch.randint(low - 1, high, shape, generator=generator) + 1).to(dtype)
    return torch.randint(low, high, shape, generator=generator).to(dtype)


def like_mask(leaf: Tensor) -> bool:
    """Tell whether it may be a mask: nothing but zeros, or nothing but ones."""
    if leaf.is_floating_point() or leaf.is_complex() or leaf.dim() < 2:
        return False
    low, high = span(leaf)
    return low == high and high in (0, 1)


def with_mask(leaves: Sequence[Tensor], index: int) -> list[Tensor]:
    """Return the tensors with the one at `index` as different from itself as a draw can be."""
    changed = list(leaves)
    changed[index] = leaves[index].clone()
    changed[index][..., 1:] = 1 - leaves[index][..., 1:].long()
    return changed


def draw_mask(sample: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw the other value in a quarter of all places, never first in a row."""
    usual = int(sample.flatten()[0])
    drawn = torch.where(torch.rand(shape, generator=generator) < 0.25, 1 - usual, usual)
    drawn[..., :1] = usual
    return drawn.to(sample.dtype)


def _accepts(reference: Reference, leaves: Sequence[Tensor]) -> bool:
    try:
        outputs = reference(leaves)
    except EipackError:
        return False
    floats = (leaf for leaf in outputs.leaves if leaf.is_floating_point())
    return not any(bool(leaf.double().isnan().any()) for leaf in floats)


def _by_spec(
    spec: InputSpec, dtype: torch.dtype, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    if spec.values is not None:
        table = torch.tensor(spec.values, dtype=torch.float64)
        index = torch.randint(0, len(spec.values), shape, generator=generator)
        return table[index].to(dtype)
    low, high = float(spec.low or 0), float(spec.high or 0)
    if dtype.is_floating_point:
        unit = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (low + unit * (high - low)).to(dtype)
    return integers(int(spec.low or 0), int(spec.high or 0), shape, dtype, generator)


def _floating(sample: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = sample.double()
    if not bool(values.isfinite().all()):
        index = torch.randint(0, values.numel(), shape, generator=generator)
        return sample.flatten()[index]
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    if sample.numel() < 2 or values.std() == 0:
        constant = float(values.flatten()[0])
        drawn = normal if constant == 0 else constant * (1 + normal.abs())
    else:
        drawn = values.mean() + values.std() * normal
        if values.min() >= 0:
            drawn = drawn.abs()
        elif values.max() <= 0:
            drawn = -drawn.abs()
        if values.min() >= 0 and values.max() <= 1:
            drawn = drawn.clamp(0, 1)
    return drawn.to(sample.dtype)


def vocabularies(reference: Reference) -> dict[str, int]:
    """Find which integer inputs index an embedding, and the smallest table of each.

    An input is recognised by its values arriving unchanged at an `nn.Embedding`.
    """
    if reference.origin != "eager":
        return {}
    found: dict[str, int] = {}
    leaves = [leaf.clone() for leaf in reference.examples.leaves]

    def watch(module: nn.Module, args: tuple[Any, ...]) -> None:
        index = args[0] if args else None
        if not isinstance(index, Tensor) or not isinstance(module, nn.Embedding):
            return
        for name, leaf in zip(reference.examples.names, leaves, strict=True):
            alike = index.dtype == leaf.dtype and index.numel() == leaf.numel()
            if alike and torch.equal(index.flatten(), leaf.flatten()):
                size = module.num_embeddings
                found[name] = min(found.get(name, size), size)

    modules = [m for m in reference.module.modules() if isinstance(m, nn.Embedding)]
    handles = [module.register_forward_pre_hook(watch) for module in modules]
    try:
        if modules:
            reference(leaves)
    finally:
        for handle in handles:
            handle.remove()
    return found
