"""From an eipack program to a model of OpenVINO, whose frontends take all three portable kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import torch

from eipack.backend import ProgramReader
from eipack.errors import UnsupportedModel
from eipack.kinds import codec
from eipack.signature import DimSize, Signature, Size
from eipack_openvino.errors import unsupported
from eipack_openvino.exactness import made_exact
from eipack_openvino.flat import flat_script, input_order, output_order
from eipack_openvino.library import core, element_types, openvino

_CPU: Final = torch.device("cpu")
_SIZES: Final = {
    "aten::sym_numel": ("aten::numel", "%x"),
    "aten::sym_size": ("aten::size", "%x, %axis"),
}


def converted(reader: ProgramReader) -> Any:
    """Return a program as a model whose inputs and outputs are those of the signature.

    Its constants share the memory of the program's tensors where OpenVINO can.

    Raises:
        UnsupportedModel: OpenVINO lacks an operator or a dtype of the program.
    """
    signature = reader.signature
    _require_dtypes(signature)
    artifact = codec(reader.kind).load(reader, _CPU)
    with unsupported():
        model = _CONVERTERS[reader.kind](artifact, signature, reader.convention == "native")
        _require_counts(model, signature)
        return made_exact(model, signature, reader.kind)


def _require_dtypes(signature: Signature) -> None:
    for spec in (*signature.inputs, *signature.outputs):
        if spec.dtype not in element_types():
            raise UnsupportedModel(
                f"OpenVINO does not compute in {spec.dtype}, which {spec.name!r} has; use "
                "another engine"
            )


def _require_counts(model: Any, signature: Signature) -> None:
    there = (len(model.inputs), len(model.outputs))
    if there != (len(signature.inputs), len(signature.outputs)):
        raise UnsupportedModel(
            f"OpenVINO's conversion of this program has {there[0]} inputs and {there[1]} outputs; "
            "use another engine"
        )


def _from_torchscript(module: Any, signature: Signature, native: bool) -> Any:  # noqa: FBT001
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    if native:
        module = flat_script(module, signature)
    _without_symbols(module.graph)
    order = range(len(signature.inputs))
    return _from_torch(TorchScriptPythonDecoder(module), signature, order)


def _without_symbols(graph: Any) -> None:
    """Name sizes as OpenVINO knows them; torch.export gave them names of its own."""
    torch._C._jit_pass_inline(graph)
    for symbolic, (plain, given) in _SIZES.items():
        text = f"graph({given}):\n  %size : int = {{}}({given})\n  return (%size)"
        torch._C._jit_pass_custom_pattern_based_rewrite_graph(
            text.format(symbolic), text.format(plain), graph
        )


def _from_exported(exported: Any, signature: Signature, native: bool) -> Any:  # noqa: FBT001
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    order: Sequence[int] = range(len(signature.inputs))
    outputs: Sequence[int] = range(len(signature.outputs))
    if native:
        order = input_order(exported, signature)
        outputs = output_order(exported, signature)
    graph = exported.run_decompositions(_decompositions()).module(check_guards=False)
    model = _from_torch(TorchFXPythonDecoder(graph, dynamic_shapes=True), signature, order)
    return _reordered(model, order, outputs)


def _decompositions() -> Any:
    """Return torch's decompositions but for the operators that OpenVINO has itself."""
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
    from torch.export.decomp_utils import CustomDecompTable

    table = CustomDecompTable()  # type: ignore[no-untyped-call]
    for operator in ops_to_not_decompose():
        with suppress(KeyError):  # not every version of torch decomposes each of them
            table.pop(operator)  # type: ignore[no-untyped-call]
    return table


def _from_torch(decoder: Any, signature: Signature, order: Sequence[int]) -> Any:
    """Convert what a decoder reads; `order` says which input of the signature each one is."""
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("pytorch")
    loaded = frontend.load(decoder)
    places = loaded.get_inputs()
    for place, index in zip(places[-len(order) :] if order else (), order, strict=True):
        spec = signature.inputs[index]
        loaded.set_element_type(place, element_types()[spec.dtype])
        loaded.set_partial_shape(place, _shape(signature, spec.shape))
    return frontend.convert(loaded)


def _from_onnx(proto: Any, signature: Signature, native: bool) -> Any:  # noqa: FBT001
    model = core().read_model(proto.SerializeToString(), b"")
    shapes = [_shape(signature, spec.shape) for spec in signature.inputs]
    model.reshape(dict(enumerate(shapes)))
    return model


def _reordered(model: Any, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    """Put inputs and outputs into the order of the signature."""
    if list(inputs) == sorted(inputs) and list(outputs) == sorted(outputs):
        return model
    parameters = model.get_parameters()
    results = model.get_results()
    return openvino().Model(
        [results[place] for place in outputs],
        [parameters[inputs.index(index)] for index in range(len(inputs))],
    )


def _shape(signature: Signature, sizes: Sequence[Size]) -> Any:
    return openvino().PartialShape([_dimension(signature, size) for size in sizes])


def _dimension(signature: Signature, size: Size) -> Any:
    dimension = openvino().Dimension
    if not isinstance(size, DimSize):
        return dimension(size)
    dim = signature.dim(size.dim)
    bounds = (dim.min, dim.max) if dim.sizes is None else (min(dim.sizes), max(dim.sizes))
    low, high = (None if bound is None else size.at({size.dim: bound}) for bound in bounds)
    return dimension(low, -1 if high is None else high)


_CONVERTERS: Final[dict[str, Callable[[Any, Signature, bool], Any]]] = {
    "torchscript": _from_torchscript,
    "exported": _from_exported,
    "onnx": _from_onnx,
}
