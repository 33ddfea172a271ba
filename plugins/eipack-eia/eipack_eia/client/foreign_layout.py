"""Requests to servers that are not eipack's, and their answers, outputs by name.

Tensors travel in binary where the server has that extension, otherwise as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from attrs import define, frozen

from eipack.dtypes import torch_dtype
from eipack.errors import ProtocolError
from eipack.signature import Signature, TensorSpec
from eipack_eia import oip
from eipack_eia.client.connection import Wire
from eipack_eia.client.foreign_model import Binding, model_path
from eipack_eia.client.infer import Layout, Timing, aligned, request_head

if TYPE_CHECKING:
    from torch import Tensor


@define(eq=False)
class ForeignLayout(Layout):
    """A request whose answer may have its outputs in any order, and more than were asked for."""

    expected: tuple[tuple[str, TensorSpec], ...] = ()

    def order(self, outputs: list[oip.WireTensor]) -> list[oip.WireTensor]:
        """Return the outputs that were asked for, in the signature's order.

        Raises:
            ProtocolError: One is missing, is there twice, or is of another dtype or shape than the
                signature says.
        """
        names = Counter(one.name for one in outputs)
        there = {one.name: one for one in outputs}
        for name, spec in self.expected:
            if names[name] != 1:
                raise ProtocolError(f"the answer has output {name!r} {names[name]} times, not once")
            _check(there[name], spec)
        return [there[name] for name, _ in self.expected]


def _check(one: oip.WireTensor, spec: TensorSpec) -> None:
    fits = len(one.shape) == len(spec.shape) and all(
        actual == size
        for actual, size in zip(one.shape, spec.shape, strict=False)
        if isinstance(size, int)
    )
    if not fits or one.datatype != oip.datatype_of(torch_dtype(spec.dtype)):
        raise ProtocolError(
            f"the answer has output {one.name!r} as {one.datatype}{one.shape}; the package says "
            f"{spec}"
        )


@frozen
class Form:
    """How a model is asked: its names, and in what form tensors travel."""

    host: str
    signature: Signature
    binding: Binding
    headers: dict[str, str]
    binary: bool

    @property
    def path(self) -> str:
        """The path that inferences are sent to."""
        return f"{model_path(self.binding.model)}/infer"

    @property
    def expected(self) -> tuple[tuple[str, TensorSpec], ...]:
        """The server's name of each output, and what it is."""
        return tuple(zip(self.binding.outputs, self.signature.outputs, strict=True))

    def lay_out(
        self, inputs: Sequence[Tensor], parameters: Mapping[str, Any]
    ) -> ForeignLayout | JsonLayout:
        """Lay out a request for inputs of these shapes.

        Raises:
            UnsupportedModel: The protocol has no datatype for an input.
        """
        if not self.binary:
            return JsonLayout(self, dict(parameters))
        announced = map(oip.announce, self.binding.inputs, inputs)
        size = sum(tensor.numel() * tensor.element_size() for tensor in inputs)
        document = self.document(list(announced), parameters, {"binary_data": True})
        prefix = aligned(self.host, self.path, document, size, self.headers)
        return ForeignLayout(prefix, expected=self.expected)

    def document(
        self,
        inputs: list[dict[str, Any]],
        parameters: Mapping[str, Any],
        of_outputs: dict[str, Any],
    ) -> dict[str, Any]:
        """Return the JSON of a request."""
        outputs: list[dict[str, Any]] = [{"name": name} for name in self.binding.outputs]
        if of_outputs:
            outputs = [one | {"parameters": of_outputs} for one in outputs]
        document: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
        return document | ({"parameters": dict(parameters)} if parameters else {})


@define(eq=False)
class JsonLayout:
    """A request without binary tensors, which is made anew for each call."""

    form: Form
    parameters: dict[str, Any]

    def ask(self, wire: Wire, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Timing]:
        """Send inputs and return outputs.

        Raises:
            OSError: The connection is broken.
            ProtocolError: JSON has no number for a value, or the answer is odd.
            EipackError: What the server answered.
        """
        form = self.form
        given = list(map(oip.as_json, form.binding.inputs, inputs))
        body = msgspec.json.encode(form.document(given, self.parameters, {}))
        head = request_head(form.host, form.path, None, len(body), form.headers)
        return ForeignLayout(memoryview(head + body), expected=form.expected).ask(wire, ())
