"""Rows to put beside each other in a batch: ordinary ones, and extreme neighbours.

A row is one call's tensors, each of size 1 on axis 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from attrs import frozen
from torch import Tensor

from eipack.parity.draw import InputSpec, draw_like, draw_mask, integers, span

Row = tuple[Tensor, ...]
_T = TypeVar("_T")

_MAGNITUDES = (1e1, 1e3, 1e6, float("inf"))
"""How many times larger than the samples; infinity stands for the root of the dtype's largest."""

_FLOATING = ("infinite", "NaN")
_KINDS = ("huge", "huge negative", "tiny", *_FLOATING)
"""Kinds of neighbours; of integers, which have bounds, the first three are the highest, the
lowest and zero."""

_WHOLE = 4
"""Neighbours of each kind that are extreme in every input."""


@frozen(eq=False)
class Source:
    """Where rows come from: samples to draw like, what inputs accept, which of them are masks.

    Where calls are `given`, their rows are taken in place of drawn ones, and integers stay as
    they are in them: nothing else is known to be accepted.
    """

    names: tuple[str, ...]
    samples: tuple[Tensor, ...]
    specs: Mapping[str, InputSpec]
    masks: frozenset[str]
    given: tuple[Row, ...]
    generator: torch.Generator

    def ordinary(self, shapes: Sequence[tuple[int, ...]], count: int) -> list[Row]:
        """Return different rows of these shapes, the samples' own first if it fits."""
        if self.given:
            return spread(self.given, count)
        first = rows_of(self.samples)[0]
        fits = [tuple(leaf.shape) for leaf in first] == list(shapes)
        return [first] * fits + [self._draw(shapes) for _ in range(count - fits)]

    def _draw(self, shapes: Sequence[tuple[int, ...]]) -> Row:
        return tuple(
            draw_mask(sample, shape, self.generator)
            if name in self.masks
            else draw_like(sample, shape, self.generator, self.specs.get(name))
            for name, sample, shape in zip(self.names, self.samples, shapes, strict=True)
        )

    def extremes(
        self, shapes: Sequence[tuple[int, ...]], *, few: bool = False
    ) -> Iterator[tuple[str, list[Row]]]:
        """Give neighbours by kind: extreme in every input, and in one half of the inputs only."""
        floating = any(one.is_floating_point() or one.is_complex() for one in self.samples)
        for kind in _KINDS[:2] if few else _KINDS:
            if kind in _FLOATING and not floating:
                continue
            halves = _halves(len(self.samples))
            ordinary = self.ordinary(shapes, _WHOLE + len(halves))
            chosen = [frozenset(range(len(self.samples)))] * _WHOLE + halves
            pairs = enumerate(zip(ordinary, chosen, strict=True))
            yield kind, [self._taken_to(kind, *pair) for pair in pairs]

    def _taken_to(self, kind: str, number: int, pair: tuple[Row, frozenset[int]]) -> Row:
        row, chosen = pair
        return tuple(
            self._extreme(kind, number, index, leaf) if index in chosen else leaf
            for index, leaf in enumerate(row)
        )

    def _extreme(self, kind: str, number: int, index: int, leaf: Tensor) -> Tensor:
        name = self.names[index]
        if leaf.is_floating_point() or leaf.is_complex():
            if kind in _FLOATING:
                return self._special(kind, leaf)
            if name not in self.specs:
                return self._scaled(kind, number, leaf, self.samples[index])
        elif kind in _FLOATING or (self.given and name not in self.specs):
            return leaf
        bound = self._bound(kind, leaf, *self._range(name, index))
        return _mixed(self._normal(leaf.shape) > 0, bound, leaf) if number % 2 else bound

    def _special(self, kind: str, leaf: Tensor) -> Tensor:
        if kind == "NaN":
            return torch.full_like(leaf, torch.nan)
        signs = self._normal(leaf.shape).sign()
        return (signs * torch.inf).to(leaf.dtype)

    def _scaled(self, kind: str, number: int, leaf: Tensor, sample: Tensor) -> Tensor:
        """Take another magnitude in each row; patterned, since many models ignore a constant."""
        wide = (sample if sample.is_complex() else sample.double()).abs().double()
        typical = float(wide[wide.isfinite() & (wide > 0)].mean().nan_to_num(1.0)) or 1.0
        limits = torch.finfo(leaf.dtype)
        if kind == "tiny":
            factor = (0.0, 1e-3 * typical, limits.tiny, 0.0)[number % 4]
        else:
            factor = min(_MAGNITUDES[number % len(_MAGNITUDES)] * typical, limits.max**0.5)
            factor = -factor if kind == "huge negative" else factor
        return (
            (factor * self._normal(leaf.shape).abs()).clamp(limits.min, limits.max).to(leaf.dtype)
        )

    def _bound(self, kind: str, leaf: Tensor, low: float, high: float) -> Tensor:
        value = {"huge": high, "huge negative": low}.get(kind, min(max(low, 0), high))
        if leaf.is_floating_point() or leaf.is_complex():
            return torch.full_like(leaf, value)
        return integers(int(value), int(value), tuple(leaf.shape), leaf.dtype, self.generator)

    def _range(self, name: str, index: int) -> tuple[float, float]:
        spec = self.specs.get(name)
        if spec is None:
            return (0, 1) if name in self.masks else span(self.samples[index])
        if spec.values is not None:
            return min(spec.values), max(spec.values)
        return spec.low or 0, spec.high or 0

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)


def _halves(inputs: int) -> list[frozenset[int]]:
    """Split the inputs so that any two of them lie apart in some half; none for one input.

    A mask of zeros would hide what is extreme beside it.
    """
    bits = range((inputs - 1).bit_length())
    return [
        frozenset(index for index in range(inputs) if (index >> bit) % 2 == side)
        for bit in bits
        for side in (0, 1)
    ]


def spread(rows: Sequence[_T], count: int) -> list[_T]:
    """Return so many of the rows, again from the first where there are fewer."""
    return [rows[place % len(rows)] for place in range(count)]


def rows_of(leaves: Sequence[Tensor]) -> list[Row]:
    """Split a call's tensors into its rows."""
    return [
        tuple(leaf[place : place + 1].clone() for leaf in leaves)
        for place in range(leaves[0].shape[0])
    ]


def _mixed(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Take one where it is chosen, else the other."""
    if one.dtype is torch.uint64:  # among which older torch cannot choose
        one, other = one.view(torch.int64), other.view(torch.int64)
        return torch.where(chosen, one, other).view(torch.uint64)
    return torch.where(chosen, one, other)
