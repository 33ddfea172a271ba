"""What an accelerator claims of a Ray node, and what is refused without asking Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner
from eipack_eia.sizes import GB, SIZES, size_of
from eipack_ray.claim import CONTEXT_BYTES, Claim, claim_of

from eipack.cli.root import root
from eipack.target import Target

CPU, CUDA = Target("cpu"), Target("cuda")


def test_on_a_gpu_it_is_the_part_that_holds_its_memory_and_its_process() -> None:
    claim = claim_of(SIZES["eia2.large"], CUDA, 24 * GB)
    assert claim == Claim(num_gpus=0.1917)
    assert claim.options() == {"num_cpus": 0.0, "num_gpus": 0.1917}


@pytest.mark.parametrize("gpu_gb", [16, 24, 40, 80, 141])
@pytest.mark.parametrize("name", SIZES)
def test_slices_that_ray_puts_on_one_gpu_fit_into_it(name: str, gpu_gb: int) -> None:
    many = int(1 / claim_of(SIZES[name], CUDA, gpu_gb * GB).num_gpus)
    assert many * (SIZES[name].memory_bytes + CONTEXT_BYTES) <= gpu_gb * GB


def test_one_that_is_larger_than_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs 8\.6 GB with its process, and a GPU has 8\.0 GB"):
        claim_of(SIZES["eia2.xlarge"], CUDA, 8 * GB)


def test_on_a_cpu_it_is_a_processor_for_each_tflops_and_the_memory() -> None:
    claim = claim_of(SIZES["eia2.large"], Target("cpu", "openvino"), None)
    assert claim == Claim(num_cpus=2.0, memory=4 * GB)
    assert claim_of(size_of(memory_gb=1), CPU, None).num_cpus == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "Two words"), "write up to 40 small letters"),
        (("--name", "cpus", "--type", "eia9.huge"), "there is no type 'eia9.huge'"),
        (("--name", "cpus", "--count", "-1"), "--count"),
        ((), "--name"),
    ],
)
def test_wrong_use_is_told_before_a_cluster_is_started(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(root, ["eia", "pool", "up", "--address", "local", *words])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.usefixtures("home")
def test_without_a_local_cluster_there_is_nothing_to_list_or_take_down() -> None:
    listed = CliRunner().invoke(root, ["eia", "pool", "list", "--address", "local"])
    assert "there are no pools" in listed.stdout
    down = CliRunner().invoke(root, ["eia", "pool", "down", "cpus", "--address", "local"])
    assert down.exit_code == 1
    assert "no local cluster runs" in down.stderr


def test_help_and_sessions_import_no_ray() -> None:
    code = (
        "import sys, eipack_ray.cli, eipack_ray.lender, eipack_ray.keeper, eipack_ray.desk;"
        "print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
