"""A pool on this machine alone, from `pool up --address local` to the last process that ends."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from eipack_ray import local_cluster

import eipack
from eipack.errors import AcceleratorError

from .conftest import X

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def eia(*words: str) -> str:
    command = [sys.executable, "-m", "eipack", "eia", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pool_on_this_machine(
    home: Path, package: Path, right: Callable[[torch.Tensor], bool]
) -> None:
    try:
        said = json.loads(eia("pool", "up", "--address", "local", "--name", "trial", "--json"))
        (one,) = said["accelerators"]
        cluster = psutil.Process(json.loads((home / "pools-local.json").read_text())["pid"])
        processes = [*cluster.children(recursive=True), cluster]
        assert psutil.Process(one["process_id"]) in processes
        eia("attach", "ray://trial")
        with eipack.load(package, "eia:0") as session:
            assert right(session(X))
            psutil.Process(one["process_id"]).kill()
            began = time.monotonic()
            try:
                assert right(session(X))
            except AcceleratorError:  # it was under way, and is not sent twice unasked
                assert right(session(X))
            assert time.monotonic() - began < 10.0
        eia("detach", "0")
        stores = home.parent / "cache" / "eipack" / "accelerators"
        assert (stores / "pool-trial" / one["id"]).is_dir()
        assert "pool trial is down: 1 accelerator stopped" in eia("pool", "down", "trial")
        _, alive = psutil.wait_procs(processes, 20.0)
        assert not alive
        assert not (home / "pools-local.json").exists()
        assert not list((home / "eia").iterdir()), "no token is left behind"
        assert not list(stores.iterdir()), "no packages are left behind"
    finally:
        local_cluster.stop()
