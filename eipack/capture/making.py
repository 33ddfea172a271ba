"""Make programs and prove them: each kind by the first method that passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from attrs import evolve, frozen

from eipack.backend import Program
from eipack.capture.dims import Shapes, declare, enlarge
from eipack.capture.exported import Exported, achieved, export_program, to_onnx
from eipack.capture.outputs import output_specs
from eipack.capture.plan import Need, Request
from eipack.capture.reference import Reference
from eipack.capture.torchscript import from_exported, script, trace
from eipack.errors import CaptureError, CaptureFailed, EipackError, MethodConflict, ParityError
from eipack.manifest import Evidence
from eipack.parity.draw import Drawer
from eipack.parity.engines import backend_call, gate_call
from eipack.parity.gate import Trial, check, trials
from eipack.parity.probe import probe
from eipack.registry import backend
from eipack.signature import Dim, DimSize, Signature, TensorSpec
from eipack.staging import Staged, stage
from eipack.target import Target

Report = Callable[[str], None]


@frozen(eq=False)
class Proven:
    """A staged program with the evidence that it agrees."""

    staged: Staged
    evidence: Evidence


class Maker:
    """Everything known of one export: the model, its shapes, the trials, what was captured."""

    def __init__(
        self,
        reference: Reference,
        dynamic_shapes: Any | None,
        input_specs: Mapping[str, Any] | None,
        parity_inputs: Any | None,
        *,
        allow_branches: bool,
        methods: frozenset[str],
        report: Report,
    ) -> None:
        self._report = report
        self._allow_branches = allow_branches
        self._methods = methods
        self.narrowed: tuple[str, ...] = ()
        self._made: dict[tuple[str, str], Proven] = {}
        shapes = self._declared(reference, dynamic_shapes)
        self.reference = evolve(reference, examples=enlarge(reference.examples, shapes))
        self.shapes = shapes
        if shapes.automatic:
            self.shapes = self._automatic().shapes
        report("checking that the model is a function of its inputs")
        drawer = Drawer(self.reference, self.shapes, input_specs)
        probe(self.reference, drawer, self.shapes.sample_sizes(self.reference.examples))
        report("running the model across the declared range")
        self._drawer = drawer
        self._parity_inputs = parity_inputs
        self.trials = trials(self.reference, self.shapes, drawer, parity_inputs)

    def _declared(self, reference: Reference, dynamic_shapes: Any | None) -> Shapes:
        shapes = declare(dynamic_shapes, reference.examples)
        if reference.origin != "exported":
            return shapes
        return _shapes_of(reference, shapes)

    def _automatic(self) -> Exported:
        if "export" not in self._methods or self.reference.origin == "torchscript":
            raise MethodConflict(
                "Dim.AUTO and Dim.DYNAMIC ask torch.export for the range; declare "
                "Dim('name', min=…, max=…) for other methods"
            )
        return self._exported

    @cached_property
    def _exported(self) -> Exported:
        self._report("capturing by export")
        if self.reference.origin == "exported":
            program = self.reference.artifact
            return Exported(program, self.shapes)
        return export_program(self.reference, self.shapes)

    @property
    def signature(self) -> Signature:
        """The signature as far as it is proved now."""
        examples = self.reference.examples
        first = self.trials[0].expected
        inputs = tuple(
            TensorSpec(name, str(leaf.dtype).removeprefix("torch."), shape)
            for name, leaf, shape in zip(
                examples.names, examples.leaves, self.shapes.inputs, strict=True
            )
        )
        return Signature(
            dims=self.shapes.dims,
            inputs=inputs,
            outputs=output_specs([(trial.dims, trial.expected) for trial in self.trials]),
            input_tree=examples.tree,
            output_tree=first.tree,
            positional=examples.positional,
        )

    def meet(self, need: Need) -> Proven:
        """Return the first alternative that can be captured and agrees.

        Raises:
            CaptureError, ParityError: None can; with several the message has each reason.
        """
        failures: list[tuple[str, EipackError]] = []
        for request in need:
            for method in request.methods:
                try:
                    return self._prove(request.kind, method)
                except (CaptureError, ParityError) as error:
                    failures.append((f"{request.kind} by {method}", error))
        if len(failures) == 1:
            raise failures[0][1]
        unique = {str(error): error for _, error in failures}
        if len(unique) == 1:
            raise failures[0][1]
        told = "; ".join(f"{what}: {error}" for what, error in failures)
        raise CaptureFailed(
            f"no method gives a program that agrees with the model ({told})",
            failures={what: str(error) for what, error in failures},
        )

    def _prove(self, kind: str, method: str) -> Proven:
        if (kind, method) not in self._made:
            program = self._capture(kind, method)
            self._report(f"checking the {kind} program")
            self._made[kind, method] = self._checked(program)
        return self._made[kind, method]

    def _capture(self, kind: str, method: str) -> Program:
        if kind != "exported" or method != "export":
            self._report(f"capturing {kind} by {method}")
        signature = self.signature
        if method == "export":
            exported = self._exported.program
            native = self.reference.origin == "exported"
            if kind == "exported":
                convention = "native" if native else "flat"
                return Program(kind, exported, signature, method, convention)  # type: ignore[arg-type]
            if kind == "torchscript":
                if native:
                    raise MethodConflict("an exported program stays one; it cannot be scripted")
                return Program(kind, from_exported(exported), signature, method)
            names = self.reference.examples.identifiers
            model = to_onnx(exported, names, [spec.name for spec in signature.outputs])
            return Program(kind, model, signature, method)
        if method == "script":
            return Program(kind, script(self.reference), signature, method, "native")
        module = trace(self.reference, allow_branches=self._allow_branches)
        if getattr(module, "branches_seen", False):
            self._narrow(Program(kind, module, signature, method))
        return Program(kind, module, self.signature, method)

    def _checked(self, program: Program) -> Proven:
        staged = stage(program)
        checks = self._run(gate_call(staged), program.kind)
        name = "itself" if self.reference.origin != "eager" else "eager"
        return Proven(staged, Evidence(program.kind, name, "cpu", tuple(checks)))  # type: ignore[arg-type]

    def _run(self, call: Callable[..., Any], kind: str) -> list[Any]:
        specs = self.signature.outputs
        names = self.reference.examples.names
        return [check(call, trial, specs, names, kind) for trial in self.trials]

    def compiled(self, proven: Proven, target: Target) -> Proven | None:
        """Let a target's backend compile a program; None where it keeps the captured one.

        The result is checked on the target if it is here; else the evidence has no checks.
        """
        plugin = backend(target)
        native = plugin.compile(proven.staged.program, target)
        if native is proven.staged.program:
            return None
        native = evolve(native, target=target)
        self._report(f"checking the {native.kind} program on {target}")
        staged = stage(native, plugin)
        found = backend_call(staged, target)
        checks = [] if found is None else self._run(found[0], native.kind)
        return Proven(staged, Evidence(native.kind, "eager", str(target), tuple(checks)))

    def _narrow(self, program: Program) -> None:
        """Keep only the sizes at which a trace with branches was seen to agree."""
        call = gate_call(stage(program))
        specs, names = self.signature.outputs, self.reference.examples.names
        good: list[Trial] = []
        for trial in self.trials:
            try:
                check(call, trial, specs, names, program.kind)
            except ParityError:
                if trial.dims == self.trials[0].dims:
                    raise
            else:
                good.append(trial)
        sample = self.trials[0].dims
        if len(self.shapes.dims) == 1:
            name = self.shapes.dims[0].name
            failed = {t.dims[name] for t in self.trials} - {t.dims[name] for t in good}
            sizes = {name: tuple(sorted({t.dims[name] for t in good} - failed))}
        else:
            sizes = {name: (size,) for name, size in sample.items()}
        self._fix(sizes)

    def _fix(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        dims = tuple(
            Dim(dim.name, min(sizes[dim.name]), max(sizes[dim.name]), sizes[dim.name])
            for dim in self.shapes.dims
        )
        self.shapes = evolve(self.shapes, dims=dims)
        self.trials = [
            trial
            for trial in self.trials
            if all(dim.admits(trial.dims[dim.name]) for dim in dims)
        ]
        self.narrowed = tuple(str(dim) for dim in dims) or ("the shapes of the examples",)
        self._made.clear()


def _shapes_of(reference: Reference, declared: Shapes) -> Shapes:
    """Read the dynamic dimensions of an exported program from the program itself."""
    inputs = []
    labels: dict[str, None] = {}
    sizes = _symbolic_sizes(reference.artifact)
    for name, leaf, symbols in zip(
        reference.examples.names, reference.examples.leaves, sizes, strict=True
    ):
        shape: list[Any] = []
        for axis, symbol in enumerate(symbols):
            if isinstance(symbol, int):
                shape.append(int(leaf.shape[axis]))
            else:
                label = f"{name.replace('.', '_')}_{axis}"
                labels[label] = None
                shape.append(DimSize(label))
        inputs.append(tuple(shape))
    dims = tuple(Dim(label, 1, None) for label in labels)
    shapes = Shapes(dims, tuple(inputs), frozenset(labels))
    found = achieved(reference.artifact, shapes, reference.examples.names)
    if declared.dims:
        return declared
    return found


def _symbolic_sizes(program: Any) -> list[Sequence[Any]]:
    from eipack.capture.exported import placeholder_sizes

    return placeholder_sizes(program)


__all__ = ["Maker", "Proven", "Request"]
