"""Models of torchvision and transformers, small or with random weights."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import eipack
from eipack.parity.tolerance import compare

TARGET = "cpu+onnxruntime"


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=99, num_hidden_layers=2, **sizes)
    return transformers.BertModel(config).eval()


def gpt() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.OpenAIGPTConfig(vocab_size=99, n_embd=32, n_layer=2, n_head=2)
    return transformers.OpenAIGPTModel(config).eval()


def require_answers(package: eipack.Package, **options: Any) -> None:
    inputs, expected = package.samples()
    with eipack.load(package, TARGET, **options) as session:
        for want, got in zip(expected, session.run_flat(*inputs), strict=True):
            assert compare(want, got).agrees


def test_resnet18_runs_from_the_program_that_the_cpu_runs() -> None:
    models = pytest.importorskip("torchvision.models")
    with eipack.export(models.resnet18().eval(), (torch.rand(1, 3, 64, 64),)) as package:
        assert package.programs[0].kind == "torchscript"
        require_answers(package)


@pytest.mark.parametrize("build", [bert, gpt], ids=["bert", "gpt"])
def test_a_transformer_runs_at_every_length(build: Any) -> None:
    batch, length = Dim("batch", min=1, max=4), Dim("length", min=2, max=16)
    model = build()
    package = eipack.export(
        model,
        {"input_ids": torch.randint(0, 99, (2, 7))},
        target=TARGET,
        dynamic_shapes={"input_ids": {0: batch, 1: length}},
    )
    with package, eipack.load(package, TARGET) as session:
        assert session.program.kind == "onnx"
        for rows, tokens in ((1, 2), (2, 7), (4, 16), (1, 16)):
            ids = torch.randint(0, 99, (rows, tokens))
            with torch.no_grad():
                expected = model(input_ids=ids).last_hidden_state
            assert compare(expected, session(input_ids=ids).last_hidden_state).agrees
