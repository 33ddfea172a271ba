"""Let oneDNN run the LSTMs of a frozen TorchScript graph on weights packed once.

PyTorch runs them by oneDNN too, but packs their weights anew in each call. What is packed holds
for one length and batch, so only graphs whose calls all have the same sizes are edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import torch
from attrs import frozen
from torch import Tensor

from eipack_cpu.graphs import Editor, sizes_of

_LSTM: Final = 2
"""The number of this kind of cell among oneDNN's, as PyTorch passes it."""
_CONTIGUOUS: Final = 0
"""The number of that memory format in TorchScript."""


@frozen(eq=False)
class _Lstm:
    """An LSTM of some layers: its node, weights in PyTorch's order, and what it is given.

    `size` is that of its input: length, batch and features.
    """

    node: Any
    weights: tuple[Tensor, ...]
    state: tuple[Any, Any]
    layers: int
    directions: int
    batch_first: bool
    size: tuple[int, ...] = ()

    @classmethod
    def read(cls, node: Any, editor: Editor) -> Self | None:
        """Read a node; None where it is no LSTM, or one of a form that is left as it is."""
        if node.kind() != "aten::lstm":
            return None
        given, state, weights, *rest = node.inputs()
        if given.type().kind() != "TensorType" or state.type().kind() != "ListType":
            return None  # packed sequences
        tensors, parts = weights.toIValue(), _parts(state, editor)
        biased, layers, _, train, bidirectional, batch_first = [one.toIValue() for one in rest]
        directions = 1 + bool(bidirectional)
        whole = tensors is not None and len(tensors) == 4 * layers * directions  # no projections
        if not whole or not biased or train is not False or parts is None:
            return None
        if any(one.dtype != torch.float32 or one.layout != torch.strided for one in tensors):
            return None
        return cls(node, tuple(tensors), parts, layers, directions, bool(batch_first))


def pack_lstms(graph: Any, inputs: Sequence[Tensor]) -> None:
    """Edit a frozen graph in place; `inputs` have the sizes of every call."""
    for node in [node for node in graph.nodes() if node.kind() == "aten::lstm"]:
        given = next(iter(node.inputs()))
        size = sizes_of(graph, [given], inputs).get(given.unique(), ())
        with graph.insert_point_guard(node):
            editor = Editor(graph)
            found = _Lstm.read(node, editor)
            if found is None or len(size) != 3 or not all(size):
                continue
            length, batch, _ = (size[1], size[0], size[2]) if found.batch_first else size
            results = _layers(editor, found, length, batch)
        for old, new in zip(node.outputs(), results, strict=True):
            old.replaceAllUsesWith(new)
        node.destroy()


def _parts(state: Any, editor: Editor) -> tuple[Any, Any] | None:
    """Return the hidden and the cell state that a list holds."""
    if state.node().kind() == "prim::ListConstruct":
        hidden, cell = state.node().inputs()
        return hidden, cell
    known = state.toIValue()
    if known is None or len(known) != 2:
        return None
    return editor.constant(known[0]), editor.constant(known[1])


def _layers(editor: Editor, lstm: _Lstm, length: int, batch: int) -> tuple[Any, Any, Any]:
    """Insert one operator for each layer and direction; return what the LSTM gives."""
    flow = next(iter(lstm.node.inputs()))
    if lstm.batch_first:
        flow = _turned(editor, flow)
    hidden: list[Any] = []
    cell: list[Any] = []
    for layer in range(lstm.layers):
        flow = _contiguous(editor, flow)
        given, found = flow, list[Any]()
        for direction in range(lstm.directions):
            place = layer * lstm.directions + direction
            state = [_contiguous(editor, _slice(editor, one, place)) for one in lstm.state]
            own = lstm.weights[4 * place : 4 * place + 4]
            made = _one(editor, given, own, state, (length, batch), reverse=direction == 1)
            for values, value in zip((found, hidden, cell), made, strict=True):
                values.append(value)
        flow = found[0] if len(found) == 1 else _joined(editor, found, 2)
    flow = _turned(editor, flow) if lstm.batch_first else flow
    return flow, _joined(editor, hidden, 0), _joined(editor, cell, 0)


def _one(
    editor: Editor,
    given: Any,
    own: Sequence[Tensor],
    state: Sequence[Any],
    size: tuple[int, int],
    *,
    reverse: bool,
) -> tuple[Any, Any, Any]:
    """Insert one layer in one direction; return its outputs and its last state."""
    into, again, *biases = own
    width = again.shape[1]
    packed = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
        into, again, width, reverse, True, False, [*size, into.shape[1]]
    )
    constants = [editor.constant(one) for one in (*packed, *biases)]
    rest = [reverse, [], _LSTM, width, 1, True, False, False, False]
    rest = [editor.constant(one) if one != [] else editor.integers() for one in rest]
    made = editor.calls("aten::mkldnn_rnn_layer", [given, *constants, *state, *rest], 4)
    return made[0], made[1], made[2]


def _contiguous(editor: Editor, value: Any) -> Any:
    return editor.call("aten::contiguous", [value, editor.constant(_CONTIGUOUS)])


def _turned(editor: Editor, value: Any) -> Any:
    return editor.call("aten::transpose", [value, editor.constant(0), editor.constant(1)])


def _slice(editor: Editor, value: Any, place: int) -> Any:
    bounds = [editor.constant(one) for one in (0, place, place + 1, 1)]
    return editor.call("aten::slice", [value, *bounds])


def _joined(editor: Editor, values: Sequence[Any], axis: int) -> Any:
    return editor.call("aten::cat", [editor.tensors(values), editor.constant(axis)])
