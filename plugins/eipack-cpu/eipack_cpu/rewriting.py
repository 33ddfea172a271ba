"""Let oneDNN run the linear, convolution and LSTM layers of a frozen TorchScript graph.

Each becomes one `mkldnn` operator that takes its weight as it lies in the package, or packed
for this processor, and that applies the activation behind it, and for convolutions the
addition too, before the result leaves the caches. In bfloat16 what lies between such
layers and only moves values stays in bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from attrs import evolve, frozen
from torch import Tensor

from eipack_cpu.graphs import Editor, constant_tensor, every_node, only_user, sizes_of
from eipack_cpu.narrowing import BFLOAT16, FLOAT32, stay_narrow
from eipack_cpu.recurrent import pack_lstms

_ACTIVATIONS: Final = {
    "aten::relu": "relu",
    "aten::sigmoid": "sigmoid",
    "aten::tanh": "tanh",
    "aten::silu": "swish",
    "aten::hardswish": "hardswish",
    "aten::hardsigmoid": "hardsigmoid",
    "aten::gelu": "gelu",
}
_LINEARS: Final = frozenset({"aten::linear", "aten::addmm", "aten::matmul"})
_CONVOLUTIONS: Final = {"aten::conv2d": 3, "aten::_convolution": 3, "aten::convolution": 3}
_BY_STRIDES: Final = ("aten::as_strided", "aten::stride", "aten::is_contiguous", "aten::view_as")


@frozen
class Choices:
    """How layers are run: weights packed for this processor or as they lie; in bfloat16 or not."""

    prepack: bool = True
    fuse: bool = True
    bfloat16: bool = False


@frozen(eq=False)
class _Layer:
    """A linear or convolution layer: its node, weight and bias.

    `geometry` has padding, strides, dilations and groups of a convolution, `size` is that of what
    it is given, the smallest where calls differ.
    """

    node: Any
    weight: Tensor
    bias: Tensor | None
    geometry: tuple[Any, ...] = ()
    size: tuple[int, ...] = ()

    @property
    def given(self) -> Any:
        """The value that it is applied to, which changes while layers before it are replaced."""
        return list(self.node.inputs())[1 if self.node.kind() == "aten::addmm" else 0]


def rewrite(
    graph: Any, inputs: tuple[Tensor, ...] | None, choices: Choices, *, static: bool
) -> None:
    """Edit a frozen graph in place.

    `inputs` are some that fit the signature, for the sizes of what convolutions are given; without
    them only linear layers are rewritten. `static` says that every call has those sizes.
    """
    pure = not any(node.kind().endswith("_") for node in every_node(graph))
    if pure and static and inputs is not None and choices.prepack:
        pack_lstms(graph, inputs)
    linears = [layer for node in graph.nodes() if (layer := _linear(node)) is not None]
    convolutions = []
    sizes: dict[int, torch.Size] = {}
    if pure and inputs is not None and not _depends_on_strides(graph):
        found = [layer for node in graph.nodes() if (layer := _convolution(node)) is not None]
        sizes = _sizes(graph, found, inputs)
        sized = [evolve(layer, size=sizes.get(layer.given.unique(), ())) for layer in found]
        convolutions = [layer for layer in sized if len(layer.size) == 4]
    if convolutions:
        _allow_any_strides(graph)
    for layer in [*linears, *convolutions]:
        _replace(graph, layer, choices, sizes if static else {}, fuse=pure and choices.fuse)
    if choices.bfloat16 and pure:
        stay_narrow(graph)
    torch._C._jit_pass_dce(graph)


def _depends_on_strides(graph: Any) -> bool:
    return any(node.kind().startswith(_BY_STRIDES) for node in every_node(graph))


def _linear(node: Any) -> _Layer | None:
    if node.kind() not in _LINEARS:
        return None
    values = list(node.inputs())
    bias: Tensor | None = None
    if node.kind() == "aten::addmm":
        bias, weight = constant_tensor(values[0]), constant_tensor(values[2])
        scaled = any(value.toIValue() != 1 for value in values[3:])
        if bias is None or bias.dim() != 1 or scaled:
            return None
    else:
        weight = constant_tensor(values[1])
    if weight is None or weight.dim() != 2:
        return None
    if node.kind() == "aten::linear":
        bias = constant_tensor(values[2])
        if bias is None and not values[2].node().mustBeNone():
            return None
    else:
        weight = weight.t()
    return _Layer(node, weight, bias) if _fits(weight, bias) else None


def _convolution(node: Any) -> _Layer | None:
    if node.kind() not in _CONVOLUTIONS:
        return None
    values = list(node.inputs())
    weight, bias = constant_tensor(values[1]), constant_tensor(values[2])
    if weight is None or weight.dim() != 4 or (bias is None and not values[2].node().mustBeNone()):
        return None
    rest = [value.toIValue() for value in values[3:]]
    if node.kind() == "aten::conv2d":
        stride, padding, dilation, groups = rest
    else:
        stride, padding, dilation, transposed, output_padding, groups = rest[:6]
        if transposed or any(output_padding):
            return None
    if not all(isinstance(one, list) for one in (stride, padding, dilation)):
        return None  # by name, as 'same'
    pairs = [one * 2 if len(one) == 1 else one for one in (padding, stride, dilation)]
    if not _fits(weight, bias):
        return None
    return _Layer(node, weight, bias, (*pairs, groups))


def _fits(weight: Tensor, bias: Tensor | None) -> bool:
    plain = weight.dtype == torch.float32 and weight.layout is torch.strided
    return plain and weight.numel() > 0 and (bias is None or bias.dtype == torch.float32)


def _sizes(graph: Any, layers: list[_Layer], inputs: tuple[Tensor, ...]) -> dict[int, torch.Size]:
    wanted = {layer.given.unique(): layer.given for layer in layers}
    for layer in layers:
        user = only_user(layer.node.output())
        if user is not None and user.kind() == "aten::add":
            for value in list(user.inputs())[:2]:
                if value.type().kind() == "TensorType":
                    wanted[value.unique()] = value
    return sizes_of(graph, list(wanted.values()), inputs) if wanted else {}


def _allow_any_strides(graph: Any) -> None:
    """Let no view ask for the strides of contiguous tensors: convolutions give channels last."""
    for node in [n for n in graph.nodes() if n.kind() == "aten::view"]:
        given, size = list(node.inputs())
        if size.type().kind() != "ListType":
            continue
        made = graph.create("aten::reshape", [given, size], 1)
        made.output().setType(node.output().type())
        made.insertBefore(node)
        node.output().replaceAllUsesWith(made.output())
        node.destroy()


def _replace(
    graph: Any, layer: _Layer, choices: Choices, sizes: dict[int, torch.Size], *, fuse: bool
) -> None:
    """Put one operator where the last of the nodes stood that it stands for."""
    nodes, activation, other = [layer.node], None, None
    if fuse:
        other = _other_of_sum(layer, sizes)
        if other is not None:
            nodes.append(only_user(nodes[-1].output()))
        activation = only_user(nodes[-1].output())
        known = {"aten::relu": "relu"} if other is not None else _ACTIVATIONS
        if activation is not None and activation.kind() in known:
            nodes.append(activation)
        else:
            activation = None
    last = nodes[-1]
    with graph.insert_point_guard(last):
        editor = Editor(graph)
        result = _called(editor, layer, choices, activation, other)
    for value in (last.output(), layer.node.output()):
        if value.unique() in sizes:
            sizes[result.unique()] = sizes[value.unique()]
    last.output().replaceAllUsesWith(result)
    for node in reversed(nodes):
        node.destroy()


def _other_of_sum(layer: _Layer, sizes: Mapping[int, torch.Size]) -> Any | None:
    """Return what is added to a convolution's result, if it has the same sizes in every call."""
    own = layer.node.output()
    user = only_user(own)
    if not layer.geometry or user is None or user.kind() != "aten::add":
        return None
    left, right, alpha = user.inputs()
    other = right if left.unique() == own.unique() else left
    same = sizes.get(own.unique()) is not None and sizes.get(own.unique()) == sizes.get(
        other.unique()
    )
    return other if same and alpha.toIValue() == 1 else None


