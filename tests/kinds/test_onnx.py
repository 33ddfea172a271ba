import pytest
import torch
from torch import nn

from eipack.errors import MalformedPackage
from eipack.kinds import codec

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 64)
        self.b = nn.Linear(64, 16)
        self.register_buffer("halves", torch.randn(16, 64).half())

    def forward(self, x):
        return self.b(torch.relu(self.a(x)) + x @ self.halves.float())


X = torch.randn(2, 16)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model().eval()


@pytest.fixture(scope="module")
def converted(model):
    program = torch.export.export(model, (X,))
    return torch.onnx.export(program, dynamo=True, optimize=False, verbose=False).model_proto


def answer(model_bytes):
    session = runtime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X.numpy()})[0]


def test_a_model_comes_back_byte_for_byte_but_for_the_traces_of_its_capture(converted, reload):
    expected = onnx.ModelProto()
    expected.CopyFrom(converted)
    for node in expected.graph.node:
        kept = [prop for prop in node.metadata_props if not prop.key.endswith("stack_trace")]
        assert len(kept) < len(node.metadata_props)
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    back = reload("onnx", converted)
    assert back.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


def test_larger_initialisers_are_the_models_own_weights(model, converted, store):
    package = store(model, onnx=converted)
    (record,) = package.programs
    names = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    assert {"a.weight", "b.weight", "halves"} <= set(record.bindings.values()) <= names
    graph = package._file.read("programs/onnx/graph.onnx")
    assert not any(t.numpy().tobytes() in graph for t in (model.a.weight.detach(), model.halves))


def test_text_and_small_initialisers_stay_in_the_graph(store):
    text = onnx.helper.make_tensor("text", onnx.TensorProto.STRING, [500], [b"four"] * 500)
    small = onnx.numpy_helper.from_array(torch.arange(3).numpy(), "small")
    graph = onnx.helper.make_graph([], "g", [], [], [text, small])
    package = store(onnx=onnx.helper.make_model(graph))
    assert package.program("onnx").bindings == {}


def test_the_model_given_keeps_its_initialisers(converted, store):
    before = converted.ByteSize()
    store(onnx=converted)
    assert converted.ByteSize() == before


def test_a_graph_that_wants_bytes_from_elsewhere_is_refused(store):
    weight = onnx.TensorProto(name="w", dims=[4], data_type=onnx.TensorProto.FLOAT)
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    package = store(onnx=onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [weight])))
    reader = package._read_program(package.program("onnx"))
    with pytest.raises(MalformedPackage, match="'w' is bound to no weights"):
        codec("onnx").load(reader, torch.device("cpu"))


@pytest.mark.parametrize("limit", [2**31, 1000], ids=["one file", "weights beside it"])
def test_an_extracted_file_runs_without_eipack(
    model, converted, store, tmp_path, monkeypatch, limit
):
    monkeypatch.setattr("eipack.kinds.onnx._PROTOBUF_LIMIT", limit)
    package = store(onnx=converted)
    reader = package._read_program(package.program("onnx"))
    codec("onnx").extract(reader, (), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").exists() == (limit == 1000)
    torch.testing.assert_close(torch.from_numpy(answer(str(tmp_path / "model.onnx"))), model(X))
