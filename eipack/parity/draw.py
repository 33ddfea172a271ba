"""Fresh inputs for parity: which sizes to test, and values that each input accepts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn

from eipack.capture.dims import Shapes
from eipack.capture.reference import Reference
from eipack.errors import ParityInputsRequired
from eipack.signature import Dim

EXHAUSTIVE = 24
"""Up to so many combinations of sizes, all of them are tested."""


@frozen
class InputSpec:
    """What values an input accepts: `low` to `high` inclusive, or one of `values`."""

    low: float | None = None
    high: float | None = None
    values: tuple[float, ...] | None = field(
        default=None, converter=lambda v: None if v is None else tuple(v)
    )

    @classmethod
    def of(cls, spec: InputSpec | Mapping[str, Any]) -> InputSpec:
        """Read a mapping with `low`, `high` and `values`.

        Raises:
            ParityInputsRequired: It has other keys, or neither a range nor values.
        """
        if isinstance(spec, InputSpec):
            return spec._checked()
        unknown = set(spec) - {"low", "high", "values"}
        if unknown:
            raise ParityInputsRequired(f"input spec has {sorted(unknown)}; known: low, high, values")
        return cls(**spec)._checked()

    def _checked(self) -> InputSpec:
        if self.values is None and (self.low is None or self.high is None):
            raise ParityInputsRequired("an input spec needs low and high, or values")
        if self.values is None and self.low is not None and self.low > (self.high or 0.0):
            raise ParityInputsRequired(f"an input spec has low {self.low} above high {self.high}")
        if self.values is not None and not self.values:
            raise ParityInputsRequired("an input spec has an empty list of values")
        return self


def size_plan(dims: tuple[Dim, ...], sample: Mapping[str, int]) -> list[dict[str, int]]:
    """List the sizes to test: the sample, each bound, the middle; small ranges exhaustively.

    Beyond `EXHAUSTIVE` combinations each dimension runs through its bounds and middle while
    the others stay smallest; all of them at their largest together only if that is
    at most 4096 in all, since cost grows with the product.
    """
    plan = [dict(sample)]
    ranges = {dim.name: _sizes(dim, sample[dim.name]) for dim in dims}
    full = {dim.name: _all_sizes(dim) for dim in dims}
    total = 1
    for sizes in full.values():
        total *= len(sizes) if sizes else EXHAUSTIVE + 1
    if total <= EXHAUSTIVE:
        choices = [full[dim.name] or () for dim in dims]
        plan += [dict(zip(full, sizes, strict=True)) for sizes in itertools.product(*choices)]
    else:
        smallest = {name: sizes[0] for name, sizes in ranges.items()}
        plan.append(smallest)
        for name, sizes in ranges.items():
            plan += [{**smallest, name: size} for size in sizes]
        largest = {name: sizes[-1] for name, sizes in ranges.items()}
        product = 1
        for size in largest.values():
            product *= size
        if product <= 4096:
            plan.append(largest)
    return [dict(key) for key in dict.fromkeys(tuple(sizes.items()) for sizes in plan)]


def _all_sizes(dim: Dim) -> tuple[int, ...] | None:
    if dim.sizes is not None:
        return dim.sizes
    if dim.max is None or dim.max - dim.min >= EXHAUSTIVE:
        return None
    return tuple(range(dim.min, dim.max + 1))


def _sizes(dim: Dim, sample: int) -> list[int]:
    if dim.sizes is not None:
        return sorted(dim.sizes)
    top = dim.max if dim.max is not None else max(2 * sample + 1, dim.min + 7)
    return sorted({dim.min, min(dim.min + 1, top), sample, (dim.min + top) // 2, top})


class Drawer:
    """Draw inputs for given sizes: by spec, by the vocabulary of an embedding, or like the sample.

    A floating input is drawn normal with the sample's mean and deviation, within the
    sample's own sign; an integer one from the range of the embedding it indexes (seen by
    running the model), else from the sample's range; a boolean one keeps a constant sample.
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
        self._vocabularies = vocabularies(reference)

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
        spec = self._specs.get(name)
        if spec is not None:
            return _by_spec(spec, sample.dtype, shape, generator)
        if sample.dtype is torch.bool:
            return _boolean(sample, shape, generator)
        if sample.is_complex():
            parts = torch.randn((*shape, 2), generator=generator, dtype=torch.float64)
            return torch.view_as_complex(parts).to(sample.dtype)
        if sample.is_floating_point():
            return _floating(sample, shape, generator)
        low, high = int(sample.min()), int(sample.max())
        if name in self._vocabularies:
            low, high = 0, self._vocabularies[name] - 1
        return torch.randint(low, high + 1, shape, generator=generator).to(sample.dtype)


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
    return torch.randint(int(low), int(high) + 1, shape, generator=generator).to(dtype)


def _boolean(sample: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if bool(sample.all()) or not bool(sample.any()):
        return torch.full(shape, bool(sample.flatten()[0]))
    return torch.randint(0, 2, shape, generator=generator).bool()


def _floating(sample: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = sample.double()
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
        if 0 <= values.min() and values.max() <= 1:
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
            if index.dtype == leaf.dtype and index.numel() == leaf.numel():
                if torch.equal(index.flatten(), leaf.flatten()):
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


def user_draws(
    parity_inputs: Any, reference: Reference, shapes: Shapes
) -> Iterator[tuple[dict[str, int], list[Tensor]]]:
    """Read the caller's own parity inputs: an iterable of argument tuples or keyword dicts.

    Raises:
        ParityInputsRequired: They miss a bound of a dynamic dimension.
        UnsupportedModel, ExampleInputsRequired: One does not have the examples' structure.
    """
    from eipack.capture.examples import examples

    seen: dict[str, set[int]] = {dim.name: set() for dim in shapes.dims}
    drawn = []
    for item in parity_inputs:
        call = examples(reference.module, item, None)
        if call.tree != reference.examples.tree:
            raise ParityInputsRequired("a parity input has another structure than the examples")
        sizes = shapes.sample_sizes(call)
        for name, size in sizes.items():
            seen[name].add(size)
        drawn.append((sizes, list(call.leaves)))
    if not drawn:
        raise ParityInputsRequired("parity_inputs is empty")
    for dim in shapes.dims:
        missing = sorted({dim.min, dim.max or dim.min} - seen[dim.name])
        if missing:
            raise ParityInputsRequired(
                f"parity_inputs never has {dim.name} = {missing[0]}, a bound of {dim}"
            )
    yield from drawn
