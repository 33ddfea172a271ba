"""Example inputs that nobody has to pass."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from transformers import BertConfig, BertModel

from eipack.capture.examples import derive, examples
from eipack.errors import ExampleInputsRequired


class Lightning(nn.Module):
    example_input_array = torch.ones(2, 4)

    def forward(self, x):
        return x * 2


def test_lightning_modules_bring_an_example():
    (x,), keywords = derive(Lightning())
    assert x.shape == (2, 4)
    assert keywords == {}


@pytest.mark.parametrize(
    ("name", "side"), [("resnet18", 224), ("inception_v3", 299), ("vit_b_32", 224)]
)
def test_torchvision_models_are_fed_the_size_their_weights_were_made_for(name, side):
    options = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None, **options)
    (x,), _ = derive(model)
    assert x.shape == (1, 3, side, side)


def test_transformers_models_bring_dummy_inputs(export, answer):
    config = BertConfig(
        num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=16
    )
    package = export(BertModel(config).eval())
    assert package.signature.inputs[0].name == "input_ids"


def test_a_video_model_has_no_size_to_guess():
    with torch.device("meta"), pytest.raises(ExampleInputsRequired, match="pass inputs="):
        derive(torchvision.models.video.r3d_18(weights=None))


def test_inputs_are_named_as_the_parameters_they_fill():
    class Call(nn.Module):
        def forward(self, a, *rest, b, **more):
            return a

    call = examples(
        Call(), (torch.ones(1), [torch.ones(1)]), {"b": torch.ones(1), "1c": {"d": torch.ones(1)}}
    )
    assert call.names == ("a", "rest_0.0", "b", "1c.d")
    assert call.identifiers == ("a", "rest_0_0", "b", "input_1c_d")
    assert call.positional == 2


def test_identifiers_are_distinct():
    class Call(nn.Module):
        def forward(self, a, a_0):
            return a

    call = examples(Call(), ([torch.ones(1)], torch.ones(1)), None)
    assert len(set(call.identifiers)) == 2
