"""Example inputs that nobody has to pass."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

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


def test_identifiers_of_similar_keys_are_distinct_and_no_keywords():
    class Call(nn.Module):
        def forward(self, x):
            return x["a_b"]

    keys = ["a-b", "a.b", "a_b", "a_b_1"]
    call = examples(Call(), (dict.fromkeys(keys, torch.ones(1)),), None)
    assert call.identifiers == ("x_a_b", "x_a_b_2", "x_a_b_3", "x_a_b_1")

    class Keywords(nn.Module):
        def forward(self, **more):
            return more["class"]

    assert examples(Keywords(), {"class": torch.ones(1)}, None).identifiers == ("class_",)


def test_names_are_distinct_where_paths_are_not(export, answer):
    class Twice(nn.Module):
        def forward(self, d):
            return {0: d["a"]["b"] + 1, "output_0": d["a.b"] * 2}

    value = {"a": {"b": torch.ones(2)}, "a.b": torch.ones(2)}
    package = export(Twice(), (value,))
    assert [spec.name for spec in package.signature.inputs] == ["d.a.b", "d.a.b_1"]
    assert [spec.name for spec in package.signature.outputs] == ["output_0", "output_0_1"]
    assert answer(package, value)[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("size", [16, (16, 24)])
def test_image_models_of_transformers_are_fed_the_size_they_are_configured_for(size):
    config = ViTConfig(
        image_size=size, patch_size=8, hidden_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    with torch.device("meta"):
        _, inputs = derive(ViTModel(config))
    assert inputs["pixel_values"].shape == (1, 3, *((16, 16) if size == 16 else size))


def test_an_audio_model_is_told_which_input_is_wanted():
    config = WhisperConfig(d_model=24, encoder_layers=1, decoder_layers=1)
    with torch.device("meta"), pytest.raises(ExampleInputsRequired, match="'input_features'"):
        derive(WhisperModel(config))


def test_a_segmentation_model_is_fed_the_size_of_whole_images():
    with torch.device("meta"):
        model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None
        )
    (x,), _ = derive(model)
    assert x.shape == (1, 3, 520, 520)


CACHED = {
    "gpt2": lambda: GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2)),
    "llama": lambda: LlamaModel(
        LlamaConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ),
    "t5": lambda: T5Model(
        T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ),
    "bart": lambda: BartModel(
        BartConfig(
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=8,
            decoder_ffn_dim=8,
        )
    ),
}


@pytest.mark.parametrize("make", CACHED.values(), ids=CACHED.keys())
def test_models_with_a_cache_are_captured_without_it(export, make):
    model = make().eval()
    package = export(model)
    assert not any("cache" in s.name or "past" in s.name for s in package.signature.outputs)
    assert model.config.use_cache is True
