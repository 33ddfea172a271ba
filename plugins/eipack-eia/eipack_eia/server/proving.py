"""May calls of a model share a batch on this accelerator? Asked anew when it is loaded.

What was shown at export was shown of the program on the exporting host. Another engine or
precision may choose another algorithm for each size of a batch, so the rows are held against
each other once more on the engine that runs them, through the queue as one client among others.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from time import perf_counter_ns, sleep
from typing import TYPE_CHECKING, Final

from attrs import frozen

from eipack.errors import AcceleratorOverloaded
from eipack.parity.batches import batch_dim, most_rows
from eipack.parity.rows import rows_apart
from eipack_eia.server.batching import Sharing
from eipack_eia.server.models import Model
from eipack_eia.server.scheduler import Job, Scheduler

if TYPE_CHECKING:
    from torch import Tensor

_CLIENT: Final = "the proof that rows are independent"
_PAUSE_S: Final = 0.05
_PAUSES: Final = 1200

PENDING: Final = Sharing(reason="it is being shown that rows are independent here", open=True)
UNPROVED: Final = Sharing(reason="its package does not say that rows are independent")


@frozen
class Prover:
    """Find out in the background whether batches of up to `most` rows may be made."""

    scheduler: Scheduler
    most: int

    def consider(self, model: Model) -> None:
        """Begin with a model that was loaded; its calls run one by one until the end."""
        if not model.record.batch_independent:
            model.sharing = UNPROVED
            return
        model.sharing = PENDING
        Thread(target=self._prove, args=(model,), name="eia-prover", daemon=True).start()

    def _prove(self, model: Model) -> None:
        try:
            model.sharing = self._found(model)
        except Exception as error:  # noqa: BLE001 - the model serves on, without batches
            model.sharing = Sharing(reason=f"its rows could not be examined: {error}")
        finally:
            self.scheduler.leave()

    def _found(self, model: Model) -> Sharing:
        with model as session:
            samples, _ = session.package.samples()
            signature = session.signature
        reason = rows_apart(self._call(model), signature, samples)
        if reason is not None:
            return Sharing(reason=reason)
        rows = min(self.most, most_rows(signature, samples))
        if rows < 2 * batch_dim(signature).min:
            return Sharing(reason=f"no two calls fit into {rows} rows")
        return Sharing(rows, open=True)

    def _call(self, model: Model) -> Callable[..., tuple[Tensor, ...]]:
        def call(*leaves: Tensor) -> tuple[Tensor, ...]:
            for _ in range(_PAUSES):
                try:
                    job = Job(model, leaves, _CLIENT, perf_counter_ns())
                    return self.scheduler.run(job)
                except AcceleratorOverloaded:
                    if self.scheduler.stopped:
                        raise
                    sleep(_PAUSE_S)  # clients come first
            raise AcceleratorOverloaded("the queue is full all the time")

        return call
