"""What is handed to `export` is checked where it enters, and where it leaves a mess behind."""

from __future__ import annotations

import gc
import os
import tempfile

import pytest
import torch
from torch import nn
from torch.export import Dim

import eipack
from eipack.errors import (
    EipackError,
    MethodConflict,
    PackageIOError,
    ParityInputsRequired,
    TargetSyntaxError,
    UnsupportedModel,
)

X = torch.ones(3, 4)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dynamic_shapes": {"input": Dim("b")}}, UnsupportedModel),
        ({"dynamic_shapes": 5}, UnsupportedModel),
        ({"input_specs": 5}, ParityInputsRequired),
        ({"input_specs": {"input": 5}}, ParityInputsRequired),
        ({"input_specs": {"input": {"low": "a", "high": "b"}}}, ParityInputsRequired),
        ({"input_specs": {"input": {"values": 5}}}, ParityInputsRequired),
        ({"parity_inputs": 5}, ParityInputsRequired),
        ({"parity_inputs": [5]}, ParityInputsRequired),
        ({"method": 5}, MethodConflict),
        ({"method": [5]}, MethodConflict),
        ({"programs": 5}, MethodConflict),
        ({"target": 3}, TargetSyntaxError),
        ({"target": [3]}, TargetSyntaxError),
        ({"name": 5}, UnsupportedModel),
        ({"version": 5}, UnsupportedModel),
        ({"assets": "x"}, UnsupportedModel),
    ],
    ids=str,
)
def test_an_option_of_another_type_is_a_typed_error(options, error):
    with pytest.raises(error) as caught:
        eipack.export(nn.Linear(4, 4).eval(), (X,), **options)
    assert isinstance(caught.value, EipackError)


def test_a_target_named_twice_counts_once():
    package = eipack.export(nn.Linear(4, 4).eval(), (X,), target=["cpu", "cpu"])
    assert len(package.programs) == 1


def test_a_missing_temporary_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(PackageIOError, match="set TMPDIR"):
        eipack.export(nn.Linear(4, 4).eval(), (X,))


def test_a_forked_child_leaves_the_package_of_its_parent(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    package = eipack.export(nn.Linear(4, 4).eval(), (X,))
    (folder,) = tmp_path.iterdir()
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: own + 1)
    del package
    gc.collect()
    assert folder.exists()


def test_surroundings_of_the_caller_are_no_part_of_a_capture(export):
    with torch.autocast("cpu"):
        package = export(nn.Linear(4, 4).eval(), (X,))
    assert package.signature.outputs[0].dtype == "float32"


class Filled(nn.Module):
    def forward(self, x):
        return x + torch.ones(4)


def test_a_default_device_of_the_caller_is_no_part_of_a_capture():
    model = Filled().eval()
    with torch.device("meta"):
        assert eipack.export(model, (X,)).programs
