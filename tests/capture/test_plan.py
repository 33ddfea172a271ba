"""Which programs a package gets, and what contradicts itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eipack.capture.plan import plan
from eipack.errors import BackendNotFound, MethodConflict
from eipack.target import Target

X = torch.linspace(-1, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    ("options", "programs"),
    [
        ({}, [("torchscript", "export")]),
        ({"method": "trace"}, [("torchscript", "trace")]),
        ({"method": "script"}, [("torchscript", "script")]),
        ({"method": "export"}, [("exported", "export")]),
        ({"method": ("trace", "export")}, [("torchscript", "trace"), ("exported", "export")]),
        ({"programs": "exported"}, [("exported", "export")]),
        ({"programs": ["onnx", "torchscript"]}, [("onnx", "export"), ("torchscript", "export")]),
        ({"programs": "torchscript", "method": "trace"}, [("torchscript", "trace")]),
        ({"target": "cuda"}, [("torchscript", "export")]),
        ({"target": ["cpu", "eia"]}, [("torchscript", "export")]),
    ],
    ids=str,
)
def test_programs_are_those_asked_for(export, options, programs):
    package = export(nn.Linear(4, 4).eval(), (X,), **options)
    assert [(program.kind, program.method) for program in package.programs] == programs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "trace", "programs": "exported"}, "cannot give 'exported' programs"),
        ({"method": "script", "programs": "onnx"}, "cannot give 'onnx' programs; it gives torchs"),
        ({"method": "magic"}, "unknown method 'magic'; known: auto, trace, script, export"),
        ({"method": ()}, "no method was given"),
        ({"method": ("auto", "trace")}, "unknown method 'auto'"),
        ({"programs": "tflite"}, "unknown program kind 'tflite'"),
        ({"programs": []}, "programs is empty"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(export, options, message):
    with pytest.raises(MethodConflict, match=message):
        export(nn.Linear(4, 4).eval(), (X,), **options)


def test_a_target_that_nobody_serves_is_refused_before_any_work(export):
    with pytest.raises(BackendNotFound, match="npu"):
        export(nn.Linear(4, 4).eval(), (X,), target="npu")


def test_no_device_is_needed_to_plan_for_it():
    needs = plan("auto", None, [Target("cuda", ordinal=7)], "eager")
    assert needs[0][0].kind == "torchscript"
    assert needs[0][0].methods == ("export", "trace", "script")


def test_every_reason_is_told_once_when_no_method_does(export, model_of):
    def forward(self, x):
        return self.linear(x) * (2 if x.sum() > 0 else 1)

    with pytest.raises(Exception, match="no method gives a program") as caught:
        export(model_of(forward), (X,))
    text = str(caught.value)
    assert [text.count(f"{name}: ") for name in ("export", "trace", "script")] == [1, 1, 1]
    assert set(caught.value.failures) == {"export", "trace", "script"}
    assert "\n" not in text
