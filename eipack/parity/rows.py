"""Are the rows of a batch independent, so that calls of several clients may share one?

A row's outputs must be the same, within the published tolerance of their dtype, whatever
rows it shares a batch with: others and copies of itself, at every place, in batches of
several sizes, beside neighbours that are huge, tiny, zero, infinite or NaN, or at the bounds
of what an input accepts. A program that cannot be asked (another shape than a batch on
axis 0) or that fails on such neighbours counts as dependent: a server must not batch it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Tensor

from eipack.parity.batches import (
    FEW_ROWS,
    batch_dim,
    largest,
    other_sizes,
    row_shape,
    sizes_of,
    why_no_batch,
)
from eipack.parity.draw import InputSpec, like_mask, with_mask
from eipack.parity.neighbours import Row, Source, rows_of, spread
from eipack.parity.tolerance import compare, scales
from eipack.signature import Signature

Call = Callable[..., Any]

_PROBES = 4
_MORE = 16
"""Further rows where the probes all give the same, as labels may be."""


class _Together(Exception):
    """Carries the reason why rows are not independent."""


@frozen(eq=False)
class _Probe:
    """A row and what the program gives for it alone."""

    row: Row
    alone: tuple[Tensor, ...]


def rows_apart(
    call: Call,
    signature: Signature,
    samples: Sequence[Tensor],
    specs: Mapping[str, InputSpec] | None = None,
    given: Sequence[Sequence[Tensor]] = (),
) -> str | None:
    """Return None if the rows of a batch are independent, else the reason why they may not be.

    `call` takes and gives flat tensors; `native_call(session, signature)` makes one of a session.
    Rows are drawn like `samples`, the inputs of one call, within `specs` by input name; or taken
    from the `given` calls, where the program accepts no drawn ones.
    """
    reason = why_no_batch(signature)
    if reason is not None:
        return reason
    try:
        with torch.inference_mode():
            _examine(call, signature, tuple(samples), specs or {}, given)
    except _Together as found:
        return str(found)
    return None


def _examine(
    call: Call,
    signature: Signature,
    samples: Row,
    specs: Mapping[str, InputSpec],
    given: Sequence[Sequence[Tensor]],
) -> None:
    names = tuple(spec.name for spec in signature.inputs)
    masks = frozenset(_masks(call, names, samples, specs))
    pool = _pool(given)
    generator = torch.Generator().manual_seed(0)
    source = Source(names, samples, specs, masks, pool, generator)
    sizes = sizes_of(signature, pool[0] if pool else samples)
    low = batch_dim(signature).min
    trial = _Trial(call, signature, source, low, largest(signature, sizes))
    trial.run(sizes)
    if not pool:
        for others in other_sizes(signature, sizes):
            top = min(largest(signature, others), low + FEW_ROWS)
            evolve(trial, top=top).run_few(others)


def _masks(
    call: Call, names: Sequence[str], samples: Sequence[Tensor], specs: Mapping[str, InputSpec]
) -> Iterator[str]:
    """Give the inputs that look like masks and may have other values than the sample's."""
    for index, (name, leaf) in enumerate(zip(names, samples, strict=True)):
        if name in specs or not like_mask(leaf):
            continue
        try:
            outputs = _answer(call, with_mask(samples, index))
        except _Together:
            continue
        floats = (leaf for leaf in outputs if leaf.is_floating_point())
        if not any(bool(leaf.double().isnan().any()) for leaf in floats):
            yield name


def _pool(given: Sequence[Sequence[Tensor]]) -> tuple[Row, ...]:
    """Return the rows of given calls of one shape, of which there are most."""
    groups: dict[tuple[torch.Size, ...], list[Row]] = {(): []}
    for leaves in given:
        shapes = tuple(leaf.shape[1:] for leaf in leaves)
        groups.setdefault(shapes, []).extend(rows_of(leaves))
    most = max(groups, key=lambda shapes: len(groups[shapes]))
    return tuple(groups[most])


@frozen(eq=False)
class _Trial:
    """One program, tried in batches of `low` to `top` rows.

    What runs it raises `_Together` if a row depends on others, or nothing shows that none does.
    """

    call: Call
    signature: Signature
    source: Source
    low: int
    top: int

    def run(self, sizes: Mapping[str, int]) -> None:
        """Hold rows at these sizes of the other dimensions against themselves alone."""
        shapes = [row_shape(spec, sizes) for spec in self.signature.inputs]
        probes = self._probes(shapes, _PROBES)
        some = range(self.top + 1) if self.top <= FEW_ROWS else (2, 3, 7, self.top)
        self._mix(probes, sorted({max(self.low, size) for size in some}))
        self._crowd(probes, self.source.extremes(shapes))
        self._require_told_apart(probes, shapes)

    def run_few(self, sizes: Mapping[str, int]) -> None:
        """Do the same with fewer rows: for further sizes, where only a branch may differ."""
        shapes = [row_shape(spec, sizes) for spec in self.signature.inputs]
        probes = self._probes(shapes, 2)
        self._mix(probes, [self.top])
        self._crowd(probes, self.source.extremes(shapes, few=True))

    def _probes(self, shapes: Sequence[tuple[int, ...]], count: int) -> list[_Probe]:
        return [self._alone(row) for row in self.source.ordinary(shapes, count)]

    def _alone(self, row: Row) -> _Probe:
        """Run a row without others: beside copies of itself where a batch has more than one."""
        outputs = self._answer([row] * self.low)
        probe = _Probe(row, tuple(leaf[:1].clone() for leaf in outputs))
        self._compare([probe] * self.low, outputs, _typical([probe]), "equal")
        return probe

    def _mix(self, probes: Sequence[_Probe], sizes: Sequence[int]) -> None:
        """Try batches in which every place has a row that is known alone."""
        typical = _typical(probes)
        for size in sizes:
            order = torch.randperm(size, generator=self.source.generator)
            mixed = [probes[int(place) % len(probes)] for place in order]
            outputs = self._answer([probe.row for probe in mixed])
            self._compare(mixed, outputs, typical, "other")

    def _crowd(self, probes: Sequence[_Probe], kinds: Iterator[tuple[str, list[Row]]]) -> None:
        """Try batches of extreme neighbours with a row or two that are known alone amid them."""
        typical = _typical(probes)
        for number, (kind, neighbours) in enumerate(kinds):
            two = probes[number % len(probes)], probes[(number + 1) % len(probes)]
            for crowd in _crowds(neighbours, two, self.low, self.top):
                rows = [one.row if isinstance(one, _Probe) else one for one in crowd]
                self._compare(crowd, self._answer(rows), typical, kind)

    def _answer(self, rows: Sequence[Row]) -> list[Tensor]:
        leaves = [torch.cat(parts).contiguous() for parts in zip(*rows, strict=True)]
        outputs = _answer(self.call, leaves)
        for spec, leaf in zip(self.signature.outputs, outputs, strict=True):
            if leaf.shape[:1] != (len(rows),):
                shape = tuple(leaf.shape)
                raise _Together(f"output {spec.name!r} has shape {shape} for {len(rows)} rows")
        return outputs

    def _compare(
        self,
        crowd: Sequence[_Probe | Row],
        outputs: Sequence[Tensor],
        typical: Sequence[Tensor],
        beside: str,
    ) -> None:
        for place, one in enumerate(crowd):
            if not isinstance(one, _Probe):
                continue
            for spec, alone, leaf, scale in zip(
                self.signature.outputs, one.alone, outputs, typical, strict=True
            ):
                found = compare(alone, leaf[place : place + 1], scale)
                if not found.agrees:
                    by = found.reason or f"it differs by {found.max_abs:.3g}"
                    raise _Together(
                        f"output {spec.name!r} of a row changes beside {beside} rows "
                        f"(place {place} of {len(crowd)}): {by}"
                    )

    def _require_told_apart(
        self, probes: Sequence[_Probe], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        """Refuse a program that gives all rows the same, which shows nothing."""
        if _told_apart([probe.alone for probe in probes]):
            return
        extremes = (row for _, rows in self.source.extremes(shapes, few=True) for row in rows)
        more = [*extremes, *self.source.ordinary(shapes, _MORE)]
        for start in range(0, len(more), self.top):
            some = more[start : start + self.top]
            outputs = self._answer(spread(some, max(len(some), self.low)))
            if _told_apart(rows_of(outputs)):
                return
        raise _Together("different rows give the same outputs, which shows nothing")


def _answer(call: Call, leaves: Sequence[Tensor]) -> list[Tensor]:
    try:
        result = call(*leaves)
    except Exception as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        raise _Together(f"a batch of {len(leaves[0])} fails: {lines[-1][:300]}") from error
    outputs = [result] if isinstance(result, Tensor) else list(result)
    return [leaf.detach().cpu() for leaf in outputs]


def _typical(probes: Sequence[_Probe]) -> list[Tensor]:
    return [scales(outputs) for outputs in zip(*(one.alone for one in probes), strict=True)]


def _crowds(
    neighbours: Sequence[Row], probes: Sequence[_Probe], low: int, top: int
) -> Iterator[list[_Probe | Row]]:
    """Put rows amid neighbours, who are most and stand on both sides, in batches that fit."""
    count = len(probes) if top > FEW_ROWS else 1
    room = top - count
    for start in range(0, len(neighbours), room):
        some = neighbours[start : start + room]
        inside = spread(probes, max(count, low - len(some)))
        half = len(some) // 2
        yield [*some[:half], *inside, *some[half:]]
        if not half:
            yield [*some, *inside]


def _told_apart(answers: Sequence[Sequence[Tensor]]) -> bool:
    found = [
        compare(one, other)
        for answer in answers[1:]
        for one, other in zip(answers[0], answer, strict=True)
    ]
    return any(not one.agrees and one.max_abs is not None for one in found)
