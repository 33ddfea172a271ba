"""A target is read once, into a value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eipack.errors import TargetSyntaxError
from eipack.target import Target

_WORD = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("cpu", Target("cpu")),
        ("cuda:0", Target("cuda", None, 0)),
        ("cpu+openvino", Target("cpu", "openvino")),
        ("eia+onnxruntime:12", Target("eia", "onnxruntime", 12)),
    ],
)
def test_reads_device_engine_and_ordinal(text: str, target: Target) -> None:
    assert Target.parse(text) == target


@given(_WORD.filter(lambda word: word != "cpu"), st.none() | _WORD, st.none() | st.integers(0, 999))
def test_what_is_printed_reads_back(device: str, engine: str | None, ordinal: int | None) -> None:
    target = Target(device, engine, ordinal)
    assert Target.parse(str(target)) == target


def test_a_target_is_its_own_parse() -> None:
    target = Target("cuda", None, 1)
    assert Target.parse(target) is target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CPU",
        "cuda:",
        "cuda:-1",
        "cuda:01",
        "cpu+",
        "+openvino",
        "cuda:0:1",
        "a b",
        "cuda:9999999",
    ],
)
def test_anything_else_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(TargetSyntaxError, match=r"write device\[\+engine\]\[:ordinal\]"):
        Target.parse(text)


def test_something_that_is_no_text_is_refused() -> None:
    with pytest.raises(TargetSyntaxError):
        Target.parse(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["cpu:0", "cpu:1", "cpu+openvino:1"])
def test_the_cpu_has_no_ordinal(text: str) -> None:
    with pytest.raises(TargetSyntaxError, match="there is one cpu"):
        Target.parse(text)


def test_names_the_entry_point_of_its_backend() -> None:
    assert Target.parse("cuda:1").entry_point == "cuda"
    assert Target.parse("cpu+openvino").entry_point == "cpu.openvino"
