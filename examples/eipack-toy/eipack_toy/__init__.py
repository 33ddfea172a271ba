"""A complete third-party backend for eipack: the device `toy`.

It pretends to be an accelerator with an instruction format of its own. Programs are
compiled to that format when they are exported, and loaded from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from attrs import evolve

from eipack import Backend, Device, LoadOptions, Program, ProgramReader, ProgramWriter, Target

if TYPE_CHECKING:
    from eipack_toy.machine import Machine


class ToyBackend(Backend):
    """Serve `toy:0` and `toy:1`."""

    device = "toy"
    kinds = ("toy", "exported")

    def devices(self) -> Sequence[Device]:
        """List the two devices, which are always there."""
        return [Device(Target("toy", ordinal=n), f"pretended device {n}") for n in range(2)]

    def compile(self, program: Program, target: Target) -> Program:
        """Translate an exported program to instructions."""
        from eipack_toy.assembler import assemble

        return evolve(program, kind="toy", convention="flat", artifact=assemble(program.artifact))

    def save(self, program: Program, writer: ProgramWriter) -> None:
        """Write the instructions, and leave the weights to the package, which has them already."""
        code = program.artifact
        views = {}
        for key, tensor in code.tensors.items():
            writer.tensor(key, tensor)
            dtype = str(tensor.dtype).removeprefix("torch.")
            views[key] = [dtype, list(tensor.shape), tensor.stride(), tensor.storage_offset()]
        header = {"inputs": code.inputs, "outputs": code.outputs, "tensors": views}
        writer.member("program.json", json.dumps({**header, "steps": code.steps}).encode())

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Machine:
        """Bind the instructions to the package's bytes; an exported program is compiled first."""
        import torch

        from eipack.kinds import codec
        from eipack_toy.assembler import Code, assemble
        from eipack_toy.machine import Machine

        self.find(target)
        if reader.kind == "exported":
            return Machine(assemble(codec("exported").load(reader, torch.device("cpu"))))
        stored = json.loads(reader.member("program.json"))
        tensors = {}
        for key, (dtype, *view) in stored["tensors"].items():
            tensors[key] = reader.storage(key).view(getattr(torch, dtype)).as_strided(*view)
        return Machine(Code(stored["inputs"], stored["outputs"], stored["steps"], tensors))

    def context(self, target: Target) -> AbstractContextManager[Any]:
        """Return torch's inference mode, since the pretended device borrows torch's arithmetic."""
        import torch

        return torch.inference_mode()
