import io
import zipfile

import pytest
import torch
from torch import nn

from eipack.errors import UnsupportedModel
from eipack.kinds import codec


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x.long().clamp(0, 9)))


class Lists(nn.Module):
    table: dict[str, torch.Tensor]
    rows: list[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.rows = [torch.randn(4), torch.randn(4)]
        self.table = {"a": torch.randn(4), "b": self.rows[0]}
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x + self.rows[0] * self.table["a"] - self.rows[1] * self.table["b"]


class Constants(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("hidden", torch.randn(4), persistent=False)
        self.constant = torch.randn(4)

    def forward(self, x):
        return x * self.constant + self.hidden + torch.arange(4.0)


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
        self.transposed = nn.Parameter(torch.randn(6, 4).t())
        self.register_buffer("slice", torch.randn(10)[2:6])
        self.register_buffer("expanded", torch.randn(1, 4).expand(4, 4))

    def forward(self, x):
        y = self.conv(x.reshape(1, 1, 2, 2).expand(1, 3, 2, 2)).flatten()
        return (y + self.slice + self.expanded) @ self.transposed


class Dtypes(nn.Module):
    def __init__(self):
        super().__init__()
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool):
            self.register_buffer(str(dtype).replace(".", "_"), torch.ones(4).to(dtype))
        self.register_buffer("f8", torch.randn(4).to(torch.float8_e4m3fn))
        self.register_buffer("f8_other", torch.randn(4).to(torch.float8_e5m2fnuz))
        self.register_buffer("c64", torch.randn(4, dtype=torch.complex64))
        self.register_buffer("c128", torch.randn(4, dtype=torch.complex128))
        self.register_buffer("conjugate", torch.randn(4, dtype=torch.complex64).conj())
        self.register_buffer("u16", torch.arange(4).to(torch.uint16))
        self.register_buffer(
            "quantised", torch.quantize_per_tensor(torch.rand(4), 0.1, 3, torch.qint8)
        )
        self.scalar = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("empty", torch.zeros(0, 4))
        self.register_buffer("other_empty", torch.zeros(4, 0, dtype=torch.int64))

    def forward(self, x):
        x = x * self.torch_float16 + self.torch_bfloat16 + self.torch_float64
        x = x + self.torch_int8 * self.torch_bool
        x = (
            x
            + self.f8.float()
            + self.f8_other.float()
            + self.u16.float()
            + self.quantised.dequantize()
        )
        x = x + (self.c64 * self.conjugate).imag + self.c128.real
        return torch.cat([x * self.scalar, self.empty.flatten()])


X = torch.randn(1, 4)
MODULES = [Tied, Lists, Constants, Strided, Dtypes]


def quantised():
    model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4))
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)


def traced(model):
    return torch.jit.trace(model, X)


def frozen(model):
    return torch.jit.freeze(torch.jit.script(model))


CASES = {
    f"{capture.__name__} {kind.__name__}": (capture, kind)
    for kind in MODULES
    for capture in (traced, torch.jit.script, frozen)
    # scripting knows fewer dtypes, and freezing no lists that share a tensor
    if capture is traced or kind is not Dtypes
    if capture is not frozen or kind is not Lists
}
CASES["script quantised"] = (torch.jit.script, quantised)
CASES["traced quantised"] = (traced, quantised)


def storages(module):
    """Read every storage that TorchScript's own file of a module has, by number."""
    out = io.BytesIO()
    torch.jit.save(module, out)
    archive = zipfile.ZipFile(out)
    names = [name for name in archive.namelist() if name.partition("/")[2][:4] in ("data", "cons")]
    return {name.partition("/")[2]: archive.read(name) for name in names if "pkl" not in name}


@pytest.mark.parametrize(("capture", "kind"), CASES.values(), ids=CASES)
def test_a_module_comes_back_with_every_byte_and_every_answer(capture, kind, reload):
    model = kind()
    module = capture(model.eval())
    back = reload("torchscript", module)
    assert storages(back) == storages(module)
    assert torch.equal(back(X), module(X))
    for (name, tensor), (other, loaded) in zip(
        module.state_dict().items(), back.state_dict().items(), strict=True
    ):
        assert (name, tensor.dtype, tensor.shape) == (other, loaded.dtype, loaded.shape)
        assert tensor.stride() == loaded.stride()


def test_tied_weights_stay_tied(reload):
    back = reload("torchscript", torch.jit.script(Tied()))
    assert back.embed.weight.data_ptr() == back.head.weight.data_ptr()


def test_listed_tensors_that_are_one_stay_one(reload):
    back = reload("torchscript", torch.jit.script(Lists()))
    assert back.rows[0].data_ptr() == back.table["b"].data_ptr()


def test_weights_start_at_multiples_of_64_bytes(reload):
    back = reload("torchscript", torch.jit.script(Lists()))
    assert all(tensor.data_ptr() % 64 == 0 for tensor in back.state_dict().values())


def test_the_stored_graph_holds_no_storage_and_no_path_of_this_machine(store):
    package = store(torchscript=torch.jit.script(Tied()))
    with zipfile.ZipFile(io.BytesIO(package._file.read("programs/torchscript/graph.pt"))) as graph:
        assert not [name for name in graph.namelist() if "storage" in name or "debug" in name]
        assert not [name for name in graph.namelist() if __file__.encode() in graph.read(name)]


@pytest.mark.parametrize(
    "capture", [torch.jit.script, lambda m: torch.jit.trace(m, torch.arange(4))]
)
def test_operators_keep_the_meaning_they_have_in_this_torch(capture, reload):
    class Divide(nn.Module):
        def forward(self, x):
            return torch.div(x, 2)

    x = torch.arange(4)
    assert torch.equal(reload("torchscript", capture(Divide()))(x), x / 2)


def test_weights_that_the_model_has_are_shared_and_packed_ones_stored_beside(store):
    model = nn.Sequential(nn.Linear(64, 64))
    package = store(model, torchscript=torch.jit.script(model))
    assert [entry.name for entry in package.manifest.entries] == ["0.weight", "0.bias"]
    packed = quantised()
    package = store(packed, torchscript=torch.jit.script(packed))
    (record,) = package.programs
    assert record.own_bytes > 64 * 4 * 2
    assert {entry.name.partition(".")[0] for entry in package.manifest.entries} == {"torchscript"}


def test_a_module_that_torchscript_cannot_read_again_is_refused(reload):
    optimised = torch.jit.optimize_for_inference(frozen(nn.Conv2d(3, 4, 3).eval()))
    with pytest.raises(UnsupportedModel, match="TorchScript cannot load"):
        reload("torchscript", optimised)


@pytest.mark.parametrize("module", [Tied, Strided, Constants])
def test_an_extracted_file_needs_no_eipack(module, store, tmp_path):
    model = module().eval()
    package = store(model, torchscript=torch.jit.script(model))
    reader = package._read_program(package.program("torchscript"))
    codec("torchscript").extract(reader, (), tmp_path / "model.pt")
    assert torch.equal(torch.jit.load(tmp_path / "model.pt")(X), model(X))
