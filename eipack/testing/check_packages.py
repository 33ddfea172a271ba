"""Packages: what compile and save write, load reads, here and in another process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from eipack.backend import Program
from eipack.errors import DependencyMissing, EipackError
from eipack.kinds import PORTABLE
from eipack.loading import load
from eipack.package import Package
from eipack.parity.engines import gate_call
from eipack.testing.answers import require_answer, require_equal
from eipack.testing.base import ContractBase
from eipack.testing.models import ZooModel, tensors
from eipack.testing.promise import promise
from eipack.testing.zoo import zoo_model
from eipack.tree import unflatten


class PackageChecks(ContractBase):
    """From program to file and back."""

    @promise
    @pytest.mark.parametrize("name", ["constants", "tied_weights", "nested", "channels_last"])
    def test_every_program_it_takes_gives_the_answer(self, name: str) -> None:
        """Answer alike from every program of a package that it takes, native and portable."""
        self.need_device()
        model = zoo_model(name)
        self._require_programs(model, None)
        for kind in self.backend.kinds:
            if kind in PORTABLE:
                try:
                    self._require_programs(model, (kind,))
                except DependencyMissing:
                    continue  # without the libraries nobody here could have made such a package

    @promise
    def test_a_portable_program_is_there(self) -> None:
        """Leave the captured program in the package as it was, for every other backend."""
        model = zoo_model("constants")
        inputs = tensors(model.inputs(5))
        with Package.open(self.package(model)) as package:
            portable = [record for record in package.programs if record.kind in PORTABLE]
            assert portable, f"the package has {[r.kind for r in package.programs]} only"
            for record in portable:
                leaves = gate_call(package._read_program(record))(*inputs)
                flat = [leaves] if isinstance(leaves, torch.Tensor) else list(leaves)
                answer = unflatten(package.signature.output_tree, iter(flat))
                require_equal(model(model.inputs(5)), answer, f"the {record.id} program on the CPU")

    @promise
    def test_a_native_program_is_proved(self) -> None:
        """Compile to a kind that it takes, proved on its device, and listed in the package."""
        self.need_device()
        with Package.open(self.package("constants")) as package:
            proved = {e.program for e in package.manifest.evidence if e.checks}
            for record in package.programs:
                assert record.id in proved, f"nothing shows that the {record.id} program agrees"
                if record.kind not in PORTABLE:
                    assert record.kind in self.backend.kinds, f"it cannot load its {record.kind}"

    @promise
    def test_another_process_can_open_the_package(self) -> None:
        """Load what was saved in a process that knows nothing but the file."""
        self.need_device()
        done = subprocess.run(  # noqa: S603 - this very Python
            [sys.executable, "-c", _ELSEWHERE, str(self.package("constants")), self.target],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        told = done.stderr.strip().splitlines()
        assert done.returncode == 0, f"in a new process: {told[-1] if told else done.returncode}"

    @promise
    def test_an_unknown_operator_is_refused(self) -> None:
        """Refuse a program that it cannot compile with an EipackError, or run it rightly."""
        model = _Mysterious().eval()
        x = torch.arange(6.0).reshape(2, 3)
        exported = torch.export.export(model, (x,), strict=False)
        with Package.open(self.package("perceptron")) as package:
            program = Program("exported", exported, package.signature, "export")
        if "exported" not in self.backend.kinds:
            pytest.skip("takes no exported programs")
        try:
            compiled = self.backend.compile(program, self.wanted)
        except EipackError:
            return
        assert compiled.kind in self.backend.kinds, f"it cannot load its {compiled.kind}"

    def _require_programs(self, model: ZooModel, programs: tuple[str, ...] | None) -> None:
        path = self.package(model, programs)
        with Package.open(path) as package:
            taken = [r.id for r in package.programs if r.kind in self.backend.kinds]
        assert taken, f"it takes none of the programs in a package made for {self.target}"
        for program in taken:
            with load(path, self.target, program=program) as session:
                assert session.program.id == program, f"{session.program.id} runs, not {program}"
                for inputs in model.calls():
                    require_answer(session, model, inputs, f"the {program} program")


class _Mysterious(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = torch.ops.eipack_testing.mystery(x)
        return answer


@torch.library.custom_op("eipack_testing::mystery", mutates_args=())
def _mystery(x: torch.Tensor) -> torch.Tensor:
    return x.flip(0)


@_mystery.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


_ELSEWHERE = """
import sys
import eipack
from eipack.parity.tolerance import compare
from eipack.tree import flatten

path, target = sys.argv[1:]
package = eipack.open(path)
inputs, expected = package.samples()
args, kwargs = package.signature.nest(inputs)
with eipack.load(path, target=target) as session:
    answer = flatten(package.signature.output_tree, session(*args, **kwargs))
for wanted, got in zip(expected, answer, strict=True):
    difference = compare(wanted, got)
    if not difference.agrees:
        sys.exit(f"the answer differs by {difference.max_abs} {difference.reason}")
"""
