"""What a caller asks of an engine: known, meant for it, or refused with what there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from eipack.asked import check_options, of_engine, require_offered
from eipack.backend import Backend, Device, LoadOptions, ProgramReader, Runner
from eipack.target import Target


class Engine(Backend):
    """Offers threads, bfloat16, and two options of its own."""

    device = "cpu"
    engine = "fast"
    kinds = ("torchscript",)
    options: ClassVar[frozenset[str]] = frozenset({"threads"})
    precisions = ("float32", "bfloat16")
    engine_options: ClassVar[Mapping[str, str]] = {"level": "how much", "pin": "whether to"}

    def devices(self) -> list[Device]:
        return [Device(Target("cpu", "fast"), "here")]

    def load(self, reader: ProgramReader, target: Target, options: LoadOptions) -> Runner:
        raise NotImplementedError


@pytest.mark.parametrize(
    "asked",
    [
        LoadOptions(),
        LoadOptions(threads=2),
        LoadOptions(precision="bfloat16"),
        LoadOptions(engine={"level": 3, "pin": False}),
    ],
)
def test_what_an_engine_offers_may_be_asked_for(asked: LoadOptions) -> None:
    check_options(asked)
    require_offered(Engine(), asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (LoadOptions(retries=1), "cpu+fast does not offer retries; leave it out"),
        (LoadOptions(deadline_ms=5, failover=True), "does not offer deadline_ms, failover"),
        (LoadOptions(precision="int8"), "does not compute in int8; it has float32, bfloat16"),
        (LoadOptions(engine={"lvl": 3}), "no option 'lvl'; its options are level, pin"),
    ],
)
def test_what_it_would_ignore_is_refused(asked: LoadOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        require_offered(Engine(), asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (LoadOptions(precision="fp8"), "choose one of float32, bfloat16, float16, int8"),  # type: ignore[arg-type]
        (LoadOptions(threads=-1), "threads is -1"),
        (LoadOptions(retries=-1), "retries is -1"),
        (LoadOptions(deadline_ms=float("nan")), "deadline_ms is nan"),
        (LoadOptions(outputs_on="disk"), "choose 'host' or 'device'"),  # type: ignore[arg-type]
    ],
)
def test_what_means_nothing_is_refused(asked: LoadOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_options(asked)


def test_an_engine_gets_its_own_options_and_no_others() -> None:
    options: dict[str, dict[str, Any]] = {"cpu": {"a": 1}, "eia": {"b": 2}}
    assert of_engine(Target("cpu"), options) == {"a": 1}
    assert of_engine(Target("cuda"), options) == {}
    assert of_engine(Target("cpu"), None) == {}


def test_options_of_an_engine_that_is_not_installed_are_refused() -> None:
    with pytest.raises(ValueError, match=r"names the engine 'warp'; installed are .*cpu"):
        of_engine(Target("cpu"), {"warp": {"speed": 9}})
