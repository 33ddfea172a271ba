from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn
from urllib.error import URLError

import pytest
import torch
from torch import nn

from eipack.cli.sources import Recipe, build
from eipack.errors import (
    DependencyMissing,
    ModelSourceError,
    UnsupportedModel,
    WeightsUnavailable,
)

TINY = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 32}


def recipe(text: str, weights: str | None = None, **config: object) -> Recipe:
    return Recipe.parse(text, weights, config)


@pytest.mark.parametrize(
    ("text", "kind", "title"),
    [
        ("torchvision:resnet18", "torchvision", "resnet18"),
        ("transformers:google-bert/bert-base-uncased", "transformers", "bert-base-uncased"),
        ("transformers:./models/mine/", "transformers", "mine"),
        ("package.module:factory.build", "callable", "factory.build"),
        ("folder/model.pt", "file", "model"),
        ("model.pt2", "file", "model"),
    ],
)
def test_a_source_is_told_by_its_form(text: str, kind: str, title: str) -> None:
    found = recipe(text)
    assert (found.kind, found.title) == (kind, title)


def test_a_callable_is_called_with_the_settings_and_put_in_eval_mode(workplace: Path) -> None:
    model = build(recipe("cli_models:linear", width=5)).model
    assert model[0].out_features == 5
    assert not model.training


def test_a_module_may_be_named_instead_of_a_callable(workplace: Path) -> None:
    assert isinstance(build(recipe("cli_models:built")).model, nn.Sequential)


def test_random_weights_are_the_same_each_time(workplace: Path) -> None:
    first, second = (build(recipe("cli_models:linear")).model for _ in range(2))
    assert torch.equal(first[0].weight, second[0].weight)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cli_models:fails", "ZeroDivisionError: no model today"),
        ("cli_models:nothing", "no attribute 'nothing'"),
        ("no_such_module:build", "No module named 'no_such_module' in "),
    ],
)
def test_what_cannot_be_called_says_why(workplace: Path, text: str, told: str) -> None:
    with pytest.raises(ModelSourceError, match=told):
        build(recipe(text))


def test_what_is_no_module_is_refused(workplace: Path) -> None:
    with pytest.raises(UnsupportedModel, match="gives int"):
        build(recipe("cli_models:number"))


def test_torch_and_torchvision_that_do_not_fit_are_explained(workplace: Path) -> None:
    with pytest.raises(DependencyMissing, match='pip install --force-reinstall "torch===2'):
        build(recipe("cli_models:mismatched"))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_are_read_from_a_state_dict(workplace: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    state = {"0.weight": torch.ones(3, 4), "0.bias": torch.zeros(3)}
    path = workplace / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state}, path)
    model = build(recipe("cli_models:linear", str(path))).model
    assert torch.equal(model[0].weight, torch.ones(3, 4))


def test_weights_that_do_not_fit_are_refused(workplace: Path) -> None:
    torch.save({"other": torch.ones(1)}, "weights.pt")
    with pytest.raises(WeightsUnavailable, match="does not hold weights of this model"):
        build(recipe("cli_models:linear", "weights.pt"))


def test_weights_that_are_code_are_not_run(workplace: Path) -> None:
    torch.save(nn.Linear(1, 1), "weights.pt")
    with pytest.raises(WeightsUnavailable, match="does not hold weights"):
        build(recipe("cli_models:linear", "weights.pt"))


def test_a_weights_file_that_is_not_there_names_the_choices(workplace: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="write none, default or a file"):
        build(recipe("cli_models:linear", "nothing.pt"))


def test_torchvision_builds_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    _cut_the_network(monkeypatch)
    model = build(recipe("torchvision:squeezenet1_1", "none", num_classes=7)).model
    assert model.num_classes == 7


def test_a_download_that_fails_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    _cut_the_network(monkeypatch)
    with pytest.raises(WeightsUnavailable, match=r"no route.*--weights none"):
        build(recipe("torchvision:squeezenet1_1"))


def _cut_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)


def test_an_unknown_torchvision_model_suggests_another() -> None:
    with pytest.raises(ModelSourceError, match="did you mean resnet18"):
        build(recipe("torchvision:resnet19", "none"))


def test_a_setting_that_torchvision_does_not_know_is_refused() -> None:
    with pytest.raises(ModelSourceError, match="colour"):
        build(recipe("torchvision:squeezenet1_1", "none", colour="red"))


def test_a_library_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DependencyMissing, match=r'pip install "eipack\[vision\]"'):
        build(recipe("torchvision:resnet18", "none"))


def test_a_well_known_checkpoint_is_built_without_a_download() -> None:
    built = build(recipe("transformers:openai-community/openai-gpt", "none", **TINY))
    assert type(built.model).__name__ == "OpenAIGPTModel"
    assert built.model.config.n_layer == 1
    assert built.remark is not None
    assert "tokenizer" in built.remark


def test_an_architecture_may_be_named_by_its_type() -> None:
    settings = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1}
    model = build(recipe("transformers:bert", "none", vocab_size=9, **settings)).model
    assert type(model).__name__ == "BertModel"


def test_pretrained_weights_that_cannot_be_fetched_name_the_option() -> None:
    with pytest.raises(WeightsUnavailable, match=r"hub cannot be reached.*--weights none"):
        build(recipe("transformers:openai-gpt"))


def test_an_unknown_checkpoint_says_what_is_known() -> None:
    with pytest.raises(ModelSourceError, match=r"no configuration of 'nobody/nothing'.*openai-gpt"):
        build(recipe("transformers:nobody/nothing", "none"))


def test_a_setting_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ModelSourceError, match="OpenAIGPTConfig has no such setting"):
        build(recipe("transformers:openai-gpt", "none", colour="red"))


def test_a_local_folder_gives_its_own_weights_and_labels(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        num_hidden_layers=1,
        hidden_size=8,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=9,
        id2label={0: "good", 1: "bad"},
    )
    saved = BertForSequenceClassification(config)
    saved.save_pretrained(tmp_path)
    built = build(recipe(f"transformers:{tmp_path}"))
    assert type(built.model).__name__ == "BertForSequenceClassification"
    assert torch.equal(built.model.classifier.weight, saved.classifier.weight)
    assert built.labels == ["good", "bad"]


def test_a_language_model_is_packaged_as_its_base(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **TINY}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = build(recipe(f"transformers:{tmp_path}", "none")).model
    assert type(model).__name__ == "GPT2Model"
    assert model.config.use_cache is False


def test_a_folder_without_weights_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **TINY}))
    with pytest.raises(WeightsUnavailable, match="--weights none"):
        build(recipe(f"transformers:{tmp_path}"))
