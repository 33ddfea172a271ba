"""A package opened on a target: callable, closable, safe between threads."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock, get_ident
from typing import Any, Final, Self

from attrs import field, frozen
from torch import Tensor

from eipack.backend import Backend, Runner
from eipack.comparison import Comparison
from eipack.enforce import Enforcer
from eipack.errors import (
    AcceleratorError,
    EipackError,
    ExecutionFailed,
    SessionClosed,
    SessionForked,
)
from eipack.fallback import Fallback
from eipack.manifest import ProgramRecord
from eipack.package import Package
from eipack.parity.precision import Loss
from eipack.signature import Signature
from eipack.target import Target
from eipack.threads import gate
from eipack.tree import unflatten


@frozen
class SessionInfo:
    """Where a session runs, and what.

    `elsewhere` counts the calls that its fallback ran, `reason` is why the last of them did.
    `details` are the backend's own, as the times of the last calls to an accelerator.
    `comparison` is with this processor, if `compare_local` asked for it. `threads` is how many a
    call takes of this process's, None where the device has its own. `loss` is what a precision
    below float32 costs.
    """

    target: Target
    program: str
    package: str
    mapped: bool
    elsewhere: int = 0
    reason: str | None = None
    details: Mapping[str, Any] = field(factory=dict)
    comparison: Comparison | None = None
    threads: int | None = None
    loss: Loss | None = None


class Session:
    """Call a packaged model as the model itself was called.

    Several threads may call at once. Closing is final; calls that run meanwhile finish.
    `target` is where it really runs, `program` and `package` are what it runs.
    """

    def __init__(
        self,
        package: Package,
        record: ProgramRecord,
        backend: Backend,
        target: Target,
        runner: Runner,
        workers: int,
        *,
        owns_package: bool,
        fallback: Fallback | None = None,
    ) -> None:
        signature = package.signature
        self.target = target
        self.program = record
        self.package = package
        self._signature = signature
        self._enforce = Enforcer(signature, frozenset({"cpu", target.device}) & _KNOWN_DEVICES)
        self._tree = signature.output_tree
        self._single = signature.output_tree.kind == "tensor"
        self._backend = backend
        self._context = backend.context
        self._runner: Runner | None = runner
        self._fallback = fallback
        self.comparison: Comparison | None = None
        self.loss: Loss | None = None
        self._threads: int | None = getattr(runner, "threads", None)
        self._passage = gate.pass_(self._threads) if self._threads else _OPEN
        self._check_file = package.watch() if package.mapped else None
        self._forked = False
        self._closing = False
        self._owns_package = owns_package
        self._workers = workers
        self._executor: ThreadPoolExecutor | None = None
        self._pending: set[Future[Any]] = set()
        self._worker_idents: set[int] = set()
        self._contiguous = record.method == "export"
        self._lock = Lock()
        self._finalizer = weakref.finalize(self, runner.close)
        _sessions.add(self)

    @property
    def signature(self) -> Signature:
        """What a call takes and gives."""
        return self._signature

    @property
    def info(self) -> SessionInfo:
        """Where this session runs, and what."""
        describe = getattr(self._runner, "details", None)
        fallback = self._fallback
        return SessionInfo(
            self.target,
            self.program.id,
            self.package.name,
            self.package.mapped,
            0 if fallback is None else fallback.calls,
            None if fallback is None else fallback.reason,
            {} if describe is None else describe(),
            self.comparison,
            self._threads,
            self.loss,
        )

    @property
    def closed(self) -> bool:
        """Whether the session is closed."""
        return self._runner is None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model once; arguments and result are nested as the model's own.

        The tensors that come back are made in inference mode: to write to one in place outside
        of it, or to train on it, clone it first.

        Raises:
            SignatureMismatch: An argument does not fit the signature.
            SessionClosed: The session is closed.
            SessionForked: The session belongs to the parent process.
            PackageChanged: The package file was written to in place.
            ExecutionFailed: The program failed on its device.
        """
        runner = self._runner
        if runner is None or self._forked:
            raise self._unusable()
        result = self._run(runner, self._enforce(args, kwargs))
        if self._single and isinstance(result, Tensor):
            return result
        outputs = (result,) if isinstance(result, Tensor) else result
        return unflatten(self._tree, iter(outputs))

    def run_flat(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Run the model once on tensors in signature order; the outputs come in theirs.

        Raises what a call raises.
        """
        runner = self._runner
        if runner is None or self._forked:
            raise self._unusable()
        result = self._run(runner, self._enforce.check(leaves))
        return (result,) if isinstance(result, Tensor) else tuple(result)

    def _run(self, runner: Runner, leaves: tuple[Tensor, ...]) -> Tensor | Sequence[Tensor]:
        if self._contiguous:  # torch.export leaves out what its contiguous examples did not need
            leaves = tuple(leaf.contiguous() for leaf in leaves)
        check_file = self._check_file
        if check_file is not None:
            check_file()
        try:
            with self._passage, self._context(self.target):
                return runner(*leaves)
        except AcceleratorError as error:
            if self._fallback is None:
                raise
            return self._fallback.run(leaves, error)
        except EipackError:
            raise
        except Exception as error:
            raise ExecutionFailed(
                f"{self.package.name} failed on {self.target}: {reason_of(error)}",
                target=str(self.target),
            ) from error

    def _unusable(self) -> EipackError:
        if self._forked:
            return SessionForked(
                "this session was opened before fork and cannot be used in the child; "
                "call eipack.load in the child, or start it by spawn"
            )
        return SessionClosed("the session is closed; call eipack.load again")

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a call on the session's own threads (`workers` of them) and return a future.

        Raises:
            SessionClosed: The session is closed.
            SessionForked: The session belongs to the parent process.
        """
        with self._lock:
            if self._closing or self._forked:
                raise self._unusable()
            if self._executor is None:
                self._executor = _executor(self._workers, self._worker_idents)
            future = self._executor.submit(self, *args, **kwargs)
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    async def arun(self, *args: Any, **kwargs: Any) -> Any:
        """Run once without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(*args, **kwargs))

    def close(self) -> None:
        """Release program and weights when calls that were submitted are done.

        Calling it again does nothing. A package that `load` opened is closed too.
        """
        with self._lock:
            self._closing = True
            executor = self._executor
        if executor is None or self._forked:
            self._release()
        elif get_ident() in self._worker_idents:  # a worker cannot wait for itself
            executor.shutdown(wait=False)
            self._release_when_done()
        else:
            executor.shutdown(wait=True)
            self._release()

    def _release_when_done(self, _: Any = None) -> None:
        waiting = next((future for future in list(self._pending) if not future.done()), None)
        if waiting is None:
            self._release()
        else:
            waiting.add_done_callback(self._release_when_done)

    def _release(self) -> None:
        self._runner = None
        self._check_file = None
        self._finalizer()
        if self._fallback is not None:
            self._fallback.close()
        if self._owns_package:
            self.package.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Session {self.package.name!r} [{self.program.id}] on {self.target}, {state}>"


def _executor(workers: int, idents: set[int]) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        workers, "eipack-session", initializer=lambda: idents.add(get_ident())
    )


_OPEN: Final = nullcontext()
_KNOWN_DEVICES = frozenset({"cpu", "cuda", "xpu", "mps"})
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _mark_forked() -> None:
    for session in list(_sessions):
        session._forked = True
        session._lock = Lock()
        session._finalizer.detach()


os.register_at_fork(after_in_child=_mark_forked)


def reason_of(error: Exception) -> str:
    """Return the line of a foreign error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # TorchScript tells where before it tells what
    return lines[-1 if "TorchScript interpreter" in lines[0] else 0][:300]