def _called(
    editor: Editor, layer: _Layer, choices: Choices, activation: Any | None, other: Any | None
) -> Any:
    low = choices.bfloat16
    given = editor.cast(layer.given, BFLOAT16) if low else layer.given
    if other is not None and low:
        other = editor.cast(other, BFLOAT16)
    weight = editor.constant(_weight(layer, choices))
    bias = editor.constant(
        layer.bias if layer.bias is None or not low else layer.bias.to(torch.bfloat16)
    )
    geometry = [editor.constant(part) for part in layer.geometry]
    kind = "mkldnn::_convolution_pointwise" if layer.geometry else "mkldnn::_linear_pointwise"
    name = _ACTIVATIONS[activation.kind()] if activation is not None else "none"
    if other is not None:
        unary = editor.constant(None if activation is None else name)
        sum_of = [editor.constant("add"), editor.constant(None), unary, editor.scalars()]
        rest = [*geometry, *sum_of, editor.constant(None)]
        result = editor.call(kind, [given, other, weight, bias, *rest])
    else:
        rest = [editor.constant(name), editor.scalars(), editor.constant(_algorithm(activation))]
        result = editor.call(kind, [given, weight, bias, *geometry, *rest])
    return editor.cast(result, FLOAT32) if low else result


def _algorithm(activation: Any | None) -> str:
    if activation is None or activation.kind() != "aten::gelu":
        return ""
    return str(list(activation.inputs())[1].toIValue())


def _weight(layer: _Layer, choices: Choices) -> Tensor:
    """Return a weight as its layer takes it.

    A convolution's is packed for the size of what it is given: packed for none in particular,
    it may have to be packed again in each call.
    """
    weight = layer.weight.to(torch.bfloat16) if choices.bfloat16 else layer.weight
    if not choices.prepack:
        return weight
    packed: Tensor
    if layer.geometry:
        padding, stride, dilation, groups = layer.geometry
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, padding, stride, dilation, groups, list(layer.size)
        )
    else:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed
