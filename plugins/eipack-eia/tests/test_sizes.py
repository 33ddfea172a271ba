"""The sizes of slices."""

from __future__ import annotations

import math

import pytest
from eipack_eia.sizes import DEFAULT_TYPE, SIZES, SliceSize, size_of


@pytest.mark.parametrize(
    ("name", "memory_gb", "fp32", "fp16"),
    [
        ("eia1.medium", 1, 1, 8),
        ("eia1.large", 2, 2, 16),
        ("eia1.xlarge", 4, 4, 32),
        ("eia2.medium", 2, 1, 8),
        ("eia2.large", 4, 2, 16),
        ("eia2.xlarge", 8, 4, 32),
    ],
)
def test_each_type_of_elastic_inference_has_its_published_size(
    name: str, memory_gb: int, fp32: float, fp16: float
) -> None:
    assert size_of(name) == SliceSize(name, memory_gb * 10**9, fp32, fp16)


def test_no_other_types_are_claimed() -> None:
    assert len(SIZES) == 6


def test_a_free_size_is_custom_and_claims_no_tflops() -> None:
    assert size_of(memory_gb=1.5, compute_share=0.25) == SliceSize(
        "custom", 1_500_000_000, compute_share=0.25
    )


def test_nothing_asked_for_is_the_default_type() -> None:
    assert size_of() == SIZES[DEFAULT_TYPE]


def test_a_type_may_have_a_share_of_the_device() -> None:
    size = size_of("eia2.large", compute_share=0.5)
    assert (size.name, size.memory_bytes, size.compute_share) == ("eia2.large", 4 * 10**9, 0.5)


def test_the_share_of_one_slice_is_not_that_of_the_next() -> None:
    size_of("eia2.large", compute_share=0.5)
    assert size_of("eia2.large").compute_share is None


@pytest.mark.parametrize("name", ["eia3.medium", "custom", "", "EIA2.MEDIUM"])
def test_an_unknown_type_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"eia1\.medium, .*eia2\.xlarge"):
        size_of(name)


def test_a_type_and_a_memory_size_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="has 2 GB of memory, and 3 GB were asked for"):
        size_of("eia2.medium", 3)


@pytest.mark.parametrize("memory_gb", [0, -1, math.inf, math.nan, 1e-12])
def test_a_memory_size_that_cannot_be_is_refused(memory_gb: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        size_of(memory_gb=memory_gb)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, math.inf, math.nan])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        size_of("eia2.medium", compute_share=share)
