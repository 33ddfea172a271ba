"""Weights lie in a package once, whatever kinds of program it holds."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import eipack

KINDS = ["torchscript", "exported", "onnx"]


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x, mask=None):
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // 4)
        if mask is not None:
            scores = scores.masked_fill(mask, -1e4)
        joined = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        return self.out(joined)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        mask = torch.ones(64, 64, dtype=torch.bool).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        length = x.shape[1]
        x = x + self.attention(self.norm(x), self.mask[:length, :length])
        return x + self.narrow(torch.nn.functional.gelu(self.wide(x)))


class Gpt(nn.Module):
    """Tied embeddings, and one equal mask a layer that is no parameter."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(500, 64)
        self.places = nn.Embedding(64, 64)
        self.blocks = nn.ModuleList([Block(64) for _ in range(3)])
        self.head = nn.Linear(64, 500, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.again = nn.BatchNorm2d(64)
        self.head = nn.Linear(64, 10)

    def forward(self, image):
        x = torch.relu(self.norm(self.stem(image)))
        x = torch.relu(x + self.again(self.conv(x)))
        return self.head(x.mean((2, 3)))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(32, 64, num_layers=2, batch_first=True)
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 64, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 64))
        self.places = nn.Parameter(torch.randn(1, 17, 64))
        self.attention = Attention(64)
        self.head = nn.Linear(64, 10)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.attention(x)[:, 0])


MODELS = {
    "gpt": (Gpt, torch.arange(7)[None]),
    "resnet": (ResNet, torch.randn(1, 3, 16, 16)),
    "lstm": (Lstm, torch.randn(1, 6, 32)),
    "vit": (Vit, torch.randn(1, 3, 32, 32)),
}


def make(name, kinds=KINDS):
    build, x = MODELS[name]
    torch.manual_seed(0)
    model = build().eval()
    return model, x, eipack.export(model, inputs=(x,), programs=kinds)


@pytest.fixture(scope="module", params=MODELS)
def packaged(request):
    return make(request.param)


def weights_of(model):
    tensors = {t.untyped_storage().data_ptr(): t for t in [*model.parameters(), *model.buffers()]}
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


def test_three_kinds_take_hardly_more_than_the_weights(packaged):
    model, _, package = packaged
    stored = sum(entry.nbytes for entry in package.manifest.entries)
    assert stored < 1.01 * weights_of(model)


def test_every_kind_answers_as_the_model_does(packaged, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, x, package = packaged
    expected = model(x).detach()
    for kind in ("torchscript", "exported"):
        with eipack.load(package, program=kind) as session:
            torch.testing.assert_close(session(x), expected, rtol=1e-4, atol=1e-5)
    session = runtime.InferenceSession(package.extract("onnx", tmp_path / "model.onnx"))
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), expected, rtol=1e-3, atol=1e-4)


def test_the_manifest_tells_what_is_shared(packaged):
    model, _, package = packaged
    for program in package.programs:
        own = sum(m.size for m in package.manifest.members if m.name in program.members)
        assert own <= program.own_bytes < own + 0.01 * weights_of(model)
        assert program.shared_bytes > 0.7 * weights_of(model)


def test_equal_masks_of_every_layer_are_one_entry():
    _, _, package = make("gpt", ["torchscript"])
    masks = [t.entry for t in package.manifest.tensors if t.name.endswith("mask")]
    assert len(masks) == 3
    assert set(masks) == {"blocks.0.mask"}


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_ties_hold_in_the_loaded_program(kind):
    from eipack.kinds import codec

    _, _, package = make("gpt", [kind])
    reader = package._read_program(package.program(kind))
    state = codec(kind).load(reader, torch.device("cpu")).state_dict
    state = state() if callable(state) else state
    by_name = {name.rpartition("_model.")[2]: tensor for name, tensor in state.items()}
    assert by_name["tokens.weight"].data_ptr() == by_name["head.weight"].data_ptr()


def test_another_model_of_the_same_weights_changes_no_digest():
    model, x, package = make("resnet", ["torchscript"])
    other = eipack.export(model, inputs=(x.repeat(2, 1, 1, 1),), programs=["exported"])
    assert package.manifest.entries == other.manifest.entries
    weights = eipack.diff(package, other).weights
    assert weights.same
    assert weights.equal == len(package.manifest.tensors)


EXPORT = """
import sys, torch, eipack
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4)).eval()
package = eipack.export(
    model, inputs=(torch.ones(1, 3, 3, 3),), method=["trace", "script", "export"]
)
package.save(sys.argv[1])
"""


@pytest.mark.slow
def test_two_exports_of_one_model_give_the_same_bytes_but_for_the_signing(tmp_path):
    for name in ("a", "b"):
        command = [sys.executable, "-W", "ignore", "-c", EXPORT, str(tmp_path / name)]
        subprocess.run(command, check=True)
    with eipack.open(tmp_path / "a") as a, eipack.open(tmp_path / "b") as b:
        assert a.manifest == b.manifest
        assert eipack.diff(a, b).same
