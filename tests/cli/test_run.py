from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from .conftest import Eipack, assert_one_line


def test_the_packages_own_samples_are_run(eipack: Eipack, package_file: Path) -> None:
    result = eipack("run", package_file)
    assert result.exit_code == 0, result.stderr
    assert "torchscript-trace on cpu" in result.stdout
    assert "output: float32[2, 6]" in result.stdout


def test_the_most_likely_classes_are_named(eipack: Eipack, package_file: Path) -> None:
    best = json.loads(eipack("run", package_file, "--json").stdout)["best"]
    assert len(best) == 5
    assert best[0]["softmax"] >= best[1]["softmax"]
    assert {one["label"] for one in best} < {"ant", "bee", "cat", "dog", "eel", "fox"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("one\ntwo\nthree", True), ('{"0": "one"}', False), ("one\ntwo", False)],
    ids=["a label a line", "something else", "too few"],
)
def test_labels_that_fit_are_used(eipack: Eipack, workplace: Path, text: str, shown: bool) -> None:
    Path("labels.txt").write_text(text)
    made = eipack(
        "export", "cli_models:linear", "--input", "2x4", "--method", "trace",
        "--asset", "labels=labels.txt",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert bool(json.loads(eipack("run", "linear.eipack", "--json").stdout)["best"]) is shown


def test_a_program_may_be_named(eipack: Eipack, package_file: Path) -> None:
    found = json.loads(eipack("run", package_file, "--program", "script", "--json").stdout)
    assert (found["program"], found["target"]) == ("torchscript-script", "cpu")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_outputs_are_written(
    eipack: Eipack, package_file: Path, tmp_path: Path, suffix: str
) -> None:
    from eipack.cli.inputs import read_tensors

    path = tmp_path / f"out.{suffix}"
    assert eipack("run", package_file, "-o", path).exit_code == 0
    assert read_tensors(path)["output"].shape == (2, 6)


def test_inputs_are_read_from_a_file(eipack: Eipack, package_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", input=np.ones((3, 4), np.float32))
    result = eipack("run", package_file, "--input", tmp_path / "in.npz")
    assert "output: float32[3, 6]" in result.stdout


def test_a_shape_is_filled_at_random(eipack: Eipack, package_file: Path) -> None:
    assert "float32[4, 6]" in eipack("run", package_file, "--input", "input=4x4").stdout


def test_a_call_outside_the_signature_is_one_line(eipack: Eipack, package_file: Path) -> None:
    result = eipack("run", package_file, "--input", "input=5x4")
    assert_one_line(result, 1, "size 5 on axis 0", "batch in 1..4")


def test_text_needs_a_tokenizer(eipack: Eipack, package_file: Path) -> None:
    result = eipack("run", package_file, "--input", "a cat")
    assert_one_line(result, 1, "'a cat' is read as text", "no tokenizer")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "npu"], "no backend serves"),
        (["--program", "onnx"], "it has torchscript-trace, torchscript-script"),
        (["--input", "nowhere.npz"], "there is no file nowhere.npz"),
        (["-o", "nowhere/out.npz"], "there is no folder nowhere"),
    ],
)
def test_what_fails_is_one_line(
    eipack: Eipack, package_file: Path, words: list[str], told: str
) -> None:
    assert_one_line(eipack("run", package_file, *words), 1, told)


def test_a_package_of_a_stranger_is_not_run(
    eipack: Eipack, package_file: Path, fresh_home: Path
) -> None:
    assert_one_line(eipack("run", package_file), 1, "not trusted here", "eipack trust add")


def test_values_that_are_not_finite_are_counted() -> None:
    from eipack.cli.commands.run import _describe

    told = _describe("y", torch.tensor([1.0, float("nan"), float("inf")]))
    assert (told["min"], told["max"], told["not_finite"]) == (1.0, 1.0, 2)


@pytest.fixture
def text_model(tmp_path: Path) -> Path:
    """Write a tiny GPT's configuration and a tokenizer of words, as a local folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import OpenAIGPTConfig, PreTrainedTokenizerFast

    folder = tmp_path / "wordy"
    words = Tokenizer(models.WordLevel({"?": 0, "one": 1, "two": 2, "three": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="?", model_input_names=["input_ids", "attention_mask"]
    ).save_pretrained(folder)
    OpenAIGPTConfig(n_layer=1, n_embd=16, n_head=2, vocab_size=32).save_pretrained(folder)
    return folder


def test_a_package_with_a_tokenizer_takes_text(
    eipack: Eipack, text_model: Path, tmp_path: Path
) -> None:
    package = tmp_path / "wordy.eipack"
    made = eipack(
        "export", f"transformers:{text_model}", "--weights", "none", "--input", "one two three",
        "--dynamic", "input_ids:1=seq:1:6", "--dynamic", "attention_mask:1=seq:1:6",
        "-o", package,
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    assert made.stderr == ""
    ran = eipack("run", package, "--input", "three two one zero")
    assert ran.exit_code == 0, ran.stderr
    assert "last_hidden_state: float32[1, 4, 16]" in ran.stdout


def test_text_for_a_model_whose_tokenizer_is_not_here_says_what_to_give(eipack: Eipack) -> None:
    result = eipack(
        "export", "transformers:openai-gpt", "--weights", "none", "--input", "hello there",
        "--config", "n_layer=1", "--config", "n_embd=12", "--config", "vocab_size=9",
    )  # fmt: skip
    assert_one_line(result, 1, "cannot read a text", "--input input_ids=1x7:int64")


def test_an_output_that_is_there_is_replaced_only_by_force(
    eipack: Eipack, package_file: Path, workplace: Path
) -> None:
    kept = workplace / "kept.npz"
    kept.write_bytes(b"mine")
    assert_one_line(eipack("run", package_file, "-o", kept), 1, "is there already")
    assert kept.read_bytes() == b"mine"
    assert eipack("run", package_file, "-o", kept, "--force").exit_code == 0
    assert kept.read_bytes() != b"mine"
