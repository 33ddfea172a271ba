import io
import zipfile

import pytest
import torch
from torch import nn

from eipack.errors import MalformedPackage, UnsupportedModel
from eipack.kinds import codec


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.transposed = nn.Parameter(torch.randn(6, 4).t())
        self.register_buffer("slice", torch.randn(10)[2:6])
        self.register_buffer("hidden", torch.randn(4), persistent=False)
        self.register_buffer("halves", torch.randn(4).half())
        self.register_buffer("f8", torch.randn(4).to(torch.float8_e4m3fn))
        self.register_buffer("c64", torch.randn(4, dtype=torch.complex64))
        self.register_buffer("image", torch.randn(1, 2, 2, 3).permute(0, 3, 1, 2))
        self.scalar = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("empty", torch.zeros(0))
        self.constant = torch.randn(4)

    def forward(self, x):
        x = x * self.constant + self.hidden + self.halves + self.f8.float() + self.slice
        x = x + self.c64.real * self.scalar + self.image.sum() + self.empty.sum()
        return self.head(x) @ self.embed.weight @ self.transposed


X = torch.randn(2, 4)


@pytest.fixture(scope="module")
def exported():
    torch.manual_seed(0)
    return torch.export.export(Everything().eval(), (X,))


def test_a_program_comes_back_with_every_tensor_and_every_answer(exported, reload):
    back = reload("exported", exported)
    assert torch.equal(back.module()(X), exported.module()(X))
    for before, after in (
        (exported.state_dict, back.state_dict),
        (exported.constants, back.constants),
    ):
        assert list(before) == list(after)
        for name, tensor in before.items():
            assert torch.equal(tensor, after[name])
            assert (tensor.dtype, tensor.stride()) == (after[name].dtype, after[name].stride())
            assert isinstance(tensor, nn.Parameter) == isinstance(after[name], nn.Parameter)


def test_tied_weights_stay_tied(exported, reload):
    back = reload("exported", exported)
    embed, head = back.state_dict["embed.weight"], back.state_dict["head.weight"]
    assert embed.data_ptr() == head.data_ptr()


def test_the_program_given_keeps_its_tensors_and_example_inputs(exported, store):
    store(exported=exported)
    assert exported.state_dict["head.weight"].shape == (10, 4)
    assert exported.example_inputs is not None
    assert any("stack_trace" in node.meta for node in exported.graph.nodes)


def test_the_stored_graph_holds_no_pickle_and_no_weights(exported, store):
    package = store(exported=exported)
    data = package._file.read("programs/exported/graph.pt2")
    with zipfile.ZipFile(io.BytesIO(data)) as graph:
        sizes = {info.filename: info.file_size for info in graph.infolist()}
        pickles = [name for name in sizes if graph.read(name)[:2] in (b"\x80\x02", b"PK")]
    assert pickles == []
    assert sum(size for name, size in sizes.items() if "/data/" in name) < 10_000


def test_two_kinds_of_one_model_share_its_bytes(store, exported):
    torch.manual_seed(0)
    model = Everything().eval()
    package = store(model, exported=exported, torchscript=torch.jit.trace(model, X))
    names = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    (constant,) = {entry.name for entry in package.manifest.entries} - names
    assert all(constant in record.bindings.values() for record in package.programs)


def test_a_table_of_other_tensors_is_refused(exported, store):
    package = store(exported=exported)
    reader = package._read_program(package.program("exported"))

    class Fewer:
        keys = reader.keys
        storage = reader.storage

        def member(self, name):
            return reader.member(name) if name == "graph.pt2" else b"[]"

    with pytest.raises(MalformedPackage, match="other tensors"):
        codec("exported").load(Fewer(), torch.device("cpu"))


def test_an_object_that_is_no_tensor_is_refused_with_its_name(exported, store):
    class Opaque:
        pass

    holder = torch.export.export(nn.Linear(4, 4), (X,))
    holder._constants["queue"] = Opaque()
    with pytest.raises(UnsupportedModel, match="'queue', a Opaque"):
        store(exported=holder)


def test_a_quantised_tensor_is_refused_since_its_scale_would_be_lost(store):
    holder = torch.export.export(nn.Linear(4, 4), (X,))
    holder._constants["q"] = torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.qint8)
    with pytest.raises(UnsupportedModel, match="'q', a quantised"):
        store(exported=holder)


def test_an_extracted_file_needs_no_eipack(exported, store, tmp_path):
    package = store(exported=exported)
    reader = package._read_program(package.program("exported"))
    codec("exported").extract(reader, (X,), tmp_path / "model.pt2")
    back = torch.export.load(tmp_path / "model.pt2")
    assert torch.equal(back.module()(X), exported.module()(X))
    assert torch.equal(back.example_inputs[0][0], X)
