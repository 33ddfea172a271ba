"""Make programs and prove them: each kind by the first method that passes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from eipack.backend import Program
from eipack.capture.capturing import Captures, Report
from eipack.capture.dims import Shapes, declare, enlarge
from eipack.capture.guards import guards_in, spread, violations
from eipack.capture.plan import Need
from eipack.capture.preserve import Snapshot
from eipack.capture.reference import Reference, translated
from eipack.capture.symbols import differences, shapes_of
from eipack.capture.witness import reads_data
from eipack.dtypes import dtype_name
from eipack.errors import (
    CaptureError,
    CaptureFailed,
    EipackError,
    MethodConflict,
    ParityError,
    ParityInputsRequired,
    TracedBranch,
)
from eipack.manifest import Evidence
from eipack.parity.draw import Drawer
from eipack.parity.engines import backend_call, gate_call
from eipack.parity.gate import Trial, Trials, drawn, trials
from eipack.parity.probe import check_training, probe, written_inputs
from eipack.parity.rows import Call, rows_apart
from eipack.parity.sizes import EXHAUSTIVE
from eipack.registry import backend
from eipack.signature import Dim, Signature, TensorSpec
from eipack.staging import Staged, stage
from eipack.target import Target

_MORE_SEEDS = 2
"""Further draws at each size where a trace saw branches on sizes."""

_FIXED = re.compile(r"specialized it to be a constant|torch.export fixed")


@frozen
class Options:
    """What a caller of `export` says of the inputs and of how far to go."""

    dynamic_shapes: Any | None = None
    input_specs: Mapping[str, Any] | None = None
    parity_inputs: Any | None = None
    allow_traced_branches: bool = False


@frozen(eq=False)
class Proven:
    """A staged program with the evidence that it agrees; `batch_independent` as in the manifest."""

    staged: Staged
    evidence: Evidence
    batch_independent: bool


class Maker:
    """One export: a model that is a function of its inputs, its trials, programs that pass them.

    A trace may add trials or narrow the shapes; then programs proved before are proved again.
    """

    def __init__(
        self,
        reference: Reference,
        snapshot: Snapshot,
        options: Options,
        methods: frozenset[str],
        report: Report,
    ) -> None:
        self._options = options
        self._report = report
        self.narrowed: tuple[str, ...] = ()
        self._held_to_tested = False
        self._made: dict[tuple[str, str], tuple[Trials, Proven]] = {}
        shapes = _declared(reference, options.dynamic_shapes)
        reference = evolve(reference, examples=enlarge(reference.examples, shapes))
        report("checking that the model is a function of its inputs")
        check_training(reference.module)
        self.reference = evolve(reference, written=written_inputs(reference))
        self._captures = Captures(self.reference, shapes, report)
        self.shapes = self._settled(shapes, methods)
        self._drawer = Drawer(self.reference, self.shapes, options.input_specs)
        sample = self.shapes.sample_sizes(self.reference.examples)
        probe(self.reference, snapshot, self._drawer, sample)
        report("running the model across the declared range")
        found = trials(self.reference, self.shapes, self._drawer, options.parity_inputs)
        self.trials = Trials.of(found, self.reference.examples.names)

    def _settled(self, shapes: Shapes, methods: frozenset[str]) -> Shapes:
        """Let torch.export find the range of automatic dimensions, and tell what it found."""
        if not shapes.automatic:
            return shapes
        if "export" not in methods:
            raise MethodConflict(
                "Dim.AUTO and Dim.DYNAMIC ask torch.export for the range; declare "
                "Dim('name', min=…, max=…) for other methods"
            )
        settled = self._captures.exported().shapes
        self.narrowed = differences(shapes, settled, self.reference.examples.names)
        for line in self.narrowed:
            self._report(line)
        return settled

    @property
    def signature(self) -> Signature:
        """The signature as far as it is proved now."""
        examples = self.reference.examples
        inputs = zip(examples.names, examples.leaves, self.shapes.inputs, strict=True)
        return Signature(
            dims=self.shapes.dims,
            inputs=tuple(
                TensorSpec(name, dtype_name(leaf.dtype), shape) for name, leaf, shape in inputs
            ),
            outputs=self.trials.outputs,
            input_tree=examples.tree,
            output_tree=self.trials.all[0].expected.tree,
            positional=examples.positional,
        )

    def meet(self, needs: Sequence[Need]) -> list[Proven]:
        """Return for each need the first alternative that can be captured and agrees.

        Raises:
            CaptureError, ParityError: None can; with several the message has each reason.
        """
        while True:
            before = self.trials
            proven = [self._meet(need) for need in needs]
            if self.trials is before:
                return list({id(one): one for one in proven}.values())

    def _meet(self, need: Need) -> Proven:
        failures: list[tuple[str, EipackError]] = []
        # a trace with branches is the last resort, since it narrows the signature
        for allowed in (False, True) if self._options.allow_traced_branches else (False,):
            failures = []
            for kind, method in _alternatives(need):
                try:
                    return self._prove(kind, method, branches=allowed)
                except (CaptureError, ParityError) as error:
                    failures.append((method, error))
        raise _together(failures)

    def _prove(self, kind: str, method: str, *, branches: bool) -> Proven:
        if method == "trace":
            self._check_trace(kind, allowed=branches)
        trials, proven = self._made.get((kind, method), (None, None))
        if proven is None or trials is not self.trials:
            program = self._captures.program(kind, method, self.signature)
            self._report(f"checking the {kind} program")
            staged = stage(program)
            call = gate_call(staged)
            checks = self.trials.run(call, kind)
            evidence = Evidence(kind, self._judge, "cpu", checks)
            proven = Proven(staged, evidence, self._rows_apart(call, kind))
            self._made[kind, method] = self.trials, proven
        return proven

    def _rows_apart(self, call: Call, kind: str) -> bool:
        """Tell whether the rows of a batch are independent in a program, and report if not."""
        own = self._options.parity_inputs is not None
        calls = [trial.inputs for trial in self.trials.all if own and trial.seed is None]
        samples = self.trials.all[0].inputs
        reason = rows_apart(call, self.signature, samples, self._drawer.specs, calls)
        if reason is not None and self.signature.dims:
            self._report(f"calls of the {kind} program cannot share a batch: {reason}")
        return reason is None

    @property
    def _judge(self) -> Any:
        return "eager" if self.reference.origin == "eager" else "itself"

    def compiled(self, proven: Proven, target: Target) -> Proven | None:
        """Let a target's backend compile a program; None where it keeps the captured one.

        The result is checked on the target if it is here; else the evidence has no checks.
        """
        plugin = backend(target)
        with translated(f"compile for {target}"):
            native = plugin.compile(proven.staged.program, target)
            if native is proven.staged.program:
                return None
            staged = stage(evolve(native, target=target), plugin)
            found = backend_call(staged, target)
        self._report(f"checking the {native.kind} program on {target}")
        checks = () if found is None else self.trials.run(found[0], native.kind)
        evidence = Evidence(native.kind, self._judge, str(target), checks)
        apart = found is not None and self._rows_apart(found[0], native.kind)
        return Proven(staged, evidence, apart)

    def _check_trace(self, kind: str, *, allowed: bool) -> None:
        """Refuse a trace that saw branches, or narrow the shapes to what it was tested at."""
        places = self._captures.trace().places
        if not places:
            places = self._try_other_paths()
        if not places:
            return
        if not allowed:
            raise TracedBranch(
                f"the trace would hard-wire what it saw of the example inputs "
                f"({'; '.join(places[:3])}); use method='export' or 'script', or pass "
                "allow_traced_branches=True to package it for the tested sizes only",
                places=list(places),
            )
        read = reads_data(self.reference)
        if read is not None:
            raise TracedBranch(
                f"the trace would hard-wire values of the example inputs ({read}), and no number "
                "of tests can show that it holds for others; use torch.where or torch.cond in "
                "the model, or method='script'",
                places=list(places),
            )
        if not self._held_to_tested:
            self._narrow(self._captures.program(kind, "trace", self.signature))
            self._held_to_tested = True

    def _try_other_paths(self) -> tuple[str, ...]:
        """Add trials at sizes where torch.export sees the model take another path.

        The tracer misses some ways to look at a size. torch.export proves them or names them;
        where its report cannot be turned into sizes to test, it is returned.
        """
        if not self.shapes.dims or self.reference.origin != "eager":
            return ()
        try:
            self._captures.exported()
        except CaptureFailed as error:
            report = str(error.__cause__ or error)
        else:
            return ()
        if "unhashable type" in report and "SymInt" in report:
            return ("the model looks a size up in a dict or set",)
        if _FIXED.search(report):
            return ("torch.export finds that a dynamic size must be the example's",)
        sample = self.trials.all[0].dims
        names = self.reference.examples.identifiers
        guards = guards_in(report)
        found = violations(guards, self.shapes, names, sample)
        if found is None:
            return (f"torch.export: {guards[0]}",)
        tested = [trial.dims for trial in self.trials.all]
        missing = [at for at in spread(found, EXHAUSTIVE) if at not in tested]
        if missing:
            self._add(self._draw(missing))
        return ()

    def _draw(self, plan: Sequence[Mapping[str, int]]) -> list[Trial]:
        if self._options.parity_inputs is not None:
            where = ", ".join(f"{name} = {size}" for name, size in plan[0].items())
            raise ParityInputsRequired(
                f"a trace must be tested at {where}; add it to parity_inputs"
            )
        return drawn(self.reference, self._drawer, plan, first_seed=len(self.trials.all))

    def _add(self, more: Sequence[Trial]) -> None:
        self.trials = Trials.of([*self.trials.all, *more], self.trials.inputs)

    def _narrow(self, program: Program) -> None:
        """Keep only the sizes at which a trace with branches agrees, with several draws each."""
        call = gate_call(stage(program))
        if self._options.parity_inputs is None:
            plan = [trial.dims for trial in self.trials.all if trial.seed is not None]
            self._add(self._draw([at for at in plan for _ in range(_MORE_SEEDS)]))
        sample = self.trials.all[0].dims
        failed = []
        for trial in self.trials.all:
            try:
                self.trials.check(call, trial, program.kind)
            except ParityError:
                if trial.dims == sample:
                    raise
                failed.append(trial.dims)
        agreed = [trial.dims for trial in self.trials.all if trial.dims not in failed]
        if len(self.shapes.dims) > 1:  # sizes of several dimensions were not tested in all pairs
            agreed = [sample]
        dims = tuple(_only(dim, {at[dim.name] for at in agreed}) for dim in self.shapes.dims)
        self.shapes = evolve(self.shapes, dims=dims)
        self.narrowed += tuple(str(dim) for dim in dims) or ("the shapes of the examples",)
        kept = [trial for trial in self.trials.all if trial.dims in agreed]
        self.trials = Trials.of(kept, self.trials.inputs)


def _declared(reference: Reference, dynamic_shapes: Any | None) -> Shapes:
    shapes = declare(dynamic_shapes, reference.examples)
    if reference.origin == "exported" and (shapes.automatic or not shapes.dims):
        return shapes_of(reference.artifact, reference.examples)
    return shapes


def _alternatives(need: Need) -> Iterator[tuple[str, str]]:
    for request in need:
        for method in request.methods:
            yield request.kind, method


def _only(dim: Dim, sizes: set[int]) -> Dim:
    return Dim(dim.name, min(sizes), max(sizes), tuple(sorted(sizes)))


def _together(failures: Sequence[tuple[str, EipackError]]) -> EipackError:
    """Return the one error, or one that tells each method's."""
    told = {f"{method}: {error}": error for method, error in failures}
    if len({str(error) for error in told.values()}) == 1:
        return failures[0][1]
    return CaptureFailed(
        f"no method gives a program that agrees with the model ({'; '.join(told)})",
        failures={method: str(error) for method, error in failures},
    )
