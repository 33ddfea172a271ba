"""Requests as one batch, where the rows of a package do not depend on each other.

What was shown at export was shown of the exporting host's engine. Another engine or precision
may choose another algorithm for each size of a batch, so the rows are held against each other
once more on the session that runs them; until that is done requests run one after another.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from threading import Event, Thread, main_thread
from typing import TYPE_CHECKING

import torch
from eipack_eia.server.batching import joins_of
from torch import Tensor

from eipack.errors import EipackError, SessionClosed
from eipack.parity.batches import most_rows
from eipack.parity.rows import rows_apart

if TYPE_CHECKING:
    from eipack.session import Session

Leaves = tuple[Tensor, ...]


class Stacking:
    """Run lists of calls on a session; `rows` is how many rows share a batch, 0 for none.

    `reason` says why none may, None while they may.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stopping = Event()
        self._thread: Thread | None = None
        self.rows = 0
        self.reason: str | None = "its package does not say that rows are independent"
        if session.program.batch_independent:
            self.reason = "it is being shown that rows are independent here"
            self._thread = Thread(target=self._prove, name="eipack-rows")
            self._thread.start()

    def _prove(self) -> None:
        session = self._session
        try:
            samples, _ = session.package.samples()
            self.reason = rows_apart(self._call, session.signature, samples)
        except EipackError as error:
            self.reason = f"its rows could not be examined: {error}"
        if self.reason is None:
            self.rows = most_rows(session.signature, samples)

    def _call(self, *leaves: Tensor) -> Leaves:
        if self._stopping.is_set() or not main_thread().is_alive():
            raise SessionClosed("the service ends before its rows were examined")
        return self._session.run_flat(*leaves)

    def settle(self, within_s: float | None = None) -> None:
        """Wait until it is known whether requests may share a batch."""
        if self._thread is not None:
            self._thread.join(within_s)

    def stop(self) -> None:
        """Examine no further, and wait for the call that runs."""
        self._stopping.set()
        self.settle()

    def run(self, calls: Sequence[Leaves]) -> list[Leaves]:
        """Run calls of tensors in signature order; the answers come in the calls' order.

        Raises:
            EipackError: A call failed that was run by itself.
        """
        answers: dict[int, Leaves] = {}
        for group in self._groups(calls):
            if len(group) > 1 and (found := self._together([calls[one] for one in group])):
                answers.update(zip(group, found, strict=True))
            else:
                answers.update({one: self._session.run_flat(*calls[one]) for one in group})
        return [answers[number] for number in range(len(calls))]

    def _together(self, calls: Sequence[Leaves]) -> list[Leaves] | None:
        """Run calls as one batch; None if that fails, as each may do alone with a better word."""
        rows = [leaves[0].shape[0] for leaves in calls]
        try:
            outputs = self._session.run_flat(*map(torch.cat, zip(*calls, strict=True)))
        except EipackError:
            return None
        return list(zip(*(leaf.split_with_sizes(rows) for leaf in outputs), strict=True))

    def _groups(self, calls: Sequence[Leaves]) -> Iterator[list[int]]:
        """Give the numbers of calls that fit into a batch together."""
        open_groups: dict[Hashable, tuple[list[int], int]] = {}
        for number, leaves in enumerate(calls):
            joins = joins_of(self._session.signature, leaves) if self.rows else None
            if joins is None:
                yield [number]
                continue
            group, rows = open_groups.get(joins.key, ([], 0))
            if group and rows + joins.rows > min(self.rows, joins.most):
                yield group
                group, rows = [], 0
            open_groups[joins.key] = [*group, number], rows + joins.rows
        yield from (group for group, _ in open_groups.values())
