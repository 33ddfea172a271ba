"""Who runs next: a bounded queue, fair between clients, on a bounded number of threads.

A thread of PyTorch brings a pool of its own with it, so that many of them cost memory and
speed. While nothing waits, the threads of the first few connections run their own calls, which
saves the hand-over; all other calls are run by as many workers as may run at once. Clients
take turns, however many requests each has waiting. Where batches are made, a worker takes with
a call those that may join it, again in turns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from threading import Condition, Lock, Thread, get_ident
from time import perf_counter_ns
from typing import Final

import torch
from attrs import define, field
from torch import Tensor

from eipack.errors import AcceleratorOverloaded, DeadlineExceeded, EipackError, ExecutionFailed
from eipack_eia.server.batching import Batching, Joins, run_jobs
from eipack_eia.server.models import Model
from eipack_eia.server.pools import give_back

_NEVER: Final = 1 << 62


class ClientGone(Exception):
    """Whoever asked has hung up while the request waited."""


@define(eq=False)
class Job:
    """One inference: what to run on what, for whom, and until when.

    `rows` are those of the execution that it led, as far as its model's calls may join each other;
    None where it ran in another call's.
    """

    model: Model
    leaves: tuple[Tensor, ...]
    client: Hashable
    arrived_ns: int
    deadline_ns: int = _NEVER
    alive: Callable[[], bool] = field(default=lambda: True, repr=False)
    joins: Joins | None = None
    rows: int | None = 0
    outputs: tuple[Tensor, ...] = ()
    error: BaseException | None = None
    started_ns: int = 0
    ended_ns: int = 0
    _done: Lock = field(factory=Lock, repr=False)

    def run(self) -> None:
        """Run now, and keep what came of it."""
        self.started_ns = perf_counter_ns()
        try:
            self._check_deadline()
            with self.model as session:
                self.outputs = session.run_flat(*self.leaves)
        except BaseException as error:  # noqa: BLE001 - it is the asking thread's to raise
            self.error = error
        finally:
            self.ended_ns = perf_counter_ns()

    def _check_deadline(self) -> None:
        if self.started_ns > self.deadline_ns:
            raise DeadlineExceeded("the deadline passed while the request waited; it was not run")

    def is_due(self) -> bool:
        """Tell whether somebody still waits for it; if not, it has failed."""
        self.started_ns = perf_counter_ns()
        try:
            self._check_deadline()
        except DeadlineExceeded as error:
            self.error = error
            return False
        if self.alive():
            return True
        self.error = ClientGone()
        return False

    def result(self) -> tuple[Tensor, ...]:
        """Return the outputs.

        Raises:
            EipackError: What went wrong.
        """
        error = self.error
        if error is None:
            return self.outputs
        if isinstance(error, EipackError | ClientGone):
            raise error
        raise ExecutionFailed(f"{self.model.name} failed: {type(error).__name__}") from error


class Scheduler:
    """Run jobs, at most `workers` at once and at most `queue` waiting; safe between threads.

    With `pooled` no more than `workers` threads keep a pool of OpenMP's: calls run on the threads
    that ask only while there are so few of them, else on the workers alone.
    """

    def __init__(
        self,
        workers: int = 1,
        queue: int = 64,
        batching: Batching | None = None,
        *,
        pooled: bool = False,
    ) -> None:
        self.workers = workers
        self._pooled = pooled
        self._callers: set[int] = set()
        self._crowded = False
        self.queue = queue
        self.batching = batching
        self._lock = Lock()
        self._wake = Condition(self._lock)
        self._more = Condition(self._lock)
        self._waiting: OrderedDict[Hashable, deque[Job]] = OrderedDict()
        self._count = 0
        self._running: dict[int, Job] = {}
        self._inline: set[int] = set()
        self._threads: list[Thread] = []
        self._stopped = False

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return self._count

    @property
    def stopped(self) -> bool:
        """Whether it takes no more jobs."""
        return self._stopped

    def longest_ns(self) -> int:
        """Return for how long the oldest of the calls that run has run."""
        now = perf_counter_ns()
        started = [job.started_ns for job in list(self._running.values()) if job.started_ns]
        return max((now - since for since in started), default=0)

    def run(self, job: Job) -> tuple[Tensor, ...]:
        """Run a job, on this thread if nothing is in the way, and return its outputs.

        Raises:
            AcceleratorOverloaded: Too many wait; it was not run.
            DeadlineExceeded: Its time was over before its turn; it was not run.
            ClientGone: Its client was gone before its turn; it was not run.
            EipackError: The model failed.
        """
        ident = get_ident()
        with self._lock:
            inline = self._may_run_here(ident)
            if inline:
                self._running[ident] = job
            else:
                self._enqueue(job)
            leaves_pool = self._crowded and ident in self._inline
            if leaves_pool:
                self._inline.discard(ident)
        if leaves_pool:
            give_back()
        if inline:
            job.run()
            with self._lock:
                del self._running[ident]
                if self._count:
                    self._wake.notify()
        else:
            job._done.acquire()
        return job.result()

    def _may_run_here(self, ident: int) -> bool:
        if self._pooled and ident not in self._callers:
            self._callers.add(ident)
            self._crowded = len(self._callers) > self.workers
        if self._crowded or self._count or len(self._running) >= self.workers:
            return False
        if ident in self._inline:
            return True
        if len(self._inline) >= self.workers:
            return False
        self._inline.add(ident)
        return True

    def leave(self) -> None:
        """Tell that this thread ends, so that another may run its own calls."""
        with self._lock:
            self._inline.discard(get_ident())
            self._callers.discard(get_ident())
            if self._crowded and len(self._callers) <= self.workers:
                self._crowded = False
                self._wake.notify_all()  # the workers keep no pools beside those of the callers

    def _enqueue(self, job: Job) -> None:
        if self._stopped or (self._count >= self.queue and not self._displace(job.client)):
            raise self._overloaded()
        job._done.acquire()
        self._waiting.setdefault(job.client, deque()).append(job)
        self._count += 1
        if len(self._threads) < self.workers:
            thread = Thread(target=self._work, name="eia-worker", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._wake.notify()
        if self.batching is not None:
            self._more.notify_all()

    def _displace(self, client: Hashable) -> bool:
        """Refuse the newest request of whoever fills the queue, if it is not this client."""
        fullest = max(self._waiting.values(), key=len)
        if len(fullest) < len(self._waiting.get(client, ())) + 2:
            return False
        refused = fullest.pop()
        self._count -= 1
        refused.error = self._overloaded()
        refused._done.release()
        return True

    def _overloaded(self) -> AcceleratorOverloaded:
        return AcceleratorOverloaded(
            f"{self._count} requests wait already, and {self.queue} may; try again later, or "
            "attach another accelerator"
        )

    @torch.inference_mode()
    def _work(self) -> None:
        ident = get_ident()
        has_pool = False
        while True:
            with self._lock:
                while not (self._stopped or self._has_turn or (has_pool and not self._crowded)):
                    self._wake.wait()
                if self._stopped and not self._count:
                    return
                due = self._stopped or self._has_turn
                if due:
                    job = self._next()
                    self._running[ident] = job
                    joining = [] if job.joins is None else self._gather(job, job.joins)
            if not due:
                give_back()
                has_pool = False
                continue
            has_pool = self._pooled
            if joining:
                run_jobs([job, *joining], lambda one: self._running.update({ident: one}))
            elif job.alive():
                job.run()
            else:
                job.error = ClientGone()
            with self._lock:
                del self._running[ident]
                if self._count:
                    self._wake.notify()
            job._done.release()
            for one in joining:
                one._done.release()

    @property
    def _has_turn(self) -> bool:
        return bool(self._count) and len(self._running) < self.workers

    def _next(self) -> Job:
        client, jobs = self._waiting.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._waiting[client] = jobs  # behind all others
        self._count -= 1
        return job

    def _gather(self, lead: Job, joins: Joins) -> list[Job]:
        """Take what may join a job; wait for more of it if asked to and nobody else is held up."""
        taken: list[Job] = []
        batching = self.batching
        if batching is None:
            return taken
        room = min(lead.model.sharing.rows, joins.most) - joins.rows
        until = lead.arrived_ns + batching.delay_ns
        while room > 0:
            found = self._take(lead, joins, room)
            taken += found
            room -= sum(job.joins.rows for job in found if job.joins is not None)
            hurry = any(job.deadline_ns < until for job in (lead, *taken))
            left = until - perf_counter_ns()
            if room <= 0 or left <= 0 or hurry or self._count or self._stopped:
                break
            self._more.wait(left / 1e9)
        return taken

    def _take(self, lead: Job, joins: Joins, room: int) -> list[Job]:
        """Take jobs that fit from clients in turns, each of them the next of its client."""
        taken: list[Job] = []
        found = True
        while found and room:
            found = False
            for client in list(self._waiting):
                jobs = self._waiting[client]
                other = jobs[0].joins
                if other is None or other.rows > room or other.key != joins.key:
                    continue
                if jobs[0].model is not lead.model:
                    continue
                taken.append(jobs.popleft())
                room -= other.rows
                found = True
                self._count -= 1
                if jobs:
                    self._waiting.move_to_end(client)
                else:
                    del self._waiting[client]
        return taken

    def stop(self) -> None:
        """Take no more jobs; those that wait are still run."""
        with self._lock:
            self._stopped = True
            self._wake.notify_all()
            self._more.notify_all()
