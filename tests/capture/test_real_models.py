"""Models that people have, small but whole, in every kind that they can have."""

from __future__ import annotations

import pytest
import torch
import torchvision
import transformers
from torch import nn
from torch.export import Dim

from eipack.errors import CaptureFailed, ModelInTrainingMode, TracedBranch

EVERY = ("torchscript", "exported", "onnx")
IDS = torch.tensor([[5, 17, 3, 99, 42, 8, 1]])


def dims(*names, batch=3, length=32):
    axes = {0: Dim("batch", min=1, max=batch), 1: Dim("length", min=1, max=length)}
    return dict.fromkeys(names, axes)


def gpt():
    config = transformers.OpenAIGPTConfig(
        vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=2
    )
    return transformers.OpenAIGPTModel(config).eval()


def bert():
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.BertModel(config).eval()


def llama():
    config = transformers.LlamaConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, use_cache=False,
    )  # fmt: skip
    return transformers.LlamaModel(config).eval()


def vision_transformer():
    model = torchvision.models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=32,
        num_classes=5,
    )
    nn.init.normal_(model.heads.head.weight)  # zero by default, and nothing would be shown
    return model.eval()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        y, state = self.lstm(x)
        return self.head(y), state


BERT_INPUTS = {
    "input_ids": IDS,
    "token_type_ids": torch.zeros_like(IDS),
    "attention_mask": torch.ones_like(IDS),
}


def check(export, answer, model, inputs, *, shapes, programs=EVERY, call):
    """Export, then compare every program with the model on a call unlike the sample."""
    package = export(model, inputs, dynamic_shapes=shapes, programs=programs)
    assert tuple(program.kind for program in package.programs) == programs
    with torch.no_grad():
        expected = model(**call) if isinstance(call, dict) else model(*call)
    result = answer(package, **call) if isinstance(call, dict) else answer(package, *call)
    first, other = next(iter(leaves(result))), next(iter(leaves(expected)))
    torch.testing.assert_close(first, other, rtol=1e-3, atol=1e-5)
    return package


def leaves(value):
    return torch.utils._pytree.tree_leaves(dict(value) if hasattr(value, "keys") else value)


@pytest.mark.slow
def test_resnet18(export, answer):
    model = torchvision.models.resnet18(weights=None).eval()
    x = torch.randn(1, 3, 64, 64)
    shapes = {"x": {0: Dim("batch", min=1, max=3)}}
    check(export, answer, model, (x,), shapes=shapes, call=(torch.randn(3, 3, 64, 64),))
    for method in ("trace", "script"):
        package = export(model, (x,), method=method, dynamic_shapes=shapes)
        assert package.programs[0].method == method


def test_resnet18_as_it_is_made_is_in_training_mode(export):
    with pytest.raises(ModelInTrainingMode, match="'bn1'"):
        export(torchvision.models.resnet18(weights=None), (torch.randn(1, 3, 64, 64),))


@pytest.mark.slow
def test_openai_gpt(export, answer):
    shapes = dims("input_ids", length=63)
    call = {"input_ids": torch.randint(0, 100, (2, 63))}
    package = check(export, answer, gpt(), {"input_ids": IDS}, shapes=shapes, call=call)
    assert [str(spec) for spec in package.signature.outputs] == [
        "last_hidden_state: float32[batch, length, 32]"
    ]


def test_openai_gpt_tells_the_longest_length_it_can_be_proved_for(export):
    with pytest.raises(CaptureFailed, match=r"declare Dim\('length', min=1, max=63\)"):
        export(
            gpt(), {"input_ids": IDS}, method="export", dynamic_shapes=dims("input_ids", length=64)
        )


def test_a_trace_of_openai_gpt_is_refused_for_the_size_it_makes_a_constant(export):
    with pytest.raises(TracedBranch, match=r"modeling_openai\.py"):
        export(gpt(), {"input_ids": IDS}, method="trace")


def test_a_trace_of_openai_gpt_may_be_allowed(export, answer):
    model = gpt()
    package = export(
        model, {"input_ids": IDS}, method="trace", allow_traced_branches=True,
        dynamic_shapes={"input_ids": {1: Dim("length", min=1, max=64)}},
    )  # fmt: skip
    sizes = package.signature.dim("length").sizes
    assert {1, 7, 64} <= set(sizes)
    ids = torch.randint(0, 100, (1, 64))
    torch.testing.assert_close(
        answer(package, input_ids=ids).last_hidden_state, model(ids).last_hidden_state.detach()
    )


@pytest.mark.slow
def test_bert_with_types_and_mask(export, answer):
    model = bert()
    call = {name: torch.ones(2, 11, dtype=torch.int64) for name in BERT_INPUTS}
    call["attention_mask"][1, 5:] = 0
    package = check(export, answer, model, BERT_INPUTS, shapes=dims(*BERT_INPUTS), call=call)
    assert [spec.name for spec in package.signature.outputs] == [
        "last_hidden_state",
        "pooler_output",
    ]
    result = answer(package, **call)
    torch.testing.assert_close(
        result.pooler_output, model(**call).pooler_output.detach(), rtol=1e-4, atol=1e-5
    )
    assert result.hidden_states is None


@pytest.mark.slow
def test_vision_transformer(export, answer):
    x = torch.randn(1, 3, 32, 32)
    shapes = {"x": {0: Dim("batch", min=1, max=3)}}
    model = vision_transformer()
    check(export, answer, model, (x,), shapes=shapes, call=(torch.randn(2, 3, 32, 32),))
    assert export(model, (x,), method="script", dynamic_shapes=shapes).programs


def test_lstm_is_scripted_where_its_length_is_dynamic(export, answer):
    model, x = Recurrent().eval(), torch.randn(1, 5, 4)
    package = export(model, (x,), dynamic_shapes=dims("x"))
    assert (package.programs[0].kind, package.programs[0].method) == ("torchscript", "script")
    other = torch.randn(2, 32, 4)
    torch.testing.assert_close(answer(package, other), model(other))


def test_lstm_of_one_length_can_have_every_kind(export, answer):
    model, x = Recurrent().eval(), torch.randn(1, 5, 4)
    check(export, answer, model, (x,), shapes=None, call=(x + 1,))


def test_llama_runs_parts_without_gradients_and_is_torchscript_all_the_same(export, answer):
    call = {"input_ids": torch.randint(0, 100, (2, 20))}
    package = check(
        export,
        answer,
        llama(),
        {"input_ids": IDS},
        shapes=dims("input_ids"),
        programs=("torchscript", "exported"),
        call=call,
    )
    assert package.programs[0].method == "export"
